"""``shufang agency catalogue``: the level's catalogue at the data administration."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from factory.terminal import show

if TYPE_CHECKING:
    from factory.agency.catalogue import Catalogue
    from factory.registry.store import Registry

app = typer.Typer(
    help="公共数据资源目录：规范、条目、确认、绑定 | The level's catalogue.", no_args_is_help=True, add_completion=False
)

Home = Annotated[Path, typer.Option("--home", help="实施机构目录 | the agency's home")]
AsJson = Annotated[bool, typer.Option("--json", help="输出 JSON | print JSON")]
Official = Annotated[str, typer.Option("--official", help="经办人 | who decides")]
Files = Annotated[list[Path], typer.Argument(help="部门交来的文件 | files of departments")]
Resource = Annotated[str, typer.Argument(help="目录标识 | catalogue id")]


@app.command("standard")
def standard(home: Home, file: Annotated[Path, typer.Argument()], official: Official, as_json: AsJson = False) -> None:
    """发布编制规范（TOML：version、title、required、column_required）| Put a compilation standard in force."""
    import tomllib

    from pydantic import ValidationError

    from factory.lifecycle.resource import Standard
    from factory.registry.request import RequestFileError

    try:
        made = Standard.model_validate(tomllib.loads(file.read_text("utf-8")))
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise RequestFileError(f"expected a standard with version, title and required in {file.name}") from error
    with _opened(home) as (desk, _):
        case = desk.set_standard(made, official=official)
    show({"version": case.id, "state": case.state}, as_json=as_json)


@app.command("take")
def take(home: Home, files: Files, as_json: AsJson = False) -> None:
    """接收部门签署的条目 | Take in departments' signed entries (``*.entry``) with their reviews."""
    with _opened(home) as (desk, _):
        rows = [_row(desk.take(path.read_bytes())) for path in files]
    show(rows, as_json=as_json)


@app.command("confirm")
def confirm(
    home: Home,
    official: Official,
    resources: Annotated[
        list[str] | None, typer.Argument(help="缺省为全部待确认 | all that wait if none is named")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """校核确认并纳入（或不纳入）授权运营目录 | Confirm entries and put them in, or out of, scope."""
    with _opened(home) as (desk, registry):
        names = resources or [case.id for case in registry.cases("resource", state="source_reviewed")]
        rows = [_row(desk.confirm(name, official=official)) for name in names]
    show(rows, as_json=as_json)


@app.command("bind")
def bind(home: Home, files: Files, as_json: AsJson = False) -> None:
    """登记绑定证明 | Take in nodes' statements that live datasets are bound (``*.binding``)."""
    with _opened(home) as (desk, _):
        rows = [_row(desk.bind(path.read_bytes())) for path in files]
    show(rows, as_json=as_json)


@app.command("consent")
def consent(home: Home, files: Files, as_json: AsJson = False) -> None:
    """登记原提供部门的同意或撤回 | Take in providers' consents or revocations (``*.given``, ``*.revoked``)."""
    with _opened(home) as (desk, _):
        rows = [_row(desk.take_consent(path.read_bytes())) for path in files]
    show(rows, as_json=as_json)


@app.command("withdraw")
def withdraw(
    home: Home,
    resource: Resource,
    official: Official,
    reason: Annotated[str, typer.Option("--reason", help="理由 | why")],
    as_json: AsJson = False,
) -> None:
    """撤出目录，列出受影响的授权与产品 | Withdraw a resource; what depends on it is flagged and listed.

    Nodes stop at their next order once the suspension that this proposes is signed: shufang agency sign-trust.
    """
    from nodes.contract.trust import StatusItem

    with _opened(home) as (desk, _):
        flagged = desk.withdraw(resource, official=official, reason=reason)
        office = _office(home)
        item = {"subject_kind": "resource", "subject": resource, "state": "suspended", "since": office.now()}
        change = office.set_status(StatusItem.model_validate({**item, "reason": reason}))
    lines = [f"{row['kind']:<14} {row['id']:<40} {row['state']}" for row in flagged]
    show({"resource": resource, "flagged": flagged, "change": change}, as_json=as_json, text="\n".join(lines))


@app.command("list")
def listing(
    home: Home, level: Annotated[str | None, typer.Option("--level", help="province|city|county")] = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """本级目录 | The level's catalogue: every submitted entry once, with its owner."""
    with _opened(home) as (desk, _):
        rows = desk.level(level)
    lines = [
        f"{row['id']:<28} v{row['version']} {row['owner']:<20} {row['state']:<16} {row['name_zh']}" for row in rows
    ]
    show(rows, as_json=as_json, text="\n".join(lines) or "目录为空 no entry was submitted")


@app.command("public")
def public(home: Home, as_json: AsJson = False) -> None:
    """公开的授权运营目录 | The authorised-operation catalogue, to be published."""
    with _opened(home) as (desk, _):
        rows = desk.public()
    show(rows, as_json=as_json, text="\n".join(f"{row['id']:<28} v{row['version']} {row['name_zh']}" for row in rows))


@app.command("supply")
def supply(home: Home, as_json: AsJson = False) -> None:
    """供给情况：未绑定条目及天数 | Entries in scope that no node has bound. Exit 1 when there are any."""
    with _opened(home) as (desk, _):
        rows = [asdict(item) for item in desk.supply()]
    lines = [f"{row['resource']:<28} {row['owner']:<20} {row['age_days']} 天 days" for row in rows]
    show(rows, as_json=as_json, text="\n".join(lines) or "全部已绑定 every entry is bound")
    if rows:
        raise typer.Exit(1)


@app.command("dependants")
def dependants(home: Home, resource: Resource, as_json: AsJson = False) -> None:
    """依赖此条目的协议、授权与产品 | What depends on an entry, with what it was flagged for."""
    with _opened(home) as (desk, _):
        rows: list[dict[str, Any]] = [
            {**row, "flags": desk.flags(row["kind"], row["id"])} for row in desk.dependants(resource)
        ]
    show(rows, as_json=as_json)


def _row(case: Any) -> dict[str, Any]:  # Case; imported late to start fast
    entry = case.document["entry"]
    return {
        "resource": case.id, "version": entry["version"], "owner": entry["owner"], "state": case.state,
        "standard_version": case.document["standard_version"],
    }  # fmt: skip


def _office(home: Path) -> Any:  # Office; imported late to start fast
    from factory.agency.office import open_office

    return open_office(home)


@contextmanager
def _opened(home: Path) -> "Iterator[tuple[Catalogue, Registry]]":
    from factory.agency.catalogue import Catalogue
    from factory.agency.serve import open_registry
    from factory.agency.settings import read_settings

    office = _office(home)
    settings = read_settings(home) if (home / "agency.toml").is_file() else None
    with open_registry(office, settings) as registry:
        yield Catalogue(office, registry), registry
