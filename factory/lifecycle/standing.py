"""Standing of an operator (运营资格) as a state machine. Pure.

``applicant → authorised → under_rectification → authorised | revoked``; ``closed`` at once on a
prohibited act where the profile knows no grace; ``exiting → exited``. Access is open in
*authorised* alone.

Source:
    regulations/LIFECYCLE.md section 8; the profile names the bodies, the grounds and the duty to end.
"""

from dataclasses import dataclass
from datetime import date, datetime

from factory.law.limits import day_of, end_of
from factory.law.profile import Profile
from factory.lifecycle.machine import Permit, Refusal, Transition, decide

CLOSE = ("SUSP-CLOSE", "SD-38-1", "JN-24-1", "SZ-10.7-5", "SZ-10.7-10")
IMMEDIATE = ("SUSP-IMMEDIATE", "JL-运营管理-35")
DELETE = ("EXIT-DELETE", "JL-运营管理-36", "GD-39-10")
RESTORE = ("SUSP-RESTORE", "JN-24-3")
REVOKE = ("SUSP-REVOKE", "SD-38-2", "JN-24-4", "SZ-10.7-11")
AUTHORISED = ("UNI-AUTH", "SZ-05-7", "SZ-10.7-7", "GD-10-1")
GROUND = ("EXIT-TRIGGER", "SD-27-1", "JL-运营管理-37", "GD-39-2")
END = ("EXIT-END", "JL-运营管理-43", "GD-39-1")
HANDOVER = ("EXIT-HANDOVER", "JL-运营管理-45", "GD-39-9")
RETAIN = ("LOG-RETAIN", "JL-运营管理-44", "GD-39-11", "D-9")
EXIT_REPORT = ("EXIT-REPORT", "JL-运营管理-46", "D-6")
AGAIN = ("ASSESS-USE", "SD-35-2", "JL-运营管理-9", "SZ-08-3", "GD-38-5")

OPEN_STATES = ("authorised",)
"""States in which grants of the operator work."""


@dataclass(frozen=True, slots=True)
class StandingFacts:
    """What the guards look at.

    Attributes:
        now: clock.
        profile: of the jurisdiction.
        body: role of the organisation that acts.
        agreement_until: end of an agreement in force, None without one.
        ground: what is held against the operator, or the kind of ground of an exit.
        items: what has to be put right.
        deadline: last day to put it right.
        accepted: the rectification was accepted by a decision.
        is_prohibited: the finding is a prohibited act.
        deletion_ordered: the order includes the deletion of what the operator kept.
        services_settled: services were handed over or retired.
        deletion_verified_by: organisation that verified the deletion.
        agency_organisation: of the agency.
        grants_left: grants that nodes still hold in force.
        logs_kept: the logs are sealed for their retention.
        reported_to: bodies that were told of the exit.
        assessment: digest of the assessment that a new application cites.
        reason: of the decision.
    """

    now: datetime
    profile: Profile
    body: str = ""
    agreement_until: datetime | None = None
    ground: str = ""
    items: tuple[str, ...] = ()
    deadline: date | None = None
    accepted: bool = False
    is_prohibited: bool = False
    deletion_ordered: bool = False
    services_settled: bool = False
    deletion_verified_by: str = ""
    agency_organisation: str = ""
    grants_left: int = 0
    logs_kept: bool = False
    reported_to: frozenset[str] = frozenset()
    assessment: str = ""
    reason: str = ""


def _agreement_in_force(facts: StandingFacts) -> Refusal | None:
    if facts.agreement_until is None or facts.agreement_until <= facts.now:
        return Refusal("standing.agreement", "expected an agreement in force", AUTHORISED)
    return None


def _closing_body(facts: StandingFacts) -> Refusal | None:
    bodies = facts.profile.standing.closed_by
    if facts.profile.as_named(facts.body) not in bodies:
        return Refusal("standing.body", f"expected an order of {' or '.join(bodies)}, got {facts.body}", CLOSE)
    return None


def _restoring_body(facts: StandingFacts) -> Refusal | None:
    bodies = facts.profile.standing.restored_by
    if facts.profile.as_named(facts.body) not in bodies:
        return Refusal("standing.body", f"expected a decision of {' or '.join(bodies)}, got {facts.body}", RESTORE)
    return None


def _ground_said(facts: StandingFacts) -> Refusal | None:
    return None if facts.ground.strip() else Refusal("standing.ground", "expected the ground of the order", CLOSE)


def _order_complete(facts: StandingFacts) -> Refusal | None:
    if not facts.items or not all(item.strip() for item in facts.items):
        return Refusal("standing.items", "expected what has to be put right", CLOSE)
    if facts.deadline is None or facts.deadline <= day_of(facts.now):
        return Refusal("standing.deadline", "expected a day after today by which it has to be put right", CLOSE)
    return None


def _grace_allowed(facts: StandingFacts) -> Refusal | None:
    if facts.is_prohibited and facts.profile.standing.immediate_end:
        return Refusal(
            "standing.no_grace", "a prohibited act ends access without a grace period; use close_at_once", IMMEDIATE
        )
    return None


def _no_grace(facts: StandingFacts) -> Refusal | None:
    if not facts.is_prohibited:
        return Refusal("standing.not_prohibited", "expected a finding of a prohibited act", IMMEDIATE)
    if not facts.profile.standing.immediate_end:
        return Refusal(
            "standing.grace", "this profile orders rectification first; use close, access ends with it", CLOSE
        )
    return None


def _deletion_ordered(facts: StandingFacts) -> Refusal | None:
    if not facts.deletion_ordered:
        return Refusal("standing.deletion_order", "expected the order to delete what the operator kept", DELETE)
    return None


def _accepted(facts: StandingFacts) -> Refusal | None:
    if not facts.accepted:
        return Refusal("standing.not_accepted", "expected an accepted rectification", RESTORE)
    return None


def _failed(facts: StandingFacts) -> Refusal | None:
    if facts.accepted:
        return Refusal("standing.accepted", "the rectification was accepted; restore instead", REVOKE)
    if facts.deadline is None or facts.now < end_of(facts.deadline):
        return Refusal("standing.deadline", "the day of the order has not passed", REVOKE)
    return None


def _exit_ground(facts: StandingFacts) -> Refusal | None:
    grounds = facts.profile.standing.exit_grounds
    if facts.ground not in grounds:
        return Refusal("standing.exit_ground", f"expected a confirmed ground: {', '.join(grounds)}", GROUND)
    return None


def _may_keep(facts: StandingFacts) -> Refusal | None:
    if facts.profile.standing.exit_duty == "must":
        return Refusal("standing.must_end", "a confirmed ground obliges the agency to end the agreement", END)
    return None


def _wound_up(facts: StandingFacts) -> Refusal | None:
    if not facts.services_settled:
        return Refusal("standing.services", "expected every service handed over or retired", HANDOVER)
    if facts.grants_left:
        return Refusal("standing.grants", f"expected no grant left at nodes, got {facts.grants_left}", END)
    return None


def _deletion_verified(facts: StandingFacts) -> Refusal | None:
    if not facts.deletion_verified_by or facts.deletion_verified_by != facts.agency_organisation:
        return Refusal("standing.deletion", "expected the agency's verification of the deletion", DELETE)
    return None


def _logs_kept(facts: StandingFacts) -> Refusal | None:
    if not facts.logs_kept:
        return Refusal("standing.logs", f"expected the logs kept for {facts.profile.standing.log_retention}", RETAIN)
    return None


def _exit_reported(facts: StandingFacts) -> Refusal | None:
    told = {facts.profile.as_named(body) for body in facts.reported_to}
    missing = sorted(set(facts.profile.standing.exit_report_to) - told)
    if missing:
        return Refusal("standing.report", f"expected the exit reported to {', '.join(missing)}", EXIT_REPORT)
    return None


def _assessed(facts: StandingFacts) -> Refusal | None:
    if not facts.assessment:
        return Refusal("standing.assessment", "expected the assessment that the new application cites", AGAIN)
    return None


def _reasoned(facts: StandingFacts) -> Refusal | None:
    return None if facts.reason.strip() else Refusal("standing.reason", "expected a reason", CLOSE)


def _words(*words: str) -> frozenset[str]:
    return frozenset(words)


_BODIES = _words("agency", "data_administration", "sector_authority", "authorising_unit")
_ENDING = _words("agency", "authorising_unit", "data_administration")

TRANSITIONS: tuple[Transition[StandingFacts], ...] = (
    Transition("apply", _words("none"), "applicant", _words("operator"), (), AUTHORISED),
    Transition("authorise", _words("none", "applicant"), "authorised", _ENDING, (_agreement_in_force,), AUTHORISED),
    Transition(
        "close",
        _words("authorised"),
        "under_rectification",
        _BODIES,
        (_closing_body, _ground_said, _grace_allowed, _order_complete),
        CLOSE,
    ),
    Transition(
        "close_at_once",
        _words("authorised", "under_rectification"),
        "closed",
        _BODIES,
        (_closing_body, _ground_said, _no_grace, _deletion_ordered),
        IMMEDIATE,
    ),
    Transition(
        "restore",
        _words("under_rectification"),
        "authorised",
        _BODIES,
        (_restoring_body, _accepted, _reasoned, _agreement_in_force),
        RESTORE,
    ),
    Transition(
        "revoke", _words("under_rectification"), "revoked", _BODIES, (_closing_body, _failed, _reasoned), REVOKE
    ),
    Transition(
        "exit",
        _words("authorised", "under_rectification", "closed", "revoked"),
        "exiting",
        _ENDING,
        (_exit_ground, _reasoned),
        END,
    ),
    Transition("keep", _words("authorised"), "authorised", _ENDING, (_exit_ground, _may_keep, _reasoned), END),
    Transition(
        "finish",
        _words("exiting"),
        "exited",
        _ENDING,
        (_wound_up, _deletion_verified, _logs_kept, _exit_reported),
        DELETE,
    ),
    Transition("apply_again", _words("exited"), "applicant", _words("operator"), (_assessed,), AGAIN),
)
"""The machine."""


def move(act: str, *, state: str, role: str, facts: StandingFacts) -> Permit | Refusal:
    """Say whether ``act`` may happen to an operator in ``state``."""
    return decide(TRANSITIONS, act, name="standing", state=state, role=role, facts=facts)


def is_open(state: str) -> bool:
    """Whether grants of an operator in ``state`` work."""
    return state in OPEN_STATES
