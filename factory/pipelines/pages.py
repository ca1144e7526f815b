"""Pages of products: self-contained HTML and PDF with charts, tables as CSV and JSON. Chinese first, English second.

A page loads nothing: no script, no font, no address. What it shows comes from values that
passed disclosure control before the operator saw them; a suppressed cell is shown as such,
with its reason, and is never drawn.
"""

import csv
import importlib.util
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from importlib import resources
from typing import Any

from factory.federation.rules import REASONS
from factory.pipelines.charts import Kind, Point, draw
from nodes.contract import canonical
from nodes.contract.canonical import JsonObject, JsonValue

SUPPRESSED_MARK = "⋯"
MARKS = {
    "threshold": "T",
    "dominance": "D",
    "class": "C",
    "differencing": "R",
    "complementary": "S",
    "domains": "N",
    "tail": "Q",
    "dof": "F",
    "separation": "E",
    "collinear": "L",
}
"""Letter beside a suppressed cell, by reason."""
_PDF_NEEDS = ("typst", "manimgx_fonts_cjk")


@dataclass(frozen=True, slots=True)
class Cell:
    """One published number, or the reason why it is not published.

    Attributes:
        value: exact decimal text such as ``"1250"`` or ``"28.4"``, or a word; None where suppressed.
        reason: code of why it is suppressed, see ``factory.federation.rules.REASONS``; empty if it is not.
    """

    value: str | None
    reason: str = ""

    @property
    def number(self) -> Decimal | None:
        """The value as a number, None where it is none."""
        try:
            return None if self.value is None else Decimal(self.value)
        except InvalidOperation:
            return None

    @property
    def text(self) -> str:
        """What people read."""
        if self.value is None:
            return f"{SUPPRESSED_MARK}{MARKS.get(self.reason, '')}"
        return _grouped(self.value)


@dataclass(frozen=True, slots=True)
class Table:
    """One table of a report.

    Attributes:
        name: short name, the stem of its files.
        title_zh, title_en: what it shows.
        unit_zh, unit_en: unit of its numbers.
        row_titles, column_titles: labels; the last may be a total.
        cells: one row of cells per row title.
        chart: what is drawn of the first column; ``intervals`` of the first three.
        error_zh, error_en: how far a number can be off the one of the pooled rows.
        withheld: code of why nothing of it is published, or empty.
    """

    name: str
    title_zh: str
    title_en: str
    unit_zh: str
    unit_en: str
    row_titles: tuple[str, ...]
    column_titles: tuple[str, ...]
    cells: tuple[tuple[Cell, ...], ...]
    chart: Kind = "bars"
    error_zh: str = ""
    error_en: str = ""
    withheld: str = ""

    def __post_init__(self) -> None:
        if len(self.cells) != len(self.row_titles) or any(len(row) != len(self.column_titles) for row in self.cells):
            raise ValueError(f"table {self.name}: the cells do not fit its titles")

    @property
    def suppressed(self) -> int:
        """How many cells are not published."""
        return sum(cell.value is None for row in self.cells for cell in row)

    @property
    def unit(self) -> str:
        """Unit in both languages."""
        return f"{self.unit_zh} {self.unit_en}".strip()

    def why(self) -> list[tuple[str, str, str, int]]:
        """Return mark, reason in Chinese and English, and number of cells of each suppression."""
        codes = [cell.reason for row in self.cells for cell in row if cell.value is None]
        codes += [self.withheld] if self.withheld else []
        return [(MARKS.get(code, ""), *REASONS[code], codes.count(code)) for code in REASONS if code in codes]

    def picture(self) -> str:
        """Return the chart as SVG, empty without one. Totals and what is not listed are left out of bars."""
        points = []
        for title, row in zip(self.row_titles, self.cells, strict=True):
            if not row or title.startswith(("合计", "Total", "其他")):
                continue
            low, high = (row[1].number, row[2].number) if self.chart == "intervals" else (None, None)
            points.append(Point(title, row[0].number, row[0].text, low, high))
        return draw(self.chart, points, f"{self.title_zh} {self.title_en}")


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


def report_html(page: Page) -> bytes:
    """Return the page as UTF-8 bytes; equal values give equal bytes."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("factory.pipelines"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    charts = {table.name: Markup(_inline(table.picture())) for table in page.tables}  # noqa: S704  our SVG, escaped
    text = environment.get_template("report.html").render(page=page, charts=charts)
    return text.encode("utf-8")


def is_pdf_available() -> bool:
    """Whether the extra ``reports`` is installed."""
    return all(importlib.util.find_spec(name) is not None for name in _PDF_NEEDS)


def report_pdf(page: Page) -> bytes:
    """Return the page as PDF/A-2a; fonts come from the wheel alone and no clock is read, so bytes are equal everywhere.

    Needs the extra ``reports``.
    """
    import typst

    from quality.pdf import picture

    document = {
        "title_zh": page.title_zh,
        "title_en": page.title_en,
        "summary_zh": page.summary_zh,
        "summary_en": page.summary_en,
        "headline": [list(item) for item in page.headline],
        "edition": page.edition,
        "tables": [
            {
                "title_zh": table.title_zh,
                "title_en": table.title_en,
                "unit": table.unit,
                "heads": list(table.column_titles),
                "rows": [
                    [title, *(cell.text for cell in row)]
                    for title, row in zip(table.row_titles, table.cells, strict=True)
                ],
                "chart": picture(drawing) if (drawing := table.picture()) else "",
                "why": [[mark, zh, en, str(number)] for mark, zh, en, number in table.why()],
                "error_zh": table.error_zh,
                "error_en": table.error_en,
            }
            for table in page.tables
        ],
        "method": [[fact.title_zh, fact.title_en, fact.text_zh, fact.text_en] for fact in page.method],
    }
    import manimgx_fonts_cjk

    source = resources.files("factory.pipelines").joinpath("templates/report.typ").read_bytes()
    compile_document: Any = typst.compile  # its stub asks for one type where the library takes several
    done: bytes = compile_document(
        source,
        format="pdf",
        font_paths=[str(resources.files(manimgx_fonts_cjk))],
        ignore_system_fonts=True,
        sys_inputs={"report": json.dumps(document, ensure_ascii=False, sort_keys=True)},
        timestamp=0,
    )
    return done


def tables_csv(tables: Sequence[Table]) -> bytes:
    """Return all tables as one CSV in long form: table, row, column, value, unit, reason code of a suppression."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["table", "row", "column", "value", "unit", "suppressed"])
    for table in tables:
        for title, row in zip(table.row_titles, table.cells, strict=True):
            for column, cell in zip(table.column_titles, row, strict=True):
                writer.writerow([table.name, title, column, cell.value or "", table.unit_en, cell.reason])
    return out.getvalue().encode("utf-8")


def tables_json(tables: Sequence[Table]) -> bytes:
    """Return all tables as JSON with titles, units, stated errors and reasons; numbers are decimal texts."""
    listed: list[JsonValue] = []
    for table in tables:
        cells: list[JsonValue] = [
            {"row": title, "column": column, "value": cell.value, "suppressed": cell.reason}
            for title, row in zip(table.row_titles, table.cells, strict=True)
            for column, cell in zip(table.column_titles, row, strict=True)
        ]
        item: JsonObject = {
            "name": table.name,
            "title": {"zh": table.title_zh, "en": table.title_en},
            "unit": {"zh": table.unit_zh, "en": table.unit_en},
            "error": {"zh": table.error_zh, "en": table.error_en},
            "withheld": table.withheld,
            "cells": cells,
        }
        listed.append(item)
    reasons: JsonObject = {code: {"zh": zh, "en": en} for code, (zh, en) in REASONS.items()}
    return canonical.dumps({"version": 1, "tables": listed, "reasons": reasons})


def _inline(svg: str) -> str:
    """Return a chart for inside HTML, where a namespace is neither needed nor an address wanted."""
    return svg.replace(' xmlns="http://www.w3.org/2000/svg"', "").replace(f' width="{748}"', "", 1)


def _grouped(value: str) -> str:
    whole, _, fraction = value.partition(".")
    digits = whole.lstrip("-")
    if not digits.isdecimal():
        return value
    sign = "-" if whole.startswith("-") else ""
    return f"{sign}{int(digits):,}" + (f".{fraction}" if fraction else "")
