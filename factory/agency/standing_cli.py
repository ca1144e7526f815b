"""``shufang agency standing``, ``incident`` and ``review-input``: closing, restoring, revoking; incidents; imports."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from factory.terminal import show

if TYPE_CHECKING:
    from factory.agency.office import Office
    from factory.agency.standing import Order, Standings

standing_app = typer.Typer(
    help="运营资格：关闭、整改、恢复、撤销 | Standing of operators.", no_args_is_help=True, add_completion=False
)
incident_app = typer.Typer(help="数据安全事件 | Incidents.", no_args_is_help=True, add_completion=False)

Home = Annotated[Path, typer.Option("--home", help="实施机构目录 | the agency's home")]
AsJson = Annotated[bool, typer.Option("--json", help="输出 JSON | print JSON")]
Official = Annotated[str, typer.Option("--official", help="经办人 | who decides")]
Body = Annotated[str, typer.Option("--body", help="决定机构的角色 | role of the deciding body")]
Operator = Annotated[str, typer.Argument(help="运营机构 | operator")]
Reason = Annotated[str, typer.Option("--reason", help="理由 | why")]
NEXT = "\nNext: shufang agency sign-trust (two registrars), shufang agency publish, shufang trust-refresh"


@standing_app.command("close")
def close(
    *,
    home: Home,
    operator: Operator,
    ground: Annotated[str, typer.Option("--ground", help="事由 | finding")],
    official: Official,
    item: Annotated[list[str] | None, typer.Option("--item", help="整改事项，可重复 | what to put right")] = None,
    deadline: Annotated[str, typer.Option("--deadline", help="整改期限 2026-12-31 | last day")] = "",
    prohibited: Annotated[bool, typer.Option("--prohibited", help="禁止行为 | a prohibited act")] = False,
    body: Body = "agency",
    as_json: AsJson = False,
) -> None:
    """责令整改并立即关闭权限 | Order rectification and close access at once; grants stop with it."""
    with _opened(home) as (desk, office):
        order = _order(
            office, body, official, ground=ground, items=tuple(item or ()), deadline=deadline, prohibited=prohibited
        )
        case = desk.close(operator, order)
    show({"operator": operator, "state": case.state}, as_json=as_json, text=f"{operator}: {case.state}{NEXT}")


@standing_app.command("accept")
def accept(
    home: Home,
    operator: Operator,
    finding: Annotated[str, typer.Option("--finding", help="验收结论 | finding")],
    official: Official,
    as_json: AsJson = False,
) -> None:
    """验收整改；不等于恢复 | Accept a rectification; access stays closed until it is restored."""
    with _opened(home) as (desk, _):
        case = desk.accept(operator, finding=finding, official=official)
    show({"operator": operator, "state": case.state, "accepted": True}, as_json=as_json)


@standing_app.command("restore")
def restore(
    *,
    home: Home,
    operator: Operator,
    reason: Reason,
    official: Official,
    until: Annotated[str, typer.Option("--agreement-until", help="协议到期日 | end of the agreement, 2027-12-31")],
    body: Body = "agency",
    as_json: AsJson = False,
) -> None:
    """决定恢复权限 | Open access again by decision, after an accepted rectification."""
    with _opened(home) as (desk, office):
        ends = datetime.fromisoformat(until).replace(tzinfo=UTC)
        case = desk.restore(operator, _order(office, body, official), reason=reason, agreement_until=ends)
    show({"operator": operator, "state": case.state}, as_json=as_json, text=f"{operator}: {case.state}{NEXT}")


@standing_app.command("revoke")
def revoke(
    *,
    home: Home,
    operator: Operator,
    reason: Reason,
    official: Official,
    body: Body = "agency",
    as_json: AsJson = False,
) -> None:
    """逾期未整改，撤销全部授权 | Void every grant for good after the day passed without an accepted rectification."""
    with _opened(home) as (desk, office):
        case = desk.revoke(operator, _order(office, body, official), reason=reason)
    show({"operator": operator, "state": case.state}, as_json=as_json, text=f"{operator}: {case.state}{NEXT}")


@incident_app.command("start")
def start(
    *,
    home: Home,
    name: Annotated[str, typer.Argument(help="事件编号 | name of the case")],
    what: Annotated[str, typer.Option("--what", help="发生了什么 | what happened")],
    plan: Annotated[Path, typer.Option("--plan", help="应急预案 | the incident plan in force")],
    official: Official,
    grant: Annotated[list[str] | None, typer.Option("--grant", help="受影响授权，可重复 | affected grant")] = None,
    as_json: AsJson = False,
) -> None:
    """一步启动处置：立案、停用授权、固定证据 | Open the case, stop the affected grants, freeze the evidence."""
    with _opened(home) as (desk, _):
        case = desk.start_incident(name, what=what, grants=grant or [], plan=plan.read_bytes(), official=official)
    evidence = str(case.document["evidence"])
    show(
        {"incident": name, "state": case.state, "evidence": evidence},
        as_json=as_json,
        text=f"{name}: {case.state}{NEXT}",
    )


@incident_app.command("measure")
def measure(
    *,
    home: Home,
    name: Annotated[str, typer.Argument()],
    measure_name: Annotated[str, typer.Argument(metavar="MEASURE", help="suspend, revoke, isolate, rotate …")],
    official: Official,
    proof: Annotated[Path | None, typer.Option("--proof", help="效果证明 | proof of its effect")] = None,
    as_json: AsJson = False,
) -> None:
    """记录处置措施；有证明才算完成 | Note a measure, or verify its effect with a proof."""
    with _opened(home) as (desk, _):
        if proof is None:
            case = desk.measure(name, measure_name, official=official)
        else:
            case = desk.verify_measure(name, measure_name, proof.read_bytes(), official=official)
    show({"incident": name, "measures": case.document["measures"]}, as_json=as_json)


@incident_app.command("contain")
def contain(home: Home, name: Annotated[str, typer.Argument()], official: Official, as_json: AsJson = False) -> None:
    """确认已控制 | Note that the incident is contained; every measure must be verified."""
    with _opened(home) as (desk, _):
        case = desk.contain(name, official=official)
    show({"incident": name, "state": case.state}, as_json=as_json)


def review_input_command(
    *,
    home: Home,
    file: Annotated[Path, typer.Argument()],
    official: Official,
    reason: Reason,
    out: Annotated[Path, typer.Option("--out", help="审查结论文件 | the signed review")],
    approve: Annotated[bool, typer.Option("--approve/--reject", help="同意或不同意 | approve or reject")] = False,
    as_json: AsJson = False,
) -> None:
    """审查拟导入的其他数据 | Review a file that a build wants to import."""
    from factory.files import write_atomic
    from factory.pipelines.imports import review_input

    with _opened(home) as (_, office):
        signed = review_input(
            office.identity, file.read_bytes(), name=file.name, approve=approve, official=official, reason=reason,
            now=office.now(),
        )  # fmt: skip
    write_atomic(out, signed)
    show({"file": file, "review": out, "approved": approve}, as_json=as_json)


def cooperation_command(
    *,
    home: Home,
    organisation: Annotated[str, typer.Argument(help="第三方机构 | third party")],
    task: Annotated[str, typer.Option("--task", help="承担的技术工作 | what it will do")],
    official: Official,
    reason: Reason,
    days: Annotated[int, typer.Option("--days", min=1, help="有效天数 | how many days")] = 365,
    as_json: AsJson = False,
) -> None:
    """审查同意第三方参与 | Approve a third party's technical role, after a review."""
    from datetime import timedelta

    from factory.agency.cooperation import approve_cooperation

    with _opened(home) as (_, office):
        until = office.now() + timedelta(days=days)
        path = approve_cooperation(
            office.identity, organisation, task=task, official=official, reason=reason, until=until, now=office.now()
        )
    show({"organisation": organisation, "record": path, "until": until}, as_json=as_json)


def protection_command(
    *,
    home: Home,
    nodes: Annotated[list[str], typer.Argument(help="节点代号 | actor ids of nodes")],
    grade: Annotated[int, typer.Option("--grade", min=1, max=5, help="定级 | protection grade")],
    report: Annotated[Path, typer.Option("--report", help="测评报告 | test report; its digest is kept")],
    tester: Annotated[str, typer.Option("--tester", help="测评机构 | body that tested")],
    official: Official,
    until: Annotated[str, typer.Option("--until", help="有效期至 | last day of the report, 2026-12-31")],
    as_json: AsJson = False,
) -> None:
    """登记节点的等级保护定级与测评报告 | Record a node's protection grade and test report; without them no node joins.

    Example: shufang agency protection node-south --grade 3 --report report.pdf --tester "某测评机构" --until 2026-12-31
    --official 王芳 --home agency
    """
    from datetime import UTC, datetime, time, timedelta

    from factory.agency.errors import AdmissionRefusedError
    from factory.agency.protection import record_protection

    try:
        end = datetime.combine(date.fromisoformat(until) + timedelta(days=1), time(0), UTC)
        content = report.read_bytes()
    except (OSError, ValueError) as error:
        raise AdmissionRefusedError(f"expected a report and its last day as 2026-12-31 ({error})") from error
    with _opened(home) as (_, office):
        rows = [
            {
                "node": node,
                "record": record_protection(
                    office.identity, node, grade=grade, report=content, tester=tester, official=official, until=end,
                    now=office.now(),
                ),
                "until": end,
            }
            for node in nodes
        ]  # fmt: skip
    show(rows, as_json=as_json)


def _order(
    office: "Office",
    body: str,
    official: str,
    *,
    ground: str = "",
    items: tuple[str, ...] = (),
    deadline: str = "",
    prohibited: bool = False,
) -> "Order":
    from factory.agency.standing import Order

    day = date.fromisoformat(deadline) if deadline else None
    return Order(ground, items, day, body, official, office.identity.organisation, prohibited)


@contextmanager
def _opened(home: Path) -> "Iterator[tuple[Standings, Office]]":
    from factory.agency.office import open_office
    from factory.agency.serve import open_registry
    from factory.agency.settings import read_settings
    from factory.agency.standing import Standings

    office = open_office(home)
    settings = read_settings(home) if (home / "agency.toml").is_file() else None
    with open_registry(office, settings) as registry:
        yield Standings(office, registry), office
