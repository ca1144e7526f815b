"""Pages of products: self-contained HTML with inline SVG, Chinese first, English second.

A page loads nothing: no script, no font, no address. What it shows comes from values that
passed disclosure control before the operator saw them; a suppressed cell is shown as such,
with its reason, and is never drawn.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

SUPPRESSED_MARK = "⋯"


@dataclass(frozen=True, slots=True)
class Cell:
    """One published number, or the reason why it is not published.

    Attributes:
        value: exact decimal text such as ``"1250"`` or ``"28.4"``; None where suppressed.
        reason: why it is suppressed, e.g. ``"primary"`` or ``"complementary"``; empty if it is not.
    """

    value: str | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """One table of a report.

    Attributes:
        name: short name, the stem of its files.
        title_zh, title_en: what it shows.
        unit_zh, unit_en: unit of its numbers.
        row_titles, column_titles: labels; the last may be a total.
        cells: one row of cells per row title.
        is_chart: whether a bar chart of the first column is drawn.
    """

    name: str
    title_zh: str
    title_en: str
    unit_zh: str
    unit_en: str
    row_titles: tuple[str, ...]
    column_titles: tuple[str, ...]
    cells: tuple[tuple[Cell, ...], ...]
    is_chart: bool = True

    def __post_init__(self) -> None:
        if len(self.cells) != len(self.row_titles) or any(len(row) != len(self.column_titles) for row in self.cells):
            raise ValueError(f"table {self.name}: the cells do not fit its titles")

    @property
    def suppressed(self) -> int:
        """How many cells are not published."""
        return sum(cell.value is None for row in self.cells for cell in row)


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of the method sheet."""

    title_zh: str
    title_en: str
    text_zh: str
    text_en: str


@dataclass(frozen=True, slots=True)
class Page:
    """A whole report.

    Attributes:
        headline: key figures: (value, title zh, title en).
        method: how it was made and what each party learned.
        edition: product and version; the date of release is in the release statement.
    """

    title_zh: str
    title_en: str
    summary_zh: str
    summary_en: str
    headline: tuple[tuple[str, str, str], ...]
    tables: tuple[Table, ...]
    method: tuple[Fact, ...]
    edition: str


@dataclass(frozen=True, slots=True)
class _Bar:
    label: str
    y: int
    width: int
    text: str
    is_suppressed: bool


_BAR_HEIGHT = 26
_BAR_WIDTH_MAX = 420


def bars(table: Table, column: int = 0) -> tuple[list[_Bar], int]:
    """Return the bars of a chart of one column and the height of the drawing.

    Totals (the last row, if it is titled so) are left out; suppressed cells get no length.
    """
    rows = [
        (title, row[column])
        for title, row in zip(table.row_titles, table.cells, strict=True)
        if not title.startswith(("合计", "Total"))
    ]
    numbers = [abs(Decimal(cell.value)) for _, cell in rows if cell.value is not None]
    largest = max(numbers, default=Decimal(0))
    result = []
    for index, (title, cell) in enumerate(rows):
        width = 0
        if cell.value is not None and largest:
            width = int(abs(Decimal(cell.value)) / largest * _BAR_WIDTH_MAX)
        text = _grouped(cell.value) if cell.value is not None else SUPPRESSED_MARK
        result.append(_Bar(title, index * _BAR_HEIGHT, width, text, cell.value is None))
    return result, len(rows) * _BAR_HEIGHT + 4


def report_html(page: Page) -> bytes:
    """Return the page as UTF-8 bytes; equal values give equal bytes."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("factory.pipelines"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["grouped"] = _grouped
    charts = {table.name: bars(table) for table in page.tables if table.is_chart}
    text = environment.get_template("report.html").render(page=page, charts=charts, mark=SUPPRESSED_MARK)
    return text.encode("utf-8")


def tables_csv(tables: Sequence[Table]) -> bytes:
    """Return all tables as one CSV in long form: table, row, column, value, unit, reason."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["table", "row", "column", "value", "unit", "suppressed"])
    for table in tables:
        for title, row in zip(table.row_titles, table.cells, strict=True):
            for column, cell in zip(table.column_titles, row, strict=True):
                writer.writerow([table.name, title, column, cell.value or "", table.unit_en, cell.reason])
    return out.getvalue().encode("utf-8")


def _grouped(value: str | None) -> str:
    if value is None:
        return SUPPRESSED_MARK
    whole, _, fraction = value.partition(".")
    sign = "-" if whole.startswith("-") else ""
    return f"{sign}{int(whole.lstrip('-') or 0):,}" + (f".{fraction}" if fraction else "")
