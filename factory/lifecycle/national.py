"""The national registration of a product: acceptance, form review, publicity, code. Pure.

``filed → accepted → in_publicity → coded``; a filing is returned once for its defects and then
decided as it is; an objection that is upheld in publicity terminates it. The internal
registration (``factory.lifecycle.registration``) precedes every release; this one follows the
delivery, under a code of the national platform.

Source:
    发改数据规〔2025〕26号, articles 9 to 13 and the clauses named with each transition
"""

from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone

from factory.lifecycle.machine import Permit, Refusal, Transition, decide
from nodes.contract.working_days import add_working_days

BEIJING = timezone(timedelta(hours=8))
"""Working days are those of the agency's clock."""

FILE_DAYS, ACCEPT_DAYS, REVIEW_DAYS, PUBLICITY_DAYS = 20, 3, 20, 10
"""Working days to file after delivery, to accept, to review the form, and of publicity (26号 art. 9 to 12)."""

FILING, ACCEPT, RETURN, REASON, REVIEW = (
    ("REG-PRODUCT", clause) for clause in ("NR-09-1", "NR-10-1", "NR-10-2", "NR-10-3", "NR-11-1")
)
PUBLICITY, OBJECTION, CODE = ("REG-PRODUCT", "NR-12-1", "NR-12-2"), ("PUB-OBJECT", "NR-12-3"), ("NR-13-1", "REG-CODE")


@dataclass(frozen=True, slots=True)
class NationalFacts:
    """What the guards look at.

    Attributes:
        now: clock.
        is_registered: the internal registration is in force.
        returns: how often the filing was returned.
        publicity_until: last day of publicity, once it has begun.
        open_objections: objections that nobody has decided on.
        reason: of the official's decision, or the defects of the filing.
        objector: name of who objects; an objection is no anonymous one.
        evidence_sha256: digest of the objector's evidence.
        national_code: code that the national platform gave.
    """

    now: datetime
    is_registered: bool = True
    returns: int = 0
    publicity_until: date | None = None
    open_objections: int = 0
    reason: str = ""
    objector: str = ""
    evidence_sha256: str = ""
    national_code: str = ""


def deadline(since: date, days: int) -> tuple[date, bool]:
    """Return the last day of a clock of working days, and whether it is provisional."""
    return add_working_days(since, days)


def today(now: datetime) -> date:
    """Return the day in China."""
    return now.astimezone(BEIJING).date()


def _registered(facts: NationalFacts) -> Refusal | None:
    if not facts.is_registered:
        return Refusal("national.unregistered", "expected a registration in force; register the product first", FILING)
    return None


def _first_return(facts: NationalFacts) -> Refusal | None:
    if facts.returns:
        return Refusal(
            "national.returned_before", "expected all defects in one notice; decide on the filing as it is", RETURN
        )
    return None


def _reasoned(facts: NationalFacts) -> Refusal | None:
    return None if facts.reason.strip() else Refusal("national.reason", "expected a reason", REASON)


def _in_publicity(facts: NationalFacts) -> Refusal | None:
    if facts.publicity_until is None or today(facts.now) > facts.publicity_until:
        return Refusal("national.publicity_over", "expected an objection while the publicity lasts", OBJECTION)
    return None


def _named_with_evidence(facts: NationalFacts) -> Refusal | None:
    if not facts.objector.strip() or not facts.evidence_sha256 or not facts.reason.strip():
        return Refusal("national.objection", "expected the objector's name, a reason and evidence", OBJECTION)
    return None


def _objected(facts: NationalFacts) -> Refusal | None:
    return None if facts.open_objections else Refusal("national.no_objection", "expected an open objection", OBJECTION)


def _publicity_ended(facts: NationalFacts) -> Refusal | None:
    if facts.publicity_until is None or today(facts.now) <= facts.publicity_until:
        until = f" it lasts until {facts.publicity_until}" if facts.publicity_until else ""
        return Refusal(
            "national.publicity_lasts", f"expected {PUBLICITY_DAYS} working days of publicity;{until}", PUBLICITY
        )
    return None


def _undisputed(facts: NationalFacts) -> Refusal | None:
    if facts.open_objections:
        return Refusal("national.disputed", f"decide on {facts.open_objections} objections first", OBJECTION)
    return None


def _with_code(facts: NationalFacts) -> Refusal | None:
    return None if facts.national_code.strip() else Refusal("national.code", "expected the national code", CODE)


def _words(*words: str) -> frozenset[str]:
    return frozenset(words)


_AGENCY = _words("agency")

TRANSITIONS: tuple[Transition[NationalFacts], ...] = (
    Transition("file", _words("none", "returned"), "filed", _words("operator"), (_registered,), FILING),
    Transition("accept", _words("filed"), "accepted", _AGENCY, (), ACCEPT),
    Transition("return", _words("filed"), "returned", _AGENCY, (_first_return, _reasoned), RETURN),
    Transition("decline", _words("filed", "accepted"), "declined", _AGENCY, (_reasoned,), REVIEW),
    Transition("publish", _words("accepted"), "in_publicity", _AGENCY, (), PUBLICITY),
    Transition(
        "object",
        _words("in_publicity"),
        "in_publicity",
        _words("interested"),
        (_in_publicity, _named_with_evidence),
        PUBLICITY,
    ),
    Transition("uphold", _words("in_publicity"), "terminated", _AGENCY, (_objected, _reasoned), OBJECTION),
    Transition("dismiss", _words("in_publicity"), "in_publicity", _AGENCY, (_objected, _reasoned), OBJECTION),
    Transition(
        "code",
        _words("in_publicity"),
        "coded",
        _AGENCY,
        (_publicity_ended, _undisputed, _registered, _with_code),
        CODE,
    ),
)


def move(act: str, *, state: str, role: str, facts: NationalFacts) -> Permit | Refusal:
    """Say whether ``act`` may happen to a filing in ``state``."""
    return decide(TRANSITIONS, act, name="national", state=state, role=role, facts=facts)
