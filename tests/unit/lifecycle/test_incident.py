"""The incident's machine: nothing responds while something still runs, nothing is contained unverified."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from factory.law.files import proposed
from factory.lifecycle.incident import IncidentFacts, move
from factory.lifecycle.machine import Permit, Refusal

NOW = datetime(2026, 3, 9, 8, 0, tzinfo=UTC)
GD, SD, SZ, JL = (proposed(code) for code in ("GD", "SD", "SZ", "JL"))
GOOD = IncidentFacts(
    now=NOW,
    profile=SD,
    what="a product's output was found outside",
    plan_sha256="aa",
    affected=frozenset({"grant/g-1"}),
    stopped=frozenset({"grant/g-1"}),
    evidence_sha256="bb",
    measures=frozenset({"revoke g-1"}),
    verified=frozenset({"revoke g-1"}),
    notified=frozenset({"data_administration"}),
    cause="a key was shared",
    fix="the key is revoked",
    prevention="keys are bound to a certificate",
    reason="because",
)
WAY = [
    ("suspect", "none", "node", "suspected"),
    ("confirm", "suspected", "operator", "confirmed"),
    ("dismiss", "suspected", "data_administration", "dismissed"),
    ("start", "none", "operator", "responding"),
    ("respond", "confirmed", "operator", "responding"),
    ("notify", "responding", "operator", "responding"),
    ("contain", "responding", "operator", "contained"),
    ("notify", "contained", "operator", "contained"),
    ("eradicate", "contained", "operator", "eradicated"),
    ("notify", "eradicated", "operator", "eradicated"),
    ("report", "eradicated", "operator", "reported"),
    ("review", "reported", "operator", "reviewed"),
    ("close", "reviewed", "data_administration", "closed"),
]


@pytest.mark.parametrize(("act", "state", "role", "target"), WAY)
def test_the_way(act, state, role, target):
    found = move(act, state=state, role=role, facts=GOOD)
    assert isinstance(found, Permit), found
    assert found.target == target
    assert found.clauses


@pytest.mark.parametrize(
    ("act", "change", "code"),
    [
        ("suspect", {"what": " "}, "incident.what"),
        ("confirm", {"reason": ""}, "incident.reason"),
        ("dismiss", {"reason": ""}, "incident.reason"),
        *((act, {"plan_sha256": ""}, "incident.plan") for act in ("start", "respond")),
        *((act, {"stopped": frozenset()}, "incident.running") for act in ("start", "respond")),
        *((act, {"evidence_sha256": ""}, "incident.evidence") for act in ("start", "respond")),
        ("start", {"what": ""}, "incident.what"),
        ("notify", {"notified": frozenset({"operator"})}, "incident.notice"),
        ("contain", {"measures": frozenset()}, "incident.measures"),
        ("contain", {"verified": frozenset()}, "incident.unverified"),
        ("eradicate", {"reason": ""}, "incident.reason"),
        ("report", {"notified": frozenset()}, "incident.notice"),
        ("report", {"touches_persons": True}, "incident.persons"),
        *(("review", {name: " "}, "incident.review") for name in ("cause", "fix", "prevention")),
        ("close", {"reason": ""}, "incident.reason"),
    ],
)
def test_a_guard_refuses_and_cites(act, change, code):
    _, state, role, _ = next(step for step in WAY if step[0] == act)
    found = move(act, state=state, role=role, facts=replace(GOOD, **change))
    assert isinstance(found, Refusal)
    assert found.code == code
    assert found.clauses


@pytest.mark.parametrize("state", ["responding", "contained", "eradicated"])
def test_a_notice_goes_to_a_body_that_the_profile_names(state):
    nobody = replace(GOOD, notified=frozenset({"operator"}))
    assert isinstance(move("notify", state=state, role="operator", facts=nobody), Refusal)
    assert move("notify", state=state, role="operator", facts=GOOD).target == state


def test_an_incident_with_a_decision_on_persons_is_reported():
    decided = replace(GOOD, touches_persons=True, persons_decision="informed by letter")
    assert isinstance(move("report", state="eradicated", role="operator", facts=decided), Permit)


def test_a_suspicion_suffices_where_possible_harm_to_persons_counts():
    for profile, touches, kind in ((SZ, True, Permit), (SZ, False, Refusal), (SD, True, Refusal)):
        facts = replace(GOOD, profile=profile, touches_persons=touches)
        found = move("respond", state="suspected", role="operator", facts=facts)
        assert isinstance(found, kind)
        if isinstance(found, Permit):
            assert found.target == "responding"
        if isinstance(found, Refusal):
            assert found.code == "incident.unconfirmed"
    running = replace(GOOD, profile=SZ, touches_persons=True, stopped=frozenset())
    assert isinstance(move("respond", state="suspected", role="operator", facts=running), Refusal)


@pytest.mark.parametrize(
    ("profile", "bodies"),
    [
        (SD, {"data_administration"}),
        (JL, {"agency", "competent_departments"}),
        (SZ, {"data_administration", "cyberspace_office", "public_security"}),
    ],
)
def test_each_body_that_the_profile_names_is_notified(profile, bodies):
    told = replace(GOOD, profile=profile, notified=frozenset(bodies))
    assert isinstance(move("report", state="eradicated", role="operator", facts=told), Permit)
    for body in bodies:
        fewer = replace(told, notified=frozenset(bodies - {body}))
        found = move("report", state="eradicated", role="operator", facts=fewer)
        assert isinstance(found, Refusal)
        assert body in found.message


def test_in_shandong_the_agency_is_the_data_administration():
    told = replace(GOOD, notified=frozenset({"agency"}))
    assert isinstance(move("report", state="eradicated", role="operator", facts=told), Permit)
    assert isinstance(move("notify", state="responding", role="operator", facts=told), Permit)
