"""Where each leaf stands: an index over the tiles, which can be made again from them.

It serves deduplication and look-up by digest. It is written after the checkpoint, so it never
knows an entry that was not signed; after a crash it is caught up from the tiles.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path

from factory.log.errors import LogCorruptError
from factory.log.tiles import TILE_WIDTH, TileReader, tile_width

_SCHEMA = """
CREATE TABLE IF NOT EXISTS leaf (hash BLOB PRIMARY KEY, position INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS covered (one INTEGER PRIMARY KEY CHECK (one = 1), size INTEGER NOT NULL);
INSERT OR IGNORE INTO covered VALUES (1, 0);
"""


class LeafIndex:
    """The writer's index. Not durable by itself, and it need not be."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._db = self._connect()

    def catch_up(self, reader: TileReader) -> None:
        """Bring the index to the reader's tree; made anew where it disagrees.

        Raises:
            LogCorruptError: a tile is missing.
        """
        try:
            size = self._covered()
            agrees = size <= reader.size and (size == 0 or self.position(reader.hash_at(0, size - 1)) is not None)
        except sqlite3.DatabaseError:
            agrees = False
        if not agrees:
            self.close()
            self._discard()
            self._db, size = self._connect(), 0
        for number in range(size // TILE_WIDTH, -(-reader.size // TILE_WIDTH)):
            start = number * TILE_WIDTH
            hashes = reader.tile(0, number)[: tile_width(reader.size, 0, number)]
            self.extend(start, hashes)

    def position(self, leaf: bytes) -> int | None:
        """Return where this leaf hash stands, if it does."""
        row = self._db.execute("SELECT position FROM leaf WHERE hash = ?", (leaf,)).fetchone()
        return int(row[0]) if row else None

    def extend(self, start: int, leaves: Sequence[bytes]) -> None:
        """Add leaf hashes that stand from ``start`` on."""
        rows: Iterable[tuple[bytes, int]] = ((leaf, start + at) for at, leaf in enumerate(leaves))
        self._db.execute("BEGIN")
        self._db.executemany("INSERT OR IGNORE INTO leaf VALUES (?, ?)", rows)
        self._db.execute("UPDATE covered SET size = ?", (start + len(leaves),))
        self._db.execute("COMMIT")

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def _covered(self) -> int:
        return int(self._db.execute("SELECT size FROM covered").fetchone()[0])

    def _connect(self) -> sqlite3.Connection:
        try:
            return self._open()
        except sqlite3.DatabaseError:
            self._discard()
            return self._open()

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, timeout=10, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.executescript(_SCHEMA)
        except sqlite3.DatabaseError:
            connection.close()
            raise
        return connection

    def _discard(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)


def read_position(path: Path, leaf: bytes) -> int | None:
    """Return where a leaf hash stands, reading the index of another process's log.

    Raises:
        LogCorruptError: the index cannot be read; the writer makes it anew when it opens.
    """
    if not path.exists():
        return None
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as connection:
            row = connection.execute("SELECT position FROM leaf WHERE hash = ?", (leaf,)).fetchone()
    except sqlite3.DatabaseError as error:
        raise LogCorruptError(
            "the index of the log cannot be read; open the log for writing to make it anew"
        ) from error
    return int(row[0]) if row else None
