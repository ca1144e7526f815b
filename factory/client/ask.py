"""An application unit asks a department, with its own home and in its own process.

``python -m factory.client.ask --home DIR --relay URL --invitation FILE --records FILE``

Records are JSON lines or CSV, one object or row per question, with the fields that the signed
order names. Printed is one JSON object that may go to the operator: how many were asked, how
long an answer took, how many bytes it cost. The answers go to ``--answers FILE`` alone, or,
without it, are printed too.

Privacy:
    Records and answers stay in this process, in the file named by ``--answers`` (mode 0600)
    and on its own output. What leaves is described in ``factory.client.match``.
"""

import argparse
import csv
import io
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from factory.bench.measure import percentile
from factory.client.match import Found, Invitation, Matcher
from factory.errors import FactoryError
from factory.files import write_atomic
from factory.hub.relay_bus import RelayBus
from factory.identity import load_identity
from factory.review import figures
from factory.trust import load_trust
from nodes.contract.errors import ContractError
from nodes.relay_client import RelayPlaneSettings

RECORDS_MAX = 100_000


class RecordsFileError(FactoryError):
    """The file of records cannot be read, or holds none."""

    code: ClassVar[str] = "client.records_file"


def read_records(path: Path) -> list[dict[str, str]]:
    """Read records from JSON lines, or from a CSV with a header line if the name ends in ``.csv``.

    Raises:
        RecordsFileError: not readable in UTF-8 or GB18030, not of this form, or empty.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RecordsFileError(f"expected a file of records at {path} ({error.strerror})") from error
    text = _decoded(content, path.name)
    records = _csv_records(text, path.name) if path.suffix.lower() == ".csv" else _json_records(text, path.name)
    if not 0 < len(records) <= RECORDS_MAX:
        raise RecordsFileError(f"expected 1 to {RECORDS_MAX} records in {path.name}, got {len(records)}")
    return records


def ask(
    matcher: Matcher,
    records: Sequence[Mapping[str, str]],
    *,
    batch: int,
    told: Callable[[int, int], None] = lambda _done, _of: None,
) -> tuple[list[Found], dict[str, int]]:
    """Ask for all records and return the answers, and what may be reported of it.

    Args:
        matcher: asks one department.
        records: one per question.
        batch: how many go in one step; times are per step.
        told: told how many are done, of how many.

    Raises:
        FactoryError: see ``Matcher.ask``.
    """
    answers: list[Found] = []
    times_ms: list[float] = []
    for start in range(0, len(records), batch):
        began = time.perf_counter()
        answers += matcher.look_up(records[start : start + batch])
        times_ms.append((time.perf_counter() - began) * 1000)
        told(len(answers), len(records))
    return answers, {
        "asked": len(answers),
        "p50_ms": round(percentile(times_ms, 0.5)),
        "p95_ms": round(percentile(times_ms, 0.95)),
        "p50_us": round(percentile(times_ms, 0.5) * 1000),
        "p95_us": round(percentile(times_ms, 0.95) * 1000),
        "bytes_sent": matcher.bytes_sent,
        "bytes_received": matcher.bytes_received,
    }


def time_answers(
    matcher: Matcher, records: Sequence[Mapping[str, str]], answers: Sequence[Found], *, rounds: int
) -> dict[str, int]:
    """Ask single records again, hits and misses in turn, and tell whether the times tell them apart.

    Args:
        matcher: asks one department.
        records: asked before.
        answers: to them, in the same order.
        rounds: how many hits, and how many misses, are timed; none if all answers were the same.

    Returns:
        ``timing_auc_micro`` with the ends of its interval: how often a hit takes longer than a miss, or the other way
        round, whichever is more; empty if nothing could be timed.

    Privacy:
        What may be reported is how far two distributions of times overlap, neither a time nor an answer.
    """
    sides = [[r for r, a in zip(records, answers, strict=True) if a.match is match] for match in (True, False)]
    if not all(sides):
        return {}
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 1):
        # The order changes from pair to pair, so that what comes second does not always hit.
        for place in (0, 1) if number % 2 else (1, 0):
            began = time.perf_counter()
            matcher.look_up([sides[place][number % len(sides[place])]])
            if number:  # the first pair warms up
                times[place].append(time.perf_counter() - began)
    figure = max(figures.area_of_values(*times), figures.area_of_values(*reversed(times)), key=lambda f: f.micro)
    return figure.metrics("timing_auc")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Do what the command line asks for.

    Raises:
        FactoryError, ContractError: home, invitation, records or answers are not in order.
    """
    identity = load_identity(options.home)
    now = datetime.now(UTC)
    trust = load_trust(identity.trust_path, now=now)
    try:
        invitation = Invitation.from_bytes(options.invitation.read_bytes())
    except OSError as error:
        raise RecordsFileError(f"expected an invitation at {options.invitation} ({error.strerror})") from error
    records = read_records(options.records)
    plane = RelayPlaneSettings(
        url=options.relay,
        ca_path=identity.ca_path,
        cert_path=identity.tls_certificate_path,
        key_path=identity.tls_key_path,
    )
    bus = RelayBus(identity.id, plane)
    try:
        matcher = Matcher(
            client=identity.id,
            key=identity.key,
            sealing_key=identity.sealing_key,
            actors=trust.actors,
            bus=bus,
            invitation=invitation,
        )
        table_bytes = hold_table(matcher, options.table) if options.table else 0
        answers, facts = ask(matcher, records, batch=options.batch)
        facts["table_bytes"] = table_bytes
        if options.timed:
            facts |= time_answers(matcher, records, answers, rounds=options.timed)
    finally:
        bus.close()
    if options.answers is None:
        return {**facts, "answers": [shown(found) for found in answers]}
    lines = "".join(
        json.dumps({"record": place + 1, **shown(found)}, ensure_ascii=False) + "\n"
        for place, found in enumerate(answers)
    )
    write_atomic(options.answers, lines.encode("utf-8"), mode=0o600)
    return dict(facts)


def hold_table(matcher: Matcher, folder: Path) -> int:
    """Let the matcher hold the whole tag table, kept in ``folder`` under its digest; return the bytes received for it.

    Tables of earlier versions are removed from the folder.

    Raises:
        FactoryError: see ``Matcher.take_table``.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{matcher.table_name}.tags"
    before = matcher.bytes_received
    kept = path.read_bytes() if path.is_file() else None
    table = matcher.take_table(kept)
    if table != kept:
        write_atomic(path, table, mode=0o600)
    for other in folder.glob("*.tags"):
        if other != path:
            other.unlink()
    return matcher.bytes_received - before


def shown(found: Found) -> dict[str, bool | str]:
    """Return an answer as files and commands show it."""
    return {"match": found.match} if found.band is None else {"match": found.match, "band": found.band}


def main() -> int:
    """Ask, and print one JSON object; exit 1 with a message if something is not in order."""
    parser = argparse.ArgumentParser(
        prog="python -m factory.client.ask", description="Ask a department as an application unit."
    )
    parser.add_argument("--home", type=Path, required=True, help="home of the application unit")
    parser.add_argument("--relay", required=True, help="https://host:port of the relay")
    parser.add_argument("--invitation", type=Path, required=True, help="file handed over by the operator")
    parser.add_argument("--records", type=Path, required=True, help="JSON lines, or CSV with a header line")
    parser.add_argument("--answers", type=Path, help="file for the answers, instead of printing them")
    parser.add_argument("--batch", type=int, default=1, choices=range(1, 1001), metavar="N", help="records in one step")
    parser.add_argument(
        "--timed", type=int, default=0, choices=range(1001), metavar="N", help="time N hits and N misses again"
    )
    parser.add_argument(
        "--table", type=Path, metavar="DIR", help="hold the whole tag table, kept here; names no bucket"
    )
    try:
        facts = run(parser.parse_args())
    except (FactoryError, ContractError) as error:
        sys.stderr.write(f"{error.code}: {error}\n")
        return 1
    sys.stdout.write(json.dumps(facts) + "\n")
    return 0


def _decoded(content: bytes, name: str) -> str:
    for encoding in ("utf-8-sig", "gb18030"):
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise RecordsFileError(f"expected {name} in UTF-8 or GB18030; save it again in UTF-8")


def _csv_records(text: str, name: str) -> list[dict[str, str]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        rows = list(reader)
    except csv.Error as error:
        raise RecordsFileError(f"expected {name} as CSV with a header line; check its quoting") from error
    if any(None in row or None in row.values() for row in rows):
        raise RecordsFileError(f"expected as many fields in every line of {name} as in its header")
    return rows


def _json_records(text: str, name: str) -> list[dict[str, str]]:
    records: list[dict[str, str]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except ValueError:
            found = None
        if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
            raise RecordsFileError(f"expected an object of texts in line {number} of {name}")
        records.append(found)
    return records


if __name__ == "__main__":
    sys.exit(main())
