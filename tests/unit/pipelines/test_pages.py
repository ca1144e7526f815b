"""Report pages draw what is published and nothing that is not."""

import csv
import io
import json
import re

import pytest

from factory.federation.rules import REASONS
from factory.pipelines.pages import MARKS, Cell, Fact, Page, Table, report_html, report_pdf, tables_csv, tables_json

TABLE = Table(
    "fines",
    "罚款",
    "Fines",
    "元",
    "CNY",
    ("东区", "<b>西区</b>", "北区", "合计 Total"),
    ("金额 sum", "件数 count"),
    (
        (Cell("1850"), Cell("60")),
        (Cell(None, "threshold"), Cell(None, "threshold")),
        (Cell("-925.5"), Cell("30")),
        (Cell("12345678"), Cell("95")),
    ),
)
PAGE = Page(
    "标题",
    "Title",
    "摘要",
    "Summary",
    (("95", "件数", "count"),),
    (TABLE,),
    (Fact("方法", "Method", "和", "sum"),),
    "fines@1.0.0",
)


def test_a_suppressed_cell_has_no_length_and_no_number() -> None:
    drawing = TABLE.picture()
    assert re.findall(r'<rect [^>]*width="(\d+)" height="18"', drawing) == ["420", "210"]
    assert "⋯T" in drawing
    assert "-925.5" in drawing
    assert "合计" not in drawing


def test_the_page_loads_nothing_and_escapes_labels() -> None:
    text = report_html(PAGE).decode()
    assert "<b>西区</b>" not in text
    assert "&lt;b&gt;西区" in text
    for mark in ("http:", "https:", "<script", "@import", "url("):
        assert mark not in text
    assert "12,345,678" in text
    assert "default-src 'none'" in text


def test_equal_values_give_equal_bytes() -> None:
    assert report_html(PAGE) == report_html(PAGE)


def test_the_csv_says_why_a_cell_is_missing() -> None:
    lines = list(csv.reader(io.StringIO(tables_csv([TABLE]).decode())))
    assert lines[3] == ["fines", "<b>西区</b>", "金额 sum", "", "CNY", "threshold"]


def test_cells_that_do_not_fit_the_titles_are_refused() -> None:
    with pytest.raises(ValueError, match="fit"):
        Table("t", "a", "b", "c", "d", ("r",), ("c1", "c2"), ((Cell("1"),),))


def test_a_line_breaks_where_nothing_is_published() -> None:
    cells = tuple((Cell(value),) if value else (Cell(None, "threshold"),) for value in ("5", "7", None, "9", "4"))
    months = tuple(f"2024-0{number}" for number in range(1, 6))
    drawing = Table("t", "月", "Months", "件", "cases", months, ("值",), cells, chart="line").picture()
    assert drawing.count("<polyline") == 2
    assert drawing.count("<circle") == 4


def test_intervals_need_an_estimate_and_both_ends() -> None:
    rows = ((Cell("1.5"), Cell("1.1"), Cell("2.1")), (Cell("1"), Cell(""), Cell("")))
    drawing = Table("t", "比", "Odds", "", "", ("男 male", "女 female"), ("OR", "low", "high"), rows, chart="intervals")
    assert drawing.picture().count('stroke-width="2.4"') == 1


def test_the_json_has_units_errors_and_reasons() -> None:
    (table,) = json.loads(tables_json([TABLE]))["tables"]
    assert table["unit"] == {"zh": "元", "en": "CNY"}
    assert table["cells"][2] == {"row": "<b>西区</b>", "column": "金额 sum", "value": None, "suppressed": "threshold"}


def test_every_reason_of_a_suppression_has_a_mark_of_its_own() -> None:
    assert set(MARKS) == set(REASONS)
    assert len(set(MARKS.values())) == len(MARKS)


def test_the_pdf_is_the_same_bytes_each_time_and_has_no_date() -> None:
    pytest.importorskip("typst")
    first = report_pdf(PAGE)
    assert first.startswith(b"%PDF")
    assert first == report_pdf(PAGE)
