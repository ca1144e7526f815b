"""Registration of products at the agency: applications with seven blocks, and the codes given."""

from datetime import datetime
from typing import Any

from factory.agency.errors import RequestRefusedError
from factory.agency.office import Office
from factory.law.profile import Profile
from factory.lifecycle.machine import Refusal
from factory.lifecycle.registration import (
    ASKED,
    Application,
    RegistrationFacts,
    clocks,
    move,
    renewal_from,
    valid_until,
)
from factory.registry.errors import CaseUnknownError
from factory.registry.request import Agreement
from factory.registry.store import Act, Case, Registry
from nodes.contract import canonical
from nodes.contract.grant import Grant
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
            end = valid_until(now, facts.agreement_until or now, facts.profile)
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

    def ask(
        self, application_id: str, kind: str, *, sender: str, reason: str = "", field: str = "", value: str = ""
    ) -> Case:
        """Take the operator's application to renew, correct or cancel a registration.

        Args:
            application_id: of the first registration.
            kind: ``renewal``, ``correction`` or ``cancellation``.
            sender: who asks.
            reason: why.
            field: what a correction sets, one of ``CORRECTABLE``.
            value: to what.

        Raises:
            RequestRefusedError: the state or a guard does not permit it; cites the clause.
        """
        if kind not in ASKED:
            raise RequestRefusedError("registration.kind", f"expected one of {', '.join(ASKED)}")
        case = self._registry.get("registration", application_id)
        application = Application.model_validate(case.document["application"])
        facts = self._facts(application, sender, reason=reason, end=str(case.document["valid_until"]), field=field)
        state = _permit(f"ask_{kind}", case.state, "operator", facts)
        document = {**case.document, "asked": {"kind": kind, "field": field, "value": value, "reason": reason}}
        act = Act(sender, "operator", application.registrant.organisation, f"registration.ask_{kind}", reason)
        return self._registry.change(case, state=state, act=act, now=self._office.now(), document=document)

    def settle(self, application_id: str, *, approve: bool, official: str, reason: str) -> Case:
        """Decide what the operator asked; a cancellation may also come from the agency alone.

        Raises:
            RequestRefusedError: nothing was asked, or a guard does not permit it.
        """
        case = self._registry.get("registration", application_id)
        application = Application.model_validate(case.document["application"])
        document: dict[str, Any] = dict(case.document)
        asked = document.pop("asked", None) or {"kind": "cancellation"}
        facts = self._facts(application, application.registrant.actor, reason=reason, end=document["valid_until"])
        act_name = asked["kind"] if approve else "deny"
        state = _permit(act_name, case.state, "agency", facts)
        now = self._office.now()
        if approve and asked["kind"] == "renewal":
            before = datetime.fromisoformat(document["valid_until"])
            document["valid_until"] = time_text(valid_until(before, facts.agreement_until or before, facts.profile))
        if approve and asked["kind"] == "correction":
            block, _, name = asked["field"].partition(".")
            body = document["application"]
            document["application"] = {**body, block: {**body[block], name: asked["value"]}}
            Application.model_validate(document["application"])
        act = Act(official, "agency", self._office.identity.organisation, f"registration.{act_name}", reason)
        return self._registry.change(case, state=state, act=act, now=now, document=document)

    def status(self, application_id: str) -> dict[str, Any]:
        """Return state, code, validity and deadlines of an application.

        Raises:
            CaseUnknownError: no such application.
        """
        case = self._registry.get("registration", application_id)
        return {
            "application_id": case.id,
            "state": case.state,
            "code": case.document["code"],
            "valid_until": case.document["valid_until"],
            **_deadlines(case, self._office.law()),
        }

    def _facts(
        self, application: Application, sender: str, *, reason: str = "", end: str = "", field: str = ""
    ) -> RegistrationFacts:
        registered = frozenset(
            Application.model_validate(case.document["application"]).subject
            for case in self._registry.cases("registration")
            if case.document["code"] and case.state != "cancelled"
        )
        source = application.lawful_source
        return RegistrationFacts(
            application=application,
            sender=sender,
            now=self._office.now(),
            profile=self._office.law(),
            registered=registered,
            grant_sha256=self._grant_sha256(source.grant_id),
            granted=self._granted(source.grant_id),
            agreement_until=self._agreement_until(source.agreement_id),
            reason=reason,
            valid_until=datetime.fromisoformat(end) if end else None,
            field=field,
        )

    def _granted(self, grant_id: str) -> dict[str, frozenset[str]]:
        try:
            grant = Grant.model_validate(self._registry.get("grant", grant_id).document)
        except CaseUnknownError:
            return {}
        return {party.node: frozenset(use.resource for use in party.resources) for party in grant.parties}

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


def _deadlines(case: Case, profile: Profile) -> dict[str, Any]:
    application = Application.model_validate(case.document["application"])
    days = clocks(application.applied_at, profile)
    end = str(case.document["valid_until"])
    return {
        "accept_by": days.accept_by.isoformat(),
        "review_by": days.review_by.isoformat(),
        "publicity_until": days.publicity_until.isoformat(),
        "is_provisional": days.is_provisional,
        "renewal_from": time_text(renewal_from(datetime.fromisoformat(end), profile.registration.renewal_window))
        if end
        else "",
    }


def _permit(act: str, state: str, role: str, facts: RegistrationFacts) -> str:
    answer = move(act, state=state, role=role, facts=facts)
    if isinstance(answer, Refusal):
        raise RequestRefusedError(answer.code, answer.message, answer.clauses)
    return answer.target
