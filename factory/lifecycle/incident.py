"""A data-security incident (数据安全事件) as a state machine. Pure.

``suspected → confirmed → responding → contained → eradicated → reported → reviewed → closed``, or
*dismissed*. ``start`` opens the case and the response in one step. The response stands only when the
affected grants are stopped and the evidence is frozen; a measure without verification stays open.

Source:
    regulations/LIFECYCLE.md section 7; the profile names who is notified and by when.
"""

from dataclasses import dataclass
from datetime import datetime

from factory.law.profile import Profile
from factory.lifecycle.machine import Permit, Refusal, Transition, decide

OPEN = ("INC-START", "MON-ALERT", "SD-33-3", "JN-21-2", "JL-运营实施-6", "SZ-10.5-10", "GD-08-3")
START = ("INC-START", "SD-33-3", "JN-21-2", "JL-运营实施-6", "SZ-10.5-10")
PLAN = ("INC-PLAN", "SD-33-1", "JN-21-1", "JL-运营实施-4", "SZ-10.6-1")
CONTAIN = ("INC-CONTAIN", "SD-33-6", "JL-运营实施-7", "SZ-10.6-3")
NOTICE = ("INC-REPORT", "SD-33-4", "JN-21-3", "JL-运营实施-8", "SZ-10.6-4")
PERSONS = ("PI-NOTIFY", "SZ-10.5-11")
REVIEW = ("INC-REVIEW", "SZ-10.6-6")


@dataclass(frozen=True, slots=True)
class IncidentFacts:
    """What the guards look at.

    Attributes:
        now: clock.
        profile: of the jurisdiction.
        what: what happened or is feared.
        touches_persons: personal information is or may be harmed.
        plan_sha256: of the incident plan in force, empty without one.
        affected: grants and products that the case affects.
        stopped: those of them that are stopped.
        evidence_sha256: of the frozen evidence, empty without it.
        measures: measures taken.
        verified: measures whose effect was verified.
        notified: bodies that acknowledged a notice.
        persons_decision: recorded decision on informing the persons concerned.
        cause, fix, prevention: of the review.
        reason: of who acts.
    """

    now: datetime
    profile: Profile
    what: str = ""
    touches_persons: bool = False
    plan_sha256: str = ""
    affected: frozenset[str] = frozenset()
    stopped: frozenset[str] = frozenset()
    evidence_sha256: str = ""
    measures: frozenset[str] = frozenset()
    verified: frozenset[str] = frozenset()
    notified: frozenset[str] = frozenset()
    persons_decision: str = ""
    cause: str = ""
    fix: str = ""
    prevention: str = ""
    reason: str = ""


def _said(facts: IncidentFacts) -> Refusal | None:
    return None if facts.what.strip() else Refusal("incident.what", "expected what happened", OPEN)


def _confirmed_first(facts: IncidentFacts) -> Refusal | None:
    if facts.touches_persons and facts.profile.incident.possible_harm_counts:
        return None
    return Refusal(
        "incident.unconfirmed",
        "expected a confirmed incident; a suspicion suffices where the profile counts possible harm to persons",
        START,
    )


def _plan_there(facts: IncidentFacts) -> Refusal | None:
    return None if facts.plan_sha256 else Refusal("incident.plan", "expected an incident plan in force", PLAN)


def _affected_stopped(facts: IncidentFacts) -> Refusal | None:
    running = sorted(facts.affected - facts.stopped)
    if running:
        return Refusal(
            "incident.running", f"expected the affected to be stopped; running: {', '.join(running[:5])}", START
        )
    return None


def _evidence_frozen(facts: IncidentFacts) -> Refusal | None:
    return None if facts.evidence_sha256 else Refusal("incident.evidence", "expected frozen evidence", START)


def _measures_verified(facts: IncidentFacts) -> Refusal | None:
    if not facts.measures:
        return Refusal("incident.measures", "expected at least one measure", CONTAIN)
    waiting = sorted(facts.measures - facts.verified)
    if waiting:
        return Refusal(
            "incident.unverified", f"expected each measure verified; open: {', '.join(waiting[:5])}", CONTAIN
        )
    return None


def _all_notified(facts: IncidentFacts) -> Refusal | None:
    missing = sorted(set(facts.profile.incident.notify) - _told(facts))
    if missing:
        return Refusal("incident.notice", f"expected a notice acknowledged by {', '.join(missing)}", NOTICE)
    return None


def _told(facts: IncidentFacts) -> frozenset[str]:
    return frozenset(facts.profile.as_named(body) for body in facts.notified)


def _one_notified(facts: IncidentFacts) -> Refusal | None:
    if not _told(facts) & set(facts.profile.incident.notify):
        return Refusal(
            "incident.notice", f"expected a notice to one of {', '.join(facts.profile.incident.notify)}", NOTICE
        )
    return None


def _persons_considered(facts: IncidentFacts) -> Refusal | None:
    if facts.touches_persons and not facts.persons_decision.strip():
        return Refusal("incident.persons", "expected a decision on informing the persons concerned", PERSONS)
    return None


def _learnt(facts: IncidentFacts) -> Refusal | None:
    missing = [name for name in ("cause", "fix", "prevention") if not getattr(facts, name).strip()]
    return Refusal("incident.review", f"expected {', '.join(missing)} in the review", REVIEW) if missing else None


def _reasoned(facts: IncidentFacts) -> Refusal | None:
    return None if facts.reason.strip() else Refusal("incident.reason", "expected a reason", START)


def _words(*words: str) -> frozenset[str]:
    return frozenset(words)


_ANYBODY = _words(
    "operator", "source_department", "node", "application_unit", "agency", "data_administration", "security_head"
)
_RESPONDERS = _words("operator", "security_head", "application_unit", "agency", "data_administration")
_OFFICIALS = _words("agency", "data_administration", "authorising_unit")
_STOPPED = (_plan_there, _affected_stopped, _evidence_frozen)

TRANSITIONS: tuple[Transition[IncidentFacts], ...] = (
    Transition("suspect", _words("none"), "suspected", _ANYBODY, (_said,), OPEN),
    Transition("start", _words("none"), "responding", _RESPONDERS, (_said, *_STOPPED), START),
    Transition("dismiss", _words("suspected"), "dismissed", _OFFICIALS | {"security_head"}, (_reasoned,), OPEN),
    Transition("confirm", _words("suspected"), "confirmed", _RESPONDERS, (_reasoned,), OPEN),
    Transition("respond", _words("confirmed"), "responding", _RESPONDERS, _STOPPED, START),
    Transition("respond", _words("suspected"), "responding", _RESPONDERS, (_confirmed_first, *_STOPPED), START),
    Transition("notify", _words("responding"), "responding", _RESPONDERS, (_one_notified,), NOTICE),
    Transition("notify", _words("contained"), "contained", _RESPONDERS, (_one_notified,), NOTICE),
    Transition("notify", _words("eradicated"), "eradicated", _RESPONDERS, (_one_notified,), NOTICE),
    Transition("contain", _words("responding"), "contained", _RESPONDERS, (_measures_verified,), CONTAIN),
    Transition("eradicate", _words("contained"), "eradicated", _RESPONDERS, (_reasoned,), CONTAIN),
    Transition("report", _words("eradicated"), "reported", _RESPONDERS, (_all_notified, _persons_considered), NOTICE),
    Transition("review", _words("reported"), "reviewed", _RESPONDERS, (_learnt,), REVIEW),
    Transition("close", _words("reviewed"), "closed", _OFFICIALS, (_reasoned,), REVIEW),
)
"""The machine."""


def move(act: str, *, state: str, role: str, facts: IncidentFacts) -> Permit | Refusal:
    """Say whether ``act`` may happen to an incident in ``state``."""
    return decide(TRANSITIONS, act, name="incident", state=state, role=role, facts=facts)
