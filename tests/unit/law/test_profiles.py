"""Profiles: closed, cited, complete, and each jurisdiction follows its own values."""

import csv
import tomllib
from importlib import resources

import pytest

from factory.law.errors import ProfileMalformedError, ProfileUnknownError, ProfileUnsetError
from factory.law.files import built_in, deployed, law_text, own_layer, proposed, read_law, write_law
from factory.law.limits import Limit
from factory.law.profile import CODES, KEYS, Layer, complete, known_code, lay, read_layer, unset, with_choices

JURISDICTIONS = [code for code in CODES if code != "NATIONAL"]


def clauses() -> dict[str, dict[str, str]]:
    text = resources.files("factory.law").joinpath("clauses.csv").read_text("utf-8")
    return {row["id"]: row for row in csv.DictReader(text.splitlines())}


@pytest.mark.parametrize("code", CODES)
def test_every_value_cites_a_clause_of_its_own_text_or_a_decision(code):
    known = clauses()
    for key, leaf in own_layer(code).leaves.items():
        prefixes = ("NR", "NO", "NP", "NS") if code == "NATIONAL" else (code,)
        for clause in leaf.clauses:
            assert clause in known, (key, clause)
            assert clause.startswith(prefixes), (key, clause)
        assert leaf.clauses or 1 <= leaf.decision <= 14, key


@pytest.mark.parametrize("code", CODES)
@pytest.mark.requirement("PROFILE")
def test_a_profile_whose_words_are_not_set_does_not_load(code):
    with pytest.raises(ProfileUnsetError) as caught:
        complete(built_in(code))
    assert '"incident.notice" = "1 h"' in str(caught.value)
    assert len(caught.value.unset) == len(unset(built_in(code)))


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.requirement("PROFILE")
def test_a_profile_without_a_parameter_does_not_load(key):
    layer = built_in("GD")
    leaves = {name: leaf for name, leaf in layer.leaves.items() if name != key}
    with pytest.raises(ProfileMalformedError, match=key):
        complete(Layer(layer.head, leaves))


@pytest.mark.requirement("PROFILE")
def test_each_jurisdiction_follows_its_own_values():
    found = {code: proposed(code) for code in CODES}
    assert {code: p.agreement.term_max_years for code, p in found.items()} == {
        "NATIONAL": 5,
        "SD": 5,
        "JN": 5,
        "JL": 5,
        "SZ": 3,
        "GD": 5,
    }
    assert {code: p.request.approvers for code, p in found.items()} == {
        "NATIONAL": ("agency",),
        "SD": ("data_administration", "sector_authority"),
        "JN": ("data_administration", "authorising_unit"),
        "JL": ("agency",),
        "SZ": ("data_administration", "sector_authority"),
        "GD": ("agency",),
    }
    assert {code: p.standing.exit_duty for code, p in found.items() if p.standing.exit_duty == "must"} == {"JL": "must"}
    assert found["SD"].limit("duties.plan_filing") == Limit(20, "wd")
    assert found["JL"].limit("duties.plan_filing") == Limit(1, "mo")
    assert found["JN"].limit("duties.plan_filing") is None
    assert found["GD"].cited("request.ruling") == ("GD-24-3",)
    assert found["NATIONAL"].cited("request.ruling") == ("D-13",)


def test_a_deployer_sets_words_and_choices_and_nothing_that_a_text_fixes():
    layer = built_in("GD")
    assert with_choices(layer, {"incident.notice": "30 min"}).leaves["incident.notice"].value == "30 min"
    assert with_choices(layer, {"supply.mode": "central"}).leaves["supply.mode"].layer == "deployer"
    with pytest.raises(ProfileMalformedError, match="GD-24-3"):
        with_choices(layer, {"request.ruling": "90 wd"})
    with pytest.raises(ProfileMalformedError, match=r"no parameter request\.rulings"):
        with_choices(layer, {"request.rulings": "9 wd"})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"code": "XX"}, "XX"),
        ({"agreements": {}}, "agreements"),
        ({"agreement": {"term": {"value": 5, "clauses": ["GD-22-2"]}}}, "agreement.term"),
        ({"agreement": {"term_max_years": 5}}, "agreement.term_max_years"),
        ({"agreement": {"term_max_years": {"value": 5}}}, "clauses"),
        ({"agreement": {"publicity": {"word": "及时", "clauses": ["GD-20-6"]}}}, "proposed"),
        ({"agreement": {"publicity": {"word": "及时", "value": "5 d", "clauses": ["GD-20-6"]}}}, "not both"),
        ({"agreement": {"publicity": {"value": "5 d", "clauses": ["GD-20-6"], "note": ""}}}, "agreement.publicity"),
    ],
)
def test_a_profile_is_closed(change, told):
    with pytest.raises(ProfileMalformedError, match=told):
        read_layer({"code": "GD", **change})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("agreement.term_max_years", 0),
        ("agreement.term_max_years", "5"),
        ("request.approvers", []),
        ("request.approvers", ["mayor"]),
        ("request.ruling", "10 days"),
        ("supply.rectify", "none"),
        ("duties.yearly_due", "31-03"),
        ("standing.exit_duty", "should"),
    ],
)
def test_a_value_of_another_kind_is_named(key, value):
    section, _, name = key.partition(".")
    layer = read_layer({"code": "GD", section: {name: {"value": value, "clauses": ["GD-45-1"]}}})
    words = {k: leaf.propose for k, leaf in unset(lay(built_in("GD"), layer))}
    if value == "5":
        assert complete(with_choices(lay(built_in("GD"), layer), words)).agreement.term_max_years == 5
        return
    with pytest.raises(ProfileMalformedError, match=section):
        complete(with_choices(lay(built_in("GD"), layer), words))


@pytest.mark.parametrize("code", JURISDICTIONS)
def test_a_law_file_with_the_proposed_lines_loads_and_one_with_comments_does_not(tmp_path, code):
    write_law(tmp_path, code, accept_proposed=True)
    assert deployed(tmp_path) == proposed(code).model_copy(update={"sources": deployed(tmp_path).sources})
    (tmp_path / "law.toml").write_text(law_text(code, accept_proposed=False), encoding="utf-8")
    with pytest.raises(ProfileUnsetError):
        deployed(tmp_path)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("base = 5", ProfileMalformedError),
        ('base = "XX"', ProfileUnknownError),
        ('base = "GD"\nextra = 1', ProfileMalformedError),
        ('base = "GD"\nset = 1', ProfileMalformedError),
        ("base =", ProfileMalformedError),
    ],
)
def test_a_wrong_law_file_is_one_error(tmp_path, text, error):
    path = tmp_path / "law.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(error):
        read_law(path)


def test_a_missing_law_file_names_the_command(tmp_path):
    with pytest.raises(ProfileMalformedError, match="shufang profile init"):
        deployed(tmp_path)
    with pytest.raises(ProfileUnknownError, match="SD, JN"):
        known_code("BJ")


def test_the_shipped_files_are_toml_with_one_table_per_section():
    for code in CODES:
        text = resources.files("factory.law").joinpath("profiles", f"{code.lower()}.toml").read_text("utf-8")
        assert tomllib.loads(text)["code"] == code
