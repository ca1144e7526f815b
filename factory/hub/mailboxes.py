"""What the relay holds: sessions and open exchanges, in memory, within limits. No clock, no network.

Rules kept here: only operators create sessions (any actor may create a control session with
an agency); only parties use one; numbers leave no gap and are never given to other bytes;
what one asker may hold at the relay is bounded in count, bytes and age, so that nobody can
use up another's share. ``nodes.contract.frames`` names the status codes.
"""

import hashlib
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from nodes.contract.frames import PARTIES_MAX, SESSION_IDLE_S_MAX, Frame, RelayRefusedError, is_name
from nodes.contract.parameters import LIMITS, Limits

SESSIONS_PER_OWNER_MAX = 1024
"""Most sessions one actor may own at a time."""

BATCH_BYTES_MAX = 16 * 1024 * 1024
"""A fetch hands out frames up to this many bytes together, and always at least one."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an exchange stands: one channel from ``asker`` to ``responder``."""

    session: str
    asker: str
    responder: str
    channel: str


@dataclass(slots=True)
class _Lane:
    """The latest exchange of one channel."""

    sequence: int
    digest: bytes
    touched_at: float
    ask: bytes | None
    reply: bytes | None = None
    reply_digest: bytes = b""

    @property
    def held_bytes(self) -> int:
        return len(self.ask or b"") + len(self.reply or b"")


@dataclass(slots=True)
class _Session:
    owner: str
    parties: set[str]
    ttl_s: int
    expires_at: float
    lanes: dict[Place, _Lane] = field(default_factory=dict)


class Mailboxes:
    """Sessions and exchanges of one relay; one thread uses it.

    Args:
        limits: sizes, counts and ages.
        wake: called with an actor id when a parcel waits for it, and with a ``Place``
            when its reply has come or it is gone.
    """

    def __init__(self, limits: Limits = LIMITS, wake: Callable[[str | Place], None] = lambda _: None) -> None:
        self._limits = limits
        self._wake = wake
        self._sessions: dict[str, _Session] = {}
        self._ended: dict[str, float] = {}
        self._held: dict[str, int] = {}
        self._inbox: dict[str, dict[Place, None]] = {}

    def put_session(
        self, actor: str, session: str, parties: Collection[str], ttl_s: int, *, may_create: bool, now: float
    ) -> None:
        """Create a session, or add parties and time to one's own.

        Raises:
            RelayRefusedError: 400, 403, 410 or 429.
        """
        if not parties or len(parties) > PARTIES_MAX or not all(map(is_name, parties)) or not is_name(session):
            raise RelayRefusedError(400, f"expected 1 to {PARTIES_MAX} parties with well-formed names")
        if not 1 <= ttl_s <= SESSION_IDLE_S_MAX:
            raise RelayRefusedError(400, f"expected ttl_s from 1 to {SESSION_IDLE_S_MAX}")
        if session in self._ended:
            raise RelayRefusedError(410, "this session has ended; open a new one")
        if not may_create or actor not in parties:
            raise RelayRefusedError(403, "expected an operator that is a party, or a control session with an agency")
        known = self._sessions.get(session)
        if known is None:
            if sum(other.owner == actor for other in self._sessions.values()) >= SESSIONS_PER_OWNER_MAX:
                raise RelayRefusedError(429, f"expected at most {SESSIONS_PER_OWNER_MAX} sessions; end some")
            self._sessions[session] = _Session(actor, set(parties), ttl_s, now + ttl_s)
            return
        if known.owner != actor:
            raise RelayRefusedError(403, "this session belongs to another actor")
        if len(known.parties | set(parties)) > PARTIES_MAX:
            raise RelayRefusedError(400, f"expected at most {PARTIES_MAX} parties")
        known.parties |= set(parties)
        known.ttl_s = max(known.ttl_s, ttl_s)
        known.expires_at = now + known.ttl_s

    def end_session(self, actor: str, session: str, *, now: float) -> None:
        """End a session for good; its name is not taken again while it is remembered.

        Raises:
            RelayRefusedError: 403 or 404.
        """
        known = self._sessions.get(session)
        if known is None:
            if session in self._ended:
                return
            raise RelayRefusedError(404, "no such session")
        if known.owner != actor:
            raise RelayRefusedError(403, "this session belongs to another actor")
        self._ended[session] = now
        self._drop_session(session)

    def require_room(self, asker: str, size: int) -> None:
        """Check that ``size`` more bytes fit the asker's share.

        Raises:
            RelayRefusedError: 413 or 429.
        """
        if size > self._limits.frame_bytes_max:
            raise RelayRefusedError(
                413, f"expected at most {self._limits.frame_bytes_max} bytes in a frame, got {size}"
            )
        if self._held.get(asker, 0) + size > self._limits.queue_bytes_max:
            raise RelayRefusedError(429, "this asker's share of the relay is full; wait and repeat")

    def reserve(self, asker: str, size: int) -> None:
        """Set ``size`` bytes of the asker's share aside while a body is being read; may be negative."""
        held = self._held.get(asker, 0) + size
        if held:
            self._held[asker] = held
        else:
            self._held.pop(asker, None)

    def put_ask(self, place: Place, sequence: int, body: bytes, *, now: float) -> bool:
        """Store a parcel for the responder; False when it was stored before.

        Raises:
            RelayRefusedError: 403, 404, 409, 410, 413 or 429.
        """
        session = self._session_for(place.session, place.asker, place.responder, now=now)
        digest = hashlib.sha256(body).digest()
        lane = session.lanes.get(place)
        if lane is not None and sequence == lane.sequence:
            if digest != lane.digest:
                raise RelayRefusedError(409, f"number {sequence} of this channel holds other bytes")
            return False
        expected = 1 if lane is None else lane.sequence + 1
        if sequence != expected:
            raise RelayRefusedError(409, f"expected number {expected} of this channel, got {sequence}")
        if lane is not None and lane.reply is None:
            raise RelayRefusedError(409, f"number {lane.sequence} of this channel is still open")
        self.require_room(place.asker, len(body))
        if lane is None and self._lanes_between(session, place) >= self._limits.frames_queued_max:
            raise RelayRefusedError(
                429, f"expected at most {self._limits.frames_queued_max} open exchanges; wait and repeat"
            )
        self._drop_lane(session, place)
        session.lanes[place] = _Lane(sequence, digest, now, body)
        self.reserve(place.asker, len(body))
        self._inbox.setdefault(place.responder, {})[place] = None
        self._wake(place.responder)
        return True

    def reply_to(self, place: Place, sequence: int, *, now: float) -> bytes | None:
        """Return the reply of an exchange, or None while it is open.

        Raises:
            RelayRefusedError: 403, 404 or 410.
        """
        lane = self._session_for(place.session, place.asker, place.responder, now=now).lanes.get(place)
        if lane is None or lane.sequence != sequence:
            raise RelayRefusedError(404, "no such exchange; put it again")
        return lane.reply

    def drop_channel(self, place: Place) -> None:
        """Forget a channel of the asker; nothing happens when there is none."""
        session = self._sessions.get(place.session)
        if session is not None:
            self._drop_lane(session, place)

    def fetch(self, responder: str, working_on: Iterable[tuple[Place, int]]) -> list[Frame]:
        """Return the oldest parcel of every session and asker, within the size of a batch.

        Args:
            responder: for whom.
            working_on: exchanges the responder has in work; what else their askers put into
                these sessions is left out until these exchanges are answered.
        """
        taken = {(place.session, place.asker) for place, sequence in working_on if self._is_open(place, sequence)}
        frames: list[Frame] = []
        size = 0
        for place in self._inbox.get(responder, {}):
            lane = self._sessions[place.session].lanes[place]
            if (place.session, place.asker) in taken or lane.ask is None:
                continue
            if frames and size + len(lane.ask) > BATCH_BYTES_MAX:
                break
            taken.add((place.session, place.asker))
            size += len(lane.ask)
            frames.append(Frame(place.session, place.asker, place.channel, lane.sequence, lane.ask))
        return frames

    def put_reply(self, place: Place, sequence: int, body: bytes, *, now: float) -> bool:
        """Store the reply and forget the parcel it answers; False when it was stored before.

        Raises:
            RelayRefusedError: 403, 404, 409, 410, 413 or 429.
        """
        session = self._session_for(place.session, place.responder, place.asker, now=now)
        lane = session.lanes.get(place)
        if lane is None or lane.sequence != sequence:
            raise RelayRefusedError(404, "nobody waits for this reply any more")
        digest = hashlib.sha256(body).digest()
        if lane.reply is not None:
            if digest != lane.reply_digest:
                raise RelayRefusedError(409, f"number {sequence} of this channel has another reply")
            return False
        self.require_room(place.asker, len(body) - len(lane.ask or b""))
        self.reserve(place.asker, len(body) - len(lane.ask or b""))
        lane.ask, lane.reply, lane.reply_digest, lane.touched_at = None, body, digest, now
        self._forget_inbox(place)
        self._wake(place)
        self._wake(place.responder)  # the next parcel of this session may go out now
        return True

    def sweep(self, now: float) -> None:
        """Drop sessions left unused too long and exchanges over the age limit."""
        for name in [name for name, session in self._sessions.items() if session.expires_at <= now]:
            self._drop_session(name)
        oldest = now - self._limits.frame_age_s_max
        for session in self._sessions.values():
            for place in [place for place, lane in session.lanes.items() if lane.touched_at <= oldest]:
                self._drop_lane(session, place)
        for name in [name for name, since in self._ended.items() if since <= oldest]:
            del self._ended[name]

    @property
    def held_bytes(self) -> int:
        """Bytes of all exchanges together."""
        return sum(self._held.values())

    def _is_open(self, place: Place, sequence: int) -> bool:
        session = self._sessions.get(place.session)
        lane = session.lanes.get(place) if session is not None else None
        return lane is not None and lane.sequence == sequence and lane.ask is not None

    def _session_for(self, name: str, *parties: str, now: float) -> _Session:
        session = self._sessions.get(name)
        if session is None:
            raise RelayRefusedError(410 if name in self._ended else 404, "no such session, or it has ended")
        if not session.parties.issuperset(parties):
            raise RelayRefusedError(403, "expected parties of this session")
        session.expires_at = now + session.ttl_s
        return session

    @staticmethod
    def _lanes_between(session: _Session, place: Place) -> int:
        return sum(other.asker == place.asker and other.responder == place.responder for other in session.lanes)

    def _drop_session(self, name: str) -> None:
        session = self._sessions.pop(name)
        for place in list(session.lanes):
            self._drop_lane(session, place)

    def _drop_lane(self, session: _Session, place: Place) -> None:
        lane = session.lanes.pop(place, None)
        if lane is None:
            return
        self.reserve(place.asker, -lane.held_bytes)
        self._forget_inbox(place)
        self._wake(place)

    def _forget_inbox(self, place: Place) -> None:
        waiting = self._inbox.get(place.responder)
        if waiting is not None:
            waiting.pop(place, None)
            if not waiting:
                del self._inbox[place.responder]
