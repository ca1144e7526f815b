"""Workbooks: one sheet of an Excel file as an Arrow table of texts, as a CSV of the same sheet would give them.

Numbers are written without a trailing ``.0``, dates as ``2026-01-31``. An identity number that
Excel keeps as a number has lost its last digits; it arrives as such and fails its checks.
"""

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

from quality.errors import SourceError

SUFFIXES = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods")
_BATCH_ROWS = 20_000


def header_of(path: Path, sheet: str = "") -> tuple[str, ...]:
    """Return the texts of a sheet's first row.

    Raises:
        SourceError: the file is no workbook, has no such sheet, or nothing can read it here.
    """
    return tuple(next(_rows(path, sheet), ()))


def read_sheet(path: Path, sheet: str = "") -> Any:
    """Return a sheet as an Arrow table of texts; its first row names the columns.

    Args:
        path: the workbook.
        sheet: name; the first sheet if not given.

    Raises:
        SourceError: as ``header_of``, or a column without a name of its own.
    """
    import pyarrow as pa

    rows = _rows(path, sheet)
    names = tuple(next(rows, ()))
    if not names:
        raise SourceError("source.empty", "expected a header and rows, got an empty sheet")
    if any(not name for name in names) or len({name.casefold() for name in names}) != len(names):
        raise SourceError("source.header", "expected every column with a name of its own")
    schema = pa.schema([(name, pa.string()) for name in names])
    batches: list[Any] = []
    held: list[list[str | None]] = []
    for row in rows:
        filled = [*row, *[""] * (len(names) - len(row))][: len(names)]
        # Sheets often end with formatted, empty rows; they are no records.
        if any(filled):
            held.append([cell or None for cell in filled])
        if len(held) == _BATCH_ROWS:
            batches.append(_batch(held, schema))
            held = []
    if held:
        batches.append(_batch(held, schema))
    return pa.Table.from_batches(batches, schema=schema)


def _batch(rows: list[list[str | None]], schema: Any) -> Any:
    import pyarrow as pa

    columns = [pa.array(column, type=pa.string()) for column in zip(*rows, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _rows(path: Path, sheet: str) -> Iterator[list[str]]:
    try:
        import python_calamine
    except ImportError:
        raise SourceError(
            "source.driver", "expected the workbook reader; install it: pip install 'shufang[sources]'"
        ) from None
    try:
        book = python_calamine.load_workbook(str(path))
        name = sheet or (book.sheet_names[0] if book.sheet_names else "")
        if name not in book.sheet_names:
            raise SourceError("source.missing", f"expected the named sheet in {path.name}")
        for row in book.get_sheet_by_name(name).iter_rows():
            yield [_text(cell) for cell in row]
    except (python_calamine.CalamineError, OSError, ValueError, IndexError) as error:
        raise SourceError("source.unreadable", f"expected a workbook {path.name} ({type(error).__name__})") from None


def _text(cell: object) -> str:  # noqa: PLR0911 - one per kind of cell
    match cell:
        case str():
            return cell.strip()
        case bool():
            return "TRUE" if cell else "FALSE"
        case float() if cell.is_integer() and abs(cell) < 1e15:
            return str(int(cell))
        case datetime() if cell.time() == time():
            return cell.date().isoformat()
        case datetime() | date() | time():
            return cell.isoformat()
        case timedelta() | int() | float():
            return str(cell)
        case _:
            return ""
