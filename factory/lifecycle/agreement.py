"""Selection of the operator and the agreement (授权协议) as a state machine. Pure.

``announced → window_closed → qualified → candidate → publicity → cleared → signed → in_force →
renewing | expired | ended``. An agreement that was made outside the platform is *recorded*: only
what limits the grants under it is checked. Filing and disclosure run beside it as clocks; no text
makes them a condition of validity.

Source:
    regulations/LIFECYCLE.md section 3; the profile names term, publicity, look-back and approvals.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime

from factory.law.limits import add_months, add_years, day_of, passing
from factory.law.profile import Profile
from factory.lifecycle.machine import Permit, Refusal, Transition, decide

ANNOUNCE = ("ANN-PUBLISH", "SD-13-1", "JN-10-1", "SZ-06.1-3", "GD-20-2")
BASIS = ("SEL-BASIS", "SD-13-3", "JL-运营协议签订-1")
WINDOW = ("APP-WINDOW", "SD-13-2", "JN-11-1", "GD-20-3")
LEGAL = ("OP-LEGAL", "SD-14-1", "JN-04-2", "JL-总则-6", "SZ-01-6", "GD-21-1")
CREDIT = ("OP-CREDIT", "SD-14-2", "JL-运营协议签订-12", "SZ-04-2", "GD-21-2")
CONDITIONS = ("OP-COND", "SD-14-3", "JL-运营协议签订-13", "SZ-04-1", "GD-21-3")
LOOKBACK = ("OP-NOINC", "SD-14-6", "SZ-04-3")
METHOD = ("SEL-METHOD", "SD-13-4", "JL-运营协议签订-2", "SZ-05-3", "GD-20-1")
ONE = ("SEL-ONE", "SZ-05-4")
APPROVE = ("SEL-APPROVE", "SZ-06.1-7")
PUBLICITY = ("PUB-RESULT", "SD-13-5", "JL-运营协议签订-3", "SZ-06.1-8", "GD-20-6")
OBJECTION = ("PUB-OBJECT", "SD-13-6", "JL-运营协议签订-4")
CONSULT = ("AGR-CONSULT", "SD-15-3", "JL-运营协议签订-6", "GD-20-9")
FINANCE = ("AGR-FINOP", "SD-15-4")
DELIBERATE = ("AGR-DELIB", "SD-13-7", "JL-运营协议签订-7", "GD-20-7")
SIGN = ("AGR-SIGN", "JL-运营协议签订-5", "SZ-05-5", "GD-20-8")
CONTENT = ("AGR-CONTENT", "SD-15-1", "JN-13-3")
SCOPE = ("AGR-SCOPE", "SD-15-2", "JL-运营协议签订-20", "GD-22-1")
TERM = ("AGR-TERM", "JL-运营协议签订-21", "SZ-05-6", "SZ-08-1", "GD-22-2", "NO-14-1")
APART = ("ROLE", "SD-03-1", "JN-04-1", "JL-总则-5", "SZ-01-4", "GD-04-3")
DOMAIN = ("RAW-CONTAIN", "JL-总则-10", "SZ-06.2-5", "D-1")
FILE = ("AGR-FILE", "JL-运营协议签订-8", "GD-23-1")
CHANGE = ("AGR-CHGFILE", "GD-23-3")
RENEW = ("AGR-RENEW", "SZ-08-2")
ASSESSED = ("ASSESS-USE", "SD-35-2", "JL-运营管理-9", "SZ-08-3", "GD-38-5")
END = ("EXIT-END", "JL-运营管理-43", "GD-39-1")
GROUND = ("EXIT-TRIGGER", "SD-27-1", "JL-运营管理-37", "GD-39-2")

METHODS = ("open_tender", "invited_tender", "negotiation")
"""Competitive methods (SD-13-4, JL-运营协议签订-2, GD-20-1)."""

ANNOUNCED = ("scope", "conditions", "criteria", "method", "window")
"""What an announcement says; the longest list of the five texts."""


@dataclass(frozen=True, slots=True)
class AgreementFacts:
    """What the guards look at.

    Attributes:
        now: clock.
        profile: of the jurisdiction.
        agency_organisation, operator_organisation: the two sides.
        plan_in_force: the plan that the selection rests on is in force.
        announced: what the announcement says, text per word of ``ANNOUNCED``.
        window_until: end of the announced window.
        operator_form: ``legal_person`` or ``unincorporated``.
        conditions: day of the evidence per condition; None for one that is not met.
        credit_checked: day on which the credit lists were looked up clean, if they were.
        last_incident: day of the last qualifying incident or violation, if there was one.
        method: of the selection.
        candidates: how many were chosen.
        other_operators: operators with an agreement in force in the jurisdiction.
        government_approval: digest of the government's approval, if there is one.
        publicity_since: start of the publicity.
        open_objections: objections without a decision.
        opinions: digest of the record of opinions sought on the terms.
        shares_revenue: the terms touch revenue.
        finance_opinion: digest of the finance authority's opinion.
        collective_decision: digest of the agency's collective decision.
        sections: agreed sections that are filled.
        resources: catalogue ids in scope.
        domain: what "domain" means in this agreement, where rows stay.
        not_before, not_after, signed_at: term and signature.
        signers: sides whose signatures verified.
        receipt: digest of a filing receipt.
        assessment: digest of the assessment that a renewal or decision cites.
        exit_ground: kind of ground that was confirmed.
        reason: of who acts.
    """

    now: datetime
    profile: Profile
    agency_organisation: str = ""
    operator_organisation: str = ""
    plan_in_force: bool = False
    announced: Mapping[str, str] = field(default_factory=dict)
    window_until: datetime | None = None
    operator_form: str = ""
    conditions: Mapping[str, date | None] = field(default_factory=dict)
    credit_checked: date | None = None
    last_incident: date | None = None
    method: str = ""
    candidates: int = 0
    other_operators: int = 0
    government_approval: str = ""
    publicity_since: datetime | None = None
    open_objections: int = 0
    opinions: str = ""
    shares_revenue: bool = True
    finance_opinion: str = ""
    collective_decision: str = ""
    sections: int = 0
    resources: tuple[str, ...] = ()
    domain: str = ""
    not_before: datetime | None = None
    not_after: datetime | None = None
    signed_at: datetime | None = None
    signers: frozenset[str] = frozenset()
    receipt: str = ""
    assessment: str = ""
    exit_ground: str = ""
    reason: str = ""


def _plan_in_force(facts: AgreementFacts) -> Refusal | None:
    return None if facts.plan_in_force else Refusal("agreement.plan", "expected a plan in force", BASIS)


def _announcement_complete(facts: AgreementFacts) -> Refusal | None:
    missing = [word for word in ANNOUNCED if not facts.announced.get(word, "").strip()]
    if missing:
        return Refusal("agreement.announcement", f"expected {', '.join(missing)} in the announcement", ANNOUNCE)
    return None


def _window_is_over(facts: AgreementFacts) -> Refusal | None:
    if facts.window_until is None or facts.now < facts.window_until:
        return Refusal("agreement.window", "expected the announced window to be over", WINDOW)
    return None


def _form_permitted(facts: AgreementFacts) -> Refusal | None:
    forms = facts.profile.agreement.operator_forms
    if facts.operator_form not in forms:
        return Refusal(
            "agreement.operator_form", f"expected {' or '.join(forms)}, got {facts.operator_form or 'nothing'}", LEGAL
        )
    return None


def _conditions_met(facts: AgreementFacts) -> Refusal | None:
    missing = sorted(name for name, day in facts.conditions.items() if day is None)
    if missing or not facts.conditions:
        told = ", ".join(missing) or "all of them"
        return Refusal(
            "agreement.conditions", f"expected dated evidence of each condition; without: {told}", CONDITIONS
        )
    if facts.credit_checked is None:
        return Refusal("agreement.credit", "expected a dated look-up of the credit lists", CREDIT)
    return None


def _no_incident(facts: AgreementFacts) -> Refusal | None:
    years = facts.profile.agreement.lookback_years
    if years and facts.last_incident is not None:
        clean_from = add_months(facts.last_incident, 12 * years)
        if day_of(facts.now) < clean_from:
            return Refusal(
                "agreement.incident",
                f"expected {years} years without a qualifying incident: from {clean_from}",
                LOOKBACK,
            )
    return None


def _competitive(facts: AgreementFacts) -> Refusal | None:
    if facts.method not in METHODS:
        return Refusal("agreement.method", f"expected one of {', '.join(METHODS)}", METHOD)
    return None


def _one_operator(facts: AgreementFacts) -> Refusal | None:
    if facts.candidates < 1:
        return Refusal("agreement.candidates", "expected a candidate", METHOD)
    if facts.profile.agreement.one_operator and (facts.candidates != 1 or facts.other_operators > 0):
        return Refusal("agreement.one_operator", "expected exactly one operator in this jurisdiction", ONE)
    return None


def _government_approved(facts: AgreementFacts) -> Refusal | None:
    if facts.profile.agreement.government_approves and not facts.government_approval:
        return Refusal("agreement.approval", "expected the government's approval of the result first", APPROVE)
    return None


def _publicity_over(facts: AgreementFacts) -> Refusal | None:
    if facts.publicity_since is None:
        return Refusal("agreement.publicity", "expected a publicity of the result", PUBLICITY)
    end = passing(facts.profile.agreement.publicity, facts.publicity_since)
    if facts.now < end.at:
        return Refusal("agreement.publicity", f"publicity lasts to the end of {end.last_day}", PUBLICITY)
    return None


def _no_open_objection(facts: AgreementFacts) -> Refusal | None:
    if facts.open_objections:
        return Refusal("agreement.objection", f"expected no open objection, got {facts.open_objections}", OBJECTION)
    return None


def _sides_apart(facts: AgreementFacts) -> Refusal | None:
    if not facts.operator_organisation or facts.operator_organisation == facts.agency_organisation:
        return Refusal("agreement.apart", "expected an operator that is not the agency", APART)
    return None


def _opinions_heard(facts: AgreementFacts) -> Refusal | None:
    if not facts.opinions:
        return Refusal("agreement.opinions", "expected a record of the opinions sought on the terms", CONSULT)
    if facts.profile.agreement.finance_opinion and facts.shares_revenue and not facts.finance_opinion:
        return Refusal("agreement.finance", "expected the finance authority's opinion on the revenue terms", FINANCE)
    if not facts.collective_decision:
        return Refusal("agreement.decision", "expected the agency's collective decision", DELIBERATE)
    return None


def _sections_filled(facts: AgreementFacts) -> Refusal | None:
    expected = facts.profile.agreement.sections
    if facts.sections < expected:
        return Refusal("agreement.sections", f"expected {expected} sections, got {facts.sections}", CONTENT)
    return None


def _scope_listed(facts: AgreementFacts) -> Refusal | None:
    if not facts.resources:
        return Refusal("agreement.scope", "expected the catalogue ids in scope", SCOPE)
    return None


def _domain_said(facts: AgreementFacts) -> Refusal | None:
    if not facts.domain.strip():
        return Refusal("agreement.domain", "expected what the domain is in which rows stay", DOMAIN)
    return None


def _term_within_limit(facts: AgreementFacts) -> Refusal | None:
    if facts.not_before is None or facts.not_after is None or facts.not_after <= facts.not_before:
        return Refusal("agreement.term", "expected a term that ends after it starts", TERM)
    rules = facts.profile.agreement
    start = facts.not_before
    if rules.term_from == "signature" and facts.signed_at is not None:
        start = min(start, facts.signed_at)
    if facts.not_after > add_years(start, rules.term_max_years):
        return Refusal("agreement.term", f"expected at most {rules.term_max_years} years from {rules.term_from}", TERM)
    return None


def _both_signed(facts: AgreementFacts) -> Refusal | None:
    missing = sorted({"agency", "operator"} - facts.signers)
    return Refusal("agreement.signatures", f"expected the signature of {', '.join(missing)}", SIGN) if missing else None


def _term_started(facts: AgreementFacts) -> Refusal | None:
    if facts.not_before is None or facts.now < facts.not_before:
        return Refusal("agreement.early", "the term has not started", TERM)
    return None


def _term_over(facts: AgreementFacts) -> Refusal | None:
    if facts.not_after is None or facts.now < facts.not_after:
        return Refusal("agreement.running", "the term is not over", TERM)
    return None


def _term_running(facts: AgreementFacts) -> Refusal | None:
    if facts.not_after is None or facts.now >= facts.not_after:
        return Refusal("agreement.over", "the term is over; a new agreement has to be made", TERM)
    return None


def _in_renewal_window(facts: AgreementFacts) -> Refusal | None:
    rules = facts.profile.agreement
    if rules.renew_from_months and facts.not_after is not None:
        last = day_of(facts.not_after)
        opens, closes = add_months(last, -rules.renew_from_months), add_months(last, -rules.renew_until_months)
        if not opens <= day_of(facts.now) <= closes:
            return Refusal("agreement.renewal_window", f"renewal is filed between {opens} and {closes}", RENEW)
    return None


def _assessed(facts: AgreementFacts) -> Refusal | None:
    return None if facts.assessment else Refusal("agreement.assessment", "expected an assessment to cite", ASSESSED)


def _receipted(facts: AgreementFacts) -> Refusal | None:
    return None if facts.receipt else Refusal("agreement.receipt", "expected the receipt of the filing", FILE)


def _ground_of_the_profile(facts: AgreementFacts) -> Refusal | None:
    grounds = facts.profile.standing.exit_grounds
    if facts.exit_ground not in grounds:
        return Refusal("agreement.ground", f"expected a confirmed ground: {', '.join(grounds)}", GROUND)
    return None


def _reasoned(facts: AgreementFacts) -> Refusal | None:
    return None if facts.reason.strip() else Refusal("agreement.reason", "expected a reason", END)


def _words(*words: str) -> frozenset[str]:
    return frozenset(words)


_AGENCY = _words("agency", "authorising_unit", "data_administration")
_TERMS = (_sides_apart, _scope_listed, _domain_said, _term_within_limit)

TRANSITIONS: tuple[Transition[AgreementFacts], ...] = (
    Transition("announce", _words("none"), "announced", _AGENCY, (_plan_in_force, _announcement_complete), ANNOUNCE),
    Transition("close_window", _words("announced"), "window_closed", _AGENCY, (_window_is_over,), WINDOW),
    Transition(
        "qualify",
        _words("window_closed"),
        "qualified",
        _AGENCY,
        (_form_permitted, _conditions_met, _no_incident),
        CONDITIONS,
    ),
    Transition("choose", _words("qualified"), "candidate", _AGENCY, (_competitive, _one_operator), METHOD),
    Transition("publicise", _words("candidate"), "publicity", _AGENCY, (_government_approved,), PUBLICITY),
    Transition("clear", _words("publicity"), "cleared", _AGENCY, (_publicity_over, _no_open_objection), OBJECTION),
    Transition(
        "sign",
        _words("cleared"),
        "signed",
        _AGENCY,
        (_opinions_heard, _sections_filled, *_TERMS, _both_signed),
        SIGN,
    ),
    Transition("enter", _words("signed"), "in_force", _AGENCY | {"clock"}, (_term_started, _term_running), TERM),
    Transition("record", _words("none"), "in_force", _AGENCY, (*_TERMS, _term_running), SCOPE),
    Transition("file", _words("signed"), "signed", _AGENCY, (_receipted,), FILE),
    Transition("file", _words("in_force"), "in_force", _AGENCY, (_receipted,), FILE),
    Transition(
        "change",
        _words("in_force"),
        "in_force",
        _AGENCY,
        (_term_running, _opinions_heard, *_TERMS, _both_signed, _reasoned),
        CHANGE,
    ),
    Transition(
        "ask_renewal", _words("in_force"), "renewing", _words("operator"), (_term_running, _in_renewal_window), RENEW
    ),
    Transition(
        "renew", _words("renewing"), "in_force", _AGENCY, (_term_running, _assessed, *_TERMS, _both_signed), RENEW
    ),
    Transition("decline", _words("renewing"), "in_force", _AGENCY, (_assessed, _reasoned), ASSESSED),
    Transition("expire", _words("signed", "in_force", "renewing"), "expired", _words("clock"), (_term_over,), TERM),
    Transition("end", _words("in_force", "renewing"), "ended", _AGENCY, (_ground_of_the_profile, _reasoned), END),
)
"""The machine. The role ``clock`` is the platform's own clock: it ends terms, it approves nothing."""


def move(act: str, *, state: str, role: str, facts: AgreementFacts) -> Permit | Refusal:
    """Say whether ``act`` may happen to an agreement in ``state``."""
    return decide(TRANSITIONS, act, name="agreement", state=state, role=role, facts=facts)
