"""Runs: a broken table is a finding, planted errors are found exactly, promises are kept or not."""

import os
from datetime import UTC, date, datetime, timedelta

import pytest

from nodes.sample.kits import kit_suite
from nodes.sample.registers import ENTERPRISE_ERRORS, PERSON_ERRORS, write_enterprise_register, write_person_register
from quality.projection import report_json
from quality.report import html
from quality.run import assess
from quality.sources import Source, source_of
from quality.suite import Rule, Suite

NOW = datetime(2026, 3, 2, 4, 0, tzinfo=UTC)
SUITE = Suite(
    "res.test",
    "1.0.0",
    {"name": "text", "age": "integer"},
    (
        Rule("R-1", "expect_column_values_to_not_be_null", {"column": "name"}, "0201", "critical", "已填写", "Filled"),
        Rule(
            "R-2",
            "expect_column_values_to_be_between",
            {"column": "age", "min_value": 0},
            "0104",
            "major",
            "范围",
            "Range",
        ),
    ),
)


def written(tmp_path, text, name="table.csv", encoding="utf-8"):
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))
    return source_of(path)


def statuses(assessment):
    return {result.rule.id: result.status for result in assessment.rules}


def counts(assessment):
    return {result.rule.id: result.failing for result in assessment.rules}


def rows_of(n, *, bad=0):
    return "name,age\n" + "".join(f"甲{i},{'x' if i < bad else i % 90}\n" for i in range(n))


@pytest.mark.parametrize(
    ("content", "finding"),
    [
        (b"", "source.empty"),
        (b"name,age\n", "source.empty"),
        (b"name,name\n1,2\n", "source.header"),
        (b"name,,age\n1,2,3\n", "source.header"),
        (b"name,age\n\xff\xfe\x80\xff,1\n", "source.encoding"),
        (b"name,age\nb,1\n", "source.too_small"),
    ],
)
def test_a_broken_csv_is_a_finding_and_held(tmp_path, content, finding):
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    assessment = assess(source_of(path), SUITE, now=NOW)
    assert finding in assessment.findings
    assert assessment.score.verdict == "held"
    assert statuses(assessment)["R-1"] == "not_assessed"


def test_a_missing_file_is_a_finding(tmp_path):
    assessment = assess(Source(tmp_path / "none.csv", "csv"), SUITE, now=NOW)
    assert (assessment.findings, assessment.score.verdict) == (("source.missing",), "held")


def test_a_file_that_is_not_parquet_is_a_finding(tmp_path):
    assessment = assess(written(tmp_path, "not parquet", "table.parquet"), SUITE, now=NOW)
    assert assessment.findings == ("source.unreadable",)


def test_rows_with_too_many_fields_are_counted_and_held(tmp_path):
    assessment = assess(written(tmp_path, rows_of(20) + "a,1,2\nb\n"), SUITE, now=NOW)
    assert assessment.findings == ("source.malformed_rows",)
    assert (counts(assessment)["T-FORM"], statuses(assessment)["T-FORM"]) == (2, "fail")
    assert assessment.score.verdict == "held"


def test_a_missing_column_is_a_finding_and_its_rules_are_not_assessed(tmp_path):
    assessment = assess(written(tmp_path, rows_of(20).replace("age", "years", 1)), SUITE, now=NOW)
    assert assessment.findings == ("columns.missing", "columns.extra")
    assert statuses(assessment)["R-2"] == "not_assessed"
    assert assessment.score.verdict == "held"


def test_cells_of_another_type_are_counted_not_lost(tmp_path):
    assessment = assess(written(tmp_path, rows_of(100, bad=6)), SUITE, now=NOW)
    assert (counts(assessment)["T-TYPE-01"], statuses(assessment)["T-TYPE-01"]) == (6, "fail")


def test_a_fraction_is_not_an_integer(tmp_path):
    assessment = assess(written(tmp_path, "name,age\n" + "a,1.0\n" * 15 + "b,1.5\n" * 5), SUITE, now=NOW)
    assert counts(assessment)["T-TYPE-01"] == 5


def test_gb18030_is_recognised(tmp_path):
    assessment = assess(written(tmp_path, rows_of(20), encoding="gb18030"), SUITE, now=NOW)
    assert (assessment.encoding, assessment.score.verdict) == ("gb18030", "pass")


def test_a_byte_order_mark_is_not_part_of_the_first_name(tmp_path):
    assessment = assess(written(tmp_path, "\ufeff" + rows_of(20)), SUITE, now=NOW)
    assert assessment.findings == ()


def test_a_name_with_pattern_characters_reads_only_that_file(tmp_path):
    assessment = assess(written(tmp_path, rows_of(20), "ta*b[l]e'.csv"), SUITE, now=NOW)
    assert (assessment.rows, assessment.score.verdict) == (20, "pass")


def test_a_rule_that_the_library_does_not_know_is_an_error_not_a_pass(tmp_path):
    rule = Rule("R-9", "expect_the_impossible", {"column": "name"}, "0201", "critical", "不可能", "Impossible")
    suite = Suite("res.test", "1.0.0", SUITE.columns, (rule,))
    assessment = assess(written(tmp_path, rows_of(20)), suite, now=NOW)
    assert statuses(assessment)["R-9"] == "error"
    assert assessment.score.verdict == "held"
    report = report_json(assessment)
    assert next(item["reason"] for item in report["rules"] if item["id"] == "R-9") == "unknown_rule"
    assert "请核对规则集" in html(report, lang="zh")
    assert "check the suite" in html(report, lang="en")


@pytest.mark.parametrize(("days_ago", "status"), [(29, "pass"), (30, "pass"), (31, "fail")])
def test_a_table_is_stale_after_the_promised_days(tmp_path, days_ago, status):
    today = date(2026, 3, 2)
    path = tmp_path / "persons.csv"
    write_person_register(path, 200, seed=1, as_of=today - timedelta(days=days_ago))
    assessment = assess(source_of(path), kit_suite("persons"), now=NOW)
    assert statuses(assessment)["R-TIME"] == status


def test_a_date_in_the_future_does_not_hide_that_a_table_is_stale(tmp_path):
    rule = Rule(
        "R-T", "expect_column_max_to_be_within_days", {"column": "d", "days": 30}, "0502", "critical", "新", "Fresh"
    )
    suite = Suite("res.test", "1.0.0", {"d": "date"}, (rule,))
    source = written(tmp_path, "d\n" + "2025-01-01\n" * 20 + "2062-01-01\n")
    assessment = assess(source, suite, now=NOW)
    assert statuses(assessment)["R-T"] == "fail"
    assert next(item for item in assessment.rules if item.rule.id == "R-T").lag_days == 425


def test_a_late_delivery_or_one_from_the_future_fails_its_promise(tmp_path):
    rule = Rule("R-D", "expect_table_delivery_to_be_within_days", {"days": 30}, "0502", "critical", "交付", "Delivered")
    suite = Suite("res.test", "1.0.0", SUITE.columns, (rule,))
    source = written(tmp_path, rows_of(20))
    for days, status in ((30, "pass"), (31, "fail"), (-1, "pass"), (-2, "fail")):
        moment = (NOW - timedelta(days=days)).timestamp()
        os.utime(source.path, (moment, moment))
        assert statuses(assess(source, suite, now=NOW))["R-D"] == status


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_every_planted_error_of_a_person_register_is_found_and_nothing_else(tmp_path, suffix):
    path = tmp_path / f"persons.{suffix}"
    planted = write_person_register(path, 4_000, seed=5, as_of=date(2026, 3, 1))
    found = counts(assess(source_of(path), kit_suite("persons"), now=NOW))
    errors = {kind: len(rows) for kind, rows in planted.errors.items()}
    assert set(errors) == set(PERSON_ERRORS)
    assert found["R-ID-1"] == errors["id_check_character"]
    assert found["R-ID-3"] == errors["birth_date_differs"]
    assert found["R-ID-4"] == errors["sex_differs"]
    assert found["R-MOB"] == errors["mobile_missing"]
    assert found["R-MOB-1"] == errors["mobile_format"]
    assert found["R-NAME"] == errors["name_missing"]
    assert found["R-REGION"] == errors["division_differs"]
    assert found["R-KEY-1"] == 2 * errors["record_no_repeated"]
    assert found["R-ORDER"] == errors["updated_before_registered"]
    quiet = {"R-ROWS", "R-KEY", "R-ID", "R-ID-2", "R-NAME-1", "R-SEX", "R-BIRTH", "R-DIV", "R-STATUS", "R-TIME"}
    assert {rule: found[rule] for rule in quiet} == dict.fromkeys(quiet, 0)


def test_every_planted_error_of_an_enterprise_register_is_found(tmp_path):
    path = tmp_path / "enterprises.csv"
    planted = write_enterprise_register(path, 4_000, seed=5, as_of=date(2026, 3, 1), encoding="gb18030")
    found = counts(assess(source_of(path), kit_suite("enterprises"), now=NOW))
    errors = {kind: len(rows) for kind, rows in planted.errors.items()}
    assert set(errors) == set(ENTERPRISE_ERRORS)
    assert found["R-CODE-1"] == errors["uscc_format"]
    assert found["R-CODE-2"] == errors["uscc_check_character"] + errors["uscc_format"]
    assert found["R-CAP"] == errors["capital_negative"]
    assert found["R-ORDER"] == errors["updated_before_established"]
    assert found["R-REGION"] == errors["division_differs"]


def test_a_naive_time_is_a_programming_error(tmp_path):
    with pytest.raises(ValueError, match="aware"):
        assess(written(tmp_path, rows_of(20)), SUITE, now=datetime(2026, 3, 2))
