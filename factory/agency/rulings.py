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
from factory.agency.errors import NothingPendingError, RequestRefusedError, SignatureMissingError
from factory.agency.office import Office
from factory.agency.standing import Standings
from factory.files import write_atomic
from factory.identity import Identity
from factory.lifecycle.agreement import AgreementFacts
from factory.lifecycle.agreement import move as move_agreement
from factory.lifecycle.machine import Refusal
from factory.lifecycle.request import Cut, RequestFacts, Ruling, all_cuts, make_grant, move, waiting_for
from factory.registry.errors import CaseUnknownError
from factory.registry.request import Agreement, DataRequest
from factory.registry.store import Act, Case, Registry
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
        self._catalogue = Catalogue(office, registry)

    @property
    def desk(self) -> Path:
        """Folder of grants that wait for registrars."""
        return self._office.home / "desk" / "grants"

    def add_agreement(self, agreement: Agreement, *, official: str) -> Case:
        """File an authorised-operation agreement; it is the outer limit of requests under it.

        Raises:
            RequestRefusedError: a resource with a prohibited circumstance, or not checked for one;
                or its term is longer than the profile allows, or over, or its sides are one; cites it.
        """
        refusal = self._catalogue.agreement_refusal(agreement.resources)
        if refusal is not None:
            raise RequestRefusedError(refusal.code, refusal.message, refusal.clauses)
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
        answer = move_agreement("record", state="none", role="agency", facts=facts)
        if isinstance(answer, Refusal):
            raise RequestRefusedError(answer.code, answer.message, answer.clauses)
        act = Act(official, "agency", self._office.identity.organisation, "agreement.file")
        document = agreement.model_dump(mode="json")
        return self._registry.create(
            "agreement", agreement.agreement_id, state=answer.target, document=document, act=act, now=self._office.now()
        )

    def submit(self, payload: bytes, *, sender: str) -> Case:
        """Take a data request from the operator.

        Args:
            payload: canonical bytes of the request.
            sender: actor id whose signature on it was verified.

        Raises:
            RequestRefusedError: the request breaks a rule; cites it.
            MalformedError: not a request.
        """
        request = parse(DataRequest, payload)
        if request.operator != sender:
            raise RequestRefusedError("request.operator", "expected a request in the sender's own name")
        actors = self._office.trust().actors
        operator = actors.find(sender, role="operator", moment=self._office.now())
        nodes = [party.node for party in request.parties]
        for role, names in (("node", nodes), ("application_unit", request.clients)):
            unknown = [name for name in names if not _known(actors, name, role, self._office)]
            if unknown:
                raise RequestRefusedError("request.party", f"expected admitted parties, {unknown[0]} is no {role} now")
        closed = Standings(self._office, self._registry).refusal(sender)
        if closed is not None:
            raise RequestRefusedError(closed.code, closed.message, closed.clauses)
        waiting = frozenset(
            str(case.document["scenario"])
            for state in ("submitted", "approved")
            for case in self._registry.cases("request", state=state)
        )
        facts = self._facts(request, operator.organisation, open_scenarios=waiting)
        known = self._known_case(request.request_id)
        if known is not None and known.sha256 == sha256_hex(payload):
            return known
        _permit("submit", "draft", "operator", facts)
        act = Act(
            sender, "operator", operator.organisation, "request.submit", request.need, {"request": sha256_hex(payload)}
        )
        return self._registry.create(
            "request",
            request.request_id,
            state="submitted",
            document=canonical.loads(payload),
            act=act,
            now=self._office.now(),
        )

    def rule(self, request_id: str, ruling: Ruling) -> Grant | None:
        """Record the ruling; if it approves, lay the grant on the desk and return it.

        Raises:
            RequestRefusedError: a finding or reason is missing, a cut does not fit, or the state is another.
            CaseUnknownError: no such request.
        """
        case = self._registry.get("request", request_id)
        request = DataRequest.model_validate(case.document)
        operator = next(a for a in self._office.trust().actors.actors if a.id == request.operator)
        kept = self._registry.artefacts("request", request_id)
        approvals = {body: str(name) for body, name in canonical.loads(kept.get(APPROVALS, b"{}")).items()}
        facts = self._facts(request, operator.organisation, ruling=ruling, approvals=approvals)
        if ruling.approve and waiting_for(facts):
            self._endorse(case, ruling, facts, approvals)
            return None
        permit_target = _permit("approve" if ruling.approve else "reject", case.state, ruling.body, facts)
        written = _ruling_json(request, ruling)
        act = Act(
            ruling.official,
            "agency",
            ruling.organisation,
            "request.approve" if ruling.approve else "request.reject",
            ruling.reason,
            {"request": case.sha256, "ruling": sha256_hex(written)},
        )
        artefacts = {"ruling.json": written}
        if not ruling.approve:
            self._registry.change(case, state=permit_target, act=act, now=self._office.now(), artefacts=artefacts)
            return None
        grant, statement, agreement = self._prepare(case, request, ruling)
        artefacts |= {"grant_id": grant.grant_id.encode("ascii"), STATEMENT: statement}
        folder = self.desk / grant.grant_id
        folder.mkdir(mode=0o700, parents=True)
        for name, content in {
            "request.json": canonical.dumps(case.document),
            "ruling.json": written,
            "agreement.json": agreement,
            STATEMENT: statement,
        }.items():
            write_atomic(folder / name, content)
        self._registry.change(case, state=permit_target, act=act, now=self._office.now(), artefacts=artefacts)
        return grant

    def _endorse(self, case: Case, ruling: Ruling, facts: RequestFacts, approvals: Mapping[str, str]) -> None:
        """Record the approval of one of several bodies; the last one approves."""
        target = _permit("endorse", case.state, ruling.body, facts)
        body = facts.profile.as_named(ruling.body)
        written = _ruling_json(facts.request, ruling)
        evidence = {"request": case.sha256, "ruling": sha256_hex(written)}
        act = Act(ruling.official, body, ruling.organisation, "request.endorse", ruling.reason, evidence)
        artefacts = {
            f"ruling-{body}.json": written,
            APPROVALS: canonical.dumps({**approvals, body: ruling.organisation}),
        }
        self._registry.change(case, state=target, act=act, now=self._office.now(), artefacts=artefacts)

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
        try:
            target = _permit("issue", case.state, "registrar", facts)
        except RequestRefusedError as error:
            raise SignatureMissingError(
                f"{error}; run `shufang agency sign-grant` in the other registrar's home"
            ) from error
        act = Act(
            ",".join(sorted(signers)),
            "registrar",
            self._office.identity.organisation,
            "grant.issue",
            evidence={"grant": sha256_hex(kept[STATEMENT])},
        )
        self._registry.change(case, state=target, act=act, now=self._office.now())
        self._registry.create(
            "grant",
            grant.grant_id,
            state="granted",
            document=grant.model_dump(mode="json"),
            act=act,
            now=self._office.now(),
        )
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


def _permit(act: str, state: str, role: str, facts: RequestFacts) -> str:
    answer = move(act, state=state, role=role, facts=facts)
    if isinstance(answer, Refusal):
        raise RequestRefusedError(answer.code, answer.message, answer.clauses)
    return answer.target


def _known(actors: Actors, name: str, role: str, office: Office) -> bool:
    entry = current_entry(actors, name, now=office.now())
    return entry is not None and role in entry.roles


def _verifies(envelope: Envelope, key: VerifyKey) -> bool:
    try:
        envelope.open(key, PAYLOAD_TYPE)
    except ContractError:
        return False
    return True
