"""Requests at the agency: received, ruled on by an official, and signed as a grant by two registrars.

The ruling is made on the agency's home. The grant that follows from it is laid on the
*desk*, a folder per grant with everything a registrar needs to check it: request, ruling,
agreement and the statement to sign. Each registrar signs in an own home, in an own process,
after repeating the check. The agency then verifies both signatures and issues the grant.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from factory.agency.admission import current_entry
from factory.agency.catalogue import Catalogue
from factory.agency.errors import NothingPendingError, RequestRefusedError, SignatureMissingError, in_agency_words
from factory.agency.office import Office
from factory.agency.standing import Standings
from factory.files import write_atomic
from factory.identity import Identity
from factory.lifecycle.agreement import AgreementFacts
from factory.lifecycle.machine import Refusal
from factory.lifecycle.request import SUBMIT, Cut, RequestFacts, Ruling, all_cuts, make_grant, move, waiting_for
from factory.registry.errors import CaseUnknownError, TransitionRefusedError
from factory.registry.request import Agreement, DataRequest
from factory.registry.store import Case, Registry
from factory.services.actor import Actor
from factory.services.desk import Desk
from factory.services.posture import hold
from nodes.contract import canonical
from nodes.contract.errors import ContractError
from nodes.contract.grant import Grant, Thresholds
from nodes.contract.messages import parse
from nodes.contract.signing import Envelope, VerifyKey, sha256_hex, sign
from nodes.contract.statement import PAYLOAD_TYPE, grant_statement, parse_grant
from nodes.contract.trust import Actors

STATEMENT = "statement.json"
APPROVALS = "approvals.json"
"""Artefact of a request: organisation per body that endorsed it."""


class Rulings:
    """The agency's desk for requests and grants, over its registry and its published trust data."""

    def __init__(self, office: Office, registry: Registry) -> None:
        """Work for ``office`` with ``registry``."""
        self._office = office
        self._registry = registry
        self._desk = Desk(registry, office.now)
        self._catalogue = Catalogue(office, registry)

    @property
    def desk(self) -> Path:
        """Folder of grants that wait for registrars."""
        return self._office.home / "desk" / "grants"

    def add_agreement(self, agreement: Agreement, *, official: str = "", actor: Actor | None = None) -> Case:
        """File an authorised-operation agreement; it is the outer limit of requests under it.

        Args:
            agreement: as signed.
            official: who files it, at the agency's own home.
            actor: who files it, where somebody was authenticated.

        Raises:
            RequestRefusedError: a resource with a prohibited circumstance, or not checked for one;
                or its term is longer than the profile allows, or over, or its sides are one; cites it.
        """
        by = actor or Actor(official, self._office.identity.organisation, frozenset({"agency"}), "home")
        entry = next((a for a in self._office.trust().actors.actors if a.id == agreement.operator), None)
        facts = AgreementFacts(
            now=self._office.now(),
            profile=self._office.law(),
            agency_organisation=self._office.identity.organisation,
            operator_organisation=entry.organisation if entry else agreement.operator,
            resources=agreement.resources,
            domain=agreement.domain,
            not_before=agreement.not_before,
            not_after=agreement.not_after,
        )
        name = agreement.agreement_id
        with in_agency_words(), self._desk.together():
            refusal = self._catalogue.agreement_refusal(agreement.resources)
            if refusal is not None:
                raise self._desk.refuse(by, "agreement", name, "record", refusal)
            return self._desk.open(
                by, "agreement", name, "record", facts=facts, document=agreement.model_dump(mode="json")
            )

    def propose(self, payload: bytes, *, actor: Actor) -> Case:
        """Take a developer's data request, for the operator to check and submit.

        Raises:
            RequestRefusedError: developers do not ask in this jurisdiction, or the scenario is not stated.
            MalformedError: not a request.
        """
        request = parse(DataRequest, payload)
        with in_agency_words():
            return self._desk.open(
                actor,
                "request",
                request.request_id,
                "propose",
                facts=self._facts(request, ""),
                document=canonical.loads(payload),
                reason=request.need,
                evidence={"request": sha256_hex(payload)},
            )

    def submit(self, payload: bytes, *, sender: str = "", actor: Actor | None = None) -> Case:
        """Take a data request from the operator.

        Args:
            payload: canonical bytes of the request.
            sender: actor id whose signature on it was verified.
            actor: who submits it for the operator, where somebody was authenticated.

        Raises:
            RequestRefusedError: the request breaks a rule; cites it.
            MalformedError: not a request.
        """
        request = parse(DataRequest, payload)
        actors = self._office.trust().actors
        operator = next((a for a in actors.actors if a.id == request.operator), None)
        body = operator.organisation if operator else ""
        by = actor or Actor(sender, body, frozenset({"operator"}), "key")
        with in_agency_words(), self._desk.together():
            refusal = self._refuse_parties(request, by, body)
            if refusal is not None:
                raise self._desk.refuse(by, "request", request.request_id, "submit", refusal)
            known = self._known_case(request.request_id)
            if known is not None and known.sha256 == sha256_hex(payload) and known.state != "proposed":
                return known
            facts = self._facts(request, body, open_scenarios=self._open_scenarios())
            reason, evidence = request.need, {"request": sha256_hex(payload)}
            if known is not None and known.state == "proposed":
                return self._desk.move(
                    by,
                    "request",
                    known.id,
                    "submit",
                    facts=facts,
                    reason=reason,
                    evidence=evidence,
                    document=canonical.loads(payload),
                )
            return self._desk.open(
                by,
                "request",
                request.request_id,
                "submit",
                facts=facts,
                document=canonical.loads(payload),
                reason=reason,
                evidence=evidence,
                agreement=request.agreement_id,
            )

    def rule(self, request_id: str, ruling: Ruling, *, actor: Actor | None = None) -> Grant | None:
        """Record the ruling; if it approves, lay the grant on the desk and return it.

        Args:
            request_id: of the request.
            ruling: what was decided.
            actor: who decided, where somebody was authenticated; the ruling's official at the agency's own home.

        Raises:
            RequestRefusedError: a finding or reason is missing, a cut does not fit, or the state is another.
            CaseUnknownError: no such request.
        """
        by = actor or Actor(ruling.official, ruling.organisation, frozenset({ruling.body}), "home")
        with in_agency_words(), self._desk.together():
            case = self._registry.get("request", request_id)
            request = DataRequest.model_validate(case.document)
            operator = next((a for a in self._office.trust().actors.actors if a.id == request.operator), None)
            kept = self._registry.artefacts("request", request_id)
            approvals = {body: str(name) for body, name in canonical.loads(kept.get(APPROVALS, b"{}")).items()}
            facts = self._facts(request, operator.organisation if operator else "", ruling=ruling, approvals=approvals)
            written = _ruling_json(request, ruling)
            evidence = {"request": case.sha256, "ruling": sha256_hex(written)}
            if ruling.approve and waiting_for(facts):
                body = facts.profile.as_named(ruling.body)
                artefacts = {
                    f"ruling-{body}.json": written,
                    APPROVALS: canonical.dumps({**approvals, body: ruling.organisation}),
                }
                act, grant = "endorse", None
            elif ruling.approve and not isinstance(
                move("approve", state=case.state, role=ruling.body, facts=facts), Refusal
            ):
                grant, laid = self._lay_grant(case, request, ruling, written)
                act, artefacts = "approve", {"ruling.json": written, **laid}
            else:
                act, grant, artefacts = "approve" if ruling.approve else "reject", None, {"ruling.json": written}
            self._desk.move(
                by,
                "request",
                request_id,
                act,
                facts=facts,
                reason=ruling.reason,
                evidence=evidence,
                artefacts=artefacts,
            )
            return grant

    def _lay_grant(
        self, case: Case, request: DataRequest, ruling: Ruling, written: bytes
    ) -> tuple[Grant, dict[str, bytes]]:
        """Lay the grant on the desk for the registrars, and return it with the artefacts of the request."""
        grant, statement, agreement = self._prepare(case, request, ruling)
        folder = self.desk / grant.grant_id
        folder.mkdir(mode=0o700, parents=True)
        for name, content in {
            "request.json": canonical.dumps(case.document),
            "ruling.json": written,
            "agreement.json": agreement,
            STATEMENT: statement,
        }.items():
            write_atomic(folder / name, content)
        return grant, {"grant_id": grant.grant_id.encode("ascii"), STATEMENT: statement}

    def lay_signature(self, request_id: str, envelope: bytes, *, actor: Actor) -> tuple[str, ...]:
        """Take one registrar's signature on the grant of an approved request; return who has signed.

        Raises:
            NothingPendingError: the request was not approved.
            SignatureMissingError: not a registrar of the grant, or signed other bytes.
        """
        case = self._registry.get("request", request_id)
        kept = self._registry.artefacts("request", request_id)
        if STATEMENT not in kept or case.state != "approved":
            raise NothingPendingError(f"expected an approved request, {request_id} is {case.state}")
        signers = self.verify_signatures(kept[STATEMENT], [envelope])
        if len(signers) != 1:
            raise SignatureMissingError("expected the signature of a registrar of the grant on exactly its statement")
        grant = parse_grant(kept[STATEMENT])
        signer = signers.pop()
        write_atomic(self.desk / grant.grant_id / f"{signer}.dsse.json", envelope)
        self._desk.note(actor, "request", request_id, "sign", evidence={"grant": sha256_hex(kept[STATEMENT])})
        laid = [path.read_bytes() for path in sorted((self.desk / grant.grant_id).glob("*.dsse.json"))]
        return tuple(sorted(self.verify_signatures(kept[STATEMENT], laid)))

    def laid(self, request_id: str) -> dict[str, Any]:
        """Return what a registrar checks before signing: request, ruling, agreement and the statement.

        Raises:
            NothingPendingError: the request was not approved.
        """
        kept = self._registry.artefacts("request", request_id)
        if STATEMENT not in kept:
            raise NothingPendingError(f"expected an approved request, {request_id} has no grant to sign")
        folder = self.desk / parse_grant(kept[STATEMENT]).grant_id
        return {path.stem: canonical.loads(path.read_bytes()) for path in sorted(folder.glob("*.json"))}

    def issue(self, request_id: str) -> tuple[Grant, list[bytes]]:
        """Return the grant with the registrars' envelopes, issuing it when both have signed.

        Raises:
            NothingPendingError: the request was not approved.
            SignatureMissingError: a registrar has not signed, or signed other bytes.
        """
        case = self._registry.get("request", request_id)
        kept = self._registry.artefacts("request", request_id)
        if STATEMENT not in kept or case.state not in {"approved", "granted"}:
            raise NothingPendingError(f"expected an approved request, {request_id} is {case.state}")
        grant = parse_grant(kept[STATEMENT])
        folder = self.desk / grant.grant_id
        envelopes = [path.read_bytes() for path in sorted(folder.glob("*.dsse.json"))]
        signers = self.verify_signatures(kept[STATEMENT], envelopes)
        if case.state == "granted":
            return grant, envelopes
        request = DataRequest.model_validate(case.document)
        facts = self._facts(request, "", grant_signers=frozenset(signers))
        by = Actor(",".join(sorted(signers)), self._office.identity.organisation, frozenset({"registrar"}), "key")
        evidence = {"grant": sha256_hex(kept[STATEMENT])}
        held = hold(self._registry)
        if held is not None:
            self._desk.refuse(by, "request", request_id, "issue", held)
            raise RequestRefusedError(held.code, held.message, held.clauses)
        try:
            with self._desk.together():
                self._desk.move(by, "request", request_id, "issue", facts=facts, evidence=evidence)
                self._desk.enter(
                    by,
                    "grant",
                    grant.grant_id,
                    "grant.issue",
                    state="granted",
                    document=grant.model_dump(mode="json"),
                    evidence=evidence,
                )
        except TransitionRefusedError as error:
            raise SignatureMissingError(
                f"{error}; run `shufang agency sign-grant` in the other registrar's home"
            ) from error
        return grant, envelopes

    def verify_signatures(self, statement: bytes, envelopes: Sequence[bytes]) -> set[str]:
        """Return the registrars of the grant whose signatures on exactly these bytes verify."""
        now, signers = self._office.now(), set()
        actors, grant = self._office.trust().actors, parse_grant(statement)
        for data in envelopes:
            try:
                envelope = Envelope.from_bytes(data)
            except ContractError:
                continue
            for name in grant.registrars:
                actor = current_entry(actors, name, now=now)
                if actor is None or "registrar" not in actor.roles or actor.verify_key.keyid != envelope.keyid:
                    continue
                if envelope.payload == statement and _verifies(envelope, actor.verify_key):
                    signers.add(name)
        return signers

    def status(self, request_id: str) -> dict[str, Any]:
        """Return state, cuts and grant id of a request, for the operator.

        Raises:
            CaseUnknownError: no such request.
        """
        case = self._registry.get("request", request_id)
        kept = self._registry.artefacts("request", request_id)
        ruling = canonical.loads(kept["ruling.json"]) if "ruling.json" in kept else {}
        return {
            "request_id": case.id,
            "state": case.state,
            "reason": ruling.get("reason", ""),
            "cuts": ruling.get("cuts", []),
            "grant_id": kept.get("grant_id", b"").decode("ascii"),
        }

    def _refuse_parties(self, request: DataRequest, by: Actor, body: str) -> Refusal | None:
        """Say why this actor may not ask for these parties, or None."""
        if (by.means == "key" and by.id != request.operator) or by.organisation != body:
            return Refusal("request.operator", "expected a request in the sender's own name", SUBMIT)
        if by.purposes and request.purpose not in by.purposes:
            return Refusal("request.purpose", f"the key is bound to other purposes than {request.purpose}", SUBMIT)
        actors = self._office.trust().actors
        nodes = [party.node for party in request.parties]
        wanted = (("operator", (request.operator,)), ("node", nodes), ("application_unit", request.clients))
        for role, names in wanted:
            unknown = [name for name in names if not _known(actors, name, role, self._office)]
            if unknown:
                return Refusal("request.party", f"expected admitted parties, {unknown[0]} is no {role} now", SUBMIT)
        return Standings(self._office, self._registry).refusal(request.operator)

    def _open_scenarios(self) -> frozenset[str]:
        return frozenset(
            str(case.document["scenario"])
            for state in ("submitted", "approved")
            for case in self._registry.cases("request", state=state)
        )

    def _argued(self, scenario: str) -> frozenset[str]:
        try:
            case = self._registry.get("scenario", scenario)
        except CaseUnknownError:
            return frozenset()
        bodies = case.document["argued"]
        return frozenset(map(str, bodies)) if case.state == "screened" and isinstance(bodies, dict) else frozenset()

    def _known_case(self, request_id: str) -> Case | None:
        try:
            return self._registry.get("request", request_id)
        except CaseUnknownError:
            return None

    def _prepare(self, case: Case, request: DataRequest, ruling: Ruling) -> tuple[Grant, bytes, bytes]:
        now, actors = self._office.now(), self._office.trust().actors
        registrars = tuple(actor.id for actor in actors.actors if "registrar" in actor.roles and actor.is_valid_at(now))
        agreement_case = self._registry.get("agreement", request.agreement_id)
        agreement = Agreement.model_validate(agreement_case.document)
        grant = make_grant(
            request,
            ruling,
            grant_id=f"g-{request.scenario[:60]}-{secrets.token_hex(4)}",
            request_sha256=case.sha256,
            registrars=registrars,
            now=now,
        )
        statement = grant_statement(
            grant, agreement_name=agreement.document_name, agreement_sha256=agreement_case.sha256
        )
        return grant, statement, canonical.dumps(agreement_case.document)

    def _facts(
        self,
        request: DataRequest,
        operator_organisation: str,
        *,
        open_scenarios: frozenset[str] = frozenset(),
        ruling: Ruling | None = None,
        grant_signers: frozenset[str] = frozenset(),
        approvals: Mapping[str, str] | None = None,
    ) -> RequestFacts:
        try:
            agreement = Agreement.model_validate(self._registry.get("agreement", request.agreement_id).document)
        except CaseUnknownError:
            agreement = None
        return RequestFacts(
            request=request,
            agreement=agreement,
            now=self._office.now(),
            profile=self._office.law(),
            operator_organisation=operator_organisation,
            open_scenarios=open_scenarios,
            ruling=ruling,
            grant_signers=grant_signers,
            catalogue=self._catalogue.listed([ask.resource for _, ask in request.asks()]),
            approvals=approvals or {},
            argued=self._argued(request.scenario),
        )


def sign_grant(registrar: Identity, folder: Path) -> Path:
    """Check a grant on the desk and sign it as one registrar, from the registrar's own home.

    Args:
        registrar: who signs.
        folder: the grant's folder on the agency's desk.

    Returns:
        The envelope's path.

    Raises:
        NothingPendingError: no grant there.
        RequestRefusedError: the grant is not what request, ruling and agreement lead to.
    """
    if not (folder / STATEMENT).is_file():
        raise NothingPendingError(f"expected a grant to sign in {folder}")
    statement = (folder / STATEMENT).read_bytes()
    check_grant(
        statement,
        request_bytes=(folder / "request.json").read_bytes(),
        ruling_bytes=(folder / "ruling.json").read_bytes(),
        agreement_bytes=(folder / "agreement.json").read_bytes(),
        registrar=registrar.id,
    )
    path = folder / f"{registrar.id}.dsse.json"
    write_atomic(path, sign(registrar.key, PAYLOAD_TYPE, statement).to_bytes())
    return path


def check_grant(
    statement: bytes, *, request_bytes: bytes, ruling_bytes: bytes, agreement_bytes: bytes, registrar: str
) -> Grant:
    """Recompute the grant from request and ruling and compare it with the statement.

    Raises:
        RequestRefusedError: it is wider than the ruling, cites another request or agreement, or another registrar.
    """
    grant, request = parse_grant(statement), parse(DataRequest, request_bytes)
    agreement = parse(Agreement, agreement_bytes)
    ruling = _ruling_from_json(ruling_bytes)
    if registrar not in grant.registrars or len(set(grant.registrars)) < 2:
        raise RequestRefusedError("grant.registrars", f"expected {registrar} among two or more registrars of the grant")
    expected = make_grant(
        request,
        ruling,
        grant_id=grant.grant_id,
        request_sha256=sha256_hex(request_bytes),
        registrars=grant.registrars,
        now=grant.issued_at,
    )
    rebuilt = grant_statement(
        expected, agreement_name=agreement.document_name, agreement_sha256=sha256_hex(agreement_bytes)
    )
    if not ruling.approve or rebuilt != statement or agreement.agreement_id != grant.agreement_id:
        raise RequestRefusedError(
            "grant.not_ruled", "expected exactly the grant that request, ruling and agreement lead to"
        )
    return grant


def _ruling_json(request: DataRequest, ruling: Ruling) -> bytes:
    return canonical.dumps(
        {
            "version": 1,
            "request_id": request.request_id,
            "official": ruling.official,
            "organisation": ruling.organisation,
            "approve": ruling.approve,
            "findings": dict(ruling.findings),
            "reason": ruling.reason,
            "cuts": [asdict(cut) for cut in all_cuts(request, ruling.cuts)],
            "thresholds": ruling.thresholds.model_dump(mode="json") if ruling.thresholds else None,
            "uses_max": ruling.uses_max,
        }
    )


def _ruling_from_json(data: bytes) -> Ruling:
    value: Mapping[str, Any] = canonical.loads(data)
    return Ruling(
        official=value["official"],
        organisation=value["organisation"],
        approve=value["approve"],
        findings=value["findings"],
        reason=value["reason"],
        cuts=tuple(Cut(**cut) for cut in value["cuts"]),
        thresholds=Thresholds.model_validate(value["thresholds"]) if value["thresholds"] else None,
        uses_max=value["uses_max"],
    )


def _known(actors: Actors, name: str, role: str, office: Office) -> bool:
    entry = current_entry(actors, name, now=office.now())
    return entry is not None and role in entry.roles


def _verifies(envelope: Envelope, key: VerifyKey) -> bool:
    try:
        envelope.open(key, PAYLOAD_TYPE)
    except ContractError:
        return False
    return True
