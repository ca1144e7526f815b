"""``shufang status-change``: three commands from a finding to a published suspension.

One registrar proposes (and signs), the other signs, the agency stores it in the log and publishes.
To reinstate, a reviewer signs too.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from factory.terminal import show

app = typer.Typer(
    help="暂停、撤销、替代、恢复 | Suspend, revoke, supersede, reinstate.", no_args_is_help=True, add_completion=False
)

Home = Annotated[Path, typer.Option("--home", help="签署人目录 | home of who acts")]
Agency = Annotated[Path, typer.Option("--agency", help="实施机构目录 | the agency's home")]
AsJson = Annotated[bool, typer.Option("--json", help="输出 JSON | print JSON")]


@app.command("propose")
def propose_command(
    *,
    kind: Annotated[str, typer.Argument(help="grant|resource|product|key|actor|release")],
    subject: Annotated[str, typer.Argument(help="标识或摘要 | name or digest")],
    state: Annotated[str, typer.Option("--state", help="suspended|revoked|superseded|reinstated")],
    reason: Annotated[str, typer.Option("--reason", help="理由 | why")],
    home: Home,
    agency: Agency,
    decision: Annotated[Path | None, typer.Option("--decision", help="决定书 | the deciding document")] = None,
    as_json: AsJson = False,
) -> None:
    """登记员提出并签署变更 | A registrar draws up a change and signs it.

    Example: shufang status-change propose product clinic-risk@1.0.0 --state suspended --reason 投诉核查
    --home registrar-1 --agency agency
    """
    from factory.agency.changes import propose
    from factory.identity import load_identity

    change = propose(
        load_identity(home),
        agency,
        kind=kind,
        subject=subject,
        state=state,
        reason=reason,
        decision=decision.read_bytes() if decision else b"",
        now=_now(),
    )
    reviewer = " (and a reviewer)" if change.state == "reinstated" else ""
    show(
        {"change": change.id, "subject_kind": change.subject_kind, "subject": change.subject, "state": change.state},
        as_json=as_json,
        text=f"{change.id}\nNext, the other registrar{reviewer}: shufang status-change sign {change.id} --home HOME "
        f"--agency {agency}",
    )


@app.command("sign")
def sign_command(
    change: Annotated[str, typer.Argument(help="变更编号 | id of the change")],
    home: Home,
    agency: Agency,
    as_json: AsJson = False,
) -> None:
    """第二名登记员(恢复时另有评审人)签署 | The other registrar signs; to reinstate, a reviewer too."""
    from factory.agency.changes import sign_change
    from factory.identity import load_identity

    signer = load_identity(home)
    found = sign_change(signer, agency, change, now=_now())
    show(
        {"change": found.id, "signer": signer.id},
        as_json=as_json,
        text=f"{found.id} {signer.id}\nNext: shufang status-change publish {found.id} --home {agency} --log LOG",
    )


@app.command("publish")
def publish_command(
    change: Annotated[str, typer.Argument(help="变更编号 | id of the change")],
    home: Annotated[Path, typer.Option("--home", help="实施机构目录 | the agency's home")],
    log: Annotated[Path | None, typer.Option("--log", help="存证日志目录 | home of the log")] = None,
    as_json: AsJson = False,
) -> None:
    """存证并发布 | Store the change in the log and publish the status that follows."""
    from factory.agency.changes import publish_change
    from factory.agency.office import open_office
    from factory.log.home import LogHome
    from factory.log.log import Log

    office = open_office(home)
    if log is None:
        version = publish_change(office, change)
    else:
        with Log.open(LogHome.read(log), now=_now(), wait_s=30.0) as opened:
            version = publish_change(office, change, log=opened)
    show({"change": change, "version": version}, as_json=as_json)


@app.command("list")
def list_command(agency: Agency, as_json: AsJson = False) -> None:
    """全部变更 | Every change and who signed it."""
    from factory.agency.changes import read_changes, signatures

    rows = [
        {
            "change": change.id,
            "subject_kind": change.subject_kind,
            "subject": change.subject,
            "state": change.state,
            "since": change.since.isoformat(),
            "reason": change.reason,
            "signed": sorted(signatures(agency, change, now=_now())),
        }
        for change in read_changes(agency)
    ]
    show(rows, as_json=as_json)


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
