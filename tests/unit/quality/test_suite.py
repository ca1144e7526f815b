"""Suites: a file that says too little, too much or the wrong thing is refused with its place."""

import copy
import json

import pytest

from quality.errors import SuiteError
from quality.suite import digest, document, load, parse

GOOD = {
    "name": "res.north.persons",
    "expectations": [
        {
            "type": "expect_column_values_to_not_be_null",
            "kwargs": {"column": "name", "mostly": 0.99},
            "meta": {
                "shufang": {
                    "id": "R-01",
                    "indicator": "0201",
                    "severity": "major",
                    "title_zh": "姓名已填写",
                    "title_en": "Name is filled in",
                }
            },
        }
    ],
    "meta": {"shufang": {"version": "1.2.0", "columns": {"name": "text"}}},
}


def changed(**ours):
    suite = copy.deepcopy(GOOD)
    suite["expectations"][0]["meta"]["shufang"].update(ours)
    return suite


@pytest.mark.parametrize(
    ("ours", "said"),
    [
        ({"id": "lower"}, "capitals"),
        ({"indicator": "0999"}, "indicator"),
        ({"severity": "fatal"}, "severity"),
        ({"dimension": "accuracy"}, "completeness"),
        ({"nulls": "equal"}, "nulls"),
        ({"title_zh": 5}, "title_zh"),
    ],
)
def test_a_rule_with_a_wrong_field_is_refused_by_name(ours, said):
    with pytest.raises(SuiteError, match=said):
        parse(changed(**ours))


def test_a_rule_that_occurs_twice_is_refused():
    suite = copy.deepcopy(GOOD)
    suite["expectations"] *= 2
    with pytest.raises(SuiteError, match="R-01"):
        parse(suite)


def test_a_rule_on_a_column_that_is_not_declared_is_refused():
    suite = copy.deepcopy(GOOD)
    suite["expectations"][0]["kwargs"]["column"] = "other"
    with pytest.raises(SuiteError, match="other"):
        parse(suite)


@pytest.mark.parametrize("mostly", [-0.1, 1.1, True, "all"])
def test_a_tolerance_outside_0_to_1_is_refused(mostly):
    suite = copy.deepcopy(GOOD)
    suite["expectations"][0]["kwargs"]["mostly"] = mostly
    with pytest.raises(SuiteError, match="mostly"):
        parse(suite)


def test_a_key_of_several_columns_must_say_what_empty_cells_mean():
    suite = changed(indicator="0304")
    suite["expectations"][0].update(type="expect_compound_columns_to_be_unique", kwargs={"column_list": ["name"]})
    with pytest.raises(SuiteError, match="equal or distinct"):
        parse(suite)
    suite["expectations"][0]["meta"]["shufang"]["nulls"] = "distinct"
    assert parse(suite).rules[0].nulls == "distinct"


def test_a_missing_or_broken_file_is_refused(tmp_path):
    with pytest.raises(SuiteError, match=r"none\.json"):
        load(tmp_path / "none.json")
    (tmp_path / "broken.json").write_text("{", encoding="utf-8")
    with pytest.raises(SuiteError, match="JSON"):
        load(tmp_path / "broken.json")


def test_a_suite_survives_writing_and_reading():
    suite = parse(GOOD)
    again = parse(json.loads(json.dumps(document(suite))))
    assert again == suite
    assert (suite.rules[0].dimension, suite.rules[0].allowed_micro) == ("completeness", 10_000)


def test_the_digest_changes_with_a_tolerance():
    other = copy.deepcopy(GOOD)
    other["expectations"][0]["kwargs"]["mostly"] = 0.98
    assert digest(GOOD) != digest(other)
    assert parse(GOOD).sha256 == digest(GOOD)
