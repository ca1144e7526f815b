"""Report pages draw what is published and nothing that is not."""

import csv
import io

import pytest

from factory.pipelines.pages import Cell, Fact, Page, Table, bars, report_html, tables_csv

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
        (Cell(None, "primary"), Cell(None, "primary")),
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
    drawing, _ = bars(TABLE)
    assert [(bar.width, bar.text, bar.is_suppressed) for bar in drawing] == [
        (420, "1,850", False),
        (0, "⋯", True),
        (210, "-925.50"[:-1], False),
    ]


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
    assert lines[3] == ["fines", "<b>西区</b>", "金额 sum", "", "CNY", "primary"]


def test_cells_that_do_not_fit_the_titles_are_refused() -> None:
    with pytest.raises(ValueError, match="fit"):
        Table("t", "a", "b", "c", "d", ("r",), ("c1", "c2"), ((Cell("1"),),))
