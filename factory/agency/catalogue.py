"""The level's catalogue at the data administration: standard, entries, confirmation, bindings, dependants.

Departments hand over signed files (``shufang-node entry``); nobody else's signature makes an entry
theirs. A change of an entry is a new version: what depends on the one before is flagged, requests for
it are refused, and entries that did not change keep their version.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Any, cast

from factory.agency.errors import RequestRefusedError, in_agency_words
from factory.agency.office import Office
from factory.lifecycle.machine import Refusal
from factory.lifecycle.resource import (
    COMPILE,
    DEFAULT_STANDARD,
    USABLE,
    EntryFacts,
    Listed,
    Standard,
    Unbound,
    eligibility_refusal,
    unbound,
)
from factory.registry.errors import CaseUnknownError
from factory.registry.store import Case, Registry
from factory.services.actor import Actor as Acting
from factory.services.desk import Desk
from nodes.contract import wire
from nodes.contract.catalogue import Binding, EntryExtract, SourceConsent, SourceReview
from nodes.contract.signing import Envelope
from nodes.contract.statement import (
    BINDING,
    CATALOGUE_ENTRY,
    PAYLOAD_TYPE,
    SOURCE_CONSENT,
    SOURCE_REVIEW,
    read,
    time_text,
)
from nodes.contract.trust import Actor

KIND = "resource"
CONSENT = "consent-"


class Catalogue:
    """The level's catalogue, over the agency's registry and its published trust data."""

    def __init__(self, office: Office, registry: Registry) -> None:
        """Work for ``office`` with ``registry``."""
        self._office = office
        self._registry = registry
        self._desk = Desk(registry, office.now)

    # Standard

    def set_standard(self, standard: Standard, *, official: str = "", actor: Acting | None = None) -> Case:
        """Put a version of the compilation standard in force; entries keep the version they were checked against."""
        by, title = self._official(official, actor), standard.title
        with self._desk.together():
            case = self._desk.enter(
                by, "standard", standard.version, "catalogue.standard", state="in_force",
                document=standard.model_dump(mode="json"), reason=title,
            )  # fmt: skip
            for other in self._registry.cases("standard", state="in_force"):
                if other.id != standard.version:
                    self._desk.amend(by, other, "catalogue.standard", state="superseded", reason=title)
        return case

    @property
    def standard(self) -> Standard:
        """The version in force."""
        found = self._registry.cases("standard", state="in_force")
        return Standard.model_validate(found[-1].document) if found else DEFAULT_STANDARD

    # Entries

    def take(self, parcel: bytes, *, actor: Acting | None = None) -> Case:
        """Take a department's signed entry with its review: submitted and reviewed in one transaction.

        Args:
            parcel: as ``shufang-node entry submit`` writes it.
            actor: who hands it in, where somebody was authenticated; the signature says whose entry it is.

        Raises:
            RequestRefusedError: somebody else's entry, a field the standard asks for, a state secret, no review.
            ContractError: not such a file, or a signature that does not verify.
        """
        envelope, attachments = wire.unpack(parcel)
        signer, value = self._signed(envelope, CATALOGUE_ENTRY)
        by, told = self._signer(signer, actor), _handed_in(actor)
        sha256 = _subject(envelope, CATALOGUE_ENTRY)
        name = str(value.get("id", ""))[:96]
        case = self._known(name)
        facts = EntryFacts(
            now=self._office.now(), organisation=signer.organisation, value=value, standard=self.standard,
            known_version=self._version(case), entry_sha256=sha256,
        )  # fmt: skip
        document = {
            "entry": value, "entry_sha256": sha256, "standard_version": self.standard.version,
            "level": str(value.get("level", "")), "in_scope_since": "", "bound": "",
        }  # fmt: skip
        # Of a state secret not even the name is kept: the entry itself may say too much.
        place = "-" if value.get("secrecy", "none") != "none" else name or "-"
        evidence = {"entry": sha256}
        with in_agency_words(), self._desk.together():
            # What the standard and the owner say comes before the form: a refusal names the field that is missing.
            if case is None:
                made = self._desk.open(
                    by, KIND, place, "submit", facts=facts, document=document, reason=told, evidence=evidence
                )
            else:
                made = self._desk.move(
                    by, KIND, place, "submit", facts=facts, document=document, reason=told, evidence=evidence
                )
            entry = EntryExtract.read(value)
            reviewed = replace(facts, entry=entry, review=self._review(attachments, signer))
            made = self._desk.move(
                by, KIND, name, "review", facts=reviewed, reason=told, evidence=evidence,
                document={**made.document, "level": entry.level}, artefacts={f"entry-{entry.version}": parcel},
            )  # fmt: skip
            if case is not None:
                self._flag(by, name, f"{name} version {entry.version} submitted")
        return made

    def confirm(self, name: str, *, official: str = "", reason: str = "", actor: Acting | None = None) -> Case:
        """Confirm an entry and put it in scope, or out of it where its owner excluded it; both or neither.

        Raises:
            RequestRefusedError: no attribute, a prohibited circumstance, no check of them, no source consent.
            CaseUnknownError: no such entry.
        """
        by, case = self._official(official, actor), self._registry.get(KIND, name)
        facts = replace(self._facts(case), organisation=by.organisation)
        excluded = facts.entry is not None and facts.entry.operation_attribute == "prohibited"
        since = "" if excluded else time_text(self._office.now())[:10]
        with in_agency_words(), self._desk.together():
            if case.state == "source_reviewed":
                self._desk.move(by, KIND, name, "confirm", facts=facts, reason=reason)
            return self._desk.move(
                by, KIND, name, "exclude" if excluded else "include", facts=facts, reason=reason,
                document={**case.document, "in_scope_since": since},
            )  # fmt: skip

    def bind(self, envelope_bytes: bytes, *, actor: Acting | None = None) -> Case:
        """Take a node's signed statement that a live dataset is bound.

        Raises:
            RequestRefusedError: another department's, or a dataset with other columns than the entry's.
            CaseUnknownError: no such entry.
        """
        signer, value = self._signed(Envelope.from_bytes(envelope_bytes), BINDING)
        binding, by = Binding.model_validate(value), self._signer(signer, actor)
        case = self._registry.get(KIND, binding.resource)
        facts = replace(self._facts(case), organisation=signer.organisation, schema_sha256=binding.schema_sha256)
        with in_agency_words():
            if facts.entry is None or facts.entry.owner != signer.organisation:
                refusal = Refusal("resource.owner", f"expected the binding by {facts.value['owner']}")
                raise self._desk.refuse(by, KIND, case.id, "bind", refusal)
            if case.state == "bound" and binding.entry_sha256 == case.document["entry_sha256"]:
                return case
            return self._desk.move(
                by, KIND, case.id, "bind", facts=facts, reason=_handed_in(actor),
                evidence={"schema": binding.schema_sha256}, artefacts={"binding": envelope_bytes},
                document={**case.document, "bound": time_text(binding.bound_at)},
            )  # fmt: skip

    def take_consent(self, envelope_bytes: bytes, *, actor: Acting | None = None) -> Case:
        """Keep a provider's consent to the use of data it shared, or its revocation.

        Raises:
            RequestRefusedError: not signed by the provider it names.
            CaseUnknownError: no such entry.
        """
        consent = self._consent(envelope_bytes)
        by = self._own(Acting(consent.provider, consent.provider, frozenset({"source_department"}), "key"), actor)
        case = self._registry.get(KIND, consent.resource)
        digest = Envelope.from_bytes(envelope_bytes).payload_sha256
        with self._desk.together():
            made = self._desk.amend(
                by, case, f"catalogue.consent_{consent.state}", reason=_handed_in(actor),
                evidence={"consent": digest}, artefacts={f"{CONSENT}{digest}": envelope_bytes},
            )  # fmt: skip
            if consent.state == "revoked":
                self._flag(by, case.id, f"{consent.provider} took back its consent to {case.id}")
        return made

    def withdraw(
        self, name: str, *, official: str = "", reason: str, actor: Acting | None = None
    ) -> list[dict[str, str]]:
        """Take a resource out of the catalogue and return what depended on it; provenance stays.

        A department withdraws its own entries; the data administration any.

        Raises:
            RequestRefusedError: no reason, or another department's entry.
            CaseUnknownError: no such entry.
        """
        by, case = self._official(official, actor), self._registry.get(KIND, name)
        with in_agency_words(), self._desk.together():
            if "data_administration" not in by.roles and _entry(case)["owner"] != by.organisation:
                refusal = Refusal("resource.owner", f"expected the withdrawal by {_entry(case)['owner']}")
                raise self._desk.refuse(by, KIND, name, "withdraw", refusal)
            facts = replace(self._facts(case), reason=reason)
            self._desk.move(by, KIND, name, "withdraw", facts=facts, reason=reason)
            return self._flag(by, name, reason)

    # Readings

    def listed(self, names: Sequence[str] | None = None) -> dict[str, Listed]:
        """Return the entries by id as requests meet them."""
        found = {}
        for case in self._registry.cases(KIND):
            if names is None or case.id in names:
                found[case.id] = Listed(case.state, EntryExtract.read(_entry(case)), self._consents(case.id))
        return found

    def level(self, level: str | None = None) -> list[dict[str, Any]]:
        """Return the level's catalogue: every submitted entry once, with owner, level, version and state."""
        return [
            {
                "id": case.id, "owner": _entry(case)["owner"], "level": case.document["level"],
                "version": _entry(case)["version"], "state": case.state,
                "name_zh": _entry(case)["name_zh"], "standard_version": case.document["standard_version"],
            }
            for case in self._registry.cases(KIND)
            if case.state != "draft" and level in {None, case.document["level"]}
        ]  # fmt: skip

    def public(self) -> list[dict[str, Any]]:
        """Return the authorised-operation catalogue: entries in scope; no address, no sample, no person."""
        hidden = {"eligibility", "attribute_reason", "legal_basis", "secrecy", "provider"}
        return [
            {name: value for name, value in _entry(case).items() if name not in hidden}
            for case in self._registry.cases(KIND)
            if case.state in USABLE
        ]

    def supply(self) -> list[Unbound]:
        """Return the entries in scope that no node has bound, with their age in days."""
        waiting: dict[str, tuple[str, date]] = {}
        bound = set()
        for case in self._registry.cases(KIND):
            if case.state in USABLE and case.document["in_scope_since"]:
                since = date.fromisoformat(str(case.document["in_scope_since"]))
                waiting[case.id] = (str(_entry(case)["owner"]), since)
            if case.document["bound"]:
                bound.add(case.id)
        return unbound(waiting, frozenset(bound), self._office.now().date())

    def dependants(self, name: str) -> list[dict[str, str]]:
        """Return the cases that depend on an entry: grants, registered products and agreements."""
        found = []
        for kind in ("agreement", "grant", "registration"):
            found += [
                {"kind": kind, "id": case.id, "state": case.state}
                for case in self._registry.cases(kind)
                if name in _resources_of(kind, case.document)
            ]
        return found

    def flags(self, kind: str, case_id: str) -> list[str]:
        """Return why a case is flagged."""
        events = self._registry.events(kind=kind, case_id=case_id)
        return [str(event.body["reason"]) for event in events if event.body["act"] == "catalogue.flag"]

    def agreement_refusal(self, resources: Sequence[str]) -> Refusal | None:
        """Return why an agreement may not list these resources: a prohibited circumstance, or a check not done."""
        for name, listed in self.listed(resources).items():
            refusal = eligibility_refusal(listed.entry)
            if refusal is not None:
                return Refusal(refusal.code, f"{name}: {refusal.message}", refusal.clauses)
        return None

    # Inside

    def _flag(self, by: Acting, name: str, reason: str) -> list[dict[str, str]]:
        found = self.dependants(name)
        for case in found:
            self._desk.record(by, case["kind"], case["id"], "catalogue.flag", state=case["state"], reason=reason)
        return found

    def _facts(self, case: Case) -> EntryFacts:
        value = _entry(case)
        return EntryFacts(
            now=self._office.now(), organisation=self._office.identity.organisation, value=value,
            entry=EntryExtract.read(value), entry_sha256=str(case.document["entry_sha256"]),
            consents=self._consents(case.id),
        )  # fmt: skip

    def _consents(self, name: str) -> tuple[SourceConsent, ...]:
        kept = self._registry.artefacts(KIND, name)
        return tuple(self._consent(data) for key, data in kept.items() if key.startswith(CONSENT))

    def _consent(self, envelope_bytes: bytes) -> SourceConsent:
        envelope = Envelope.from_bytes(envelope_bytes)
        signer, value = self._signed(envelope, SOURCE_CONSENT)
        consent = SourceConsent.model_validate(value)
        if signer.organisation != consent.provider:
            raise RequestRefusedError("resource.source_consent", f"expected the signature of {consent.provider}")
        return consent

    def _review(self, attachments: tuple[bytes, ...], signer: Actor) -> SourceReview | None:
        if len(attachments) != 1:
            return None
        reviewer, value = self._signed(Envelope.from_bytes(attachments[0]), SOURCE_REVIEW)
        return SourceReview.model_validate(value) if reviewer.organisation == signer.organisation else None

    def _signed(self, envelope: Envelope, kind: str) -> tuple[Actor, dict[str, Any]]:
        """Return who signed a statement, by trust data, and what it says."""
        now = self._office.now()
        trust = self._office.trust()
        for actor in trust.actors.actors:
            is_struck = trust.status.state_of("actor", actor.id) is not None
            if actor.verify_key.keyid == envelope.keyid and actor.is_valid_at(now) and "node" in actor.roles:
                if is_struck:
                    break
                _, value = read(envelope.open(actor.verify_key, PAYLOAD_TYPE), kind)
                return actor, value
        raise RequestRefusedError("resource.signer", "expected the signature of an admitted department's node")

    def _known(self, name: str) -> Case | None:
        try:
            return self._registry.get(KIND, name)
        except CaseUnknownError:
            return None

    @staticmethod
    def _version(case: Case | None) -> int:
        return int(_entry(case)["version"]) if case else 0

    def _official(self, official: str, actor: Acting | None) -> Acting:
        organisation = self._office.identity.organisation
        return actor or Acting(official, organisation, frozenset({"data_administration"}), "home")

    def _signer(self, signer: Actor, carrier: Acting | None) -> Acting:
        """Return who signed, as the desk knows it."""
        return self._own(Acting(signer.id, signer.organisation, frozenset({"source_department"}), "key"), carrier)

    def _own(self, signer: Acting, carrier: Acting | None) -> Acting:
        """Return the signer if its own body or the data administration hands the file in.

        Raises:
            RequestRefusedError: another body does.
        """
        if carrier is None or carrier.organisation == signer.organisation or "data_administration" in carrier.roles:
            return signer
        refusal = Refusal("resource.signer", "expected a file of your own department", COMPILE)
        with in_agency_words():
            raise self._desk.refuse(carrier, KIND, signer.id, "hand_in", refusal)


def _handed_in(actor: Acting | None) -> str:
    return f"handed in by {actor.id}" if actor else ""


def _entry(case: Case) -> dict[str, Any]:
    return cast("dict[str, Any]", case.document["entry"])


def _subject(envelope: Envelope, kind: str) -> str:
    subjects, _ = read(envelope.payload, kind)
    return subjects[0][1]


def _resources_of(kind: str, document: Mapping[str, Any]) -> set[str]:
    if kind == "agreement":
        return set(map(str, document.get("resources", ())))
    if kind == "grant":
        return {str(use["resource"]) for party in document["parties"] for use in party["resources"]}
    return {str(source["resource"]) for source in document["application"]["resources"]}
