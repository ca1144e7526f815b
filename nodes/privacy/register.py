"""The department's tag table: one short pseudorandom tag per record, in buckets, kept per register version.

Preparing costs one evaluation per record (about 70 µs), so table and key are stored in one
file of the node and used again until the register's content or the order's fields change;
then both are made anew, which is the key rotation.

Privacy:
    Tags are outputs of a pseudorandom function under a key that never leaves the node:
    without an evaluation they are random bytes. Every bucket is filled up with random tags
    to one size, so a downloaded bucket tells neither its own nor the register's exact size.
"""

import hashlib
import os
import secrets
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nodes.contract.errors import ContractError
from nodes.contract.tasks.match import BITS_MAX, BUCKET_ROWS_MIN, TAG_BYTES, bucket_of
from nodes.privacy.oprf import EvaluationKey, evaluate_input

_MAGIC = b"SFREG1"
_HEAD = struct.Struct(">6s32s32sBI")
_PAD_STEP = 64


@dataclass(frozen=True, slots=True, repr=False)
class Register:
    """Key and tags of one register version. Its repr shows no tag and no key.

    Attributes:
        key: evaluation key.
        bits: how many bits of an input's digest choose its bucket; 0 means one bucket.
        bucket_rows: tags per bucket, with filling.
        tags: all buckets one after the other, tags sorted within each.
    """

    key: EvaluationKey
    bits: int
    bucket_rows: int
    tags: bytes

    def bucket(self, index: int) -> bytes:
        """Return the tags of bucket ``index``, 16 bytes each."""
        size = self.bucket_rows * TAG_BYTES
        return self.tags[index * size : (index + 1) * size]

    def __repr__(self) -> str:
        return f"Register(bits={self.bits})"


def build(inputs: Sequence[bytes], key: EvaluationKey) -> Register:
    """Compute the tag table of ``inputs`` under ``key``.

    Args:
        inputs: distinct inputs.
        key: a key used for no other register version.
    """
    bits = _bits(inputs)
    buckets: list[list[bytes]] = [[] for _ in range(2**bits)]
    for data in inputs:
        buckets[bucket_of(data, bits)].append(evaluate_input(key, data)[:TAG_BYTES])
    rows = max(map(len, buckets))
    rows += -rows % _PAD_STEP or (0 if rows else _PAD_STEP)
    for bucket in buckets:
        bucket.extend(secrets.token_bytes(TAG_BYTES) for _ in range(rows - len(bucket)))
        bucket.sort()
    return Register(key, bits, rows, b"".join(b"".join(bucket) for bucket in buckets))


def load_or_build(inputs: Sequence[bytes], path: Path) -> Register:
    """Return the stored register if it was made from these inputs, else make and store a new one.

    Args:
        inputs: distinct inputs, sorted.
        path: file of this register and these fields; its folder is made with mode 0700.
    """
    fingerprint = _fingerprint(inputs)
    stored = _load(path, fingerprint)
    if stored is not None:
        return stored
    register = build(inputs, EvaluationKey.generate())
    _store(path, fingerprint, register)
    return register


def _bits(inputs: Sequence[bytes]) -> int:
    """Most bits with which every bucket still holds ``BUCKET_ROWS_MIN`` records."""
    bits = min(BITS_MAX, max(0, (len(inputs) // BUCKET_ROWS_MIN).bit_length() - 1))
    while bits:
        counts = [0] * 2**bits
        for data in inputs:
            counts[bucket_of(data, bits)] += 1
        if min(counts) >= BUCKET_ROWS_MIN:
            break
        bits -= 1
    return bits


def _fingerprint(inputs: Sequence[bytes]) -> bytes:
    digest = hashlib.sha256(b"shufang/v1/register")
    for data in inputs:
        digest.update(hashlib.sha256(data).digest())
    return digest.digest()


def _load(path: Path, fingerprint: bytes) -> Register | None:
    """Read a stored register; a foreign, altered or readable-by-others file counts as none."""
    try:
        if path.stat().st_mode & 0o077:
            return None
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    if len(data) < _HEAD.size + 32 or hashlib.sha256(data[:-32]).digest() != data[-32:]:
        return None
    magic, stored, secret, bits, rows = _HEAD.unpack_from(data)
    tags = data[_HEAD.size : -32]
    if magic != _MAGIC or stored != fingerprint or bits > BITS_MAX or len(tags) != 2**bits * rows * TAG_BYTES:
        return None
    try:
        return Register(EvaluationKey(secret), bits, rows, tags)
    except ContractError:
        return None


def _store(path: Path, fingerprint: bytes, register: Register) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    data = _HEAD.pack(_MAGIC, fingerprint, register.key.secret, register.bits, register.bucket_rows) + register.tags
    data += hashlib.sha256(data).digest()
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(6)}.part")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
