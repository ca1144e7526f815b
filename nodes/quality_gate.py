"""The quality gate: run a suite in a process of its own, sign the report, set the resource's state.

A resource takes part in runs only while its last report passed, its table is not older than its
update frequency, and its content is the content that was assessed. A failed critical rule holds it;
after the table is put right a new run brings it back. Both are in the ledger.

Privacy: the report is ``quality``'s vetted projection (rates and counts above the limit); the
exact counts stay in the node's folder.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from nodes import tables
from nodes.books import Books, ResourceRecord, ResourceState
from nodes.catalogue_entries import CatalogueEntry, file_name
from nodes.contract import canonical
from nodes.contract.errors import ContractError
from nodes.contract.signing import Envelope, sha256_hex, sign
from nodes.contract.statement import time_text
from nodes.errors import QualityGateError, TableError
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
    suite = suite_path(settings, entry.id)
    if not suite.is_file():
        raise QualityGateError(
            f"expected a suite {suite}; draft one with `shufang-node quality suggest {entry.id}` and check it"
        )
    value, mark, delivered = _content(entry, settings, keys.commitment, delivered_at)
    folder = settings.home / "quality" / file_name(entry.id).removesuffix(".toml")
    answer = _assess(entry, suite, folder, settings=settings, delivered_at=delivered)
    report_bytes = _report_bytes(answer)
    report = canonical.loads(report_bytes)
    before = books.resource(entry.id)
    fresh_until = delivered + timedelta(days=entry.update_frequency_days) if delivered else None
    holds = tuple((str(hold["code"]), str(hold["about"])) for hold in answer.get("holds", ()))
    findings = tuple(str(code) for code in answer.get("findings", ()))
    state, reason = _state(str(answer["verdict"]), holds, findings, fresh_until, now)
    total = answer["total_x100"]
    if value and value != _content(entry, settings, keys.commitment, delivered_at)[0]:
        raise QualityGateError(f"expected the table of {entry.id} to rest during the run, it changed; run again")
    record = ResourceRecord(
        resource=entry.id,
        version=entry.version,
        state=state,
        reason=reason,
        schema_sha256=entry.schema_sha256,
        commitment=value,
        fingerprint=mark,
        score_x100=total if isinstance(total, int) else None,
        grade=str(answer["grade"] or ""),
        report_sha256=sha256_hex(report_bytes),
        suite_sha256=_digest_of(report),
        assessed_at=now,
        fresh_until=fresh_until,
    )
    envelope = sign(keys.statement, REPORT_TYPE, report_bytes).to_bytes()
    kind = f"resource.{state}" if before is None or before.state != state else "resource.assessed"
    books.keep_resource(record, kind=kind, report=envelope)
    return GateResult(record, before, folder, findings, holds)


def read_report(envelope: bytes) -> dict[str, Any]:
    """Return the report inside one of this node's own signed envelopes.

    Raises:
        QualityGateError: not such an envelope.
    """
    try:
        return dict(canonical.loads(Envelope.from_bytes(envelope).payload))
    except ContractError as error:
        raise QualityGateError("expected a signed quality report in the books") from error


def suggest_suite(entry: CatalogueEntry, *, settings: NodeSettings) -> Path:
    """Draft a suite from the table and return its path; an existing one stays.

    Raises:
        QualityGateError: there is a suite already, or the engine cannot draft one.
    """
    target = suite_path(settings, entry.id)
    if target.exists():
        raise QualityGateError(f"expected no suite yet, {target} is there; edit it")
    target.parent.mkdir(parents=True, exist_ok=True)
    _engine(
        [
            "suggest",
            "--table",
            str(entry.path_in(settings.home)),
            "--encoding",
            entry.storage.encoding,
            "--name",
            entry.id,
            "--out",
            str(target),
            "--json",
        ]
    )
    return target


def _content(
    entry: CatalogueEntry, settings: NodeSettings, key: bytes, delivered_at: datetime | None
) -> tuple[str, str, datetime | None]:
    try:
        value = tables.commitment(entry, settings.home, key)
        return value, tables.fingerprint(entry, settings.home), delivered_at or tables.modified_at(entry, settings.home)
    except TableError:
        return "", "", delivered_at  # the engine reports a missing or broken table as a finding


def _assess(
    entry: CatalogueEntry, suite: Path, folder: Path, *, settings: NodeSettings, delivered_at: datetime | None
) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    arguments = [
        "assess", "--table", str(entry.path_in(settings.home)), "--suite", str(suite), "--out", str(folder), "--json",
        "--encoding", entry.storage.encoding, "--resource", entry.id, "--resource-version", str(entry.version),
        "--title-zh", entry.name_zh, "--title-en", entry.name_en, "--owner", entry.owner, "--node", settings.id,
    ]  # fmt: skip
    if delivered_at is not None:
        arguments += ["--delivered-at", time_text(delivered_at)]
    previous = folder / "report.json"
    if previous.is_file():
        arguments += ["--previous", str(previous)]
    return _engine(arguments)


def _engine(arguments: list[str]) -> dict[str, Any]:
    try:
        done = subprocess.run(
            # -P: a home has a folder named `quality` too, and the user may stand in it.
            [sys.executable, "-P", "-m", "quality", *arguments],
            capture_output=True,
            timeout=RUN_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise QualityGateError(f"expected the quality engine to run ({type(error).__name__})") from None
    if done.returncode not in {0, 1}:
        # Only the engine's own coded sentence is passed on; a trace could quote a row.
        last = done.stderr.decode("utf-8", errors="replace").strip().rsplit("\n", 1)[-1]
        told = last if last.startswith("quality.") else f"exit code {done.returncode}"
        raise QualityGateError(f"expected a quality report: {told}")
    try:
        answer = json.loads(done.stdout.decode("utf-8").strip().rsplit("\n", 1)[-1])
    except ValueError:
        raise QualityGateError("expected the quality engine to print its answer as JSON") from None
    if not isinstance(answer, dict):
        raise QualityGateError("expected the quality engine to print one JSON object")
    return answer


def _report_bytes(answer: dict[str, Any]) -> bytes:
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
