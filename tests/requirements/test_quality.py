"""Acceptance of the quality evaluation by period: from signed reports, with the trend; what was not checked has no score."""

import copy

import pytest

from factory import cli
from nodes.contract import canonical
from nodes.contract.signing import sign
from nodes.quality_gate import REPORT_TYPE
from tests.node_world import World
from tests.town import run
from tests.unit.quality.test_portfolio import report
from tests.unit.reports.test_report_cli import Noon

PLAN = """
[[periods]]
name = "5月上"
from = 2026-05-03
to = 2026-05-15
[[periods]]
name = "5月下"
from = 2026-05-16
to = 2026-05-31
[[resources]]
id = "res.east.persons"
department = "org.east"
[[resources]]
id = "res.east.silent"
department = "org.east"
"""
SIX = {"conformity", "completeness", "accuracy", "consistency", "timeliness", "accessibility"}


@pytest.fixture
def office(tmp_path, monkeypatch):
    from factory import report_cli

    world = World(tmp_path / "node")
    for name, data in {"root.json": world.agency.root, **world.publish()}.items():
        (tmp_path / "trust" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "trust" / name).write_bytes(data)
    (tmp_path / "signed").mkdir()
    monkeypatch.setattr(report_cli, "datetime", Noon)
    yield world, tmp_path
    world.books.close()


def evaluated(folder, plan=PLAN):
    (folder / "plan.toml").write_text(plan, "utf-8")
    words = ("--trust", folder / "trust", "--out", folder / "out", "--json")
    return run(cli.app, "report", "periods", folder / "plan.toml", folder / "signed", *words)


def delivered(world, folder, name, at, total, made):
    """Sign the report of a node with another day and total."""
    value = copy.deepcopy(made)
    value["assessed_at"], value["score"]["total_x100"] = at, total
    envelope = sign(world.keys.statement, REPORT_TYPE, canonical.dumps(value))
    (folder / "signed" / f"{name}.dsse.json").write_bytes(envelope.to_bytes())
    return envelope


@pytest.mark.requirement("Q-EVAL")
def test_each_resource_has_score_dimensions_and_trend_and_one_without_a_check_has_none(office):
    world, folder = office
    made, _ = report(folder)
    delivered(world, folder, "a", "2026-05-10T08:00:00Z", 9_000, made)
    delivered(world, folder, "b", "2026-05-15T15:59:59Z", 9_400, made)  # the last second of the first period in China
    delivered(world, folder, "c", "2026-05-15T16:00:00Z", 9_500, made)  # the second period
    found = evaluated(folder).ok()
    rows = {row["id"]: row["periods"] for row in found["resources"]}
    first, second = rows["res.east.persons"]
    assert (first["score_x100"], first["change_x100"], len(first["evidence"])) == (9_200, None, 2)
    assert (second["score_x100"], second["change_x100"], len(second["evidence"])) == (9_500, 300, 1)
    given = {row["name"]: row["score_x100"] for row in made["dimensions"]}
    assert set(first["dimensions"]) == SIX
    assert first["dimensions"] == given
    for silent in rows["res.east.silent"]:
        assert (silent["state"], silent["score_x100"], silent["change_x100"]) == ("not_evaluated", None, None)
        assert set(silent["dimensions"].values()) == {None}
    [department] = found["departments"]
    told = [
        (row["score_x100"], row["change_x100"], row["evaluated"], row["resources"]) for row in department["periods"]
    ]
    assert told == [(9_200, None, 1, 2), (9_500, 300, 1, 2)]  # the unchecked one counts neither as 0 nor as 100
    page = (folder / "out" / "periods.zh.html").read_text("utf-8")
    assert page.count("未评价</span>") == 2
    assert "监测评价方法" in page
    assert "GB/T 36344-2018" in page
    assert [row["name"] for row in found["method"]["dimensions"] if row["weight"]] == [
        row["name"] for row in found["method"]["dimensions"]
    ]


@pytest.mark.requirement("Q-EVAL")
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("to = 2026-05-15", "to = 2026-05-16"),  # periods that overlap
        ("from = 2026-05-16", "from = 2026-06-01"),  # ends before it begins
        ('"res.east.silent"', '"res.east.persons"'),  # twice
        ('name = "5月下"\n', ""),
        ("from = 2026-05-03", 'from = "2026-05-03"'),
    ],
)
def test_a_plan_that_does_not_say_it_and_a_report_that_nobody_signed_are_refused(office, old, new):
    world, folder = office
    made, _ = report(folder)
    envelope = delivered(world, folder, "a", "2026-05-10T08:00:00Z", 9_000, made)
    assert old in PLAN
    assert evaluated(folder, PLAN.replace(old, new)).error.code == "report.pages"
    assert not (folder / "out").exists()
    payload = canonical.dumps({**made, "score": {**made["score"], "total_x100": 10_000}})
    forged = sign(world.people["operator"].key, REPORT_TYPE, payload).to_bytes()
    assert forged != envelope.to_bytes()
    (folder / "signed" / "a.dsse.json").write_bytes(forged)
    assert evaluated(folder).error.code == "report.unsigned"
    assert not (folder / "out").exists()
