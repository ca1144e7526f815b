"""Standing of operators at the agency: closing access, rectification, restoration, revocation, exit; and incidents.

Each decision goes through the desk and moves the standing, and with it every grant of the operator, in one
transaction; in the same step it proposes the signed status that carries it to nodes and gateway. Both
registrars sign that; from then on nobody needs to be asked: nodes and gateway decide by what they hold.

    standing <operator>      state, order, items, deadline
    incident <id>            what happened, what was stopped, the frozen evidence, measures

Privacy: reasons and digests; frozen evidence holds events and digests of documents, never a row.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any, Literal, cast

from factory.agency.errors import RequestRefusedError, in_agency_words
from factory.agency.office import Office
from factory.deletion import DELETION
from factory.lifecycle import standing
from factory.lifecycle.incident import IncidentFacts
from factory.lifecycle.machine import Refusal
from factory.lifecycle.standing import StandingFacts, is_open
from factory.registry.errors import CaseUnknownError
from factory.registry.store import Case, Registry
from factory.services.actor import Actor
from factory.services.desk import Desk
from nodes.contract import canonical
from nodes.contract.errors import ContractError
from nodes.contract.signing import Envelope, sha256_hex
from nodes.contract.statement import PAYLOAD_TYPE, read, time_text
from nodes.contract.trust import StatusItem

STANDING, INCIDENT, GRANT = "standing", "incident", "grant"
Struck = Literal["suspended", "revoked"]


@dataclass(frozen=True, slots=True)
class Order:
    """A closure order.

    Attributes:
        ground: code of the finding.
        items: what has to be put right.
        deadline: last day for it.
        is_prohibited: the finding is a prohibited act.
        body: role of the body that orders.
        official: who decides.
        organisation: of the official.
    """

    ground: str
    items: tuple[str, ...]
    deadline: date | None
    body: str
    official: str
    organisation: str
    is_prohibited: bool = False

    @property
    def actor(self) -> Actor:
        """Who orders, as the desk knows it."""
        return Actor(self.official, self.organisation, frozenset({self.body}), "home")


class Standings:
    """Standing of operators, over the agency's registry and its trust data."""

    def __init__(self, office: Office, registry: Registry) -> None:
        """Work for ``office`` with ``registry``."""
        self._office = office
        self._registry = registry
        self._desk = Desk(registry, office.now)

    def state(self, operator: str) -> str:
        """Return where an operator stands; with an agreement and no case it is authorised."""
        case = self._known(operator)
        return case.state if case else "authorised"

    def refusal(self, operator: str) -> Refusal | None:
        """Return why an operator may ask for nothing now, or None."""
        state = self.state(operator)
        if is_open(state):
            return None
        return Refusal("standing.closed", f"access of {operator} is closed: it is {state}", standing.CLOSE)

    def close(self, operator: str, order: Order) -> Case:
        """Close an operator's access at once, with what has to be put right by when; grants stop with it.

        Raises:
            RequestRefusedError: no ground, no items, no day that lies ahead, or a body that may not.
        """
        facts = self._facts(order=order, deletion_ordered=order.is_prohibited)
        immediate = order.is_prohibited and facts.profile.standing.immediate_end
        act = "close_at_once" if immediate else "close"
        document = {
            "operator": operator, "ground": order.ground, "items": list(order.items), "accepted": False,
            "deadline": order.deadline.isoformat() if order.deadline else "", "deletion_ordered": immediate,
        }  # fmt: skip
        made = self._moved(operator, act, order, facts, document=document, grants=("granted", "suspended"))
        self._strike([("actor", operator)], "suspended", order.ground)
        return made

    def accept(self, operator: str, *, finding: str, official: str = "", actor: Actor | None = None) -> Case:
        """Record that the rectification was checked and accepted; access stays closed until it is restored.

        Raises:
            RequestRefusedError: no finding, or nothing to accept.
        """
        by, case = self._by(official, actor), self._get(operator)
        with in_agency_words():
            if case.state != "under_rectification" or not finding.strip():
                told = "expected a finding on a rectification under way"
                refusal = Refusal("standing.not_accepted", told, standing.RESTORE)
                raise self._desk.refuse(by, STANDING, operator, "accept", refusal)
            document = {**case.document, "accepted": True}
            return self._desk.amend(by, case, "standing.accept", reason=finding, document=document)

    def restore(self, operator: str, order: Order, *, reason: str, agreement_until: datetime) -> Case:
        """Open access again by decision, after the rectification was accepted; ended grants stay ended.

        Raises:
            RequestRefusedError: not accepted, no reason, or a body that may not.
        """
        case = self._get(operator)
        accepted = bool(case.document["accepted"])
        facts = replace(self._facts(order=order), accepted=accepted, reason=reason, agreement_until=agreement_until)
        made = self._moved(operator, "restore", order, facts, grants=("suspended", "granted"), reason=reason)
        self._office.clear_status("actor", operator)
        return made

    def revoke(self, operator: str, order: Order, *, reason: str) -> Case:
        """Void every grant for good, once the day passed without an accepted rectification; the exit starts.

        Raises:
            RequestRefusedError: the day has not passed, it was accepted, no reason, or a body that may not.
        """
        case = self._get(operator)
        deadline = date.fromisoformat(str(case.document["deadline"]))
        base = self._facts(order=replace(order, deadline=deadline))
        facts = replace(base, accepted=bool(case.document["accepted"]), reason=reason)
        mine = [grant.id for grant in self._grants(operator)]
        made = self._moved(operator, "revoke", order, facts, grants=("*", "revoked"), reason=reason)
        self._strike([("grant", name) for name in mine], "revoked", reason)
        return made

    # Exit

    def exit(self, operator: str, order: Order, *, reason: str) -> Case:
        """Open the exit on a confirmed ground; grants stop.

        Raises:
            RequestRefusedError: no ground of the profile, no reason, or a body that may not.
        """
        facts = replace(self._facts(order=order), reason=reason)
        return self._moved(operator, "exit", order, facts, grants=("granted", "suspended"), reason=reason)

    def verify_deletion(
        self,
        operator: str,
        records: Sequence[bytes],
        kept: Iterable[bytes],
        *,
        official: str = "",
        actor: Actor | None = None,
    ) -> Case:
        """Verify the operator's signed deletion records against a scan of what it still holds.

        Args:
            operator: who exits.
            records: envelopes, one per artefact.
            kept: contents of every file found in the operator's home.
            official: who looked, at the agency's own home.
            actor: who looked, where somebody was authenticated.

        Raises:
            RequestRefusedError: a record that is not the operator's, or an artefact that was found after all.
        """
        return self.settle_deletion(operator, records, frozenset(map(sha256_hex, kept)), by=self._by(official, actor))

    def settle_deletion(self, operator: str, records: Sequence[bytes], found: frozenset[str], *, by: Actor) -> Case:
        """Verify deletion records against the digests of what a scan of the operator's home found.

        Raises:
            RequestRefusedError: see ``verify_deletion``.
        """
        case = self._get(operator)
        with in_agency_words():
            if case.state not in {"exiting", "closed"}:
                told = f"deletion is verified in an exit, or after it was ordered; {operator} is {case.state}"
                refusal = Refusal("standing.state", told, standing.DELETE)
                raise self._desk.refuse(by, STANDING, operator, "verify_deletion", refusal)
            deleted = {self._deletion(operator, data): sha256_hex(data) for data in records}
            left = sorted(found & set(deleted))
            if left or not deleted:
                told = f"{len(left)} of them are still there" if left else "there is no record"
                refusal = Refusal("standing.deletion", f"expected every artefact deleted; {told}", standing.DELETE)
                raise self._desk.refuse(by, STANDING, operator, "verify_deletion", refusal)
            document = {**case.document, "deletion_verified_by": by.organisation, "deleted": sorted(deleted)}
            evidence = {"records": _digest(deleted)}
            return self._desk.amend(by, case, "standing.verify_deletion", document=document, evidence=evidence)

    def finish(self, operator: str, order: Order, *, services_settled: bool, reported_to: frozenset[str]) -> Case:
        """Close the exit: services settled, grants gone, deletion verified, logs kept, exit reported.

        Raises:
            RequestRefusedError: one of them is missing.
        """
        case = self._get(operator)
        left = [grant for grant in self._grants(operator) if grant.state == "granted"]
        facts = replace(
            self._facts(order=order),
            services_settled=services_settled,
            grants_left=len(left),
            deletion_verified_by=str(case.document.get("deletion_verified_by", "")),
            logs_kept=self._registry.verify_chain() > 0,
            reported_to=reported_to,
        )
        return self._moved(operator, "finish", order, facts)

    # Incidents

    def start_incident(
        self,
        name: str,
        *,
        what: str,
        grants: Sequence[str],
        plan: bytes,
        official: str = "",
        actor: Actor | None = None,
    ) -> Case:
        """Open a case in one step: stop the affected grants, freeze the evidence, record both.

        Raises:
            RequestRefusedError: nothing said, no plan, or no such grant.
        """
        by, known = self._by(official, actor), {case.id: case for case in self._registry.cases(GRANT)}
        with in_agency_words(), self._desk.together():
            missing = sorted(set(grants) - set(known))
            if missing:
                refusal = Refusal("incident.grant", f"expected grants of this agency, {missing[0]} is none")
                raise self._desk.refuse(by, INCIDENT, name, "start", refusal)
            evidence = self._evidence(grants)
            facts = IncidentFacts(
                now=self._office.now(), profile=self._office.law(), what=what,
                plan_sha256=sha256_hex(plan) if plan else "", affected=frozenset(grants), stopped=frozenset(grants),
                evidence_sha256=sha256_hex(evidence),
            )  # fmt: skip
            digests = {"evidence": sha256_hex(evidence)}
            document = {"what": what, "grants": list(grants), "evidence": sha256_hex(evidence), "measures": {}}
            made = self._desk.open(
                by, INCIDENT, name, "start", facts=facts, document=document, reason=what, evidence=digests,
                artefacts={"evidence": evidence},
            )  # fmt: skip
            for grant in grants:
                if known[grant].state == "granted":
                    self._desk.amend(
                        by, known[grant], "incident.start", state="suspended", reason=what, evidence=digests
                    )
        self._strike([("grant", grant) for grant in grants], "suspended", f"incident {name}")
        return made

    def measure(self, name: str, measure: str, *, official: str = "", actor: Actor | None = None) -> Case:
        """Note a measure (suspend, revoke, isolate, rotate …); it stays open until its effect is verified."""
        return self._measured(name, measure, "", self._by(official, actor))

    def verify_measure(
        self, name: str, measure: str, evidence: bytes, *, official: str = "", actor: Actor | None = None
    ) -> Case:
        """Verify a measure by the signed refusal of a node, or another proof of its effect.

        Raises:
            RequestRefusedError: no such measure, or no proof.
        """
        case, by = self._registry.get(INCIDENT, name), self._by(official, actor)
        if measure not in _measures(case) or not evidence:
            refusal = Refusal("incident.unverified", "expected a measure of the case and a proof of its effect")
            with in_agency_words():
                raise self._desk.refuse(by, INCIDENT, name, "verify", refusal)
        return self._measured(name, measure, sha256_hex(evidence), by)

    def contain(self, name: str, *, official: str = "", actor: Actor | None = None) -> Case:
        """Note that the incident is contained.

        Raises:
            RequestRefusedError: a measure whose effect was not verified, or none at all.
        """

        def facts(case: Case) -> IncidentFacts:
            measures = _measures(case)
            return IncidentFacts(
                now=self._office.now(), profile=self._office.law(), measures=frozenset(measures),
                verified=frozenset(word for word, proof in measures.items() if proof),
            )  # fmt: skip

        with in_agency_words():
            return self._desk.move(self._by(official, actor), INCIDENT, name, "contain", facts=facts)

    # Inside

    def _by(self, official: str, actor: Actor | None) -> Actor:
        return actor or Actor(official, self._office.identity.organisation, frozenset({"agency"}), "home")

    def _measured(self, name: str, measure: str, proof: str, by: Actor) -> Case:
        case = self._registry.get(INCIDENT, name)
        document = {**case.document, "measures": {**_measures(case), measure: proof}}
        act, evidence = ("incident.verify", {"proof": proof}) if proof else ("incident.measure", {})
        return self._desk.amend(by, case, act, reason=measure, evidence=evidence, document=document)

    def _evidence(self, grants: Sequence[str]) -> bytes:
        """Return the events and the digests of every case concerned, as they stand."""
        events = self._registry.events()
        names = set(grants)
        return canonical.dumps(
            {
                "head": events[-1].sha256 if events else "",
                "events": [event.sha256 for event in events],
                "concerned": [event.body for event in events if event.body["case"] in names],
                "cases": {case.id: case.sha256 for case in self._registry.cases(GRANT) if case.id in names},
                "frozen_at": time_text(self._office.now()),
            }
        )

    def _moved(
        self,
        operator: str,
        act: str,
        order: Order,
        facts: StandingFacts,
        *,
        document: Mapping[str, Any] | None = None,
        grants: tuple[str, str] | None = None,
        reason: str = "",
    ) -> Case:
        now, by, why = self._office.now(), order.actor, reason or order.ground
        with in_agency_words(), self._desk.together():
            case = self._known(operator)
            body = {**(case.document if case else {}), **(document or {})}
            if case is None:
                made = self._desk.open(
                    by, STANDING, operator, act, facts=facts, document=body, reason=why, state="authorised"
                )
            else:
                made = self._desk.move(by, STANDING, operator, act, facts=facts, document=body, reason=why)
            for grant in self._grants(operator) if grants else ():
                ends = datetime.fromisoformat(str(grant.document["not_after"]))
                is_concerned = grants is not None and grants[0] in {"*", grant.state}
                if is_concerned and grants is not None and not (grants[1] == "granted" and ends <= now):
                    self._desk.amend(by, grant, f"standing.{act}", state=grants[1], reason=why)
        return made

    def _strike(self, subjects: Sequence[tuple[str, str]], state: Struck, reason: str) -> None:
        for kind, subject in subjects:
            item = {"subject_kind": kind, "subject": subject, "state": state, "since": self._office.now()}
            self._office.set_status(StatusItem.model_validate({**item, "reason": reason}))

    def _facts(self, *, order: Order, deletion_ordered: bool = False) -> StandingFacts:
        return StandingFacts(
            now=self._office.now(), profile=self._office.law(), body=order.body, ground=order.ground, items=order.items,
            deadline=order.deadline, is_prohibited=order.is_prohibited, deletion_ordered=deletion_ordered,
            agency_organisation=self._office.identity.organisation,
        )  # fmt: skip

    def _deletion(self, operator: str, envelope_bytes: bytes) -> str:
        """Return the digest of the artefact that a signed deletion record is about."""
        try:
            envelope = Envelope.from_bytes(envelope_bytes)
            for actor in self._office.trust().actors.actors:
                if actor.id == operator and actor.verify_key.keyid == envelope.keyid:
                    subjects, _ = read(envelope.open(actor.verify_key, PAYLOAD_TYPE), DELETION)
                    return subjects[0][1]
        except ContractError as error:
            raise RequestRefusedError("standing.deletion", f"expected a signed deletion record: {error}") from error
        raise RequestRefusedError("standing.deletion", f"expected deletion records signed by {operator}")

    def _grants(self, operator: str) -> list[Case]:
        return [case for case in self._registry.cases(GRANT) if case.document["operator"] == operator]

    def _get(self, operator: str) -> Case:
        case = self._known(operator)
        if case is None:
            raise RequestRefusedError("standing.unknown", f"expected an order against {operator}, there is none")
        return case

    def _known(self, operator: str) -> Case | None:
        try:
            return self._registry.get(STANDING, operator)
        except CaseUnknownError:
            return None


def _measures(case: Case) -> dict[str, str]:
    return dict(cast("dict[str, str]", case.document.get("measures", {})))


def _digest(values: Mapping[str, str]) -> str:
    return sha256_hex(canonical.dumps(dict(values)))
