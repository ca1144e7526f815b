"""The department's tag table: one short pseudorandom tag per record, in buckets, kept and brought up to date.

Evaluating a record costs about 70 µs, so key and values are stored in one file of the node and
used again: when rows come or go, only the new ones are evaluated. After ``KEY_DAYS_MAX`` days
the key is made anew, and everything with it.

Privacy:
    Tags are outputs of a pseudorandom function under a key that never leaves the node:
    without an evaluation they are random bytes. Every bucket is filled up to one size with
    tags of a keyed stream that stays the same from version to version, so that filling and
    records cannot be told apart, not even by who compares two versions; how many entries of
    an asked bucket changed between two versions under one key can be seen.
"""

import hashlib
import os
import secrets
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nodes.contract.errors import ContractError
from nodes.contract.tasks.match import BITS_MAX, BUCKET_ROWS_MIN, TAG_BYTES, cover_of, digest_of
from nodes.privacy.evaluating import VALUE_BYTES, evaluate_many
from nodes.privacy.oprf import EvaluationKey

KEY_DAYS_MAX = 90
"""Days after which a register gets a new key."""
SAVE_EVERY_S = 10.0
"""How often values that are being prepared are saved, in seconds; a node that is killed goes on from there."""

_MAGIC = b"SFREG2"
_HEAD = struct.Struct(">6s32s32sQ16s32sQ")  # key, filling key, made at, version, fingerprint, records
_DIGEST_BYTES = 16
_PAD_STEP = 64


@dataclass(frozen=True, slots=True, repr=False)
class Register:
    """Key and tags of one register version. Its repr shows no tag and no key.

    Attributes:
        key: evaluation key.
        bits: how many bits of an input's digest choose its bucket; 0 means one bucket.
        bucket_rows: entries per bucket, with filling.
        entry_bytes: bytes per entry: tag, and a covered band if there are bands.
        table: all buckets one after the other, entries sorted within each.
        version: random name of this version of the table, 16 bytes.
        records: how many records it holds.
    """

    key: EvaluationKey
    bits: int
    bucket_rows: int
    entry_bytes: int
    table: bytes
    version: bytes
    records: int

    def bucket(self, index: int) -> bytes:
        """Return the entries of bucket ``index``."""
        size = self.bucket_rows * self.entry_bytes
        return self.table[index * size : (index + 1) * size]

    @property
    def table_sha256(self) -> str:
        """Digest of the table, to which the node commits when it opens a session."""
        return hashlib.sha256(self.table).hexdigest()

    def __repr__(self) -> str:
        return f"Register(bits={self.bits})"


@dataclass(frozen=True, slots=True, repr=False)
class _Stored:
    """What the file holds: values per record, sorted by the records' digests."""

    key: EvaluationKey
    filling_key: bytes
    made_at_s: int
    version: bytes
    fingerprint: bytes
    digests: "np.ndarray[Any, Any]"  # n × 16 bytes as V16
    values: "np.ndarray[Any, Any]"  # n × VALUE_BYTES as V


def prepare(
    records: Mapping[bytes, int | None],
    path: Path,
    *,
    now_s: float | None = None,
    progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> Register:
    """Bring the register in a file up to date and return it.

    Args:
        records: band per distinct input, or None where there are no bands.
        path: file of this register and these fields; its folder is made with mode 0700.
        now_s: clock, seconds since 1970.
        progress: told how many of the new records are evaluated, from several threads.

    Raises:
        OSError: the file cannot be written.
    """
    now = int(time.time() if now_s is None else now_s)
    inputs, digests = _sorted(records)
    stored = _load(path, now)
    if stored is None:
        stored = _Stored(
            EvaluationKey.generate(), secrets.token_bytes(32), now, b"", b"", _array(b"", 16), _array(b"", VALUE_BYTES)
        )
    place = np.searchsorted(stored.digests, digests) if len(stored.digests) else np.zeros(len(digests), np.int64)
    known = np.zeros(len(digests), bool)
    if len(stored.digests):
        known = stored.digests[np.minimum(place, len(stored.digests) - 1)] == digests
    values = np.empty(len(digests), f"V{VALUE_BYTES}")
    values[known] = stored.values[place[known]]
    fresh = np.flatnonzero(~known)
    if len(fresh):
        _evaluate(stored, inputs, fresh, digests, values, path=path, progress=progress, known=known)
    bands = [records[data] for data in inputs]
    fingerprint = _fingerprint(digests, bands)
    if fingerprint != stored.fingerprint or len(fresh):
        stored = _Stored(
            stored.key, stored.filling_key, stored.made_at_s, secrets.token_bytes(16), fingerprint, digests, values
        )
        _store(path, stored)
    return _table(stored, bands)


def missing(records: Mapping[bytes, int | None], path: Path, *, now_s: float | None = None) -> int:
    """Return how many records have no value in the file yet."""
    stored = _load(path, int(time.time() if now_s is None else now_s))
    if stored is None:
        return len(records)
    _, digests = _sorted(records)
    return int(len(digests) - np.isin(digests, stored.digests, assume_unique=True).sum())


def _sorted(records: Mapping[bytes, int | None]) -> tuple[list[bytes], "np.ndarray[Any, Any]"]:
    """Inputs and their digests, both in the digests' order."""
    inputs = list(records)
    digests = _array(b"".join(digest_of(data)[:_DIGEST_BYTES] for data in inputs), _DIGEST_BYTES)
    order = np.argsort(digests)
    return [inputs[index] for index in order.tolist()], digests[order]


def _evaluate(
    stored: _Stored,
    inputs: Sequence[bytes],
    fresh: "np.ndarray[Any, Any]",
    digests: "np.ndarray[Any, Any]",
    values: "np.ndarray[Any, Any]",
    *,
    path: Path,
    progress: Callable[[int, int], None],
    known: "np.ndarray[Any, Any]",
) -> None:
    """Evaluate the fresh records into ``values``, saving what is there from time to time."""
    lock = threading.Lock()
    counted, saved_at = 0, time.monotonic()

    def done(start: int, part: bytes) -> None:
        nonlocal counted, saved_at
        with lock:
            places = fresh[start : start + len(part) // VALUE_BYTES]
            values[places] = _array(part, VALUE_BYTES)
            known[places] = True
            counted += len(places)
            progress(counted, len(fresh))
            if time.monotonic() - saved_at > SAVE_EVERY_S and counted < len(fresh):
                partial = _Stored(
                    stored.key, stored.filling_key, stored.made_at_s, bytes(16), b"", digests[known], values[known]
                )
                _store(path, partial)
                saved_at = time.monotonic()

    evaluate_many(stored.key, [inputs[index] for index in fresh.tolist()], done=done)


def _table(stored: _Stored, bands: Sequence[int | None]) -> Register:
    count = len(stored.digests)
    raw = np.frombuffer(stored.values.tobytes(), np.uint8).reshape(count, VALUE_BYTES)
    firsts = np.frombuffer(stored.digests.tobytes(), ">u4").reshape(count, _DIGEST_BYTES // 4)[:, 0].astype(np.uint64)
    bits = _bits(firsts)
    buckets = (firsts >> np.uint64(32 - bits)).astype(np.int64)
    covered = bool(count) and bands[0] is not None
    width = TAG_BYTES + covered
    entries = np.empty((count, width), np.uint8)
    entries[:, :TAG_BYTES] = raw[:, :TAG_BYTES]
    if covered:
        keys = raw[:, TAG_BYTES:].tobytes()
        entries[:, TAG_BYTES] = [
            int(band or 0) ^ cover_of(keys[at : at + 16], stored.version)
            for at, band in zip(range(0, len(keys), 16), bands, strict=True)
        ]
    sizes = np.bincount(buckets, minlength=2**bits)
    rows = max(_PAD_STEP, int(sizes.max(initial=0)) + -int(sizes.max(initial=0)) % _PAD_STEP)
    parts = []
    ends = np.cumsum(sizes)
    for index in range(2**bits):
        own = entries[ends[index] - sizes[index] : ends[index]]
        filling = _filling(stored.filling_key, bits, index, rows - int(sizes[index]), width)
        bucket = np.concatenate([own, filling])
        parts.append(bucket[np.lexsort(bucket.T[::-1])].tobytes())
    return Register(stored.key, bits, rows, width, b"".join(parts), stored.version, count)


def _filling(key: bytes, bits: int, index: int, count: int, width: int) -> "np.ndarray[Any, Any]":
    """Return ``count`` entries that look like any other; the first ones stay when more are needed.

    Source:
        FIPS 202, SHAKE256; keyed by a secret prefix.
    """
    stream = hashlib.shake_256(key + struct.pack(">BI", bits, index)).digest(count * width)
    return np.frombuffer(stream, np.uint8).reshape(count, width)


def _bits(firsts: "np.ndarray[Any, Any]") -> int:
    """Most bits with which every bucket still holds ``BUCKET_ROWS_MIN`` records."""
    bits = min(BITS_MAX, max(0, (len(firsts) // BUCKET_ROWS_MIN).bit_length() - 1))
    while bits:
        counts = np.bincount((firsts >> np.uint64(32 - bits)).astype(np.int64), minlength=2**bits)
        if counts.min() >= BUCKET_ROWS_MIN:
            break
        bits -= 1
    return bits


def _fingerprint(digests: "np.ndarray[Any, Any]", bands: Sequence[int | None]) -> bytes:
    digest = hashlib.sha256(b"shufang/v1/register" + digests.tobytes())
    digest.update(b"" if not bands or bands[0] is None else bytes(int(band or 0) for band in bands))
    return digest.digest()


def _array(data: bytes, width: int) -> "np.ndarray[Any, Any]":
    return np.frombuffer(data, f"S{width}" if width == _DIGEST_BYTES else f"V{width}")


def _load(path: Path, now_s: int) -> _Stored | None:
    """Read a stored register; a foreign, altered, old or readable-by-others file counts as none."""
    try:
        if path.stat().st_mode & 0o077:
            return None
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    if len(data) < _HEAD.size + 32 or hashlib.sha256(data[:-32]).digest() != data[-32:]:
        return None
    magic, secret, filling, made_at, version, fingerprint, count = _HEAD.unpack_from(data)
    body = data[_HEAD.size : -32]
    is_ours = magic == _MAGIC and len(body) == count * (_DIGEST_BYTES + VALUE_BYTES)
    if not is_ours or now_s - made_at > KEY_DAYS_MAX * 86_400:
        return None
    try:
        key = EvaluationKey(secret)
    except ContractError:
        return None
    digests, values = body[: count * _DIGEST_BYTES], body[count * _DIGEST_BYTES :]
    return _Stored(
        key, filling, made_at, version, fingerprint, _array(digests, _DIGEST_BYTES), _array(values, VALUE_BYTES)
    )


def _store(path: Path, stored: _Stored) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    data = b"".join(
        (
            _HEAD.pack(
                _MAGIC, stored.key.secret, stored.filling_key, stored.made_at_s, stored.version or bytes(16),
                stored.fingerprint or bytes(32), len(stored.digests),
            ),
            stored.digests.tobytes(),
            stored.values.tobytes(),
        )
    )  # fmt: skip
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(6)}.part")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.write(hashlib.sha256(data).digest())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
