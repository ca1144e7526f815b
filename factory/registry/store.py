"""The registry's store: cases with their state, their artefacts, and the chain of events.

A *case* is a request, grant, product, registration or agreement: a name, a state, a
document, and a revision that rises with every change (a writer who read an older revision
is refused). *Artefacts* are the exact bytes that belong to it: signed envelopes, reports.
An *event* says who did what to which case, when, why and on which evidence; each names the
digest of the one before, and is written in the same transaction as the change.

SQLite by default (WAL, synchronous=FULL, one writer at a time); any SQLAlchemy URL works.
Privacy: documents, names and digests; no value of a row is ever an artefact here.
"""

import contextlib
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from factory.registry.errors import (
    CaseChangedError,
    CaseExistsError,
    CaseUnknownError,
    ChainBrokenError,
    RegistryUnusableError,
)
from nodes.contract import canonical
from nodes.contract.canonical import JsonObject
from nodes.contract.signing import sha256_hex
from nodes.contract.statement import time_text

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, Row

GENESIS = "0" * 64
"""What the first event names as the one before."""


@dataclass(frozen=True, slots=True)
class Act:
    """Who does what, and why.

    Attributes:
        actor: actor id, or the official by name.
        role: as what.
        organisation: on whose behalf.
        name: the act, e.g. ``request.approve``.
        reason: why.
        evidence: digests by name.
    """

    actor: str
    role: str
    organisation: str
    name: str
    reason: str = ""
    evidence: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the chain.

    Attributes:
        seq: place, from 1.
        sha256: digest of its canonical bytes, which name the event before.
        body: what is hashed.
    """

    seq: int
    sha256: str
    body: JsonObject


@dataclass(frozen=True, slots=True)
class Case:
    """One case as it stands.

    Attributes:
        kind: ``agreement``, ``request``, ``grant``, ``product`` or ``registration``.
        id: its name.
        state: where it stands.
        revision: rises by one with every change.
        document: what it says, without floats.
        sha256: digest of the canonical document.
    """

    kind: str
    id: str
    state: str
    revision: int
    document: JsonObject
    sha256: str


class Registry:
    """An open registry. Every method is one transaction, or part of one opened with ``transaction``."""

    def __init__(self, url: str) -> None:
        """Open, and lay out if new, the registry at an SQLAlchemy URL."""
        self._engine = _engine(url)
        with _usable(self._engine):
            _tables().create_all(self._engine)

    @classmethod
    def at(cls, path: Path) -> "Registry":
        """Open the registry in an SQLite file, readable by its owner alone."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        return cls(f"sqlite:///{path}")

    def close(self) -> None:
        """Release the connections."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator["Connection"]:
        """Hold the writer's lock; all changes inside happen, or none."""
        with _usable(self._engine), self._engine.begin() as connection:
            yield connection

    def create(
        self, kind: str, case_id: str, *, state: str, document: Mapping[str, Any], act: Act, now: datetime
    ) -> Case:
        """Open a case and record who did.

        Raises:
            CaseExistsError: the name is taken.
        """
        from sqlalchemy.exc import IntegrityError

        body = canonical.dumps(dict(document))
        try:
            with self.transaction() as connection:
                connection.execute(
                    _table("cases").insert().values(kind=kind, id=case_id, state=state, revision=1, document=body)
                )
                self._record(connection, (kind, case_id, state), act, now)
        except IntegrityError as error:
            raise CaseExistsError(f"expected a new {kind}, {case_id} exists") from error
        return Case(kind, case_id, state, 1, dict(document), sha256_hex(body))

    def change(
        self,
        case: Case,
        *,
        state: str,
        act: Act,
        now: datetime,
        document: Mapping[str, Any] | None = None,
        artefacts: Mapping[str, bytes] | None = None,
    ) -> Case:
        """Move a case, with its artefacts, and record who did.

        Raises:
            CaseChangedError: its revision is not the one that was read.
        """
        body = canonical.dumps(dict(document if document is not None else case.document))
        cases = _table("cases")
        with self.transaction() as connection:
            done = connection.execute(
                cases.update()
                .where(cases.c.kind == case.kind, cases.c.id == case.id, cases.c.revision == case.revision)
                .values(state=state, revision=case.revision + 1, document=body)
            )
            if done.rowcount != 1:
                raise CaseChangedError(f"{case.kind} {case.id} changed meanwhile; read it again and repeat")
            for name, content in (artefacts or {}).items():
                self._put(connection, case.kind, case.id, name, content)
            self._record(connection, (case.kind, case.id, state), act, now)
        return Case(case.kind, case.id, state, case.revision + 1, dict(document or case.document), sha256_hex(body))

    def put(self, kind: str, case_id: str, name: str, content: bytes) -> None:
        """Keep exact bytes beside a case; the same name again replaces them."""
        with self.transaction() as connection:
            self._put(connection, kind, case_id, name, content)

    def get(self, kind: str, case_id: str) -> Case:
        """Return a case.

        Raises:
            CaseUnknownError: there is none.
        """
        cases = _table("cases")
        with self._engine.connect() as connection:
            row = connection.execute(cases.select().where(cases.c.kind == kind, cases.c.id == case_id)).first()
        if row is None:
            raise CaseUnknownError(f"expected a {kind} {case_id}, there is none; list them to see their names")
        return _case(row)

    def cases(self, kind: str, *, state: str | None = None) -> list[Case]:
        """Return the cases of a kind, by name."""
        cases = _table("cases")
        query = cases.select().where(cases.c.kind == kind).order_by(cases.c.id)
        if state is not None:
            query = query.where(cases.c.state == state)
        with self._engine.connect() as connection:
            return [_case(row) for row in connection.execute(query)]

    def artefacts(self, kind: str, case_id: str) -> dict[str, bytes]:
        """Return the bytes kept beside a case, by name."""
        table = _table("artefacts")
        query = table.select().where(table.c.kind == kind, table.c.case_id == case_id).order_by(table.c.name)
        with self._engine.connect() as connection:
            return {row.name: row.content for row in connection.execute(query)}

    def record(self, act: Act, *, kind: str, case_id: str, state: str = "", now: datetime) -> Event:
        """Record an act that changes no state."""
        with self.transaction() as connection:
            return self._record(connection, (kind, case_id, state), act, now)

    def events(self, *, kind: str | None = None, case_id: str | None = None) -> list[Event]:
        """Return events in order, of everything or of one case."""
        table = _table("events")
        query = table.select().order_by(table.c.seq)
        if kind is not None:
            query = query.where(table.c.kind == kind)
        if case_id is not None:
            query = query.where(table.c.case_id == case_id)
        with self._engine.connect() as connection:
            return [Event(row.seq, row.sha256, canonical.loads(row.body)) for row in connection.execute(query)]

    def verify_chain(self) -> int:
        """Recompute the chain and return its length.

        Raises:
            ChainBrokenError: an event, its place or its link is not what was recorded.
        """
        previous, count = GENESIS, 0
        for count, event in enumerate(self.events(), start=1):
            body = canonical.dumps(event.body)
            if event.seq != count or event.body.get("previous") != previous or sha256_hex(body) != event.sha256:
                raise ChainBrokenError(
                    f"expected event {count} to follow the one before; it, or one before, was altered"
                )
            previous = event.sha256
        return count

    def _put(self, connection: "Connection", kind: str, case_id: str, name: str, content: bytes) -> None:
        table = _table("artefacts")
        key = (table.c.kind == kind, table.c.case_id == case_id, table.c.name == name)
        connection.execute(table.delete().where(*key))
        connection.execute(table.insert().values(kind=kind, case_id=case_id, name=name, content=content))

    def _record(self, connection: "Connection", case: tuple[str, str, str], act: Act, now: datetime) -> Event:
        kind, case_id, state = case
        table = _table("events")
        last = connection.execute(table.select().order_by(table.c.seq.desc()).limit(1)).first()
        seq, previous = (last.seq + 1, last.sha256) if last is not None else (1, GENESIS)
        body: JsonObject = {
            "seq": seq,
            "previous": previous,
            "kind": kind,
            "case": case_id,
            "state": state,
            "act": act.name,
            "actor": act.actor,
            "role": act.role,
            "organisation": act.organisation,
            "reason": act.reason,
            "evidence": dict(act.evidence or {}),
            "at": time_text(now.astimezone(UTC)),
        }
        data = canonical.dumps(body)
        digest = sha256_hex(data)
        connection.execute(table.insert().values(seq=seq, kind=kind, case_id=case_id, sha256=digest, body=data))
        return Event(seq, digest, body)


def _case(row: "Row[Any]") -> Case:
    return Case(row.kind, row.id, row.state, row.revision, canonical.loads(row.document), sha256_hex(row.document))


def _table(name: str) -> Any:  # a sqlalchemy Table; typed loosely so that sqlalchemy loads late
    return _tables().tables[name]


@functools.cache
def _tables() -> Any:
    from sqlalchemy import Column, Index, Integer, LargeBinary, MetaData, String, Table

    metadata = MetaData()
    Table(
        "cases",
        metadata,
        Column("kind", String(32), primary_key=True),
        Column("id", String(96), primary_key=True),
        Column("state", String(32), nullable=False),
        Column("revision", Integer, nullable=False),
        Column("document", LargeBinary, nullable=False),
    )
    Table(
        "artefacts",
        metadata,
        Column("kind", String(32), primary_key=True),
        Column("case_id", String(96), primary_key=True),
        Column("name", String(200), primary_key=True),
        Column("content", LargeBinary, nullable=False),
    )
    events = Table(
        "events",
        metadata,
        Column("seq", Integer, primary_key=True),
        Column("kind", String(32), nullable=False),
        Column("case_id", String(96), nullable=False),
        Column("sha256", String(64), nullable=False, unique=True),
        Column("body", LargeBinary, nullable=False),
    )
    Index("events_of_case", events.c.kind, events.c.case_id)
    return metadata


@contextlib.contextmanager
def _usable(engine: "Engine") -> Iterator[None]:
    from sqlalchemy.exc import DatabaseError, IntegrityError

    try:
        yield
    except IntegrityError:
        raise
    except DatabaseError as error:
        engine.dispose()
        raise RegistryUnusableError(
            f"expected to be able to use the registry {engine.url.database or ''} ({error.orig}); check the room on "
            "its disk and what runs, and run the command again"
        ) from error


def _engine(url: str) -> "Engine":
    from sqlalchemy import create_engine, event

    engine = create_engine(url)
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def _configure(connection: Any, _record: object) -> None:
            connection.isolation_level = None
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA busy_timeout=10000")

        @event.listens_for(engine, "begin")
        def _begin(connection: "Connection") -> None:
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine
