"""The agreement's machine: each guard below, at and above its edge, under the profiles that differ."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from factory.law.files import proposed
from factory.law.limits import CHINA
from factory.lifecycle.agreement import ANNOUNCED, METHODS, AgreementFacts, move
from factory.lifecycle.machine import Permit, Refusal

NOW = datetime(2026, 3, 9, 8, 0, tzinfo=UTC)
START = datetime(2026, 3, 1, tzinfo=UTC)
END = datetime(2029, 3, 1, tzinfo=UTC)
GD, SD, SZ, JN, NATIONAL = (proposed(code) for code in ("GD", "SD", "SZ", "JN", "NATIONAL"))
GOOD = AgreementFacts(
    now=NOW,
    profile=GD,
    agency_organisation="data-bureau",
    operator_organisation="operator-ltd",
    plan_in_force=True,
    announced=dict.fromkeys(ANNOUNCED, "said"),
    window_until=NOW,
    operator_form="legal_person",
    conditions={"premises": date(2026, 1, 5)},
    credit_checked=date(2026, 1, 6),
    method="open_tender",
    candidates=1,
    publicity_since=datetime(2026, 3, 2, 9, tzinfo=CHINA),
    government_approval="aa",
    opinions="bb",
    finance_opinion="cc",
    collective_decision="dd",
    sections=15,
    resources=("res.a",),
    domain="the department's own network",
    not_before=START,
    not_after=END,
    signed_at=START,
    signers=frozenset({"agency", "operator"}),
    receipt="ee",
    assessment="ff",
    exit_ground="breach",
    reason="because",
)
WAY = [
    ("announce", "none", "agency", "announced"),
    ("close_window", "announced", "agency", "window_closed"),
    ("qualify", "window_closed", "agency", "qualified"),
    ("choose", "qualified", "agency", "candidate"),
    ("publicise", "candidate", "agency", "publicity"),
    ("clear", "publicity", "agency", "cleared"),
    ("sign", "cleared", "agency", "signed"),
    ("enter", "signed", "clock", "in_force"),
    ("record", "none", "agency", "in_force"),
    ("file", "in_force", "agency", "in_force"),
    ("file", "signed", "agency", "signed"),
    ("change", "in_force", "agency", "in_force"),
    ("ask_renewal", "in_force", "operator", "renewing"),
    ("renew", "renewing", "agency", "in_force"),
    ("decline", "renewing", "agency", "in_force"),
    ("end", "in_force", "agency", "ended"),
]


def answer(act, **change):
    _, state, role, _ = next(step for step in WAY if step[0] == act)
    return move(act, state=state, role=role, facts=replace(GOOD, **change))


@pytest.mark.parametrize(("act", "state", "role", "target"), WAY)
def test_the_way(act, state, role, target):
    found = move(act, state=state, role=role, facts=GOOD)
    assert isinstance(found, Permit), found
    assert (found.source, found.target) == (state, target)
    assert found.clauses


@pytest.mark.parametrize(
    ("act", "change", "code"),
    [
        ("announce", {"plan_in_force": False}, "agreement.plan"),
        *(("announce", {"announced": {**GOOD.announced, word: " "}}, "agreement.announcement") for word in ANNOUNCED),
        ("close_window", {"window_until": NOW + timedelta(seconds=1)}, "agreement.window"),
        ("close_window", {"window_until": None}, "agreement.window"),
        ("qualify", {"operator_form": "unincorporated"}, "agreement.operator_form"),
        ("qualify", {"operator_form": ""}, "agreement.operator_form"),
        ("qualify", {"conditions": {}}, "agreement.conditions"),
        ("qualify", {"conditions": {"premises": date(2026, 1, 5), "team": None}}, "agreement.conditions"),
        ("qualify", {"credit_checked": None}, "agreement.credit"),
        ("choose", {"method": "appointment"}, "agreement.method"),
        ("choose", {"candidates": 0}, "agreement.candidates"),
        ("clear", {"publicity_since": None}, "agreement.publicity"),
        ("clear", {"open_objections": 1}, "agreement.objection"),
        ("sign", {"opinions": ""}, "agreement.opinions"),
        ("sign", {"collective_decision": ""}, "agreement.decision"),
        ("sign", {"sections": 12}, "agreement.sections"),
        ("sign", {"operator_organisation": "data-bureau"}, "agreement.apart"),
        ("sign", {"operator_organisation": ""}, "agreement.apart"),
        ("sign", {"resources": ()}, "agreement.scope"),
        ("sign", {"domain": " "}, "agreement.domain"),
        ("sign", {"signers": frozenset({"agency"})}, "agreement.signatures"),
        ("sign", {"signers": frozenset({"operator"})}, "agreement.signatures"),
        ("sign", {"not_before": None}, "agreement.term"),
        ("sign", {"not_after": None}, "agreement.term"),
        ("sign", {"not_after": START}, "agreement.term"),
        ("enter", {"not_before": NOW + timedelta(seconds=1)}, "agreement.early"),
        ("enter", {"not_before": None}, "agreement.early"),
        ("enter", {"not_after": NOW}, "agreement.over"),
        ("record", {"not_after": NOW}, "agreement.over"),
        ("record", {"resources": ()}, "agreement.scope"),
        ("record", {"domain": ""}, "agreement.domain"),
        ("record", {"operator_organisation": "data-bureau"}, "agreement.apart"),
        ("file", {"receipt": ""}, "agreement.receipt"),
        *(
            (act, {name: value}, code)
            for act in ("change", "renew")
            for name, value, code in (
                ("resources", (), "agreement.scope"),
                ("domain", "", "agreement.domain"),
                ("operator_organisation", "data-bureau", "agreement.apart"),
                ("not_after", END.replace(year=2040), "agreement.term"),
            )
        ),
        ("change", {"reason": " "}, "agreement.reason"),
        ("change", {"signers": frozenset()}, "agreement.signatures"),
        ("change", {"opinions": ""}, "agreement.opinions"),
        ("change", {"not_after": NOW}, "agreement.over"),
        ("ask_renewal", {"not_after": NOW}, "agreement.over"),
        ("ask_renewal", {"not_after": None}, "agreement.over"),
        ("renew", {"assessment": ""}, "agreement.assessment"),
        ("renew", {"signers": frozenset()}, "agreement.signatures"),
        ("renew", {"not_after": NOW}, "agreement.over"),
        ("decline", {"assessment": ""}, "agreement.assessment"),
        ("decline", {"reason": ""}, "agreement.reason"),
        ("end", {"exit_ground": ""}, "agreement.ground"),
        ("end", {"exit_ground": "prohibited"}, "agreement.ground"),
        ("end", {"reason": ""}, "agreement.reason"),
    ],
)
def test_a_guard_refuses_and_cites(act, change, code):
    found = answer(act, **change)
    assert isinstance(found, Refusal)
    assert found.code == code
    assert found.clauses
    assert found.message


def test_a_filing_has_a_receipt_in_each_state():
    for state in ("signed", "in_force"):
        without = move("file", state=state, role="agency", facts=replace(GOOD, receipt=""))
        assert isinstance(without, Refusal)
        assert move("file", state=state, role="agency", facts=GOOD).target == state


def test_a_term_may_start_and_be_entered_at_this_very_moment():
    assert isinstance(answer("enter", not_before=NOW), Permit)


def test_a_refusal_names_what_came():
    assert "nothing" in answer("qualify", operator_form="").message
    assert "unincorporated" in answer("qualify", operator_form="unincorporated").message
    assert "all of them" in answer("qualify", conditions={}).message
    assert "team" in answer("qualify", conditions={"team": None}).message


@pytest.mark.parametrize("method", METHODS)
def test_each_competitive_method_is_taken(method):
    assert isinstance(answer("choose", method=method), Permit)


@pytest.mark.requirement("AGR-TERM")
@pytest.mark.parametrize(("profile", "years"), [(GD, 5), (SZ, 3), (NATIONAL, 5)], ids=["GD", "SZ", "NATIONAL"])
def test_the_longest_term_is_the_profiles(profile, years):
    longest = START.replace(year=START.year + years)
    for act in ("record", "sign"):
        at_the_limit = answer(act, profile=profile, not_after=longest)
        assert isinstance(at_the_limit, Permit)
        above = answer(act, profile=profile, not_after=longest + timedelta(seconds=1))
        assert isinstance(above, Refusal)
        assert above.code == "agreement.term"
        assert "AGR-TERM" in above.clauses


def test_in_shuozhou_the_term_counts_from_the_signature():
    early = START - timedelta(days=30)
    longest = START.replace(year=2029)
    assert isinstance(answer("sign", profile=SZ, signed_at=early, not_after=longest), Refusal)
    assert isinstance(answer("sign", profile=SZ, signed_at=early, not_after=longest - timedelta(days=31)), Permit)
    assert isinstance(answer("sign", profile=GD, signed_at=early, not_after=START.replace(year=2031)), Permit)


def test_publicity_in_guangdong_lasts_five_calendar_days():
    since = datetime(2026, 3, 2, 9, tzinfo=CHINA)
    over = datetime(2026, 3, 8, 0, 0, tzinfo=CHINA)
    assert isinstance(answer("clear", publicity_since=since, now=over), Permit)
    assert isinstance(answer("clear", publicity_since=since, now=over - timedelta(seconds=1)), Refusal)


def test_the_look_back_is_shandongs_and_shuozhous():
    incident = date(2023, 3, 9)
    assert isinstance(answer("qualify", profile=GD, last_incident=date(2026, 3, 1)), Permit)
    for profile in (SD, SZ):
        assert isinstance(answer("qualify", profile=profile, last_incident=None), Permit)
        assert isinstance(answer("qualify", profile=profile, last_incident=incident), Permit)
        found = answer("qualify", profile=profile, last_incident=incident + timedelta(days=1))
        assert isinstance(found, Refusal)
        assert found.code == "agreement.incident"


def test_jining_takes_an_unincorporated_operator_and_eight_sections():
    assert isinstance(answer("qualify", profile=JN, operator_form="unincorporated"), Permit)
    assert isinstance(answer("sign", profile=JN, sections=8), Permit)
    assert isinstance(answer("sign", profile=JN, sections=7), Refusal)
    assert isinstance(answer("sign", profile=SD, sections=14), Refusal)


def test_shuozhou_has_one_operator_whom_its_government_approves():
    assert isinstance(answer("choose", profile=SZ), Permit)
    for change in ({"candidates": 2}, {"other_operators": 1}):
        found = answer("choose", profile=SZ, **change)
        assert isinstance(found, Refusal)
        assert found.code == "agreement.one_operator"
        assert isinstance(answer("choose", profile=GD, **change), Permit)
    assert isinstance(answer("publicise", profile=SZ, government_approval=""), Refusal)
    assert isinstance(answer("publicise", profile=GD, government_approval=""), Permit)


def test_shandong_asks_the_finance_authority_where_revenue_is_shared():
    found = answer("sign", profile=SD, finance_opinion="")
    assert isinstance(found, Refusal)
    assert found.code == "agreement.finance"
    assert isinstance(answer("sign", profile=SD, finance_opinion="", shares_revenue=False), Permit)
    assert isinstance(answer("sign", profile=GD, finance_opinion=""), Permit)


def test_shuozhou_files_a_renewal_three_to_six_months_before_the_end():
    end = datetime(2026, 12, 31, 12, tzinfo=CHINA)

    def asked(day):
        now = datetime(day.year, day.month, day.day, 12, tzinfo=CHINA)
        return answer("ask_renewal", profile=SZ, not_after=end, now=now)

    assert isinstance(asked(date(2026, 6, 30)), Permit)
    assert isinstance(asked(date(2026, 6, 29)), Refusal)
    assert isinstance(asked(date(2026, 9, 30)), Permit)
    assert isinstance(asked(date(2026, 10, 1)), Refusal)
    assert isinstance(answer("ask_renewal", profile=GD, not_after=end), Permit)


@pytest.mark.requirement("AGR-TERM")
def test_the_clock_ends_an_agreement_at_its_end_and_not_before():
    for state in ("signed", "in_force", "renewing"):
        over = replace(GOOD, now=END)
        assert isinstance(move("expire", state=state, role="clock", facts=over), Permit)
        assert isinstance(move("expire", state=state, role="agency", facts=over), Refusal)
        running = move("expire", state=state, role="clock", facts=replace(GOOD, now=END - timedelta(seconds=1)))
        assert isinstance(running, Refusal)
        assert running.code == "agreement.running"
    assert isinstance(move("expire", state="in_force", role="clock", facts=replace(GOOD, not_after=None)), Refusal)
