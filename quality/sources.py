"""Sources: tables as the engine reads them, with their faults as findings.

``open_source`` puts one table behind the name ``batch`` of a DuckDB connection: declared
columns in their declared types, and for each that had to be parsed from text a flag column
``<name>#bad`` for cells that hold something else. A broken file raises ``SourceError`` with a
finding's code and never the library's message, which may quote a cell.

Databases and workbooks arrive as Arrow (``quality.databases``, ``quality.workbooks``), CSV and
Parquet are read by DuckDB itself, which runs without any extension download: nothing here opens a
connection but to the department's own database.
"""

import codecs
import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from quality.databases import read_connection, reading
from quality.errors import SourceError
from quality.suite import ColumnType, Suite
from quality.workbooks import SUFFIXES, read_sheet

if TYPE_CHECKING:
    import duckdb

Encoding: TypeAlias = Literal["auto", "utf-8", "gb18030"]
Kind: TypeAlias = Literal["csv", "parquet", "excel", "postgresql", "mysql", "database", "unknown"]
DATABASES = ("postgresql", "mysql", "database")
BATCH = "batch"
BAD = "#bad"
_CHUNK = 1 << 20
_HEADER_MAX = 1 << 20
_SQL_TYPES: dict[ColumnType, str] = {"text": "VARCHAR", "integer": "BIGINT", "number": "DOUBLE", "date": "DATE"}


@dataclass(frozen=True, slots=True)
class Source:
    """A file, a sheet or a database that holds a table.

    Attributes:
        path: of the file; of a database its connection file.
        kind: ``unknown`` becomes a finding when it is opened.
        encoding: of a CSV; ``auto`` takes UTF-8 if every byte fits, else GB18030.
        delivered_at: when the department received or wrote it; the file's time, or now for a database, if not given.
        table: ``table`` or ``schema.table`` of a database, or the sheet of a workbook (the first if empty).
    """

    path: Path
    kind: Kind
    encoding: Encoding = "auto"
    delivered_at: datetime | None = None
    table: str = ""


@dataclass(frozen=True, slots=True)
class Opened:
    """A source that stands behind ``batch``.

    Attributes:
        connection: the DuckDB connection.
        columns: every column of the table, also undeclared ones.
        parsed: declared columns that have a flag column.
        encoding: found, empty for Parquet.
        delivered_at: aware time.
        malformed_rows: rows the reader had to leave out.
    """

    connection: "duckdb.DuckDBPyConnection"
    columns: tuple[str, ...]
    parsed: frozenset[str]
    encoding: str
    delivered_at: datetime
    malformed_rows: int


def source_of(
    path: Path, *, encoding: Encoding = "auto", delivered_at: datetime | None = None, table: str = ""
) -> Source:
    """Return the source for a file, its kind by the suffix; ``.toml`` is a connection file."""
    kinds: dict[str, Kind] = {".csv": "csv", ".txt": "csv", ".parquet": "parquet"}
    kinds |= dict.fromkeys(SUFFIXES, "excel")
    kind = kinds.get(path.suffix.lower(), "unknown")
    if path.suffix == ".toml":
        # One that cannot be read becomes a finding when it is opened.
        kind = "database"
        with suppress(SourceError):
            kind = read_connection(path).kind
    return Source(path, kind, encoding, delivered_at, table)


@contextmanager
def open_source(source: Source, suite: Suite, *, memory_limit_mb: int = 1_024) -> Iterator[Opened]:
    """Open a source for the run of one suite.

    Args:
        source: the file.
        suite: whose declared columns and texts for "empty" apply.
        memory_limit_mb: beyond this DuckDB writes to a private temporary folder, gone at the end.

    Raises:
        SourceError: the table cannot be read; its ``finding`` says why.
    """
    import duckdb

    if not source.path.is_file() and source.kind not in DATABASES:
        raise SourceError("source.missing", f"expected a file at {source.path.name}")
    if source.kind == "unknown":
        raise SourceError(
            "source.format", f"expected .csv, .parquet, .xlsx or a connection, got {source.path.suffix or 'no suffix'}"
        )
    delivered = source.delivered_at or (
        datetime.now(UTC) if source.kind in DATABASES else datetime.fromtimestamp(source.path.stat().st_mtime, tz=UTC)
    )
    with TemporaryDirectory(prefix="shufang-quality-") as folder:
        connection = duckdb.connect(
            config={
                "autoinstall_known_extensions": "false",
                "autoload_known_extensions": "false",
                "memory_limit": f"{memory_limit_mb}MB",
                # The sequence of rows means nothing to a rule, and keeping it costs memory.
                "preserve_insertion_order": "false",
                "temp_directory": str(Path(folder) / "spill"),
            }
        )
        try:
            encoding, malformed = "", 0
            if source.kind == "csv":
                columns, parsed, encoding, malformed = _open_csv(connection, source, suite, Path(folder))
            elif source.kind == "parquet":
                columns, parsed = _open_parquet(connection, source, suite, Path(folder))
            elif source.kind == "excel":
                columns, parsed = _open_arrow(connection, read_sheet(source.path, source.table), suite)
            else:
                columns, parsed = _open_database(connection, source, suite)
            yield Opened(connection, columns, parsed, encoding, delivered, malformed)
        except duckdb.Error as error:
            raise SourceError(
                "source.unreadable", f"DuckDB could not read the table ({type(error).__name__})"
            ) from None
        except (OSError, MemoryError) as error:
            raise SourceError("source.unreadable", f"reading the table failed ({type(error).__name__})") from None
        finally:
            connection.close()


def quoted(name: str) -> str:
    """Return a column name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def _open_parquet(
    connection: "duckdb.DuckDBPyConnection", source: Source, suite: Suite, folder: Path
) -> tuple[tuple[str, ...], frozenset[str]]:
    # The link gives the file a name without the characters that DuckDB reads as a pattern.
    link = folder / "table.parquet"
    link.symlink_to(source.path.resolve())
    relation = f"read_parquet({literal(str(link))})"
    physical = connection.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()  # noqa: S608 - literal path
    types = {str(row[0]): str(row[1]) for row in physical}
    columns, parsed = _projection(types, suite)
    connection.execute(f"CREATE TEMP VIEW {BATCH} AS SELECT {columns} FROM {relation}")  # noqa: S608 - quoted names
    return tuple(types), parsed


def _open_database(
    connection: "duckdb.DuckDBPyConnection", source: Source, suite: Suite
) -> tuple[tuple[str, ...], frozenset[str]]:
    with reading(read_connection(source.path), source.table) as stream:
        return _open_arrow(connection, stream, suite)


def _open_arrow(
    connection: "duckdb.DuckDBPyConnection",
    arrow: Any,  # a pyarrow table or stream; the library is untyped
    suite: Suite,
) -> tuple[tuple[str, ...], frozenset[str]]:
    """Copy a table that arrives as Arrow, batch by batch, into DuckDB, which spills what does not fit."""
    connection.register("arriving", arrow)
    physical = connection.execute("DESCRIBE arriving").fetchall()
    types = {str(row[0]): str(row[1]) for row in physical}
    if len({name.casefold() for name in types}) != len(types):
        raise SourceError("source.header", "expected every column with a name of its own")
    texts = [name for name in suite.columns if types.get(name) == "VARCHAR"]
    nulls = ", ".join(literal(value) for value in suite.null_values)
    replaced = ", ".join(f"CASE WHEN {quoted(n)} NOT IN ({nulls}) THEN {quoted(n)} END AS {quoted(n)}" for n in texts)
    inner = f"SELECT * {f'REPLACE ({replaced})' if texts else ''} FROM arriving"  # noqa: S608 - quoted names
    columns, parsed = _projection(types, suite)
    connection.execute(f"CREATE TEMP TABLE {BATCH} AS SELECT {columns} FROM ({inner})")  # noqa: S608 - as above
    connection.unregister("arriving")
    return tuple(types), parsed


def _open_csv(
    connection: "duckdb.DuckDBPyConnection", source: Source, suite: Suite, folder: Path
) -> tuple[tuple[str, ...], frozenset[str], str, int]:
    encoding = _encoding(source)
    path = folder / "table.csv"
    if encoding == "gb18030":
        _transcode(source.path, path)
    else:
        path.symlink_to(source.path.resolve())
    names = _header(path)
    if not names:
        raise SourceError("source.empty", "expected a header and rows, got an empty file")
    # Quoted by position, since a header may not repeat a name and DuckDB compares them without case.
    positions = ", ".join(f"'c{index}': 'VARCHAR'" for index in range(len(names)))
    nulls = ", ".join(literal(value) for value in suite.null_values)
    relation = (
        f"read_csv({literal(str(path))}, auto_detect=false, header=true, delim=',', quote='\"', escape='\"', "
        f"columns={{{positions}}}, nullstr=[{nulls}], store_rejects=true, rejects_limit=0)"
    )
    renamed = ", ".join(f"c{index} AS {quoted(name)}" for index, name in enumerate(names))
    wanted, parsed = _projection(dict.fromkeys(names, "VARCHAR"), suite)
    inner = f"SELECT {renamed} FROM {relation}"  # noqa: S608 - quoted names, literal path
    connection.execute(f"CREATE TEMP TABLE {BATCH} AS SELECT {wanted} FROM ({inner})")  # noqa: S608 - as above
    rejects = connection.execute("SELECT count(DISTINCT line) FROM reject_errors").fetchall()
    return tuple(names), parsed, encoding, int(rejects[0][0])


def _projection(types: dict[str, str], suite: Suite) -> tuple[str, frozenset[str]]:
    """Return the SELECT list that gives declared columns their declared types."""
    parts: list[str] = []
    parsed: set[str] = set()
    for name, physical in types.items():
        declared = suite.columns.get(name)
        if declared is None:
            continue
        column, wanted = quoted(name), _SQL_TYPES[declared]
        if physical == wanted:
            parts.append(column)
        elif declared == "text":
            parts.append(f"CAST({column} AS VARCHAR) AS {column}")
        else:
            cast = _cast(column, declared, physical)
            parts.append(f"{cast} AS {column}")
            parts.append(f"({column} IS NOT NULL AND {cast} IS NULL) AS {quoted(name + BAD)}")
            parsed.add(name)
    return ", ".join(parts) or "1 AS nothing_declared", frozenset(parsed)


def _cast(column: str, declared: ColumnType, physical: str) -> str:
    text = physical == "VARCHAR"
    match declared:
        case "number":
            return f"try_cast({column} AS DOUBLE)"
        case "integer":
            # DuckDB would round 63.5 to 64; a fraction is not an integer.
            number = f"try_cast({column} AS DOUBLE)"
            whole = f"CASE WHEN {number} = trunc({number}) THEN try_cast({number} AS BIGINT) END"
            if not text:
                return whole if physical in ("DOUBLE", "FLOAT") else f"try_cast({column} AS BIGINT)"
            return f"CASE WHEN regexp_matches({column}, '[.eE]') THEN {whole} ELSE try_cast({column} AS BIGINT) END"
        case _:
            if not text:
                return f"try_cast({column} AS DATE)"
            dashed = column
            for found, put in (("/", "-"), ("年", "-"), ("月", "-"), ("日", "")):
                dashed = f"replace({dashed}, {literal(found)}, {literal(put)})"
            compact = f"CAST(try_strptime({column}, '%Y%m%d') AS DATE)"
            digits = f"regexp_full_match({column}, '[0-9]{{8}}')"
            return f"CASE WHEN {digits} THEN {compact} ELSE try_cast({dashed} AS DATE) END"


def _encoding(source: Source) -> str:
    candidates: Sequence[str] = ("utf-8", "gb18030") if source.encoding == "auto" else (source.encoding,)
    for candidate in candidates:
        if _decodes(source.path, candidate):
            return candidate
    raise SourceError("source.encoding", f"expected text in {' or '.join(candidates)}")


def _decodes(path: Path, encoding: str) -> bool:
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _transcode(path: Path, target: Path) -> None:
    with path.open(encoding="gb18030", newline="") as source, target.open("w", encoding="utf-8", newline="") as sink:
        while text := source.read(_CHUNK):
            sink.write(text)


def _header(path: Path) -> list[str]:
    with path.open("rb") as file:
        head = file.read(_HEADER_MAX)
    text = codecs.getincrementaldecoder("utf-8-sig")().decode(head)
    rows = csv.reader(io.StringIO(text, newline=""))
    names = [name.strip() for name in next(rows, [])]
    if names and (
        any(not name or name.endswith(BAD) for name in names) or len({n.casefold() for n in names}) != len(names)
    ):
        raise SourceError("source.header", "expected every column with a name of its own")
    return names
