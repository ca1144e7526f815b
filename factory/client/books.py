"""What an application unit keeps of its own verifications: keys of its programs, calls, receipts, alarms.

One SQLite file in the unit's home, mode 0600, every change durable before it is answered.

Keys are 32 random bytes, shown once and kept as SHA-256 digests, bound to a purpose and a
quota. A call with an ``Idempotency-Key`` that was answered before is answered again and asks
the department nothing.

Privacy:
    Asked records are not kept. Answers are kept only under an idempotency key, for a day,
    beside a digest of the body. Receipts hold two signatures and numbers.
"""

import base64
import hashlib
import json
import secrets
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

from factory.client.match import Receipt
from factory.errors import FactoryError
from nodes.contract.signing import Envelope

FILE = "client.db"
ANSWERS_KEPT = timedelta(days=1)
_PREFIX = "sfc_"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS keys (
  name TEXT PRIMARY KEY, digest TEXT NOT NULL UNIQUE, purpose TEXT NOT NULL, quota_day INTEGER NOT NULL,
  made_at TEXT NOT NULL, state TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS calls (
  at TEXT NOT NULL, day TEXT NOT NULL, key_name TEXT NOT NULL, session TEXT NOT NULL, purpose TEXT NOT NULL,
  records INTEGER NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS calls_by_day ON calls (key_name, day);
CREATE TABLE IF NOT EXISTS answers (
  key_name TEXT NOT NULL, idempotency_key TEXT NOT NULL, body_sha256 TEXT NOT NULL, answer TEXT NOT NULL,
  at TEXT NOT NULL, PRIMARY KEY (key_name, idempotency_key)) STRICT;
CREATE TABLE IF NOT EXISTS receipts (
  at TEXT NOT NULL, session TEXT NOT NULL, asked TEXT NOT NULL, answered TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS alarms (
  at TEXT NOT NULL, key_name TEXT NOT NULL, kind TEXT NOT NULL, facts TEXT NOT NULL) STRICT;
"""


class ProgramKeyError(FactoryError):
    """The key is not one of this unit's, was revoked, or may not be used now."""

    code: ClassVar[str] = "client.key"


class KeyHeldError(FactoryError):
    """The key is held after an alarm."""

    code: ClassVar[str] = "client.key_held"


class PurposeError(FactoryError):
    """The call is for another purpose than the key, or the grant."""

    code: ClassVar[str] = "client.purpose"


class QuotaError(FactoryError):
    """The key's records of the day are used up."""

    code: ClassVar[str] = "client.quota"


class IdempotencyError(FactoryError):
    """The idempotency key was used for another body."""

    code: ClassVar[str] = "client.idempotency"


@dataclass(frozen=True, slots=True)
class ProgramKey:
    """One key of a program of the application unit.

    Attributes:
        name: chosen by the unit.
        purpose: the only purpose it may be used for.
        quota_day: most records a day (UTC).
        made_at: when.
        state: ``active``, ``held`` (after an alarm) or ``revoked``.
        used_today: records asked today.
    """

    name: str
    purpose: str
    quota_day: int
    made_at: str
    state: str
    used_today: int


class Books:
    """The file, open; safe to use from several threads."""

    def __init__(self, home: Path) -> None:
        """Open, and lay out if new, the books in a unit's home."""
        path = home / FILE
        path.touch(mode=0o600, exist_ok=True)
        path.chmod(0o600)
        self._lock = threading.RLock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def add_key(self, name: str, *, purpose: str, quota_day: int, now: datetime) -> str:
        """Make a key and return it; it is shown this once.

        Raises:
            ProgramKeyError: there is a key of this name.
        """
        secret = _PREFIX + secrets.token_urlsafe(32)
        row = (name, _digest(secret), purpose, quota_day, _text(now), "active")
        try:
            with self._transaction() as db:
                db.execute("INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?)", row)
        except sqlite3.IntegrityError as error:
            raise ProgramKeyError(
                f"expected a new name, there is a key {name}; revoke it, or choose another"
            ) from error
        return secret

    def set_state(self, name: str, state: str) -> None:
        """Revoke, hold or release a key; a revoked one stays revoked.

        Raises:
            ProgramKeyError: there is none of this name, or it is revoked.
        """
        with self._transaction() as db:
            changed = db.execute("UPDATE keys SET state = ? WHERE name = ? AND state <> 'revoked'", (state, name))
            if changed.rowcount != 1:
                raise ProgramKeyError(f"expected a key {name} that is not revoked; list them: shufang client key list")

    def keys(self, *, now: datetime) -> list[ProgramKey]:
        """Return the keys by name."""
        rows = self._rows(
            "SELECT name, purpose, quota_day, made_at, state, "
            "(SELECT COALESCE(SUM(records), 0) FROM calls WHERE key_name = name AND day = ?) FROM keys ORDER BY name",
            _day(now),
        )
        return [ProgramKey(*row) for row in rows]

    def admit(self, secret: str, *, purpose: str, granted: str, now: datetime) -> ProgramKey:
        """Return the key of a call, if it may be used for this purpose now.

        Args:
            secret: as presented.
            purpose: what the call says it is for.
            granted: purpose of the grant.
            now: clock.

        Raises:
            ProgramKeyError, KeyHeldError, PurposeError: it may not.
        """
        found = self._rows("SELECT name FROM keys WHERE digest = ? AND state <> 'revoked'", _digest(secret))
        key = next((key for key in self.keys(now=now) if found and key.name == found[0][0]), None)
        if key is None:
            raise ProgramKeyError("expected a key of this service in the header Authorization: Bearer …")
        if key.state == "held":
            raise KeyHeldError(f"the key {key.name} is held after an alarm; see: shufang client alarms")
        if not purpose == key.purpose == granted:
            raise PurposeError(f"expected the purpose {key.purpose} of key {key.name}, which the grant names too")
        return key

    def count(self, key: ProgramKey, records: int, *, session: str, now: datetime) -> None:
        """Book a call before it is made.

        Raises:
            QuotaError: it is more than what is left of the day.
        """
        with self._transaction() as db:
            used = db.execute(
                "SELECT COALESCE(SUM(records), 0) FROM calls WHERE key_name = ? AND day = ?", (key.name, _day(now))
            ).fetchone()[0]
            if used + records > key.quota_day:
                raise QuotaError(f"expected at most {key.quota_day - used} more records of key {key.name} today")
            db.execute(
                "INSERT INTO calls VALUES (?, ?, ?, ?, ?, ?)",
                (_text(now), _day(now), key.name, session, key.purpose, records),
            )

    def usage(self) -> list[dict[str, Any]]:
        """Return calls and records by day, key and purpose."""
        rows = self._rows(
            "SELECT day, key_name, purpose, COUNT(*), SUM(records) FROM calls "
            "GROUP BY day, key_name, purpose ORDER BY day, key_name"
        )
        return [dict(zip(("day", "key", "purpose", "calls", "records"), row, strict=True)) for row in rows]

    def answered(self, key: ProgramKey, idempotency_key: str, body_sha256: str, *, now: datetime) -> Any | None:
        """Return the answer that was given to the same call before, if any.

        Raises:
            IdempotencyError: the key was used with another body.
        """
        with self._transaction() as db:
            db.execute("DELETE FROM answers WHERE at < ?", (_text(now - ANSWERS_KEPT),))
        rows = self._rows(
            "SELECT body_sha256, answer FROM answers WHERE key_name = ? AND idempotency_key = ?",
            key.name,
            idempotency_key,
        )
        if not rows:
            return None
        if rows[0][0] != body_sha256:
            raise IdempotencyError("expected the same body under the same Idempotency-Key; choose a new one")
        return json.loads(rows[0][1])

    def keep_answer(
        self, key: ProgramKey, idempotency_key: str, body_sha256: str, answer: Mapping[str, Any], *, now: datetime
    ) -> None:
        """Keep an answer for a day."""
        row = (key.name, idempotency_key, body_sha256, json.dumps(answer, ensure_ascii=False), _text(now))
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?)", row)

    def keep_receipt(self, receipt: Receipt, *, session: str, now: datetime) -> None:
        """Keep both signatures under one batch."""
        row = (_text(now), session, _b64(receipt.asked), _b64(receipt.answered))
        with self._transaction() as db:
            db.execute("INSERT INTO receipts VALUES (?, ?, ?, ?)", row)

    def receipts(self) -> list[Receipt]:
        """Return all receipts, oldest first."""
        rows = self._rows("SELECT asked, answered FROM receipts ORDER BY rowid")
        return [Receipt(*(Envelope.from_bytes(base64.b64decode(text)) for text in row)) for row in rows]

    def alarm(self, key_name: str, kind: str, facts: Mapping[str, int], *, now: datetime) -> None:
        """Record an alarm and hold the key."""
        with self._transaction() as db:
            db.execute("INSERT INTO alarms VALUES (?, ?, ?, ?)", (_text(now), key_name, kind, json.dumps(facts)))
            db.execute("UPDATE keys SET state = 'held' WHERE name = ? AND state = 'active'", (key_name,))

    def alarms(self) -> list[dict[str, Any]]:
        """Return all alarms, oldest first."""
        rows = self._rows("SELECT at, key_name, kind, facts FROM alarms ORDER BY rowid")
        return [{"at": at, "key": name, "kind": kind, "facts": json.loads(facts)} for at, name, kind, facts in rows]

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def _rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._db.execute(query, values).fetchall()


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def _b64(envelope: Envelope) -> str:
    return base64.b64encode(envelope.to_bytes()).decode("ascii")


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def _day(moment: datetime) -> str:
    return moment.astimezone(UTC).date().isoformat()
