"""The registry's store: cases with their state, their artefacts, and the chain of events.

A *case* is a request, grant, product, registration or agreement: a name, a state, a
document, and a revision that rises with every change (a writer who read an older revision
is refused). *Artefacts* are the exact bytes that belong to it: signed envelopes, reports.
An *event* says who did what to which case, when, why and on which evidence; each names the
digest of the one before, and is written in the same transaction as the change.

The database below is ``factory.registry.database``: SQLite, or PostgreSQL by its URL.
Privacy: documents, names and digests; no value of a row is ever an artefact here.
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from factory.registry.database import Database
from factory.registry.errors import CaseChangedError, CaseExistsError, CaseUnknownError, ChainBrokenError
from factory.registry.schema import table as _table
from nodes.contract import canonical
from nodes.contract.canonical import JsonObject
from nodes.contract.signing import sha256_hex
from nodes.contract.statement import time_text

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row

GENESIS = "0" * 64
"""What the first event names as the one before."""


REMOVAL = "log.remove"
"""Act that records the removal of the oldest events after their time."""


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
class _Change:
    before: str
    after: str
    artefacts: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the chain.

    Attributes:
        seq: place, from 1.
        sha256: digest of its canonical bytes, which name the event before.
        body: what is hashed; of a change also the digests of the document before and after, and of the artefacts.
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
        organisation: who opened it.
        agreement: id of the agreement it belongs to, empty without one; ``agreement_id`` of its document.
    """

    kind: str
    id: str
    state: str
    revision: int
    document: JsonObject
    sha256: str
    organisation: str = ""
    agreement: str = ""


class Registry:
    """An open registry. Every method is one transaction, or part of one opened with ``transaction``."""

    def __init__(self, url: str, *, upgrade: bool = False) -> None:
        """Open, and lay out if new, the registry at an SQLAlchemy URL; see ``Database``."""
        self.database = Database(url, upgrade=upgrade)

    @classmethod
    def at(cls, path: Path) -> "Registry":
        """Open the registry in an SQLite file, readable by its owner alone."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        return cls(f"sqlite:///{path}")

    def close(self) -> None:
        """Release the connections."""
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator["Connection"]:
        """Hold the writer's lock; all that this thread does inside happens, or nothing."""
        with self.database.transaction() as connection:
            yield connection

    def create(
        self,
        kind: str,
        case_id: str,
        *,
        state: str,
        document: Mapping[str, Any],
        act: Act,
        now: datetime,
        artefacts: Mapping[str, bytes] | None = None,
    ) -> Case:
        """Open a case and record who did.

        Raises:
            CaseExistsError: the name is taken.
        """
        body, cases = canonical.dumps(dict(document)), _table("cases")
        agreement = str(document.get("agreement_id", ""))
        with self.transaction() as connection:
            if connection.execute(cases.select().where(cases.c.kind == kind, cases.c.id == case_id)).first():
                raise CaseExistsError(f"expected a new {kind}, {case_id} exists")
            connection.execute(
                cases.insert().values(
                    kind=kind,
                    id=case_id,
                    state=state,
                    revision=1,
                    document=body,
                    organisation=act.organisation,
                    agreement=agreement,
                )
            )
            for name, content in (artefacts or {}).items():
                self._put(connection, kind, case_id, name, content)
            self._record(connection, (kind, case_id, state), act, now, _Change("", sha256_hex(body), artefacts or {}))
        return Case(kind, case_id, state, 1, dict(document), sha256_hex(body), act.organisation, agreement)

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
            change = _Change(case.sha256, sha256_hex(body), artefacts or {})
            self._record(connection, (case.kind, case.id, state), act, now, change)
        return dataclasses.replace(
            case,
            state=state,
            revision=case.revision + 1,
            document=dict(document if document is not None else case.document),
            sha256=sha256_hex(body),
        )

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
        with self.database.reading() as connection:
            row = connection.execute(cases.select().where(cases.c.kind == kind, cases.c.id == case_id)).first()
        if row is None:
            raise CaseUnknownError(f"expected a {kind} {case_id}, there is none; list them to see their names")
        return _case(row)

    def cases(
        self,
        kind: str,
        *,
        state: str | None = None,
        after: str = "",
        limit: int | None = None,
        within: tuple[str, frozenset[str]] | None = None,
    ) -> list[Case]:
        """Return the cases of a kind, by name, from the one after ``after``.

        Args:
            kind: of the cases.
            state: only those that stand there.
            after: name to go on from.
            limit: how many at most.
            within: only those an organisation opened, or that belong to one of these agreements.
        """
        from sqlalchemy import or_

        cases = _table("cases")
        query = cases.select().where(cases.c.kind == kind, cases.c.id > after).order_by(cases.c.id).limit(limit)
        if state is not None:
            query = query.where(cases.c.state == state)
        if within is not None:
            organisation, agreements = within
            query = query.where(
                or_(cases.c.organisation == organisation, cases.c.agreement.in_(sorted(agreements - {""})))
            )
        with self.database.reading() as connection:
            return [_case(row) for row in connection.execute(query)]

    def artefacts(self, kind: str, case_id: str) -> dict[str, bytes]:
        """Return the bytes kept beside a case, by name."""
        table = _table("artefacts")
        query = table.select().where(table.c.kind == kind, table.c.case_id == case_id).order_by(table.c.name)
        with self.database.reading() as connection:
            return {row.name: row.content for row in connection.execute(query)}

    def record(self, act: Act, *, kind: str, case_id: str, state: str = "", now: datetime) -> Event:
        """Record an act that changes no state."""
        with self.transaction() as connection:
            return self._record(connection, (kind, case_id, state), act, now)

    def events(
        self,
        *,
        kind: str | None = None,
        case_id: str | None = None,
        actor: str | None = None,
        after: int = 0,
        limit: int | None = None,
    ) -> list[Event]:
        """Return events in order, of everything, of one case or of one person, from the one after ``after``."""
        table = _table("events")
        query = table.select().where(table.c.seq > after).order_by(table.c.seq).limit(limit)
        for column, wanted in ((table.c.kind, kind), (table.c.case_id, case_id), (table.c.actor, actor)):
            if wanted is not None:
                query = query.where(column == wanted)
        with self.database.reading() as connection:
            return [Event(row.seq, row.sha256, canonical.loads(row.body)) for row in connection.execute(query)]

    def verify_chain(self) -> int:
        """Recompute the chain and return the number of its last event.

        Where the oldest events were removed after their time, the event that records it names the last of them.

        Raises:
            ChainBrokenError: an event, its place or its link is not what was recorded.
        """
        previous, count, events = GENESIS, 0, self.events()
        first = events[0].seq if events else 1
        if first > 1:
            previous = _removed_through(events)
        for count, event in enumerate(events, start=first):
            body = canonical.dumps(event.body)
            if event.seq != count or event.body.get("previous") != previous or sha256_hex(body) != event.sha256:
                raise ChainBrokenError(
                    f"expected event {count} to follow the one before; it, or one before, was altered or is missing"
                )
            previous = event.sha256
        return count

    def remove_events(self, through: int, act: Act, now: datetime) -> Event:
        """Remove the oldest events up to ``through`` and record that, in one transaction.

        The caller has checked that their time is over; see ``factory.services.retention``.

        Raises:
            CaseUnknownError: there is no such event.
        """
        table = _table("events")
        with self.transaction() as connection:
            last = connection.execute(table.select().where(table.c.seq == through)).first()
            if last is None:
                raise CaseUnknownError(f"expected an event {through}, there is none")
            removal = dataclasses.replace(act, name=REMOVAL, evidence={"through": last.sha256})
            event = self._record(connection, ("log", str(through), ""), removal, now)
            connection.execute(table.delete().where(table.c.seq <= through))
        return event

    def verify_cases(self) -> int:
        """Compare every case with what was recorded when it was last changed, and return their number.

        Raises:
            ChainBrokenError: a case is not what its last event says.
        """
        cases, recorded = _table("cases"), {}
        with self.database.reading() as connection:
            for event in self.events():
                if "after" in event.body:
                    recorded[event.body["kind"], event.body["case"]] = (event.body["state"], event.body["after"])
            rows = connection.execute(cases.select()).all()
        for row in rows:
            last = recorded.get((row.kind, row.id))
            if last is not None and last != (row.state, sha256_hex(row.document)):
                raise ChainBrokenError(
                    f"expected {row.kind} {row.id} as it was recorded; it was changed behind the registry's back"
                )
        return len(rows)

    def _put(self, connection: "Connection", kind: str, case_id: str, name: str, content: bytes) -> None:
        table = _table("artefacts")
        key = (table.c.kind == kind, table.c.case_id == case_id, table.c.name == name)
        connection.execute(table.delete().where(*key))
        connection.execute(table.insert().values(kind=kind, case_id=case_id, name=name, content=content))

    def _record(
        self,
        connection: "Connection",
        case: tuple[str, str, str],
        act: Act,
        now: datetime,
        change: "_Change | None" = None,
    ) -> Event:
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
        if change is not None:
            body["before"], body["after"] = change.before, change.after
            body["artefacts"] = {name: sha256_hex(content) for name, content in change.artefacts.items()}
        data = canonical.dumps(body)
        digest = sha256_hex(data)
        connection.execute(
            table.insert().values(seq=seq, kind=kind, case_id=case_id, sha256=digest, body=data, actor=act.actor[:200])
        )
        return Event(seq, digest, body)


def _removed_through(events: list[Event]) -> str:
    """Return the digest of the event before the first, as the record of its removal names it."""
    wanted = str(events[0].seq - 1)
    for event in reversed(events):
        evidence = event.body.get("evidence")
        if event.body.get("act") == REMOVAL and event.body.get("case") == wanted and isinstance(evidence, dict):
            return str(evidence.get("through"))
    raise ChainBrokenError(f"expected events 1 to {wanted}, or the record of their removal; they are missing")


def _case(row: "Row[Any]") -> Case:
    return Case(
        row.kind,
        row.id,
        row.state,
        row.revision,
        canonical.loads(row.document),
        sha256_hex(row.document),
        row.organisation,
        row.agreement,
    )
