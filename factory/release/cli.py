"""``shufang release``: the registrar's signature on a release, from the registrar's own home.

Errors are raised as they are; the top-level command line turns them into exit codes.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from factory.terminal import show

app = typer.Typer(help="发布签署 | Signatures on a release.", no_args_is_help=True, add_completion=False)

Home = Annotated[Path, typer.Option("--home", help="登记员目录 | the registrar's home")]
Folder = Annotated[Path, typer.Argument(help="发布目录 | folder of the release")]
AsJson = Annotated[bool, typer.Option("--json", help="输出 JSON | print JSON")]


@app.command("check")
def check(folder: Folder, home: Home, as_json: AsJson = False) -> None:
    """核对发布 | Recompute from the envelopes what the release claims."""
    from factory.identity import load_identity
    from factory.release.registrar import check_release
    from factory.trust import load_trust

    now = datetime.now(UTC).replace(microsecond=0)
    trust = load_trust(load_identity(home).trust_path, now=now)
    check_release(folder, (folder / "release.json").read_bytes(), trust, now=now)
    show({"release": folder, "ok": True}, as_json=as_json)


@app.command("sign")
def sign(folder: Folder, home: Home, as_json: AsJson = False) -> None:
    """登记员签署发布 | Check a release and sign it as one registrar.

    Example: shufang release sign releases/prod.risk@1.0.0 --home registrar-1
    """
    from factory.identity import load_identity
    from factory.release.registrar import sign_as_registrar
    from factory.trust import load_trust

    now = datetime.now(UTC).replace(microsecond=0)
    registrar = load_identity(home)
    sign_as_registrar(folder, registrar, load_trust(registrar.trust_path, now=now), now=now)
    show({"registrar": registrar.id, "envelope": folder / f"{registrar.id}.dsse.json"}, as_json=as_json)
