"""Products on the platform: every step rests on signed statements, or on what the registry knows.

An operator hands in DSSE envelopes; each is verified against the keys the agency lists, and
only statements about this product and its grant count. Nothing is taken from the operator's word.

Source:
    regulations/LIFECYCLE.md section 5; the guards are those of ``factory.lifecycle.product``.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from factory.agency.admission import current_entry
from factory.agency.office import Office
from factory.lifecycle.product import ProductFacts
from factory.lifecycle.scenario import DemandFacts
from factory.registry.errors import CaseUnknownError
from factory.registry.request import Agreement, Form
from factory.registry.store import Case
from factory.services.actor import Actor
from factory.services.desk import Desk
from factory.services.product_list import is_listed
from nodes.contract import canonical
from nodes.contract.errors import UnknownActorError
from nodes.contract.grant import Grant
from nodes.contract.messages import Name, Part, Text
from nodes.contract.signing import Envelope, sha256_hex
from nodes.contract.statement import NODE_RUN, PAYLOAD_TYPE, RELEASE, REVIEW, read
from nodes.contract.trust import Actor as Signer

ProductName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._:-]{0,60}@[0-9a-z][0-9a-z.+-]{0,30}$")]
"""``id@version``."""

_REPORT, _FINDINGS = "prerelease.json", "findings.json"


class NewProduct(Part):
    """A product to build.

    Attributes:
        product: ``id@version``.
        title: for people.
        form: what it is.
        grant_id: under which it is built.
        demand_id: demand of an application unit that it answers.
    """

    product: ProductName
    title: Text
    form: Form
    grant_id: Name
    demand_id: Name | None = None


class Step(Part):
    """One step of a product.

    Attributes:
        reason: why, where the act asks for it.
        envelopes: signed statements, as JSON objects.
        findings: of the automated tests: name and whether it passed.
        report: the pre-release report of ten items.
        exchange_reference: of the exchange where it is traded.
    """

    reason: Annotated[str, StringConstraints(max_length=2000)] = ""
    envelopes: Annotated[tuple[dict[str, Any], ...], Field(max_length=500, strict=False)] = ()
    findings: Mapping[Name, bool] = Field(default_factory=dict, max_length=200)
    report: dict[str, Any] | None = None
    exchange_reference: Annotated[str, StringConstraints(max_length=200)] = ""


@dataclass(frozen=True, slots=True)
class _Signed:
    signer: Signer
    subjects: frozenset[tuple[str, str]]
    predicate: Mapping[str, Any]
    sha256: str


class Products:
    """Products in the registry of the platform."""

    def __init__(self, desk: Desk, office: Office) -> None:
        """Work through ``desk`` for the agency of ``office``."""
        self._desk = desk
        self._office = office

    def start(self, actor: Actor, asked: NewProduct) -> Case:
        """Open a product under a grant.

        Raises:
            TransitionRefusedError: no agreement in force with this body, or no grant; recorded.
        """
        grant = self._known("grant", asked.grant_id)
        document = {
            "product": asked.product,
            "title": asked.title,
            "form": asked.form,
            "grant_id": asked.grant_id,
            "grant": asked.grant_id,
            "agreement_id": grant.agreement if grant else "",
            "demand_id": asked.demand_id or "",
            "receipts": {},
            "code": "",
        }

        def facts() -> ProductFacts:
            return self._facts(document, actor, Step(), [])

        return self._desk.open(
            actor,
            "product",
            asked.product,
            "start",
            facts=facts,
            document=document,
            agreement=grant.agreement if grant else "",
        )

    def act(self, actor: Actor, product: str, act: str, step: Step) -> Case:
        """Do a step.

        Raises:
            TransitionRefusedError: a statement is missing, or a guard refuses; recorded.
            CaseUnknownError: no such product.
        """
        envelopes = [canonical.dumps(dict(value)) for value in step.envelopes]
        signed = list(self._signed(envelopes))
        artefacts = {f"statement-{item.sha256}.json": data for item, data in zip(signed, envelopes, strict=True)}
        if step.findings:
            artefacts[_FINDINGS] = canonical.dumps(dict(step.findings))
        if step.report is not None:
            artefacts[_REPORT] = canonical.dumps(step.report)

        def document(case: Case) -> Mapping[str, Any]:
            found = self._registration(case.id) if act == "register" else None
            return {**case.document, "code": found.document["code"]} if found else case.document

        with self._desk.together():
            case = self._desk.move(
                actor,
                "product",
                product,
                act,
                facts=lambda case: self._facts(case.document, actor, step, signed),
                reason=step.reason,
                evidence={f"{number:03}": item.sha256 for number, item in enumerate(signed)},
                document=document,
                artefacts=artefacts,
            )
            if act == "release":
                self._answer_demand(actor, case)
        return case

    def receive(self, actor: Actor, product: str, *, body: str) -> Case:
        """Acknowledge the pre-release report of a product for a body, or for a department its node.

        The operator's head of security clears the release with it.

        Raises:
            CaseUnknownError: no such product, or none for this organisation.
        """
        case = self._desk.read(actor, "product", product)
        digest = sha256_hex(self._desk.registry.artefacts("product", product).get(_REPORT, b""))
        names = [body]
        if body == "source_department":
            actors = self._office.trust().actors.actors
            names += [a.id for a in actors if a.organisation == actor.organisation and "node" in a.roles]
        receipts = {**_receipts(case), **dict.fromkeys(names, actor.organisation)}
        document, evidence = {**case.document, "receipts": receipts}, {"report": digest}
        return self._desk.amend(actor, case, "product.receive", role=body, document=document, evidence=evidence)

    def _answer_demand(self, actor: Actor, case: Case) -> None:
        demand = str(case.document.get("demand_id", ""))
        found = self._known("demand", demand)
        if found is not None and found.state == "open":
            self._desk.move(
                actor,
                "demand",
                demand,
                "answer",
                facts=DemandFacts(),
                reason=f"{case.id} {case.document['code']}",
                document=lambda old: {**old.document, "product": case.id},
                agreement="-",
            )

    def _facts(self, document: Mapping[str, Any], actor: Actor, step: Step, signed: Sequence[_Signed]) -> ProductFacts:
        product, now = str(document["product"]), self._desk.clock()
        grant_case = self._known("grant", str(document["grant_id"]))
        grant = Grant.model_validate(grant_case.document) if grant_case else None
        departments = frozenset(party.node for party in grant.parties) if grant else frozenset()
        registration = self._registration(product)
        organisations = {item.signer.id: item.signer.organisation for item in signed}
        reviews = [item for item in signed if "reviewer" in item.signer.roles and self._is(item, REVIEW)]
        subjects = {item.subjects for item in reviews}
        code = str(registration.document["code"]) if registration and registration.state != "cancelled" else ""
        return ProductFacts(
            now=now,
            profile=self._office.law(),
            departments=departments,
            runs_signed=frozenset(
                item.signer.id for item in signed if self._is(item, NODE_RUN) and self._of_grant(item, grant_case)
            ),
            agreement_until=self._agreement_until(actor.organisation, grant),
            grant_until=grant.not_after if grant else None,
            grant_struck=grant_case is None or self._is_struck(grant_case),
            tests=len(step.findings),
            test_failures=tuple(sorted(name for name, passed in step.findings.items() if not passed)),
            reviewer_organisations={item.signer.id: organisations[item.signer.id] for item in reviews}
            if len(subjects) == 1
            else {},
            involved_organisations=self._involved(departments, grant),
            prerelease_problems=_problems(step.report, product),
            prerelease_receipts=frozenset(_receipts_of(document)),
            registration_code=code,
            registration_until=_moment(registration.document["valid_until"]) if registration and code else None,
            release_signers=self._release_signers(signed, code) | _clearance(document),
            listed=is_listed(self._desk.registry, product, str(document["form"]), grant),
            demand=self._demand(str(document.get("demand_id", ""))),
            exchange_reference=step.exchange_reference,
            reason=step.reason,
        )

    def _signed(self, envelopes: Sequence[bytes]) -> Iterator[_Signed]:
        actors, now = self._office.trust().actors, self._desk.clock()
        for data in envelopes:
            envelope = Envelope.from_bytes(data)
            signer = next(
                (a for a in actors.actors if a.verify_key.keyid == envelope.keyid and a.is_valid_at(now)), None
            )
            if signer is None or current_entry(actors, signer.id, now=now) is None:
                raise UnknownActorError("expected a statement of somebody whom the agency lists")
            payload = envelope.open(signer.verify_key, PAYLOAD_TYPE)
            kind = str(canonical.loads(payload).get("predicateType"))
            subjects, predicate = read(payload, kind)
            yield _Signed(signer, frozenset(subjects), {**predicate, "": kind}, envelope.payload_sha256)

    def _is(self, item: _Signed, kind: str) -> bool:
        return str(item.predicate[""]) == kind

    def _of_grant(self, item: _Signed, grant: Case | None) -> bool:
        cited = item.predicate.get("grant")
        if grant is None or not isinstance(cited, dict) or item.predicate.get("node") != item.signer.id:
            return False
        return cited.get("id") == grant.id and cited.get("sha256") == self._grant_sha256(grant.id)

    def _grant_sha256(self, grant: str) -> str:
        for event in self._desk.registry.events(kind="grant", case_id=grant):
            evidence = event.body.get("evidence")
            if event.body.get("act") == "grant.issue" and isinstance(evidence, dict):
                return str(evidence.get("grant"))
        return ""

    def _release_signers(self, signed: Sequence[_Signed], code: str) -> dict[str, frozenset[str]]:
        found: dict[str, set[str]] = {}
        for item in signed:
            registered = item.predicate.get("registration")
            if self._is(item, RELEASE) and isinstance(registered, dict) and registered.get("code") == code:
                for role in item.signer.roles:
                    found.setdefault(role, set()).add(item.signer.id)
        return {role: frozenset(names) for role, names in found.items()}

    def _agreement_until(self, organisation: str, grant: Grant | None) -> datetime | None:
        """Return the end of the agreement of the grant, or of any other, with this organisation as its operator."""
        ends = []
        for case in self._desk.registry.cases("agreement", state="in_force"):
            text = Agreement.model_validate(case.document)
            if self._organisation(text.operator) == organisation and (
                grant is None or grant.agreement_id == text.agreement_id
            ):
                ends.append(text.not_after)
        return max(ends, default=None)

    def _involved(self, departments: frozenset[str], grant: Grant | None) -> frozenset[str]:
        names = {*departments, *((grant.operator,) if grant else ())}
        return frozenset(self._organisation(name) for name in names)

    def _organisation(self, name: str) -> str:
        return next((a.organisation for a in self._office.trust().actors.actors if a.id == name), name)

    def _registration(self, product: str) -> Case | None:
        for case in self._desk.registry.cases("registration"):
            application = case.document["application"]
            block = application.get("product") if isinstance(application, dict) else None
            name = f"{block.get('id')}@{block.get('product_version')}" if isinstance(block, dict) else ""
            if name == product and case.document["code"]:
                return case
        return None

    def _demand(self, name: str) -> str:
        found = self._known("demand", name)
        return found.id if found is not None and found.state in {"open", "answered"} else ""

    def _is_struck(self, grant: Case) -> bool:
        struck = self._office.trust().status.state_of("grant", grant.id) is not None
        return struck or grant.state in {"suspended", "revoked"}

    def _known(self, kind: str, name: str) -> Case | None:
        try:
            return self._desk.registry.get(kind, name)
        except CaseUnknownError:
            return None


def _problems(report: Mapping[str, Any] | None, product: str) -> str:
    """Say which of the ten items of a report are not met, empty if all are."""
    from factory.review.prerelease import ITEMS

    if report is None:
        return "expected the pre-release report of ten items"
    if report.get("product") != product:
        return f"expected the report of {product}"
    items = report.get("items")
    found = {i.get("item"): i for i in items if isinstance(i, dict)} if isinstance(items, list) else {}
    missing = [name for name in ITEMS if not _is_met(found.get(name))]
    return f"expected every item filled from measurements; not met: {', '.join(missing)}" if missing else ""


def _is_met(item: Any) -> bool:
    measures = item.get("measures") if isinstance(item, dict) else None
    return isinstance(measures, list) and bool(measures) and all(isinstance(m, dict) and m.get("ok") for m in measures)


def _clearance(document: Mapping[str, Any]) -> dict[str, frozenset[str]]:
    cleared = _receipts_of(document).get("security_head")
    return {"security_head": frozenset({cleared})} if cleared else {}


def _receipts(case: Case) -> dict[str, str]:
    return _receipts_of(case.document)


def _receipts_of(document: Mapping[str, Any]) -> dict[str, str]:
    found = document.get("receipts")
    return {str(body): str(name) for body, name in found.items()} if isinstance(found, dict) else {}


def _moment(text: object) -> datetime | None:
    return datetime.fromisoformat(str(text)) if text else None
