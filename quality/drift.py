"""Drift: how far the distribution of a column has moved since the delivery before.

A *shape* is how many cells of a column fall into which part of it: ten parts of equal size for
numbers and dates, the most frequent values for texts (kept as digests), and the empty cells.
The next delivery is counted in the same parts and the two are compared by the population stability
index, the sum over the parts of ``(q - p) ln(q / p)``; below 0.1 is usually called stable, above 0.25 moved.

Privacy: shapes hold bounds of the table, so they stay in the department's folder. Only the index
leaves, rounded to hundredths; a delivery that differs by a few rows gives 0.00.

Source:
    Siddiqi, "Credit Risk Scorecards" (2006), chapter 9 (index and limits); Yurdakul, "Statistical
    properties of population stability index" (2018), section 2: it grows with the number of parts over
    the number of rows, hence ten parts and ``ROWS_MIN`` cells.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import TYPE_CHECKING, Any

from quality.sources import BATCH, literal, quoted
from quality.suite import ColumnType

if TYPE_CHECKING:
    import duckdb

DRIFT = "expect_column_drift_to_be_at_most"
"""The index of ``column`` against the delivery before is at most ``max_psi``."""
GROWTH = "expect_table_row_count_to_change_by_at_most"
"""The table has at most ``percent`` more or fewer rows than the delivery before."""
ROWS_MIN = 200
"""Fewer filled cells on either side and the index would be noise."""
PARTS = 10
TEXTS_MAX = 20
_TEXT_ROWS_MIN = 5


@dataclass(frozen=True, slots=True)
class Shape:
    """How the cells of one column are distributed; stays at the node.

    Attributes:
        kind: type of the column.
        marks: upper bounds of all parts but the last; for texts a digest per part.
        counts: cells per part, then the rest (the last part, or other texts), then the empty cells.
    """

    kind: ColumnType
    marks: tuple[str, ...]
    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        """Check that there is a count for each part.

        Raises:
            ValueError: there is not.
        """
        if len(self.counts) != len(self.marks) + 2 or min(self.counts) < 0:
            raise ValueError("expected a count for each part, the rest and the empty cells")

    @property
    def filled(self) -> int:
        """Cells that are not empty."""
        return sum(self.counts[:-1])


def shape_of(connection: "duckdb.DuckDBPyConnection", column: str, kind: ColumnType) -> Shape:
    """Return the shape of a column of ``batch``."""
    marks = _texts(connection, column) if kind == "text" else _bounds(connection, column)
    return Shape(kind, marks, _counts(connection, column, kind, marks))


def shape_like(connection: "duckdb.DuckDBPyConnection", column: str, before: Shape) -> Shape:
    """Return the shape of a column of ``batch`` in the parts of another delivery."""
    return Shape(before.kind, before.marks, _counts(connection, column, before.kind, before.marks))


def psi(before: Sequence[int], now: Sequence[int]) -> float:
    """Return the population stability index of two deliveries; at least 0.

    Args:
        before: cells per part; at least one is not 0.
        now: the same of the later delivery.

    Raises:
        ValueError: different parts, or no cell.
    """
    if len(before) != len(now) or not sum(before) or not sum(now):
        raise ValueError("expected equal parts and at least one cell on each side")
    total = 0.0
    for old, new in zip(before, now, strict=True):
        # Half a cell where there is none, so that an empty part has a finite weight.
        p, q = max(old, 0.5) / sum(before), max(new, 0.5) / sum(now)
        total += (q - p) * log(q / p) if old or new else 0.0
    return total


def _bounds(connection: "duckdb.DuckDBPyConnection", column: str) -> tuple[str, ...]:
    shares = ", ".join(f"{step / PARTS}" for step in range(1, PARTS))
    sql = f"SELECT quantile_disc({quoted(column)}, [{shares}]) FROM {BATCH}"  # noqa: S608 - a quoted name
    found = connection.execute(sql).fetchall()[0][0] or ()
    return tuple(dict.fromkeys(str(value) for value in found))


def _texts(connection: "duckdb.DuckDBPyConnection", column: str) -> tuple[str, ...]:
    name = quoted(column)
    sql = (
        f"SELECT {_digest('cell')} FROM (SELECT {name} AS cell FROM {BATCH} WHERE {name} IS NOT NULL"  # noqa: S608 - as above
        f" GROUP BY {name} HAVING count(*) >= {_TEXT_ROWS_MIN} ORDER BY count(*) DESC, {name} LIMIT {TEXTS_MAX})"
    )
    return tuple(str(row[0]) for row in connection.execute(sql).fetchall())


def _counts(
    connection: "duckdb.DuckDBPyConnection", column: str, kind: ColumnType, marks: Sequence[str]
) -> tuple[int, ...]:
    name = quoted(column)
    filled, empty = connection.execute(f"SELECT count({name}), count(*) - count({name}) FROM {BATCH}").fetchall()[0]  # noqa: S608 - as above
    if kind == "text":
        sql = (
            f"SELECT {_digest('cell')}, times FROM (SELECT {name} AS cell, count(*) AS times FROM {BATCH}"  # noqa: S608 - as above
            f" WHERE {name} IS NOT NULL GROUP BY {name})"
            f" WHERE {_digest('cell')} IN ({', '.join(map(literal, marks)) or 'NULL'})"
        )
        known: dict[str, int] = dict(connection.execute(sql).fetchall())
        parts = [int(known.get(mark, 0)) for mark in marks]
    else:
        below = _below(connection, name, kind, marks)
        parts = [count - before for count, before in zip(below, [0, *below], strict=False)]
    return (*parts, int(filled) - sum(parts), int(empty))


def _below(connection: "duckdb.DuckDBPyConnection", name: str, kind: ColumnType, marks: Sequence[str]) -> list[int]:
    """Return how many cells are at most each bound."""
    if not marks:
        return []
    bounds = [f"DATE {literal(mark)}" if kind == "date" else str(float(mark)) for mark in marks]
    sums = ", ".join(f"count(*) FILTER ({name} <= {bound})" for bound in bounds)
    row: Any = connection.execute(f"SELECT {sums} FROM {BATCH}").fetchall()[0]  # noqa: S608 - as above
    return [int(count) for count in row]


def _digest(name: str) -> str:
    """Return the SQL of what stands for a text in a kept shape."""
    return f"left(sha256({name}), 16)"
