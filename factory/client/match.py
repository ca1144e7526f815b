"""The application unit's half of private verification: ask, check, and learn yes or no.

The operator opens the session and hands the application unit an ``Invitation``: its signed
order and the department's signed acceptance. The application unit checks both against the
agency's trust data, so neither fields, rules nor the committed key can be substituted.

Source:
    RFC 9497, VOPRF mode.

Privacy:
    What is sent is a uniform element and a bucket number, sealed for the department; the
    operator learns how many records are asked, the department a bucket of at least 1 000
    records for each; if it lies about its register's size, ``BITS_MAX`` bits of a digest at
    most. Neither learns the record or the answer. Records and answers stay in this process
    and appear in no log, message or repr.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar, cast

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from factory.client import oprf
from factory.errors import FactoryError, NodeRefusedError
from factory.federation.session import Reply, read_answer
from factory.hub.bus import NodeBus
from nodes.contract import canonical, wire
from nodes.contract.errors import ContractError, MalformedError
from nodes.contract.messages import Order, Refusal, Result, Step, encode, parse
from nodes.contract.sealing import SealHeader, seal, unseal
from nodes.contract.signing import Envelope, SigningKey
from nodes.contract.tasks.match import (
    BITS_MAX,
    BUCKET_ROWS_MIN,
    EVALUATE,
    LABEL_ANSWER,
    LABEL_ASK,
    TAG_BYTES,
    TASK,
    MatchParameters,
    bucket_of,
    record_input,
)
from nodes.contract.trust import Actors

STEP_TIMEOUT_S = 60.0


class InvitationError(FactoryError):
    """The session handed over is not one this application unit may join."""

    code: ClassVar[str] = "client.invitation"


class RecordError(FactoryError):
    """A record lacks a declared field, or holds nothing to ask for in it."""

    code: ClassVar[str] = "client.record"


class DishonestNodeError(FactoryError):
    """A node's answer is not the one its own commitment demands."""

    code: ClassVar[str] = "client.dishonest_node"


@dataclass(frozen=True, slots=True)
class Invitation:
    """What the operator hands over for one session at one node; nothing in it is secret.

    Attributes:
        order: the operator's signed order.
        accepted: the node's signed acceptance.
    """

    order: Envelope
    accepted: Envelope

    def to_bytes(self) -> bytes:
        """Return the invitation as bytes: the order's envelope with the acceptance attached."""
        return wire.pack(self.order, (self.accepted.to_bytes(),))

    @classmethod
    def from_bytes(cls, data: bytes) -> "Invitation":
        """Read what ``to_bytes`` wrote; ``Matcher`` checks it.

        Raises:
            ContractError: not such bytes.
        """
        order, parts = wire.unpack(data)
        if len(parts) != 1:
            raise MalformedError("expected an order with one acceptance")
        return cls(order, Envelope.from_bytes(parts[0]))


@dataclass(frozen=True, slots=True)
class _Terms:
    """What a checked invitation says."""

    order: Order
    order_sha256: str
    parameters: MatchParameters
    public_key: bytes
    bits: int
    bucket_rows: int


@dataclass(slots=True, repr=False)
class Matcher:
    """Asks one department within one session.

    Attributes:
        client: this application unit's actor id.
        key: its signing key.
        sealing_key: its X25519 key, certified in the trust data.
        actors: the agency's list.
        bus: carries steps to the node, as this application unit.
        invitation: from the operator.
        now: clock.
        queries: how many records have been asked.
    """

    client: str
    key: SigningKey
    sealing_key: X25519PrivateKey
    actors: Actors
    bus: NodeBus
    invitation: Invitation
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))
    queries: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    _sequence: int = 0
    _number: int = 0
    _pending: tuple[Step, bytes] | None = None
    _terms: _Terms = field(init=False)

    def __post_init__(self) -> None:
        self._terms = self._check()

    def __repr__(self) -> str:
        return f"Matcher({self.client} at {self.node})"

    @property
    def node(self) -> str:
        """The department's node that is asked."""
        return self._terms.order.node

    @property
    def parameters(self) -> MatchParameters:
        """Fields and rules of the signed order."""
        return self._terms.parameters

    def ask(self, records: Sequence[Mapping[str, str]]) -> tuple[bool, ...]:
        """Return for each record whether the department's register holds it.

        Args:
            records: per record, a text for each field of the order; split into batches as the order allows.

        Raises:
            RecordError: a field is missing or empty; nothing has been asked then.
            NodeRefusedError: the node refused, e.g. because the budget is used up.
            NodeUnreachableError: no answer; the same step is delivered first when asked again.
            DishonestNodeError: the answer does not fit the node's commitment.
        """
        inputs = [self._input(record) for record in records]
        answers: list[bool] = []
        for start in range(0, len(inputs), self._terms.parameters.batch_max):
            answers += self._batch(inputs[start : start + self._terms.parameters.batch_max])
        return tuple(answers)

    def _input(self, record: Mapping[str, str]) -> bytes:
        fields = self._terms.parameters.fields
        missing = [item.column for item in fields if item.column not in record]
        if missing:
            raise RecordError(f"expected the fields {', '.join(missing)} in every record")
        data = record_input([record[item.column] for item in fields], fields)
        if data is None:
            raise RecordError("expected a value in every declared field, got an empty one")
        return data

    def _batch(self, inputs: Sequence[bytes]) -> list[bool]:
        self._settle()
        terms, number = self._terms, self._number
        blinded = [oprf.blind(data) for data in inputs]
        buckets = [bucket_of(data, terms.bits) for data in inputs]
        plaintext = canonical.dumps({"blinded": [item.element.hex() for item in blinded], "buckets": list(buckets)})
        node = self.actors.find(self.node, role="node", moment=self.now())
        place = SealHeader(terms.order.session_id, self.client, self.node, LABEL_ASK, number)
        reply = self._send({"number": number}, (seal(plaintext, node.sealing_bytes, place),))
        self._number += 1
        self.queries += len(inputs)
        if len(reply.attachments) != 1:
            raise DishonestNodeError(f"expected one sealed answer from {self.node}")
        try:
            place = SealHeader(terms.order.session_id, self.node, self.client, LABEL_ANSWER, number)
            evaluated, proof, tags = _read(unseal(reply.attachments[0], self.sealing_key, place))
            oprf.verify(terms.public_key, [item.element for item in blinded], evaluated, proof)
            wanted = [oprf.finish(item, image)[:TAG_BYTES] for item, image in zip(blinded, evaluated, strict=True)]
        except ContractError as error:
            raise DishonestNodeError(f"the answer of {self.node} does not hold: {error}") from error
        size = terms.bucket_rows * TAG_BYTES
        if len(tags) != size * (len(inputs) if terms.bits else 1):
            raise DishonestNodeError(f"expected buckets of {terms.bucket_rows} tags from {self.node}")
        found = []
        for index, tag in enumerate(wanted):
            bucket = tags[index * size : (index + 1) * size] if terms.bits else tags
            found.append(tag in {bucket[at : at + TAG_BYTES] for at in range(0, size, TAG_BYTES)})
        return found

    def _send(self, body: dict[str, Any], attachments: tuple[bytes, ...]) -> Reply:
        step = Step(
            session_id=self._terms.order.session_id,
            order_sha256=self._terms.order_sha256,
            sequence=self._sequence + 1,
            kind=EVALUATE,
            sender=self.client,
            recipient=self.node,
            body=body,
            attachments_sha256=wire.digests(attachments),
            issued_at=self.now(),
        )
        self._pending = (step, encode(step, self.key, attachments))
        answer = self._deliver()
        if isinstance(answer, Refusal):
            raise NodeRefusedError(self.node, answer.code, answer.message)
        return answer

    def _settle(self) -> None:
        """Deliver a step whose answer was lost, since its sequence number may be used up at the node."""
        if self._pending is not None and isinstance(self._deliver(), Reply):
            self._number += 1

    def _deliver(self) -> Reply | Refusal:
        step, parcel = cast(tuple[Step, bytes], self._pending)
        self.bytes_sent += len(parcel)
        answer_bytes = self.bus.ask(self.node, parcel, timeout_s=STEP_TIMEOUT_S)
        self.bytes_received += len(answer_bytes)
        key = self.actors.find(self.node, role="node", moment=self.now()).verify_key
        answer = read_answer(answer_bytes, step, sender=self.node, key=key)
        self._pending = None
        self._sequence += 1
        return answer

    def _check(self) -> _Terms:
        """Verify an invitation against the trust data.

        Raises:
            InvitationError: signatures, parties, task or digests do not fit.
        """
        try:
            order = parse(Order, self.invitation.order.payload)
            operator = self.actors.find(order.operator, role="operator", moment=order.issued_at)
            self.invitation.order.open(operator.verify_key, Order.payload_type)
            accepted = parse(Result, self.invitation.accepted.payload)
            node = self.actors.find(order.node, role="node", moment=accepted.answered_at)
            self.invitation.accepted.open(node.verify_key, Result.payload_type)
            if order.task != TASK or self.client not in order.clients:
                raise MalformedError(f"expected an order for {TASK} that names {self.client} as a client")
            if (accepted.sender, accepted.kind) != (order.node, "order.accepted"):
                raise MalformedError(f"expected the acceptance of {order.node}")
            if accepted.request_sha256 != self.invitation.order.payload_sha256:
                raise MalformedError("expected the acceptance of this very order")
            parameters = MatchParameters.model_validate(order.parameters)
            public_key, bits, rows = (accepted.body.get(name) for name in ("public_key", "bits", "bucket_rows"))
            if not isinstance(public_key, str) or type(bits) is not int or type(rows) is not int:
                raise MalformedError("expected the committed key and bucket layout in the acceptance")
            if not 0 <= bits <= BITS_MAX or rows < 1:
                raise MalformedError("expected a bucket layout within the limits")
            if bits and rows < BUCKET_ROWS_MIN:
                raise MalformedError(f"expected buckets of at least {BUCKET_ROWS_MIN} tags")
            key_bytes = bytes.fromhex(public_key)
        except (ContractError, ValueError) as error:
            raise InvitationError(f"the session handed over cannot be joined: {error}") from error
        return _Terms(order, self.invitation.order.payload_sha256, parameters, key_bytes, bits, rows)


def _read(plaintext: bytes) -> tuple[list[bytes], bytes, bytes]:
    """Split an unsealed answer into evaluations, proof and tags."""
    length = int.from_bytes(plaintext[:4], "big")
    header = canonical.loads(plaintext[4 : 4 + length])
    evaluated, proof = header.get("evaluated"), header.get("proof")
    if set(header) != {"evaluated", "proof"} or not isinstance(evaluated, list) or not isinstance(proof, str):
        raise MalformedError("expected evaluated elements and a proof")
    try:
        return [bytes.fromhex(str(text)) for text in evaluated], bytes.fromhex(proof), plaintext[4 + length :]
    except ValueError as error:
        raise MalformedError("expected hex") from error
