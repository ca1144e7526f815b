"""The product's machine: each guard refuses what it is there for, and cites the clause."""

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
    grant_until=NOW + timedelta(days=1),
    tests=3,
    reviewer_organisations={"reviewer-1": "university", "reviewer-2": "association"},
    involved_organisations=frozenset({"operator-ltd", "dept-east"}),
    prerelease_problems="",
    prerelease_receipts=NODES | {"agency"},
    registration_code="SF-2026-MD-00000001-XX",
    registration_until=NOW + timedelta(days=1),
    release_signers={
        "operator": frozenset({"operator"}),
        "node": NODES,
        "registrar": frozenset({"registrar-1", "registrar-2"}),
    },
    reason="because",
)
WAY = [
    ("build", "building", "operator", "built"),
    ("test", "built", "operator", "tested"),
    ("review", "tested", "reviewer", "reviewed"),
    ("report", "reviewed", "operator", "pre_release_reported"),
    ("register", "pre_release_reported", "agency", "registered"),
    ("release", "registered", "operator", "released"),
    ("operate", "released", "operator", "operating"),
    ("suspend", "operating", "agency", "suspended"),
    ("restore", "suspended", "agency", "operating"),
    ("retire", "operating", "operator", "retired"),
]


@pytest.mark.parametrize(
    ("act", "change", "code"),
    [
        ("build", {"runs_signed": frozenset({"node-east"})}, "product.provenance"),
        ("build", {"departments": frozenset(), "runs_signed": frozenset()}, "product.provenance"),
        ("build", {"grant_until": NOW}, "product.grant"),
        ("build", {"grant_struck": True}, "product.grant"),
        ("test", {"tests": 0}, "product.untested"),
        ("test", {"test_failures": ("identifiers",)}, "product.test_failed"),
        ("review", {"reviewer_organisations": {"reviewer-1": "university"}}, "product.review"),
        ("review", {"reviewer_organisations": {"a": "university", "b": "university"}}, "product.review"),
        ("review", {"reviewer_organisations": {"a": "university", "b": "operator-ltd"}}, "product.review"),
        ("report", {"prerelease_problems": "accuracy is empty"}, "product.prerelease"),
        ("report", {"prerelease_receipts": NODES}, "product.receipt"),
        ("register", {"registration_code": ""}, "product.unregistered"),
        ("register", {"registration_until": NOW}, "product.registration_expired"),
        ("release", {"prerelease_receipts": frozenset({"agency", "node-east"})}, "product.receipt"),
        ("release", {"release_signers": {**GOOD.release_signers, "operator": frozenset()}}, "product.release"),
        ("release", {"release_signers": {**GOOD.release_signers, "node": frozenset({"node-east"})}}, "product.release"),
        ("release", {"release_signers": {**GOOD.release_signers, "registrar": frozenset({"r"})}}, "product.release"),
        ("operate", {"registration_until": NOW}, "product.registration_expired"),
        ("suspend", {"reason": " "}, "product.reason"),
        ("restore", {"grant_struck": True}, "product.grant"),
        ("retire", {"reason": ""}, "product.reason"),
    ],
)
def test_a_guard_refuses_and_cites(act, change, code):
    _, state, role, _ = next(step for step in WAY if step[0] == act)
    answer = move(act, state=state, role=role, facts=replace(GOOD, **change))
    assert isinstance(answer, Refusal)
    assert answer.code == code
    assert answer.clauses


@pytest.mark.parametrize(("act", "state", "role", "target"), WAY)
def test_the_whole_way_is_permitted(act, state, role, target):
    assert move(act, state=state, role=role, facts=GOOD).target == target


@pytest.mark.parametrize(("act", "state", "role", "target"), WAY)
def test_nobody_else_may_and_no_step_is_skipped(act, state, role, target):
    assert move(act, state=state, role="application_unit", facts=GOOD).code == "product.role"
    assert move(act, state="idea", role=role, facts=GOOD).code == "product.state"


def test_the_operator_does_not_lift_a_suspension():
    assert move("restore", state="suspended", role="operator", facts=GOOD).code == "product.role"


def test_a_returned_product_is_built_again():
    answer = move("return", state="tested", role="reviewer", facts=GOOD)
    assert answer == Permit("return", "tested", "building", ("PROD-REVIEW", "GD-26-1"))


def test_an_unknown_act_is_refused():
    assert move("sell", state="operating", role="operator", facts=GOOD).code == "product.act_unknown"
