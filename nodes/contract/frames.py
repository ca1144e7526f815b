"""Relay interface: paths, headers and limits of the data plane, shared by its users.

The relay carries *exchanges*: an asker puts a parcel for a responder, the responder fetches
it by long-poll and puts the reply, the asker waits for it by long-poll. An exchange has a
place: (session, asker, responder, channel, sequence). A *channel* is a name the asker draws
for one stream of exchanges, so that several processes of one actor, or one that restarts,
never mix; within a channel the sequence counts 1, 2, 3 … and one exchange is open at a time.

A parcel stays at the relay until its reply is stored, a reply until the asker moves on, so
any of the three may restart: the responder is handed unanswered parcels again, the asker
asks again with the same bytes, and a relay that lost its memory answers 404 upon which the
asker creates the session anew and repeats.

Privacy: the relay sees who talks to whom, when and how much; frames that one department
sends to another are sealed end to end, asks and replies are signed.

    PUT    /v1/sessions/{session}                {"parties": […], "ttl_s": n}: create, or add parties and time
    DELETE /v1/sessions/{session}                end it for good and drop what it holds
    POST   /v1/sessions/{session}/asks/{responder}/{channel}/{sequence}?wait_s=n    put; wait for the reply
    GET    /v1/sessions/{session}/asks/{responder}/{channel}/{sequence}?wait_s=n    wait for the reply
    DELETE /v1/sessions/{session}/asks/{responder}/{channel}    drop the channel and what it holds
    GET    /v1/frames?wait_s=n&busy=…            for me: the oldest parcel of every session and asker, except where
                                                 an exchange of theirs listed in busy (session/asker/channel/sequence,…)
                                                 is still unanswered
    POST   /v1/sessions/{session}/replies/{asker}/{channel}/{sequence}    put the reply
    GET    /v1/health                            200 for every known actor

Status codes: 200 done, or the reply, or stored before with these very bytes · 201 stored · 202 stored,
no reply yet · 204 nothing within the wait · 400 malformed · 403 unknown actor or not a party · 404 no such
session or exchange · 409 a gap, other bytes under this number, or an exchange still open · 410 session
ended · 411 no length · 413 frame too large · 429 full, wait and repeat.

Only operators create sessions; any actor may create ``control.<itself>.…`` sessions with an agency.
"""

import json
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from nodes.contract import canonical, wire
from nodes.contract.errors import ContractError, MalformedError, TooLargeError
from nodes.contract.parameters import LIMITS

_MAGIC = b"SFF2"
_NAME = re.compile(r"[a-z0-9][a-z0-9._:-]{0,95}")
_STEP_TYPE = "application/vnd.shufang.step.v1+json"
_QUERY_TYPE = "application/vnd.shufang.query.v1+json"
_POSITION = "session.position"

PARTIES_MAX = 256
"""Most parties of one session."""

SESSION_IDLE_S_MAX = 86_400
"""Longest time a session may be left unused before the relay forgets it, in seconds."""

WAIT_S_MAX = 30
"""Longest long-poll, in seconds; below the idle limits usual for firewalls and proxies."""


class RelayRefusedError(ContractError):
    """The relay refuses a request.

    Attributes:
        status: HTTP status code as listed above.
    """

    code: ClassVar[str] = "relay.refused"

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Frame:
    """One parcel as the relay hands it to the responder.

    Attributes:
        session: the granted session, or a control session.
        asker: actor id, from the asker's TLS certificate and not from its word.
        channel: the asker's stream within the session.
        sequence: number within the channel, from 1.
        body: the parcel.
    """

    session: str
    asker: str
    channel: str
    sequence: int
    body: bytes


def is_name(text: str) -> bool:
    """Whether ``text`` is fit as a session, actor or channel in a path."""
    return _NAME.fullmatch(text) is not None


def control_session(asker: str, responder: str) -> str:
    """Return the name of the standing session for requests outside a granted session.

    Raises:
        ValueError: the two ids are too long together.
    """
    name = f"control.{asker}.{responder}"
    if not is_name(name):
        raise ValueError(f"expected actor ids that fit a session name of 96 characters, got {len(name)}")
    return name


def session_of(parcel: bytes) -> str | None:
    """Return the session that a step, or a query for one's position in it, belongs to; None for all else.

    The parcel is the caller's own; nothing is verified here.

    Raises:
        MalformedError: not a parcel.
    """
    envelope, _ = wire.unpack(parcel)
    if envelope.payload_type not in {_STEP_TYPE, _QUERY_TYPE}:
        return None
    payload = json.loads(envelope.payload)
    if envelope.payload_type == _QUERY_TYPE:
        if payload.get("kind") != _POSITION:
            return None
        payload = payload.get("body")
    session = payload.get("session_id")
    if not isinstance(session, str) or not is_name(session):
        raise MalformedError("expected the session of a step")
    return session


def pack_frames(frames: Sequence[Frame]) -> bytes:
    """Return several frames as the body of one response."""
    chunks = [_MAGIC, struct.pack(">I", len(frames))]
    for frame in frames:
        head = canonical.dumps(
            {"asker": frame.asker, "channel": frame.channel, "sequence": frame.sequence, "session": frame.session}
        )
        chunks += (struct.pack(">IQ", len(head), len(frame.body)), head, frame.body)
    return b"".join(chunks)


def unpack_frames(data: bytes) -> list[Frame]:
    """Read what ``pack_frames`` wrote.

    Raises:
        MalformedError: not such bytes.
        TooLargeError: a frame over the limit.
    """
    if data[:4] != _MAGIC or len(data) < 8:
        raise MalformedError("expected frames that start with SFF2")
    (count,) = struct.unpack_from(">I", data, 4)
    frames, offset = [], 8
    for _ in range(count):
        if offset + 12 > len(data):
            raise MalformedError("expected more bytes: the frames are truncated")
        head_length, body_length = struct.unpack_from(">IQ", data, offset)
        offset += 12
        if head_length > 4096 or body_length > LIMITS.frame_bytes_max:
            raise TooLargeError(f"expected frames of at most {LIMITS.frame_bytes_max} bytes")
        end = offset + head_length + body_length
        if end > len(data):
            raise MalformedError("expected more bytes: the frames are truncated")
        frames.append(_frame(data[offset : offset + head_length], data[offset + head_length : end]))
        offset = end
    if offset != len(data):
        raise MalformedError("expected the frames to end with the last one")
    return frames


def _frame(head_bytes: bytes, body: bytes) -> Frame:
    head = canonical.loads(head_bytes)
    names = (head.get("session"), head.get("asker"), head.get("channel"))
    sequence = head.get("sequence")
    if not isinstance(sequence, int) or sequence < 1:
        raise MalformedError("expected the sequence of a frame, from 1")
    session, asker, channel = (name if isinstance(name, str) and is_name(name) else "" for name in names)
    if not (session and asker and channel):
        raise MalformedError("expected session, asker and channel of a frame")
    return Frame(session, asker, channel, sequence, body)
