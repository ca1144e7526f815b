"""``shufang registry``: bring a registry up to date, check its chain, and write it out."""

from pathlib import Path
from typing import Annotated

import typer

from factory.terminal import show

app = typer.Typer(
    help="登记库：升级、核对、导出 | The registry: upgrade, check, export.", no_args_is_help=True, add_completion=False
)

Home = Annotated[Path | None, typer.Option("--home", help="本机构目录 | home whose registry it is")]
Url = Annotated[str, typer.Option("--url", help="sqlite:///… 或 postgresql://… | where it is, instead of a home")]
AsJson = Annotated[bool, typer.Option("--json", help="输出 JSON | print JSON")]


@app.command("upgrade")
def upgrade(home: Home = None, url: Url = "", as_json: AsJson = False) -> None:
    """升级登记库结构 | Bring an older registry up to date; back it up first.

    Example: shufang registry upgrade --url postgresql://registry@db.example/registry
    """
    from factory.registry import schema
    from factory.registry.store import Registry

    with Registry(_place(home, url), upgrade=True) as registry:
        show({"revision": schema.HEAD, "events": registry.verify_chain()}, as_json=as_json)


@app.command("check")
def check(home: Home = None, url: Url = "", as_json: AsJson = False) -> None:
    """核对事件链 | Recompute the chain of events, every digest in it, and compare it with the log of the home.

    Exit 1 if anything was altered.
    """
    from factory.registry import outbox
    from factory.registry.store import Registry

    with Registry(_place(home, url)) as registry:
        found = {"events": registry.verify_chain(), "cases": registry.verify_cases()}
        if home is not None and (home / "log").is_dir():
            from factory.identity import load_identity
            from factory.log.home import LogHome
            from factory.log.shard import Shard

            log = LogHome.read(home / "log")
            shards = [Shard(log, year) for year in log.years()]
            trees = {s.checkpoint().checkpoint.origin: s.reader(s.checkpoint().checkpoint.size) for s in shards}
            found["logged"] = outbox.verify(registry, load_identity(home).key.public.spki, trees)
        show(found, as_json=as_json)


@app.command("deliver")
def deliver(home: Annotated[Path, typer.Option("--home", help="本机构目录 | home")], as_json: AsJson = False) -> None:
    """送存证日志 | Carry the events that wait into the log of the home; `shufang serve` does it by itself.

    The log is made once with: shufang log init --home HOME/log
    """
    from datetime import UTC, datetime

    from factory.identity import load_identity
    from factory.log.home import LogHome
    from factory.log.log import Log
    from factory.registry import outbox
    from factory.registry.store import Registry

    with (
        Registry(_place(home, "")) as registry,
        Log.open(LogHome.read(home / "log"), now=datetime.now(UTC), wait_s=30.0) as log,
    ):
        show({"delivered": outbox.deliver(registry, load_identity(home).key, log)}, as_json=as_json)


@app.command("events")
def events(
    *,
    home: Home = None,
    url: Url = "",
    kind: Annotated[str | None, typer.Option("--kind", help="事项类别 | kind of case")] = None,
    case: Annotated[str | None, typer.Option("--case", help="事项编号 | name of the case")] = None,
    actor: Annotated[str | None, typer.Option("--actor", help="经办人 | who acted")] = None,
    as_json: AsJson = False,
) -> None:
    """按事项或人员查询 | Who did what, when and why, of a case or of a person."""
    from factory.registry.store import Registry

    with Registry(_place(home, url)) as registry:
        found = registry.events(kind=kind, case_id=case, actor=actor)
    lines = [
        f"{event.seq}  {event.body['at']}  {event.body['act']}  {event.body['kind']}/{event.body['case']}  "
        f"{event.body['actor']} ({event.body['role']}, {event.body['organisation']})  {event.body['reason']}"
        for event in found
    ]
    show([event.body for event in found], as_json=as_json, text="\n".join(lines) or "无 none")


def _place(home: Path | None, url: str) -> str:
    from factory.errors import InputError

    if url:
        return url
    if home is None:
        raise InputError("expected --home DIR or --url URL 请给出 --home 或 --url")
    from factory.agency.settings import registry_url

    return registry_url(home)
