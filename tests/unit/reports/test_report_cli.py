"""`shufang report`: pages for a supervisor from what a node exported, and from nothing that nobody signed."""

import json
import sys
from datetime import datetime

import pytest

from factory import report_cli
from factory.cli import run
from nodes.contract import canonical
from nodes.contract.signing import sign
from nodes.quality_gate import REPORT_TYPE
from nodes.sample.registers import PERSON_ERRORS_CRITICAL
from tests.node_world import NOW, World
from tests.unit.quality.test_portfolio import ORDER, report

PLAN = """
period = "2026 H1"
from = 2026-01-01
to = 2026-06-30
binding_days = 20
[weights]
bindings = 40
timeliness = 20
quality = 20
response = 20
[[resources]]
id = "res.east.persons"
department = "org.east"
included_on = 2026-03-02
"""


class Noon(datetime):
    """The clock of a supervisor on the day of the reports."""

    @classmethod
    def now(cls, tz=None):
        return NOW.astimezone(tz)


@pytest.fixture
def supervisor(tmp_path, monkeypatch):
    world = World(tmp_path / "node")
    trust, signed = tmp_path / "trust", tmp_path / "signed"
    for name, data in {"root.json": world.agency.root, **world.publish()}.items():
        (trust / name).parent.mkdir(parents=True, exist_ok=True)
        (trust / name).write_bytes(data)
    signed.mkdir()
    made, _ = report(tmp_path, errors=PERSON_ERRORS_CRITICAL, orders=[ORDER])
    made["bound_on"] = "2026-05-04"
    (signed / "r.dsse.json").write_bytes(sign(world.keys.statement, REPORT_TYPE, canonical.dumps(made)).to_bytes())
    monkeypatch.setattr(report_cli, "datetime", Noon)
    yield tmp_path, trust, signed
    world.books.close()


def shufang(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["shufang", *map(str, arguments)])
    code = run()
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_portfolio_with_a_held_resource_ends_with_1_and_has_its_four_pages(supervisor, monkeypatch, capsys):
    folder, trust, signed = supervisor
    options = ("--trust", trust, "--out", folder / "out", "--pdf")
    code, out, _ = shufang(monkeypatch, capsys, "report", "quality", signed, *options)
    assert code == 1
    assert "暂停 held 1  逾期 overdue 1" in out
    names = {path.name for path in (folder / "out").iterdir()}
    assert names == {f"portfolio.{end}" for end in ("json", "zh.html", "en.html", "zh.pdf", "en.pdf")}


def test_a_supply_evaluation_shows_the_late_binding_and_is_final_with_its_evidence(supervisor, monkeypatch, capsys):
    folder, trust, signed = supervisor
    (folder / "plan.toml").write_text(PLAN, encoding="utf-8")
    options = ("--trust", trust, "--out", folder / "out", "--final", "--pdf", "--json")
    code, out, _ = shufang(monkeypatch, capsys, "report", "supply", folder / "plan.toml", signed, *options)
    assert code == 0
    (row,) = json.loads(out)["departments"]
    assert row["parts"][0]["deductions"][0]["en"] == "due by 2026-03-30, bound on 2026-05-04"
    assert row["parts"][3]["deductions"][0]["en"] == "T-0001 due 2026-05-27, late"
    assert (folder / "out" / "supply.zh.pdf").read_bytes().startswith(b"%PDF")


def test_a_score_without_evidence_is_not_made_final_and_nothing_is_written(supervisor, monkeypatch, capsys):
    folder, trust, signed = supervisor
    (folder / "plan.toml").write_text(PLAN.replace("res.east.persons", "res.east.other"), encoding="utf-8")
    options = ("--trust", trust, "--out", folder / "out", "--final")
    code, _, err = shufang(monkeypatch, capsys, "report", "supply", folder / "plan.toml", signed, *options)
    assert code == 1
    assert "report.supply_evidence" in err
    assert "res.east.other" in err
    assert not (folder / "out").exists()


def test_a_plan_that_is_not_there_is_one_error(supervisor, monkeypatch, capsys):
    folder, trust, signed = supervisor
    code, _, err = shufang(monkeypatch, capsys, "report", "supply", folder / "none.toml", signed, "--trust", trust)
    assert (code, "report.supply_plan" in err) == (1, True)
