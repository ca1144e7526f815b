"""Tables behind catalogue entries: read through DuckDB, granted columns and rows alone.

CSV (UTF-8, GB18030), Parquet, Excel, PostgreSQL and MySQL/MariaDB. Columns and row filter are
applied inside the engine; values reach it as parameters, never as text of a query. It has one
thread and little memory, spills what is larger, and cannot load extensions.

Privacy: a ``GrantedTable`` is all a task gets. Errors name files, columns and encodings, no value.
"""

import csv
import hashlib
import hmac
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from nodes.catalogue_entries import CatalogueEntry
from nodes.contract.catalogue import Column
from nodes.contract.messages import Condition, ResourceUse
from nodes.errors import TableChangedError, TableEmptyError, TableEncodingError, TableError, TableMissingError
from quality.databases import columns_of, read_connection, reading
from quality.errors import SourceError
from quality.workbooks import header_of, read_sheet

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    import pyarrow as pa

_SQL_TYPE = {"text": "VARCHAR", "date": "VARCHAR", "integer": "BIGINT", "number": "DOUBLE"}
_SQL_OPERATOR = {"eq": "=", "ne": "<>", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_CHUNK_BYTES = 1 << 20
_MEMORY_LIMIT = "512MB"


@dataclass(frozen=True, slots=True)
class GrantedTable:
    """The granted part of one table; a ``nodes.tasks.spec.TableView``.

    Attributes:
        entry: the catalogue entry.
        home: the node's home.
        use: columns and row filter of the order, already permitted.
        subject: column that points to the person, where rows need the person's consent.
        consents: whether the person of this value of ``subject`` consents; rows of others do not exist for the task.
    """

    entry: CatalogueEntry
    home: Path
    use: ResourceUse
    subject: str = ""
    consents: Callable[[str], bool] | None = None

    @property
    def resource(self) -> str:
        """Catalogue id."""
        return self.entry.id

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the order, in its sequence."""
        return self.use.columns

    def row_count(self) -> int:
        """Return how many rows pass the filter; stays at the node.

        Raises:
            TableError: the table cannot be read as its entry says.
        """
        query, values = _query(self.entry, (), self.use.row_filter)
        with self._opened() as engine:
            row = engine.execute(query, values).fetchone()
        return int(row[0]) if row else 0

    def frame(self) -> "pd.DataFrame":
        """Return the granted rows and columns; text and dates stay text, missing is NaN or None.

        Raises:
            TableError: the table cannot be read as its entry says.
        """
        query, values = _query(self.entry, self.use.columns, self.use.row_filter)
        with self._opened() as engine:
            frame: pd.DataFrame = engine.execute(query, values).df()
            return frame

    def arrow(self) -> "pa.Table":
        """Return the same as ``frame`` as an Arrow table; for large tables of text it takes a fifth of the memory.

        Raises:
            TableError: the table cannot be read as its entry says.
        """
        query, values = _query(self.entry, self.use.columns, self.use.row_filter)
        with self._opened() as engine:
            return engine.sql(query, params=values).to_arrow_table()

    def state(self) -> bytes:
        """Return 32 bytes that differ whenever the granted rows may differ; empty where that cannot be known."""
        stamp = fingerprint(self.entry, self.home)
        if not stamp or self.consents is not None:
            return b""
        use = self.use.model_dump_json()
        return hashlib.sha256(f"{self.entry.digest_hex}\n{stamp}\n{use}".encode()).digest()

    @contextmanager
    def _opened(self) -> Iterator["duckdb.DuckDBPyConnection"]:
        """Open the table, without the rows of persons who have not consented."""
        with _opened(self.entry, self.home) as engine:
            if self.consents is not None:
                _keep_consenting(engine, self.subject, self.consents)
            yield engine


def check_table(entry: CatalogueEntry, home: Path) -> None:
    """Check that a table can be read as its entry says and has a row.

    Raises:
        TableMissingError: no file.
        TableEncodingError: other bytes than the entry states.
        TableChangedError: other columns than the entry states.
        TableEmptyError: no row.
        TableError: not a table of the stated format.
    """
    query, values = _query(entry, (), ())
    with _opened(entry, home) as engine:
        row = engine.execute(query, values).fetchone()
    if row is None or row[0] == 0:
        raise TableEmptyError(f"expected at least one row in {entry.path_in(home)}; provide a filled table")


def check_columns(entry: CatalogueEntry, home: Path) -> None:
    """Check only that the file is there and its columns are those of the entry; quick.

    Raises:
        TableError: as ``check_table``, except for empty tables.
    """
    path = _existing(entry, home)
    _require_columns(entry, _header(entry, path))


def read_header(path: Path, *, encoding: str = "utf-8") -> tuple[str, ...]:
    """Return the column names of a CSV or Parquet file.

    Raises:
        TableError: it cannot be read.
    """
    if path.suffix.lower() == ".parquet":
        return _parquet_header(path)
    return _csv_header(path, encoding)


def row_count(entry: CatalogueEntry, home: Path) -> int:
    """Return how many rows the table has; stays at the node."""
    query, values = _query(entry, (), ())
    with _opened(entry, home) as engine:
        row = engine.execute(query, values).fetchone()
    return int(row[0]) if row is not None else 0


def rows_band(rows: int) -> int:
    """Return a row count rounded down to two significant digits (below ten: 0), which may leave the node."""
    if rows < 10:
        return 0
    step = int(10 ** max(0, len(str(rows)) - 2))
    return rows // step * step


def rare_values(entry: CatalogueEntry, home: Path, *, columns: Sequence[Column], held_by_fewer_than: int) -> set[str]:
    """Return texts of columns that fewer rows than a limit hold; stays at the node.

    Args:
        entry: the table's entry.
        home: the node's home.
        columns: which columns.
        held_by_fewer_than: values of this many rows or more are common and left out.
    """
    found: set[str] = set()
    with _opened(entry, home) as engine:
        for column in columns:
            name = _identifier(column.name)
            rows = engine.execute(
                f"SELECT CAST({name} AS VARCHAR) FROM source WHERE {name} IS NOT NULL "  # noqa: S608  a quoted name
                f"GROUP BY {name} HAVING COUNT(*) < ?",
                [held_by_fewer_than],
            )
            while batch := rows.fetchmany(10_000):
                found.update(row[0] for row in batch)
    return found


def smallest_group(entry: CatalogueEntry, home: Path, columns: Sequence[str]) -> int:
    """Return how many rows the smallest group has whose rows share the values of all ``columns``; stays at the node."""
    names = ", ".join(map(_identifier, columns))
    query = f"SELECT MIN(held) FROM (SELECT COUNT(*) AS held FROM source GROUP BY {names})"  # noqa: S608  quoted names
    with _opened(entry, home) as engine:
        row = engine.execute(query).fetchone()
    return int(row[0]) if row and row[0] is not None else 0


def distinct_share(entry: CatalogueEntry, home: Path, column: str) -> tuple[int, int]:
    """Return how many distinct values and how many filled rows a column has; stays at the node."""
    name = _identifier(column)
    with _opened(entry, home) as engine:
        row = engine.execute(f"SELECT COUNT(DISTINCT {name}), COUNT({name}) FROM source").fetchone()  # noqa: S608  a quoted name
    return (int(row[0]), int(row[1])) if row else (0, 0)


def fingerprint(entry: CatalogueEntry, home: Path) -> str:
    """Return size and times of the file: equal means not written since, so its content need not be read again.

    Of a database it is empty: no server tells reliably that a table was not written, so its content is read.

    Raises:
        TableMissingError: no file.
    """
    status = _existing(entry, home).stat()
    if entry.storage.is_database:
        return ""
    return f"{status.st_size}.{status.st_mtime_ns}.{status.st_ctime_ns}.{status.st_ino}"


def modified_at(entry: CatalogueEntry, home: Path) -> datetime:
    """Return when the table's file was last written; of a database, which is read as it is, now.

    Raises:
        TableMissingError: no file.
    """
    path = _existing(entry, home)
    return datetime.now(UTC) if entry.storage.is_database else datetime.fromtimestamp(path.stat().st_mtime, tz=UTC)


def commitment(entry: CatalogueEntry, home: Path, key: bytes) -> str:
    """Return the keyed commitment to the table's content as hex.

    HMAC-SHA-256 over the catalogue entry's digest and the file's bytes; of a database over the
    digests of its rows, sorted. Without the key, which never leaves the node, nobody can test a
    guess of the content against it.

    Raises:
        TableMissingError: no file, or not readable.
        TableError: the database cannot be read.
    """
    code = hmac.new(key, b"shufang/v1/commitment\n" + entry.digest_hex.encode("ascii") + b"\n", hashlib.sha256)
    if entry.storage.is_database:
        for chunk in _row_digests(entry, home):
            code.update(chunk)
        return code.hexdigest()
    path = _existing(entry, home)
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                code.update(chunk)
    except OSError as error:
        raise TableMissingError(f"expected to be able to read {path} ({error.strerror})") from error
    return code.hexdigest()


def _row_digests(entry: CatalogueEntry, home: Path) -> Iterator[bytes]:
    """Return the SHA-256 of each row, in their own order, since a server promises none."""
    # Lengths before texts: no two rows with different cells give the same bytes. NULL has none.
    cells = ", ".join(
        f"CASE WHEN {name} IS NULL THEN '-' ELSE concat(length({name}::VARCHAR), ':', {name}::VARCHAR) END"
        for name in map(_identifier, entry.column_names)
    )
    with _opened(entry, home, view="raw") as engine:
        rows = engine.execute(f"SELECT sha256(concat_ws('|', {cells})) AS digest FROM raw ORDER BY digest")  # noqa: S608  quoted names
        while batch := rows.fetchmany(10_000):
            yield "".join(row[0] for row in batch).encode("ascii")


def _query(entry: CatalogueEntry, columns: Sequence[str], conditions: Sequence[Condition]) -> tuple[str, list[Any]]:
    types = {column.name: column.type for column in entry.columns}
    chosen = ", ".join(_identifier(name) for name in columns) or "COUNT(*)"
    clauses: list[str] = []
    values: list[Any] = []
    for condition in conditions:
        name, marker = _identifier(condition.column), f"CAST(? AS {_SQL_TYPE[types[condition.column]]})"
        if condition.operator == "in":
            clauses.append(f"{name} IN ({', '.join([marker] * len(condition.values))})")
            values += condition.values  # noqa: PD011  no frame
        else:
            clauses.append(f"{name} {_SQL_OPERATOR[condition.operator]} {marker}")
            values.append(next(iter(condition.values)))
    where = f" WHERE {' AND '.join(clauses)}" if clauses else ""
    return f"SELECT {chosen} FROM source{where}", values  # noqa: S608  names are quoted, values are parameters


@contextmanager
def _opened(entry: CatalogueEntry, home: Path, *, view: str = "source") -> Iterator["duckdb.DuckDBPyConnection"]:
    """Open a table behind ``raw`` (as it is) and, unless only that is wanted, ``source`` (typed)."""
    import duckdb

    path = _existing(entry, home)
    with TemporaryDirectory(prefix="shufang-table-") as folder:
        engine = duckdb.connect(
            ":memory:",
            config={
                "threads": "1",
                "memory_limit": _MEMORY_LIMIT,
                "autoinstall_known_extensions": "false",
                "autoload_known_extensions": "false",
                "preserve_insertion_order": "true",
                # Private to this user, gone with the block: what a large table needs beyond the memory.
                "temp_directory": str(Path(folder) / "spill"),
            },
        )
        try:
            _require_columns(entry, _header(entry, path))
            _bind(engine, entry, path)
            if view == "source":
                _bind_types(engine, entry)
            yield engine
        except SourceError as error:
            raise _table_error(entry, error) from None
        except duckdb.Error as error:
            # The engine's own text may quote a line of the file; only its kind is passed on.
            raise TableError(
                f"expected {path.name} to be a readable {entry.storage.format} table in {entry.storage.encoding} "
                f"({type(error).__name__}); check quoting, number of fields per line and encoding"
            ) from None
        finally:
            engine.close()


def _bind(engine: "duckdb.DuckDBPyConnection", entry: CatalogueEntry, path: Path) -> None:
    storage = entry.storage
    if storage.is_database:
        with reading(read_connection(path), storage.table, entry.column_names) as arriving:
            engine.register("arriving", arriving)
            engine.execute("CREATE TEMP TABLE raw AS SELECT * FROM arriving")
            engine.unregister("arriving")
        return
    if storage.format == "parquet":
        raw = engine.read_parquet(str(path))
    elif storage.format == "excel":
        raw = engine.from_arrow(read_sheet(path, storage.sheet))
    elif storage.encoding == "utf-8":
        raw = engine.read_csv(str(path), header=True, all_varchar=True, delimiter=",", quotechar='"', escapechar='"')
    else:
        raw = engine.from_arrow(_decoded_csv(entry, path))
    raw.create_view("raw")


def _bind_types(engine: "duckdb.DuckDBPyConnection", entry: CatalogueEntry) -> None:
    parts = []
    for column in entry.columns:
        name = _identifier(column.name)
        kind = _SQL_TYPE[column.type]
        # Text that is no number counts as missing here; the quality run is where it is reported.
        parts.append(f"TRY_CAST(NULLIF(TRIM(CAST({name} AS VARCHAR)), '') AS {kind}) AS {name}")
    engine.execute(f"CREATE VIEW source AS SELECT {', '.join(parts)} FROM raw")  # noqa: S608  quoted names


def _keep_consenting(engine: "duckdb.DuckDBPyConnection", subject: str, consents: Callable[[str], bool]) -> None:
    import pyarrow as pa

    name = _identifier(subject)
    rows = engine.execute(f"SELECT DISTINCT CAST({name} AS VARCHAR) FROM source WHERE {name} IS NOT NULL")  # noqa: S608  a quoted name
    kept = [row[0] for row in rows.fetchall() if consents(row[0])]
    engine.register("consenting", pa.table({"subject": pa.array(kept, pa.string())}))
    engine.execute(
        f"CREATE TEMP TABLE consented AS SELECT * FROM source WHERE CAST({name} AS VARCHAR) IN "  # noqa: S608  a quoted name
        "(SELECT subject FROM consenting)"
    )
    engine.execute("CREATE OR REPLACE VIEW source AS SELECT * FROM consented")
    engine.unregister("consenting")


def _table_error(entry: CatalogueEntry, error: SourceError) -> TableError:
    """Return our error for one of a source, which quotes no cell."""
    told = f"the table of {entry.id}: {error}"
    if error.finding in {"source.missing", "source.connection", "source.unreachable"}:
        return TableMissingError(told)
    return TableEmptyError(told) if error.finding == "source.empty" else TableError(told)


def _decoded_csv(entry: CatalogueEntry, path: Path) -> Any:  # a pyarrow table; the library is untyped
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    try:
        return arrow_csv.read_csv(
            path,
            read_options=arrow_csv.ReadOptions(encoding=entry.storage.encoding, use_threads=False),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(entry.column_names, pa.string()), strings_can_be_null=True, null_values=[""]
            ),
        )
    except (pa.ArrowException, UnicodeError) as error:
        raise TableEncodingError(
            f"expected {path.name} to be a CSV table in {entry.storage.encoding} ({type(error).__name__}); "
            "state its encoding in the catalogue entry, or save it again"
        ) from None


def _existing(entry: CatalogueEntry, home: Path) -> Path:
    path = entry.path_in(home)
    if not path.is_file() and entry.storage.is_database:
        raise TableMissingError(f"expected the connection file of {entry.id} at {path}, with mode 0600")
    if not path.is_file():
        raise TableMissingError(f"expected the table of {entry.id} at {path}; put the file there or correct `path`")
    return path


def _header(entry: CatalogueEntry, path: Path) -> tuple[str, ...]:
    storage = entry.storage
    try:
        if storage.is_database:
            return columns_of(read_connection(path), storage.table)
        if storage.format == "excel":
            return header_of(path, storage.sheet)
    except SourceError as error:
        raise _table_error(entry, error) from None
    return _parquet_header(path) if entry.storage.format == "parquet" else _csv_header(path, entry.storage.encoding)


def _parquet_header(path: Path) -> tuple[str, ...]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return tuple(parquet.read_schema(path).names)
    except (pa.ArrowException, OSError) as error:
        raise TableError(f"expected a readable Parquet file {path.name} ({type(error).__name__})") from None


def _csv_header(path: Path, encoding: str) -> tuple[str, ...]:
    try:
        with path.open(encoding="utf-8-sig" if encoding == "utf-8" else encoding, newline="") as stream:
            names = next(csv.reader(stream), [])
    except UnicodeDecodeError:
        raise TableEncodingError(
            f"expected {path.name} in {encoding}, it is not; state `encoding` (utf-8, gb18030) in its entry"
        ) from None
    except (OSError, csv.Error) as error:
        raise TableError(f"expected a readable CSV file {path.name} ({type(error).__name__})") from None
    if not names:
        raise TableEmptyError(f"expected a header line in {path}; provide a filled table")
    return tuple(names)


def _require_columns(entry: CatalogueEntry, header: Sequence[str]) -> None:
    missing = [name for name in entry.column_names if name not in header]
    if missing:
        shown = ", ".join(missing[:5])
        raise TableChangedError(
            f"expected column {shown} in the table of {entry.id}; restore it, or bind a new version"
        )
    if set(header) - set(entry.column_names) or len(set(header)) != len(header):
        raise TableChangedError(
            f"expected {len(entry.columns)} columns in the table of {entry.id}, got {len(header)}: columns that its "
            "entry does not name; raise the entry's version and bind it again"
        )


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
