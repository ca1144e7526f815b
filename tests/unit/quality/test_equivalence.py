"""The fast path and Great Expectations on pandas agree, expectation by expectation, also on empty cells."""

from datetime import UTC, date, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from quality import expectations
from quality.plan import PLANNED_TYPES, plan
from quality.run import assess
from quality.sources import source_of
from quality.suite import Rule, Suite

NOW = datetime(2026, 3, 2, tzinfo=UTC)
TYPES = {"key": "text", "id_no": "text", "born": "date", "sex": "text", "uscc": "text", "mobile": "text"}
TYPES |= {"division": "text", "n": "integer", "m": "integer", "x": "number", "y": "number", "d": "date", "e": "date"}
TYPES |= {"empty": "text"}
INDICATOR = {"expect_compound_columns_to_be_unique": "0304"}


def table():
    rng = np.random.default_rng(11)
    size = 400

    def holes(values, share=0.1):
        return [None if rng.random() < share else value for value in values]

    def days(values):
        return pa.array(holes([date.fromordinal(int(v)) for v in values]), type=pa.date32())

    ids = ["11010519491231002X", "440524188001010014", "11010519491231002x", "bad\n", "x" * 18, "乙" * 6]
    born = [date(1949, 12, 31).toordinal(), date(1880, 1, 1).toordinal(), date(2000, 2, 29).toordinal()]
    columns = {
        "key": pa.array(holes([f"k{v}" for v in rng.integers(0, 300, size)])),
        "id_no": pa.array(holes(list(rng.choice(ids, size)))),
        "born": days(rng.choice(born, size)),
        "sex": pa.array(holes(list(rng.choice(["男", "女", "?"], size)))),
        "uscc": pa.array(holes(list(rng.choice(["91110108MA009HJB3M", "91110108MA009HJB3N", "", "９"], size)))),
        "mobile": pa.array(holes(list(rng.choice(["13900000001", "23900000001", "13900000001\n", "139 "], size)))),
        "division": pa.array(holes(list(rng.choice(["110101", "530191", "11010", "110103", "110118"], size)))),
        "n": pa.array(holes([int(v) for v in rng.integers(-5, 6, size)]), type=pa.int64()),
        "m": pa.array(holes([int(v) for v in rng.integers(-5, 6, size)]), type=pa.int64()),
        "x": pa.array(holes([float(v) for v in rng.normal(size=size).round(3)])),
        "y": pa.array(holes([float(v) for v in rng.normal(size=size).round(3)])),
        "d": days(rng.integers(730_000, 730_400, size)),
        "e": days(rng.integers(730_000, 730_400, size)),
        "empty": pa.array([None] * size, type=pa.string()),
    }
    return pa.table(columns)


CASES = [
    ("expect_column_values_to_not_be_null", {"column": "key", "mostly": 0.9}),
    ("expect_column_values_to_be_null", {"column": "key", "mostly": 0.05}),
    ("expect_column_values_to_be_unique", {"column": "key", "mostly": 0.2}),
    ("expect_column_values_to_be_unique", {"column": "d"}),
    ("expect_compound_columns_to_be_unique", {"column_list": ["sex", "n", "division"]}),
    ("expect_column_value_lengths_to_be_between", {"column": "id_no", "min_value": 5, "max_value": 18}),
    ("expect_column_value_lengths_to_be_between", {"column": "id_no", "max_value": 18, "strict_max": True}),
    ("expect_column_value_lengths_to_equal", {"column": "mobile", "value": 11}),
    ("expect_column_values_to_match_regex", {"column": "mobile", "regex": "^1[3-9][0-9]{9}$"}),
    ("expect_column_values_to_match_regex", {"column": "id_no", "regex": "乙|x$"}),
    ("expect_column_values_to_not_match_regex", {"column": "id_no", "regex": "^bad$"}),
    ("expect_column_values_to_be_in_set", {"column": "sex", "value_set": ["男", "女"], "mostly": 0.5}),
    ("expect_column_values_to_be_in_set", {"column": "n", "value_set": [1, 2, 3]}),
    ("expect_column_values_to_not_be_in_set", {"column": "sex", "value_set": ["?"]}),
    ("expect_column_values_to_be_between", {"column": "n", "min_value": -3, "max_value": 3, "strict_max": True}),
    ("expect_column_values_to_be_between", {"column": "x", "min_value": -1.5, "strict_min": True}),
    ("expect_column_values_to_be_between", {"column": "d", "min_value": "1999-11-01", "max_value": "2000-01-31"}),
    ("expect_column_values_to_be_valid_resident_ids", {"column": "id_no", "mostly": 0.3}),
    ("expect_column_values_to_be_valid_usccs", {"column": "uscc"}),
    ("expect_column_values_to_be_mobile_numbers", {"column": "mobile"}),
    ("expect_column_values_to_be_division_codes", {"column": "division"}),
    ("expect_column_pair_values_a_to_be_greater_than_b", {"column_A": "n", "column_B": "m"}),
    (
        "expect_column_pair_values_a_to_be_greater_than_b",
        {"column_A": "d", "column_B": "e", "or_equal": True, "ignore_row_if": "either_value_is_missing"},
    ),
    (
        "expect_column_pair_values_to_be_equal",
        {"column_A": "n", "column_B": "m", "ignore_row_if": "either_value_is_missing"},
    ),
    (
        "expect_column_pair_values_to_be_in_set",
        {
            "column_A": "sex",
            "column_B": "division",
            "value_pairs_set": [["男", "110101"], ["女", "530191"]],
            "ignore_row_if": "either_value_is_missing",
        },
    ),
    ("expect_resident_id_regions_to_have_existed", {"column": "id_no", "mostly": 0.3}),
    ("expect_division_codes_to_be_in_force_on_dates", {"column_A": "division", "column_B": "d"}),
    ("expect_birth_dates_to_match_resident_ids", {"column_A": "id_no", "column_B": "born"}),
    ("expect_sexes_to_match_resident_ids", {"column_A": "id_no", "column_B": "sex"}),
    ("expect_column_mean_to_be_between", {"column": "x", "min_value": -0.2, "max_value": 0.2}),
    ("expect_column_sum_to_be_between", {"column": "n", "min_value": 1_000}),
    ("expect_column_stdev_to_be_between", {"column": "x", "min_value": 0.5, "max_value": 2}),
    ("expect_column_median_to_be_between", {"column": "y", "min_value": 5}),
    ("expect_column_min_to_be_between", {"column": "n", "min_value": -5}),
    ("expect_column_min_to_be_between", {"column": "d", "min_value": "2010-01-01"}),
    ("expect_column_max_to_be_between", {"column": "d", "min_value": "1999-01-01"}),
    ("expect_column_unique_value_count_to_be_between", {"column": "sex", "min_value": 3, "max_value": 3}),
    ("expect_column_proportion_of_unique_values_to_be_between", {"column": "key", "min_value": 0.9}),
    (
        "expect_column_proportion_of_non_null_values_to_be_between",
        {"column": "key", "min_value": 0.8, "max_value": 0.95},
    ),
    ("expect_table_row_count_to_be_between", {"min_value": 400, "max_value": 400}),
    ("expect_table_row_count_to_equal", {"value": 399}),
]


def rule_of(index, kind, kwargs):
    nulls = "equal" if "compound" in kind else "skip"
    return Rule(f"R-{index:02d}", kind, kwargs, "0101", "minor", "规则", "Rule", nulls)


RULES = [rule_of(index, kind, kwargs) for index, (kind, kwargs) in enumerate(CASES)]


@pytest.fixture(scope="module")
def fast(tmp_path_factory):
    path = tmp_path_factory.mktemp("quality") / "table.parquet"
    pq.write_table(table(), path)
    assessment = assess(source_of(path), Suite("s", "1.0.0", TYPES, tuple(RULES)), now=NOW)
    return {result.rule.id: result for result in assessment.rules}


@pytest.fixture(scope="module")
def frame():
    return table().to_pandas(date_as_object=False)


def test_every_planned_expectation_is_compared():
    assert {kind for kind, _ in CASES} == PLANNED_TYPES
    assert [rule.id for rule in RULES if plan(rule, TYPES, frozenset()) is None] == []


@pytest.mark.parametrize("rule", RULES, ids=[f"{rule.id} {rule.type}" for rule in RULES])
def test_duckdb_and_pandas_give_the_same_verdict_and_counts(rule, fast, frame):
    slow = expectations.run_on_pandas(rule, TYPES, frame)
    quick = fast[rule.id]
    assert slow.success is not None
    assert (quick.status == "pass") is slow.success
    if not quick.aggregate:
        assert (quick.rows, quick.missing, quick.failing) == (slow.rows, slow.missing, slow.failing)


def test_empty_cells_are_equal_or_distinct_as_the_rule_says(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b\n" + "x,\n" * 5 + "".join(f"y{i},1\n" for i in range(10)), encoding="utf-8")
    rules = tuple(
        Rule(
            f"R-{nulls.upper()}",
            "expect_compound_columns_to_be_unique",
            {"column_list": ["a", "b"]},
            "0304",
            "minor",
            "键",
            "Key",
            nulls,
        )
        for nulls in ("equal", "distinct")
    )
    suite = Suite("s", "1.0.0", {"a": "text", "b": "text"}, rules)
    found = {item.rule.id: item.failing for item in assess(source_of(path), suite, now=NOW).rules}
    assert (found["R-EQUAL"], found["R-DISTINCT"]) == (5, 0)


@pytest.mark.parametrize(
    ("kind", "kwargs"),
    [
        ("expect_column_values_to_match_regex", {"column": "id_no", "regex": r"^\d{17}[\dX]$"}),
        ("expect_column_values_to_match_regex", {"column": "id_no", "regex": "^(?=1)1"}),
        (
            "expect_column_values_to_be_between",
            {"column": "n", "min_value": 0, "row_condition": "m > 0", "condition_parser": "pandas"},
        ),
        ("expect_column_values_to_be_increasing", {"column": "n"}),
        ("expect_column_values_to_match_strftime_format", {"column": "key", "strftime_format": "%Y"}),
    ],
)
def test_what_sql_does_not_know_runs_on_pandas_and_is_never_skipped(kind, kwargs, tmp_path):
    rule = rule_of(1, kind, kwargs)
    assert plan(rule, TYPES, frozenset()) is None
    path = tmp_path / "table.parquet"
    pq.write_table(table(), path)
    result = next(
        r for r in assess(source_of(path), Suite("s", "1.0.0", TYPES, (rule,)), now=NOW).rules if r.rule.id == rule.id
    )
    assert result.status in ("fail", "error")


def test_a_column_without_any_value_is_not_assessed(tmp_path):
    path = tmp_path / "table.parquet"
    pq.write_table(table(), path)
    rules = (
        rule_of(1, "expect_column_value_lengths_to_equal", {"column": "empty", "value": 3}),
        rule_of(2, "expect_column_max_to_be_between", {"column": "x", "min_value": 0}),
    )
    suite = Suite("s", "1.0.0", TYPES, rules)
    found = {item.rule.id: (item.status, item.reason) for item in assess(source_of(path), suite, now=NOW).rules}
    assert found["R-01"] == ("not_assessed", "nothing_to_check")
