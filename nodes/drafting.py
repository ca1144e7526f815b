"""Draft a catalogue entry from a table's header and types, for a person to edit.

Privacy:
    Stays at the node. The draft holds column names and types; no value of a row.
"""

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nodes.catalogue_entries import CatalogueEntry, Storage, parse_entry
from nodes.contract.catalogue import Column, ColumnType
from nodes.errors import CatalogueError, TableEncodingError, TableError, TableMissingError
from nodes.tables import read_header

if TYPE_CHECKING:
    import duckdb

Encoding = Literal["utf-8", "gb18030"]

_TYPES: dict[str, ColumnType] = {
    **dict.fromkeys(("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT"), "integer"),
    **dict.fromkeys(("UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "BOOLEAN"), "integer"),
    **dict.fromkeys(("FLOAT", "DOUBLE", "REAL"), "number"),
    **dict.fromkeys(("DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE"), "date"),
}  # fmt: skip
_CHUNK_BYTES = 1 << 20


def draft_entry(
    table: Path, *, resource: str, owner: str, encoding: Encoding | None = None, text_columns: Collection[str] = ()
) -> CatalogueEntry:
    """Return an entry for ``table`` with guessed types; text columns without repeats count as identifiers.

    Args:
        table: ``.csv`` or ``.parquet``.
        resource: catalogue id.
        owner: organisation id.
        encoding: of a CSV; found out if not given.
        text_columns: columns to read as text even if every value looks like a number, such as codes.

    Raises:
        TableError: the table cannot be read.
        CatalogueError: its header does not make an entry, e.g. a column stands in it twice.
    """
    if not table.is_file():
        raise TableMissingError(f"expected a table at {table}; correct the path")
    is_parquet = table.suffix.lower() == ".parquet"
    stated = "utf-8" if is_parquet else encoding or _encoding_of(table)
    header = read_header(table, encoding=stated)
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise CatalogueError(f"expected each column once in {table.name}, got {', '.join(twice[:5])} again; rename it")
    types, distinct, rows = _described(table, stated, is_parquet=is_parquet)
    types |= dict.fromkeys(set(text_columns) & set(types), "text")
    return parse_entry(
        {
            "id": resource,
            "version": 1,
            "name_zh": table.stem,
            "name_en": table.stem,
            "owner": owner,
            "class": "unclassified",
            "grade": "important",
            "update_frequency_days": 365,
            "operation_attribute": "conditional",
            "storage": Storage(
                path=str(table.absolute()), format="parquet" if is_parquet else "csv", encoding=stated
            ).model_dump(mode="json"),
            "columns": [
                Column(
                    name=name,
                    type=kind,
                    grade="important",
                    identifier=kind == "text" and rows > 0 and 10 * distinct.get(name, 0) > 9 * rows,
                ).model_dump(mode="json")
                for name, kind in types.items()
            ],
        },
        source=table.name,
    )


def _encoding_of(table: Path) -> Encoding:
    """Return the encoding in which all bytes of a CSV can be read, UTF-8 first."""
    import codecs

    candidates: tuple[Encoding, ...] = ("utf-8", "gb18030")
    try:
        for name in candidates:
            decoder = codecs.getincrementaldecoder(name)()
            with table.open("rb") as stream:
                try:
                    while chunk := stream.read(_CHUNK_BYTES):
                        decoder.decode(chunk)
                    decoder.decode(b"", final=True)
                except UnicodeDecodeError:
                    continue
                return name
    except OSError as error:
        raise TableMissingError(f"expected to be able to read {table} ({error.strerror})") from error
    raise TableEncodingError(
        f"expected {table.name} as CSV in UTF-8 or GB18030, got bytes that are neither; save it again in UTF-8"
    )


def _described(
    table: Path, encoding: Encoding, *, is_parquet: bool
) -> tuple[dict[str, ColumnType], dict[str, int], int]:
    """Return type per column, distinct values per text column, and the number of rows."""
    import duckdb

    engine = duckdb.connect()
    try:
        _source(engine, table, encoding, is_parquet=is_parquet).create_view("source")
        described = engine.execute("DESCRIBE source").fetchall()
        types = {str(row[0]): _TYPES.get(str(row[1]).split("(")[0], "text") for row in described}
        texts = [name for name, kind in types.items() if kind == "text"]
        counts = ", ".join(["count(*)", *(f"count(DISTINCT {_quoted(name)})" for name in texts)])
        found = engine.execute(f"SELECT {counts} FROM source").fetchone() or (0,)  # noqa: S608  quoted names
    except (duckdb.Error, ValueError) as error:
        # The engine's own text may quote a line of the file; only its kind is passed on.
        raise TableError(
            f"expected {table.name} as CSV (commas, a header line) or Parquet ({type(error).__name__}); "
            "check its delimiter, quoting and number of fields per line"
        ) from None
    finally:
        engine.close()
    return types, dict(zip(texts, found[1:], strict=True)), int(found[0])


def _source(
    engine: "duckdb.DuckDBPyConnection", table: Path, encoding: Encoding, *, is_parquet: bool
) -> Any:  # a relation; the library is untyped
    if is_parquet:
        return engine.read_parquet(str(table))
    if encoding == "utf-8":
        return engine.read_csv(str(table), header=True, delimiter=",", quotechar='"', escapechar='"', sample_size=-1)
    from pyarrow import csv as arrow_csv

    return engine.from_arrow(arrow_csv.read_csv(table, read_options=arrow_csv.ReadOptions(encoding=encoding)))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
