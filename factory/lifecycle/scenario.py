"""Scenarios that are argued before data is asked for, and demands that products answer. Pure.

A scenario (应用场景) is screened by the operator, then found compliant and necessary by each body
that the profile names; a request cites it. A demand (需求) is what an application unit asks for; a
product names the demand it answers.

Source:
    regulations/LIFECYCLE.md sections 4 and 5; requirements REQ-ARGUE (SZ-06.3-2), REQ-SCEN, PROD-DEMAND (JN-15-1).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from factory.lifecycle.machine import Refusal, Transition

ARGUE = ("REQ-ARGUE", "SZ-06.3-2")
STATED = ("REQ-SCEN", "SD-18-1", "SZ-06.3-1")
DEMANDED = ("PROD-DEMAND", "JN-15-1")


@dataclass(frozen=True, slots=True)
class ScenarioFacts:
    """What the guards look at.

    Attributes:
        need, value: the stated need and its social or economic value.
        body: as which body the organisation argues.
        organisation: of who acts.
        argued: organisation per body that has found the scenario compliant and necessary.
        compliance, necessity: the two findings.
        reason: of who declines.
    """

    need: str = ""
    value: str = ""
    body: str = ""
    organisation: str = ""
    argued: Mapping[str, str] = field(default_factory=dict)
    compliance: str = ""
    necessity: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class DemandFacts:
    """What the guards of a demand look at.

    Attributes:
        what: is wanted.
        reason: of a withdrawal.
    """

    what: str = ""
    reason: str = ""


def _stated(facts: ScenarioFacts) -> Refusal | None:
    for name in ("need", "value"):
        if not str(getattr(facts, name)).strip():
            return Refusal("scenario.stated", f"expected the {name} of the scenario, it is empty", STATED)
    return None


def _both_found(facts: ScenarioFacts) -> Refusal | None:
    for name in ("compliance", "necessity"):
        if not str(getattr(facts, name)).strip():
            return Refusal("scenario.findings", f"expected a finding on {name}", ARGUE)
    return None


def _each_body_once(facts: ScenarioFacts) -> Refusal | None:
    if facts.body in facts.argued:
        return Refusal("scenario.argued", f"{facts.body} has argued this scenario", ARGUE)
    if facts.organisation in facts.argued.values():
        return Refusal("duties.one_body", "expected findings of different organisations", ARGUE)
    return None


def _declined_with_reason(facts: ScenarioFacts) -> Refusal | None:
    return None if facts.reason.strip() else Refusal("scenario.reason", "expected a reason", ARGUE)


def _something_wanted(facts: DemandFacts) -> Refusal | None:
    return None if facts.what.strip() else Refusal("demand.what", "expected what is wanted", DEMANDED)


def _withdrawn_with_reason(facts: DemandFacts) -> Refusal | None:
    return None if facts.reason.strip() else Refusal("demand.reason", "expected a reason", DEMANDED)


def _words(*words: str) -> frozenset[str]:
    return frozenset(words)


_BODIES = _words("data_administration", "sector_authority", "authorising_unit", "agency")

SCENARIO: tuple[Transition[ScenarioFacts], ...] = (
    Transition("screen", _words("none"), "screened", _words("operator"), (_stated,), STATED),
    Transition("argue", _words("screened"), "screened", _BODIES, (_both_found, _each_body_once), ARGUE),
    Transition("decline", _words("screened"), "declined", _BODIES, (_declined_with_reason,), ARGUE),
)

DEMAND: tuple[Transition[DemandFacts], ...] = (
    Transition("state", _words("none"), "open", _words("application_unit"), (_something_wanted,), DEMANDED),
    Transition("answer", _words("open"), "answered", _words("operator"), (), DEMANDED),
    Transition(
        "withdraw", _words("open"), "withdrawn", _words("application_unit"), (_withdrawn_with_reason,), DEMANDED
    ),
)
