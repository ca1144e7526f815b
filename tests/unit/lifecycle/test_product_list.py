"""The list of products: each guard, refused and held."""

from dataclasses import replace

import pytest

from factory.lifecycle.machine import Permit, Refusal, decide
from factory.lifecycle.product_list import TRANSITIONS, ListingFacts

GOOD = ListingFacts(
    entries=frozenset({"res.a", "res.b"}), usable=frozenset({"res.a", "res.b"}), demand="d-1",
    owners=frozenset({"org-a", "org-b"}), developers=frozenset({"org-dev"}),
    joined=frozenset({"org-a", "org-b", "org-dev"}), organisation="org-a", role="source_department", reason="r",
)  # fmt: skip
ACTS = {
    "draft": ("none", "operator", "drafted"), "join": ("drafted", "source_department", "drafted"),
    "file": ("drafted", "data_administration", "filed"), "strike": ("filed", "data_administration", "struck"),
}  # fmt: skip


def answer(act, *, state="", role="", **changes):
    usual_state, usual_role, _ = ACTS[act]
    acting = role or usual_role
    facts = replace(GOOD, role=acting, **changes)
    return decide(TRANSITIONS, act, name="listing", state=state or usual_state, role=acting, facts=facts)


@pytest.mark.parametrize("act", ACTS)
def test_with_everything_in_place_it_goes(act):
    found = answer(act)
    assert isinstance(found, Permit)
    assert found.target == ACTS[act][2]
    assert isinstance(answer("draft", state="struck"), Permit)
    assert isinstance(answer("strike", state="drafted"), Permit)


@pytest.mark.parametrize(
    ("act", "changes", "code"),
    [
        ("draft", {"entries": frozenset()}, "listing.entries"),
        ("draft", {"usable": frozenset({"res.a"})}, "listing.entries"),
        ("draft", {"demand": ""}, "listing.demand"),
        ("draft", {"developers": frozenset()}, "listing.developer"),
        ("draft", {"state": "filed"}, "listing.state"),
        ("join", {"organisation": "org-c"}, "listing.party"),
        ("join", {"organisation": "org-dev"}, "listing.party"),  # a developer is no source department
        ("join", {"role": "developer"}, "listing.party"),
        ("file", {"joined": frozenset({"org-a", "org-dev"})}, "listing.joined"),
        ("file", {"joined": frozenset({"org-a", "org-b"})}, "listing.joined"),
        ("file", {"usable": frozenset({"res.b"})}, "listing.entries"),
        ("file", {"state": "filed"}, "listing.state"),
        ("strike", {"reason": " "}, "listing.reason"),
        ("strike", {"role": "operator"}, "listing.role"),
    ],
)
def test_without_it_it_does_not(act, changes, code):
    found = answer(act, **changes)
    assert isinstance(found, Refusal)
    assert found.code == code
    assert "PROD-LIST" in found.clauses


def test_a_developer_joins_as_one():
    found = decide(
        TRANSITIONS, "join", name="listing", state="drafted", role="developer",
        facts=replace(GOOD, organisation="org-dev", role="developer"),
    )  # fmt: skip
    assert isinstance(found, Permit)
