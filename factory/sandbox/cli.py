"""``shufang sandbox``: a confined place for developers' code, and the one door out of it."""

import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from factory.terminal import show

if TYPE_CHECKING:
    from factory.sandbox.sandboxes import Sandboxes
    from factory.services.actor import Actor

app = typer.Typer(
    help="安全沙箱：开发主体在其中开发、训练、测试 | The sandbox for developers' code.",
    no_args_is_help=True,
    add_completion=False,
)

Home = Annotated[Path, typer.Option("--home", help="运营机构目录 | the operator's home")]
AsJson = Annotated[bool, typer.Option("--json", help="输出 JSON | print JSON")]
By = Annotated[str, typer.Option("--by", help="经办人 | who acts")]
Reason = Annotated[str, typer.Option("--reason", help="理由 | why")]
Sandbox = Annotated[str, typer.Argument(help="沙箱 | name of the sandbox")]


@app.command("grant")
def grant(
    *,
    home: Home,
    file: Annotated[Path, typer.Argument(help="授权内容（TOML）| what is granted")],
    by: By,
    as_json: AsJson = False,
) -> None:
    """授予沙箱：开发主体、用途、输入、期限（TOML）| Grant a sandbox: name, developer, purpose, until, [[inputs]].

    Inputs are files of released products (kind "product") or files that the agency reviewed (kind "import").

    Example: shufang sandbox grant sandbox.toml --home operator --by 王芳
    """
    from factory.sandbox.errors import SandboxInputError
    from factory.sandbox.sandboxes import Granted

    try:
        said = tomllib.loads(file.read_text("utf-8"))
        until = datetime.combine(said["until"] + timedelta(days=1), time(0), UTC)
        rows = [Granted.model_validate(row) for row in said["inputs"]]
        words = {name: str(said[name]) for name in ("name", "developer", "purpose")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SandboxInputError(
            f"expected name, developer, purpose, until (2026-12-31) and [[inputs]] in {file} ({type(error).__name__})"
        ) from error
    with _opened(home, by) as (sandboxes, actor):
        case = sandboxes.grant(
            actor, words["name"], developer=words["developer"], purpose=words["purpose"], inputs=rows, until=until
        )
    show({"sandbox": case.id, "state": case.state, "until": until}, as_json=as_json)


@app.command("run")
def run(
    *,
    home: Home,
    sandbox: Sandbox,
    script: Annotated[Path, typer.Argument(help="Python 程序 | Python script")],
    by: By,
    key_file: Annotated[
        list[str] | None, typer.Option("--key-file", help="产品@版本=密钥文件 | PRODUCT@VERSION=file with the key")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """在沙箱内运行：无网络、只读已授权输入、结束即清除 | Run a script: no network, granted inputs alone, nothing stays.

    The script finds its inputs in $SANDBOX_INPUTS and writes what it wants to keep into $SANDBOX_OUT. Exit 1 when
    the script failed.

    Example: shufang sandbox run sb-1 train.py --key-file risk@1.0.0=key.txt --home operator --by dev
    """
    from factory.sandbox.errors import SandboxInputError

    try:
        pairs = [item.rpartition("=") for item in key_file or ()]
        keys = {product: Path(path).read_text("utf-8").strip() for product, _, path in pairs}
        source = script.read_bytes()
    except OSError as error:
        raise SandboxInputError(f"expected a script and files with keys ({error.strerror})") from error
    with _opened(home, by) as (sandboxes, actor):
        case, ran = sandboxes.run(actor, sandbox, source, keys=keys)
    told = {"run": case.id, "exit_code": ran.exit_code, "held": sorted(ran.held), "attempts": list(ran.attempts)}
    show(told, as_json=as_json)
    if ran.exit_code != 0:
        raise typer.Exit(1)


@app.command("ask")
def ask(
    *,
    home: Home,
    name: Annotated[str, typer.Argument(metavar="RUN", help="运行 | run")],
    file: Annotated[str, typer.Argument(help="结果文件 | file it wrote")],
    by: By,
    reason: Reason,
    as_json: AsJson = False,
) -> None:
    """申请导出结果 | Ask that a result may leave; an input, or an input in other words, is refused."""
    with _opened(home, by) as (sandboxes, actor):
        case = sandboxes.ask(actor, name, file, reason=reason)
    show({"export": case.id, "state": case.state}, as_json=as_json)


@app.command("decide")
def decide(
    *,
    home: Home,
    export: Annotated[str, typer.Argument(help="导出申请 | export that was asked for")],
    by: By,
    reason: Reason,
    approve: Annotated[bool, typer.Option("--approve/--refuse", help="同意或拒绝 | approve or refuse")],
    as_json: AsJson = False,
) -> None:
    """审核导出，须由他人 | Decide on an export, as another person than who asked."""
    with _opened(home, by) as (sandboxes, actor):
        case = sandboxes.decide(actor, export, approve=approve, reason=reason)
    show({"export": case.id, "state": case.state}, as_json=as_json)


@app.command("take")
def take(
    *,
    home: Home,
    export: Annotated[str, typer.Argument(help="已同意的导出 | approved export")],
    by: By,
    out: Annotated[Path, typer.Option("--out", help="写入的文件 | file to write")],
    as_json: AsJson = False,
) -> None:
    """取出已同意的结果，一次 | Take out an approved result, once."""
    from factory.files import write_atomic

    with _opened(home, by) as (sandboxes, actor):
        name, content = sandboxes.take(actor, export)
    write_atomic(out, content, mode=0o600)
    show({"file": name, "out": out}, as_json=as_json)


@app.command("look")
def look(
    *,
    home: Home,
    name: Annotated[str, typer.Argument(metavar="RUN", help="运行 | run")],
    file: Annotated[str, typer.Argument(help="结果文件 | file it wrote")],
    by: By,
    port: Annotated[int, typer.Option("--port", help="本机端口 | loopback port")] = 0,
) -> None:
    """在本机工作台查看结果：带水印，不可复制、下载、打印 | Look at a held result on a marked screen, until stopped."""
    import uvicorn

    from factory.sandbox.console import Console, create_console
    from factory.site.processes import free_port

    with _opened(home, by) as (sandboxes, actor):
        console = Console(sandboxes)
        token, chosen = console.open(actor, name, file), port or free_port()
        typer.echo(f"http://127.0.0.1:{chosen}/screens/{token}")
        uvicorn.run(create_console(console), host="127.0.0.1", port=chosen, log_level="warning", access_log=False)


@app.command("close")
def close(home: Home, sandbox: Sandbox, by: By, reason: Reason, as_json: AsJson = False) -> None:
    """关闭沙箱 | Close a sandbox."""
    with _opened(home, by) as (sandboxes, actor):
        case = sandboxes.close(actor, sandbox, reason=reason)
    show({"sandbox": case.id, "state": case.state}, as_json=as_json)


@contextmanager
def _opened(home: Path, by: str) -> "Iterator[tuple[Sandboxes, Actor]]":
    from factory.identity import load_identity
    from factory.sandbox.sandboxes import Sandboxes
    from factory.services.actor import of_home
    from factory.services.desk import Desk
    from factory.serving.cli import opened_shop

    identity = load_identity(home)
    with opened_shop(home) as shop:
        desk = Desk(shop.registry, lambda: datetime.now(UTC).replace(microsecond=0))
        yield Sandboxes(desk, identity, shop), of_home(identity, official=by, roles=frozenset({"operator"}))
