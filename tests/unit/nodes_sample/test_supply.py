"""What ``shufang-node sample`` writes: what is listed is what a quality run finds, and everything can be bound."""

import json
from datetime import UTC, date, datetime

import pytest

from nodes.catalogue_entries import read_entry
from nodes.sample.errors import SampleError
from nodes.sample.supply import write_supply
from quality.run import assess
from quality.sources import source_of
from quality.suite import load

AS_OF = date(2026, 3, 1)
NOW = datetime(2026, 3, 2, tzinfo=UTC)


def supply(folder, rows=20_000, **options):
    return write_supply(folder, rows, owner="org.east", key="east", seed=3, as_of=AS_OF, **options)


@pytest.mark.parametrize(
    ("rows", "options"),
    [
        (999, {}),
        (1_000, {"form": "xlsx"}),
        (1_000, {"encoding": "latin-1"}),
        (1_000, {"form": "parquet", "encoding": "gb18030"}),
    ],
)
def test_what_cannot_be_written_is_refused_and_nothing_is_there(tmp_path, rows, options):
    with pytest.raises(SampleError):
        supply(tmp_path / "s", rows, **options)
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("options", [{}, {"encoding": "gb18030"}, {"form": "parquet"}], ids=str)
def test_a_run_finds_every_listed_error_and_no_other(tmp_path, options):
    firms, people = supply(tmp_path, **options)
    references = {firms.resource: source_of(firms.table, encoding=options.get("encoding", "auto"))}
    found = assess(source_of(people.table), load(people.suite), now=NOW, references=references)
    failing = {item.rule.id: item.failing for item in found.rules if not item.aggregate and item.failing}
    expected = {
        "R-KEY-1": 2 * people.errors["record_no_repeated"],
        "R-NAME": people.errors["name_missing"],
        "R-ID-1": people.errors["id_check_character"],
        "R-ID-3": people.errors["birth_date_differs"],
        "R-ID-4": people.errors["sex_differs"],
        "R-MOB": people.errors["mobile_missing"],
        "R-MOB-1": people.errors["mobile_format"],
        "R-REGION": people.errors["division_differs"],
        "R-ORDER": people.errors["updated_before_registered"],
        "R-EMP-1": people.errors["employer_unknown"],
        "R-INC": people.errors["income_negative"],
        "R-MAIL": people.errors["email_format"],
    }
    assert failing == expected
    assert found.score.verdict == "pass"
    listed = json.loads((tmp_path / "planted.json").read_text("utf-8"))
    assert {kind: len(rows) for kind, rows in listed[people.resource]["errors"].items()} == dict(people.errors)


def test_broken_keys_hold_the_resource(tmp_path):
    _, people = supply(tmp_path, 2_000, faulty=True)
    found = assess(source_of(people.table), load(people.suite), now=NOW)
    assert "R-ID-1" in {hold.about for hold in found.score.holds}


def test_the_entries_name_their_tables(tmp_path):
    for item in supply(tmp_path, 1_000):
        entry = read_entry(item.entry)
        assert (entry.id, entry.owner, entry.storage.path) == (item.resource, "org.east", str(item.table))
        assert tuple(load(item.suite).columns) == entry.column_names
