"""Commands of the quality engine: ``python -m quality assess | batch | suggest | report``.

The node calls ``batch`` in a process of its own, so that Great Expectations' memory is not the
agent's and its import is paid once for many tables, and signs the bytes of each ``report.json``.
Exit codes: 0 the table may enter runs, 1 it is held, 2 usage (a wrong path, suite or profile).
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from quality.errors import JobsError, QualityError

_KEPT = "kept.json"
"""In the folder of the report: what the next run compares with; private, never sent."""
_EXAMPLE = "example: python -m quality assess --table persons.csv --suite persons.json --out quality/persons --json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        code: int = options.run(options)
    except QualityError as error:
        sys.stderr.write(f"{error.code}: {error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"quality.io: {type(error).__name__}: {os.strerror(error.errno or 0)}\n")
        return 2
    return code


def _assess(options: argparse.Namespace) -> int:
    answer = _assessed(options)
    if options.json:
        _say(json.dumps(answer, ensure_ascii=False))
    else:
        total = answer["total_x100"]
        shown = "—" if total is None else f"{total / 100:.2f}"
        _say(f"{shown}  {answer['grade']}  {answer['verdict']}  {answer['report']}")
    return 0 if answer["verdict"] == "pass" else 1


def _batch(_options: argparse.Namespace) -> int:
    """Do many ``assess`` in this process; one line each, so that what is done stands if a later one ends it."""
    try:
        jobs = json.load(sys.stdin)
    except ValueError:
        jobs = None
    if not isinstance(jobs, list) or any(not isinstance(job, list) for job in jobs):
        raise JobsError("expected a JSON list of argument lists of `assess` on standard input")
    held = False
    for job in jobs:
        try:
            answer = _assessed(_parser().parse_args(["assess", *map(str, job)]))
        except QualityError as error:
            answer = {"error": error.code, "message": f"{error.code}: {error}"}
        except OSError as error:
            answer = {"error": "quality.io", "message": f"quality.io: {os.strerror(error.errno or 0)}"}
        held = held or answer.get("verdict") != "pass"
        _say(json.dumps(answer, ensure_ascii=False))
        sys.stdout.flush()
    return int(held)


def _assessed(options: argparse.Namespace) -> dict[str, Any]:
    """Run one suite, write its report and pages, and return the answer that is printed."""
    from quality import kept, profile, suite
    from quality.pages import write_report
    from quality.projection import report_json
    from quality.run import assess
    from quality.scoring import DEFAULT_PROFILE
    from quality.sources import source_of

    rules = suite.load(options.suite)
    weights = profile.load(options.profile) if options.profile else DEFAULT_PROFILE
    source = source_of(
        options.table, encoding=options.encoding, delivered_at=options.delivered_at, table=options.inner_table
    )
    previous = _read_report(options.previous) if options.previous else None
    references = {name: source_of(Path(path)) for name, _, path in (text.partition("=") for text in options.reference)}
    assessment = assess(
        source,
        rules,
        now=options.now or datetime.now(UTC),
        profile=weights,
        previous=previous,
        references=references,
        kept=kept.load(options.out / _KEPT),
    )
    report = report_json(
        assessment,
        resource=options.resource,
        version=options.resource_version,
        title_zh=options.title_zh,
        title_en=options.title_en,
        owner=options.owner,
        node=options.node,
    )
    written = write_report(options.out, report)
    exact = {
        result.rule.id: {
            "rows": result.rows,
            "missing": result.missing,
            "failing": result.failing,
            "status": result.status,
        }
        for result in assessment.rules
    }
    _write_private(options.out / "exact-counts.json", json.dumps(exact, indent=1).encode())
    if assessment.kept is not None:
        _write_private(options.out / _KEPT, kept.dumps(assessment.kept))
    answer = {**written, **{key: report["score"][key] for key in ("total_x100", "grade", "verdict")}}
    answer["findings"] = [item["code"] for item in report["findings"]]
    answer["holds"] = [{"code": hold["code"], "about": hold["about"]} for hold in report["score"]["holds"]]
    return answer


def _suggest(options: argparse.Namespace) -> int:
    from quality.sources import source_of
    from quality.suggest import suggest
    from quality.suite import document

    draft = suggest(
        source_of(options.table, encoding=options.encoding, table=options.inner_table),
        name=options.name or options.table.stem,
    )
    text = json.dumps(document(draft), ensure_ascii=False, indent=2) + "\n"
    if options.out:
        options.out.write_text(text, encoding="utf-8")
        _say(json.dumps({"suite": str(options.out), "rules": len(draft.rules)}) if options.json else f"{options.out}")
    else:
        sys.stdout.write(text)
    return 0


def _report(options: argparse.Namespace) -> int:
    from quality.pages import write_pdf, write_report

    report = _read_report(options.report)
    written = write_report(options.out, report)
    if options.pdf:
        written |= write_pdf(options.out, report, sha256=written["sha256"])
    _say(json.dumps(written) if options.json else written["html_zh"])
    return 0


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


def _write_private(path: Path, content: bytes) -> None:
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def _read_report(path: Path) -> dict[str, Any]:
    from quality.errors import ReportError
    from quality.projection import check_report

    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ReportError(f"expected a report JSON at {path.name}, got {type(error).__name__}") from error
    check_report(report)
    return dict(report)


def _moment(text: str) -> datetime:
    """Return an aware time; without an offset it is UTC."""
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m quality", description=__doc__, epilog=_EXAMPLE)
    commands = parser.add_subparsers(required=True)

    run = commands.add_parser("assess", help="run a suite on a table / 运行质量评估", epilog=_EXAMPLE)
    run.add_argument(
        "--table", type=Path, required=True, help="CSV (UTF-8, GB18030), Parquet, Excel or connection TOML"
    )
    run.add_argument("--suite", type=Path, required=True, help="suite JSON")
    run.add_argument("--out", type=Path, required=True, help="folder for report.json and the pages")
    run.add_argument("--profile", type=Path, help="weights and thresholds, JSON")
    run.add_argument("--reference", action="append", default=[], help="RESOURCE=FILE of another table, repeatable")
    run.add_argument("--previous", type=Path, help="report.json of the delivery before")
    run.add_argument("--delivered-at", type=_moment, help="ISO time of the delivery; the file's time if not given")
    run.add_argument("--now", type=_moment, help="ISO time of the run")
    for flag in ("resource", "resource-version", "title-zh", "title-en", "owner", "node"):
        run.add_argument(f"--{flag}", default="", help=f"{flag} printed in the report")
    run.set_defaults(run=_assess)

    batch = commands.add_parser("batch", help="argument lists of assess as JSON on standard input / 批量评估")
    batch.set_defaults(run=_batch)

    draft = commands.add_parser("suggest", help="draft a suite from a table / 起草规则集")
    draft.add_argument("--table", type=Path, required=True)
    draft.add_argument("--name", default="", help="suite name, usually the catalogue id")
    draft.add_argument("--out", type=Path, help="file to write; standard output if not given")
    draft.set_defaults(run=_suggest)

    page = commands.add_parser("report", help="draw the pages of a report JSON / 生成报告页面")
    page.add_argument("report", type=Path)
    page.add_argument("--out", type=Path, required=True)
    page.add_argument("--pdf", action="store_true", help="also PDF in both languages (extra `reports`)")
    page.set_defaults(run=_report)

    for command in (run, draft):
        command.add_argument("--inner-table", default="", help="table of the database, or sheet of the workbook")
        command.add_argument("--encoding", choices=("auto", "utf-8", "gb18030"), default="auto")
    for command in (run, draft, page):
        command.add_argument("--json", action="store_true", help="print one JSON object")
    return parser
