"""The node's registers: consents of original providers, and bases and consents for personal information.

A provider's statement counts while its signer is in the trust data with the provider's
organisation. Subjects who consented are kept as keyed digests: the key never leaves the node, so
the register names nobody, and a withdrawal deletes the line.

Privacy: the ledger gets the names of resource, purpose and basis, and counts in bands; never a subject.
"""

import hashlib
import hmac
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path

from nodes import tables
from nodes.books import Books
from nodes.catalogue_entries import CatalogueEntry
from nodes.contract import canonical
from nodes.contract.catalogue import SourceConsent
from nodes.contract.errors import ContractError
from nodes.contract.signing import Envelope
from nodes.contract.statement import PAYLOAD_TYPE, SOURCE_CONSENT, read, time_text
from nodes.errors import RegisterError
from nodes.trust_store import TrustData
from nodes.use_rules import Basis

KINDS = ("consent", "anonymised", "legal")
GROUP_MIN = 5
"""Fewest rows that share the same values of all columns in an anonymised view (k-anonymity; GB/T 37964)."""


def keep_source_consent(books: Books, envelope_bytes: bytes, *, trust: TrustData) -> SourceConsent:
    """Verify a provider's consent, or its revocation, and keep it.

    Raises:
        RegisterError: not such a statement, or not signed by the provider it names.
    """
    consent = read_consent(envelope_bytes, trust=trust)
    digest = Envelope.from_bytes(envelope_bytes).payload_sha256
    with books.transaction():
        books.keep_source_consent(digest, consent.resource, envelope_bytes)
        facts = {"resource": consent.resource, "provider": consent.provider, "state": consent.state, "sha256": digest}
        books.record("consent.kept", actor=consent.provider, facts=facts)
    return consent


def read_consent(envelope_bytes: bytes, *, trust: TrustData) -> SourceConsent:
    """Verify a provider's statement.

    Raises:
        RegisterError: not such a statement, or nobody of the provider signed it with a key that counts.
    """
    try:
        envelope = Envelope.from_bytes(envelope_bytes)
        _, predicate = read(envelope.payload, SOURCE_CONSENT)
        consent = SourceConsent.model_validate(predicate)
        for actor in trust.by_keyid.get(envelope.keyid, ()):
            is_struck = trust.status.state_of("actor", actor.id) or trust.status.state_of("key", envelope.keyid)
            if actor.organisation == consent.provider and actor.is_valid_at(consent.stated_at) and not is_struck:
                envelope.open(actor.verify_key, PAYLOAD_TYPE)
                return consent
    except (ContractError, ValueError) as error:
        raise RegisterError("expected a provider's signed consent to the use of shared data") from error
    raise RegisterError(f"expected the signature of {consent.provider} on the consent, by a key that counts")


def source_consents(books: Books, resource: str, *, trust: TrustData) -> tuple[SourceConsent, ...]:
    """Return the kept statements about a resource that still verify; a struck signer's no longer do."""
    found = []
    for data in books.source_consents(resource):
        try:
            found.append(read_consent(data, trust=trust))
        except RegisterError:
            continue
    return tuple(found)


def add_basis(books: Books, entry: CatalogueEntry, basis: Basis, *, now: datetime) -> Basis:
    """Add a line to the register of personal information.

    Raises:
        RegisterError: an unknown kind or column, no group or reference, or an end that has passed.
    """
    unknown = sorted({*basis.columns, *((basis.subject,) if basis.subject else ())} - set(entry.column_names))
    if basis.kind not in KINDS or unknown or not basis.columns:
        raise RegisterError(f"expected one of {', '.join(KINDS)} over columns of {entry.id}; unknown: {unknown[:5]}")
    if not basis.group.strip() or not basis.reference.strip() or basis.not_after <= now:
        raise RegisterError("expected subject group, reference and an end that lies ahead")
    if (basis.kind == "consent") != bool(basis.subject):
        raise RegisterError("expected the column that points to the subject with consent, and with nothing else")
    marked = {column.name for column in entry.columns if column.identifier}
    if basis.kind == "anonymised" and set(basis.columns) & marked:
        raise RegisterError("expected no identifier in the scope of an anonymised view; leave it out")
    with books.transaction():
        books.keep_basis(basis)
        facts = {"basis": basis.id, "resource": basis.resource, "purpose": basis.purpose, "kind": basis.kind}
        books.record("personal.registered", facts={**facts, "not_after": time_text(basis.not_after)})
    return basis


def subject_digest(key: bytes, basis: Basis, subject: str) -> str:
    """Return the keyed digest under which a subject stands in the register."""
    data = canonical.dumps({"purpose": basis.purpose, "resource": basis.resource, "subject": subject.strip()})
    return hmac.new(key, b"shufang/v1/subject\n" + data, hashlib.sha256).hexdigest()


def set_consents(books: Books, basis: Basis, subjects: Iterable[str], *, key: bytes, given: bool) -> int:
    """Note that subjects consent, or withdraw; effective with the next order. Returns how many there are."""
    digests = [subject_digest(key, basis, subject) for subject in subjects if subject.strip()]
    if not digests:
        raise RegisterError("expected at least one subject, one per line")
    with books.transaction():
        books.set_subjects(basis.id, digests, given=given)
        facts = {"basis": basis.id, "given": given, "subjects_band": tables.rows_band(len(digests))}
        books.record("personal.consent", facts=facts)
    return len(digests)


def find_basis(books: Books, name: str) -> Basis:
    """Return a line of the register.

    Raises:
        RegisterError: none of this name.
    """
    for basis in books.bases():
        if basis.id == name:
            return basis
    raise RegisterError(f"expected a line {name} in the register; see `shufang-node personal list`")


def assess_anonymity(
    books: Books, entry: CatalogueEntry, basis: Basis, *, home: Path, commitment_key: bytes
) -> tuple[int, bool]:
    """Measure how small the smallest group of rows is that share all values of the view (PC-DEID).

    Returns:
        Size of the smallest group, at most ``GROUP_MIN``, and whether the test passed.

    Raises:
        RegisterError: not an anonymised basis.
        TableError: the table cannot be read.

    Privacy: a size below ``GROUP_MIN`` is told to the officer alone; the ledger has the verdict.
    """
    if basis.kind != "anonymised":
        raise RegisterError(f"expected an anonymised view, {basis.id} rests on {basis.kind}")
    smallest = min(tables.smallest_group(entry, home, basis.columns), GROUP_MIN)
    passed = smallest >= GROUP_MIN
    with books.transaction():
        value = tables.commitment(entry, home, commitment_key) if passed else ""
        books.keep_anonymity(basis.id, value)
        books.record("personal.assessed", facts={"basis": basis.id, "passed": passed, "group_min": GROUP_MIN})
    return smallest, passed


def anonymous(books: Books, bases: Sequence[Basis], commitment: str) -> frozenset[str]:
    """Return the anonymised bases whose test passed on the content that ``commitment`` stands for."""
    return frozenset(
        b.id for b in bases if b.kind == "anonymised" and commitment and books.anonymity(b.id) == commitment
    )
