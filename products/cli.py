"""The command ``verify``: ``python -m products verify PACKAGE --root …``, and ``shufang verify``.

Exit codes: 0 valid · 1 invalid · 2 valid in itself, but suspended, revoked, superseded or expired ·
3 valid in itself, status or root unknown · 4 wrong use. Only this module exits.
"""

import hashlib
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from products.verify import Report

USAGE_EXIT = 4
_MARKS = {"ok": "✓", "failed": "✗", "warning": "!", "skipped": "·"}
_VERDICTS = {
    "valid": ("有效", "VALID"),
    "invalid": ("无效", "INVALID"),
    "suspended": ("内容真实，但已暂停", "GENUINE, BUT SUSPENDED"),
    "revoked": ("内容真实，但已撤销", "GENUINE, BUT REVOKED"),
    "superseded": ("内容真实，但已被新版本替代", "GENUINE, BUT SUPERSEDED"),
    "expired": ("内容真实，但已过有效期", "GENUINE, BUT EXPIRED"),
    "unknown": ("内容与签名自洽，状态未知", "CONSISTENT, STATUS UNKNOWN"),
}

app = typer.Typer(
    name="products",
    help="核验已发布的数据产品。Verify released data products.",
    no_args_is_help=True,
    add_completion=False,
)


@app.callback()
def _group() -> None:
    """核验已发布的数据产品。Verify released data products."""


@app.command(name="verify")
def verify_command(
    *,
    package: Annotated[Path, typer.Argument(help="产品包目录(含 bagit.txt)。Package folder (with bagit.txt).")],
    root: Annotated[
        str | None,
        typer.Option(
            "--root",
            envvar="SHUFANG_ROOT",
            help="机构首个根元数据 1.root.json，或其 SHA-256（也可写在文件里）。"
            "The agency's 1.root.json, or its SHA-256, as text or in a file.",
        ),
    ] = None,
    trust: Annotated[
        Path | None,
        typer.Option("--trust", help="最新信任数据目录。Folder with a current copy of the trust repository."),
    ] = None,
    profile: Annotated[
        str, typer.Option("--profile", help="gm：须有国密签名。gm asks for SM2 signatures throughout.")
    ] = "standard",
    shapes: Annotated[
        bool, typer.Option("--shapes", help="另由第二引擎核对。Run the agency's shapes in a second engine too.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="输出 JSON。Print JSON.")] = False,
    lang: Annotated[str, typer.Option("--lang", help="zh 或 en。zh or en.")] = "zh",
) -> None:
    """离线核验一个产品包，逐项给出结论。Verify a package offline and print every check.

    Example: shufang verify out/prod.model_1.0.0 --root 1.root.json --trust trust/
    """
    if lang not in ("zh", "en"):
        _usage(f"--lang: expected zh or en, got {lang[:20]}")
    if profile not in ("standard", "gm"):
        _usage(f"--profile: expected standard or gm, got {profile[:20]}")
    if not package.is_dir():
        _usage(f"{package}: 不是目录；请给出含 bagit.txt 的产品包目录。Expected a package folder with bagit.txt.")
    if trust is not None and not trust.is_dir():
        _usage(f"--trust {trust}: 不是目录。Expected the folder of a trust repository (metadata/, targets/).")
    root_sha256 = _root_digest(root) if root is not None else None

    from products.verify import verify

    wanted: Literal["standard", "gm"] = "gm" if profile == "gm" else "standard"
    now = datetime.now(UTC)
    report = verify(package, root_sha256=root_sha256, fresh_trust=trust, now=now, profile=wanted, with_shapes=shapes)
    if as_json:
        typer.echo(json.dumps(report.to_json(), ensure_ascii=False, indent=2))
    else:
        for line in render(report, "zh" if lang == "zh" else "en"):
            typer.echo(line)
    raise typer.Exit(report.exit_code)


def render(report: "Report", lang: Literal["zh", "en"]) -> list[str]:
    """Return the report as lines for a terminal."""
    lines = []
    if report.product:
        name = report.product["name_zh" if lang == "zh" else "name_en"]
        lines.append(f"{name}  {report.product['id']}@{report.product['version']}  {report.product['registration']}")
    for check in report.checks:
        title = check.title_zh if lang == "zh" else check.title_en
        lines.append(f"{_MARKS[check.outcome]} {check.step} {check.code:<22} {title}")
        if check.evidence:
            lines.append(f"      {_printable(check.evidence)}")
    zh, en = _VERDICTS[report.verdict]
    failed = ", ".join(check.code for check in report.failures)
    lines.append("")
    lines.append(f"{zh} {en}" if lang == "zh" else en)
    if failed:
        lines.append(("未通过：" if lang == "zh" else "Failed: ") + failed)
    if report.verdict == "unknown":
        lines += _next_step(report, lang)
    return lines


def _next_step(report: "Report", lang: Literal["zh", "en"]) -> list[str]:
    if not report.is_root_pinned:
        hint = (
            "下一步：向机构核对根摘要，再以 --root 给出",
            "Next: obtain the agency's root digest and pass it with --root",
        )
    else:
        hint = ("下一步：以 --trust 给出最新信任数据", "Next: pass current trust data with --trust")
    return [hint[0] if lang == "zh" else hint[1]]


def _printable(text: str) -> str:
    """Evidence may quote file names of a hostile package: no control characters reach the terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _root_digest(root: str) -> str:
    if re.fullmatch(r"[0-9a-fA-F]{64}", root):
        return root.lower()
    location = Path(root)
    if not location.is_file():
        _usage("--root: 需为 64 位十六进制摘要或 1.root.json 文件。Expected 64 hex digits or the file 1.root.json.")
    if location.stat().st_size > 4 * 1024 * 1024:
        _usage("--root: 文件过大。Expected 1.root.json of at most 4 MiB.")
    content = location.read_bytes()
    if re.fullmatch(rb"[0-9a-fA-F]{64}", content.strip()):
        return content.strip().decode("ascii").lower()
    return hashlib.sha256(content).hexdigest()


def _usage(message: str) -> None:
    typer.echo(message, err=True)
    raise typer.Exit(USAGE_EXIT)


def main() -> None:
    """Run the command line; click's own usage errors leave with code 4 too."""
    import click

    try:
        code = app(standalone_mode=False)
    except click.UsageError as error:
        error.show()
        raise SystemExit(USAGE_EXIT) from None
    except click.Abort:
        raise SystemExit(130) from None
    raise SystemExit(code or 0)
