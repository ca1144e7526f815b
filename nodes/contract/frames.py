"""Relay interface: paths, headers and limits of the data plane, shared by its three users.

The relay stores opaque frames in one queue per (session, sender, recipient) and hands them
out by long-poll. A frame is a parcel (``nodes.contract.wire``); its place in the queue is a
sequence number that the sender counts from 1. A frame stays queued until the recipient
acknowledges it, so either side may restart and go on.

Privacy: the relay sees who talks to whom, when and how much; frames that one department
sends to another are sealed end to end, orders and steps are signed.

    PUT    /v1/sessions/{session}                    create or confirm: {"parties": […], "ttl_s": n}; operator only
    DELETE /v1/sessions/{session}                    end the session and drop its queues; operator only
    POST   /v1/sessions/{session}/to/{recipient}/{sequence}   put one frame; repeating it is harmless
    GET    /v1/frames?wait_s=20                      next frames for me over all sessions (multipart parcel)
    POST   /v1/sessions/{session}/from/{sender}/{sequence}/ack   frames up to ``sequence`` are done

Status codes: 202 stored · 200 already stored with these bytes · 204 nothing within the wait ·
403 not a party · 404 no such session · 409 this sequence holds other bytes, or a gap ·
410 session ended or expired · 413 frame too large · 429 queue full, wait and repeat.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from nodes.contract import canonical
from nodes.contract.errors import MalformedError, TooLargeError
from nodes.contract.parameters import LIMITS

_MAGIC = b"SFF1"


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame as the relay hands it out.

    Attributes:
        session: the granted session, or ``control.<operator>.<node>`` for requests outside one.
        sender: actor id, from the sender's TLS certificate and not from its word.
        sequence: number in the queue of this session from this sender to the recipient, from 1.
        body: the parcel.
    """

    session: str
    sender: str
    sequence: int
    body: bytes


def pack_frames(frames: Sequence[Frame]) -> bytes:
    """Return several frames as the body of one response."""
    chunks = [_MAGIC, struct.pack(">I", len(frames))]
    for frame in frames:
        head = canonical.dumps({"sender": frame.sender, "sequence": frame.sequence, "session": frame.session})
        chunks += (struct.pack(">IQ", len(head), len(frame.body)), head, frame.body)
    return b"".join(chunks)


def unpack_frames(data: bytes) -> list[Frame]:
    """Read what ``pack_frames`` wrote.

    Raises:
        MalformedError: not such bytes.
        TooLargeError: a frame over the limit.
    """
    if data[:4] != _MAGIC or len(data) < 8:
        raise MalformedError("expected frames that start with SFF1")
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
        head = canonical.loads(data[offset : offset + head_length])
        session, sender, sequence = head.get("session"), head.get("sender"), head.get("sequence")
        if not isinstance(session, str) or not isinstance(sender, str) or not isinstance(sequence, int):
            raise MalformedError("expected session, sender and sequence of a frame")
        frames.append(Frame(session, sender, sequence, data[offset + head_length : end]))
        offset = end
    if offset != len(data):
        raise MalformedError("expected the frames to end with the last one")
    return frames
