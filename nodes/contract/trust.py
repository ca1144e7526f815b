"""Who is who: the agency-signed list of actors, their roles and public keys.

``actors.json`` and ``status.json`` are targets of the agency's TUF repository. Every party
learns the others' keys from there and never from hub, relay or operator. A key counts
within its window and before the time since which it is known to be compromised.
"""

import base64
import binascii
from datetime import datetime
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from nodes.contract.errors import MalformedError, UnknownActorError
from nodes.contract.messages import Message, Name, Part, Text, Time
from nodes.contract.signing import VerifyKey

Role = Literal["operator", "node", "agency", "registrar", "reviewer", "application_unit", "log", "witness"]


class Actor(Part):
    """One signer: a node, a person in an office, a service.

    Attributes:
        id: name in every message.
        organisation: the body it belongs to; separation of duties counts these.
        title_zh, title_en: names for people.
        roles: what it may sign as.
        statement_spki: base64 of the DER public key of its signatures (ECDSA P-256).
        sealing_key: base64 of 32 bytes, its X25519 key; empty where it receives nothing sealed.
        hub_spki: base64 of the DER key by which the hub knows the node; empty for others.
        tls_spki_sha256: digest of the key of its TLS client certificate; empty for others.
        sm2_spki: base64 of the DER SM2 key of its second signatures; empty where it makes none.
        not_before, not_after: window of these keys.
        compromised_since: signatures from this time on do not count.
        removed_at: since when the actor takes no further part; what it signed before stays.
    """

    id: Name
    organisation: Name
    title_zh: Text
    title_en: Text
    roles: Annotated[tuple[Role, ...], Field(min_length=1, strict=False)]
    statement_spki: str
    sealing_key: str = ""
    hub_spki: str = ""
    tls_spki_sha256: str = ""
    sm2_spki: str = ""
    not_before: Time
    not_after: Time
    compromised_since: Time | None = None
    removed_at: Time | None = None

    @property
    def verify_key(self) -> VerifyKey:
        """The key of its statements and messages."""
        return VerifyKey(_decode(self.statement_spki))

    @property
    def sealing_bytes(self) -> bytes:
        """32 raw bytes for ``sealing.seal``.

        Raises:
            MalformedError: the actor has no sealing key.
        """
        key = _decode(self.sealing_key)
        if len(key) != 32:
            raise MalformedError(f"expected a sealing key for {self.id}")
        return key

    def is_valid_at(self, moment: datetime) -> bool:
        """Whether a signature made at ``moment`` counts."""
        ends = [end for end in (self.compromised_since, self.removed_at) if end is not None]
        return self.not_before <= moment < self.not_after and all(moment < end for end in ends)


class Actors(Message):
    """The agency's list of actors (``actors.json``)."""

    payload_type: ClassVar[str] = "application/vnd.shufang.actors.v1+json"

    version: Literal[1] = 1
    actors: Annotated[tuple[Actor, ...], Field(strict=False)]

    def find(self, actor_id: str, *, role: Role, moment: datetime) -> Actor:
        """Return the actor if it holds ``role`` and its keys count at ``moment``.

        An id may stand several times after a key rotation; the entry valid then is taken.

        Raises:
            UnknownActorError: no such actor, role or valid key.
        """
        for actor in self.actors:
            if actor.id == actor_id and role in actor.roles and actor.is_valid_at(moment):
                return actor
        raise UnknownActorError(f"expected {actor_id} as {role} in the trust data, with a key that counts now")


class StatusItem(Part):
    """One suspension or revocation that is in force.

    Attributes:
        subject_kind: what it strikes.
        subject: name or digest of it.
        state: ``suspended`` may return, ``revoked`` and ``superseded`` do not.
    """

    subject_kind: Literal["grant", "resource", "product", "key", "actor", "release"]
    subject: Text
    state: Literal["suspended", "revoked", "superseded"]
    since: Time
    reason: Text


class Status(Message):
    """What is suspended or revoked now (``status.json``), the compacted view of status changes."""

    payload_type: ClassVar[str] = "application/vnd.shufang.status.v1+json"

    version: Literal[1] = 1
    items: Annotated[tuple[StatusItem, ...], Field(strict=False)]

    def state_of(self, subject_kind: str, subject: str) -> StatusItem | None:
        """Return what is in force for this subject, or None."""
        return next((i for i in self.items if i.subject_kind == subject_kind and i.subject == subject), None)


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedError("expected base64") from error
