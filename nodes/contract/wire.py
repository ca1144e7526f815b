"""Parcels: one signed envelope followed by the attachments it names.

Big bytes (ciphertexts, masked vectors) travel beside the envelope, not inside; the signed
message lists their SHA-256 digests in order, so they can be neither swapped, dropped nor
altered. Both planes carry parcels and nothing else.

Layout: ``b"SFP1"``, number of parts as u32, then for each part its length as u64 and its
bytes, all big-endian. Part 0 is the envelope.
"""

import struct
from collections.abc import Sequence

from nodes.contract.errors import MalformedError, TooLargeError
from nodes.contract.parameters import LIMITS
from nodes.contract.signing import Envelope, sha256_hex

_MAGIC = b"SFP1"


def pack(envelope: Envelope, attachments: Sequence[bytes] = ()) -> bytes:
    """Return the bytes of a parcel.

    Raises:
        TooLargeError: too many parts, or too many bytes.
    """
    parts = [envelope.to_bytes(), *attachments]
    size = sum(map(len, parts))
    if len(parts) > LIMITS.parts_max or size > LIMITS.parcel_bytes_max:
        raise TooLargeError(f"expected at most {LIMITS.parts_max} parts, {LIMITS.parcel_bytes_max} bytes in a parcel")
    chunks = [_MAGIC, struct.pack(">I", len(parts))]
    for part in parts:
        chunks += (struct.pack(">Q", len(part)), part)
    return b"".join(chunks)


def unpack(data: bytes) -> tuple[Envelope, tuple[bytes, ...]]:
    """Split a parcel; nothing in it is trusted yet.

    Raises:
        TooLargeError: over the limits of ``parameters.LIMITS``.
        MalformedError: wrong magic, lengths that do not add up, or no envelope.
    """
    if len(data) > LIMITS.parcel_bytes_max + 12 * LIMITS.parts_max:
        raise TooLargeError(f"expected at most {LIMITS.parcel_bytes_max} bytes in a parcel, got {len(data)}")
    if data[:4] != _MAGIC or len(data) < 8:
        raise MalformedError("expected a parcel that starts with SFP1")
    (count,) = struct.unpack_from(">I", data, 4)
    if not 1 <= count <= LIMITS.parts_max:
        raise TooLargeError(f"expected 1 to {LIMITS.parts_max} parts, got {count}")
    parts, offset = [], 8
    for _ in range(count):
        if offset + 8 > len(data):
            raise MalformedError("expected more bytes: the parcel is truncated")
        (length,) = struct.unpack_from(">Q", data, offset)
        offset += 8
        if length > len(data) - offset:
            raise MalformedError("expected more bytes: the parcel is truncated")
        parts.append(data[offset : offset + length])
        offset += length
    if offset != len(data):
        raise MalformedError("expected the parcel to end with its last part")
    return Envelope.from_bytes(parts[0]), tuple(parts[1:])


def digests(attachments: Sequence[bytes]) -> tuple[str, ...]:
    """Return the digests that a message lists for its attachments."""
    return tuple(sha256_hex(part) for part in attachments)


def require_attachments(attachments: Sequence[bytes], expected: Sequence[str]) -> None:
    """Check attachments against the digests of the signed message.

    Raises:
        MalformedError: another number, order or content.
    """
    if digests(attachments) != tuple(expected):
        raise MalformedError(f"expected {len(expected)} attachments with the digests of the signed message")
