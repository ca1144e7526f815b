"""Loops over whole tables for private set intersection, compiled with numba.

Nothing here is a cryptographic primitive of our own: BLAKE2b is libsodium's (the library that ``rbcl``
brings along), called in a loop without a detour through Python for every row. The rest moves bits.

Privacy: pure functions on a node's own memory; nothing is sent, logged or kept.
"""

import ctypes
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nodes.contract.group import rbcl
from nodes.errors import MissingPartError

try:
    import numba
    from llvmlite import ir
    from numba import types
    from numba.extending import intrinsic
except ImportError as error:  # pragma: no cover  the tests have it
    raise MissingPartError(
        "expected the extra `vertical` for work between departments; install it: pip install 'shufang[vertical]'"
    ) from error

CODE_WORDS = 7
"""64-bit words of one row of the transfer matrix: 448 bits."""

Bytes = NDArray[np.uint8]
Words = NDArray[np.uint64]


@cache
def _blake2b_address() -> int:
    function = rbcl.rbcl._sodium.crypto_generichash_blake2b  # noqa: SLF001  the library rbcl loaded
    return int(ctypes.cast(function, ctypes.c_void_p).value or 0)


@intrinsic  # type: ignore[untyped-decorator]  # numba has no types
def _blake2b(_typing: Any, address: Any, out: Any, out_size: Any, data: Any, size: Any, key: Any, key_size: Any) -> Any:  # noqa: PLR0917  as the C function
    """Call crypto_generichash_blake2b(out, outlen, in, inlen, key, keylen) at ``address``; all arguments are int64."""
    signature = types.int32(types.int64, types.int64, types.int64, types.int64, types.int64, types.int64, types.int64)

    def build(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        del context
        word = ir.IntType(64)
        kind = ir.FunctionType(ir.IntType(32), [word] * 6)
        function = builder.inttoptr(arguments[0], kind.as_pointer())
        return builder.call(function, list(arguments[1:]))

    del address, out, out_size, data, size, key, key_size
    return signature, build


_hash: Any = _blake2b
"""The intrinsic as compiled code calls it: without the first parameter."""


def _jit(function: Any) -> Any:
    return numba.njit(cache=True, nogil=True, boundscheck=False)(function)


@_jit
def _digest_items(address: Any, data: Any, offsets: Any, key: Any, rows: Any, out: Any) -> None:  # noqa: PLR0917
    base, target, secret = data.ctypes.data, out.ctypes.data, key.ctypes.data
    for place in range(out.shape[0]):
        row = rows[place]
        start = offsets[row]
        _hash(address, target + 64 * place, 64, base + start, offsets[row + 1] - start, secret, 32)


@_jit
def _digest_rows(address: Any, rows: Any, bins: Any, out: Any) -> None:
    block = np.empty(8, np.uint64)
    source, target = block.ctypes.data, out.ctypes.data
    for row in range(out.shape[0]):
        for word in range(7):
            block[word] = rows[row, word]
        block[7] = bins[row]
        _hash(address, target + 16 * row, 16, source, 64, 0, 0)


@_jit
def _digest_masked(address: Any, matrix: Any, bins: Any, codes: Any, mask: Any, out: Any) -> None:  # noqa: PLR0917
    block = np.empty(8, np.uint64)
    source, target = block.ctypes.data, out.ctypes.data
    for row in range(out.shape[0]):
        place = bins[row]
        for word in range(7):
            block[word] = matrix[place, word] ^ (codes[row, word] & mask[word])
        block[7] = np.uint64(place)
        _hash(address, target + 16 * row, 16, source, 64, 0, 0)


@_jit
def _append(data: Any, offsets: Any, out: Any, positions: Any) -> None:
    for row in range(positions.shape[0]):
        place, start, end = positions[row], offsets[row], offsets[row + 1]
        size = end - start
        out[place] = np.uint8(size >> 8)
        out[place + 1] = np.uint8(size & 255)
        place += 2
        for byte in range(start, end):
            out[place] = data[byte]
            place += 1
        positions[row] = place


@_jit
def _prefix(head: Any, out: Any, positions: Any) -> None:
    for row in range(positions.shape[0]):
        place = positions[row]
        for byte in range(head.shape[0]):
            out[place + byte] = head[byte]
        positions[row] = place + head.shape[0]


@_jit
def _firsts(data: Any, offsets: Any, skip: int, bits: int, slots: Any, first: Any) -> None:  # noqa: PLR0917
    limit = np.uint64((1 << bits) - 1)
    for row in range(first.shape[0]):
        start, end = offsets[row], offsets[row + 1]
        mixed = np.uint64(end - start)
        for word in range(start + skip, end, 8):
            value = np.uint64(0)
            for byte in range(word, min(word + 8, end)):
                value = (value << np.uint64(8)) | np.uint64(data[byte])
            mixed = (mixed ^ value) * np.uint64(0x9E3779B97F4A7C15)
            mixed ^= mixed >> np.uint64(32)
        place = np.int64(_mix(mixed) & limit)
        first[row] = True
        while slots[place] >= 0:
            other = slots[place]
            begin = offsets[other]
            equal = offsets[other + 1] - begin == end - start
            if equal:
                for byte in range(end - start):
                    if data[begin + byte] != data[start + byte]:
                        equal = False
                        break
            if equal:
                first[row] = False
                break
            place = (place + 1) & np.int64(limit)
        if first[row]:
            slots[place] = row


@_jit
def _flip(block: Any) -> None:
    """Transpose 64 words of 64 bits in place (Hacker's Delight, section 7-3, for 64 bits)."""
    width = 32
    mask = np.uint64(0x00000000FFFFFFFF)
    while width:
        place = 0
        while place < 64:
            swapped = ((block[place] >> np.uint64(width)) ^ block[place + width]) & mask
            block[place + width] ^= swapped
            block[place] ^= swapped << np.uint64(width)
            place = (place + width + 1) & ~width
        width >>= 1
        mask ^= mask << np.uint64(width)


@_jit
def _to_rows(columns: Any, out: Any) -> None:
    block = np.empty(64, np.uint64)
    for band in range(columns.shape[0] // 64):
        for place in range(columns.shape[1]):
            for row in range(64):
                block[row] = columns[band * 64 + row, place]
            _flip(block)
            for row in range(64):
                out[place * 64 + row, band] = block[row]


@_jit
def _to_columns(rows: Any, out: Any) -> None:
    block = np.empty(64, np.uint64)
    for place in range(rows.shape[0] // 64):
        for band in range(rows.shape[1]):
            for row in range(64):
                block[row] = rows[place * 64 + row, band]
            _flip(block)
            for row in range(64):
                out[band * 64 + row, place] = block[row]


@_jit
def _mix(word: Any) -> Any:
    """Spread a digest word (Steele et al., OOPSLA 2014, splitmix64); for places in a table, not for secrecy."""
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))


@_jit
def _places(words: Any, seed: Any, bins: Any, out: Any) -> None:
    for row in range(words.shape[0]):
        for turn in range(3):
            mixed = _mix(words[row] + (seed + np.uint64(turn)) * np.uint64(0x9E3779B97F4A7C15))
            out[row, turn] = np.int64((mixed >> np.uint64(32)) * np.uint64(bins) >> np.uint64(32))


@_jit
def _insert(places: Any, table: Any, turns: Any, walk: Any) -> Any:
    """Cuckoo insertion by random walk; returns how many items found a place."""
    state = walk
    for item in range(places.shape[0]):
        current, last, done = item, -1, False
        for _ in range(2000):
            for turn in range(3):
                place = places[current, turn]
                if table[place] < 0:
                    table[place] = current
                    turns[current] = turn
                    done = True
                    break
            if done:
                break
            state = state * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
            turn = np.int64((state >> np.uint64(33)) % np.uint64(3))  # type: ignore[assignment]  # numba's types
            if turn == last:
                turn = (turn + 1) % 3
            place = places[current, turn]
            evicted = table[place]
            table[place] = current
            turns[current] = turn
            current = evicted
            last = turns[evicted]
        if not done:
            return item
    return places.shape[0]


@_jit
def _shuffle(tags: Any, draws: Any) -> None:
    """Fisher-Yates over rows with drawn words; the bias is below rows / 2**64 per step."""
    for row in range(tags.shape[0] - 1, 0, -1):
        other = np.int64(draws[row] % np.uint64(row + 1))
        for byte in range(tags.shape[1]):
            kept = tags[row, byte]
            tags[row, byte] = tags[other, byte]
            tags[other, byte] = kept


@_jit
def _word_at(tags: Any, row: int) -> Any:
    word = np.uint64(0)
    for byte in range(8):
        word |= np.uint64(tags[row, byte]) << np.uint64(8 * byte)
    return word


@_jit
def _find(mine: Any, theirs: Any, bits: int, slots: Any, found: Any) -> None:
    """Mark rows of ``mine`` that occur among ``theirs``; both hold pseudorandom tags of at least 8 bytes."""
    limit = np.uint64((1 << bits) - 1)
    for row in range(theirs.shape[0]):
        place = np.int64(_word_at(theirs, row) & limit)
        while slots[place] >= 0:
            place = (place + 1) & np.int64(limit)
        slots[place] = row
    for row in range(mine.shape[0]):
        place = np.int64(_word_at(mine, row) & limit)
        while slots[place] >= 0:
            other = slots[place]
            equal = True
            for byte in range(mine.shape[1]):
                if mine[row, byte] != theirs[other, byte]:
                    equal = False
                    break
            if equal:
                found[row] = other
                break
            place = (place + 1) & np.int64(limit)


def digest_items(data: Bytes, offsets: NDArray[np.int64], key: bytes, rows: NDArray[np.int64] | None = None) -> Words:
    """Return BLAKE2b-512 of items under ``key``.

    Args:
        data: all items' bytes, one after the other.
        offsets: shape ``(n + 1,)``; item i is ``data[offsets[i]:offsets[i + 1]]``.
        key: 32 bytes.
        rows: which items; all of them if not given.

    Returns:
        Shape ``(n, 8)``, or ``(len(rows), 8)``.

    Source:
        RFC 7693.
    """
    _require(len(key) == 32 and offsets[0] == 0 and offsets[-1] == len(data), "offsets within data, key of 32 bytes")
    chosen = np.arange(len(offsets) - 1) if rows is None else rows
    _require(not len(chosen) or (int(chosen.min()) >= 0 and int(chosen.max()) < len(offsets) - 1), "rows of the items")
    out = np.empty((len(chosen), 8), np.uint64)
    _digest_items(_blake2b_address(), data, offsets, np.frombuffer(key, np.uint8), chosen, out)
    return out


def digest_rows(rows: Words, bins: NDArray[np.int64]) -> Bytes:
    """Return the first 16 bytes of BLAKE2b-128 over (row, bin) for rows of shape ``(n, 7)``; shape ``(n, 16)``."""
    _require(rows.shape == (len(bins), CODE_WORDS), "a bin per row of 7 words")
    out = np.empty((len(bins), 16), np.uint8)
    _digest_rows(_blake2b_address(), np.ascontiguousarray(rows), bins, out)
    return out


def digest_masked(matrix: Words, bins: NDArray[np.int64], codes: Words, mask: Words) -> Bytes:
    """Return ``digest_rows(matrix[bins] ^ (codes & mask), bins)`` without making these rows."""
    _require(codes.shape == (len(bins), CODE_WORDS), "a code per bin")
    _require(len(bins) == 0 or (int(bins.min()) >= 0 and int(bins.max()) < len(matrix)), "bins within the matrix")
    out = np.empty((len(bins), 16), np.uint8)
    _digest_masked(_blake2b_address(), matrix, bins, codes, mask, out)
    return out


def append_fields(data: Bytes, offsets: NDArray[np.int64], out: Bytes, positions: NDArray[np.int64]) -> None:
    """Write one field of every row into ``out``: its length in two bytes and its bytes; move ``positions`` on."""
    _require(len(offsets) == len(positions) + 1, "a field per row")
    _append(data, offsets, out, positions)


def prefix(head: bytes, out: Bytes, positions: NDArray[np.int64]) -> None:
    """Write ``head`` at every position of ``out`` and move the positions on."""
    _prefix(np.frombuffer(head, np.uint8), out, positions)


def firsts(data: Bytes, offsets: NDArray[np.int64], *, skip: int = 0) -> NDArray[np.bool_]:
    """Return, for every item, whether no earlier one equals it; ``skip`` is a length in which all are alike."""
    count = len(offsets) - 1
    bits = max(4, (2 * max(1, count) - 1).bit_length())
    first = np.empty(count, np.bool_)
    _firsts(data, offsets, skip, bits, np.full(1 << bits, -1, np.int32), first)
    return first


def to_rows(columns: Words) -> Words:
    """Transpose a bit matrix of shape ``(64 * k, n / 64)`` words (columns) into ``(n, k)`` words (rows)."""
    out = np.empty((columns.shape[1] * 64, columns.shape[0] // 64), np.uint64)
    _to_rows(columns, out)
    return out


def to_columns(rows: Words) -> Words:
    """Transpose ``(n, k)`` words of rows into ``(64 * k, n / 64)`` words; ``n`` is a multiple of 64."""
    out = np.empty((rows.shape[1] * 64, rows.shape[0] // 64), np.uint64)
    _to_columns(rows, out)
    return out


def places(words: Words, seed: int, bins: int) -> NDArray[np.int64]:
    """Return three bins per digest word, shape ``(n, 3)``, each in ``[0, bins)``."""
    out = np.empty((len(words), 3), np.int64)
    _places(words, np.uint64(seed), bins, out)
    return out


def cuckoo(items: NDArray[np.int64], bins: int, walk: int) -> tuple[NDArray[np.int64], NDArray[np.int8]] | None:
    """Place every item in one of its three bins.

    Args:
        items: bins per item, from ``places``.
        bins: size of the table.
        walk: start of the random walk; any number.

    Returns:
        Item per bin (-1 for none), and which of its bins each item took; None if they do not fit.
    """
    table, turns = np.full(bins, -1, np.int64), np.zeros(len(items), np.int8)
    return (table, turns) if _insert(items, table, turns, np.uint64(walk)) == len(items) else None


def shuffle(tags: Bytes, draws: Words) -> None:
    """Shuffle rows in place with one word per row from a cryptographic generator."""
    _shuffle(tags, draws)


def find(mine: Bytes, theirs: Bytes) -> NDArray[np.int64]:
    """Return, for every row of ``mine``, the row of ``theirs`` that equals it, or -1."""
    bits = max(4, (2 * max(1, len(theirs)) - 1).bit_length())
    found = np.full(len(mine), -1, np.int64)
    _find(mine, theirs, bits, np.full(1 << bits, -1, np.int64), found)
    return found


def _require(holds: bool, expected: str) -> None:
    if not holds:
        raise ValueError(f"expected {expected}")


def compile_all() -> None:
    """Compile every loop, or load it from the cache beside this module; a few seconds the first time."""
    items = digest_items(np.zeros(128, np.uint8), np.arange(129), bytes(32))
    codes = np.ascontiguousarray(items[:, :CODE_WORDS])
    rows = to_rows(to_columns(codes))
    bins = places(np.ascontiguousarray(items[:, CODE_WORDS]), 1, 256)
    cuckoo(bins[:8], 256, 1)
    tags = digest_masked(rows, np.arange(128), codes, codes[0].copy())
    shuffle(tags, np.ones(128, np.uint64))
    find(digest_rows(rows, np.arange(128)), tags)
    append_fields(np.zeros(4, np.uint8), np.arange(5), np.zeros(16, np.uint8), np.arange(0, 12, 3))
    prefix(bytes(1), np.zeros(16, np.uint8), np.arange(4))
    firsts(np.zeros(4, np.uint8), np.arange(5))


if __name__ == "__main__":
    compile_all()
