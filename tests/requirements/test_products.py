"""Acceptance of agreement, review, report, registration and release: each with what is refused first."""

from dataclasses import replace
from datetime import timedelta

import pytest

from factory import cli
from factory.agency.errors import RequestRefusedError
from factory.agency.registrations import Registrations
from factory.agency.rulings import Rulings
from factory.errors import NodeRefusedError
from factory.law.files import proposed, write_law
from factory.lifecycle.machine import Permit, Refusal
from factory.lifecycle.product import ProductFacts, move
from factory.log.log import Log
from factory.registry.request import read_agreement
from factory.release.errors import RegistrationError
from factory.release.registration import apply, registered
from products.registration_code import is_valid, make
from tests import request_texts
from tests.offices import NOW
from tests.town import Town, run
from tests.unit.release.test_release import Factory

NODES = frozenset({"node-east", "node-west"})


@pytest.fixture
def town(tmp_path):
    made = Town(tmp_path)
    yield made
    made.close()


@pytest.fixture
def factory(tmp_path):
    made = Factory(tmp_path)
    yield made
    made.close()


@pytest.fixture
def filled(factory):
    """An application that the agency would take."""
    with Log.open(factory.log_home, now=NOW) as log:
        return factory.apply(*factory.to_evidence(log))


def refused_request(town, **changes):
    with pytest.raises(RequestRefusedError) as told:
        town.request(**changes)
    return told.value.reason


def refused_application(factory, application):
    with pytest.raises(NodeRefusedError) as told:
        apply(factory.client, application)
    return str(told.value)


@pytest.mark.requirement("AGR-SCOPE")
def test_the_agreement_s_resources_are_the_outer_limit(town):
    town.catalogued()
    text = request_texts.AGREEMENT.replace(', "res.north.clinic"', "")
    Rulings(town.world.office, town.registry).add_agreement(read_agreement(text), official="official")
    assert refused_request(town) == "request.scope"
    assert town.registry.cases("request") == []
    assert town.request(districts=("east", "west")).state == "submitted"


@pytest.mark.requirement("AGR-TERM")
@pytest.mark.parametrize(("code", "years"), [("GD", 5), ("SZ", 3)])
def test_an_agreement_is_no_longer_than_the_profile_allows_and_no_request_outlives_it(town, code, years):
    (town.folder / "agency" / "law.toml").unlink()
    write_law(town.folder / "agency", code, accept_proposed=True)
    town.catalogued()
    text = request_texts.AGREEMENT.replace("2027-12-31", f"{2026 + years}-01-02")
    path = town.folder / "agreement.toml"
    path.write_text(text, "utf-8")
    done = town.agency("agreement", path, "--official", "official")
    assert done.exit_code == 1
    assert f"at most {years} years" in done.said
    path.write_text(text.replace(f"{2026 + years}-01-02", f"{2026 + years}-01-01"), "utf-8")
    town.agency("agreement", path, "--official", "official").ok()
    assert refused_request(town, replace={"days = 90": "days = 3000"}) == "request.term"


@pytest.mark.requirement("PROD-BUILD")
def test_a_form_of_product_that_is_not_on_the_agreement_s_list_is_not_made(town):
    town.catalogued()
    town.agree()
    assert refused_request(town, replace={'product_form = "model"': 'product_form = "index"'}) == "request.form"
    assert town.request().document["product_form"] == "model"


@pytest.mark.requirement("Q-CONFIRM")
def test_a_version_is_usable_once_the_data_administration_confirmed_it(town):
    town.catalogued("west", "north")
    town.agree()
    town.agency("catalogue", "take", town.offer("east")).ok()
    assert refused_request(town) == "catalogue.miss"
    resource = town.registry.get("resource", "res.east.clinic")
    from factory.lifecycle.resource import move as move_resource

    owner = move_resource("confirm", state=resource.state, role="source_department", facts=None)
    assert isinstance(owner, Refusal)
    assert owner.code == "resource.role"
    town.agency("catalogue", "confirm", "--official", "王芳").ok()
    assert town.request().state == "submitted"


@pytest.mark.requirement("REG-LINK")
def test_a_registration_names_every_source_and_is_found_from_each(factory, filled):
    without = filled.model_copy(update={"resources": filled.resources[:-1]})
    assert "expected every source" in refused_application(factory, without)
    assert factory.registry.cases("registration") == []
    apply(factory.client, filled)
    home = ("--home", factory.world.office.home, "--json")
    factory.registry.close()
    (factory.folder / "registry.db").rename(factory.world.office.home / "registry.db")
    for source in filled.resources:
        [row] = run(cli.app, "agency", "registrations", "--resource", source.resource, *home).ok()
        assert row["resources"][source.resource] == source.registration_code
    assert run(cli.app, "agency", "registrations", "--resource", "res.other", *home).ok() == []


@pytest.mark.requirement("PC-ENV")
def test_a_product_without_a_run_at_a_granted_department_is_not_registered(factory, filled):
    entries = tuple(entry for entry in filled.evidence.entries if not entry.name.startswith("run-"))
    outside = filled.model_copy(update={"evidence": filled.evidence.model_copy(update={"entries": entries})})
    assert "run statement" in refused_application(factory, outside)
    apply(factory.client, filled)


@pytest.mark.requirement("REG-RESOURCE", "PROV-SOURCE")
def test_a_product_of_a_resource_without_registration_in_force_is_not_registered(factory, filled):
    first, *others = filled.resources
    ended = first.model_copy(update={"registration_valid_until": NOW - timedelta(days=1)})
    assert first.resource in refused_application(factory, filled.model_copy(update={"resources": (ended, *others)}))
    unknown = first.model_copy(update={"resource": "res.nowhere"})
    told = refused_application(factory, filled.model_copy(update={"resources": (unknown, *others)}))
    assert first.resource in told
    apply(factory.client, filled)
    case = factory.registry.get("registration", filled.application_id)
    named = {(row["resource"], row["version"]) for row in case.document["application"]["resources"]}
    assert named == {(f"res.{name}.clinic", 1) for name in ("east", "west", "north")}


GOOD = ProductFacts(
    now=NOW,
    profile=proposed("JL"),
    departments=NODES,
    runs_signed=NODES,
    grant_until=NOW + timedelta(days=1),
    tests=3,
    reviewer_organisations={"reviewer-1": "university", "reviewer-2": "association"},
    involved_organisations=frozenset({"operator-ltd", "dept-east"}),
    prerelease_problems="",
    prerelease_receipts=NODES | {"data_administration"},
    registration_code="SF-2026-MD-00000001-XX",
    registration_until=NOW + timedelta(days=1),
    release_signers={
        "operator": frozenset({"operator"}),
        "node": NODES,
        "registrar": frozenset({"registrar-1", "registrar-2"}),
    },
    reason="because",
)


def stopped(act, state, role, **changes):
    answer = move(act, state=state, role=role, facts=replace(GOOD, **changes))
    assert isinstance(answer, Refusal)
    return answer.code


def goes(act, state, role, **changes):
    answer = move(act, state=state, role=role, facts=replace(GOOD, **changes))
    return isinstance(answer, Permit)


@pytest.mark.requirement("REG-PRODUCT")
def test_without_a_code_in_force_nothing_is_released_or_served(factory, filled):
    registrations = Registrations(factory.world.office, factory.registry)
    apply(factory.client, filled)
    with pytest.raises(RegistrationError):
        registered(factory.client, filled.application_id)
    for act, state in (("release", "registered"), ("operate", "released"), ("restore", "suspended")):
        role = "agency" if act == "restore" else "operator"
        assert stopped(act, state, role, registration_code="") == "product.unregistered"
        assert stopped(act, state, role, registration_until=NOW) == "product.registration_expired"
        assert goes(act, state, role)
    registrations.decide(filled.application_id, approve=True, official="official", reason="complete")
    code, until, _ = registered(factory.client, filled.application_id)
    assert is_valid(code)
    assert until > NOW
    factory.client.ask_registration(filled.application_id, "cancellation", reason="withdrawn")
    registrations.settle(filled.application_id, approve=True, official="official", reason="agreed")
    with pytest.raises(RegistrationError, match="cancelled"):
        registered(factory.client, filled.application_id)


@pytest.mark.requirement("REG-CODE")
def test_codes_differ_one_changed_digit_fails_and_without_one_there_is_no_release():
    first, second = make(2026, "model", 1), make(2026, "model", 2)
    assert first != second
    for place, letter in enumerate(first):
        if letter.isdigit():
            changed = first[:place] + str((int(letter) + 1) % 10) + first[place + 1 :]
            assert not is_valid(changed), changed
    assert is_valid(first)
    assert stopped("register", "pre_release_reported", "agency", registration_code="") == "product.unregistered"
    assert goes("register", "pre_release_reported", "agency")


@pytest.mark.requirement("PREREL")
@pytest.mark.parametrize("code", ["JL", "GD", "SD"])
def test_no_release_before_data_administration_and_source_departments_have_the_report(code):
    profile = proposed(code)
    office = next(body for body in profile.product.report_to if body != "source_department")
    said = {"profile": profile, "exchange_reference": "EX-1"}
    assert stopped("report", "reviewed", "operator", **said, prerelease_problems="not measured") == "product.prerelease"
    assert stopped("report", "reviewed", "operator", **said, prerelease_receipts=frozenset()) == "product.receipt"
    assert stopped("report", "reviewed", "operator", **said, prerelease_receipts=NODES) == "product.receipt"
    assert goes("report", "reviewed", "operator", **said, prerelease_receipts=frozenset({office}))
    lacking = frozenset({office, "node-east"})
    assert stopped("release", "registered", "operator", **said, prerelease_receipts=lacking) == "product.receipt"
    assert goes("release", "registered", "operator", **said, prerelease_receipts=NODES | {office})


@pytest.mark.requirement("PROD-REVIEW", "PROD-OPREV")
def test_no_registration_before_the_operator_tested_and_others_reviewed(factory):
    assert stopped("test", "built", "operator", tests=0) == "product.untested"
    assert stopped("test", "built", "operator", test_failures=("identifiers",)) == "product.test_failed"
    for state in ("building", "built", "tested", "reviewed"):
        assert stopped("register", state, "agency") == "product.state"
    own = {"operator": "operator-ltd", "reviewer-1": "university"}
    assert stopped("review", "tested", "reviewer", reviewer_organisations=own) == "product.review"
    assert stopped("review", "tested", "operator") == "product.role"
    assert goes("review", "tested", "reviewer")


@pytest.mark.requirement("REL-ITERATE")
def test_a_new_version_repeats_everything_while_the_earlier_one_is_served(factory, filled):
    registrations = Registrations(factory.world.office, factory.registry)
    apply(factory.client, filled)
    registrations.decide(filled.application_id, approve=True, official="official", reason="complete")
    product = filled.product.model_copy(update={"product_version": "2.0.0"})
    second = filled.model_copy(update={"product": product, "application_id": "reg-second"})
    assert "change" in refused_application(factory, second)  # not a first registration
    for state in ("building", "built", "tested", "reviewed", "pre_release_reported"):
        assert stopped("release", state, "operator") == "product.state"
    assert registered(factory.client, filled.application_id)[0]  # the earlier version has its code still
    apply(factory.client, second.model_copy(update={"kind": "change"}))
    with pytest.raises(RegistrationError):
        registered(factory.client, "reg-second")
    registrations.decide("reg-second", approve=True, official="official", reason="complete")
    codes = {registered(factory.client, name)[0] for name in (filled.application_id, "reg-second")}
    assert len(codes) == 2


@pytest.mark.requirement("PROFILE")
def test_the_same_acts_under_two_profiles_follow_each(town):
    """One approval suffices in Guangdong; in Shandong the sector authority has to approve as well."""
    from nodes.contract import canonical

    home = town.folder / "agency"
    (home / "law.toml").unlink()
    write_law(home, "SD", accept_proposed=True)
    town.catalogued()
    town.agree()
    case = town.request()
    assert town.rule(case.id) is None
    assert town.registry.get("request", case.id).state == "submitted"
    kept = canonical.loads(town.registry.artefacts("request", case.id)["approvals.json"])
    assert kept == {"data_administration": "data-bureau"}
    with pytest.raises(RequestRefusedError) as told:
        town.rule(case.id, body="sector_authority")
    assert told.value.reason == "request.one_body"
    with pytest.raises(RequestRefusedError) as told:
        town.rule(case.id)
    assert told.value.reason == "request.approved_already"
    assert town.rule(case.id, body="sector_authority", organisation="health-commission") is not None
    assert town.registry.get("request", case.id).state == "approved"
    (home / "law.toml").unlink()
    write_law(home, "GD", accept_proposed=True)
    other = town.request(replace={'scenario = "clinic-risk"': 'scenario = "clinic-two"'})
    assert town.rule(other.id) is not None
    assert town.registry.get("request", other.id).state == "approved"


@pytest.mark.requirement("PROFILE")
def test_an_agency_whose_words_are_not_set_does_not_rule(town):
    home = town.folder / "agency"
    town.catalogued()
    town.agree()
    case = town.request()
    (home / "law.toml").unlink()
    write_law(home, "GD", accept_proposed=False)
    with pytest.raises(cli.FactoryError, match=r"incident\.notice"):
        town.rule(case.id)
    assert town.registry.get("request", case.id).state == "submitted"
