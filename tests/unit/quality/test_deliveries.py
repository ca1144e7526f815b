"""Deliveries of one resource compared: drift, growth, and that two reports do not tell a difference of few rows."""

import json
import math
import random
import stat
from datetime import UTC, datetime, timedelta

import pytest

from quality import kept
from quality.cli import main
from quality.drift import DRIFT, GROWTH, psi
from quality.errors import SuiteError
from quality.projection import report_json
from quality.run import assess
from quality.sources import source_of
from quality.suite import Rule, Suite, document, parse

NOW = datetime(2026, 3, 2, 4, tzinfo=UTC)
TYPES = {"id": "text", "amount": "number", "day": "date", "kind": "text"}


def drift(column, *, most=0.25, name="R-PSI"):
    return Rule(name, DRIFT, {"column": column, "max_psi": most}, "0501", "major", "分布稳定", "Stable")


def suite(*rules):
    return Suite("res.t", "1.0.0", TYPES, rules)


def write(path, rows):
    path.write_text("id,amount,day,kind\n" + "\n".join(map(",".join, rows)) + "\n", encoding="utf-8")
    return path


def rows_of(count, *, shift=0.0, kinds=("甲", "乙", "乙"), seed=1):
    rng = random.Random(seed)
    return [
        (f"x{i}", f"{rng.gauss(100 + shift, 15):.2f}", f"2026-02-{rng.randrange(1, 29):02d}", rng.choice(kinds))
        for i in range(count)
    ]


def deliver(tmp_path, rules, *deliveries):
    """Assess one delivery after another, each a day later, and return the last assessment."""
    before, found = None, None
    for number, rows in enumerate(deliveries):
        path = write(tmp_path / f"t{number}.csv", rows)
        source = source_of(path, delivered_at=NOW - timedelta(days=9 - number))
        found = assess(source, rules, now=NOW, kept=before)
        before = found.kept
    return found


def by_id(found, name):
    return next(result for result in found.rules if result.rule.id == name)


def test_the_index_is_the_one_of_the_literature():
    assert psi([10, 20, 70], [10, 20, 70]) == 0
    expected = (0.5 - 0.25) * math.log(2) + (0.5 - 0.75) * math.log(0.5 / 0.75)
    assert psi([250, 750], [500, 500]) == pytest.approx(expected)


@pytest.mark.parametrize("wrong", [([1], [1, 2]), ([0, 0], [1, 2]), ([1, 2], [0, 0])])
def test_the_index_of_nothing_or_of_other_parts_is_a_programming_error(wrong):
    with pytest.raises(ValueError, match="parts"):
        psi(*wrong)


@pytest.mark.parametrize("column", ["amount", "day", "kind"])
def test_a_delivery_that_is_the_first_is_not_assessed_for_drift_and_an_equal_one_has_none(tmp_path, column):
    first = deliver(tmp_path, suite(drift(column)), rows_of(1_000))
    assert (by_id(first, "R-PSI").status, by_id(first, "R-PSI").reason) == ("not_assessed", "first_delivery")
    second = deliver(tmp_path, suite(drift(column)), rows_of(1_000), rows_of(1_000, seed=2))
    result = by_id(second, "R-PSI")
    assert result.status == "pass"
    assert result.psi < 0.06


@pytest.mark.parametrize(
    ("column", "later"),
    [
        ("amount", rows_of(1_000, shift=15, seed=2)),
        ("kind", rows_of(1_000, kinds=("甲", "甲", "甲", "乙"), seed=2)),
        ("kind", [(a, b, c, "" if i % 3 else d) for i, (a, b, c, d) in enumerate(rows_of(1_000, seed=2))]),
        ("day", [(a, b, c.replace("2026-02", "2026-01"), d) for a, b, c, d in rows_of(1_000)]),
    ],
)
def test_a_distribution_that_moved_fails_and_the_report_says_by_how_much(tmp_path, column, later):
    found = deliver(tmp_path, suite(drift(column)), rows_of(1_000), later)
    result = by_id(found, "R-PSI")
    assert result.status == "fail"
    rule = next(item for item in report_json(found)["rules"] if item["id"] == "R-PSI")
    assert rule["psi_x100"] == round(result.psi * 100) > 25
    assert rule["psi_max_x100"] == 25


def test_a_second_run_of_the_same_delivery_is_compared_with_the_one_before_it_again(tmp_path):
    rules = suite(drift("amount"))
    first = assess(source_of(write(tmp_path / "a.csv", rows_of(1_000)), delivered_at=NOW), rules, now=NOW)
    moved = source_of(write(tmp_path / "b.csv", rows_of(1_000, shift=30)), delivered_at=NOW + timedelta(hours=1))
    second = assess(moved, rules, now=NOW, kept=first.kept)
    third = assess(moved, rules, now=NOW, kept=second.kept)
    assert [by_id(item, "R-PSI").status for item in (second, third)] == ["fail", "fail"]


@pytest.mark.parametrize("name", ["v", "n", "b", "d", "cell", "times", "count", 'a"b'])
def test_no_name_of_a_column_is_mistaken_for_one_of_ours(tmp_path, name):
    rules = Suite("s", "1.0.0", {name: "text"}, (drift(name),))
    before, found = None, None
    for number, share in enumerate((2, 5)):
        path = tmp_path / f"{number}.csv"
        header = '"' + name.replace('"', '""') + '"'
        path.write_text(header + "\n" + "\n".join("xy"[i % share > 0] for i in range(400)) + "\n", encoding="utf-8")
        found = assess(source_of(path, delivered_at=NOW + timedelta(days=number)), rules, now=NOW, kept=before)
        before = found.kept
    assert by_id(found, "R-PSI").status == "fail"
    assert by_id(found, "R-PSI").psi == round(psi([200, 200, 0, 0], [80, 320, 0, 0]), 2)


def test_few_cells_give_no_index(tmp_path):
    found = deliver(tmp_path, suite(drift("amount")), rows_of(150), rows_of(150))
    assert by_id(found, "R-PSI").reason == "too_few_rows"


@pytest.mark.parametrize(("rows", "status"), [(80, "pass"), (79, "fail"), (120, "pass"), (121, "fail")])
def test_a_table_that_shrank_or_grew_too_much_fails(tmp_path, rows, status):
    rule = Rule("R-GROW", GROWTH, {"percent": 20}, "0202", "major", "记录数稳定", "Stable size")
    assert by_id(deliver(tmp_path, suite(rule), rows_of(100), rows_of(rows)), "R-GROW").status == status


@pytest.mark.parametrize("kwargs", [{"column": "amount"}, {"column": "amount", "max_psi": "0.2"}, {"max_psi": 0.2}])
def test_a_drift_rule_without_its_limit_or_column_is_refused(kwargs):
    rule = Rule("R-PSI", DRIFT, kwargs, "0501", "major", "分布", "Drift")
    with pytest.raises(SuiteError, match="R-PSI"):
        parse(document(suite(rule)))


# Differencing: whoever knows which row is new subtracts one report from the other.

FILLED = Rule(
    "R-NULL",
    "expect_column_values_to_not_be_null",
    {"column": "kind", "mostly": 0.5},
    "0201",
    "minor",
    "已填",
    "Filled",
)
UNIQUE = Rule(
    "R-KEY", "expect_column_values_to_be_unique", {"column": "id", "mostly": 0.5}, "0304", "minor", "唯一", "Key"
)


def figures(found):
    """Return everything of a report that is counted."""
    report = report_json(found)
    rules = [{key: rule[key] for key in rule if not key.startswith("previous")} for rule in report["rules"]]
    return json.dumps(
        [report["table"], report["dimensions"], report["indicators"], rules, report["score"]["total_x100"]]
    )


def with_empty(count, empty):
    return [(a, b, c, "" if i < empty else d) for i, (a, b, c, d) in enumerate(rows_of(count))]


@pytest.mark.parametrize("empty", range(5, 26))
def test_one_row_more_changes_no_figure_whether_it_fails_or_not(tmp_path, empty):
    rules = suite(FILLED, UNIQUE)
    base = with_empty(200, empty)
    was = figures(deliver(tmp_path, rules, base))
    failing = deliver(tmp_path, rules, base, [*base, ("new", "1.00", "2026-02-01", "")])
    passing = deliver(tmp_path, rules, base, [*base, ("new", "1.00", "2026-02-01", "甲")])
    assert was == figures(failing) == figures(passing)


def test_without_what_is_kept_one_row_can_be_told_from_two_reports(tmp_path):
    """The attack works on rounding alone, so the test above can fail."""
    told = 0
    for empty in range(5, 26):
        one, two = (
            assess(source_of(write(tmp_path / "t.csv", with_empty(200, n)), delivered_at=NOW), suite(FILLED), now=NOW)
            for n in (empty, empty + 1)
        )
        told += figures(one) != figures(two)
    assert told >= 4


def test_rows_that_come_one_by_one_show_only_when_five_have_come(tmp_path):
    base = with_empty(200, 20)
    later = [[*base, *[(f"n{i}", "1.00", "2026-02-01", "") for i in range(n)]] for n in range(1, 13)]
    seen, before = [], None
    for number, rows in enumerate([base, *later]):
        source = source_of(write(tmp_path / "t.csv", rows), delivered_at=NOW + timedelta(days=number))
        found = assess(source, suite(FILLED), now=NOW, kept=before)
        before = found.kept
        seen.append(by_id(found, "R-NULL").published.failing)
    assert seen == [20] * 5 + [25] * 5 + [30] * 3


@pytest.mark.parametrize("target", ["", "甲"])
def test_the_moment_at_which_a_figure_moves_tells_nothing_of_the_row_that_came_then(tmp_path, target):
    """Four rows that fail have come and are known; the fifth is the one that somebody wants to know of."""
    base = with_empty(200, 20)
    four = [*base, *[(f"n{i}", "1.00", "2026-02-01", "") for i in range(4)]]
    five = [*four, ("n4", "1.00", "2026-02-01", target)]
    assert by_id(deliver(tmp_path, suite(FILLED), base, four), "R-NULL").published.failing == 20
    assert by_id(deliver(tmp_path, suite(FILLED), base, four, five), "R-NULL").published.failing == 25


@pytest.mark.parametrize("changed", range(1, 6))
def test_rows_that_are_altered_in_place_are_counted_too(tmp_path, changed):
    base = with_empty(200, 22)
    later = [(a, b, c, "" if 100 <= i < 100 + changed else d) for i, (a, b, c, d) in enumerate(base)]
    found = deliver(tmp_path, suite(FILLED), base, later)
    assert by_id(found, "R-NULL").published.failing == (25 if changed == 5 else 20)
    other = [(a, "7.77" if 100 <= i < 100 + changed else b, c, d) for i, (a, b, c, d) in enumerate(base)]
    kept_buckets = deliver(tmp_path, suite(FILLED), base, other).kept.buckets
    assert (kept_buckets == deliver(tmp_path, suite(FILLED), base).kept.buckets) is (changed < 5)


def test_a_rule_that_fails_now_and_passed_then_says_how_often(tmp_path):
    strict = Rule("R-NULL", FILLED.type, {"column": "kind"}, "0201", "major", "已填", "Filled")
    found = deliver(tmp_path, suite(strict), with_empty(200, 0), with_empty(200, 8))
    assert (by_id(found, "R-NULL").status, by_id(found, "R-NULL").published.failing) == ("fail", 10)
    few = by_id(deliver(tmp_path, suite(strict), with_empty(200, 0), with_empty(200, 3)), "R-NULL")
    assert (few.status, few.published.small) == ("fail", True)


def test_another_rule_under_the_same_id_starts_anew(tmp_path):
    other = Rule("R-NULL", FILLED.type, {"column": "id", "mostly": 0.5}, "0201", "minor", "已填", "Filled")
    first = assess(source_of(write(tmp_path / "a.csv", with_empty(200, 8)), delivered_at=NOW), suite(FILLED), now=NOW)
    second = assess(source_of(tmp_path / "a.csv", delivered_at=NOW), suite(other), now=NOW, kept=first.kept)
    assert by_id(second, "R-NULL").published.failing == 0


def test_what_is_kept_is_private_holds_no_text_of_a_row_and_survives_the_file(tmp_path):
    rows = [(a, b, c, f"canary-{i % 3}") for i, (a, b, c, _) in enumerate(rows_of(400))]
    table = write(tmp_path / "t.csv", rows)
    (tmp_path / "suite.json").write_text(json.dumps(document(suite(drift("kind"), drift("amount", name="R-2")))))
    out = tmp_path / "out"
    arguments = ["assess", "--table", str(table), "--suite", str(tmp_path / "suite.json"), "--out", str(out), "--json"]
    for _ in range(2):
        main(arguments)
    path = out / "kept.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "canary" not in path.read_text("utf-8")
    found = kept.load(path)
    assert found is not None
    assert kept.dumps(found) == path.read_bytes()
    assert sum(found.last.shapes["kind"].counts) == 400


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 2}', '{"version": 1, "rows": "x", "shown": {}}'])
def test_a_broken_kept_file_is_as_none(tmp_path, text):
    (tmp_path / "kept.json").write_text(text)
    assert kept.load(tmp_path / "kept.json") is None
