"""What a department signs about its catalogue: entries, its own review of them, bindings, consents.

Files that the department's officer hands to the agency, or to another department. The agency keeps
the level's catalogue from them.

Privacy: public extracts, names of offices and reasons; no address, no sample, no value.
"""

from datetime import datetime

from nodes.books import Books
from nodes.catalogue_entries import CatalogueEntry
from nodes.contract import wire
from nodes.contract.catalogue import Binding, SourceConsent, SourceReview
from nodes.contract.messages import Part
from nodes.contract.signing import Envelope, SigningKey, sign
from nodes.contract.statement import (
    BINDING,
    CATALOGUE_ENTRY,
    PAYLOAD_TYPE,
    SOURCE_CONSENT,
    SOURCE_REVIEW,
    statement,
)
from nodes.errors import CatalogueError, SecretRefusedError


def sign_review(
    entry: CatalogueEntry,
    *,
    books: Books,
    key: SigningKey,
    reviewer: str,
    compliance: str,
    security: str,
    now: datetime,
) -> SourceReview:
    """Sign the department's own compliance and security review of an entry as it stands.

    Raises:
        CatalogueError: no name or no finding.
    """
    if not all(text.strip() for text in (reviewer, compliance, security)):
        raise CatalogueError("expected a reviewer, a finding on compliance and a finding on security")
    review = SourceReview(
        resource=entry.id, version=entry.version, entry_sha256=entry.digest_hex, reviewer=reviewer,
        compliance=compliance, security=security, reviewed_at=now,
    )  # fmt: skip
    envelope = _signed(key, SOURCE_REVIEW, entry, review)
    # Kept under the entry's digest: an entry that changes has no review.
    books.keep_statement(f"review/{entry.id}", entry.digest_hex, envelope.to_bytes())
    return review


def offer_entry(entry: CatalogueEntry, *, books: Books, key: SigningKey) -> bytes:
    """Return the parcel by which a department submits an entry, with its review.

    Raises:
        SecretRefusedError: the entry is marked as a state secret; the attempt is in the ledger without its content.
        CatalogueError: this version was not reviewed.
    """
    if entry.secrecy != "none":
        books.record("resource.refused", facts={"code": SecretRefusedError.code})
        raise SecretRefusedError("expected data that is no state secret; this entry is not offered")
    review = books.statement(f"review/{entry.id}", entry.digest_hex)
    if review is None:
        raise CatalogueError(
            f"expected a review of {entry.id} version {entry.version} as it stands; run "
            f"`shufang-node entry review {entry.id}`"
        )
    envelope = sign(key, PAYLOAD_TYPE, statement(CATALOGUE_ENTRY, [_subject(entry)], entry.public_extract()))
    books.record("entry.offered", facts={"resource": entry.id, "version": entry.version, "sha256": entry.digest_hex})
    return wire.pack(envelope, (review,))


def sign_binding(entry: CatalogueEntry, *, books: Books, key: SigningKey, now: datetime) -> bytes | None:
    """Return the signed statement that a live dataset of this node is bound; None before its quality was assessed."""
    record = books.resource(entry.id)
    if record is None or (record.version, record.schema_sha256) != (entry.version, entry.schema_sha256):
        return None
    binding = Binding(
        resource=entry.id, version=entry.version, entry_sha256=entry.digest_hex, schema_sha256=entry.schema_sha256,
        bound_at=now,
    )  # fmt: skip
    return _signed(key, BINDING, entry, binding).to_bytes()


def sign_source_consent(consent: SourceConsent, *, books: Books, key: SigningKey) -> bytes:
    """Return this department's signed consent to the use of data it has shared, or its revocation."""
    payload = statement(SOURCE_CONSENT, [(f"resource/{consent.resource}", "0" * 64)], consent.model_dump(mode="json"))
    envelope = sign(key, PAYLOAD_TYPE, payload)
    facts = {"resource": consent.resource, "owner": consent.owner, "state": consent.state}
    books.record("consent.signed", facts={**facts, "sha256": envelope.payload_sha256})
    return envelope.to_bytes()


def _subject(entry: CatalogueEntry) -> tuple[str, str]:
    return f"resource/{entry.id}@{entry.version}", entry.digest_hex


def _signed(key: SigningKey, kind: str, entry: CatalogueEntry, said: Part) -> Envelope:
    return sign(key, PAYLOAD_TYPE, statement(kind, [_subject(entry)], said.model_dump(mode="json")))
