"""``shufang-node entry``, ``personal`` and ``alerts``: what a department signs of its catalogue, registers, alerts."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from nodes.books import Books
    from nodes.settings import NodeSettings

entry_app = typer.Typer(help="目录编制、自审、提交与绑定 Offer catalogue entries.", no_args_is_help=True)
personal_app = typer.Typer(help="个人信息授权登记 Register of personal information.", no_args_is_help=True)
alerts_app = typer.Typer(help="预警 Alerts.", no_args_is_help=True)

Home = Annotated[Path, typer.Option("--home", envvar="SHUFANG_NODE_HOME", help="节点目录 the node's home")]
Json = Annotated[bool, typer.Option("--json", help="输出 JSON print JSON")]
Out = Annotated[Path, typer.Option("--out", help="文件夹 folder for the files")]
_HOME = Path("node")


@entry_app.command("review", epilog="例 example: shufang-node entry review res.east.clinic --reviewer 赵敏 --home east")
def review(
    resources: Annotated[list[str] | None, typer.Argument(help="缺省为全部 all if none is named")] = None,
    *,
    reviewer: Annotated[str, typer.Option("--reviewer", help="自审人 who reviewed; required")] = "",
    compliance: Annotated[str, typer.Option("--compliance", help="合规性结论 finding; required")] = "",
    security: Annotated[str, typer.Option("--security", help="安全性结论 finding; required")] = "",
    home: Home = _HOME,
    json_out: Json = False,
) -> None:
    """签署部门自审（合规与安全）。Sign the department's own review of entries as they stand."""
    from nodes.keys import load_keys
    from nodes.offering import sign_review

    settings, books = _opened(home)
    key = load_keys(settings.keys).statement
    rows = [
        sign_review(
            entry, books=books, key=key, reviewer=reviewer, compliance=compliance, security=security, now=_now()
        ).model_dump(mode="json")
        for entry in _entries(settings, resources)
    ]
    _print(rows, json_out, "\n".join(f"已自审 reviewed {row['resource']} v{row['version']}" for row in rows))


@entry_app.command("submit", epilog="例 example: shufang-node entry submit --out offered --home east")
def submit(
    out: Out,
    resources: Annotated[list[str] | None, typer.Argument(help="缺省为全部 all if none is named")] = None,
    home: Home = _HOME,
    json_out: Json = False,
) -> None:
    """签署目录条目与绑定证明，交数据管理部门。Sign reviewed entries, and that datasets are bound; for the agency."""
    from nodes.keys import load_keys
    from nodes.offering import offer_entry, sign_binding

    settings, books = _opened(home)
    key = load_keys(settings.keys).statement
    rows = []
    for entry in _entries(settings, resources):
        path = _write(out, f"{entry.id}.entry", offer_entry(entry, books=books, key=key))
        bound = sign_binding(entry, books=books, key=key, now=_now())
        if bound is not None:
            _write(out, f"{entry.id}.binding", bound)
        rows.append({"resource": entry.id, "version": entry.version, "file": str(path), "bound": bound is not None})
    _print(rows, json_out, "\n".join(f"{row['resource']} → {row['file']}" for row in rows))


@entry_app.command("consent", epilog="例 example: shufang-node entry consent res.east.tax --owner org.east --days 365")
def consent(
    resource: str,
    *,
    owner: Annotated[str, typer.Option("--owner", help="持有共享数据的机构 who holds the shared data")],
    out: Out,
    days: Annotated[int, typer.Option("--days", min=1, help="有效天数 how many days it holds")] = 365,
    revoke: Annotated[bool, typer.Option("--revoke", help="撤回同意 take it back")] = False,
    home: Home = _HOME,
    json_out: Json = False,
) -> None:
    """同意他部门将本部门共享的数据用于授权运营，或撤回。Consent to the use of data this department has shared."""
    from nodes.contract.catalogue import SourceConsent
    from nodes.keys import load_keys
    from nodes.offering import sign_source_consent

    settings, books = _opened(home)
    now = _now()
    said = SourceConsent(
        resource=resource, owner=owner, provider=settings.organisation, state="revoked" if revoke else "given",
        stated_at=now, not_after=now + timedelta(days=days),
    )  # fmt: skip
    data = sign_source_consent(said, books=books, key=load_keys(settings.keys).statement)
    path = _write(out, f"{resource}.{said.state}", data)
    _print({**said.model_dump(mode="json"), "file": str(path)}, json_out, f"{said.state} {resource} → {path}")


@entry_app.command("take-consent", epilog="例 example: shufang-node entry take-consent res.east.tax.given --home east")
def take_consent(file: Path, home: Home = _HOME, json_out: Json = False) -> None:
    """登记原提供部门的同意或撤回，下一次任务即生效。Keep a provider's consent or revocation; it counts at once."""
    from nodes.registers import keep_source_consent
    from nodes.trust_store import TrustStore

    settings, books = _opened(home)
    trust = TrustStore(settings.trust).current()
    said = keep_source_consent(books, _read(file), trust=trust)
    _print(said.model_dump(mode="json"), json_out, f"{said.state} {said.resource}（{said.provider}）")


@personal_app.command("register", epilog="例 example: shufang-node personal register res.north.persons --kind legal …")
def register(
    resource: str,
    *,
    name: Annotated[str, typer.Option("--id", help="登记号 name of the line")],
    purpose: Annotated[str, typer.Option("--purpose", help="用途代码 purpose code")],
    kind: Annotated[str, typer.Option("--kind", help="consent | anonymised | legal")],
    column: Annotated[list[str], typer.Option("--column", help="范围内的列，可重复 scope; repeatable")],
    group: Annotated[str, typer.Option("--group", help="个人群体 subject group")],
    reference: Annotated[str, typer.Option("--reference", help="依据 document or article")],
    subject: Annotated[str, typer.Option("--subject", help="指向个人的列 column that points to the person")] = "",
    days: Annotated[int, typer.Option("--days", min=1, help="有效天数 how many days it holds")] = 365,
    home: Home = _HOME,
    json_out: Json = False,
) -> None:
    """登记个人信息处理依据。Register on what the use of personal columns rests; without a line nothing reads them."""
    from nodes.registers import add_basis
    from nodes.use_rules import Basis

    settings, books = _opened(home)
    entry = _entries(settings, [resource])[0]
    now = _now()
    basis = Basis(
        name, resource, purpose, tuple(column), kind, group, reference, subject,
        (now + timedelta(days=days)).replace(microsecond=0),
    )  # fmt: skip
    add_basis(books, entry, basis, now=now)
    _print(_basis_row(basis, books), json_out, f"已登记 registered {name}：{resource} {purpose} {kind}")


@personal_app.command("consent", epilog="例 example: shufang-node personal consent pi-1 subjects.txt --home north")
def personal_consent(
    name: str,
    subjects: Annotated[Path, typer.Argument(help="每行一人 one person per line; stays at the node")],
    withdraw: Annotated[bool, typer.Option("--withdraw", help="撤回同意 they withdraw")] = False,
    home: Home = _HOME,
    json_out: Json = False,
) -> None:
    """登记个人同意或撤回；下一次任务即生效。Note who consents, or withdraws; it counts with the next order."""
    from nodes.keys import load_keys
    from nodes.registers import find_basis, set_consents

    settings, books = _opened(home)
    lines = _read(subjects).decode("utf-8-sig").splitlines()
    key = load_keys(settings.keys).commitment
    count = set_consents(books, find_basis(books, name), lines, key=key, given=not withdraw)
    told = "撤回 withdrawn" if withdraw else "同意 consented"
    _print({"basis": name, "count": count, "withdrawn": withdraw}, json_out, f"{told}: {count}")


@personal_app.command("assess", epilog="例 example: shufang-node personal assess pi-2 --home north")
def personal_assess(name: str, home: Home = _HOME, json_out: Json = False) -> None:
    """检验匿名化效果。Measure the effect of anonymisation. Exit 1 when somebody could be singled out."""
    from nodes.keys import load_keys
    from nodes.registers import GROUP_MIN, assess_anonymity, find_basis

    settings, books = _opened(home)
    basis = find_basis(books, name)
    entry = _entries(settings, [basis.resource])[0]
    smallest, passed = assess_anonymity(
        books, entry, basis, home=settings.home, commitment_key=load_keys(settings.keys).commitment
    )
    told = f"{'通过 passed' if passed else '未通过 failed'}：最小群体 smallest group {smallest} / {GROUP_MIN}"
    _print({"basis": name, "passed": passed, "smallest_group": smallest, "limit": GROUP_MIN}, json_out, told)
    if not passed:
        raise typer.Exit(1)


@personal_app.command("list", epilog="例 example: shufang-node personal list --home north")
def personal_list(home: Home = _HOME, json_out: Json = False) -> None:
    """列出登记册。List the register."""
    _, books = _opened(home)
    rows = [_basis_row(basis, books) for basis in books.bases()]
    lines = [f"{r['id']:<16} {r['resource']:<24} {r['purpose']:<20} {r['kind']:<10} {r['not_after']}" for r in rows]
    _print(rows, json_out, "\n".join(lines) or "登记册为空 The register is empty.")


@alerts_app.command("list", epilog="例 example: shufang-node alerts list --home east")
def alerts_list(home: Home = _HOME, json_out: Json = False) -> None:
    """列出预警：等级、责任人、时限。List alerts with grade, owner and limit. Exit 1 when one is past its limit."""
    from nodes.watch import node_alerts

    _, books = _opened(home)
    rows = [alert.to_json() for alert in node_alerts(books, now=_now())]
    lines = [
        f"{r['id']:<40} {r['grade']:<9} {r['owner']:<18} {r['due_at']} {r['state']:<10} {r['actor']}" for r in rows
    ]
    _print(rows, json_out, "\n".join(lines) or "没有预警 No alert.")
    if any(row["state"] == "escalated" for row in rows):
        raise typer.Exit(1)


@alerts_app.command(
    "handle", epilog="例 example: shufang-node alerts handle A-over-use-12 --outcome 已核实 --home east"
)
def alerts_handle(
    name: str,
    outcome: Annotated[str, typer.Option("--outcome", help="处置结果 what was done; required")] = "",
    home: Home = _HOME,
    json_out: Json = False,
) -> None:
    """登记预警处置结果。Note what was done about an alert."""
    from nodes.watch import handle_alert

    _, books = _opened(home)
    alert = handle_alert(books, name, outcome=outcome, now=_now())
    _print(alert.to_json(), json_out, f"已处置 handled {alert.id}")


def _basis_row(basis: Any, books: "Books") -> dict[str, Any]:  # Basis; imported late to start fast
    return {
        "id": basis.id, "resource": basis.resource, "purpose": basis.purpose, "columns": list(basis.columns),
        "kind": basis.kind, "group": basis.group, "reference": basis.reference, "subject": basis.subject,
        "not_after": f"{basis.not_after:%Y-%m-%dT%H:%M:%SZ}", "subjects": len(books.subjects(basis.id)),
        "effect_test": bool(books.anonymity(basis.id)),
    }  # fmt: skip


def _opened(home: Path) -> "tuple[NodeSettings, Books]":
    from nodes.books import Books
    from nodes.settings import load_settings

    settings = load_settings(home.absolute())
    return settings, Books(settings.books)


def _entries(settings: "NodeSettings", names: list[str] | None) -> list[Any]:  # CatalogueEntry; imported late
    from nodes.catalogue_entries import read_catalogue
    from nodes.errors import CatalogueError

    found = read_catalogue(settings.catalogue)
    missing = [name for name in names or () if name not in found]
    if missing:
        raise CatalogueError(f"expected a bound resource, {missing[0]} is none; see `shufang-node catalogue`")
    return [found[name] for name in names or sorted(found)]


def _read(path: Path) -> bytes:
    from nodes.errors import RegisterError

    try:
        return path.read_bytes()
    except OSError as error:
        raise RegisterError(f"expected a readable file at {path} ({error.strerror})") from error


def _write(folder: Path, name: str, content: bytes) -> Path:
    from nodes.errors import StorageError

    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    except OSError as error:
        raise StorageError(f"expected to be able to write {folder} ({error.strerror})") from error
    return folder / name


def _print(value: Any, json_out: bool, text: str) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False) if json_out else text)


def _now() -> datetime:
    return datetime.now(UTC)
