"""Draft a catalogue entry from a table's header and types, for a person to edit.

Privacy:
    Stays at the node. The draft holds column names and types; no value of a row.
"""

from pathlib import Path
from typing import Literal

from nodes.catalogue_entries import CatalogueEntry, Column, ColumnType, Storage, parse_entry
from nodes.errors import CatalogueError

_TYPES: dict[str, ColumnType] = {
    **dict.fromkeys(("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UBIGINT", "UINTEGER", "BOOLEAN"), "integer"),
    **dict.fromkeys(("FLOAT", "DOUBLE", "REAL"), "number"),
    **dict.fromkeys(("DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE"), "date"),
}  # fmt: skip


def draft_entry(
    table: Path, *, resource: str, owner: str, encoding: Literal["utf-8", "gb18030"] = "utf-8"
) -> CatalogueEntry:
    """Return an entry for ``table`` with guessed types; text columns without repeats count as identifiers.

    Args:
        table: ``.csv`` or ``.parquet``.
        resource: catalogue id.
        owner: organisation id.
        encoding: of a CSV.

    Raises:
        CatalogueError: the table cannot be read.
    """
    import duckdb

    if not table.is_file():
        raise CatalogueError(f"expected a table at {table}")
    path = str(table.absolute()).replace("'", "''")
    reader = "read_parquet" if table.suffix == ".parquet" else "read_csv"
    extra = f", encoding='{encoding}'" if encoding != "utf-8" and reader == "read_csv" else ""
    connection = duckdb.connect()
    try:
        described = connection.execute(f"DESCRIBE SELECT * FROM {reader}('{path}'{extra})").fetchall()  # noqa: S608
        found = [(str(row[0]), _TYPES.get(str(row[1]).split("(")[0], "text")) for row in described]
        names = [name.replace('"', '""') for name, kind in found if kind == "text"]
        counts = (
            connection.execute(
                "SELECT count(*), "  # noqa: S608
                + ", ".join(f'count(DISTINCT "{name}")' for name in names)
                + f" FROM {reader}('{path}'{extra})"
            ).fetchone()
            if names
            else None
        )
    except duckdb.Error as error:
        raise CatalogueError(
            f"expected {table.name} as CSV or Parquet with a header ({type(error).__name__}); check its encoding"
        ) from None
    finally:
        connection.close()
    distinct = dict(zip(names, counts[1:], strict=True)) if counts else {}
    rows = counts[0] if counts else 0
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
                path=str(table.absolute()),
                format="parquet" if table.suffix == ".parquet" else "csv",
                encoding=encoding,
            ).model_dump(mode="json"),
            "columns": [
                Column(
                    name=name,
                    type=kind,
                    identifier=bool(rows) and 10 * distinct.get(name.replace('"', '""'), 0) > 9 * rows,
                ).model_dump(mode="json")
                for name, kind in found
            ],
        },
        source=table.name,
    )
