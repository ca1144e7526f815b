"""The tiles of a log: where hashes and entries lie, and proofs read from them.

A tile holds up to 256 consecutive hashes of one level; level L+1 holds the hashes of the full
tiles of level L. The entry bundles beside level 0 hold the entries themselves. Nothing here
is believed: whoever reads compares the root with a signed checkpoint.

Source:
    c2sp.org/tlog-tiles; RFC 9162 sections 2.1.1 (root), 2.1.3.1 and 2.1.4.1 (proofs).
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from factory.log.errors import LogCorruptError
from products.log import EMPTY_ROOT, HASH_SIZE, leaf_hash, node_hash

TILE_HEIGHT = 8
TILE_WIDTH = 256
ENTRY_BYTES_MAX = 2**16 - 1
_CACHED_TILES = 64


def tile_path(level: int, index: int, width: int = TILE_WIDTH) -> str:
    """Return the path of a hash tile below the log's prefix."""
    return f"tile/{level}/{_number(index)}{_partial(width)}"


def bundle_path(index: int, width: int = TILE_WIDTH) -> str:
    """Return the path of an entry bundle below the log's prefix."""
    return f"tile/entries/{_number(index)}{_partial(width)}"


def tile_width(size: int, level: int, index: int) -> int:
    """Return how many hashes the tile has in a tree of ``size`` entries; 0 where there is none."""
    return max(0, min(TILE_WIDTH, (size >> (TILE_HEIGHT * level)) - index * TILE_WIDTH))


def pack_bundle(entries: Sequence[bytes]) -> bytes:
    """Return the bundle of ``entries``, each behind its length in two big-endian bytes.

    Raises:
        ValueError: an entry beyond 65,535 bytes.
    """
    if any(len(entry) > ENTRY_BYTES_MAX for entry in entries):
        raise ValueError(f"expected entries of at most {ENTRY_BYTES_MAX} bytes")
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def unpack_bundle(bundle: bytes) -> list[bytes]:
    """Return the entries of a bundle.

    Raises:
        LogCorruptError: it ends within an entry.
    """
    entries, at = [], 0
    while at < len(bundle):
        end = at + 2 + int.from_bytes(bundle[at : at + 2], "big")
        if at + 2 > len(bundle) or end > len(bundle):
            raise LogCorruptError("an entry bundle ends within an entry")
        entries.append(bundle[at + 2 : end])
        at = end
    return entries


@dataclass
class TileReader:
    """Reads one shard's tiles; keeps the last few in memory.

    Attributes:
        root: folder of the shard, the log's prefix.
        size: entries of the tree to read; tiles beyond it are not touched.
    """

    root: Path
    size: int
    _cache: "OrderedDict[tuple[int, int, int], list[list[bytes]]]" = field(default_factory=OrderedDict, repr=False)

    def hash_at(self, height: int, index: int) -> bytes:
        """Return the hash of the full subtree of ``2**height`` entries with this index.

        Raises:
            LogCorruptError: the tile is missing, or has another length.
        """
        level, inner = divmod(height, TILE_HEIGHT)
        per_tile = TILE_WIDTH >> inner
        number, offset = divmod(index, per_tile)
        rows = self._rows(level, number)
        if inner >= len(rows) or offset >= len(rows[inner]):
            raise LogCorruptError(f"{tile_path(level, number)} does not hold the hash that a proof needs")
        return rows[inner][offset]

    def root_hash(self, size: int) -> bytes:
        """Return the Merkle root of the first ``size`` entries."""
        return self._range_hash(0, size) if size else EMPTY_ROOT

    def inclusion_path(self, index: int, size: int) -> list[bytes]:
        """Return the sibling hashes of entry ``index`` in the tree of ``size`` entries, from the leaf up.

        Raises:
            ValueError: there is no such entry, or no tree of this size.
        """
        if not 0 <= index < size <= self.size:
            raise ValueError(f"expected an index below a size of at most {self.size}, got {index} and {size}")
        path = []
        low, high = 0, size
        while high - low > 1:
            middle = low + _split(high - low)
            if index < middle:
                path.append((middle, high))
                high = middle
            else:
                path.append((low, middle))
                low = middle
        return [self._range_hash(*sibling) for sibling in reversed(path)]

    def consistency_path(self, old: int, size: int) -> list[bytes]:
        """Return the proof that the tree of ``size`` entries extends that of ``old`` entries.

        Raises:
            ValueError: ``old`` is larger, or there is no tree of this size.
        """
        if not 0 <= old <= size <= self.size:
            raise ValueError(f"expected sizes in order up to {self.size}, got {old} and {size}")
        if old in (0, size):
            return []
        path = []
        low, high, whole = 0, size, True
        while old != high:
            middle = low + _split(high - low)
            if old <= middle:
                path.append((middle, high))
                high = middle
            else:
                path.append((low, middle))
                low, whole = middle, False
        if not whole:
            path.append((low, high))
        return [self._range_hash(*part) for part in reversed(path)]

    def entries(self, start: int = 0) -> Iterator[bytes]:
        """Yield the entries from ``start`` to the end of the tree.

        Raises:
            LogCorruptError: a bundle is missing or does not hold what it must.
        """
        for number in range(start // TILE_WIDTH, -(-self.size // TILE_WIDTH)):
            bundle = self.bundle(number)
            yield from bundle[max(0, start - number * TILE_WIDTH) :]

    def bundle(self, number: int) -> list[bytes]:
        """Return the entries of one bundle, as many as the tree has.

        Raises:
            LogCorruptError: the bundle is missing or holds fewer.
        """
        width = tile_width(self.size, 0, number)
        entries = unpack_bundle(self._read(bundle_path(number, width), bundle_path(number)))
        if len(entries) < width:
            raise LogCorruptError(f"{bundle_path(number, width)} holds {len(entries)} entries, expected {width}")
        return entries[:width]

    def tile(self, level: int, number: int) -> list[bytes]:
        """Return the hashes of one tile, as many as the tree has.

        Raises:
            LogCorruptError: the tile is missing or has another length.
        """
        width = tile_width(self.size, level, number)
        tile = self._read(tile_path(level, number, width), tile_path(level, number))
        if len(tile) < width * HASH_SIZE or len(tile) % HASH_SIZE:
            raise LogCorruptError(f"{tile_path(level, number, width)} has {len(tile)} bytes, expected {width} hashes")
        return [tile[at : at + HASH_SIZE] for at in range(0, width * HASH_SIZE, HASH_SIZE)]

    def _rows(self, level: int, number: int) -> list[list[bytes]]:
        """Return the tile's hashes and the rows of full subtrees above them."""
        key = (level, number, tile_width(self.size, level, number))
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        rows = [self.tile(level, number)]
        while len(rows[-1]) > 1 and len(rows) < TILE_HEIGHT:
            below = rows[-1]
            rows.append([node_hash(below[at], below[at + 1]) for at in range(0, len(below) - 1, 2)])
        self._cache[key] = rows
        if len(self._cache) > _CACHED_TILES:
            self._cache.popitem(last=False)
        return rows

    def _range_hash(self, low: int, high: int) -> bytes:
        """Return the Merkle hash of entries ``low`` to ``high``; ``low`` is aligned as in a proof."""
        parts = []
        while low < high:
            height = (high - low).bit_length() - 1
            parts.append(self.hash_at(height, low >> height))
            low += 1 << height
        return fold(parts)

    def _read(self, path: str, fallback: str) -> bytes:
        # A partial tile may go once the full one is there.
        for name in dict.fromkeys((path, fallback)):
            try:
                return (self.root / name).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise LogCorruptError(f"{name} cannot be read ({error.strerror})") from error
        raise LogCorruptError(f"{path} is missing")


@dataclass
class RightEdge:
    """The growing side of the tree: what the writer has to keep to append.

    Attributes:
        size: number of entries.
        entries: entries of the last, partial bundle.
        levels: hashes of the partial tile of each level.
    """

    size: int
    entries: list[bytes]
    levels: list[list[bytes]]

    @classmethod
    def read(cls, reader: TileReader) -> "RightEdge":
        """Read the edge of the reader's tree.

        Raises:
            LogCorruptError: a tile or bundle is missing, or entries and hashes differ.
        """
        levels: list[list[bytes]] = []
        level = 0
        while reader.size >> (TILE_HEIGHT * level):
            number, width = divmod(reader.size >> (TILE_HEIGHT * level), TILE_WIDTH)
            levels.append(reader.tile(level, number) if width else [])
            level += 1
        number, width = divmod(reader.size, TILE_WIDTH)
        entries = reader.bundle(number) if width else []
        if [leaf_hash(entry) for entry in entries] != (levels[0] if levels else []):
            raise LogCorruptError(f"{bundle_path(number, width)} does not hash to its tile")
        return cls(reader.size, entries, levels)

    def append(self, entries: Sequence[bytes]) -> tuple["RightEdge", dict[str, bytes]]:
        """Return the edge after ``entries`` and the files that changed, entry bundles first.

        Args:
            entries: at most 256, so that at most one tile of each level becomes full.
        """
        grown = RightEdge(self.size, list(self.entries), [list(level) for level in self.levels])
        bundles: dict[str, bytes] = {}
        tiles: dict[str, bytes] = {}
        for entry in entries:
            grown.entries.append(entry)
            grown.size += 1
            if len(grown.entries) == TILE_WIDTH:
                bundles[bundle_path(grown.size // TILE_WIDTH - 1)] = pack_bundle(grown.entries)
                grown.entries = []
            grown._push(leaf_hash(entry), tiles)
        if grown.entries:
            bundles[bundle_path(grown.size // TILE_WIDTH, len(grown.entries))] = pack_bundle(grown.entries)
        for level, hashes in enumerate(grown.levels):
            if hashes and (level >= len(self.levels) or hashes != self.levels[level]):
                number = grown.size >> (TILE_HEIGHT * (level + 1))
                tiles[tile_path(level, number, len(hashes))] = b"".join(hashes)
        return grown, bundles | tiles

    @property
    def root(self) -> bytes:
        """The Merkle root."""
        parts = []
        for hashes in reversed(self.levels):
            at, width = 0, len(hashes)
            while at < width:
                step = 1 << ((width - at).bit_length() - 1)
                parts.append(_perfect(hashes[at : at + step]))
                at += step
        return fold(parts) if parts else EMPTY_ROOT

    def _push(self, digest: bytes, tiles: dict[str, bytes]) -> None:
        for level in range(64 // TILE_HEIGHT):
            if level == len(self.levels):
                self.levels.append([])
            hashes = self.levels[level]
            hashes.append(digest)
            if len(hashes) < TILE_WIDTH:
                return
            number = (self.size >> (TILE_HEIGHT * (level + 1))) - 1
            tiles[tile_path(level, number)] = b"".join(hashes)
            digest = _perfect(hashes)
            self.levels[level] = []
        raise ValueError("expected a tree of fewer than 2**64 entries")


def fold(parts: Sequence[bytes]) -> bytes:
    """Return the root over full subtrees of falling size, left to right."""
    digest = parts[-1]
    for left in reversed(parts[:-1]):
        digest = node_hash(left, digest)
    return digest


def leftovers(root: Path, size: int) -> list[Path]:
    """Return files beyond the tree of ``size`` entries, and partial tiles that a full one replaces.

    A writer that died before its checkpoint leaves such files; nobody ever signed them. Only
    the last two tiles of a level can have any.
    """
    found: list[Path] = []
    for kind in ("entries", *map(str, range(64 // TILE_HEIGHT))):
        if not (root / "tile" / kind).is_dir():
            continue
        level = 0 if kind == "entries" else int(kind)
        last = size >> (TILE_HEIGHT * (level + 1))
        for number in range(max(0, last - 1), last + 3):
            full = root / "tile" / kind / _number(number)
            width = tile_width(size, level, number)
            partials = full.with_name(full.name + ".p")
            names = list(partials.iterdir()) if partials.is_dir() else []
            found += [
                name for name in names if not name.name.isdigit() or width == TILE_WIDTH or int(name.name) > width
            ]
            if width < TILE_WIDTH and full.exists():
                found.append(full)
            unfinished = full.with_name(full.name + ".writing")
            if unfinished.exists():
                found.append(unfinished)
    return found


def _perfect(hashes: Sequence[bytes]) -> bytes:
    row = list(hashes)
    while len(row) > 1:
        row = [node_hash(row[at], row[at + 1]) for at in range(0, len(row), 2)]
    return row[0]


def _split(count: int) -> int:
    """Return the largest power of two below ``count``."""
    return 1 << ((count - 1).bit_length() - 1)


def _number(index: int) -> str:
    text = f"{index:03d}"
    text = text.zfill(-(-len(text) // 3) * 3)
    groups = [text[at : at + 3] for at in range(0, len(text), 3)]
    return "/".join([*(f"x{group}" for group in groups[:-1]), groups[-1]])


def _partial(width: int) -> str:
    return "" if width == TILE_WIDTH else f".p/{width}"
