"""Measurement of the log: durable appends a second, and proofs from a large tree.

The statements are signed beforehand; what is measured is what the log does: checking each
signature, writing, syncing, signing a checkpoint for every batch. The large tree is built
without syncing, since only reading it is measured.
"""

import os
import random
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from factory.bench.measure import Meter, percentile

ROWS = 20_000
TREE_ENTRIES = 1_000_000
PROOFS = 2_000
_STATEMENT_BYTES = 1_500


def run(*, rows: int | None = None, tree_entries: int = TREE_ENTRIES) -> dict[str, Any]:
    """Measure and return the object that ``shufang bench log --json`` prints.

    Args:
        rows: statements to append.
        tree_entries: size of the tree that proofs are read from.
    """
    count = ROWS if rows is None else rows
    with tempfile.TemporaryDirectory(prefix="bench-log-") as folder:
        per_s, meter = _append(Path(folder) / "appended", count)
        times_ms = _prove(Path(folder) / "large", tree_entries)
    return {
        "name": "log",
        "work": (
            f"append {count} signed statements of about {_STATEMENT_BYTES} bytes in fsynced batches of up to 256; "
            f"then {len(times_ms)} inclusion proofs at random places of a tree of {tree_entries} entries"
        ),
        **meter.cost.as_json(),
        "per_s": round(per_s, 1),
        "tree_entries": tree_entries,
        "p50_ms": round(percentile(times_ms, 0.5), 4),
        "p95_ms": round(percentile(times_ms, 0.95), 4),
    }


def _append(folder: Path, count: int) -> tuple[float, Meter]:
    from cryptography.hazmat.primitives.asymmetric import ec

    from factory.log.home import LogHome
    from factory.log.log import Log, Submission
    from nodes.contract import canonical
    from nodes.contract.signing import SigningKey, sign
    from nodes.contract.statement import PAYLOAD_TYPE

    now = datetime.now(UTC)
    home = LogHome.create(folder, operator="bench")
    home.prepare(now.year)
    key = SigningKey(ec.generate_private_key(ec.SECP256R1()))
    filling = "x" * _STATEMENT_BYTES
    items = [
        Submission(
            sign(key, PAYLOAD_TYPE, canonical.dumps({"number": number, "filling": filling})).to_bytes(), key.public.spki
        )
        for number in range(count)
    ]
    with Log.open(home, now=now) as log, Meter({"operator": os.getpid()}) as meter:
        began = time.perf_counter()
        log.append(items)
        took_s = time.perf_counter() - began
    return count / took_s, meter


def _prove(folder: Path, entries: int) -> list[float]:
    from factory.log.files import DurableFiles
    from factory.log.home import LogHome
    from factory.log.log import Log

    class UnsyncedFiles(DurableFiles):
        """Writes without waiting for the disk; for building the tree to read from."""

        def write_synced(self, path: Path, data: bytes) -> None:
            path.write_bytes(data)

        def sync_folder(self, folder: Path) -> None:
            """Do nothing."""

    now = datetime.now(UTC)
    home = LogHome.create(folder, operator="bench")
    home.prepare(now.year)
    choose = random.Random(20260101)  # noqa: S311 - places to measure, not a secret
    with Log.open(home, now=now, files=UnsyncedFiles()) as log:
        for start in range(0, entries, 2**16):
            log.append_entries([b"entry %d" % number for number in range(start, min(entries, start + 2**16))])
        times_ms = []
        for _ in range(PROOFS):
            index = choose.randrange(entries)
            began = time.perf_counter()
            log.prove(index)
            times_ms.append((time.perf_counter() - began) * 1000)
    return times_ms
