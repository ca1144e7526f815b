"""What holds of every machine: it cites what exists, no clock approves, every state but the last can be left."""

import ast
import csv
import importlib
import re
from importlib import resources
from pathlib import Path

import pytest

MACHINES = (
    "agreement",
    "incident",
    "national",
    "resource",
    "product",
    "product_list",
    "registration",
    "request",
    "sandbox",
    "standing",
)
ENDINGS = {"expired"}
ROOT = Path(__file__).resolve().parents[3]


def transitions(name):
    return importlib.import_module(f"factory.lifecycle.{name}").TRANSITIONS


def known() -> set[str]:
    found = {f"D-{number}" for number in range(1, 14)}
    for table in ("requirements.csv", "clauses.csv"):
        text = resources.files("factory.law").joinpath(table).read_text("utf-8")
        found |= {row["id"] for row in csv.DictReader(text.splitlines())}
    return found


@pytest.mark.parametrize("name", MACHINES)
def test_every_citation_exists(name):
    source = (ROOT / "factory" / "lifecycle" / f"{name}.py").read_text("utf-8")
    cited = {
        node.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if re.fullmatch(r"[A-Z]{1,5}[0-9]?-[\w.-]+", node.value) and node.value != "D-1"
    }
    assert cited
    assert cited <= known(), cited - known()


@pytest.mark.parametrize("name", MACHINES)
def test_every_arrow_cites_a_requirement(name):
    requirements = {row for row in known() if not re.match(r"(SD|JN|JL|SZ|GD|NR|NO|NP|NS|D)-", row)}
    for arrow in transitions(name):
        assert requirements & set(arrow.clauses), (arrow.act, arrow.clauses)


@pytest.mark.parametrize("name", MACHINES)
def test_a_clock_approves_nothing(name):
    for arrow in transitions(name):
        if "clock" in arrow.roles and arrow.roles == {"clock"}:
            assert arrow.target in ENDINGS, arrow


def test_a_clock_puts_in_force_only_what_both_sides_signed():
    shared = [
        arrow for name in MACHINES for arrow in transitions(name) if "clock" in arrow.roles and len(arrow.roles) > 1
    ]
    assert [(arrow.act, arrow.sources, arrow.target) for arrow in shared] == [("enter", {"signed"}, "in_force")]
