"""Registration of products at the agency: applications with seven blocks, and the codes given."""

from datetime import datetime
from typing import Any

from factory.agency.errors import RequestRefusedError
from factory.agency.office import Office
from factory.lifecycle.machine import Refusal
from factory.lifecycle.registration import Application, RegistrationFacts, move, valid_until
from factory.registry.errors import CaseUnknownError
from factory.registry.request import Agreement
from factory.registry.store import Act, Case, Registry
from nodes.contract import canonical
from nodes.contract.messages import parse
from nodes.contract.signing import sha256_hex
from nodes.contract.statement import time_text


class Registrations:
    """The agency's register of products."""

    def __init__(self, office: Office, registry: Registry) -> None:
        """Work for ``office`` with ``registry``."""
        self._office = office
        self._registry = registry

    def apply(self, payload: bytes, *, sender: str) -> Case:
        """Take an application from the operator.

        Raises:
            RequestRefusedError: a block does not hold; cites the clause.
            MalformedError: a block is missing.
        """
        application = parse(Application, payload)
        known = [case for case in self._registry.cases("registration") if case.id == application.application_id]
        if known and known[0].document["application"] == canonical.loads(payload):
            return known[0]
        facts = self._facts(application, sender)
        state = _permit("apply", "none", "operator", facts)
        act = Act(
            sender,
            "operator",
            application.registrant.organisation,
            "registration.apply",
            evidence={"application": sha256_hex(payload)},
        )
        return self._registry.create(
            "registration",
            application.application_id,
            state=state,
            document={"application": canonical.loads(payload), "code": "", "valid_until": ""},
            act=act,
            now=self._office.now(),
        )

    def decide(self, application_id: str, *, approve: bool, official: str, reason: str) -> Case:
        """Give a code, or refuse with the reason.

        Raises:
            RequestRefusedError: the state or a guard does not permit it.
            CaseUnknownError: no such application.
        """
        from products.registration_code import make

        case = self._registry.get("registration", application_id)
        application = Application.model_validate(case.document["application"])
        facts = self._facts(application, application.registrant.actor, reason=reason)
        state = _permit("code" if approve else "refuse", case.state, "agency", facts)
        document: dict[str, Any] = dict(case.document)
        now = self._office.now()
        if approve:
            serial = 1 + sum(bool(other.document["code"]) for other in self._registry.cases("registration"))
            document["code"] = make(now.year, application.product.form, serial)
            end = valid_until(now, facts.agreement_until or now)
            document["valid_until"] = time_text(end)
        act = Act(
            official,
            "agency",
            self._office.identity.organisation,
            f"registration.{'code' if approve else 'refuse'}",
            reason,
            {"application": sha256_hex(application.to_payload())},
        )
        return self._registry.change(case, state=state, act=act, now=now, document=document)

    def status(self, application_id: str) -> dict[str, Any]:
        """Return state, code and validity of an application.

        Raises:
            CaseUnknownError: no such application.
        """
        case = self._registry.get("registration", application_id)
        return {
            "application_id": case.id,
            "state": case.state,
            "code": case.document["code"],
            "valid_until": case.document["valid_until"],
        }

    def _facts(self, application: Application, sender: str, *, reason: str = "") -> RegistrationFacts:
        registered = frozenset(
            Application.model_validate(case.document["application"]).subject
            for case in self._registry.cases("registration", state="coded")
        )
        source = application.lawful_source
        return RegistrationFacts(
            application=application,
            sender=sender,
            now=self._office.now(),
            registered=registered,
            grant_sha256=self._grant_sha256(source.grant_id),
            agreement_until=self._agreement_until(source.agreement_id),
            reason=reason,
        )

    def _grant_sha256(self, grant_id: str) -> str | None:
        try:
            self._registry.get("grant", grant_id)
        except CaseUnknownError:
            return None
        for event in self._registry.events(kind="grant", case_id=grant_id):
            evidence = event.body.get("evidence")
            if event.body.get("act") == "grant.issue" and isinstance(evidence, dict):
                return str(evidence.get("grant"))
        return None

    def _agreement_until(self, agreement_id: str) -> datetime | None:
        try:
            return Agreement.model_validate(self._registry.get("agreement", agreement_id).document).not_after
        except CaseUnknownError:
            return None


def _permit(act: str, state: str, role: str, facts: RegistrationFacts) -> str:
    answer = move(act, state=state, role=role, facts=facts)
    if isinstance(answer, Refusal):
        raise RequestRefusedError(answer.code, answer.message, answer.clauses)
    return answer.target
