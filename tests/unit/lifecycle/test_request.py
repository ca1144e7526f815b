"""The request's machine: what submits, who approves, and what the profiles change."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from factory.law.files import proposed
from factory.lifecycle.machine import Permit, Refusal
from factory.lifecycle.request import (
    Cut,
    RequestFacts,
    Ruling,
    all_cuts,
    granted_parties,
    make_grant,
    move,
    waiting_for,
)
from factory.lifecycle.resource import Listed
from factory.registry.request import read_agreement, read_request
from nodes.catalogue_entries import parse_entry
from nodes.contract.catalogue import EntryExtract
from tests import request_texts
from tests.town import entry_document

NOW = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
AGREEMENT = read_agreement(request_texts.AGREEMENT)
REQUEST = read_request(request_texts.request_text(), operator="operator", now=NOW)
FINDINGS = {"reasonable": "yes", "compliant": "yes", "secure": "yes"}
RULING = Ruling("official", "data-bureau", True, FINDINGS, "needed")


def listed(name):
    document = parse_entry(entry_document(f"res.{name}.clinic", f"dept-{name}"), source="t").public_extract()
    return Listed("active", EntryExtract.model_validate(document))


GOOD = RequestFacts(
    request=REQUEST,
    agreement=AGREEMENT,
    now=NOW,
    profile=proposed("GD"),
    operator_organisation="operator-ltd",
    ruling=RULING,
    grant_signers=frozenset({"registrar-1", "registrar-2"}),
    catalogue={f"res.{name}.clinic": listed(name) for name in ("east", "west", "north")},
)
ROLES = {
    "propose": ("draft", "developer"), "submit": ("draft", "operator"), "endorse": ("submitted", "agency"),
    "approve": ("submitted", "agency"), "reject": ("submitted", "agency"), "issue": ("approved", "registrar"),
    "suspend": ("granted", "agency"), "restore": ("suspended", "registrar"), "revoke": ("granted", "agency"),
}  # fmt: skip


def answer(act, code="GD", **change):
    state, role = ROLES[act]
    return move(act, state=state, role=role, facts=replace(GOOD, profile=proposed(code), **change))


def asked(**change):
    return {"request": REQUEST.model_copy(update=change)}


def ruled(**change):
    return {"ruling": replace(RULING, **change)}


@pytest.mark.parametrize(
    ("act", "target"),
    [
        ("submit", "submitted"),
        ("approve", "approved"),
        ("reject", "rejected"),
        ("issue", "granted"),
        ("suspend", "suspended"),
        ("restore", "granted"),
        ("revoke", "revoked"),
    ],
)
def test_the_way(act, target):
    found = answer(act)
    assert isinstance(found, Permit), found
    assert found.target == target


def at(moment):
    return {"now": moment}


@pytest.mark.parametrize(
    ("act", "change", "code"),
    [
        ("submit", {"agreement": None}, "request.agreement"),
        ("submit", asked(operator="another"), "request.agreement"),
        ("submit", at(AGREEMENT.not_before - timedelta(seconds=1)), "request.agreement_expired"),
        ("submit", at(AGREEMENT.not_after), "request.agreement_expired"),
        ("submit", asked(product_form="index"), "request.form"),
        ("submit", asked(not_before=AGREEMENT.not_before - timedelta(seconds=1)), "request.term"),
        ("submit", asked(not_after=AGREEMENT.not_after + timedelta(seconds=1)), "request.term"),
        ("submit", asked(not_after=REQUEST.not_before), "request.term"),
        ("submit", asked(not_before=NOW - timedelta(days=2), not_after=NOW), "request.term"),
        ("submit", asked(need=" "), "request.scenario"),
        ("submit", asked(value=""), "request.scenario"),
        ("submit", asked(goals=()), "request.goals"),
        ("submit", {"open_scenarios": frozenset({"clinic-risk"})}, "request.scenario_open"),
        ("submit", {"catalogue": {}}, "catalogue.miss"),
        ("approve", {"ruling": None}, "request.own_ruling"),
        ("approve", ruled(organisation="operator-ltd"), "request.own_ruling"),
        ("approve", ruled(body="sector_authority"), "request.body"),
        *(("approve", ruled(findings={**FINDINGS, name: " "}), "request.findings") for name in FINDINGS),
        ("approve", ruled(reason=" "), "request.reason"),
        ("approve", {"agreement": None}, "request.agreement"),
        ("approve", ruled(cuts=(Cut("res.east.clinic", "height", "no"),)), "request.cut"),
        ("approve", ruled(cuts=(Cut("res.east.clinic", "age", " "),)), "request.cut"),
        (
            "approve",
            ruled(
                cuts=tuple(
                    Cut(f"res.{n}.clinic", c, "no") for n in ("east", "west", "north") for c in ("age", "target")
                )
            ),
            "request.empty",
        ),
        ("approve", ruled(thresholds=REQUEST.thresholds.model_copy(update={"rows_min": 29})), "request.thresholds"),
        ("approve", ruled(uses_max=0), "request.uses"),
        ("approve", ruled(uses_max=5), "request.uses"),
        ("approve", {"catalogue": {}}, "catalogue.miss"),
        ("reject", ruled(reason=""), "request.reason"),
        ("reject", ruled(organisation="operator-ltd"), "request.own_ruling"),
        ("reject", ruled(body="sector_authority"), "request.body"),
        ("reject", {"ruling": None}, "request.own_ruling"),
        ("issue", {"grant_signers": frozenset({"registrar-1"})}, "request.signatures"),
        ("endorse", {}, "request.last_approval"),
    ],
)
def test_a_guard_refuses_and_cites(act, change, code):
    found = answer(act, **change)
    assert isinstance(found, Refusal)
    assert found.code == code
    assert found.clauses


def test_edges_are_inside():
    whole = asked(not_before=AGREEMENT.not_before, not_after=AGREEMENT.not_after)
    assert isinstance(answer("submit", **whole), Permit)
    assert isinstance(answer("submit", now=AGREEMENT.not_before), Permit)
    assert isinstance(answer("approve", **ruled(uses_max=4)), Permit)
    assert isinstance(answer("approve", **ruled(uses_max=1)), Permit)
    assert isinstance(answer("approve", **ruled(thresholds=REQUEST.thresholds)), Permit)
    assert isinstance(
        answer("approve", **ruled(thresholds=REQUEST.thresholds.model_copy(update={"rows_min": 31}))), Permit
    )


def test_something_has_to_be_justified():
    bare = (
        request_texts.request_text().replace('age = "risk rises with age"', "").replace('target = "what is learnt"', "")
    )
    request = read_request(bare, operator="operator", now=NOW)
    assert answer("submit", request=request).code == "request.justification"


def test_outside_the_agreement_is_named():
    outside = AGREEMENT.model_copy(update={"resources": AGREEMENT.resources[:2]})
    found = answer("submit", agreement=outside)
    assert (found.code, "res.north.clinic" in found.message) == ("request.scope", True)


def test_shuozhou_hears_operator_data_administration_and_sector_authority_first():
    everybody = {"operator", "data_administration", "sector_authority"}
    assert isinstance(answer("submit", "SZ", argued=frozenset(everybody)), Permit)
    for body in everybody:
        found = answer("submit", "SZ", argued=frozenset(everybody - {body}))
        assert (found.code, body in found.message) == ("request.argued", True)


def test_developers_ask_in_shuozhou_alone():
    assert answer("propose", "SZ").target == "proposed"
    assert answer("propose", "SZ", **asked(need="")).code == "request.scenario"
    for code in ("SD", "JN", "JL", "GD", "NATIONAL"):
        assert answer("propose", code).code == "request.developer"
    told = replace(
        GOOD, profile=proposed("SZ"), argued=frozenset({"operator", "data_administration", "sector_authority"})
    )
    assert move("submit", state="proposed", role="operator", facts=told).target == "submitted"
    assert move("submit", state="proposed", role="developer", facts=told).code == "request.role"


@pytest.mark.parametrize(
    ("code", "first", "second"),
    [
        ("SD", "agency", "sector_authority"),  # the agency is the data administration there
        ("SD", "data_administration", "sector_authority"),
        ("SD", "sector_authority", "data_administration"),
        ("JN", "data_administration", "authorising_unit"),
        ("SZ", "data_administration", "sector_authority"),
    ],
)
def test_two_bodies_approve_where_the_profile_names_two(code, first, second):
    profile = proposed(code)
    alone = ruled(body=first)
    assert answer("approve", code, **alone).code == "request.approvals"
    assert answer("endorse", code, **alone).target == "submitted"
    assert waiting_for(replace(GOOD, profile=profile, **alone)) == {second}
    have = {"approvals": {profile.as_named(first): "data-bureau"}}
    assert answer("approve", code, **have, **alone).code == "request.approved_already"
    assert answer("approve", code, **have, **ruled(body=second)).code == "request.one_body"
    both = {**have, **ruled(body=second, organisation="health-commission")}
    assert answer("approve", code, **both).target == "approved"
    assert answer("endorse", code, **both).code == "request.last_approval"
    for text in ({"reason": " "}, {"findings": {}}):
        assert isinstance(answer("endorse", code, **ruled(body=first, **text)), Refusal)


def test_states_that_end_a_grant():
    for state in ("granted", "suspended", "approved"):
        assert move("revoke", state=state, role="registrar", facts=GOOD).target == "revoked"
    for act in ("restore", "suspend", "issue"):
        assert move(act, state="revoked", role="registrar", facts=GOOD).code == "request.state"


def test_what_was_not_justified_is_cut_and_what_is_cut_is_not_granted():
    cuts = all_cuts(REQUEST, (Cut("res.east.clinic", "age", "not needed"),))
    assert [(cut.resource, cut.column, cut.reason) for cut in cuts] == [
        ("res.east.clinic", "age", "not needed"),
        *((f"res.{name}.clinic", "name", "no justification") for name in ("east", "west", "north")),
    ]
    parties = granted_parties(REQUEST, cuts)
    assert [party.resources[0].columns for party in parties] == [("target",), ("age", "target"), ("age", "target")]
    everything = (*cuts, Cut("res.east.clinic", "target", "no"))
    assert [party.node for party in granted_parties(REQUEST, everything)] == ["node-west", "node-north"]


def test_a_grant_carries_what_the_ruling_tightened_and_else_what_was_asked():
    def made(**change):
        return make_grant(
            REQUEST,
            replace(RULING, **change),
            grant_id="g-1",
            request_sha256="ab" * 32,
            registrars=("r-1", "r-2"),
            now=NOW,
        )

    assert (made().uses_max, made().thresholds) == (REQUEST.uses_max, REQUEST.thresholds)
    tighter = REQUEST.thresholds.model_copy(update={"rows_min": 99})
    assert (made(uses_max=2).uses_max, made(thresholds=tighter).thresholds.rows_min) == (2, 99)


def test_a_cut_that_the_ruling_makes_is_not_looked_up_in_the_catalogue():
    gone = {name: value for name, value in GOOD.catalogue.items() if "east" not in name}
    cuts = tuple(Cut("res.east.clinic", column, "no") for column in ("age", "target"))
    assert answer("approve", catalogue=gone).code == "catalogue.miss"
    assert answer("approve", catalogue=gone, **ruled(cuts=cuts)).target == "approved"


def test_a_term_that_ends_as_it_starts_or_now_is_none():
    later = NOW + timedelta(days=1)
    assert answer("submit", **asked(not_before=later, not_after=later)).code == "request.term"
    assert isinstance(answer("submit", **asked(not_before=later, not_after=later + timedelta(seconds=1))), Permit)
