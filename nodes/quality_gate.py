"""The quality gate: run a suite in a process of its own, sign the report, set the resource's state.

A resource takes part in runs only while its last report passed, its table is not older than its
update frequency, and its content is the content that was assessed. A failed critical rule holds it;
after the table is put right a new run brings it back. Both are in the ledger.

Privacy: the report is ``quality``'s vetted projection (rates and counts above the limit); the
exact counts stay in the node's folder.
"""

import base64
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from nodes import tables, tickets
from nodes.books import Books, ResourceRecord, ResourceState
from nodes.catalogue_entries import CatalogueEntry, file_name, read_catalogue
from nodes.contract import canonical
from nodes.contract.errors import ContractError
from nodes.contract.signing import Envelope, sha256_hex, sign
from nodes.contract.statement import time_text
from nodes.errors import QualityGateError, StorageError, TableError
from nodes.keys import NodeKeys
from nodes.settings import NodeSettings

REPORT_TYPE = "application/vnd.shufang.quality-report.v1+json"
RUN_TIMEOUT_S = 1800.0


@dataclass(frozen=True, slots=True)
class GateResult:
    """What a quality run led to.

    Attributes:
        record: the resource's state now.
        before: its state before, or None for the first run.
        folder: report, pages and exact counts; stays at the node.
        findings: codes of what is wrong with the table.
        holds: what holds it back, as code and subject.
    """

    record: ResourceRecord
    before: ResourceRecord | None
    folder: Path
    findings: tuple[str, ...]
    holds: tuple[tuple[str, str], ...]


def suite_path(settings: NodeSettings, resource: str) -> Path:
    """Return where the suite of a resource is kept."""
    return settings.home / "suites" / file_name(resource).replace(".toml", ".json")


def run_quality(
    entry: CatalogueEntry,
    *,
    settings: NodeSettings,
    keys: NodeKeys,
    books: Books,
    now: datetime,
    delivered_at: datetime | None = None,
) -> GateResult:
    """Assess one resource and put the outcome in force.

    Args:
        entry: its catalogue entry.
        settings: of the node.
        keys: signs the report and commits to the content.
        books: keep state, report and ledger entry.
        now: the node's clock.
        delivered_at: when the table was delivered; its file's time if not given.

    Raises:
        QualityGateError: no suite, or the quality engine did not give a report.
        StorageError: the disk refused; the state is as before.
    """
    done = run_quality_of_many([entry], settings=settings, keys=keys, books=books, now=now, delivered_at=delivered_at)[
        entry.id
    ]
    if isinstance(done, QualityGateError):
        raise done
    return done


def run_quality_of_many(
    entries: Sequence[CatalogueEntry],
    *,
    settings: NodeSettings,
    keys: NodeKeys,
    books: Books,
    now: datetime,
    delivered_at: datetime | None = None,
) -> dict[str, GateResult | QualityGateError]:
    """Assess several resources in one engine process and put each outcome in force.

    One resource that cannot be assessed does not keep the others from it: its error is its result.

    Args:
        entries: catalogue entries.
        settings: of the node.
        keys: sign the reports and commit to the content.
        books: keep states, reports and ledger entries.
        now: the node's clock.
        delivered_at: when the tables were delivered; each file's time if not given.

    Returns:
        By resource, in the sequence of ``entries``.

    Raises:
        StorageError: the disk refused; states not yet written are as before.
    """
    done: dict[str, GateResult | QualityGateError] = {}
    jobs: list[tuple[CatalogueEntry, _Before]] = []
    for entry in entries:
        suite = suite_path(settings, entry.id)
        done[entry.id] = QualityGateError(
            f"expected a suite {suite}; draft one with `shufang-node quality suggest {entry.id}` and check it"
        )
        if suite.is_file():
            jobs.append((entry, _content(entry, settings, keys.commitment, delivered_at)))
    answers = _engine_batch([_job(entry, before.delivered_at, settings, now) for entry, before in jobs])
    for (entry, before), answer in zip(jobs, answers, strict=True):
        try:
            done[entry.id] = _put_in_force(
                entry, before, answer, settings=settings, keys=keys, books=books, now=now, delivered_at=delivered_at
            )
        except QualityGateError as error:
            done[entry.id] = error
    return done


def _put_in_force(
    entry: CatalogueEntry,
    content: "_Before",
    answer: dict[str, Any],
    *,
    settings: NodeSettings,
    keys: NodeKeys,
    books: Books,
    now: datetime,
    delivered_at: datetime | None,
) -> GateResult:
    report = canonical.loads(_report_bytes(answer))
    folder = settings.home / "quality" / _folder(entry)
    before = books.resource(entry.id)
    delivered = content.delivered_at
    fresh_until = min(delivered, now) + timedelta(days=entry.update_frequency_days) if delivered else None
    holds = tuple((str(hold["code"]), str(hold["about"])) for hold in answer.get("holds", ()))
    findings = tuple(str(code) for code in answer.get("findings", ()))
    state, reason = _state(str(answer["verdict"]), holds, findings, fresh_until, now)
    if content.commitment and content.commitment != _content(entry, settings, keys.commitment, delivered_at).commitment:
        raise QualityGateError(f"expected the table of {entry.id} to rest during the run, it changed; run again")
    outcomes = _outcomes(report)
    with books.transaction():
        changes = tickets.after_run(
            tickets.read(books), entry.id, outcomes, passed=state == "active", today=tickets.day_of(now)
        )
        whole = _with_orders(report, entry.id, changes, books, now)
        report_bytes = canonical.dumps(whole)
        record = _record_of(entry, content, answer, report, report_bytes, state, reason, now, fresh_until)
        tickets.record_changes(books, changes, report_sha256=record.report_sha256)
        envelope = sign(keys.statement, REPORT_TYPE, report_bytes).to_bytes()
        _draw(folder, whole, envelope)
        kind = f"resource.{state}" if before is None or before.state != state else "resource.assessed"
        books.keep_resource(record, kind=kind, report=envelope)
    return GateResult(record, before, folder, findings, holds)


def _record_of(  # noqa: PLR0917 - one after the other what a record is made of
    entry: CatalogueEntry,
    content: "_Before",
    answer: dict[str, Any],
    report: dict[str, Any],
    report_bytes: bytes,
    state: ResourceState,
    reason: str,
    now: datetime,
    fresh_until: datetime | None,
) -> ResourceRecord:
    total = answer["total_x100"]
    return ResourceRecord(
        resource=entry.id,
        version=entry.version,
        state=state,
        reason=reason,
        schema_sha256=entry.schema_sha256,
        commitment=content.commitment,
        fingerprint=content.fingerprint,
        score_x100=total if isinstance(total, int) else None,
        grade=str(answer["grade"] or ""),
        report_sha256=sha256_hex(report_bytes),
        suite_sha256=_digest_of(report),
        # The report's own time: whoever reads report and resource statement finds the same.
        assessed_at=datetime.fromisoformat(str(report.get("assessed_at", now.isoformat()))),
        fresh_until=fresh_until,
    )


def _outcomes(report: dict[str, Any]) -> list[tickets.RuleOutcome]:
    try:
        return [tickets.RuleOutcome(str(r["id"]), r["severity"], str(r["status"])) for r in report["rules"]]
    except (KeyError, TypeError) as error:
        raise QualityGateError("expected the report to list its rules") from error


def _with_orders(
    report: dict[str, Any], resource: str, changes: tickets.Changes, books: Books, now: datetime
) -> dict[str, Any]:
    """Put the orders, and the day on which the resource was first bound, into the report."""
    from quality.errors import QualityError
    from quality.projection import with_orders

    today = tickets.day_of(now)
    closed = [replace(ticket, state="closed") for ticket in changes.closed]
    orders = [ticket.to_json(today) for ticket in (*changes.kept, *changes.opened, *closed)]
    try:
        return with_orders(report, orders, bound_on=_bound_on(books, resource))
    except QualityError as error:
        raise QualityGateError(f"expected a report of this schema: {error.code}") from error


def _bound_on(books: Books, resource: str) -> str:
    """Return the day of the ledger's first entry that binds the resource; empty if it was laid there by hand."""
    for entry in books.entries():
        if entry.kind == "resource.bound" and entry.facts.get("resource") == resource:
            return tickets.day_of(datetime.fromisoformat(entry.at)).isoformat()
    return ""


def _draw(folder: Path, report: dict[str, Any], envelope: bytes) -> dict[str, Any]:
    """Write report and pages, with what the pages say of the signature."""
    from quality.errors import QualityError
    from quality.pages import write_report

    try:
        return write_report(folder, report, signature=signature_of(envelope))
    except QualityError as error:
        raise QualityGateError(f"{error.code}: {error}") from error
    except OSError as error:
        raise StorageError(f"expected to be able to write {folder} ({error.strerror})") from error


def read_report(envelope: bytes) -> dict[str, Any]:
    """Return the report inside one of this node's own signed envelopes.

    Raises:
        QualityGateError: not such an envelope.
    """
    try:
        return dict(canonical.loads(Envelope.from_bytes(envelope).payload))
    except ContractError as error:
        raise QualityGateError("expected a signed quality report in the books") from error


def signature_of(envelope: bytes) -> dict[str, str]:
    """Return what the pages say of a signature: who signed and the signature itself; both are public."""
    found = Envelope.from_bytes(envelope)
    return {"keyid": found.keyid, "sig": base64.b64encode(found.signature).decode("ascii")}


def write_pages(folder: Path, resource: str, *, books: Books, pdf: bool = False) -> dict[str, Any]:
    """Draw the pages of a resource's last signed report, with its signature, and return their paths.

    Raises:
        QualityGateError: there is no report, it cannot be set, or the extra ``reports`` is not installed.
        StorageError: the disk refused.
    """
    reports = books.reports(resource)
    if not reports:
        raise QualityGateError(f"expected a quality run of {resource}; run `shufang-node quality run {resource}`")
    digest, _, envelope = reports[-1]
    written = _draw(folder, read_report(envelope), envelope)
    return written | (_draw_pdf(folder, envelope, digest) if pdf else {})


def _draw_pdf(folder: Path, envelope: bytes, digest: str) -> dict[str, Any]:
    from quality.errors import QualityError
    from quality.pages import write_pdf

    try:
        return write_pdf(folder, read_report(envelope), sha256=digest, signature=signature_of(envelope))
    except QualityError as error:
        raise QualityGateError(f"{error.code}: {error}") from error
    except OSError as error:
        raise StorageError(f"expected to be able to write {folder} ({error.strerror})") from error


def export_reports(folder: Path, resources: Sequence[str], *, books: Books, pdf: bool = False) -> list[Path]:
    """Write the last signed report of each resource, and its PDF in two languages if asked for.

    Raises:
        QualityGateError: a report cannot be set, or the extra ``reports`` is not installed.
        StorageError: the disk refused.
    """
    written: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for resource in resources:
            for digest, _, envelope in books.reports(resource)[-1:]:
                path = folder / f"{file_name(resource).removesuffix('.toml')}.dsse.json"
                path.write_bytes(envelope)
                written.append(path)
                if pdf:
                    pages = _draw_pdf(folder / path.name.removesuffix(".dsse.json"), envelope, digest)
                    written += map(Path, pages.values())
    except OSError as error:
        raise StorageError(f"expected to be able to write {folder} ({error.strerror})") from error
    return written


def suggest_suite(entry: CatalogueEntry, *, settings: NodeSettings) -> Path:
    """Draft a suite from the table and return its path; an existing one stays.

    Raises:
        QualityGateError: there is a suite already, or the engine cannot draft one.
    """
    target = suite_path(settings, entry.id)
    if target.exists():
        raise QualityGateError(f"expected no suite yet, {target} is there; edit it")
    target.parent.mkdir(parents=True, exist_ok=True)
    _, ended = _engine(
        [
            "suggest",
            "--table",
            str(entry.path_in(settings.home)),
            "--encoding",
            entry.storage.encoding,
            "--inner-table",
            entry.storage.table or entry.storage.sheet,
            "--name",
            entry.id,
            "--out",
            str(target),
            "--json",
        ]
    )
    if ended:
        raise QualityGateError(f"expected a draft of a suite: {ended}")
    return target


def draft_from_file(table: Path, *, resource: str, owner: str, folder: Path) -> tuple[Path, Path]:
    """Draft a catalogue entry and a suite for a file that is not bound yet; neither replaces one that is there.

    Args:
        table: ``.csv`` or ``.parquet``.
        resource: catalogue id to be.
        owner: organisation id.
        folder: where ``<name>.toml`` and ``<name>.suite.json`` go.

    Returns:
        Paths of the entry and of the suite; a person checks both before ``shufang-node bind``.

    Raises:
        QualityGateError: a draft is there already, or the engine cannot make one.
        TableError: the table cannot be read.
        StorageError: the disk refused.
    """
    from nodes.drafting import draft_entry
    from quality.errors import QualityError
    from quality.suite import load

    entry_path, target = folder / f"{table.stem}.toml", folder / f"{table.stem}.suite.json"
    there = [str(path) for path in (entry_path, target) if path.exists()]
    if there:
        raise QualityGateError(f"expected no draft yet, {there[0]} is there; edit it, or draft into another folder")
    entry = draft_entry(table, resource=resource, owner=owner)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        arguments = ["--encoding", entry.storage.encoding, "--name", resource, "--out", str(target), "--json"]
        _, ended = _engine(["suggest", "--table", str(table), *arguments])
        if ended:
            raise QualityGateError(f"expected a draft of a suite: {ended}")
        # One type per column in both: the suite's, which knows codes from numbers.
        types = load(target).columns
        columns = tuple(column.model_copy(update={"type": types[column.name]}) for column in entry.columns)
        entry_path.write_text(entry.model_copy(update={"columns": columns}).to_toml(), encoding="utf-8")
    except QualityError as error:
        raise QualityGateError(f"{error.code}: {error}") from error
    except OSError as error:
        raise StorageError(f"expected to be able to write {folder} ({error.strerror})") from error
    return entry_path, target


@dataclass(frozen=True, slots=True)
class _Before:
    """What a table was before the run; empty when it cannot be read."""

    commitment: str
    fingerprint: str
    delivered_at: datetime | None


def _content(entry: CatalogueEntry, settings: NodeSettings, key: bytes, delivered_at: datetime | None) -> _Before:
    try:
        value = tables.commitment(entry, settings.home, key)
        mark = tables.fingerprint(entry, settings.home)
        return _Before(value, mark, delivered_at or tables.modified_at(entry, settings.home))
    except TableError:
        return _Before("", "", delivered_at)  # the engine reports a missing or broken table as a finding


def _folder(entry: CatalogueEntry) -> str:
    return file_name(entry.id).removesuffix(".toml")


def _job(entry: CatalogueEntry, delivered_at: datetime | None, settings: NodeSettings, now: datetime) -> list[str]:
    """Return the arguments of ``python -m quality assess`` for one resource."""
    folder = settings.home / "quality" / _folder(entry)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    arguments = [
        "--table", str(entry.path_in(settings.home)), "--suite", str(suite_path(settings, entry.id)),
        "--out", str(folder), "--encoding", entry.storage.encoding,
        "--inner-table", entry.storage.table or entry.storage.sheet,
        "--resource", entry.id, "--resource-version", str(entry.version),
        "--title-zh", entry.name_zh, "--title-en", entry.name_en, "--owner", entry.owner, "--node", settings.id,
        "--now", time_text(now),
    ]  # fmt: skip
    if delivered_at is not None:
        arguments += ["--delivered-at", time_text(delivered_at)]
    previous = folder / "report.json"
    if previous.is_file():
        arguments += ["--previous", str(previous)]
    # Weights and thresholds of the department for this resource; printed with the report.
    profile = settings.home / "profiles" / file_name(entry.id).replace(".toml", ".json")
    if profile.is_file():
        arguments += ["--profile", str(profile)]
    for other in read_catalogue(settings.catalogue).values():
        # Files only: a rule between a table and a database is not assessed, and says so.
        if other.id != entry.id and not other.storage.is_database:
            arguments += ["--reference", f"{other.id}={other.path_in(settings.home)}"]
    return arguments


def _engine_batch(jobs: list[list[str]]) -> list[dict[str, Any]]:
    """Return the engine's answer per job; where it ended early, an answer that says so."""
    if not jobs:
        return []
    lines, ended = _engine(["batch"], text=json.dumps(jobs))
    answers: list[dict[str, Any]] = []
    for line in lines[: len(jobs)]:
        try:
            answer = json.loads(line)
        except ValueError:
            break
        answers.append(answer if isinstance(answer, dict) else {})
    return answers + [{"message": ended}] * (len(jobs) - len(answers))


def _engine(arguments: list[str], *, text: str = "") -> tuple[list[str], str]:
    """Run the engine; return the lines it printed and, safe to pass on, how it ended."""
    try:
        done = subprocess.run(
            # -P: a home has a folder named `quality` too, and the user may stand in it.
            [sys.executable, "-P", "-m", "quality", *arguments],
            input=text.encode(),
            capture_output=True,
            timeout=RUN_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise QualityGateError(f"expected the quality engine to run ({type(error).__name__})") from None
    # Only the engine's own coded sentence is passed on; a trace could quote a row.
    last = done.stderr.decode("utf-8", errors="replace").strip().rsplit("\n", 1)[-1]
    ended = last if last.startswith("quality.") else f"exit code {done.returncode}"
    return done.stdout.decode("utf-8", errors="replace").splitlines(), "" if done.returncode in {0, 1} else ended


def _report_bytes(answer: dict[str, Any]) -> bytes:
    if "report" not in answer:
        told = str(answer.get("message") or "")
        raise QualityGateError(f"expected a quality report: {told or 'the engine ended before it'}")
    try:
        content = Path(answer["report"]).read_bytes()
    except (KeyError, OSError) as error:
        raise QualityGateError("expected the quality engine to write its report") from error
    if sha256_hex(content) != answer.get("sha256"):
        raise QualityGateError("expected the report that the quality engine named, its digest differs")
    return content


def _digest_of(report: dict[str, Any]) -> str:
    suite = report.get("suite")
    digest = suite.get("sha256") if isinstance(suite, dict) else None
    if not isinstance(digest, str) or len(digest) != 64:
        raise QualityGateError("expected the report to name its suite by digest")
    return digest


def _state(
    verdict: str,
    holds: tuple[tuple[str, str], ...],
    findings: tuple[str, ...],
    fresh_until: datetime | None,
    now: datetime,
) -> tuple[ResourceState, str]:
    if fresh_until is not None and now >= fresh_until:
        return "stale", "older than its update frequency"
    if verdict == "pass":
        return "active", ""
    told = [f"{code} {about}".strip() for code, about in holds] or list(findings) or [verdict]
    return "held", "; ".join(told[:3])[:300]
