"""Scenarios that are argued, and demands of application units that products answer."""

from typing import Annotated

from pydantic import StringConstraints

from factory.agency.office import Office
from factory.lifecycle.scenario import DemandFacts, ScenarioFacts
from factory.registry.store import Case
from factory.services.actor import Actor
from factory.services.desk import Desk
from nodes.contract.messages import Name, Part, Text

Long = Annotated[str, StringConstraints(max_length=2000)]


class NewScenario(Part):
    """A scenario to argue.

    Attributes:
        id: its name; a request cites it.
        title: for people.
        need, value: the stated need and its social or economic value.
        agreement_id: agreement it is to run under.
    """

    id: Name
    title: Text
    need: Long
    value: Long
    agreement_id: Name


class Finding(Part):
    """What a body found about a scenario."""

    compliance: Long
    necessity: Long


class NewDemand(Part):
    """What an application unit wants.

    Attributes:
        id: its name; a product cites it.
        what: is wanted.
        agreement_id: agreement under which it would be served, if one is known.
    """

    id: Name
    what: Text
    agreement_id: Name | None = None


class Scenarios:
    """Scenarios and demands."""

    def __init__(self, desk: Desk, office: Office) -> None:
        """Work through ``desk`` under the law of ``office``."""
        self._desk = desk
        self._office = office

    def screen(self, actor: Actor, asked: NewScenario) -> Case:
        """Open a scenario that the operator has screened.

        Raises:
            TransitionRefusedError: need or value is empty, or not the operator of the agreement.
        """
        facts = ScenarioFacts(need=asked.need, value=asked.value)
        document = {**asked.model_dump(mode="json"), "argued": {"operator": actor.organisation}, "findings": {}}
        return self._desk.open(
            actor,
            "scenario",
            asked.id,
            "screen",
            facts=facts,
            document=document,
            reason=asked.need,
            agreement=asked.agreement_id,
        )

    def argue(self, actor: Actor, scenario: str, finding: Finding) -> Case:
        """Find a scenario compliant and necessary, as one of the bodies the profile names.

        Raises:
            TransitionRefusedError: a finding is missing, the body has argued it, or it is the operator's own.
        """
        body = self._body(actor)

        def facts(case: Case) -> ScenarioFacts:
            return ScenarioFacts(
                body=body,
                organisation=actor.organisation,
                argued=_argued(case),
                compliance=finding.compliance,
                necessity=finding.necessity,
            )

        def argued(case: Case) -> dict[str, object]:
            found = case.document["findings"]
            findings = dict(found) if isinstance(found, dict) else {}
            return {
                **case.document,
                "argued": {**_argued(case), body: actor.organisation},
                "findings": {**findings, body: finding.model_dump(mode="json")},
            }

        return self._desk.move(actor, "scenario", scenario, "argue", facts=facts, document=argued)

    def decline(self, actor: Actor, scenario: str, *, reason: str) -> Case:
        """Decline a scenario; no request can cite it afterwards.

        Raises:
            TransitionRefusedError: no reason, or none of the bodies.
        """
        facts = ScenarioFacts(reason=reason)
        return self._desk.move(actor, "scenario", scenario, "decline", facts=facts, reason=reason)

    def demand(self, actor: Actor, asked: NewDemand) -> Case:
        """Open the demand of an application unit.

        Raises:
            TransitionRefusedError: nothing is wanted, or no application unit asks.
        """
        document = {**asked.model_dump(mode="json", exclude_none=True), "product": ""}
        facts = DemandFacts(what=asked.what)
        return self._desk.open(actor, "demand", asked.id, "state", facts=facts, document=document, reason=asked.what)

    def withdraw(self, actor: Actor, demand: str, *, reason: str) -> Case:
        """Withdraw a demand.

        Raises:
            TransitionRefusedError: no reason, or no application unit.
        """
        self._desk.read(actor, "demand", demand)
        facts = DemandFacts(reason=reason)
        return self._desk.move(actor, "demand", demand, "withdraw", facts=facts, reason=reason)

    def _body(self, actor: Actor) -> str:
        from factory.services.machines import MACHINES

        role = min(actor.roles & MACHINES["scenario"].roles("argue"), default="")
        return self._office.law().as_named(role)


def _argued(case: Case) -> dict[str, str]:
    found = case.document["argued"]
    return {str(body): str(name) for body, name in found.items()} if isinstance(found, dict) else {}
