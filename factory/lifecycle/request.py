"""Data request and grant as a state machine, and the cut to the least necessary list. Pure.

``draft → (proposed) → submitted → approved → granted | rejected``; ``granted → suspended ⇄ granted |
revoked``; a node ends a grant that is expired or used up by itself. One scenario, one list, one
ruling: a ruling states that the request is reasonable, compliant and secure, and what it cuts.
Where the profile names several bodies, each but the last *endorses* and the last one approves.

Source:
    regulations/LIFECYCLE.md section 4.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from factory.law.profile import Profile
from factory.lifecycle.machine import Permit, Refusal, Transition, decide
from factory.lifecycle.resource import Listed, use_refusal
from factory.registry.request import Agreement, DataRequest
from nodes.contract.grant import Budget, Grant, Party, Thresholds
from nodes.contract.messages import ResourceUse

FINDINGS = ("reasonable", "compliant", "secure")
"""The three findings of a ruling (GD-24-2)."""

SUBMIT = ("REQ-SUBMIT", "SD-17-1", "JN-14-1", "GD-24-1")
SCOPE = ("USE-SCOPE", "SD-19-1", "JN-05-8", "GD-25-4")
PLAN = ("REQ-PLAN", "SD-18-2")
SCENARIO = ("REQ-SCEN", "SD-18-1", "SZ-06.3-1")
LEAST = ("REQ-LEAST", "SD-18-3", "JL-运营管理-27", "SZ-06.3-4", "GD-24-4")
RULING = ("REQ-RULING", "GD-07-3", "GD-24-2")
ARGUE = ("REQ-ARGUE", "SZ-06.3-2")
DEVELOPER = ("REQ-DEV", "SZ-06.3-3")
DUTIES = ("REQ-DUAL", "SD-17-2", "JN-14-2")


@dataclass(frozen=True, slots=True)
class Cut:
    """One column that a ruling takes out of the list.

    Attributes:
        resource: catalogue id.
        column: of it.
        reason: why it is not necessary.
    """

    resource: str
    column: str
    reason: str


@dataclass(frozen=True, slots=True)
class Ruling:
    """What the agency decided on one request.

    Attributes:
        official: who decided, by name or office.
        organisation: of the official.
        approve: whether the list, less the cuts, is granted.
        findings: text per finding of ``FINDINGS``.
        reason: of the whole decision.
        cuts: columns taken out.
        thresholds: stricter limits than the request proposed, if any.
        uses_max: fewer sessions than asked for, if any.
        body: as which body of the profile the organisation rules.
    """

    official: str
    organisation: str
    approve: bool
    findings: Mapping[str, str]
    reason: str
    cuts: tuple[Cut, ...] = ()
    thresholds: Thresholds | None = None
    uses_max: int | None = None
    body: str = "agency"


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """What the guards look at.

    Attributes:
        request: the list.
        agreement: the agreement it cites, if the agency knows it.
        now: clock.
        profile: of the jurisdiction.
        operator_organisation: of who asks.
        open_scenarios: scenarios with a request that awaits a ruling.
        ruling: the decision, when one is to be recorded.
        grant_signers: registrars whose signatures on the grant verified.
        catalogue: the level's catalogue, of the resources asked for.
        approvals: organisation per body, as the profile names it, that has endorsed the request.
        argued: bodies that found the scenario compliant and necessary; ``operator`` for its screening.
    """

    request: DataRequest
    agreement: Agreement | None
    now: datetime
    profile: Profile
    operator_organisation: str
    open_scenarios: frozenset[str] = frozenset()
    ruling: Ruling | None = None
    grant_signers: frozenset[str] = field(default_factory=frozenset)
    catalogue: Mapping[str, Listed] = field(default_factory=dict)
    approvals: Mapping[str, str] = field(default_factory=dict)
    argued: frozenset[str] = frozenset()


def _agreement_in_force(facts: RequestFacts) -> Refusal | None:
    agreement = facts.agreement
    if agreement is None:
        return Refusal("request.agreement", f"expected an agreement {facts.request.agreement_id} at the agency", SUBMIT)
    if agreement.operator != facts.request.operator:
        return Refusal("request.agreement", "expected an agreement with this very operator", SUBMIT)
    if not agreement.not_before <= facts.now < agreement.not_after:
        return Refusal("request.agreement_expired", "expected an agreement that is in force now", SUBMIT)
    return None


def _inside_agreement(facts: RequestFacts) -> Refusal | None:
    if facts.agreement is None:
        return Refusal("request.agreement", "expected an agreement", SUBMIT)
    outside = sorted({ask.resource for _, ask in facts.request.asks()} - set(facts.agreement.resources))
    if outside:
        return Refusal(
            "request.scope", f"expected resources inside the agreement; outside: {', '.join(outside[:5])}", SCOPE
        )
    if facts.request.product_form not in facts.agreement.product_forms:
        return Refusal("request.form", f"the agreement allows no product form {facts.request.product_form}", SCOPE)
    return None


def _term_inside_agreement(facts: RequestFacts) -> Refusal | None:
    request, agreement = facts.request, facts.agreement
    if agreement is None or request.not_before < agreement.not_before or request.not_after > agreement.not_after:
        return Refusal("request.term", "expected a term inside the agreement's", PLAN)
    if request.not_after <= request.not_before or request.not_after <= facts.now:
        return Refusal("request.term", "expected a term that ends after it starts, and after now", PLAN)
    return None


def _scenario_stated(facts: RequestFacts) -> Refusal | None:
    for name in ("need", "value"):
        if not str(getattr(facts.request, name)).strip():
            return Refusal("request.scenario", f"expected the {name} of the scenario, it is empty", SCENARIO)
    if not facts.request.goals:
        return Refusal("request.goals", "expected at least one goal within the term", PLAN)
    return None


def _scenario_argued(facts: RequestFacts) -> Refusal | None:
    rules = facts.profile.request
    expected = {*rules.scenario_bodies, *(("operator",) if rules.operator_screens else ())}
    missing = sorted(expected - facts.argued)
    if missing:
        return Refusal("request.argued", f"expected a scenario argued before {', '.join(missing)}", ARGUE)
    return None


def _developers_may_ask(facts: RequestFacts) -> Refusal | None:
    if not facts.profile.request.developers_ask:
        return Refusal("request.developer", "only the operator asks for data in this jurisdiction", DEVELOPER)
    return None


def _something_justified(facts: RequestFacts) -> Refusal | None:
    for node, ask in facts.request.asks():
        if not any(item.is_justified for item in ask.fields):
            return Refusal(
                "request.justification",
                f"expected a justification per field; {node} {ask.resource} has none for {len(ask.fields)} columns",
                LEAST,
            )
    return None


def _catalogue_allows(facts: RequestFacts) -> Refusal | None:
    cuts = all_cuts(facts.request, facts.ruling.cuts if facts.ruling else ())
    limits = facts.ruling.thresholds if facts.ruling and facts.ruling.thresholds else facts.request.thresholds
    uses = [use for party in granted_parties(facts.request, cuts) for use in party.resources]
    return use_refusal(uses, facts.catalogue, tasks=facts.request.tasks, limits=limits, now=facts.now)


def _one_ruling_per_scenario(facts: RequestFacts) -> Refusal | None:
    if facts.request.scenario in facts.open_scenarios:
        return Refusal(
            "request.scenario_open", f"scenario {facts.request.scenario} already has a request that waits", RULING
        )
    return None


def _ruled_by_another_body(facts: RequestFacts) -> Refusal | None:
    if facts.ruling is None or facts.ruling.organisation == facts.operator_organisation:
        return Refusal("request.own_ruling", "expected a ruling by a body other than the operator's", DUTIES)
    return None


def _named_body(facts: RequestFacts) -> Refusal | None:
    approvers = facts.profile.request.approvers
    if facts.ruling is None or _ruling_body(facts) not in approvers:
        return Refusal("request.body", f"expected a ruling of {' and '.join(approvers)}", DUTIES)
    return None


def _one_approval_each(facts: RequestFacts) -> Refusal | None:
    ruling = facts.ruling
    if ruling is None:
        return Refusal("request.reason", "expected a ruling", DUTIES)
    if _ruling_body(facts) in facts.approvals:
        return Refusal("request.approved_already", f"{_ruling_body(facts)} has approved this request already", DUTIES)
    if ruling.organisation in facts.approvals.values():
        return Refusal("request.one_body", "expected approvals of different organisations", DUTIES)
    return None


def _others_approved(facts: RequestFacts) -> Refusal | None:
    missing = sorted(waiting_for(facts))
    if missing:
        return Refusal("request.approvals", f"expected the approval of {', '.join(missing)} as well", DUTIES)
    return None


def _others_missing(facts: RequestFacts) -> Refusal | None:
    if not waiting_for(facts):
        return Refusal("request.last_approval", "this is the last approval; approve instead", DUTIES)
    return None


def waiting_for(facts: RequestFacts) -> frozenset[str]:
    """Return the bodies that still have to approve after the ruling at hand."""
    return frozenset(facts.profile.request.approvers) - set(facts.approvals) - {_ruling_body(facts)}


def _ruling_body(facts: RequestFacts) -> str:
    return facts.profile.as_named(facts.ruling.body) if facts.ruling else ""


def _three_findings(facts: RequestFacts) -> Refusal | None:
    findings = facts.ruling.findings if facts.ruling else {}
    missing = [name for name in FINDINGS if not findings.get(name, "").strip()]
    if missing:
        return Refusal("request.findings", f"expected findings on {', '.join(missing)}", RULING)
    return None


def _a_reason(facts: RequestFacts) -> Refusal | None:
    if facts.ruling is None or not facts.ruling.reason.strip():
        return Refusal("request.reason", "expected the reason of the ruling", RULING)
    return None


def _cuts_fit(facts: RequestFacts) -> Refusal | None:
    ruling = facts.ruling
    if ruling is None:
        return Refusal("request.reason", "expected a ruling", RULING)
    asked = {(ask.resource, item.column) for _, ask in facts.request.asks() for item in ask.fields}
    for cut in ruling.cuts:
        if (cut.resource, cut.column) not in asked:
            return Refusal("request.cut", f"expected cuts among the columns asked for, not {cut.column}", LEAST)
        if not cut.reason.strip():
            return Refusal("request.cut", f"expected a reason for cutting {cut.column}", LEAST)
    if not granted_parties(facts.request, all_cuts(facts.request, ruling.cuts)):
        return Refusal("request.empty", "nothing is left of the list; reject it instead", LEAST)
    return None


def _limits_only_tighter(facts: RequestFacts) -> Refusal | None:
    ruling, asked = facts.ruling, facts.request.thresholds
    if ruling is None:
        return None
    limits = ruling.thresholds
    if limits is not None and any(getattr(limits, name) < getattr(asked, name) for name in Thresholds.model_fields):
        return Refusal("request.thresholds", "expected thresholds at least as strict as the request's", LEAST)
    if ruling.uses_max is not None and not 1 <= ruling.uses_max <= facts.request.uses_max:
        return Refusal("request.uses", f"expected 1 to {facts.request.uses_max} uses", LEAST)
    return None


def _two_registrars(facts: RequestFacts) -> Refusal | None:
    if len(facts.grant_signers) < 2:
        return Refusal(
            "request.signatures", f"expected the signatures of two registrars, got {len(facts.grant_signers)}", DUTIES
        )
    return None


def _words(*words: str) -> frozenset[str]:
    return frozenset(words)


_RULING_BODIES = _words("agency", "data_administration", "sector_authority", "authorising_unit")
_RULED = (
    _ruled_by_another_body,
    _named_body,
    _one_approval_each,
    _three_findings,
    _a_reason,
    _agreement_in_force,
    _cuts_fit,
    _limits_only_tighter,
    _catalogue_allows,
)

TRANSITIONS: tuple[Transition[RequestFacts], ...] = (
    Transition(
        "propose", _words("draft"), "proposed", _words("developer"), (_developers_may_ask, _scenario_stated), DEVELOPER
    ),
    Transition(
        "submit",
        _words("draft", "proposed"),
        "submitted",
        _words("operator"),
        (
            _agreement_in_force,
            _inside_agreement,
            _term_inside_agreement,
            _scenario_stated,
            _scenario_argued,
            _something_justified,
            _catalogue_allows,
            _one_ruling_per_scenario,
        ),
        SUBMIT,
    ),
    Transition("endorse", _words("submitted"), "submitted", _RULING_BODIES, (*_RULED, _others_missing), DUTIES),
    Transition("approve", _words("submitted"), "approved", _RULING_BODIES, (*_RULED, _others_approved), RULING),
    Transition(
        "reject",
        _words("submitted"),
        "rejected",
        _RULING_BODIES,
        (_ruled_by_another_body, _named_body, _a_reason),
        RULING,
    ),
    Transition("issue", _words("approved"), "granted", _words("registrar"), (_two_registrars,), DUTIES),
    Transition("suspend", _words("granted"), "suspended", _words("agency", "registrar"), (), ("SUSP-CLOSE", "SD-38-1")),
    Transition("restore", _words("suspended"), "granted", _words("agency", "registrar"), (), ("SUSP-CLOSE",)),
    Transition(
        "revoke",
        _words("granted", "suspended", "approved"),
        "revoked",
        _words("agency", "registrar"),
        (),
        ("SUSP-REVOKE", "SD-38-2"),
    ),
)
"""The machine; states after ``granted`` are also enforced by each node."""


def move(act: str, *, state: str, role: str, facts: RequestFacts) -> Permit | Refusal:
    """Say whether ``act`` may happen to a request in ``state``."""
    return decide(TRANSITIONS, act, name="request", state=state, role=role, facts=facts)


def all_cuts(request: DataRequest, cuts: tuple[Cut, ...]) -> tuple[Cut, ...]:
    """Return the cuts of a ruling and those that follow by rule: a column without a reason is cut."""
    named = {(cut.resource, cut.column) for cut in cuts}
    by_rule = tuple(
        Cut(ask.resource, item.column, "no justification")
        for _, ask in request.asks()
        for item in ask.fields
        if not item.is_justified and (ask.resource, item.column) not in named
    )
    return (*cuts, *dict.fromkeys(by_rule))


def granted_parties(request: DataRequest, cuts: tuple[Cut, ...]) -> tuple[Party, ...]:
    """Return the list less the cuts; a resource or party of which nothing is left is not in it."""
    gone = {(cut.resource, cut.column) for cut in cuts}
    parties = []
    for party in request.parties:
        uses = []
        for ask in party.resources:
            columns = tuple(item.column for item in ask.fields if (ask.resource, item.column) not in gone)
            if columns:
                uses.append(
                    ResourceUse(resource=ask.resource, version=ask.version, columns=columns, row_filter=ask.row_filter)
                )
        if uses:
            parties.append(Party(node=party.node, resources=tuple(uses)))
    return tuple(parties)


def make_grant(
    request: DataRequest,
    ruling: Ruling,
    *,
    grant_id: str,
    request_sha256: str,
    registrars: tuple[str, ...],
    now: datetime,
) -> Grant:
    """Return the grant that an approving ruling leads to, for registrars and departments to sign."""
    uses_max = ruling.uses_max or request.uses_max
    return Grant(
        grant_id=grant_id,
        agreement_id=request.agreement_id,
        scenario=request.scenario,
        scenario_title=request.scenario_title,
        purpose=request.purpose,
        product_form=request.product_form,
        operator=request.operator,
        registrars=registrars,
        parties=granted_parties(request, all_cuts(request, ruling.cuts)),
        clients=request.clients,
        tasks=request.tasks,
        uses_max=uses_max,
        thresholds=ruling.thresholds or request.thresholds,
        budget=Budget(unit=request.budget.unit, total=request.budget.total),
        request_sha256=request_sha256,
        issued_at=now,
        not_before=max(request.not_before, now),
        not_after=request.not_after,
    )
