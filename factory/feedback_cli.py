"""``shufang feedback``: what users of a product found wrong with its data, and what the departments did about it."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from factory.terminal import show

app = typer.Typer(help="质量反馈 | Feedback on the data of a product.", no_args_is_help=True, add_completion=False)

Home = Annotated[Path, typer.Option("--home", help="部署目录 | folder of the deployment")]
AsJson = Annotated[bool, typer.Option("--json", help="输出 JSON | print JSON")]
_HOME = Path("out/site")


@app.callback()
def _group() -> None:
    """质量反馈 | Feedback on the data of a product."""


@app.command("file")
def file(
    product: Annotated[str, typer.Argument(help="产品 id@版本,或登记编码 | product id@version, or registration code")],
    *,
    party: Annotated[str, typer.Option("--from", help="反馈单位 | who found it")],
    text: Annotated[str, typer.Option("--text", help="问题说明 | what is wrong; goes to the departments alone")],
    home: Home = _HOME,
    as_json: AsJson = False,
) -> None:
    """把产品的质量反馈转成各来源部门的工单 | A ticket at each department the product's data came from.

    Exit 1 when a department could not be reached; the same command sends it the rest.

    Example: shufang feedback file heart-model@1 --from org.bank --text 地址缺失较多 --home out/site
    """
    from factory.release.feedback import file_feedback, list_feedback, send_feedback
    from factory.site.founding import open_site
    from factory.site.operator import OperatorDesk
    from nodes.contract.signing import sha256_hex

    site = open_site(home)
    folder = site.operator / "feedback"
    # One that could not be taken everywhere is taken further, not filed twice.
    digest = sha256_hex(text.encode())
    record = next(
        (
            item
            for item in list_feedback(folder)
            if (item["product"], item["party"], item["text_sha256"]) == (product, party.strip(), digest)
            and any(not row["ticket"] for row in item["tickets"])
        ),
        None,
    ) or file_feedback(folder, site.packages, product, party=party, text=text, now=datetime.now(UTC))
    with OperatorDesk(site) as desk:
        done = send_feedback(folder, record, text, desk=desk.nodes())
    _print(done, as_json=as_json)


@app.command("outcome")
def outcome(reference: Annotated[str, typer.Argument()], home: Home = _HOME, as_json: AsJson = False) -> None:
    """各部门的处理结果 | What each department did about it. Exit 1 when one is overdue or not reached."""
    from factory.release import feedback
    from factory.site.founding import open_site
    from factory.site.operator import OperatorDesk

    site = open_site(home)
    feedback.read_feedback(site.operator / "feedback", reference)
    with OperatorDesk(site) as desk:
        done = feedback.outcome(site.operator / "feedback", reference, desk=desk.nodes())
    _print(done, as_json=as_json)


@app.command("list")
def list_all(home: Home = _HOME, as_json: AsJson = False) -> None:
    """已收到的反馈 | Feedback that was filed, with what is known of its outcome."""
    from factory.release.feedback import list_feedback
    from factory.site.founding import open_site

    rows = list_feedback(open_site(home).operator / "feedback")
    show(rows, as_json=as_json, text="\n".join(line for row in rows for line in _lines(row)) or "尚无反馈 none yet")


_STATES = {"": "未送达 not sent", "filed": "待核实 to be decided", "open": "整改中 being put right",
           "rejected": "不属实 rejected", "closed": "已整改 put right"}  # fmt: skip


def _lines(record: dict[str, Any]) -> list[str]:
    lines = [f"{record['id']}  {record['product']}  {record['party']}"]
    for row in record["tickets"]:
        state = "逾期 overdue" if row["overdue"] else _STATES.get(row["state"], row["state"])
        told = f"  {row['problem']}" if row.get("problem") else ""
        lines.append(f"  {row['resource']:<28} {row['ticket'] or '—':<8} {row['due_on'] or '—':<10} {state}{told}")
    return lines


def _print(record: dict[str, Any], *, as_json: bool) -> None:
    lines = [*_lines(record), f"下一步 next: shufang feedback outcome {record['id']}"]
    show(record, as_json=as_json, text="\n".join(lines))
    if any(row.get("problem") or row["overdue"] for row in record["tickets"]):
        raise typer.Exit(1)
