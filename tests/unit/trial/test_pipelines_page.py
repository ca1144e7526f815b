"""The page of the pipelines names every parameter, and every example is one that runs."""

import re
from pathlib import Path

import pytest

from factory.pipelines.recipe import read_recipe
from nodes.contract.tasks.index import Band, Domain, IndexParameters, Indicator
from nodes.contract.tasks.linear import LinearParameters, SplitColumn
from nodes.contract.tasks.match import MatchField, MatchParameters
from nodes.contract.tasks.psi import PsiParameters
from nodes.contract.tasks.studies import Study, Variable
from nodes.contract.tasks.sums import Category, Measure, SumsParameters
from tests import trials

PAGE = (Path(trials.ROOT) / "docs" / "reference" / "pipelines.md").read_text("utf-8")
SECTIONS = {part.split("\n")[0]: part for part in PAGE.split("\n## ")[1:]}


@pytest.mark.parametrize(
    ("section", "model", "prefix"),
    [
        ("linear.secagg", LinearParameters, ""),
        ("sums.ckks", SumsParameters, ""),
        ("sums.ckks", Measure, "measures."),
        ("sums.ckks", Category, "categories."),
        ("sums.ckks", Study, "studies."),
        ("sums.ckks", Variable, "variables."),
        ("index.ckks", IndexParameters, ""),
        ("index.ckks", Domain, "domains."),
        ("index.ckks", Indicator, "indicators."),
        ("index.ckks", Band, "bands."),
        ("match.voprf", MatchParameters, ""),
        ("match.voprf", MatchField, "fields."),
        ("psi.join", PsiParameters, ""),
        ("psi.join", MatchField, "keys.*."),
    ],
)
def test_the_page_lists_exactly_the_fields_of_the_parameter_class(section, model, prefix):
    rows = re.findall(r"^\| (`[a-z0-9_.*`, ]+`) \|.*\|.*\|.*\|$", SECTIONS[section], re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`([a-z0-9_.*]+)`", row)}
    listed = {name.removeprefix(prefix) for name in named if name.startswith(prefix) and (prefix or "." not in name)}
    assert listed == set(model.model_fields)


@pytest.mark.parametrize(
    ("section", "model"),
    [("linear.secagg", LinearParameters), ("match.voprf", MatchParameters), ("sums.ckks", Measure)],
)
def test_the_page_states_the_defaults(section, model):
    for name, field in model.model_fields.items():
        if isinstance(field.default, int) and not isinstance(field.default, bool) and name != "seed":
            row = next(line for line in SECTIONS[section].splitlines() if re.match(rf"\| `(\w+\.)?{name}`", line))
            assert f"{field.default:,}".replace(",", " ") == row.split(" | ")[2]


def test_the_page_names_what_a_split_says():
    assert "`column`, `test_value`" in PAGE
    assert set(SplitColumn.model_fields) == {"column", "test_value"}


def test_the_examples_are_those_that_the_trials_run():
    found = {path.stem: read_recipe(path).pipeline.name for path in trials.EXAMPLES.glob("*.toml")}
    assert found == {
        "index": "index.ckks",
        "join": "psi.join",
        "model": "linear.secagg",
        "report": "sums.ckks",
        "statistics": "sums.ckks",
        "verification": "match.voprf",
    }
    folder = Path(trials.ROOT) / "tests" / "integration"
    run_by = "".join((folder / name).read_text("utf-8") for name in ("test_try.py", "test_join.py"))
    assert all(f'"{name}.toml"' in run_by for name in found)
