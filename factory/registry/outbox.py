"""Carries every event of the registry into the tamper-evident log.

The chain of events is the outbox: an event is there as soon as its act is acknowledged, and
stays to be sent until ``logged`` holds its place in the log. Its envelope is kept before it is
sent, so that a sender who died sends the same bytes again, which the log takes once.

Privacy:
    The log gets the digest of the event under a signature of the agency; the event itself
    (names, roles, reasons, digests) stays in the registry.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from factory.log.log import Submission, entry_of
from factory.registry.errors import ChainBrokenError
from factory.registry.schema import table
from factory.registry.store import Registry
from nodes.contract import canonical
from nodes.contract.signing import Envelope, SigningKey, sign
from products.log import leaf_hash

PAYLOAD_TYPE = "application/vnd.shufang.registry-event.v1+json"
BATCH = 256
"""Events per checkpoint: a whole tile of the log."""


class Writer(Protocol):
    """What takes envelopes; on return of ``append`` they MUST be durable, and the same one keeps its place."""

    @property
    def origin(self) -> str:
        """Identity of the log."""

    def append(self, submissions: list[Submission]) -> list[int]:
        """Log statements and return the place of each."""


class Leaves(Protocol):
    """A tree of the log."""

    @property
    def size(self) -> int:
        """How many entries it has."""

    def hash_at(self, height: int, index: int) -> bytes:
        """Return a hash of the tree; height 0 holds the leaves."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """How far the log is behind.

    Attributes:
        logged: events that are in the log.
        waiting: events that are not yet.
    """

    logged: int
    waiting: int


def deliver(registry: Registry, key: SigningKey, log: Writer) -> int:
    """Send what waits, in order, and return how many events that were.

    Args:
        registry: whose events.
        key: of the agency; signs each event.
        log: open for writing.

    Raises:
        LogError: the log did not take them; they wait, and the same envelopes are sent again.
    """
    sent = 0
    while batch := _waiting(registry, key):
        places = log.append([Submission(envelope, key.public.spki) for _, envelope in batch])
        logged = table("logged")
        with registry.transaction() as connection:
            for (seq, _), place in zip(batch, places, strict=True):
                query = logged.update().where(logged.c.seq == seq)
                connection.execute(query.values(origin=log.origin, position=place))
        sent += len(batch)
    return sent


def backlog(registry: Registry) -> Backlog:
    """Return how many events are in the log, and how many wait."""
    from sqlalchemy import func, select

    logged, events = table("logged"), table("events")
    with registry.database.reading() as connection:
        done = connection.execute(select(func.count()).where(logged.c.position.is_not(None))).scalar_one()
        total = connection.execute(select(func.count()).select_from(events)).scalar_one()
    return Backlog(done, total - done)


def oldest_waiting(registry: Registry) -> datetime | None:
    """Return when the oldest event was recorded that the log has not taken, or None."""
    from sqlalchemy import select

    events, logged = table("events"), table("logged")
    join = events.outerjoin(logged, events.c.seq == logged.c.seq)
    query = select(events.c.body).select_from(join).where(logged.c.position.is_(None)).order_by(events.c.seq).limit(1)
    with registry.database.reading() as connection:
        body = connection.execute(query).scalar()
    return datetime.fromisoformat(str(canonical.loads(body)["at"])) if body is not None else None


def verify(registry: Registry, spki: bytes, leaves: Mapping[str, Leaves]) -> int:
    """Compare the registry's events with the log and return how many agree.

    Args:
        registry: whose events.
        spki: DER public key of the agency.
        leaves: the tree of each log that holds the events and nothing else, by origin.

    Raises:
        ChainBrokenError: an event is not what the log has, or is gone from the registry.
    """
    registry.verify_chain()
    events = {event.seq: event for event in registry.events()}
    first = min(events, default=1)
    logged = table("logged")
    with registry.database.reading() as connection:
        kept = connection.execute(logged.select().order_by(logged.c.seq)).all()
    rows = [row for row in kept if row.position is not None]
    for origin, tree in leaves.items():
        if tree.size > sum(row.origin in {origin, ""} for row in kept):
            raise ChainBrokenError(f"expected every event that {origin} holds; the registry lacks some")
    for row in rows:
        event = events.get(row.seq)
        payload = Envelope.from_bytes(row.envelope).payload
        expected = leaf_hash(entry_of(Submission(row.envelope, spki)))
        found = leaves.get(row.origin)
        if event is None and row.seq < first:
            continue  # removed after its time, which ``verify_chain`` checks
        if event is None or canonical.dumps(event.body) != payload:
            raise ChainBrokenError(f"expected event {row.seq} as it was logged; it was altered or removed")
        if found is None or found.hash_at(0, row.position) != expected:
            raise ChainBrokenError(f"expected event {row.seq} at {row.position} of {row.origin}; the log has another")
    return len(rows)


def _waiting(registry: Registry, key: SigningKey) -> list[tuple[int, bytes]]:
    """Return the next events that wait, with their envelopes, which are kept first."""
    events, logged = table("events"), table("logged")
    join = events.outerjoin(logged, events.c.seq == logged.c.seq)
    from sqlalchemy import select

    query = (
        select(events.c.seq, events.c.sha256, events.c.body, logged.c.envelope)
        .select_from(join)
        .where(logged.c.position.is_(None))
        .order_by(events.c.seq)
        .limit(BATCH)
    )
    with registry.transaction() as connection:
        batch = []
        for row in connection.execute(query).all():
            envelope = row.envelope
            if envelope is None:
                envelope = sign(key, PAYLOAD_TYPE, row.body).to_bytes()
                connection.execute(logged.insert().values(seq=row.seq, envelope=envelope))
            batch.append((row.seq, envelope))
    return batch
