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

from factory.agency.client import Asked, ask_query
from factory.client import oprf
from factory.errors import FactoryError, NodeRefusedError
from factory.federation.session import Reply, read_answer
from factory.hub.bus import NodeBus
from nodes.contract import canonical, wire
from nodes.contract.errors import ContractError, MalformedError
from nodes.contract.messages import Order, QueryKind, Refusal, Result, Step, encode, parse
from nodes.contract.sealing import SealHeader, seal, unseal
from nodes.contract.signing import Envelope, SigningKey, sha256_hex
from nodes.contract.tasks.match import (
    BITS_MAX,
    BUCKET_ROWS_MIN,
    EVALUATE,
    LABEL_ANSWER,
    LABEL_ASK,
    LABEL_TABLE,
    TABLE,
    TABLE_PART_BYTES,
    TAG_BYTES,
    TASK,
    MatchParameters,
    bucket_of,
    cover_key,
    cover_of,
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
class Found:
    """The answer to one record.

    Attributes:
        match: whether the register holds it.
        band: band of the agreed column if it does and there are bands, as people read it.
    """

    match: bool
    band: str | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """Both signatures under one batch: what was asked for, and that it was answered. No record, no answer.

    Attributes:
        asked: the application unit's signed step; says how many records.
        answered: the node's signed result; names the step's digest, and how many records the session has had.
    """

    asked: Envelope
    answered: Envelope


@dataclass(frozen=True, slots=True)
class _Terms:
    """What a checked invitation says."""

    order: Order
    order_sha256: str
    parameters: MatchParameters
    public_key: bytes
    bits: int
    bucket_rows: int
    version: bytes
    table_sha256: str

    @property
    def bucket_bytes(self) -> int:
        """Bytes of one bucket."""
        return self.bucket_rows * self.parameters.entry_bytes


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
        keep: gets the receipt of every batch.
        queries: how many records have been asked.
    """

    client: str
    key: SigningKey
    sealing_key: X25519PrivateKey
    actors: Actors
    bus: NodeBus
    invitation: Invitation
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))
    keep: Callable[[Receipt], None] = field(default=lambda _: None)
    queries: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    _sequence: int | None = None
    _pending: tuple[Step, Envelope, bytes] | None = None
    _table: bytes | None = None
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

    @property
    def order(self) -> Order:
        """The operator's order: session, scenario and purpose."""
        return self._terms.order

    @property
    def table_name(self) -> str:
        """Digest of the tag table that the node has committed to."""
        return self._terms.table_sha256

    def take_table(self, kept: bytes | None = None) -> bytes:
        """Hold the whole tag table from now on, so that no bucket is named; return it to be kept.

        Args:
            kept: the table as it was returned before; used if the node still commits to it.

        Raises:
            FactoryError: as ``ask``.
        """
        terms = self._terms
        if kept is None or sha256_hex(kept) != terms.table_sha256:
            parts: list[bytes] = []
            while not parts or len(parts) * TABLE_PART_BYTES < terms.bucket_bytes * 2**terms.bits:
                self._settle()
                reply = self._send(TABLE, {"part": len(parts)}, ())
                place = SealHeader(terms.order.session_id, self.node, self.client, LABEL_TABLE, len(parts))
                try:
                    parts.append(unseal(b"".join(reply.attachments), self.sealing_key, place))
                except ContractError as error:
                    raise DishonestNodeError(f"the table of {self.node} does not open: {error}") from error
            kept = b"".join(parts)
        if sha256_hex(kept) != terms.table_sha256 or len(kept) != terms.bucket_bytes * 2**terms.bits:
            raise DishonestNodeError(f"expected the table that {self.node} has committed to")
        self._table = kept
        return kept

    def ask(self, records: Sequence[Mapping[str, str]]) -> tuple[bool, ...]:
        """Return for each record whether the department's register holds it; see ``look_up``."""
        return tuple(found.match for found in self.look_up(records))

    def look_up(self, records: Sequence[Mapping[str, str]]) -> tuple[Found, ...]:
        """Return for each record what the department's register says of it.

        Args:
            records: per record, a text for each field of the order; split into batches as the order allows.

        Raises:
            RecordError: a field is missing or empty; nothing has been asked then.
            NodeRefusedError: the node refused, e.g. because the budget is used up.
            NodeUnreachableError: no answer; the same step is delivered first when asked again.
            DishonestNodeError: the answer does not fit the node's commitment.
        """
        inputs = [self._input(record) for record in records]
        answers: list[Found] = []
        for start in range(0, len(inputs), self._terms.parameters.batch_max):
            answers += self._batch(inputs[start : start + self._terms.parameters.batch_max])
        return tuple(answers)

    def check(self, records: Sequence[Mapping[str, str]]) -> None:
        """Raise ``RecordError`` if one of the records cannot be asked; nothing is sent."""
        for record in records:
            self._input(record)

    def _input(self, record: Mapping[str, str]) -> bytes:
        fields = self._terms.parameters.fields
        missing = [item.column for item in fields if item.column not in record]
        if missing:
            raise RecordError(f"expected the fields {', '.join(missing)} in every record")
        try:
            data = record_input([record[item.column] for item in fields], fields)
        except (ContractError, UnicodeEncodeError) as error:  # too long once normalised, or half a character
            raise RecordError("expected values of ordinary length in characters of Unicode") from error
        if data is None:
            raise RecordError("expected a value in every declared field, got an empty one")
        return data

    def _batch(self, inputs: Sequence[bytes]) -> list[Found]:
        self._settle()
        terms, number = self._terms, self._position()
        blinded = [oprf.blind(data) for data in inputs]
        buckets = [bucket_of(data, terms.bits) for data in inputs]
        named: list[canonical.JsonValue] | None = None if self._table is not None else [*buckets]
        plaintext = canonical.dumps({"blinded": [item.element.hex() for item in blinded], "buckets": named})
        node = self.actors.find(self.node, role="node", moment=self.now())
        place = SealHeader(terms.order.session_id, self.client, self.node, LABEL_ASK, number)
        body = {"number": number, "records": len(inputs)}
        reply = self._send(EVALUATE, body, (seal(plaintext, node.sealing_bytes, place),))
        self.queries += len(inputs)
        if len(reply.attachments) != 1:
            raise DishonestNodeError(f"expected one sealed answer from {self.node}")
        try:
            place = SealHeader(terms.order.session_id, self.node, self.client, LABEL_ANSWER, number)
            evaluated, proof, tags = _read(unseal(reply.attachments[0], self.sealing_key, place))
            oprf.verify(terms.public_key, [item.element for item in blinded], evaluated, proof)
            outputs = [oprf.finish(item, image) for item, image in zip(blinded, evaluated, strict=True)]
        except ContractError as error:
            raise DishonestNodeError(f"the answer of {self.node} does not hold: {error}") from error
        size = terms.bucket_bytes
        expected = 0 if self._table is not None else size * (len(inputs) if terms.bits else 1)
        if len(tags) != expected:
            raise DishonestNodeError(f"expected buckets of {terms.bucket_rows} tags from {self.node}")
        found = []
        for place_of, (bucket, output) in enumerate(zip(buckets, outputs, strict=True)):
            if self._table is not None:
                content = self._table[bucket * size : (bucket + 1) * size]
            else:
                content = tags[place_of * size : (place_of + 1) * size] if terms.bits else tags
            found.append(self._found(content, output))
        return found

    def _found(self, bucket: bytes, output: bytes) -> Found:
        """Look for an output's tag among the entries of its bucket."""
        width, tag = self._terms.parameters.entry_bytes, output[:TAG_BYTES]
        at = bucket.find(tag)
        while at >= 0 and at % width:
            at = bucket.find(tag, at + 1)
        if at < 0:
            return Found(match=False)
        band = self._terms.parameters.band
        if band is None:
            return Found(match=True)
        return Found(True, band.name_of(bucket[at + TAG_BYTES] ^ cover_of(cover_key(output), self._terms.version)))

    def _send(self, kind: str, body: dict[str, Any], attachments: tuple[bytes, ...]) -> Reply:
        step = Step(
            session_id=self._terms.order.session_id,
            order_sha256=self._terms.order_sha256,
            sequence=self._position() + 1,
            kind=kind,
            sender=self.client,
            recipient=self.node,
            body=body,
            attachments_sha256=wire.digests(attachments),
            issued_at=self.now(),
        )
        parcel = encode(step, self.key, attachments)
        self._pending = (step, wire.unpack(parcel)[0], parcel)
        answer = self._deliver()
        if isinstance(answer, Refusal):
            raise NodeRefusedError(self.node, answer.code, answer.message)
        return answer

    def _settle(self) -> None:
        """Deliver a step whose answer was lost, since its sequence number may be used up at the node."""
        if self._pending is not None:
            self._deliver()

    def _position(self) -> int:
        """Return the sequence of the last step taken; who comes back to a session asks the node for it."""
        if self._sequence is None:
            asked = Asked(
                self.client, self.node, QueryKind.SESSION_POSITION, {"session_id": self._terms.order.session_id}
            )
            key = self.actors.find(self.node, role="node", moment=self.now()).verify_key
            answer = ask_query(self.bus, self.key, asked, answerer_key=key, timeout_s=STEP_TIMEOUT_S, now=self.now())
            if isinstance(answer, Refusal):
                raise NodeRefusedError(self.node, answer.code, answer.message)
            sequence = answer.body.get("sequence")
            if type(sequence) is not int or sequence < 0:
                raise DishonestNodeError(f"expected the sequence of the last step from {self.node}")
            self._sequence = sequence
        return self._sequence

    def _deliver(self) -> Reply | Refusal:
        step, asked, parcel = cast(tuple[Step, Envelope, bytes], self._pending)
        self.bytes_sent += len(parcel)
        answer_bytes = self.bus.ask(self.node, parcel, timeout_s=STEP_TIMEOUT_S)
        self.bytes_received += len(answer_bytes)
        key = self.actors.find(self.node, role="node", moment=self.now()).verify_key
        answer = read_answer(answer_bytes, step, sender=self.node, key=key)
        self._pending = None
        self._sequence = step.sequence
        if isinstance(answer, Reply) and step.kind == EVALUATE:
            self.keep(Receipt(asked, answer.envelope))
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
            public_key, version, table = (accepted.body.get(name) for name in ("public_key", "version", "table_sha256"))
            bits, rows = accepted.body.get("bits"), accepted.body.get("bucket_rows")
            if not (isinstance(public_key, str) and isinstance(version, str) and isinstance(table, str)):
                raise MalformedError("expected the committed key, version and table in the acceptance")
            if type(bits) is not int or type(rows) is not int:
                raise MalformedError("expected the bucket layout in the acceptance")
            if accepted.body.get("entry_bytes") != parameters.entry_bytes:
                raise MalformedError(f"expected entries of {parameters.entry_bytes} bytes")
            if not 0 <= bits <= BITS_MAX or rows < 1:
                raise MalformedError("expected a bucket layout within the limits")
            if bits and rows < BUCKET_ROWS_MIN:
                raise MalformedError(f"expected buckets of at least {BUCKET_ROWS_MIN} tags")
            key_bytes, version_bytes = bytes.fromhex(public_key), bytes.fromhex(version)
        except (ContractError, ValueError) as error:
            raise InvitationError(f"the session handed over cannot be joined: {error}") from error
        digest = self.invitation.order.payload_sha256
        return _Terms(order, digest, parameters, key_bytes, bits, rows, version_bytes, table)


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
