"""Grants at the node: checked when offered, decided by the department's officer, checked again on every order.

A grant counts with at least two registrars of the agency, each a person with a key of their own,
all over the same payload, and with this department's own signature over it too.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from nodes.books import Books, GrantRecord
from nodes.catalogue_entries import CatalogueEntry
from nodes.contract.errors import ContractError
from nodes.contract.grant import Grant
from nodes.contract.signing import Envelope, SigningKey, VerifyKey, sign
from nodes.contract.statement import PAYLOAD_TYPE, open_grant, parse_grant
from nodes.errors import GrantError
from nodes.policy import actor_denial
from nodes.trust_store import TrustData
from nodes.use_rules import UseFacts, denials

REGISTRARS_MIN = 2
"""Fewest registrars that sign a grant: two persons of the agency (one prepares, one confirms)."""


def check_offer(
    envelopes: Sequence[bytes], *, node: str, trust: TrustData, now: datetime
) -> tuple[str, Grant, tuple[bytes, ...]]:
    """Check what somebody offers as a grant of the agency.

    Args:
        envelopes: signature envelopes of the registrars, others are ignored.
        node: this node.
        trust: trust data in force.
        now: the node's clock.

    Returns:
        Digest of the payload, the grant, and the registrars' envelopes.

    Raises:
        GrantError: not a grant, not for this node, over already, or without two registrars.
    """
    grant, digest, good = _registrars(envelopes, trust, moment=now)
    if grant.party(node) is None:
        raise GrantError(f"expected a grant with {node} among its parties")
    if grant.not_after <= now:
        raise GrantError(f"expected a grant that has not ended, grant {grant.grant_id} has")
    denial = actor_denial(trust.actors, trust.status, grant.operator, "operator", now)
    if denial is not None:
        raise GrantError(f"expected a known grantee: {denial.message}")
    return digest, grant, good


def check_record(record: GrantRecord, *, own_keys: Sequence[VerifyKey], trust: TrustData) -> Grant:
    """Verify a grant of the books once more: the registrars' signatures and, if approved, our own.

    A registrar's key must have counted when the grant reached this node; a key known since to have
    been compromised before that does not.

    Args:
        record: as the books hold it.
        own_keys: statement keys this node has had.
        trust: trust data in force.

    Raises:
        GrantError: a signature that no longer counts, or altered books.
    """
    grant, digest, _ = _registrars(record.registrars, trust, moment=record.received_at)
    if digest != record.sha256:
        raise GrantError("expected the grant that was offered, the books hold another payload")
    if record.state == "approved":
        if record.own is None:
            raise GrantError("expected this department's signature on an approved grant")
        try:
            own = Envelope.from_bytes(record.own)
            key = next((key for key in own_keys if key.keyid == own.keyid), None)
            if key is None or own.payload_sha256 != digest:
                raise GrantError("expected this department's signature on this very grant")
            own.open(key, PAYLOAD_TYPE)
        except ContractError as error:
            raise GrantError("expected this department's signature on an approved grant to verify") from error
    return grant


def approve(
    books: Books,
    grant_id: str,
    *,
    key: SigningKey,
    node: str,
    catalogue: Mapping[str, CatalogueEntry],
    reason: str,
    uses: Mapping[str, UseFacts] | None = None,
) -> GrantRecord:
    """Sign a pending grant in the department's name.

    Args:
        books: the node's books.
        grant_id: name or payload digest of the grant.
        key: the node's statement key.
        node: this node.
        catalogue: the node's entries; the grant must fit them.
        reason: of the decision, kept in the books.
        uses: what the node's registers say of its resources, by id.

    Raises:
        GrantError: no such grant, not pending, or for resources or columns that this node does not have.
    """
    record = find(books, grant_id)
    if record.state == "approved":
        return record
    if record.state != "pending":
        raise GrantError(f"expected a pending grant, {record.grant_id} is {record.state}; the agency issues a new one")
    grant = parse_grant(record.payload)
    for finding in misfits(grant, node=node, catalogue=catalogue, uses=uses):
        raise GrantError(finding)
    own = sign(key, PAYLOAD_TYPE, record.payload).to_bytes()
    books.decide_grant(record.sha256, "approved", own=own, reason=reason)
    return find(books, record.sha256)


def misfits(
    grant: Grant,
    *,
    node: str,
    catalogue: Mapping[str, CatalogueEntry],
    uses: Mapping[str, UseFacts] | None = None,
) -> list[str]:
    """Return why a grant does not fit this node's catalogue and registers, one sentence each; empty if it fits.

    Args:
        grant: what the agency issued.
        node: this node.
        catalogue: its entries.
        uses: what its registers say, by resource; a resource that is not in it has no consents and no bases.
    """
    party = grant.party(node)
    if party is None:
        return [f"expected {node} among the parties of grant {grant.grant_id}"]
    found = []
    for use in party.resources:
        entry = catalogue.get(use.resource)
        if entry is None or entry.version != use.version:
            found.append(f"expected {use.resource} version {use.version} in the catalogue; bind it first")
            continue
        facts = (uses or {}).get(use.resource) or UseFacts(entry.extract)
        limits, start = grant.thresholds, grant.issued_at
        rules = denials(use, facts, purpose=grant.purpose, tasks=grant.tasks, limits=limits, now=start)
        found += [message for _, message in rules]
        named = {*use.columns, *(condition.column for condition in use.row_filter)}
        if unknown := sorted(named - set(entry.column_names)):
            found.append(f"expected only columns of {use.resource}, it has no {', '.join(unknown[:5])}")
    return found


def reject(books: Books, grant_id: str, *, reason: str) -> GrantRecord:
    """Turn a pending grant down.

    Raises:
        GrantError: no such grant, or not pending.
    """
    record = find(books, grant_id)
    if record.state != "pending":
        raise GrantError(f"expected a pending grant, {record.grant_id} is {record.state}")
    books.decide_grant(record.sha256, "rejected", own=None, reason=reason)
    return find(books, record.sha256)


def revoke(books: Books, grant_id: str, *, reason: str) -> GrantRecord:
    """End an approved grant at this node at once; open sessions stop at their next step.

    Raises:
        GrantError: no such grant, or not approved.
    """
    record = find(books, grant_id)
    if record.state != "approved":
        raise GrantError(f"expected an approved grant, {record.grant_id} is {record.state}")
    books.decide_grant(record.sha256, "revoked", own=None, reason=reason)
    return find(books, record.sha256)


def find(books: Books, grant_id: str) -> GrantRecord:
    """Return a grant by its name or the digest of its payload.

    Raises:
        GrantError: none.
    """
    record = books.grant(grant_id) or books.grant_named(grant_id)
    if record is None:
        raise GrantError(f"expected a grant in the books, none is named {grant_id}; see `shufang-node grants list`")
    return record


def _registrars(
    envelopes: Sequence[bytes], trust: TrustData, *, moment: datetime
) -> tuple[Grant, str, tuple[bytes, ...]]:
    grant: Grant | None = None
    digest = ""
    persons: dict[str, str] = {}
    good: list[bytes] = []
    for data in envelopes:
        try:
            envelope = Envelope.from_bytes(data)
        except ContractError as error:
            raise GrantError(f"expected signed envelopes of a grant: {error}") from error
        if digest and envelope.payload_sha256 != digest:
            raise GrantError("expected every signature over the same grant, got different payloads")
        digest = envelope.payload_sha256
        signer = next(
            (
                actor
                for actor in trust.by_keyid.get(envelope.keyid, ())
                if "registrar" in actor.roles
                and actor.is_valid_at(moment)
                and trust.status.state_of("actor", actor.id) is None
                and trust.status.state_of("key", envelope.keyid) is None
            ),
            None,
        )
        if signer is None:
            continue
        try:
            grant = open_grant(envelope, signer.verify_key)
        except ContractError as error:
            raise GrantError(f"expected a grant that verifies: {error}") from error
        if signer.id in grant.registrars and signer.id not in persons and envelope.keyid not in persons.values():
            persons[signer.id] = envelope.keyid
            good.append(data)
    if grant is None or len(persons) < REGISTRARS_MIN:
        raise GrantError(
            f"expected signatures of {REGISTRARS_MIN} registrars named in grant and trust data, got {len(persons)}"
        )
    return grant, digest, tuple(good)
