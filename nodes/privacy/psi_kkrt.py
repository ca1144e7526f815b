"""Which items two nodes share: batched oblivious PRF from OT extension, and cuckoo hashing.

The receiver puts its items into bins, at most one in each; the transfer matrix gives it one PRF value per bin, and
the sender the key of every bin. The sender sends the values of its items in each of their three bins; the receiver
compares. Work is done bucket by bucket, so that beyond a table's keys (and 36 bytes for each) memory does not
grow with it: a bucket holds the items of both sides whose digests end alike.

Source:
    Kolesnikov, Kumaresan, Rosulek and Trieu, "Efficient Batched Oblivious PRF with Applications to Private Set
    Intersection", CCS 2016, figures 2 and 5: pseudorandom code of 448 bits (table 1), three hash functions.
    1.27 bins per item without a stash: Pinkas, Schneider and Zohner, "Scalable Private Set Intersection Based on
    OT Extension", ACM TOPS 2018, section 5; should an item not find a place, the receiver draws other bins before it
    sends anything. Row transposition of the matrix: Ishai et al., CRYPTO 2003.

Privacy:
    Semi-honest parties. The receiver learns which of its items the sender has, and the size of the sender's set. The
    sender learns the size of the receiver's set and nothing else. Above ``BUCKET_ITEMS`` items a side fills its
    buckets to one size that depends on its announced size alone. Tags are long enough that a foreign item passes for a
    shared one with probability below 2**-40 over the whole session, and the sender shuffles them.
"""

import hashlib
import math
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from numpy.typing import NDArray

from nodes.contract.messages import RefusalCode
from nodes.privacy import kernels
from nodes.privacy.kernels import CODE_WORDS, Bytes, Words
from nodes.privacy.ot import exactly, random_choices, receive_seeds, send_seeds
from nodes.tasks.party import Channel
from nodes.tasks.spec import TaskRefusedError

COLUMNS = 64 * CODE_WORDS
BINS_PER_ITEM = 1.27
BINS_MIN = 256
BUCKET_ITEMS = 2**17
KEEP_ITEMS = 2**21
"""Most items whose digests are kept in memory, 64 bytes each."""

SIZE_MAX = 2**27
"""Most items of one side: 134 million."""

_STATISTICAL_BITS = 40
_SALT_BYTES = 32
_HELLO, _MATRIX, _TAGS = "psi.hello", "psi.matrix", "psi.tags"

Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Items:
    """One side's distinct items as bytes.

    Attributes:
        data: all items one after the other.
        offsets: shape ``(n + 1,)``.
    """

    data: Bytes
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @classmethod
    def of(cls, items: list[bytes]) -> "Items":
        """Make from a list of bytes."""
        lengths = np.fromiter(map(len, items), np.int64, len(items))
        return cls(np.frombuffer(b"".join(items), np.uint8), np.concatenate([np.zeros(1, np.int64), lengths.cumsum()]))


@dataclass(frozen=True, slots=True)
class Plan:
    """What both sides compute from the two announced sizes.

    Attributes:
        mine, theirs: sizes.
        buckets: how many.
        sender_rows: tags per bin function and bucket, with filling.
        bins: bins per bucket.
        tag_bytes: length of a tag.
    """

    mine: int
    theirs: int
    buckets: int
    sender_rows: int
    bins: int
    tag_bytes: int

    @classmethod
    def of(cls, receiver: int, sender: int, *, mine: int, theirs: int) -> "Plan":
        """Plan for a receiver's and a sender's size."""
        buckets = max(1, -(-max(receiver, sender) // BUCKET_ITEMS))
        receiver_rows, sender_rows = (_bucket_rows(size, buckets) for size in (receiver, sender))
        bins = max(BINS_MIN, math.ceil(receiver_rows * BINS_PER_ITEM))
        bits = _STATISTICAL_BITS + max(1, receiver).bit_length() + max(1, sender_rows).bit_length()
        return cls(mine, theirs, buckets, sender_rows, -(-bins // 64) * 64, max(8, -(-bits // 8)))


@dataclass(frozen=True, slots=True)
class Compared:
    """What one side knows after the protocol.

    Attributes:
        names: shape ``(n, 2)``, a 128-bit name of every own item under the session's key; the peer knows the names of
            its own items alone.
        shared: shape ``(n,)``, whether the peer has the item; of shape ``(0,)`` at the sender, which does not learn it.
        theirs: size of the peer's set.
    """

    names: Words
    shared: NDArray[np.bool_]
    theirs: int


def receive_intersection(channel: Channel, items: Items) -> Compared:
    """Learn which of ``items`` the sender has too.

    Args:
        channel: to a peer that runs ``send_intersection``.
        items: own items, each once.

    Returns:
        With ``shared``: whether the sender has the item.

    Raises:
        TaskRefusedError, BadElementError: the peer broke the protocol.
        ValueError: an item occurs twice.
    """
    key, theirs = _greet(channel, len(items))
    plan = Plan.of(len(items), theirs, mine=len(items), theirs=theirs)
    seeds = send_seeds(channel, COLUMNS)
    first = [_stream(seed) for seed, _ in seeds]
    second = [_stream(seed) for _, seed in seeds]
    shared = np.zeros(len(items), np.bool_)
    arranged = _Arranged(items, key, plan.buckets)
    for number in range(plan.buckets):
        rows, digests = arranged.bucket(number)
        shared[rows[_receive_bucket(channel, plan, (first, second), digests)]] = True
    return Compared(arranged.names, shared, theirs)


def send_intersection(channel: Channel, items: Items) -> Compared:
    """Let the peer learn which of its items occur in ``items``.

    Returns:
        Names and the size of the peer's set.

    Raises:
        TaskRefusedError, BadElementError: the peer broke the protocol.
        ValueError: an item occurs twice.
    """
    key, theirs = _greet(channel, len(items))
    plan = Plan.of(theirs, len(items), mine=len(items), theirs=theirs)
    choices = random_choices(COLUMNS)
    streams = [_stream(seed) for seed in receive_seeds(channel, choices)]
    arranged = _Arranged(items, key, plan.buckets)
    for number in range(plan.buckets):
        _, digests = arranged.bucket(number)
        _send_bucket(channel, plan, streams, choices, digests)
    return Compared(arranged.names, np.zeros(0, np.bool_), theirs)


def _receive_bucket(
    channel: Channel, plan: Plan, streams: tuple[list[CipherContext], list[CipherContext]], digests: Words
) -> NDArray[np.int64]:
    """Do one bucket and return which of its items are shared, by position in ``digests``."""
    seed, table, turns = _placed(digests, plan.bins)
    filled = np.flatnonzero(table >= 0)
    codes = np.frombuffer(os.urandom(plan.bins * 8 * CODE_WORDS), np.uint64).reshape(plan.bins, CODE_WORDS).copy()
    codes[filled] = digests[table[filled], :CODE_WORDS]
    matrix = kernels.to_columns(codes)
    del codes
    own = _expand(streams[0], plan.bins)
    matrix ^= own
    matrix ^= _expand(streams[1], plan.bins)
    channel.send(_MATRIX, seed.to_bytes(8, "big") + matrix.tobytes())
    del matrix
    values = kernels.digest_rows(kernels.to_rows(own)[filled], filled)[:, : plan.tag_bytes]
    del own
    size = plan.sender_rows * plan.tag_bytes
    data = exactly(channel, _TAGS, 3 * size)
    taken = turns[table[filled]]
    shared = []
    for turn in range(3):
        tags = np.frombuffer(data, np.uint8, size, turn * size).reshape(plan.sender_rows, plan.tag_bytes)
        mine = np.flatnonzero(taken == turn)
        found = kernels.find(np.ascontiguousarray(values[mine]), tags) >= 0
        shared.append(table[filled[mine[found]]])
    return np.concatenate(shared)


def _send_bucket(
    channel: Channel, plan: Plan, streams: list[CipherContext], choices: NDArray[np.uint8], digests: Words
) -> None:
    own = _expand(streams, plan.bins)
    data = exactly(channel, _MATRIX, 8 + own.nbytes)
    theirs = np.frombuffer(data, np.uint64, own.size, 8).reshape(own.shape)
    for column in np.flatnonzero(choices):
        own[column] ^= theirs[column]
    seed = int.from_bytes(data[:8], "big")
    del data, theirs
    matrix = kernels.to_rows(own)
    del own
    mask = np.packbits(choices, bitorder="little").view(np.uint64)
    codes = np.ascontiguousarray(digests[:, :CODE_WORDS])
    bins = kernels.places(np.ascontiguousarray(digests[:, CODE_WORDS]), seed, plan.bins)
    parts = []
    for turn in range(3):
        tags = np.frombuffer(os.urandom(plan.sender_rows * plan.tag_bytes), np.uint8).reshape(plan.sender_rows, -1)
        tags = tags.copy()
        values = kernels.digest_masked(matrix, np.ascontiguousarray(bins[:, turn]), codes, mask)
        tags[: len(values)] = values[:, : plan.tag_bytes]
        kernels.shuffle(tags, np.frombuffer(os.urandom(8 * len(tags)), np.uint64))
        parts.append(tags.tobytes())
    channel.send(_TAGS, b"".join(parts))


def _greet(channel: Channel, size: int) -> tuple[bytes, int]:
    """Exchange sizes and halves of the key under which items are hashed."""
    if not 1 <= size <= SIZE_MAX:
        raise TaskRefusedError(RefusalCode.RESOURCE_ROWS, f"expected 1 to {SIZE_MAX} items")
    own = secrets.token_bytes(_SALT_BYTES)
    channel.send(_HELLO, size.to_bytes(8, "big") + own)
    data = exactly(channel, _HELLO, 8 + _SALT_BYTES)
    theirs = int.from_bytes(data[:8], "big")
    if not 1 <= theirs <= SIZE_MAX:
        raise TaskRefusedError(RefusalCode.TASK_PROTOCOL, f"expected a set of 1 to {SIZE_MAX} items")
    return hashlib.sha256(b"shufang/v1/psi" + b"".join(sorted((own, data[8:])))).digest(), theirs


def _bucket_rows(size: int, buckets: int) -> int:
    """Return a bound on the items of one bucket: Chernoff's, missed with probability below 2**-40 in all buckets."""
    if buckets == 1:
        return size
    mean = size / buckets
    exponent = (_STATISTICAL_BITS + math.log2(buckets)) * math.log(2)
    # Pr[X >= mean + t] <= exp(-t^2 / (2 mean + 2 t / 3)): solve for t.
    return min(size, math.ceil(mean + exponent / 3 + math.sqrt(exponent**2 / 9 + 2 * mean * exponent)))


class _Arranged:
    """Own items in buckets. Digests of large tables are made again for each bucket rather than all kept."""

    def __init__(self, items: Items, key: bytes, buckets: int) -> None:
        self._items, self._key = items, key
        self._kept: Words | None = None
        self.names = np.empty((len(items), 2), np.uint64)
        bucket = np.zeros(len(items), np.int32)
        for start in range(0, len(items), KEEP_ITEMS):
            rows = np.arange(start, min(start + KEEP_ITEMS, len(items)))
            digests = kernels.digest_items(items.data, items.offsets, key, rows)
            self.names[rows] = digests[:, :2]
            # The last word's upper half chooses the bucket; bins within it come from a mix of the whole word.
            bucket[rows] = (digests[:, CODE_WORDS] >> np.uint64(32)) * np.uint64(buckets) >> np.uint64(32)
            self._kept = digests if len(items) <= KEEP_ITEMS else None
        _require_distinct(self.names)
        self._order = np.argsort(bucket, kind="stable")
        self._starts = np.concatenate([[0], np.bincount(bucket, minlength=buckets).cumsum()])

    def bucket(self, number: int) -> tuple[NDArray[np.int64], Words]:
        """Return the rows of one bucket and their digests."""
        rows = self._order[self._starts[number] : self._starts[number + 1]]
        if self._kept is not None:
            return rows, self._kept[rows]
        return rows, kernels.digest_items(self._items.data, self._items.offsets, self._key, rows)


def _require_distinct(names: Words) -> None:
    first = np.sort(names[:, 0])
    if len(first) > 1 and bool((first[1:] == first[:-1]).any()) and len(np.unique(names, axis=0)) != len(names):
        raise ValueError("expected each item once")


def _placed(digests: Words, bins: int) -> tuple[int, Places, NDArray[np.int8]]:
    for _ in range(64):
        seed = secrets.randbits(63)
        done = kernels.cuckoo(kernels.places(np.ascontiguousarray(digests[:, CODE_WORDS]), seed, bins), bins, seed)
        if done is not None:
            return seed, *done
    raise TaskRefusedError(RefusalCode.TASK_FAILED, "expected the items to fit their bins; repeat the session")


def _stream(seed: bytes) -> CipherContext:
    return Cipher(algorithms.AES128(seed), modes.CTR(bytes(16))).encryptor()


def _expand(streams: list[CipherContext], bins: int) -> Words:
    """Return the next ``bins`` bits of every stream, shape ``(COLUMNS, bins / 64)``."""
    out = np.empty((len(streams), bins // 64), np.uint64)
    zeros = bytes(bins // 8)
    for row, stream in zip(_rows_of(out), streams, strict=True):
        stream.update_into(zeros, row)
    return out


def _rows_of(matrix: Words) -> Iterator[memoryview]:
    for row in matrix:
        yield memoryview(row).cast("B")
