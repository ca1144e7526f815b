"""The operator's half of the agency's queries."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from factory.errors import NodeRefusedError
from factory.federation.session import Reply, read_answer
from factory.hub.bus import NodeBus
from nodes.contract import wire
from nodes.contract.messages import Query, Refusal, encode
from nodes.contract.signing import Envelope, SigningKey, VerifyKey


@dataclass(frozen=True, slots=True)
class Asked:
    """One query.

    Attributes:
        sender, recipient: actor ids.
        kind: of the query.
        body: its parameters.
        attachments: bytes beside it.
    """

    sender: str
    recipient: str
    kind: str
    body: dict[str, Any]
    attachments: tuple[bytes, ...] = ()


def ask_query(
    bus: NodeBus, key: SigningKey, asked: Asked, *, answerer_key: VerifyKey, timeout_s: float, now: datetime
) -> Reply | Refusal:
    """Send one signed query to a node or the agency and return the verified answer.

    Raises:
        NodeUnreachableError: no answer.
        ContractError: the answer is not the recipient's, or not to this query.
    """
    query = Query(
        query_id=f"q-{secrets.token_hex(12)}",
        kind=asked.kind,
        sender=asked.sender,
        recipient=asked.recipient,
        body=asked.body,
        attachments_sha256=wire.digests(asked.attachments),
        issued_at=now,
        expires_at=now + timedelta(minutes=10),
    )
    parcel = bus.ask(asked.recipient, encode(query, key, asked.attachments), timeout_s=timeout_s)
    return read_answer(parcel, query, sender=asked.recipient, key=answerer_key)


@dataclass(frozen=True, slots=True)
class AgencyClient:
    """Asks the agency's service over any bus.

    Attributes:
        bus: carries parcels, usually the relay.
        sender: our actor id.
        key: our statement key.
        agency: actor id of the service.
        agency_key: its statement key, from trust data.
        timeout_s: longest wait for an answer.
        now: clock.
    """

    bus: NodeBus
    sender: str
    key: SigningKey
    agency: str
    agency_key: VerifyKey
    timeout_s: float = 60.0
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))

    def ask(self, kind: str, body: Mapping[str, Any] | None = None, attachments: Sequence[bytes] = ()) -> Reply:
        """Send one query and return the verified answer.

        Raises:
            NodeRefusedError: the agency refuses; the message says why.
            NodeUnreachableError: no answer.
            ContractError: the answer is not the agency's.
        """
        answer = ask_query(
            self.bus,
            self.key,
            Asked(self.sender, self.agency, kind, dict(body or {}), tuple(attachments)),
            answerer_key=self.agency_key,
            timeout_s=self.timeout_s,
            now=self.now(),
        )
        if isinstance(answer, Refusal):
            raise NodeRefusedError(self.agency, answer.code, answer.message)
        return answer

    def submit_request(self, request: bytes) -> dict[str, Any]:
        """Submit the canonical bytes of a data request and return its id, digest and state."""
        return self.ask("request.submit", attachments=(request,)).body

    def request_status(self, request_id: str) -> dict[str, Any]:
        """Return where a request stands and what was cut."""
        return self.ask("request.status", {"request_id": request_id}).body

    def fetch_grant(self, request_id: str) -> list[Envelope]:
        """Return the registrars' envelopes of the grant; refused until both have signed."""
        reply = self.ask("grant.fetch", {"request_id": request_id})
        return [Envelope.from_bytes(data) for data in reply.attachments]

    def apply_registration(self, application: bytes) -> dict[str, Any]:
        """Apply for registration with the canonical bytes of the seven blocks."""
        return self.ask("registration.apply", attachments=(application,)).body

    def registration_status(self, application_id: str) -> Reply:
        """Return state, code and validity of an application; the envelope is the agency's signed answer."""
        return self.ask("registration.status", {"application_id": application_id})

    def ask_registration(
        self, application_id: str, kind: str, *, reason: str, field: str = "-", value: str = "-"
    ) -> dict[str, Any]:
        """Ask to renew, correct or cancel a registration; the agency's official then settles it."""
        body = {"application_id": application_id, "kind": kind, "reason": reason, "field": field, "value": value}
        return self.ask("registration.ask", body).body

    def file_nationally(self, application_id: str) -> dict[str, Any]:
        """File a registered product with the national platform's register and return where that stands."""
        return self.ask("national.file", {"application_id": application_id}).body

    def national_status(self, application_id: str) -> dict[str, Any]:
        """Return where a national filing stands, with its running clock."""
        return self.ask("national.status", {"application_id": application_id}).body

    def deliver_prerelease(self, product: str, report: bytes) -> Envelope:
        """Hand the pre-release report to the data administration and return its signed receipt."""
        return self.ask("prerelease.deliver", {"product": product}, (report,)).envelope

    def fetch_trust(self) -> dict[str, bytes]:
        """Return the agency's current trust files by name; the caller verifies them from its pinned root."""
        reply = self.ask("trust.fetch")
        return dict(zip([str(name) for name in reply.body["files"]], reply.attachments, strict=True))
