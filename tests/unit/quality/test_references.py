"""Rules between two tables of a node, on linked registers with listed dangling references."""

from datetime import UTC, date, datetime

import pytest

from nodes.sample.registers import write_linked_registers
from quality.run import REFERENCE, assess
from quality.sources import source_of
from quality.suite import Rule, Suite

NOW = datetime(2026, 3, 2, 4, tzinfo=UTC)
FIRMS = "res.north.enterprises"


def suite(**changes):
    kwargs = {"column": "employer", "resource": FIRMS, "other_column": "uscc", "mostly": 0.99, **changes}
    return Suite(
        "s", "1.0.0", {"employer": "text"}, (Rule("R-REF", REFERENCE, kwargs, "0402", "major", "引用", "Ref"),)
    )


@pytest.fixture
def registers(tmp_path):
    planted = write_linked_registers(tmp_path, 2_000, 200, seed=4, as_of=date(2026, 3, 1))
    return tmp_path, planted["persons"].errors["employer_unknown"]


def result(folder, rules, references):
    return assess(source_of(folder / "persons.csv"), rules, now=NOW, references=references).rules[-1]


def test_every_dangling_reference_is_counted_and_no_other(registers):
    folder, dangling = registers
    found = result(folder, suite(), {FIRMS: source_of(folder / "enterprises.csv")})
    assert (found.status, found.rows, found.failing) == ("pass", 2_000, len(dangling))
    assert len(dangling) == 6
    strict = result(folder, suite(mostly=1), {FIRMS: source_of(folder / "enterprises.csv")})
    assert strict.status == "fail"


def test_another_table_that_is_missing_or_has_no_such_column_is_not_assessed_and_says_so(registers):
    folder, _ = registers
    other = {FIRMS: source_of(folder / "enterprises.csv")}
    for rules, references in (
        (suite(), {}),
        (suite(), {FIRMS: source_of(folder / "none.csv")}),
        (suite(other_column="nowhere"), other),
    ):
        found = result(folder, rules, references)
        assert (found.status, found.reason) == ("not_assessed", "reference")
