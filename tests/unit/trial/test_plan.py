"""What ``shufang try`` refuses before any process is started, and how options name parties."""

import pytest
import typer
from typer.testing import CliRunner

from factory.pipelines.recipe import RecipeError
from factory.trial import run
from factory.trial.cli import app
from factory.trial.errors import TrialError, TrialOutputError, TrialTableError
from tests import trials

MODEL, VERIFICATION = trials.EXAMPLES / "model.toml", trials.EXAMPLES / "verification.toml"


@pytest.fixture
def tables(tmp_path):
    found = {party: tmp_path / f"{party}.csv" for party in trials.PARTIES}
    for path in found.values():
        path.write_text("a\n1\n")
    return found


def test_a_recipe_that_is_not_there_is_named(tmp_path, tables):
    with pytest.raises(RecipeError, match=r"expected a recipe file at .*nothing\.toml"):
        run.plan(tmp_path / "nothing.toml", tables)


def test_a_recipe_in_another_encoding_is_refused(tmp_path, tables):
    path = tmp_path / "recipe.toml"
    path.write_bytes(MODEL.read_text("utf-8").encode("gb18030"))
    with pytest.raises(RecipeError, match=r"expected recipe\.toml in UTF-8"):
        run.plan(path, tables)


def test_an_unknown_pipeline_is_refused_with_those_there_are(tmp_path, tables):
    recipe = trials.changed("model.toml", tmp_path, ("linear.secagg", "linear.magic"))
    with pytest.raises(RecipeError, match=r"linear\.secagg, .*match\.voprf.*, got linear\.magic"):
        run.plan(recipe, tables)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("rounds = 60", "rounds = 0", "rounds: Input should be greater than or equal to 1"),
        ("rounds = 60", "circles = 60", "circles: Extra inputs are not permitted"),
        ('features = ["mean_radius", ', 'features = ["mean_area", ', "expected the columns mean_area at east"),
    ],
)
def test_a_wrong_parameter_is_named(tmp_path, tables, old, new, said):
    with pytest.raises(RecipeError) as caught:
        run.plan(trials.changed("model.toml", tmp_path, (old, new)), tables)
    assert said in str(caught.value)


def test_a_table_for_nobody_is_refused_with_the_parties_there_are(tables):
    with pytest.raises(TrialTableError) as caught:
        run.plan(MODEL, {**tables, "south": tables["east"]})
    assert str(caught.value).startswith("expected a party of the recipe, got south; its parties are east, west, north")


def test_a_file_that_is_not_there_is_named_with_its_option(tables, tmp_path):
    with pytest.raises(TrialTableError, match=r"for west at .*gone\.csv; correct the path after --table west="):
        run.plan(MODEL, {**tables, "west": tmp_path / "gone.csv"})


def test_two_files_for_one_table_are_refused(tables):
    with pytest.raises(TrialTableError, match=r"expected one file for east\.clinic, got two"):
        run.plan(MODEL, {**tables, "east.clinic": tables["west"]})


def test_a_verification_needs_questions(tables):
    with pytest.raises(TrialTableError, match="add --table bank=FILE"):
        run.plan(VERIFICATION, {"north": tables["north"]})


def test_questions_may_be_named_after_the_application_unit_or_simply_client(tables):
    for name in ("bank", "client"):
        planned = run.plan(VERIFICATION, {"north": tables["north"], name: tables["east"]})
        assert planned.questions == tables["east"]
        assert planned.tables == {"north.persons": tables["north"]}


def test_a_table_may_be_named_by_its_catalogue_id(tables):
    planned = run.plan(MODEL, {f"{party}.clinic": path for party, path in tables.items()})
    assert planned.tables["west.clinic"] == tables["west"]


def test_a_file_where_the_product_should_go_is_refused_before_anything_starts(tables, tmp_path):
    with pytest.raises(TrialOutputError, match=r"expected a folder at .*got a file"):
        run.run(run.plan(MODEL, tables), out=tables["east"])


@pytest.mark.parametrize("option", ["east", "=x.csv", "east="])
def test_an_option_that_is_no_pair_is_a_usage_error(option):
    result = CliRunner().invoke(app, [str(MODEL), "--table", option])
    assert result.exit_code == 2
    assert "PARTY=PATH" in result.output


def test_a_party_named_twice_is_a_usage_error(tables):
    options = ["--table", f"east={tables['east']}"] * 2
    result = CliRunner().invoke(app, [str(MODEL), *options])
    assert result.exit_code == 2


def test_the_errors_of_trials_have_codes_of_their_own():
    codes = [kind.code for kind in (TrialError, *TrialError.__subclasses__())]
    assert len(set(codes)) == len(codes)
    assert all(code.startswith("trial.") for code in codes)


def test_help_shows_an_example():
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
    assert "Example: shufang try model.toml" in result.output
    assert isinstance(app, typer.Typer)
