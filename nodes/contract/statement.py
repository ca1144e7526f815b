"""Statements: signed facts as in-toto Statements in DSSE, the form that strangers' tools read.

A node signs what it did (``node-run``), what it holds (``data-resource``) and, together with
others, what became of it (build provenance, privacy accounting, release). The grant is a
statement too: agency and department sign the same payload. ``docs/reference/statements.md``
lists the fields of every predicate.

Source:
    in-toto Attestation Framework v1 (Statement layer), DSSE v1.0.2.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from nodes.contract import canonical
from nodes.contract.errors import MalformedError
from nodes.contract.grant import Grant
from nodes.contract.signing import Envelope, VerifyKey

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
NS = "urn:shufang:predicate"

RESOURCE = f"{NS}/data-resource/v1"
GRANT = f"{NS}/authorization-grant/v1"
NODE_RUN = f"{NS}/node-run/v1"
BUILD = "https://slsa.dev/provenance/v1"
PRIVACY = f"{NS}/privacy-accounting/v1"
REVIEW = "https://in-toto.io/attestation/svr/v0.2"
RELEASE = f"{NS}/product-release/v1"
CATALOGUE_ENTRY = f"{NS}/catalogue-entry/v1"
SOURCE_REVIEW = f"{NS}/source-review/v1"
SOURCE_CONSENT = f"{NS}/source-consent/v1"
BINDING = f"{NS}/resource-binding/v1"
STATUS_CHANGE = f"{NS}/status-change/v1"
KEY_EVENT = f"{NS}/key-event/v1"


def statement(predicate_type: str, subjects: Sequence[tuple[str, str]], predicate: Mapping[str, Any]) -> bytes:
    """Return the canonical bytes of a statement, ready to be signed.

    Args:
        predicate_type: one of the types of this module.
        subjects: (name, SHA-256 hex) of what the statement is about, at least one.
        predicate: JSON without floats.

    Raises:
        MalformedError: no subject, or a value that canonical JSON does not have.
    """
    if not subjects:
        raise MalformedError("expected at least one subject of a statement")
    return canonical.dumps(
        {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in subjects],
            "predicateType": predicate_type,
            "predicate": dict(predicate),
        }
    )


def read(payload: bytes, predicate_type: str) -> tuple[list[tuple[str, str]], dict[str, Any]]:
    """Return subjects and predicate of a verified statement payload.

    Raises:
        MalformedError: not a statement of this predicate type.
    """
    value = canonical.loads(payload)
    subjects, predicate = value.get("subject"), value.get("predicate")
    if (
        set(value) != {"_type", "subject", "predicateType", "predicate"}
        or value["_type"] != STATEMENT_TYPE
        or value["predicateType"] != predicate_type
        or not isinstance(predicate, dict)
        or not isinstance(subjects, list)
        or not subjects
    ):
        raise MalformedError(f"expected an in-toto statement of type {predicate_type}")
    pairs = []
    for subject in subjects:
        digest = subject.get("digest") if isinstance(subject, dict) else None
        if not isinstance(subject, dict) or not isinstance(digest, dict) or set(digest) != {"sha256"}:
            raise MalformedError("expected subjects with a name and a SHA-256 digest")
        name, sha256 = subject.get("name"), digest["sha256"]
        if set(subject) != {"name", "digest"} or not isinstance(name, str) or not isinstance(sha256, str):
            raise MalformedError("expected subjects with a name and a SHA-256 digest")
        pairs.append((name, sha256))
    return pairs, predicate


def grant_statement(grant: Grant, *, agreement_name: str, agreement_sha256: str) -> bytes:
    """Return the payload that registrars and departments sign for ``grant``.

    Args:
        grant: the permission.
        agreement_name: file name of the authorised-operation agreement.
        agreement_sha256: its digest, the subject of the statement.
    """
    return statement(GRANT, [(agreement_name, agreement_sha256)], grant.model_dump(mode="json"))


def open_grant(envelope: Envelope, key: VerifyKey) -> Grant:
    """Verify one signature on a grant and return the grant.

    Raises:
        BadSignatureError: not signed by ``key``.
        MalformedError: not a grant statement.
    """
    return parse_grant(envelope.open(key, PAYLOAD_TYPE))


def parse_grant(payload: bytes) -> Grant:
    """Read a verified payload as a grant.

    Raises:
        MalformedError: not a grant statement.
    """
    _, predicate = read(payload, GRANT)
    try:
        return Grant.model_validate(predicate)
    except ValidationError as error:
        where = ", ".join(sorted({".".join(map(str, item["loc"])) or "grant" for item in error.errors()})[:5])
        raise MalformedError(f"expected a valid grant; wrong or missing: {where}") from None


def time_text(moment: datetime) -> str:
    """Return ``moment`` as statements write times: UTC to the second, ``2026-01-31T08:00:00Z``."""
    if moment.tzinfo is None:
        raise ValueError("expected an aware time")
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
