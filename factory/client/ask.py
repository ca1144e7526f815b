"""Ask a file of questions as an application unit: ``python -m factory.client.ask``; also ``shufang client ask``.

    --home DIR --invitation FILE --relay URL --records FILE      CSV with a header, or JSON lines

Prints one JSON object: ``asked``, ``matches`` (true or false per record, in order), ``p50_ms``, ``p95_ms``
per question, ``bytes_sent``, ``bytes_received``.

Privacy:
    Records and answers stay in this process and in what it prints to its own unit.
"""

import argparse
import csv
import io
import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from factory.client.match import Invitation, Matcher, RecordError
from factory.errors import FactoryError
from factory.hub.relay_bus import RelayBus
from factory.identity import load_identity
from factory.site.operator import relay_plane
from factory.trust import load_trust
from nodes.contract.errors import ContractError


def read_records(path: Path) -> list[dict[str, str]]:
    """Read questions from a CSV with a header or from JSON lines.

    Raises:
        RecordError: no such file, not UTF-8, or a line that is no record of texts.
    """
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"expected questions in UTF-8 at {path} ({type(error).__name__})") from error
    if path.suffix == ".csv":
        return [{str(key): value or "" for key, value in row.items()} for row in csv.DictReader(io.StringIO(text))]
    records = []
    for number, line in enumerate(filter(None, text.splitlines()), start=1):
        try:
            value = json.loads(line)
        except ValueError as error:
            raise RecordError(f"expected JSON in line {number} of {path.name}") from error
        if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
            raise RecordError(f"expected an object of texts in line {number} of {path.name}")
        records.append(value)
    return records


def ask_file(home: Path, invitation: Path, relay: str, records: Path) -> dict[str, Any]:
    """Ask every record, one at a time, and return answers and times; see the module text.

    Raises:
        FactoryError: the invitation, a record or the node's answer is not in order, or the node refuses.
    """
    questions = read_records(records)
    identity = load_identity(home)
    bus = RelayBus(identity.id, relay_plane(identity, relay))
    try:
        matcher = Matcher(
            client=identity.id,
            key=identity.key,
            sealing_key=identity.sealing_key,
            actors=load_trust(identity.trust_path, now=datetime.now(UTC)).actors,
            bus=bus,
            invitation=Invitation.from_bytes(invitation.read_bytes()),
        )
        matches, times = [], []
        for question in questions:
            begun = time.perf_counter()
            matches += matcher.ask([question])
            times.append(time.perf_counter() - begun)
    finally:
        bus.close()
    ranked = sorted(times) or [0.0]
    return {
        "asked": len(matches),
        "matches": matches,
        "p50_ms": round(1000 * ranked[len(ranked) // 2]),
        "p95_ms": round(1000 * ranked[min(len(ranked) - 1, int(0.95 * len(ranked)))]),
        "bytes_sent": matcher.bytes_sent,
        "bytes_received": matcher.bytes_received,
    }


def main() -> int:
    """Run; see the module text."""
    parser = argparse.ArgumentParser(prog="python -m factory.client.ask", description="Ask a file of questions.")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--invitation", type=Path, required=True)
    parser.add_argument("--relay", required=True, help="https://host:port")
    parser.add_argument("--records", type=Path, required=True, help="CSV or JSON lines")
    options = parser.parse_args()
    try:
        result = ask_file(options.home, options.invitation, options.relay, options.records)
    except (FactoryError, ContractError, OSError) as error:
        sys.stderr.write(f"{getattr(error, 'code', 'client.file')}: {error}\n")
        return 1
    sys.stdout.write(json.dumps(result) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
