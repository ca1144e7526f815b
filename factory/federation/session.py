"""A granted session as the operator drives it: open it at every node, move it step by step, close it.

Privacy: carries orders and steps out and signed answers back; what an answer may hold is the
node's decision, step by step. Nothing is kept but the answers' signed envelopes.
"""

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from factory.errors import NodeRefusedError
from factory.hub.bus import NodeBus, NodeUnreachableError
from nodes.contract import wire
from nodes.contract.grant import Grant
from nodes.contract.messages import Message, Order, Refusal, ResourceUse, Result, Step, decode, encode
from nodes.contract.signing import Envelope, SigningKey, VerifyKey, sign

STEP_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Reply:
    """A verified answer of one party.

    Attributes:
        sender: who signed it.
        body: facts of the answer.
        attachments: as listed in the signed result.
        envelope: the signed result itself, to keep as evidence.
    """

    sender: str
    body: dict[str, Any]
    attachments: tuple[bytes, ...]
    envelope: Envelope


Answer = Reply | Refusal | NodeUnreachableError


def read_answer(parcel: bytes, request: Message, *, sender: str, key: VerifyKey) -> Reply | Refusal:
    """Verify an answer to ``request`` from ``sender``.

    Raises:
        ContractError: not signed by ``sender``, not an answer to this request, or malformed.
    """
    from nodes.contract.errors import BadSignatureError
    from nodes.contract.signing import sha256_hex

    envelope, attachments = wire.unpack(parcel)
    digest = sha256_hex(request.to_payload())
    model: type[Result | Refusal] = Refusal if envelope.payload_type == Refusal.payload_type else Result
    answer = decode(model, envelope, attachments, key)
    if answer.sender != sender or answer.request_sha256 != digest:
        raise BadSignatureError(f"expected the answer of {sender} to this very request")
    if isinstance(answer, Refusal):
        return answer
    return Reply(answer.sender, answer.body, attachments, envelope)


@dataclass(slots=True)
class Session:
    """One session over several nodes; the operator's half.

    Attributes:
        orders: bus that carries orders (Flower in production, relay for local trials).
        steps: bus that carries the steps.
        key: the operator's signing key.
        operator: its actor id.
        grant, grant_sha256: the grant and the digest of its signed payload.
        keys: statement key per party, from trust data.
        now: clock.
        clients: application units that take part.
        transcript: every signed answer received, in order of arrival.
        refusals: every refusal received, in order of arrival; a pipeline may go on without the node.
        order_envelopes: the signed order per node that accepted it; an application unit joins with it.
    """

    orders: NodeBus
    steps: NodeBus
    key: SigningKey
    operator: str
    grant: Grant
    grant_sha256: str
    keys: Mapping[str, VerifyKey]
    clients: tuple[str, ...] = ()
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))
    session_id: str = field(default_factory=lambda: "s-" + secrets.token_hex(12))
    transcript: list[tuple[str, Envelope]] = field(default_factory=list)
    refusals: list[tuple[str, Refusal]] = field(default_factory=list)
    order_envelopes: dict[str, Envelope] = field(default_factory=dict)
    bytes_sent: int = 0
    bytes_received: int = 0
    _order_sha256: dict[str, str] = field(default_factory=dict)
    _sequence: dict[str, int] = field(default_factory=dict)
    _latest: dict[str, tuple[Message, tuple[bytes, ...]]] = field(default_factory=dict)

    def open(
        self, task: str, parameters: Mapping[str, Any], resources: Mapping[str, Sequence[ResourceUse]]
    ) -> dict[str, Answer]:
        """Send the order to every node of ``resources`` and return their answers.

        Args:
            task: name in the nodes' task catalogue.
            parameters: JSON without floats, equal for all nodes.
            resources: per node, what it shall read.
        """
        issued = self.now()
        requests: dict[str, Message] = {}
        for node, uses in resources.items():
            order = Order(
                order_id=f"{self.session_id}.{node}"[:96],
                session_id=self.session_id,
                grant_id=self.grant.grant_id,
                grant_sha256=self.grant_sha256,
                task=task,
                scenario=self.grant.scenario,
                purpose=self.grant.purpose,
                operator=self.operator,
                node=node,
                parties=tuple(resources),
                clients=self.clients,
                resources=tuple(uses),
                parameters=dict(parameters),
                issued_at=issued,
                expires_at=issued + timedelta(minutes=10),
            )
            requests[node] = order
        answers = self._ask(self.orders, requests, dict.fromkeys(requests, ()))
        from nodes.contract.signing import sha256_hex

        for node, answer in answers.items():
            if isinstance(answer, Reply):
                payload = requests[node].to_payload()
                self._order_sha256[node] = sha256_hex(payload)
                self.order_envelopes[node] = sign(self.key, Order.payload_type, payload)
                self._sequence[node] = 0
        return answers

    def step(
        self,
        kind: str,
        bodies: Mapping[str, Mapping[str, Any]],
        attachments: Mapping[str, Sequence[bytes]] | None = None,
        *,
        timeout_s: float = STEP_TIMEOUT_S,
    ) -> dict[str, Answer]:
        """Send one step to each node of ``bodies`` at the same time and return their answers."""
        parts = {node: tuple((attachments or {}).get(node, ())) for node in bodies}
        requests: dict[str, Message] = {}
        for node, body in bodies.items():
            self._sequence[node] += 1
            requests[node] = Step(
                session_id=self.session_id,
                order_sha256=self._order_sha256[node],
                sequence=self._sequence[node],
                kind=kind,
                sender=self.operator,
                recipient=node,
                body=dict(body),
                attachments_sha256=wire.digests(parts[node]),
                issued_at=self.now(),
            )
        self._latest |= {node: (request, parts[node]) for node, request in requests.items()}
        return self._ask(self.steps, requests, parts, timeout_s=timeout_s)

    def repeat(self, nodes: Iterable[str], *, timeout_s: float = STEP_TIMEOUT_S) -> dict[str, Answer]:
        """Send the latest step of each node again, in the same bytes, to learn an answer that stayed out."""
        latest = {node: self._latest[node] for node in nodes}
        return self._ask(
            self.steps,
            {node: request for node, (request, _) in latest.items()},
            {node: parts for node, (_, parts) in latest.items()},
            timeout_s=timeout_s,
        )

    def close(self) -> dict[str, Answer]:
        """End the session at every node it is open at; each answer's attachment is the signed node-run statement."""
        return self.step("session.close", {node: {} for node in self._order_sha256})

    @property
    def nodes(self) -> tuple[str, ...]:
        """Nodes at which the session is open."""
        return tuple(self._order_sha256)

    def _ask(
        self,
        bus: NodeBus,
        requests: Mapping[str, Message],
        attachments: Mapping[str, tuple[bytes, ...]],
        *,
        timeout_s: float = STEP_TIMEOUT_S,
    ) -> dict[str, Answer]:
        parcels = {node: encode(request, self.key, attachments[node]) for node, request in requests.items()}
        self.bytes_sent += sum(map(len, parcels.values()))
        answers: dict[str, Answer] = {}
        for node, parcel in bus.ask_all(parcels, timeout_s=timeout_s).items():
            if isinstance(parcel, NodeUnreachableError):
                answers[node] = parcel
                continue
            self.bytes_received += len(parcel)
            answer = read_answer(parcel, requests[node], sender=node, key=self.keys[node])
            if isinstance(answer, Reply):
                self.transcript.append((node, answer.envelope))
            else:
                self.refusals.append((node, answer))
            answers[node] = answer
        return answers


def require(answers: Mapping[str, Answer]) -> dict[str, Reply]:
    """Return the replies if every party gave one.

    Raises:
        NodeRefusedError: one refused.
        NodeUnreachableError: one did not answer.
    """
    replies = {}
    for node, answer in answers.items():
        if isinstance(answer, Refusal):
            raise NodeRefusedError(node, answer.code, answer.message)
        if isinstance(answer, NodeUnreachableError):
            raise answer
        replies[node] = answer
    return replies
