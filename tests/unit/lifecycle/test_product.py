"""What the profiles add to a product's way: the list, a demand, the security head, the exchange, the report's readers."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from factory.law.files import proposed
from factory.lifecycle.machine import Permit, Refusal
from factory.lifecycle.product import ProductFacts, move

NOW = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
NODES = frozenset({"node-east", "node-west"})
GOOD = ProductFacts(
    now=NOW,
    profile=proposed("NATIONAL"),
    departments=NODES,
    runs_signed=NODES,
    agreement_until=NOW + timedelta(seconds=1),
    grant_until=NOW + timedelta(seconds=1),
    tests=1,
    reviewer_organisations={"reviewer-1": "university", "reviewer-2": "association"},
    involved_organisations=frozenset({"operator-ltd"}),
    prerelease_problems="",
    prerelease_receipts=NODES | {"agency", "data_administration"},
    registration_code="SF-1",
    registration_until=NOW + timedelta(seconds=1),
    release_signers={"operator": frozenset({"o"}), "node": NODES, "registrar": frozenset({"r-1", "r-2"})},
    reason="because",
)
ACTS = {
    "start": ("none", "operator"),
    "build": ("building", "operator"), "test": ("built", "operator"), "review": ("tested", "reviewer"),
    "report": ("reviewed", "operator"), "register": ("pre_release_reported", "agency"),
    "release": ("registered", "operator"), "operate": ("released", "operator"), "suspend": ("operating", "agency"),
    "restore": ("suspended", "agency"), "return": ("tested", "agency"), "retire": ("operating", "agency"),
}  # fmt: skip


def answer(act, code="NATIONAL", **change):
    state, role = ACTS[act]
    return move(act, state=state, role=role, facts=replace(GOOD, profile=proposed(code), **change))


@pytest.mark.parametrize(
    ("act", "code", "lacking", "given", "refusal"),
    [
        ("review", "JN", {"demand": " "}, {"demand": "unit-1 asks"}, "product.demand"),
        ("start", "SZ", {"listed": False}, {"listed": True}, "product.unlisted"),
        ("release", "SZ", {"listed": False}, {"listed": True}, "product.unlisted"),
        ("release", "GD", {"exchange_reference": ""}, {"exchange_reference": "EX-1"}, "product.exchange"),
        (
            "release",
            "JN",
            {"demand": "unit-1 asks"},
            {"release_signers": {**GOOD.release_signers, "security_head": frozenset({"h"})}},
            "product.security_head",
        ),
    ],
)
def test_a_profile_asks_for_more_and_national_does_not(act, code, lacking, given, refusal):
    found = answer(act, code, **lacking)
    assert isinstance(found, Refusal)
    assert found.code == refusal
    assert isinstance(answer(act, code, **given), Permit)
    assert isinstance(answer(act, "NATIONAL", **lacking), Permit)


@pytest.mark.parametrize(
    ("code", "body"),
    [("NATIONAL", "agency"), ("SD", "data_administration"), ("SD", "agency"), ("JL", "data_administration")],
)
def test_the_report_reaches_the_office_that_the_profile_names(code, body):
    assert isinstance(answer("report", code, prerelease_receipts=frozenset({body})), Permit)
    assert isinstance(answer("report", code, prerelease_receipts=frozenset({"operator"})), Refusal)


def test_in_jilin_the_agency_is_another_body_than_the_data_administration():
    assert isinstance(answer("report", "JL", prerelease_receipts=frozenset({"agency"})), Refusal)


def test_where_departments_are_no_readers_of_the_report_they_need_not_acknowledge_it():
    profile = proposed("NATIONAL")
    alone = profile.model_copy(update={"product": profile.product.model_copy(update={"report_to": ("agency",)})})
    facts = replace(GOOD, prerelease_receipts=frozenset({"agency"}))
    assert isinstance(move("release", state="registered", role="operator", facts=facts), Refusal)
    assert isinstance(move("release", state="registered", role="operator", facts=replace(facts, profile=alone)), Permit)


@pytest.mark.parametrize("act", ["build", "register", "release", "operate", "restore"])
def test_each_step_needs_a_grant_in_force(act):
    assert answer(act, grant_until=None).code == "product.grant"
    assert answer(act, grant_until=NOW).code == "product.grant"
    assert answer(act, grant_struck=True).code == "product.grant"
    assert isinstance(answer(act), Permit)


@pytest.mark.parametrize("act", ["register", "release", "operate", "restore"])
def test_each_step_needs_a_code_in_force(act):
    assert answer(act, registration_code="").code == "product.unregistered"
    assert answer(act, registration_until=None).code == "product.registration_expired"
    assert answer(act, registration_until=NOW).code == "product.registration_expired"


@pytest.mark.parametrize("act", ["suspend", "restore", "return", "retire"])
def test_stopping_and_going_on_have_a_reason(act):
    assert answer(act, reason=" ").code == "product.reason"
    assert isinstance(answer(act), Permit)


@pytest.mark.parametrize(
    "state", ["building", "built", "tested", "reviewed", "pre_release_reported", "registered", "released", "suspended"]
)
def test_a_product_is_retired_from_anywhere(state):
    assert move("retire", state=state, role="operator", facts=GOOD).target == "retired"


@pytest.mark.parametrize("act", list(ACTS))
def test_a_retired_product_goes_nowhere(act):
    found = move(act, state="retired", role=ACTS[act][1], facts=GOOD)
    assert isinstance(found, Refusal)
    assert found.code == "product.state"


def test_two_reviewers_of_other_organisations():
    for people in (
        {},
        {"a": "university"},
        {"a": "university", "b": "university"},
        {"a": "university", "b": "operator-ltd"},
    ):
        assert answer("review", reviewer_organisations=people).code == "product.review"
    three = {"a": "university", "b": "association", "c": "operator-ltd"}
    assert isinstance(answer("review", reviewer_organisations=three), Permit)
