"""``shufang report``: reports for supervisors, from what others signed and nothing else."""

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Annotated, Any

import typer

from factory.errors import FactoryError
from factory.terminal import show

app = typer.Typer(help="监督报告 | Reports for supervisors.", no_args_is_help=True, add_completion=False)
_REPORT_TYPE = "application/vnd.shufang.quality-report.v1+json"
_CHINA = timezone(timedelta(hours=8), "Asia/Shanghai")


class UnsignedReportError(FactoryError):
    """A quality report that no node in the trust data has signed."""

    code = "report.unsigned"


class ReportPagesError(FactoryError):
    """A page of a report cannot be set."""

    code = "report.pages"


@app.callback()
def _group() -> None:
    """监督报告 | Reports for supervisors."""


@app.command("quality")
def quality(
    reports: Annotated[list[Path], typer.Argument(help="签名报告或其目录 | signed reports, or folders of them")],
    *,
    trust: Annotated[
        Path, typer.Option("--trust", help="机构的信任数据目录 | the agency's trust data, with root.json")
    ],
    out: Annotated[Path, typer.Option("--out", help="输出目录 | folder for the pages")] = Path("quality-portfolio"),
    with_pdf: Annotated[bool, typer.Option("--pdf", help="附 PDF | also PDF (extra `reports`)")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="输出 JSON | print JSON")] = False,
) -> None:
    """全部部门的质量总览：排名、暂停与逾期 | Quality of all departments: ranking, held, overdue.

    Exit 1 when a resource is held or an order is overdue.

    Example: shufang report quality reports/ --trust trust/ --out portfolio --pdf
    """
    from quality.errors import QualityError
    from quality.portfolio import html, pdf, portfolio

    now = datetime.now(UTC).replace(microsecond=0)
    document = portfolio(verified(reports, trust, now=now), today=now.astimezone(_CHINA).date())
    out.mkdir(parents=True, exist_ok=True)
    (out / "portfolio.json").write_text(json.dumps(document, ensure_ascii=False, indent=1), encoding="utf-8")
    for lang in ("zh", "en"):
        (out / f"portfolio.{lang}.html").write_text(html(document, lang=lang), encoding="utf-8")
        try:
            if with_pdf:
                (out / f"portfolio.{lang}.pdf").write_bytes(pdf(document, lang=lang))
        except QualityError as error:
            raise ReportPagesError(str(error)) from error
    lines = [
        f"{row['rank'] or '—':>3}  {_score(row):>7}  {row['title_zh']}  暂停 held {row['held']}  "
        f"逾期 overdue {row['overdue']}"
        for row in document["departments"]
    ]
    show(document, as_json=as_json, text="\n".join([*lines, f"报告 report: {out / 'portfolio.zh.html'}"]))
    if document["overdue"] or any(row["held"] for row in document["departments"]):
        raise typer.Exit(1)


@app.command("supply")
def supply(
    plan: Annotated[Path, typer.Argument(help="评价计划 | plan of the evaluation, TOML")],
    reports: Annotated[list[Path], typer.Argument(help="签名报告或其目录 | signed reports, or folders of them")],
    *,
    trust: Annotated[
        Path, typer.Option("--trust", help="机构的信任数据目录 | the agency's trust data, with root.json")
    ],
    final: Annotated[
        bool, typer.Option("--final", help="定稿；证据不全即拒绝 | refuse when evidence is missing")
    ] = False,
    out: Annotated[Path, typer.Option("--out", help="输出目录 | folder for the pages")] = Path("supply-evaluation"),
    with_pdf: Annotated[bool, typer.Option("--pdf", help="附 PDF | also PDF (extra `reports`)")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="输出 JSON | print JSON")] = False,
) -> None:
    """数据提供部门供给评价：绑定、及时、质量、响应 | Score source departments; every deduction names its evidence.

    Example: shufang report supply plan.toml reports/ --trust trust/ --final --out supply --pdf
    """
    from factory.supply import SupplyPlanError, evaluate, parse_plan, require_final
    from factory.supply_pages import html, pdf
    from quality.errors import QualityError

    now = datetime.now(UTC).replace(microsecond=0)
    try:
        asked = parse_plan(plan.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SupplyPlanError(f"expected a plan in UTF-8 at {plan} ({type(error).__name__})") from error
    document = evaluate(asked, verified(reports, trust, now=now), today=now.astimezone(_CHINA).date())
    if final:
        require_final(document)
    out.mkdir(parents=True, exist_ok=True)
    (out / "supply.json").write_text(json.dumps(document, ensure_ascii=False, indent=1), encoding="utf-8")
    for lang in ("zh", "en"):
        (out / f"supply.{lang}.html").write_text(html(document, lang=lang), encoding="utf-8")
        try:
            if with_pdf:
                (out / f"supply.{lang}.pdf").write_bytes(pdf(document, lang=lang))
        except QualityError as error:
            raise ReportPagesError(str(error)) from error
    lines = [
        f"{_score(row):>7}  {row['title_zh'] or row['id']}  {'定稿 final' if row['final'] else '待补证据 provisional'}"
        for row in document["departments"]
    ]
    show(document, as_json=as_json, text="\n".join([*lines, f"报告 report: {out / 'supply.zh.html'}"]))


@app.command("periods")
def periods(
    plan: Annotated[Path, typer.Argument(help="评价周期与资源 | periods and resources, TOML")],
    reports: Annotated[list[Path], typer.Argument(help="签名报告或其目录 | signed reports, or folders of them")],
    *,
    trust: Annotated[
        Path, typer.Option("--trust", help="机构的信任数据目录 | the agency's trust data, with root.json")
    ],
    out: Annotated[Path, typer.Option("--out", help="输出目录 | folder for the pages")] = Path("quality-periods"),
    as_json: Annotated[bool, typer.Option("--json", help="输出 JSON | print JSON")] = False,
) -> None:
    """质量评价：各周期各资源、各部门的得分、六个维度与变化 | Scores by period, with dimensions and trend.

    A resource without a check in a period is listed as not evaluated. Pages and JSON state the method.

    Example: shufang report periods plan.toml reports/ --trust trust/ --out evaluation
    """
    from quality.errors import QualityError
    from quality.periods import evaluate, html, parse_periods

    now = datetime.now(UTC).replace(microsecond=0)
    try:
        asked = parse_periods(plan.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, QualityError) as error:
        raise ReportPagesError(f"{plan}: {error}") from error
    document = evaluate(asked, verified(reports, trust, now=now))
    out.mkdir(parents=True, exist_ok=True)
    (out / "periods.json").write_text(json.dumps(document, ensure_ascii=False, indent=1), encoding="utf-8")
    for lang in ("zh", "en"):
        (out / f"periods.{lang}.html").write_text(html(document, lang=lang), encoding="utf-8")
    lines = [
        f"{row['id']}  " + "  ".join(f"{cell['period']} {_score(cell)}" for cell in row["periods"])
        for row in (*document["departments"], *document["resources"])
    ]
    show(document, as_json=as_json, text="\n".join([*lines, f"报告 report: {out / 'periods.zh.html'}"]))


def verified(paths: list[Path], trust: Path, *, now: datetime) -> list[Any]:
    """Read signed reports and check each signature against the trust data.

    Args:
        paths: files, or folders whose ``*.dsse.json`` are read.
        trust: the agency's trust data with ``root.json``.
        now: against which the trust data may have expired.

    Returns:
        ``quality.portfolio.Signed`` per report.

    Raises:
        UnsignedReportError: no node that counted when it was assessed signed it, or it is of another kind.
    """
    from factory.trust import load_trust
    from nodes.contract import canonical
    from nodes.contract.errors import ContractError
    from nodes.contract.signing import Envelope, sha256_hex
    from quality.portfolio import Signed

    actors = load_trust(trust, now=now).actors.actors
    files = [file for path in paths for file in (sorted(path.rglob("*.dsse.json")) if path.is_dir() else [path])]
    if not files:
        raise UnsignedReportError("expected signed reports; a node writes them with `shufang-node quality export`")
    found = []
    for file in files:
        try:
            envelope = Envelope.from_bytes(file.read_bytes())
            report = dict(canonical.loads(envelope.payload))
            assessed = datetime.fromisoformat(str(report["assessed_at"]))
            signer = next(
                actor
                for actor in actors
                if actor.verify_key.keyid == envelope.keyid and "node" in actor.roles and actor.is_valid_at(assessed)
            )
            envelope.open(signer.verify_key, _REPORT_TYPE)
        except (ContractError, KeyError, ValueError, TypeError, StopIteration):
            raise UnsignedReportError(f"expected a report in {file.name}, signed by a node that counted then") from None
        if report.get("node") != signer.id:
            raise UnsignedReportError(f"expected the report in {file.name} to name the node that signed it")
        digest = sha256_hex(envelope.payload)
        found.append(Signed(report, digest, signer.organisation, signer.title_zh, signer.title_en))
    return found


def _score(row: dict[str, Any]) -> str:
    return "—" if row["score_x100"] is None else f"{row['score_x100'] / 100:.2f}"
