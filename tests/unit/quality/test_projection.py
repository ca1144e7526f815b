"""The report: what it may hold, and that it can be signed and compared."""

import json
from datetime import UTC, datetime, timedelta

import pytest
import rfc8785

from quality.errors import ReportError
from quality.projection import name, report_json
from quality.report import html
from quality.run import assess
from quality.sources import source_of
from quality.suite import Rule, Suite

NOW = datetime(2026, 3, 2, 4, 0, tzinfo=UTC)
TOP = {
    "schema", "resource", "node", "assessed_at", "delivered_at", "suite", "engine", "table", "disclosure", "profile",
    "score", "dimensions", "indicators", "rules", "findings", "history",
}  # fmt: skip
RULE = {
    "id", "type", "columns", "title_zh", "title_en", "dimension", "indicator", "severity", "nulls", "unit", "status",
    "reason", "checked", "failing", "failing_below", "rate_micro", "allowed_micro", "score_x100", "previous_rate_micro",
}  # fmt: skip
SUITE = Suite(
    "res.test",
    "1.0.0",
    {"a": "text", "b": "text"},
    (
        Rule(
            "R-A",
            "expect_column_values_to_not_be_null",
            {"column": "a", "mostly": 0.9},
            "0201",
            "major",
            "甲<b>",
            "A<b>",
        ),
        Rule("R-B", "expect_column_values_to_not_be_null", {"column": "b", "mostly": 0.99}, "0201", "major", "乙", "B"),
    ),
)


def run(tmp_path, *, rows=100, a=0, b=0, previous=None, now=NOW):
    lines = [f"{'' if i < a else 'x'},{'' if i >= rows - b else 'y'}" for i in range(rows)]
    path = tmp_path / "t.csv"
    path.write_text("a,b\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return report_json(assess(source_of(path, delivered_at=NOW), SUITE, now=now, previous=previous))


def rule(report, rule_id):
    return next(item for item in report["rules"] if item["id"] == rule_id)


def test_only_listed_fields_are_there_and_none_is_a_float(tmp_path):
    report = run(tmp_path, a=7)
    assert set(report) == TOP
    for item in report["rules"]:
        assert set(item) - {"lag_days", "promised_days"} == RULE
    json.loads(rfc8785.dumps(report), parse_float=lambda _: pytest.fail("a float"))


@pytest.mark.parametrize("missing", [1, 2, 3, 4])
def test_counts_below_5_give_one_and_the_same_report(tmp_path, missing):
    report = run(tmp_path, a=missing)
    shown = rule(report, "R-A")
    assert (shown["failing"], shown["failing_below"], shown["rate_micro"], shown["score_x100"]) == (
        None,
        5,
        None,
        9_500,
    )
    assert report == run(tmp_path, a=1)


def test_five_is_published(tmp_path):
    shown = rule(run(tmp_path, a=5), "R-A")
    assert (shown["checked"], shown["failing"], shown["failing_below"], shown["rate_micro"]) == (100, 5, None, 50_000)


def test_a_table_below_10_rows_publishes_no_figure_and_is_held(tmp_path):
    report = run(tmp_path, rows=9, a=5)
    assert report["table"]["rows"] is None
    assert (report["score"]["verdict"], rule(report, "R-A")["status"]) == ("held", "not_assessed")
    assert [item["code"] for item in report["findings"]] == ["source.too_small"]
    assert rule(run(tmp_path, rows=10), "R-A")["status"] == "pass"


def test_equal_input_gives_equal_bytes(tmp_path):
    assert rfc8785.dumps(run(tmp_path, a=7)) == rfc8785.dumps(run(tmp_path, a=7))


def test_the_next_report_shows_the_change_and_the_trend(tmp_path):
    first = run(tmp_path, a=20)
    second = run(tmp_path, a=10, previous=first, now=NOW + timedelta(days=1))
    assert rule(second, "R-A")["previous_rate_micro"] == 200_000
    assert second["score"]["previous_x100"] == first["score"]["total_x100"]
    assert [item["assessed_at"] for item in second["history"]] == ["2026-03-02T04:00:00Z", "2026-03-03T04:00:00Z"]


def test_the_trend_is_limited_to_ten(tmp_path):
    report = None
    for day in range(12):
        report = run(tmp_path, previous=report, now=NOW + timedelta(days=day))
    assert len(report["history"]) == 10


def test_a_previous_report_of_another_kind_is_refused(tmp_path):
    with pytest.raises(ReportError, match="schema"):
        run(tmp_path, previous={"schema": "other"})
    with pytest.raises(ReportError, match="schema"):
        html({"schema": "other"})


@pytest.mark.parametrize("text", ["110101", "１１０１０１", "91110108MA009HJB3M", "a@b.cn", "x" * 65])
def test_names_that_look_like_data_are_withheld(text):
    assert name(text) == "withheld"


@pytest.mark.parametrize(
    "text", ["id_no", "res.north.clinic", "mean_fractal_dimension", "罚款元", "GB11643", "node-north"]
)
def test_names_are_published(text):
    assert name(text) == text


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_the_page_is_self_contained_escaped_and_says_failures_first(tmp_path, lang):
    report = run(tmp_path, a=20, b=1)
    page = html(report, lang=lang, sha256="0" * 64)
    assert "default-src 'none'" in page
    for outside in ("<script", "http://", "https://", "src=", "@import", "url("):
        assert outside not in page.replace("http://www.w3.org/2000/svg", "")
    assert "<b>" not in page.replace("<b>80", "").replace(f"<b>{report['score']['total_x100'] // 100}", "")
    assert page.index("R-A") < page.index("T-READ")
    assert len(page.encode()) < 40_000
