"""Agreements and incidents: acts whose facts are stated with evidence.

Each act states what its guards look at; the platform adds what it knows itself, which nobody
can state. What was stated before counts again only if somebody stated it who may do the act at
hand, so that an operator cannot lay down what an authority has to find.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, create_model

from factory.agency.office import Office
from factory.errors import InputError
from factory.lifecycle.agreement import AgreementFacts
from factory.lifecycle.incident import IncidentFacts
from factory.registry.errors import CaseUnknownError
from factory.registry.request import Agreement
from factory.registry.store import Case
from factory.services.actor import Actor
from factory.services.desk import Desk
from factory.services.machines import MACHINES
from nodes.contract import canonical

STATED = "stated.json"
"""Artefact of a case: value and role per field that was stated."""

_KNOWN = frozenset({"now", "profile", "body", "reason"})


@dataclass(frozen=True, slots=True)
class Rule:
    """How the facts of one machine come about.

    Attributes:
        facts: data class of the guards.
        computed: fields that the platform knows itself.
        widening: fields that count whoever stated them, since they only make an act harder.
    """

    facts: type[Any]
    computed: frozenset[str]
    widening: frozenset[str] = frozenset()


RULES: Mapping[str, Rule] = {
    "agreement": Rule(
        AgreementFacts,
        _KNOWN
        | {"agency_organisation", "operator_organisation", "other_operators", "resources", "domain"}
        | {"not_before", "not_after"},
    ),
    "incident": Rule(IncidentFacts, _KNOWN | {"stopped"}, frozenset({"what", "affected", "touches_persons"})),
}


def _model(kind: str) -> type[BaseModel]:
    rule = RULES[kind]
    hints = get_type_hints(rule.facts)
    fields: dict[str, Any] = {
        field.name: (hints[field.name] | None, None)
        for field in dataclasses.fields(rule.facts)
        if field.name not in rule.computed
    }
    made = create_model(f"Stated{kind.capitalize()}", __config__=ConfigDict(extra="forbid", frozen=True), **fields)
    made.__doc__ = f"What an act of the {kind} machine states; only what its guards look at."
    return made


MODELS: Mapping[str, type[BaseModel]] = {kind: _model(kind) for kind in RULES}
"""What may be stated, per kind."""


class Governed:
    """Acts on agreements and incidents."""

    def __init__(self, desk: Desk, office: Office) -> None:
        """Work through ``desk`` for the agency of ``office``."""
        self._desk = desk
        self._office = office

    def act(
        self,
        actor: Actor,
        kind: str,
        case_id: str,
        act: str,
        stated: BaseModel,
        *,
        reason: str = "",
        agreement: Agreement | None = None,
        under: str = "",
    ) -> Case:
        """Do an act; the first one opens the case.

        Args:
            actor: who acts.
            kind: key of ``RULES``.
            case_id: name of the case.
            act: arrow of the machine.
            stated: what the guards look at, one of ``MODELS``.
            reason: why.
            agreement: the text that is signed, for acts on an agreement.
            under: agreement that a new incident belongs to.

        Raises:
            TransitionRefusedError: role, duties or a guard; recorded.
            CaseUnknownError: there is no such case and the act opens none.
        """
        machine = MACHINES[kind]
        given = _plain(stated)
        with self._desk.together():
            case = self._known(kind, case_id)
            kept = self._stated(case) if case else {}
            roles = machine.roles(act)
            role = min(actor.roles & roles, default=min(actor.roles, default="none"))
            both = {**kept, **{name: {"value": value, "role": role} for name, value in given.items()}}
            counted = {
                name: item["value"]
                for name, item in both.items()
                if name in given or item["role"] in roles or name in RULES[kind].widening
            }
            document = _document(kind, case, agreement, under)

            values = _values(kind, counted)
            computed = {"now": self._desk.clock(), "profile": self._office.law(), "reason": reason}
            known = self._computed(kind, document, values.get("affected", frozenset()))
            facts = RULES[kind].facts(**values, **computed, **known)
            artefacts = {STATED: canonical.dumps(both)}
            opens = any(machine.start in arrow.sources for arrow in machine.transitions if arrow.act == act)
            if case is None and opens:
                return self._desk.open(
                    actor, kind, case_id, act, facts=facts, document=document, reason=reason, artefacts=artefacts
                )
            return self._desk.move(
                actor, kind, case_id, act, facts=facts, reason=reason, document=document, artefacts=artefacts
            )

    def stated(self, case: Case) -> dict[str, Any]:
        """Return value and role per field that was stated on a case."""
        return self._stated(case)

    def _computed(self, kind: str, document: Mapping[str, Any], affected: frozenset[str]) -> dict[str, Any]:
        if kind == "agreement":
            return self._of_agreement(document)
        return {"stopped": self._stopped(affected)}

    def _of_agreement(self, document: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {"agency_organisation": self._office.identity.organisation}
        if "agreement_id" not in document or "operator" not in document:
            return found
        text = Agreement.model_validate(dict(document))
        others = [
            case
            for case in self._desk.registry.cases("agreement", state="in_force")
            if case.id != text.agreement_id and case.document.get("operator") not in (None, text.operator)
        ]
        return found | {
            "operator_organisation": self._organisation(text.operator),
            "other_operators": len({case.document["operator"] for case in others}),
            "resources": text.resources,
            "domain": text.domain,
            "not_before": text.not_before,
            "not_after": text.not_after,
        }

    def _stopped(self, affected: frozenset[str]) -> frozenset[str]:
        stopped = set()
        for name in affected:
            states = {case.state for kind in ("grant", "product") if (case := self._known(kind, name)) is not None}
            if states & {"suspended", "revoked", "retired"} or any(
                self._is_struck(kind, name) for kind in ("grant", "product", "resource", "release")
            ):
                stopped.add(name)
        return frozenset(stopped)

    def _is_struck(self, kind: str, name: str) -> bool:
        return self._office.trust().status.state_of(kind, name) is not None

    def _organisation(self, actor: str) -> str:
        actors = self._office.trust().actors.actors
        return next((entry.organisation for entry in actors if entry.id == actor), actor)

    def _known(self, kind: str, name: str) -> Case | None:
        try:
            return self._desk.registry.get(kind, name)
        except CaseUnknownError:
            return None

    def _stated(self, case: Case) -> dict[str, Any]:
        kept = self._desk.registry.artefacts(case.kind, case.id).get(STATED, b"{}")
        return dict(canonical.loads(kept))


def _values(kind: str, counted: Mapping[str, Any]) -> dict[str, Any]:
    """Return what counts, as the guards' data class has it."""
    checked = MODELS[kind].model_validate(dict(counted))
    values = {name: value for name, value in checked.__dict__.items() if value is not None}
    naive = [name for name, value in values.items() if isinstance(value, datetime) and value.tzinfo is None]
    if naive:
        raise InputError(f"expected times with their offset, such as 2026-03-02T08:00:00Z: {', '.join(naive)}")
    return values


def _document(kind: str, case: Case | None, agreement: Agreement | None, under: str) -> Mapping[str, Any]:
    if agreement is not None:
        return agreement.model_dump(mode="json")
    if case is not None:
        return case.document
    return {"agreement_id": under} if kind != "agreement" and under else {}


def _plain(stated: BaseModel) -> dict[str, Any]:
    found = stated.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    sets = {name for name, value in stated.__dict__.items() if isinstance(value, frozenset)}
    return {name: sorted(value) if name in sets else value for name, value in found.items()}
