"""The books of a node: ledger, grants, uses, budget, replies and resource states in one SQLite file.

Rules it keeps:

- Everything that happens is an entry of the hash-chained ledger; each entry's digest covers the
  one before it. Every write that goes with an entry is in the entry's transaction, and the
  transaction is on disk (``synchronous=FULL``) before anybody acts on it or hears of it.
- A use of a grant and the order it belongs to are one transaction: counted fully or not at all.
- A request that was answered is answered again with the same bytes; an order's name and
  session are taken for good.

Privacy: entries hold digests, names, codes and counts of messages. No row value, no column value
and no exact row count is ever written.
"""

import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, cast

from nodes.contract import canonical
from nodes.contract.canonical import JsonObject
from nodes.contract.signing import sha256_hex
from nodes.contract.statement import time_text
from nodes.errors import (
    BooksError,
    BudgetExhaustedError,
    OrderReplayedError,
    SelectionTakenError,
    StorageError,
    UsesExhaustedError,
)
from nodes.use_rules import Basis

ZERO_SHA256 = "0" * 64
GrantState = Literal["pending", "approved", "rejected", "revoked"]
ResourceState = Literal["active", "held", "stale"]

_ENTRY_COLUMNS = "seq, at, kind, actor, session, request, facts, previous, sha256"
_GRANT_COLUMNS = "sha256, grant_id, payload, registrars, own, state, received_at, reason"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS ledger (
  seq INTEGER PRIMARY KEY, at TEXT NOT NULL, kind TEXT NOT NULL, actor TEXT NOT NULL, session TEXT NOT NULL,
  request TEXT NOT NULL, facts TEXT NOT NULL, previous TEXT NOT NULL, sha256 TEXT NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS ledger_session ON ledger (session);
CREATE TABLE IF NOT EXISTS grants (
  sha256 TEXT PRIMARY KEY, grant_id TEXT NOT NULL, payload BLOB NOT NULL, registrars TEXT NOT NULL, own BLOB,
  state TEXT NOT NULL, received_at TEXT NOT NULL, decided_at TEXT, reason TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS orders (
  sha256 TEXT PRIMARY KEY, order_id TEXT NOT NULL UNIQUE, session TEXT NOT NULL UNIQUE, grant_sha256 TEXT NOT NULL,
  use_number INTEGER NOT NULL, first_seq INTEGER NOT NULL, at TEXT NOT NULL, state TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS charges (
  seq INTEGER PRIMARY KEY, grant_sha256 TEXT NOT NULL, session TEXT NOT NULL, units INTEGER NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS charges_grant ON charges (grant_sha256);
CREATE TABLE IF NOT EXISTS replies (
  request TEXT PRIMARY KEY, reply BLOB NOT NULL, at TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS runs (
  session TEXT PRIMARY KEY, grant_sha256 TEXT NOT NULL, payload_sha256 TEXT NOT NULL, envelope BLOB NOT NULL,
  budget_before INTEGER NOT NULL, budget_after INTEGER NOT NULL, resources TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS resources (
  resource TEXT PRIMARY KEY, version INTEGER NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL,
  schema_sha256 TEXT NOT NULL, commitment TEXT NOT NULL, fingerprint TEXT NOT NULL,
  score_x100 INTEGER, grade TEXT NOT NULL,
  report_sha256 TEXT NOT NULL, suite_sha256 TEXT NOT NULL, assessed_at TEXT, fresh_until TEXT) STRICT;
CREATE TABLE IF NOT EXISTS reports (
  sha256 TEXT PRIMARY KEY, resource TEXT NOT NULL, at TEXT NOT NULL, envelope BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS statements (
  name TEXT PRIMARY KEY, payload_sha256 TEXT NOT NULL, envelope BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS scans (
  file_sha256 TEXT NOT NULL, grant_sha256 TEXT NOT NULL, at TEXT NOT NULL,
  PRIMARY KEY (file_sha256, grant_sha256)) STRICT;
CREATE TABLE IF NOT EXISTS strikes (
  seq INTEGER PRIMARY KEY, grant_sha256 TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS selections (
  grant_sha256 TEXT NOT NULL, task TEXT NOT NULL, sha256 TEXT NOT NULL, PRIMARY KEY (grant_sha256, task)) STRICT;
CREATE TABLE IF NOT EXISTS source_consents (
  sha256 TEXT PRIMARY KEY, resource TEXT NOT NULL, envelope BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS bases (
  id TEXT PRIMARY KEY, resource TEXT NOT NULL, facts TEXT NOT NULL, anonymous TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS subjects (
  basis TEXT NOT NULL, digest TEXT NOT NULL, PRIMARY KEY (basis, digest)) STRICT;
CREATE TABLE IF NOT EXISTS party_sessions (
  session TEXT PRIMARY KEY, order_sha256 TEXT NOT NULL, envelope BLOB NOT NULL, started_at TEXT NOT NULL,
  budget_before INTEGER NOT NULL, epoch INTEGER NOT NULL, sequence INTEGER NOT NULL, transcript TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS notes (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
"""


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One line of the ledger.

    Attributes:
        seq: 1, 2, 3 …
        at: when, by the node's clock.
        kind: what happened, e.g. ``"order.accepted"``, ``"refused"``.
        actor: who asked or acted; empty if unknown.
        session: session it belongs to, or empty.
        request: digest of the request it concerns, or the zero digest.
        facts: names, codes, digests and counts of messages.
        previous: digest of the entry before; zero for the first.
        sha256: digest of this entry over all the other fields.
    """

    seq: int
    at: str
    kind: str
    actor: str
    session: str
    request: str
    facts: dict[str, Any]
    previous: str
    sha256: str

    def to_json(self) -> dict[str, Any]:
        """Return the entry as JSON."""
        return {**self.hashed(), "sha256": self.sha256}

    def hashed(self) -> dict[str, Any]:
        """Return the fields that the digest covers."""
        return {
            "seq": self.seq,
            "at": self.at,
            "kind": self.kind,
            "actor": self.actor,
            "session": self.session,
            "request": self.request,
            "facts": self.facts,
            "previous": self.previous,
        }

    def digest(self) -> str:
        """Compute the entry's digest."""
        return sha256_hex(canonical.dumps(self.hashed()))


@dataclass(frozen=True, slots=True)
class GrantRecord:
    """A grant as the books hold it.

    Attributes:
        sha256: digest of the signed payload.
        grant_id: its name.
        payload: the signed statement.
        registrars: the agency's signature envelopes.
        own: this department's signature envelope, once approved.
        state: pending, approved, rejected or revoked.
        received_at: when it was offered, by the node's clock.
        reason: of the decision.
    """

    sha256: str
    grant_id: str
    payload: bytes
    registrars: tuple[bytes, ...]
    own: bytes | None
    state: GrantState
    received_at: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class ResourceRecord:
    """The quality state of one resource.

    Attributes:
        resource, version: the catalogue entry assessed.
        state: active, held or stale.
        reason: code of why it is held, or empty.
        schema_sha256: of the catalogue entry when it was bound.
        commitment: keyed commitment to the table's content when it was assessed, or empty.
        fingerprint: size and modification time of the file then, to spare reading it again.
        score_x100, grade: of the last report; None and empty without one.
        report_sha256, suite_sha256: digests of report and suite, or zero digests.
        assessed_at: when the table was assessed, or None.
        fresh_until: until when the table's content counts as up to date, or None.
    """

    resource: str
    version: int
    state: ResourceState
    reason: str
    schema_sha256: str
    commitment: str = ""
    fingerprint: str = ""
    score_x100: int | None = None
    grade: str = ""
    report_sha256: str = ZERO_SHA256
    suite_sha256: str = ZERO_SHA256
    assessed_at: datetime | None = None
    fresh_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One closed session with its signed node-run statement."""

    session: str
    grant_sha256: str
    payload_sha256: str
    envelope: bytes
    budget_before: int
    budget_after: int
    resources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PartySessionRecord:
    """An open session of a party task, as far as it must outlive the process.

    Attributes:
        session: id.
        order_sha256, envelope: the signed order that opened it.
        started_at: when.
        budget_before: units spent when it began.
        epoch: last epoch this node took part in.
        sequence: last step taken from the operator.
        transcript: running digest, hex.
    """

    session: str
    order_sha256: str
    envelope: bytes
    started_at: datetime
    budget_before: int
    epoch: int
    sequence: int
    transcript: str


@dataclass(frozen=True, slots=True)
class Acceptance:
    """An order that the books accepted.

    Attributes:
        entry: its ledger entry.
        use_number: which use of the grant this is, from 1.
        again: whether it had been accepted before (and never answered).
    """

    entry: LedgerEntry
    use_number: int
    again: bool


class Books:
    """The books of one node; safe to use from several threads and processes."""

    def __init__(self, path: Path, *, clock: Callable[[], datetime] | None = None) -> None:
        """Open or make the books.

        Args:
            path: the SQLite file; made with mode 0600.
            clock: the node's clock, for the times in entries.

        Raises:
            StorageError: the file cannot be opened or made.
        """
        self._path = path
        self._clock = clock or (lambda: datetime.now(UTC))
        self._lock = threading.RLock()
        self._depth = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=30)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise StorageError(f"expected to be able to open the books {path} ({type(error).__name__})") from error

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Do several writes together; on disk when the block is left, or not at all.

        Raises:
            StorageError: the disk refused; nothing was written.
        """
        with self._lock:
            if self._depth:
                self._depth += 1
                try:
                    yield
                finally:
                    self._depth -= 1
                return
            try:
                self._db.execute("BEGIN IMMEDIATE")
            except sqlite3.Error as error:
                raise _storage(error) from error
            self._depth = 1
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException as error:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                if isinstance(error, sqlite3.Error):
                    raise _storage(error) from error
                raise
            finally:
                self._depth = 0

    # Ledger

    def record(
        self,
        kind: str,
        *,
        actor: str = "",
        session: str = "",
        request: str = ZERO_SHA256,
        facts: Mapping[str, Any] | None = None,
    ) -> LedgerEntry:
        """Append one entry and return it once it is on disk (or with the surrounding transaction)."""
        with self.transaction():
            last = self._row("SELECT seq, sha256 FROM ledger ORDER BY seq DESC LIMIT 1")
            seq, previous = (last[0] + 1, last[1]) if last else (1, ZERO_SHA256)
            draft = LedgerEntry(
                seq, time_text(self._clock()), kind, actor, session, request, dict(facts or {}), previous, ""
            )
            sha256 = draft.digest()
            self._db.execute(
                "INSERT INTO ledger VALUES (?,?,?,?,?,?,?,?,?)",
                (seq, draft.at, kind, actor, session, request, canonical.dumps(draft.facts).decode(), previous, sha256),
            )
            return LedgerEntry(seq, draft.at, kind, actor, session, request, draft.facts, previous, sha256)

    def entries(self, *, session: str | None = None, limit: int | None = None) -> list[LedgerEntry]:
        """Return entries in order; with ``limit`` the last ones."""
        where, values = ("WHERE session = ?", [session]) if session is not None else ("", [])
        tail = "DESC LIMIT ?" if limit is not None else "ASC"
        rows = self._rows(
            f"SELECT {_ENTRY_COLUMNS} FROM ledger {where} ORDER BY seq {tail}",  # noqa: S608  constant text
            [*values, *([limit] if limit is not None else [])],
        )
        found = [_ledger_entry(row) for row in rows]
        return found[::-1] if limit is not None else found

    def verify_chain(self) -> int:
        """Recompute every entry and return how many there are.

        Raises:
            BooksError: an entry was altered, removed, inserted or reordered.
        """
        previous, expected = ZERO_SHA256, 1
        for entry in self.entries():
            if entry.seq != expected or entry.previous != previous or entry.digest() != entry.sha256:
                raise BooksError(f"expected an unbroken ledger, entry {expected} does not fit the one before it")
            previous, expected = entry.sha256, expected + 1
        return expected - 1

    def answer(
        self,
        kind: str,
        *,
        actor: str,
        session: str,
        request: str,
        facts: Mapping[str, Any],
        build: Callable[[LedgerEntry], bytes],
        keep: bool,
    ) -> bytes:
        """Record an answer and return its bytes, which ``build`` makes from the entry.

        Args:
            kind: what is answered.
            actor: who asked.
            session: of the request, or empty.
            request: digest of the request's payload.
            facts: of the entry.
            build: makes the signed answer, which names the entry.
            keep: whether to keep the bytes, so that the same request gets the same answer after a restart.
        """
        with self.transaction():
            entry = self.record(kind, actor=actor, session=session, request=request, facts=facts)
            reply = build(entry)
            if keep:
                self._db.execute("INSERT OR REPLACE INTO replies VALUES (?,?,?)", (request, reply, entry.at))
        return reply

    def reply_to(self, request: str) -> bytes | None:
        """Return the kept answer to a request by the digest of its payload."""
        row = self._row("SELECT reply FROM replies WHERE request = ?", request)
        return cast(bytes, row[0]) if row else None

    def forget_replies(self, before: datetime) -> int:
        """Drop kept answers older than ``before``; the orders' names stay taken."""
        with self.transaction():
            return self._db.execute("DELETE FROM replies WHERE at < ?", (time_text(before),)).rowcount

    # Orders, uses, budget

    def accept_order(
        self,
        *,
        order_sha256: str,
        order_id: str,
        session: str,
        operator: str,
        grant_sha256: str,
        uses_max: int,
        budget_total: int,
        charge: int,
        facts: Mapping[str, Any],
        selection: tuple[str, str] | None = None,
    ) -> Acceptance:
        """Count one use, charge the budget and take the order's name and session, all in one transaction.

        The same order that was accepted before but never answered (the node was killed in between)
        is accepted again without counting another use. ``selection`` is the task with the digest of the rows
        it reads and who adds up; the first one under a grant binds the later ones.

        Raises:
            OrderReplayedError: another order has this name or session, or this one was already answered.
            SelectionTakenError: the grant was used for other rows or another sum of them.
            UsesExhaustedError: no use is left.
            BudgetExhaustedError: the budget does not cover ``charge``.
        """
        with self.transaction():
            known = self._row(
                "SELECT order_id, session, use_number, first_seq, state FROM orders WHERE sha256 = ?", order_sha256
            )
            if known:
                if known[4] != "accepted":
                    raise OrderReplayedError("expected a new order, this one was answered before")
                return Acceptance(self._entry(known[3]), known[2], again=True)
            if self._row("SELECT 1 FROM orders WHERE order_id = ? OR session = ?", order_id, session):
                raise OrderReplayedError("expected a new order id and session id, another order has taken them")
            if selection is not None:
                self._bind_selection(grant_sha256, *selection)
            used = self.uses(grant_sha256)
            if used >= uses_max:
                raise UsesExhaustedError(f"expected a use left, all {uses_max} uses of the grant are taken")
            entry = self.record("order.accepted", actor=operator, session=session, request=order_sha256, facts=facts)
            self._db.execute(
                "INSERT INTO orders VALUES (?,?,?,?,?,?,?,?)",
                (order_sha256, order_id, session, grant_sha256, used + 1, entry.seq, entry.at, "accepted"),
            )
            if charge:
                self.charge(grant_sha256, session, charge, total=budget_total)
            return Acceptance(entry, used + 1, again=False)

    def _bind_selection(self, grant_sha256: str, task: str, sha256: str) -> None:
        row = self._row("SELECT sha256 FROM selections WHERE grant_sha256 = ? AND task = ?", grant_sha256, task)
        if row is None:
            self._db.execute("INSERT INTO selections VALUES (?,?,?)", (grant_sha256, task, sha256))
        elif row[0] != sha256:
            raise SelectionTakenError(
                f"expected the rows, parties and parameters that {task} was first run with under this grant: "
                "a second choice would reveal differences; ask for a grant of its own"
            )

    def settle_order(self, order_sha256: str, state: Literal["answered", "refused", "closed"]) -> None:
        """Note how an accepted order went; its use stays counted."""
        with self.transaction():
            self._db.execute("UPDATE orders SET state = ? WHERE sha256 = ?", (state, order_sha256))

    def order_state(self, order_sha256: str) -> str | None:
        """Return ``accepted``, ``answered``, ``refused``, ``closed`` or None."""
        row = self._row("SELECT state FROM orders WHERE sha256 = ?", order_sha256)
        return str(row[0]) if row else None

    def acceptance(self, order_sha256: str) -> Acceptance:
        """Return how an order was accepted.

        Raises:
            BooksError: it was not.
        """
        row = self._row("SELECT use_number, first_seq FROM orders WHERE sha256 = ?", order_sha256)
        if row is None:
            raise BooksError("expected an order in the books")
        return Acceptance(self._entry(row[1]), int(row[0]), again=True)

    def has_ended(self, session: str) -> bool:
        """Whether a session was opened here and is not open any more."""
        return self._row("SELECT 1 FROM orders WHERE session = ? AND state = 'closed'", session) is not None

    def is_taken(self, order_id: str, session: str) -> bool:
        """Whether an order has this name or session."""
        return self._row("SELECT 1 FROM orders WHERE order_id = ? OR session = ?", order_id, session) is not None

    def uses(self, grant_sha256: str) -> int:
        """Return how many uses of a grant are counted."""
        row = self._row("SELECT COUNT(*) FROM orders WHERE grant_sha256 = ?", grant_sha256)
        return int(row[0]) if row else 0

    def charge(self, grant_sha256: str, session: str, units: int, *, total: int) -> int:
        """Spend ``units`` of a grant's budget and return what is spent then.

        Raises:
            BudgetExhaustedError: not enough is left; nothing is spent.
        """
        if units < 0:
            raise ValueError("expected units of at least 0")
        with self.transaction():
            spent = self.spent(grant_sha256)
            if spent + units > total:
                raise BudgetExhaustedError(
                    f"expected at most {total - spent} units, got {units}: the budget of the grant is spent"
                )
            if units:
                entry = self.record(
                    "budget.charged",
                    session=session,
                    facts={"grant_sha256": grant_sha256, "units": units, "after": spent + units},
                )
                self._db.execute("INSERT INTO charges VALUES (?,?,?,?)", (entry.seq, grant_sha256, session, units))
            return spent + units

    def spent(self, grant_sha256: str) -> int:
        """Return how many units of a grant's budget are spent."""
        row = self._row("SELECT COALESCE(SUM(units), 0) FROM charges WHERE grant_sha256 = ?", grant_sha256)
        return int(row[0]) if row else 0

    def spent_in(self, session: str) -> int:
        """Return how many units one session has spent."""
        row = self._row("SELECT COALESCE(SUM(units), 0) FROM charges WHERE session = ?", session)
        return int(row[0]) if row else 0

    # Grants

    def offer_grant(
        self, sha256: str, grant_id: str, payload: bytes, registrars: Sequence[bytes], *, actor: str
    ) -> GrantRecord:
        """Keep a verified grant as pending; offering the same one again changes nothing.

        Raises:
            BooksError: another grant has this name.
        """
        with self.transaction():
            if known := self.grant(sha256):
                return known
            if self.grant_named(grant_id):
                raise BooksError(f"expected a new grant id, {grant_id} names another grant in the books")
            entry = self.record("grant.offered", actor=actor, facts={"grant_id": grant_id, "grant_sha256": sha256})
            joined = canonical.dumps({"envelopes": [envelope.decode("ascii") for envelope in registrars]}).decode()
            self._db.execute(
                "INSERT INTO grants VALUES (?,?,?,?,NULL,'pending',?,NULL,'')",
                (sha256, grant_id, payload, joined, entry.at),
            )
            found = self.grant(sha256)
        if found is None:
            raise BooksError("expected the grant just written")
        return found

    def decide_grant(self, sha256: str, state: GrantState, *, own: bytes | None, reason: str) -> LedgerEntry:
        """Write the department's decision on a grant."""
        with self.transaction():
            entry = self.record(f"grant.{state}", facts={"grant_sha256": sha256})
            self._db.execute(
                "UPDATE grants SET state = ?, own = COALESCE(?, own), decided_at = ?, reason = ? WHERE sha256 = ?",
                (state, own, entry.at, reason, sha256),
            )
            return entry

    def grant(self, sha256: str) -> GrantRecord | None:
        """Return a grant by the digest of its payload."""
        return self._grant("sha256", sha256)

    def grant_named(self, grant_id: str) -> GrantRecord | None:
        """Return a grant by its name."""
        return self._grant("grant_id", grant_id)

    def grants(self) -> list[GrantRecord]:
        """Return all grants in the order they were offered."""
        digests = self._rows("SELECT sha256 FROM grants ORDER BY received_at, rowid", [])
        return [record for (sha256,) in digests if (record := self.grant(sha256)) is not None]

    # Sessions between nodes

    def open_party_session(self, record: PartySessionRecord) -> None:
        """Keep an open session of a party task."""
        with self.transaction():
            self._db.execute(
                "INSERT INTO party_sessions VALUES (?,?,?,?,?,?,?,?)",
                (
                    record.session,
                    record.order_sha256,
                    record.envelope,
                    time_text(record.started_at),
                    record.budget_before,
                    record.epoch,
                    record.sequence,
                    record.transcript,
                ),
            )

    def party_sessions(self) -> list[PartySessionRecord]:
        """Return the open sessions of party tasks."""
        rows = self._rows("SELECT * FROM party_sessions ORDER BY rowid", [])
        return [
            PartySessionRecord(row[0], row[1], row[2], _time(row[3]) or self._clock(), row[4], row[5], row[6], row[7])
            for row in rows
        ]

    def party_epoch(self, session: str) -> int:
        """Return the last epoch of a session, 0 before the first."""
        row = self._row("SELECT epoch FROM party_sessions WHERE session = ?", session)
        return int(row[0]) if row else 0

    def begin_epoch(self, session: str, epoch: int) -> None:
        """Note that an epoch begins, with its ledger entry."""
        with self.transaction():
            self.record("party.epoch", session=session, facts={"epoch": epoch})
            self._db.execute("UPDATE party_sessions SET epoch = ? WHERE session = ?", (epoch, session))

    def keep_trail(self, session: str, *, transcript: str, sequence: int | None = None) -> None:
        """Keep the transcript, and the step that was answered last if it is new, of a session of a party task."""
        with self.transaction():
            self._db.execute(
                "UPDATE party_sessions SET transcript = ?, sequence = COALESCE(?, sequence) WHERE session = ?",
                (transcript, sequence, session),
            )

    def close_party_session(self, session: str) -> None:
        """Forget a session of a party task."""
        with self.transaction():
            self._db.execute("DELETE FROM party_sessions WHERE session = ?", (session,))

    # Runs, resources, statements, scans, notes

    def keep_run(self, run: RunRecord) -> None:
        """Keep the signed node-run statement of a closed session."""
        with self.transaction():
            self._db.execute(
                "INSERT INTO runs VALUES (?,?,?,?,?,?,?)",
                (
                    run.session,
                    run.grant_sha256,
                    run.payload_sha256,
                    run.envelope,
                    run.budget_before,
                    run.budget_after,
                    canonical.dumps({"resources": list(run.resources)}).decode(),
                ),
            )

    def run(self, session: str) -> RunRecord | None:
        """Return the closed session, if this node took part in it."""
        row = self._row("SELECT * FROM runs WHERE session = ?", session)
        if row is None:
            return None
        listed = cast("list[str]", canonical.loads(row[6].encode())["resources"])
        return RunRecord(row[0], row[1], row[2], row[3], row[4], row[5], tuple(listed))

    def keep_resource(self, record: ResourceRecord, *, kind: str, report: bytes | None = None) -> None:
        """Write a resource's state with its ledger entry, and its signed report if there is a new one."""
        with self.transaction():
            entry = self.record(
                kind,
                facts={
                    "resource": record.resource,
                    "version": record.version,
                    "state": record.state,
                    "reason": record.reason,
                    "report_sha256": record.report_sha256,
                },
            )
            self._db.execute(
                "INSERT OR REPLACE INTO resources VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)",
                (
                    record.resource,
                    record.version,
                    record.state,
                    record.reason,
                    record.schema_sha256,
                    record.commitment,
                    record.fingerprint,
                    record.score_x100,
                    record.grade,
                    record.report_sha256,
                    record.suite_sha256,
                    time_text(record.assessed_at) if record.assessed_at else None,
                    time_text(record.fresh_until) if record.fresh_until else None,
                ),
            )
            if report is not None:
                self._db.execute(
                    "INSERT OR IGNORE INTO reports VALUES (?,?,?,?)",
                    (record.report_sha256, record.resource, entry.at, report),
                )

    def resource(self, resource: str) -> ResourceRecord | None:
        """Return the quality state of a resource."""
        row = self._row("SELECT * FROM resources WHERE resource = ?", resource)
        if row is None:
            return None
        (name, version, state, reason, schema, commitment, fingerprint, score, grade, report, suite, at, until) = row
        return ResourceRecord(
            name,
            version,
            state,
            reason,
            schema,
            commitment,
            fingerprint,
            score,
            grade,
            report,
            suite,
            _time(at),
            _time(until),
        )

    def reports(self, resource: str) -> list[tuple[str, str, bytes]]:
        """Return (digest, time, signed envelope) of every quality report of a resource, oldest first."""
        return [
            (row[0], row[1], row[2])
            for row in self._rows(
                "SELECT sha256, at, envelope FROM reports WHERE resource = ? ORDER BY rowid", [resource]
            )
        ]

    def statement(self, name: str, payload_sha256: str) -> bytes | None:
        """Return the envelope kept under ``name`` if it is about this payload."""
        row = self._row("SELECT envelope FROM statements WHERE name = ? AND payload_sha256 = ?", name, payload_sha256)
        return cast(bytes, row[0]) if row else None

    def keep_statement(self, name: str, payload_sha256: str, envelope: bytes) -> None:
        """Keep a signed statement under a name, in place of an older one."""
        with self.transaction():
            self.record("statement.signed", facts={"name": name, "payload_sha256": payload_sha256})
            self._db.execute("INSERT OR REPLACE INTO statements VALUES (?,?,?)", (name, payload_sha256, envelope))

    def keep_scans(self, digests: Sequence[str], grant_sha256: str) -> None:
        """Note which product files passed the scan for values of this department."""
        with self.transaction():
            at = time_text(self._clock())
            self._db.executemany("INSERT OR IGNORE INTO scans VALUES (?,?,?)", [(d, grant_sha256, at) for d in digests])

    def scanned(self, grant_sha256: str) -> frozenset[str]:
        """Return digests of files that passed the scan under a grant."""
        return frozenset(
            row[0] for row in self._rows("SELECT file_sha256 FROM scans WHERE grant_sha256 = ?", [grant_sha256])
        )

    def strike(self, grant_sha256: str, findings: str) -> LedgerEntry:
        """Note that a product file held values of this department; ``strikes`` counts them."""
        with self.transaction():
            entry = self.record("egress.found", facts={"findings": findings, "grant_sha256": grant_sha256})
            self._db.execute("INSERT INTO strikes VALUES (?,?)", (entry.seq, grant_sha256))
            return entry

    def strikes(self, grant_sha256: str) -> int:
        """Return how many searches of product files under a grant found values of this department."""
        row = self._row("SELECT COUNT(*) FROM strikes WHERE grant_sha256 = ?", grant_sha256)
        return int(row[0]) if row else 0

    # Registers

    def keep_source_consent(self, sha256: str, resource: str, envelope: bytes) -> None:
        """Keep a provider's signed statement about shared data; the caller writes the ledger."""
        self._write("INSERT OR IGNORE INTO source_consents VALUES (?,?,?)", sha256, resource, envelope)

    def source_consents(self, resource: str) -> list[bytes]:
        """Return the providers' statements about a resource."""
        rows = self._rows("SELECT envelope FROM source_consents WHERE resource = ? ORDER BY rowid", [resource])
        return [row[0] for row in rows]

    def keep_basis(self, basis: Basis) -> None:
        """Keep a line of the register of personal information; a new line of the same name needs a new test."""
        facts: JsonObject = {
            "purpose": basis.purpose, "columns": list(basis.columns), "kind": basis.kind, "group": basis.group,
            "reference": basis.reference, "subject": basis.subject, "not_after": time_text(basis.not_after),
        }  # fmt: skip
        text = canonical.dumps(facts).decode()
        self._write("INSERT OR REPLACE INTO bases VALUES (?,?,?,?)", basis.id, basis.resource, text, "")

    def bases(self, resource: str | None = None) -> tuple[Basis, ...]:
        """Return the lines of the register, of one resource or of all."""
        found = []
        for name, of, text in self._rows("SELECT id, resource, facts FROM bases ORDER BY id", []):
            facts: dict[str, Any] = dict(canonical.loads(text.encode()))
            facts |= {"columns": tuple(facts["columns"]), "not_after": _time(facts["not_after"])}
            if resource in {None, of}:
                found.append(Basis(id=name, resource=of, **facts))
        return tuple(found)

    def keep_anonymity(self, basis: str, commitment: str) -> None:
        """Note on which content the effect test of a basis passed; empty: it did not."""
        self._write("UPDATE bases SET anonymous = ? WHERE id = ?", commitment, basis)

    def anonymity(self, basis: str) -> str:
        """Return the commitment to the content on which the effect test of a basis passed, or an empty text."""
        row = self._row("SELECT anonymous FROM bases WHERE id = ?", basis)
        return str(row[0]) if row else ""

    def set_subjects(self, basis: str, digests: Sequence[str], *, given: bool) -> None:
        """Add subjects who consent, or delete those who withdraw."""
        query = "INSERT OR IGNORE INTO subjects VALUES (?,?)"
        query = query if given else "DELETE FROM subjects WHERE basis = ? AND digest = ?"
        with self.transaction():
            self._db.executemany(query, [(basis, digest) for digest in digests])

    def subjects(self, basis: str) -> frozenset[str]:
        """Return the keyed digests of the subjects who consent."""
        return frozenset(row[0] for row in self._rows("SELECT digest FROM subjects WHERE basis = ?", [basis]))

    def note(self, name: str, value: str) -> None:
        """Keep a small fact for `doctor`, such as a measured clock difference."""
        with self.transaction():
            self._db.execute("INSERT OR REPLACE INTO notes VALUES (?,?)", (name, value))

    def notes(self) -> dict[str, str]:
        """Return all notes."""
        return dict(self._rows("SELECT name, value FROM notes ORDER BY name", []))

    def _entry(self, seq: int) -> LedgerEntry:
        row = self._row(
            "SELECT seq, at, kind, actor, session, request, facts, previous, sha256 FROM ledger WHERE seq = ?", seq
        )
        if row is None:
            raise BooksError(f"expected ledger entry {seq}")
        return _ledger_entry(row)

    def _grant(self, column: Literal["sha256", "grant_id"], value: str) -> GrantRecord | None:
        row = self._row(
            f"SELECT {_GRANT_COLUMNS} FROM grants WHERE {column} = ?",  # noqa: S608  one of two literals
            value,
        )
        if row is None:
            return None
        received = _time(row[6])
        if received is None:
            raise BooksError("expected a time in the books")
        listed = cast("list[str]", canonical.loads(row[3].encode())["envelopes"])
        return GrantRecord(
            row[0], row[1], row[2], tuple(item.encode("ascii") for item in listed), row[4], row[5], received, row[7]
        )

    def _write(self, query: str, *values: object) -> None:
        with self.transaction():
            self._db.execute(query, tuple(cast("Sequence[Any]", values)))

    def _row(self, query: str, *values: object) -> tuple[Any, ...] | None:
        rows = self._rows(query, list(values))
        return rows[0] if rows else None

    def _rows(self, query: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        with self._lock:
            try:
                return self._db.execute(query, tuple(cast("Sequence[Any]", values))).fetchall()
            except sqlite3.Error as error:
                raise _storage(error) from error


def _ledger_entry(row: tuple[Any, ...]) -> LedgerEntry:
    seq, at, kind, actor, session, request, facts, previous, sha256 = row
    return LedgerEntry(seq, at, kind, actor, session, request, dict(canonical.loads(facts.encode())), previous, sha256)


def _time(text: str | None) -> datetime | None:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC) if text else None


def _storage(error: sqlite3.Error) -> StorageError:
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    return StorageError(f"expected to be able to write the books ({name}); free disk space and repeat")
