"""Protection grades (等级保护): no node joins without a recorded grade and a test report that is valid (SEC-MLPS).

The agency signs a record per node: grade, digest of the report, who tested, and until when it counts. It lies
in ``protection/<node>.dsse.json`` of the agency's home. A node's keys count no longer than the record they were
admitted on: when the report lapses, the signed list itself ends the node's part, with nobody reachable. New keys
on a new record take it on.

Source:
    Requirement SEC-MLPS (JL-运营实施-1); grades 1 to 5 of GB/T 22239-2019.
"""

from datetime import datetime
from pathlib import Path

from factory.agency.errors import AdmissionRefusedError
from factory.files import write_atomic
from factory.identity import Identity
from nodes.contract.errors import ContractError
from nodes.contract.signing import Envelope, sha256_hex, sign
from nodes.contract.statement import PAYLOAD_TYPE, read, statement, time_text

PROTECTION = "urn:shufang:predicate:protection-grade/v1"
FOLDER = "protection"
GRADES = range(1, 6)


def record_protection(
    agency: Identity,
    node: str,
    *,
    grade: int,
    report: bytes,
    tester: str,
    official: str,
    until: datetime,
    now: datetime,
) -> Path:
    """Record the protection grade of a node and the report that tested it.

    Args:
        agency: who records.
        node: actor id.
        grade: 1 to 5.
        report: the report's bytes; its digest alone is kept.
        tester: body that tested.
        official: who looked at grade and report.
        until: end of what the report shows.
        now: clock.

    Raises:
        AdmissionRefusedError: no such grade, an empty report, nobody named, or an end that has passed.
    """
    if grade not in GRADES or not report or until <= now or not all(t.strip() for t in (node, tester, official)):
        raise AdmissionRefusedError(
            "expected a grade from 1 to 5, a test report with its tester, an official, and an end that lies ahead"
        )
    said = {
        "node": node, "grade": grade, "report_sha256": sha256_hex(report), "tester": tester, "official": official,
        "not_after": time_text(until), "recorded_at": time_text(now),
    }  # fmt: skip
    path = agency.home / FOLDER / f"{sha256_hex(node.encode())[:32]}.dsse.json"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    subject = [(f"node/{node}", sha256_hex(report))]
    write_atomic(path, sign(agency.key, PAYLOAD_TYPE, statement(PROTECTION, subject, said)).to_bytes())
    return path


def protected_until(agency: Identity, node: str, *, now: datetime) -> datetime:
    """Return until when the recorded report of a node counts.

    Raises:
        AdmissionRefusedError: there is no record of this node, or its report has lapsed.
    """
    path = agency.home / FOLDER / f"{sha256_hex(node.encode())[:32]}.dsse.json"
    try:
        _, said = read(Envelope.from_bytes(path.read_bytes()).open(agency.key.public, PAYLOAD_TYPE), PROTECTION)
        until = datetime.fromisoformat(str(said["not_after"]))
        is_this = said["node"] == node and said["grade"] in GRADES
    except (OSError, ContractError, KeyError, ValueError) as error:
        raise AdmissionRefusedError(_missing(node)) from error
    if not is_this:
        raise AdmissionRefusedError(_missing(node))
    if until <= now:
        raise AdmissionRefusedError(
            f"the test report of {node} has lapsed; record a new one with `shufang agency protection`"
        )
    return until


def _missing(node: str) -> str:
    return (
        f"expected the protection grade and test report of {node} before it joins; record them with "
        "`shufang agency protection`"
    )
