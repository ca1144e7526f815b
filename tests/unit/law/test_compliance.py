"""The matrix: nothing is green by default, old results do not count, and no requirement loses its test unnoticed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from factory.law import sources
from factory.law.compliance import Results, matrix, read_results, to_json
from factory.law.errors import TableError
from factory.law.pages import CAPABILITIES, page
from factory.law.table import load_table

ROOT = Path(__file__).resolve().parents[3]
TABLE = load_table()
CORE = [item for item in TABLE.requirements.values() if item.priority == "core"]


def built(tests=None, outcomes=None, *, made_of="s", profile=""):
    results = Results("2026-03-02T08:00:00+00:00", made_of, outcomes or {})
    return matrix(TABLE, tests=tests or {}, citing={}, results=results, sources_sha256="s", profile=profile)


def status(found, name):
    return next(row.status for row in found.rows if row.requirement.id == name)


def test_the_table_has_262_requirements_114_of_them_core_and_every_clause_leads_to_one():
    assert len(TABLE.requirements) == 262
    assert len(CORE) == 114
    named = {clause for item in TABLE.requirements.values() for clause in item.clauses}
    assert named <= set(TABLE.clauses)
    loose = [c.id for c in TABLE.clauses.values() if c.id not in named and c.requirement != "OUT" and c.requirement]
    assert loose == []
    assert {item.capability for item in TABLE.requirements.values()} <= set(CAPABILITIES)
    assert all(item.title_zh and item.acceptance for item in TABLE.requirements.values())


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ({}, "not_run"),
        ({"a": "passed"}, "not_run"),
        ({"a": "passed", "b": "skipped"}, "not_run"),
        ({"a": "passed", "b": "failed"}, "failing"),
        ({"a": "failed", "b": "skipped"}, "failing"),
        ({"a": "passed", "b": "passed"}, "passing"),
    ],
)
def test_a_requirement_passes_when_every_test_of_it_ran_and_passed(outcomes, expected):
    found = built({"REQ-LEAST": ("a", "b")}, outcomes)
    assert status(found, "REQ-LEAST") == expected
    assert status(found, "REQ-SCEN") == "not_yet"
    assert to_json(found)["core_passing"] == (expected == "passing")
    assert to_json(found)["core_total"] == 114


def test_results_of_other_sources_do_not_count():
    found = built({"REQ-LEAST": ("a",)}, {"a": "passed"}, made_of="t")
    assert found.is_stale
    assert status(found, "REQ-LEAST") == "not_run"


def test_what_software_cannot_meet_says_why_and_is_never_green():
    row = next(row for row in built({"FAIR-COMP": ("a",)}, {"a": "passed"}).rows if row.requirement.id == "FAIR-COMP")
    assert row.status == "impossible"
    assert all(row.reason)


def test_a_profile_lists_what_its_own_and_the_national_texts_ask():
    ids = {row.requirement.id for row in built(profile="GD").rows}
    assert "SUP-DEADLINE" in ids  # Guangdong alone
    assert "SUSP-IMMEDIATE" not in ids  # Jilin alone
    assert "PC-TECH" in ids  # a national text
    for row in built(profile="GD").rows:
        assert {clause.jurisdiction for clause in row.clauses} <= {"GD", "NATIONAL"}


def test_a_mark_with_an_unknown_requirement_is_refused():
    with pytest.raises(TableError, match="REQ-LAST"):
        built({"REQ-LAST": ("a",)})


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": 2, "finished_at": "", "sources_sha256": "", "tests": {}}']
)
def test_a_file_of_another_kind_is_one_error(text):
    with pytest.raises(TableError, match="make compliance"):
        read_results(text)


def test_the_page_is_chinese_first_and_loads_nothing():
    text = page(built({"REQ-LEAST": ("tests/t.py::<b>",)}, {"tests/t.py::<b>": "failed"}), None)
    assert text.index("合规对照表") < text.index("Compliance matrix")
    assert "<script" not in text
    assert "http://" not in text
    assert "https://" not in text
    assert "&lt;b&gt;" in text
    assert "未通过" in text


def test_no_requirement_loses_its_test():
    """The kept list grows with `make docs`; whoever removes the last test of a requirement has to strike it by hand."""
    kept = (ROOT / "tests" / "requirements" / "kept.txt").read_text("utf-8").split()
    marked = sources.marked_tests(ROOT / "tests")
    assert kept == sorted(set(kept))
    assert [name for name in kept if name not in marked] == []


def test_every_core_requirement_has_a_test_or_a_reason_why_software_cannot_meet_it():
    marked = sources.marked_tests(ROOT / "tests")
    assert [item.id for item in CORE if item.id not in marked and item.id not in TABLE.impossible] == []
    assert [
        item.id for item in CORE if item.id in TABLE.impossible
    ] == []  # none so far; strike this line with a reason


def test_every_core_requirement_with_a_test_has_a_control():
    marked = sources.marked_tests(ROOT / "tests")
    citing = sources.citing_modules(ROOT, TABLE.requirements)
    without = [r.id for r in CORE if r.id in marked and r.id not in citing and r.id not in TABLE.controls]
    assert without == [], "cite the requirement in the module that carries it, or add it to factory/law/controls.toml"
    assert sources.missing_modules(ROOT, TABLE.controls) == ()


MARKS = """
import pytest
pytestmark = pytest.mark.requirement("CAT-ATTR")
@pytest.mark.requirement("REQ-LEAST", "REQ-SCEN")
@pytest.mark.parametrize("number", [1, 2])
def test_one(number):
    assert number < LIMIT
class TestMore:
    @pytest.mark.requirement("REQ-LEAST")
    def test_two(self):
        pytest.skip("not here")
"""


@pytest.mark.parametrize(("limit", "one"), [(3, "passed"), (2, "failed")])
def test_marks_are_read_and_the_worst_case_of_a_test_is_recorded(tmp_path, limit, one):
    folder = tmp_path / "tests"
    folder.mkdir()
    (folder / "conftest.py").write_bytes((ROOT / "tests" / "conftest.py").read_bytes())
    (folder / "test_it.py").write_text(MARKS.replace("LIMIT", str(limit)), "utf-8")
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nmarkers = requirement(id): x\naddopts = -p no:cacheprovider\n", "utf-8"
    )
    assert sources.marked_tests(folder) == {
        "CAT-ATTR": ("tests/test_it.py::TestMore::test_two", "tests/test_it.py::test_one"),
        "REQ-LEAST": ("tests/test_it.py::TestMore::test_two", "tests/test_it.py::test_one"),
        "REQ-SCEN": ("tests/test_it.py::test_one",),
    }
    path = tmp_path / "out" / "r.json"
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--requirements-file", str(path), str(tmp_path)],
        cwd=tmp_path, check=False, capture_output=True, timeout=60, env={"PYTHONPATH": str(ROOT), "PATH": ""},
    )  # fmt: skip
    found = read_results(path.read_text("utf-8"))
    assert found.outcomes == {"tests/test_it.py::test_one": one, "tests/test_it.py::TestMore::test_two": "skipped"}
    assert found.sources_sha256 == sources.digest(ROOT)


def test_the_command_prints_the_counts(monkeypatch, capsys):
    from factory import cli

    monkeypatch.setattr(sys, "argv", ["shufang", "compliance", "--json", "--results", str(ROOT / "nothing.json")])
    assert cli.run() == 1
    assert "make compliance" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["shufang", "compliance", "--json", "--profile", "GD"])
    assert cli.run() in {0, 1}
    value = json.loads(capsys.readouterr().out)
    assert {"core_passing", "core_total", "governance_passing", "governance_total", "rows"} <= set(value)
    assert value["core_total"] == sum(
        "GD" in TABLE.jurisdictions(r) or "NATIONAL" in TABLE.jurisdictions(r) for r in CORE
    )
