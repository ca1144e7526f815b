"""What a witness remembers: whom it watches, what it cosigned, and evidence of misbehaviour.

One SQLite file, written with full durability: a cosignature leaves the witness only after
its checkpoint is recorded.
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from products.errors import ProductError
from products.log import SIGNATURE_TYPE, Checkpoint, NoteKey, SignedCheckpoint

EVIDENCE_MAX = 1_000
"""Kept requests per log and kind, so that a flood fills no disk. Only the log can make a ``fork``, anybody can send a
wrong proof or an old checkpoint: those must not take the room of a fork."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS log (vkey TEXT PRIMARY KEY, origin TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS cosigned (
    origin TEXT NOT NULL, size INTEGER NOT NULL, root BLOB NOT NULL, note BLOB NOT NULL, time_s INTEGER NOT NULL,
    PRIMARY KEY (origin, size)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS evidence (
    sha256 BLOB PRIMARY KEY, origin TEXT NOT NULL, kind TEXT NOT NULL, time_s INTEGER NOT NULL,
    request BLOB NOT NULL, held BLOB NOT NULL
);
"""


@dataclass(frozen=True, slots=True)
class Held:
    """The latest checkpoint of a log that the witness cosigned.

    Attributes:
        checkpoint: the tree head.
        note: with the log's signature, as received.
        time_s: time of the last cosignature, seconds since 1970-01-01 UTC.
    """

    checkpoint: Checkpoint
    note: bytes
    time_s: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """A signed request that contradicts what the witness holds.

    Attributes:
        origin: the log.
        kind: ``fork`` (another tree of the same size: proof against the log), ``unproven`` (a larger tree with a proof
            that does not hold) or ``rollback`` (a smaller tree); the last two anybody can cause with a true checkpoint.
        time_s: when it came.
        request: the request as received, with the log's signature.
        held: the checkpoint that it contradicts, with the log's signature.
    """

    origin: str
    kind: str
    time_s: int
    request: bytes
    held: bytes


class WitnessStore:
    """The witness's database. Used by many threads, one at a time."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, isolation_level=None, timeout=10, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.executescript(_SCHEMA)
        path.chmod(0o600)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the store over one decision, also against other processes."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def watch(self, key: NoteKey) -> None:
        """Accept checkpoints of this log from now on.

        Raises:
            ValueError: not the key of a log.
        """
        if key.kind != SIGNATURE_TYPE:
            raise ValueError("expected the key of a log (type 0x01)")
        with self._lock:
            self._db.execute("INSERT OR IGNORE INTO log VALUES (?, ?)", (key.vkey, key.name))

    def keys_of(self, origin: str) -> list[NoteKey]:
        """Return the keys of a log that the witness watches."""
        rows = self._db.execute("SELECT vkey FROM log WHERE origin = ?", (origin,)).fetchall()
        return [NoteKey.from_vkey(vkey) for (vkey,) in rows]

    def held(self, origin: str) -> Held | None:
        """Return the latest checkpoint that was cosigned for this log."""
        row = self._db.execute(
            "SELECT size, root, note, time_s FROM cosigned WHERE origin = ? ORDER BY size DESC LIMIT 1", (origin,)
        ).fetchone()
        return Held(Checkpoint(origin, row[0], bytes(row[1])), bytes(row[2]), row[3]) if row else None

    def record(self, note: SignedCheckpoint, *, time_s: int) -> None:
        """Record a checkpoint as cosigned. Within ``exclusive``."""
        head = note.checkpoint
        self._db.execute(
            "INSERT INTO cosigned VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (origin, size) DO UPDATE SET time_s = excluded.time_s",
            (head.origin, head.size, head.root, note.to_bytes(), time_s),
        )

    def keep(self, evidence: Evidence, *, sha256: bytes) -> None:
        """Keep evidence, unless there is much of its kind already. Within ``exclusive``."""
        (count,) = self._db.execute(
            "SELECT count(*) FROM evidence WHERE origin = ? AND kind = ?", (evidence.origin, evidence.kind)
        ).fetchone()
        if count < EVIDENCE_MAX:
            self._db.execute(
                "INSERT OR IGNORE INTO evidence VALUES (?, ?, ?, ?, ?, ?)",
                (sha256, evidence.origin, evidence.kind, evidence.time_s, evidence.request, evidence.held),
            )

    def evidence(self) -> list[Evidence]:
        """Return all evidence, oldest first."""
        rows = self._db.execute(
            "SELECT origin, kind, time_s, request, held FROM evidence ORDER BY time_s, sha256"
        ).fetchall()
        return [Evidence(*row) for row in rows]

    def close(self) -> None:
        """Close the database."""
        self._db.close()


def checked(note: SignedCheckpoint, keys: list[NoteKey]) -> SignedCheckpoint | None:
    """Return the note with the one line that verifies under a known key, or None."""
    known = {(key.name, key.key_id): key for key in keys}
    for line in note.lines:
        key = known.get((line.name, line.key_id))
        if key is None:
            continue
        try:
            key.verify(line.signature, note.checkpoint.body)
        except ProductError:
            continue
        return SignedCheckpoint(note.checkpoint, (line,))
    return None
