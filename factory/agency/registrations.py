"""Registration of products at the agency: applications with seven blocks, and the codes given."""

from datetime import datetime
from typing import Any

from factory.agency.admission import current_entry
from factory.agency.errors import RequestRefusedError, in_agency_words
from factory.agency.office import Office
from factory.law.profile import Profile
from factory.lifecycle.registration import (
    ASKED,
    Application,
    RegistrationFacts,
    clocks,
    renewal_from,
    valid_until,
)
from factory.registry.errors import CaseUnknownError
from factory.registry.request import Agreement
from factory.registry.store import Case, Registry
from factory.services.actor import Actor
from factory.services.desk import Desk
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
        self._desk = Desk(registry, office.now)

    def apply(self, payload: bytes, *, sender: str = "", actor: Actor | None = None) -> Case:
        """Take an application from the operator.

        Args:
            payload: canonical bytes of the seven blocks.
            sender: actor id whose signature on it was verified.
            actor: who applies for the operator, where somebody was authenticated.

        Raises:
            RequestRefusedError: a block does not hold; cites the clause.
            MalformedError: a block is missing.
        """
        application = parse(Application, payload)
        by = self._applicant(application, sender, actor)
        known = [case for case in self._registry.cases("registration") if case.id == application.application_id]
        if known and known[0].document["application"] == canonical.loads(payload):
            return known[0]
        agreement = application.lawful_source.agreement_id
        document = {"application": canonical.loads(payload), "code": "", "valid_until": "", "agreement_id": agreement}
        with in_agency_words():
            return self._desk.open(
                by,
                "registration",
                application.application_id,
                "apply",
                facts=self._facts(application, self._sender(application, by)),
                document=document,
                evidence={"application": sha256_hex(payload)},
                agreement=agreement,
            )

    def decide(
        self, application_id: str, *, approve: bool, reason: str, official: str = "", actor: Actor | None = None
    ) -> Case:
        """Give a code, or refuse with the reason.

        Raises:
            RequestRefusedError: the state or a guard does not permit it.
            CaseUnknownError: no such application.
        """
        from products.registration_code import make

        def coded(case: Case) -> dict[str, Any]:
            application, now, document = _application(case), self._office.now(), dict(case.document)
            if approve:
                serial = 1 + sum(bool(other.document["code"]) for other in self._registry.cases("registration"))
                document["code"] = make(now.year, application.product.form, serial)
                until = self._agreement_until(application.lawful_source.agreement_id) or now
                document["valid_until"] = time_text(valid_until(now, until, self._office.law()))
            return document

        def facts(case: Case) -> RegistrationFacts:
            return self._facts(_application(case), _application(case).registrant.actor, reason=reason)

        case = self._registry.get("registration", application_id)
        with in_agency_words():
            return self._desk.move(
                self._official(official, actor),
                "registration",
                application_id,
                "code" if approve else "refuse",
                facts=facts,
                reason=reason,
                evidence={"application": sha256_hex(_application(case).to_payload())},
                document=coded,
            )

    def ask(
        self,
        application_id: str,
        kind: str,
        *,
        sender: str = "",
        reason: str = "",
        field: str = "",
        value: str = "",
        actor: Actor | None = None,
    ) -> Case:
        """Take the operator's application to renew, correct or cancel a registration.

        Args:
            application_id: of the first registration.
            kind: ``renewal``, ``correction`` or ``cancellation``.
            sender: actor id whose signature was verified.
            reason: why.
            field: what a correction sets, one of ``CORRECTABLE``.
            value: to what.
            actor: who asks for the operator, where somebody was authenticated.

        Raises:
            RequestRefusedError: the state or a guard does not permit it; cites the clause.
        """
        if kind not in ASKED:
            raise RequestRefusedError("registration.kind", f"expected one of {', '.join(ASKED)}")
        by = self._applicant(_application(self._registry.get("registration", application_id)), sender, actor)

        def facts(case: Case) -> RegistrationFacts:
            application, end = _application(case), str(case.document["valid_until"])
            asker = self._sender(application, by)
            return self._facts(application, asker, reason=reason, end=end, field=field)

        asked = {"kind": kind, "field": field, "value": value, "reason": reason}
        with in_agency_words():
            return self._desk.move(
                by,
                "registration",
                application_id,
                f"ask_{kind}",
                facts=facts,
                reason=reason,
                document=lambda case: {**case.document, "asked": asked},
            )

    def settle(
        self, application_id: str, *, approve: bool, reason: str, official: str = "", actor: Actor | None = None
    ) -> Case:
        """Decide what the operator asked; a cancellation may also come from the agency alone.

        Raises:
            RequestRefusedError: nothing was asked, or a guard does not permit it.
        """

        def facts(case: Case) -> RegistrationFacts:
            application, end = _application(case), str(case.document["valid_until"])
            return self._facts(application, application.registrant.actor, reason=reason, end=end)

        def settled(case: Case) -> dict[str, Any]:
            document: dict[str, Any] = dict(case.document)
            document.pop("asked", None)
            if approve and asked["kind"] == "renewal":
                before, source = datetime.fromisoformat(document["valid_until"]), _application(case).lawful_source
                until = self._agreement_until(source.agreement_id) or before
                document["valid_until"] = time_text(valid_until(before, until, self._office.law()))
            if approve and asked["kind"] == "correction":
                block, _, name = str(asked["field"]).partition(".")
                body = document["application"]
                document["application"] = {**body, block: {**body[block], name: asked["value"]}}
                Application.model_validate(document["application"])
            return document

        case = self._registry.get("registration", application_id)
        found = case.document.get("asked")
        asked: dict[str, Any] = dict(found) if isinstance(found, dict) else {"kind": "cancellation"}
        with in_agency_words():
            return self._desk.move(
                self._official(official, actor),
                "registration",
                application_id,
                str(asked["kind"]) if approve else "deny",
                facts=facts,
                reason=reason,
                document=settled,
                revision=case.revision,
            )

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

    def _official(self, official: str, actor: Actor | None) -> Actor:
        return actor or Actor(official, self._office.identity.organisation, frozenset({"agency"}), "home")

    def _applicant(self, application: Application, sender: str, actor: Actor | None) -> Actor:
        return actor or Actor(sender, application.registrant.organisation, frozenset({"operator"}), "key")

    def _sender(self, application: Application, by: Actor) -> str:
        """Return in whose name ``by`` applies: an own key in its own, a person in that of its organisation."""
        if by.means == "key":
            return by.id
        registrant = application.registrant.actor
        entry = current_entry(self._office.trust().actors, registrant, now=self._office.now())
        return registrant if entry is not None and entry.organisation == by.organisation else by.id

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


def _application(case: Case) -> Application:
    return Application.model_validate(case.document["application"])
