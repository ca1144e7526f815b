"""Nothing of a row leaves: every expectation, every failure, in the report, its pages, output and logs."""

import contextlib
import json
import logging
from datetime import UTC, datetime

import pytest

from quality.cli import main
from quality.projection import report_json
from quality.report import html
from quality.run import assess
from quality.sources import source_of
from quality.suite import Rule, Suite, document

NOW = datetime(2026, 3, 2, tzinfo=UTC)
CANARY = "CANARY-110101199003077777"
NUMBER = "987654321"
HOT = (CANARY, NUMBER, "110101199003077777", "1999-09-19")
TYPES = {"id": "text", "txt": "text", "num": "number", "d": "date"}

EVERY = [
    ("expect_column_values_to_match_regex", {"column": "id", "regex": "^x"}),
    ("expect_column_values_to_not_match_regex", {"column": "id", "regex": "CANARY"}),
    ("expect_column_values_to_match_regex", {"column": "id", "regex": r"^\w\d+$"}),
    ("expect_column_values_to_match_regex_list", {"column": "id", "regex_list": ["^x"]}),
    ("expect_column_values_to_match_regex", {"column": "id", "regex": "(" + CANARY}),
    ("expect_column_values_to_be_in_set", {"column": "id", "value_set": ["x1", CANARY]}),
    ("expect_column_values_to_not_be_in_set", {"column": "id", "value_set": [CANARY]}),
    ("expect_column_values_to_be_unique", {"column": "id"}),
    ("expect_column_values_to_be_between", {"column": "num", "max_value": 100}),
    ("expect_column_values_to_be_between", {"column": "txt", "min_value": 0, "max_value": 1}),
    (
        "expect_column_values_to_be_between",
        {"column": "num", "max_value": 5, "row_condition": f'id=="{CANARY}"', "condition_parser": "pandas"},
    ),
    ("expect_column_value_lengths_to_be_between", {"column": "txt", "max_value": 5}),
    ("expect_column_value_z_scores_to_be_less_than", {"column": "num", "threshold": 1, "double_sided": True}),
    ("expect_column_value_z_scores_to_be_less_than", {"column": "txt", "threshold": 1, "double_sided": True}),
    ("expect_column_values_to_be_increasing", {"column": "num"}),
    ("expect_column_values_to_be_decreasing", {"column": "txt"}),
    ("expect_column_values_to_be_dateutil_parseable", {"column": "txt"}),
    ("expect_column_values_to_be_json_parseable", {"column": "txt"}),
    ("expect_column_values_to_match_json_schema", {"column": "txt", "json_schema": {"const": CANARY}}),
    ("expect_column_values_to_match_strftime_format", {"column": "txt", "strftime_format": "%Y-%m-%d"}),
    ("expect_column_values_to_be_of_type", {"column": "txt", "type_": "int"}),
    ("expect_column_values_to_be_valid_resident_ids", {"column": "id"}),
    ("expect_column_values_to_be_valid_usccs", {"column": "id"}),
    ("expect_column_values_to_be_division_codes", {"column": "id"}),
    ("expect_resident_id_regions_to_have_existed", {"column": "id"}),
    ("expect_division_codes_to_be_in_force_on_dates", {"column_A": "id", "column_B": "d"}),
    ("expect_column_drift_to_be_at_most", {"column": "id", "max_psi": 0.1}),
    ("expect_column_drift_to_be_at_most", {"column": "num", "max_psi": 0.1}),
    ("expect_table_row_count_to_change_by_at_most", {"percent": 1}),
    ("expect_column_values_to_be_in_resource", {"column": "id", "resource": "res.other", "other_column": "id"}),
    ("expect_column_max_to_be_between", {"column": "num", "max_value": 100}),
    ("expect_column_max_to_be_between", {"column": "id", "max_value": "a"}),
    ("expect_column_max_to_be_between", {"column": "d", "max_value": "1999-09-19"}),
    ("expect_column_min_to_be_between", {"column": "num", "min_value": 100}),
    ("expect_column_sum_to_be_between", {"column": "num", "max_value": 1}),
    ("expect_column_mean_to_be_between", {"column": "num", "max_value": 1}),
    ("expect_column_mean_to_be_between", {"column": "txt", "max_value": 1}),
    ("expect_column_median_to_be_between", {"column": "txt", "max_value": 1}),
    ("expect_column_stdev_to_be_between", {"column": "txt", "max_value": 1}),
    ("expect_column_distinct_values_to_be_in_set", {"column": "id", "value_set": ["x1"]}),
    ("expect_column_distinct_values_to_equal_set", {"column": "id", "value_set": ["x1"]}),
    ("expect_column_distinct_values_to_contain_set", {"column": "id", "value_set": ["zz", CANARY]}),
    ("expect_column_most_common_value_to_be_in_set", {"column": "id", "value_set": ["x1"]}),
    (
        "expect_column_quantile_values_to_be_between",
        {"column": "num", "quantile_ranges": {"quantiles": [1.0], "value_ranges": [[0, 1]]}},
    ),
    (
        "expect_column_kl_divergence_to_be_less_than",
        {"column": "id", "partition_object": {"values": ["x1", "x2"], "weights": [0.5, 0.5]}, "threshold": 0.1},
    ),
    ("expect_column_pair_values_to_be_equal", {"column_A": "id", "column_B": "txt"}),
    (
        "expect_column_pair_values_to_be_in_set",
        {"column_A": "id", "column_B": "txt", "value_pairs_set": [[CANARY, "1"]]},
    ),
    ("expect_column_pair_values_a_to_be_greater_than_b", {"column_A": "id", "column_B": "txt"}),
    ("expect_birth_dates_to_match_resident_ids", {"column_A": "id", "column_B": "d"}),
    ("expect_select_column_values_to_be_unique_within_record", {"column_list": ["id", "txt"]}),
    ("expect_multicolumn_sum_to_equal", {"column_list": ["num", "txt"], "sum_total": 1}),
    ("expect_table_columns_to_match_set", {"column_set": ["id"]}),
    ("expect_table_columns_to_match_ordered_list", {"column_list": ["id"]}),
    ("expect_column_to_exist", {"column": "id"}),
    ("unexpected_rows_expectation", {"unexpected_rows_query": f"select * from {{batch}} where id = '{CANARY}'"}),
    ("expect_column_max_to_be_within_days", {"column": "d", "days": 30}),
]
# Great Expectations takes these, so a request by the suite's author for more must change nothing.
FORMATS = [
    {},
    {"result_format": "COMPLETE"},
    {
        "result_format": {
            "result_format": "COMPLETE",
            "unexpected_index_column_names": ["id"],
            "include_unexpected_rows": True,
        }
    },
    {"catch_exceptions": False},
]


def suite(extra):
    rules = tuple(
        Rule(f"R-{index:02d}", kind, {**kwargs, **extra}, "0101", "minor", f"规则 {CANARY}", f"Rule {CANARY}")
        for index, (kind, kwargs) in enumerate(EVERY)
    )
    return Suite("res.test", "1.0.0", TYPES, rules)


def table(tmp_path):
    lines = [f"x{i},1,{i},2026-01-01" for i in range(48)] + [f"{CANARY},{CANARY},{NUMBER},1999-09-19"] * 2
    path = tmp_path / "table.csv"
    path.write_text("id,txt,num,d\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return path


def assert_clean(text):
    for hot in HOT:
        assert hot not in text


@pytest.mark.parametrize("extra", FORMATS, ids=["plain", "complete", "rows asked for", "exceptions"])
def test_no_canary_leaves_through_any_expectation(tmp_path, capfd, caplog, extra):
    caplog.set_level(logging.DEBUG)
    assessment = assess(source_of(table(tmp_path)), suite(extra), now=NOW)
    report = report_json(assessment, resource="res.test")
    assert len(report["rules"]) >= len(EVERY)
    if not extra:
        ran = [rule for rule in report["rules"] if rule["status"] in ("pass", "fail")]
        assert len(ran) >= 40
    assert_clean(json.dumps(report, ensure_ascii=False))
    assert_clean(html(report, lang="zh") + html(report, lang="en"))
    assert_clean(caplog.text)
    captured = capfd.readouterr()
    assert_clean(captured.out + captured.err)


def test_no_canary_leaves_through_the_command_or_its_errors(tmp_path, capfd):
    (tmp_path / "suite.json").write_text(json.dumps(document(suite({}))), encoding="utf-8")
    broken = tmp_path / "broken.csv"
    broken.write_text(f'id,txt,num,d\n{CANARY},1\n"{CANARY}\n' * 20, encoding="utf-8")
    out = tmp_path / "out"
    for path in (table(tmp_path), broken, tmp_path / "none.csv"):
        with contextlib.suppress(SystemExit):
            assert (
                main(
                    [
                        "assess",
                        "--table",
                        str(path),
                        "--suite",
                        str(tmp_path / "suite.json"),
                        "--out",
                        str(out),
                        "--json",
                    ]
                )
                == 1
            )
        for file in out.iterdir():
            assert_clean(file.read_text(encoding="utf-8"))
    captured = capfd.readouterr()
    assert_clean(captured.out + captured.err)


def printed(document):
    """Return every text that a page of the PDF is set from."""
    return json.dumps(document, ensure_ascii=False)


@pytest.mark.parametrize("extra", FORMATS, ids=["plain", "complete", "rows asked for", "exceptions"])
def test_no_canary_gets_onto_a_pdf_a_portfolio_or_into_what_is_kept(tmp_path, monkeypatch, extra):
    from datetime import date

    from quality import kept, pdf, portfolio
    from quality.projection import with_orders

    set_from = []
    typeset = pdf.typeset

    def watched(template, document):
        set_from.append(printed(document))
        return typeset(template, document)

    monkeypatch.setattr(pdf, "typeset", watched)
    monkeypatch.setattr(portfolio, "typeset", watched)
    source = source_of(table(tmp_path), delivered_at=NOW)
    first = assess(source, suite(extra), now=NOW)
    later = source_of(table(tmp_path), delivered_at=NOW.replace(day=3))
    found = assess(later, suite(extra), now=NOW.replace(day=3), kept=first.kept, previous=report_json(first))
    order = {"id": "T-0001", "kind": "feedback", "rule": "", "severity": "major", "state": "open", "overdue": True,
             "opened_on": "2026-02-01", "due_on": "2026-02-10", "provisional": False,
             "text": CANARY, "party": CANARY}  # fmt: skip
    report = with_orders(report_json(found, resource="res.test", title_zh=CANARY, owner=CANARY), [order])
    signature = {"keyid": "ab" * 32, "sig": "MEUC"}
    content = [pdf.pdf(report, lang=lang, sha256="cd" * 32, signature=signature) for lang in ("zh", "en")]
    document = portfolio.portfolio(
        [portfolio.Signed(report, "ef" * 32, "org.test", "部门", "Department")], today=date(2026, 3, 2)
    )
    content += [portfolio.pdf(document, lang=lang) for lang in ("zh", "en")]
    assert len(set_from) == 4
    pages = [portfolio.html(document, lang=lang) for lang in ("zh", "en")]
    for text in (*set_from, *pages, json.dumps(document, ensure_ascii=False)):
        assert_clean(text)
    assert all(hot.encode() not in page for hot in HOT for page in content)
    # What is kept stays at the node; even so it holds bounds of numbers and dates alone, no text of a row.
    assert CANARY not in kept.dumps(found.kept).decode()


def test_a_table_without_a_header_does_not_publish_its_first_row(tmp_path):
    path = tmp_path / "headless.csv"
    path.write_text(f"{CANARY},13900000001\n" + "x,1\n" * 20, encoding="utf-8")
    headless = Suite(
        "res.test",
        "1.0.0",
        {CANARY: "text", "13900000001": "text"},
        (Rule("R-1", "expect_column_values_to_not_be_null", {"column": CANARY}, "0201", "minor", "已填写", "Filled"),),
    )
    report = report_json(assess(source_of(path), headless, now=NOW))
    assert_clean(json.dumps(report))
    assert "13900000001" not in json.dumps(report)
    rule = next(item for item in report["rules"] if item["id"] == "R-1")
    assert rule["columns"] == ["withheld"]
