"""The operator's standing: stopping is stronger than starting, and each profile has its own bodies and grace."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from factory.law.files import proposed
from factory.law.limits import CHINA
from factory.lifecycle.machine import Permit, Refusal
from factory.lifecycle.standing import StandingFacts, is_open, move

NOW = datetime(2026, 3, 9, 8, 0, tzinfo=UTC)
SD, JN, JL, SZ, GD = (proposed(code) for code in ("SD", "JN", "JL", "SZ", "GD"))
GOOD = StandingFacts(
    now=NOW,
    profile=GD,
    body="agency",
    agreement_until=NOW + timedelta(seconds=1),
    ground="breach",
    items=("delete the copies",),
    deadline=date(2026, 3, 20),
    deletion_ordered=True,
    services_settled=True,
    deletion_verified_by="data-bureau",
    agency_organisation="data-bureau",
    logs_kept=True,
    reported_to=frozenset({"data_administration"}),
    assessment="aa",
    reason="because",
)
WAY = [
    ("apply", "none", "operator", "applicant", {}),
    ("authorise", "applicant", "agency", "authorised", {}),
    ("authorise", "none", "agency", "authorised", {}),
    ("close", "authorised", "agency", "under_rectification", {}),
    ("close_at_once", "authorised", "agency", "closed", {"profile": JL, "is_prohibited": True}),
    ("close_at_once", "under_rectification", "agency", "closed", {"profile": JL, "is_prohibited": True}),
    ("restore", "under_rectification", "agency", "authorised", {"accepted": True}),
    ("revoke", "under_rectification", "agency", "revoked", {"now": NOW + timedelta(days=30)}),
    *(("exit", state, "agency", "exiting", {}) for state in ("authorised", "under_rectification", "closed", "revoked")),
    ("keep", "authorised", "agency", "authorised", {}),
    ("finish", "exiting", "agency", "exited", {}),
    ("apply_again", "exited", "operator", "applicant", {}),
]


def answer(act, **change):
    _, state, role, _, given = next(step for step in WAY if step[0] == act)
    return move(act, state=state, role=role, facts=replace(GOOD, **{**given, **change}))


@pytest.mark.parametrize(("act", "state", "role", "target", "given"), WAY)
def test_the_way(act, state, role, target, given):
    found = move(act, state=state, role=role, facts=replace(GOOD, **given))
    assert isinstance(found, Permit), found
    assert found.target == target
    assert found.clauses


@pytest.mark.parametrize(
    ("act", "change", "code"),
    [
        ("authorise", {"agreement_until": None}, "standing.agreement"),
        ("authorise", {"agreement_until": NOW}, "standing.agreement"),
        ("close", {"body": "data_administration"}, "standing.body"),
        ("close", {"ground": " "}, "standing.ground"),
        ("close", {"items": ()}, "standing.items"),
        ("close", {"items": ("a", " ")}, "standing.items"),
        ("close", {"deadline": None}, "standing.deadline"),
        ("close", {"deadline": date(2026, 3, 9)}, "standing.deadline"),
        ("close", {"profile": JL, "is_prohibited": True}, "standing.no_grace"),
        ("close_at_once", {"is_prohibited": False}, "standing.not_prohibited"),
        ("close_at_once", {"profile": GD}, "standing.grace"),
        ("close_at_once", {"deletion_ordered": False}, "standing.deletion_order"),
        ("close_at_once", {"body": "sector_authority"}, "standing.body"),
        ("close_at_once", {"ground": ""}, "standing.ground"),
        ("restore", {"body": "data_administration"}, "standing.body"),
        ("restore", {"accepted": False}, "standing.not_accepted"),
        ("restore", {"reason": " "}, "standing.reason"),
        ("restore", {"agreement_until": NOW}, "standing.agreement"),
        ("revoke", {"accepted": True}, "standing.accepted"),
        ("revoke", {"now": NOW}, "standing.deadline"),
        ("revoke", {"deadline": None}, "standing.deadline"),
        ("revoke", {"body": "sector_authority"}, "standing.body"),
        ("revoke", {"reason": ""}, "standing.reason"),
        ("exit", {"ground": "prohibited"}, "standing.exit_ground"),
        ("exit", {"reason": ""}, "standing.reason"),
        ("keep", {"ground": ""}, "standing.exit_ground"),
        ("keep", {"profile": JL}, "standing.must_end"),
        ("keep", {"reason": ""}, "standing.reason"),
        ("finish", {"services_settled": False}, "standing.services"),
        ("finish", {"grants_left": 1}, "standing.grants"),
        ("finish", {"deletion_verified_by": ""}, "standing.deletion"),
        ("finish", {"deletion_verified_by": "operator-ltd"}, "standing.deletion"),
        ("finish", {"logs_kept": False}, "standing.logs"),
        ("finish", {"reported_to": frozenset()}, "standing.report"),
        ("apply_again", {"assessment": ""}, "standing.assessment"),
    ],
)
def test_a_guard_refuses_and_cites(act, change, code):
    found = answer(act, **change)
    assert isinstance(found, Refusal)
    assert found.code == code
    assert found.clauses


@pytest.mark.parametrize(
    ("profile", "may"),
    [
        (SD, {"agency", "data_administration", "sector_authority"}),  # the agency is the data administration there
        (JN, {"agency", "authorising_unit"}),
        (SZ, {"agency", "data_administration"}),
        (JL, {"agency"}),
        (GD, {"agency"}),
    ],
)
def test_each_profile_names_the_bodies_that_close(profile, may):
    for body in ("agency", "data_administration", "sector_authority", "authorising_unit"):
        facts = replace(GOOD, profile=profile, body=body)
        found = move("close", state="authorised", role=body, facts=facts)
        assert isinstance(found, Permit) == (body in may), body


def test_the_day_of_the_order_is_inside_the_limit():
    ends = datetime(2026, 3, 21, 0, 0, tzinfo=CHINA)
    assert isinstance(answer("revoke", now=ends), Permit)
    assert isinstance(answer("revoke", now=ends - timedelta(seconds=1)), Refusal)
    assert isinstance(answer("close", deadline=date(2026, 3, 10)), Permit)


def test_jilin_must_end_and_guangdong_may():
    assert isinstance(answer("keep", profile=GD), Permit)
    assert isinstance(answer("keep", profile=JL), Refusal)
    assert isinstance(answer("exit", profile=JL, ground="prohibited"), Permit)


def test_access_is_open_in_one_state_alone():
    states = {target for *_, target, _ in WAY} | {"none"}
    assert {state for state in states if is_open(state)} == {"authorised"}


def test_a_revoked_operator_is_not_restored():
    for state in ("revoked", "closed", "exiting", "exited"):
        facts = replace(GOOD, accepted=True)
        assert isinstance(move("restore", state=state, role="agency", facts=facts), Refusal)
