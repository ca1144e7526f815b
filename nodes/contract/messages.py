"""The messages between operator, agency, application units and nodes.

Requests (signed by who asks)       Replies (signed by the node or agency)
  Order  open a session under a grant  Result   what comes back
  Step   one move inside a session     Refusal  why nothing comes back
  Query  a question that uses no data

Every message is a frozen model, closed to unknown fields, with a version. ``encode`` and
``decode`` go between models and signed parcels: signature first, parse second.
Privacy: only these classes, with the attachments they list, leave a node.
"""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, StringConstraints, ValidationError

from nodes.contract import canonical, wire
from nodes.contract.errors import MalformedError, UnsupportedVersionError
from nodes.contract.signing import Envelope, SigningKey, VerifyKey, sign


def _parse_time(value: object) -> datetime:
    if isinstance(value, datetime):
        moment = value
    elif isinstance(value, str):
        moment = datetime.strptime(value, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    else:
        raise ValueError("expected a time like 2026-01-31T08:00:00Z")  # noqa: TRY004  pydantic turns ValueError into a finding
    if moment.tzinfo is None:
        raise ValueError("expected a time with a zone")
    return moment.astimezone(UTC).replace(microsecond=0)


Time = Annotated[
    datetime,
    BeforeValidator(_parse_time),
    PlainSerializer(lambda moment: moment.strftime("%Y-%m-%dT%H:%M:%SZ"), return_type=str),
]
"""An aware time to the second; on the wire ``2026-01-31T08:00:00Z``."""

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._:-]{0,95}$")]
"""Identifier: lower-case letters, digits, dot, underscore, colon, hyphen; at most 96."""

Hex32 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""A SHA-256 digest as hex."""

Text = Annotated[str, StringConstraints(min_length=1, max_length=2000)]
"""Text for people; never a value of a row."""

Count = Annotated[int, Field(ge=0, le=2**53 - 1)]


class Message(BaseModel):
    """Base of everything that is signed: frozen, strict and closed."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    payload_type: ClassVar[str]

    def to_payload(self) -> bytes:
        """Return the canonical bytes that are signed."""
        return canonical.dumps(self.model_dump(mode="json"))


class Part(BaseModel):
    """Base of the parts of messages: frozen, strict and closed."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


Scalar = Annotated[str, StringConstraints(max_length=200)] | Annotated[int, Field(ge=-(2**53) + 1, le=2**53 - 1)]


class Condition(Part):
    """One condition of a row filter; a row passes when all its conditions hold.

    Attributes:
        column: column of the table.
        operator: comparison; ``in`` takes several values, the others one.
        values: what to compare with.
    """

    column: Text
    operator: Literal["eq", "ne", "lt", "le", "gt", "ge", "in"]
    values: Annotated[tuple[Scalar, ...], Field(min_length=1, max_length=200, strict=False)]


class ResourceUse(Part):
    """Which part of one catalogue entry may be, or is, used.

    Attributes:
        resource: catalogue id.
        version: version of the catalogue entry.
        columns: columns that may be read; nothing else of the row exists for the task.
        row_filter: conditions that every row read must pass; empty means all rows.
    """

    resource: Name
    version: Annotated[int, Field(ge=1)]
    columns: Annotated[tuple[Text, ...], Field(min_length=1, strict=False)]
    row_filter: Annotated[tuple[Condition, ...], Field(strict=False)] = ()


class Order(Message):
    """The operator asks a node to open one session of a task under a grant.

    Attributes:
        order_id: unique; sending the same bytes again is answered again, not run again.
        session_id: the session that this order opens, equal at all its parties.
        grant_id, grant_sha256: the grant, by name and by digest of its payload.
        task: name in the node's task catalogue.
        scenario, purpose: must equal the grant's.
        operator: actor id of the sender.
        node: actor id of the only recipient.
        parties: all nodes of the session.
        clients: application units that may send steps.
        resources: what this node shall read, within the grant.
        parameters: parameters of the task, checked against the task's own model.
        issued_at, expires_at: window in which the node may accept it.
    """

    payload_type: ClassVar[str] = "application/vnd.shufang.order.v1+json"

    version: Literal[1] = 1
    order_id: Name
    session_id: Name
    grant_id: Name
    grant_sha256: Hex32
    task: Name
    scenario: Name
    purpose: Name
    operator: Name
    node: Name
    parties: Annotated[tuple[Name, ...], Field(min_length=1, max_length=200, strict=False)]
    clients: Annotated[tuple[Name, ...], Field(max_length=200, strict=False)] = ()
    resources: Annotated[tuple[ResourceUse, ...], Field(min_length=1, max_length=50, strict=False)]
    parameters: dict[str, Any]
    issued_at: Time
    expires_at: Time


class Step(Message):
    """One move inside an open session.

    Attributes:
        order_sha256: digest of the payload of the order that opened the session at this node.
        sequence: 1, 2, 3 … from this sender to this recipient; the same step sent again is
            answered with the same reply, any other sequence is refused.
        kind: what the task calls this step; ``session.close`` ends the session.
        body: small facts of the step.
        attachments_sha256: digests of the attachments, in order.
    """

    payload_type: ClassVar[str] = "application/vnd.shufang.step.v1+json"

    version: Literal[1] = 1
    session_id: Name
    order_sha256: Hex32
    sequence: Annotated[int, Field(ge=1)]
    kind: Name
    sender: Name
    recipient: Name
    body: dict[str, Any]
    attachments_sha256: Annotated[tuple[Hex32, ...], Field(strict=False)] = ()
    issued_at: Time


class Query(Message):
    """A question or notice that reads no table: each kind has one fixed answer.

    Attributes:
        kind: one of ``QueryKind``; anything else is refused.
        body: parameters of the kind.
    """

    payload_type: ClassVar[str] = "application/vnd.shufang.query.v1+json"

    version: Literal[1] = 1
    query_id: Name
    kind: Name
    sender: Name
    recipient: Name
    body: dict[str, Any]
    attachments_sha256: Annotated[tuple[Hex32, ...], Field(strict=False)] = ()
    issued_at: Time
    expires_at: Time


class QueryKind(StrEnum):
    """Questions a node answers without a grant; none of them reads a row.

    ``node.describe``    public extract of the catalogue: ids, versions, columns, class, grade
    ``trust.update``     newer agency-signed trust metadata (attachments)
    ``grant.offer``      a grant signed by the agency, for the department to decide on (attachments)
    ``grant.status``     this department's signature on a grant, if given (attachment), and uses left
    ``resource.statement``   signed resource statement with its quality digest (attachments)
    ``quality.report``   signed quality report: vetted aggregates only (attachments)
    ``quality.feedback`` what users of a product found wrong with its data; becomes a ticket of the department
    ``quality.ticket``   where the tickets of one feedback stand
    ``statement.countersign``  sign a joint statement about runs that this node took part in
    ``statement.sm2``    sign with SM2 what this node has signed already (attachments)
    ``ledger.extract``   digests of ledger entries of one session
    ``session.position`` last step of the asker that was taken in an open session, for who comes back to it
    """

    DESCRIBE = "node.describe"
    TRUST_UPDATE = "trust.update"
    GRANT_OFFER = "grant.offer"
    GRANT_STATUS = "grant.status"
    RESOURCE_STATEMENT = "resource.statement"
    QUALITY_REPORT = "quality.report"
    QUALITY_FEEDBACK = "quality.feedback"
    QUALITY_TICKET = "quality.ticket"
    COUNTERSIGN = "statement.countersign"
    SM2_SIGN = "statement.sm2"
    LEDGER_EXTRACT = "ledger.extract"
    SESSION_POSITION = "session.position"


class Result(Message):
    """What a node, or the agency's service, answers to an order, step or query.

    Attributes:
        request_sha256: digest of the payload this answers.
        kind: what it is, e.g. ``"order.accepted"`` or the kind of the step.
        sender: actor id of who answers.
        body: small facts; counts below the group limit never appear.
        attachments_sha256: digests of the attachments, in order.
        ledger_seq, ledger_sha256: the sender's ledger entry that recorded this answer
            before it was sent; 0 and the zero digest for queries.
    """

    payload_type: ClassVar[str] = "application/vnd.shufang.result.v1+json"

    version: Literal[1] = 1
    request_sha256: Hex32
    kind: Name
    sender: Name
    body: dict[str, Any]
    attachments_sha256: Annotated[tuple[Hex32, ...], Field(strict=False)] = ()
    ledger_seq: Count
    ledger_sha256: Hex32
    answered_at: Time


class RefusalCode(StrEnum):
    """Why a node, or the agency's service, refuses; stable, never reused."""

    MALFORMED = "request.malformed"
    VERSION = "request.version"
    SIGNATURE = "request.signature"
    RECIPIENT = "request.recipient"
    EXPIRED = "request.expired"
    REPLAYED = "request.replayed"
    TOO_LARGE = "request.too_large"
    KIND_UNKNOWN = "request.kind_unknown"
    SENDER_ROLE = "request.sender_role"
    CLOCK_SKEW = "clock.skew"
    TRUST_STALE = "trust.stale"
    TRUST_INVALID = "trust.invalid"
    ACTOR_UNKNOWN = "trust.actor_unknown"
    ACTOR_REVOKED = "trust.actor_revoked"
    BUNDLE_FOREIGN = "bundle.foreign"
    GRANT_UNKNOWN = "grant.unknown"
    GRANT_INVALID = "grant.invalid"
    GRANT_NOT_APPROVED = "grant.not_approved"
    GRANT_NOT_YET = "grant.not_yet"
    GRANT_EXPIRED = "grant.expired"
    GRANT_REVOKED = "grant.revoked"
    GRANT_EXHAUSTED = "grant.exhausted"
    GRANT_TASK = "grant.task"
    GRANT_PURPOSE = "grant.purpose"
    GRANT_SCENARIO = "grant.scenario"
    GRANT_PARTIES = "grant.parties"
    GRANT_RESOURCE = "grant.resource"
    GRANT_COLUMN = "grant.column"
    GRANT_ROW_FILTER = "grant.row_filter"
    GRANT_THRESHOLD = "grant.threshold"
    GRANT_BUDGET = "grant.budget"
    RESOURCE_MISSING = "resource.missing"
    RESOURCE_HELD = "resource.held"
    RESOURCE_STALE = "resource.stale"
    RESOURCE_CHANGED = "resource.changed"
    RESOURCE_ROWS = "resource.rows"
    RESOURCE_PREPARING = "resource.preparing"
    RESOURCE_ATTRIBUTE = "resource.attribute"
    RESOURCE_GRADE = "resource.grade"
    RESOURCE_CONSENT = "resource.consent"
    PERSONAL_BASIS = "personal.basis"
    TASK_UNKNOWN = "task.unknown"
    TASK_PARAMETERS = "task.parameters"
    TASK_FAILED = "task.failed"
    TASK_PROTOCOL = "task.protocol"
    TASK_RATE = "task.rate"
    SESSION_UNKNOWN = "session.unknown"
    SESSION_SEQUENCE = "session.sequence"
    SESSION_CLOSED = "session.closed"
    PARTY_AGREEMENT = "party.agreement"
    PARTY_ENDED = "party.ended"
    PARTY_FULL = "party.full"
    PARTY_GONE = "party.gone"
    NOT_ALLOWED = "policy.not_allowed"
    STORAGE = "storage.failed"


class Refusal(Message):
    """A refusal: a value with a code, recorded in the sender's ledger before it is sent.

    Attributes:
        request_sha256: digest of the bytes received where the payload could not be read.
        code: stable reason.
        message: one English sentence: what was expected, what came, what to do next.
    """

    payload_type: ClassVar[str] = "application/vnd.shufang.refusal.v1+json"

    version: Literal[1] = 1
    request_sha256: Hex32
    code: RefusalCode = Field(strict=False)
    message: Text
    sender: Name
    ledger_seq: Count
    ledger_sha256: Hex32
    refused_at: Time


M = TypeVar("M", bound=Message)


def parse(model: type[M], payload: bytes) -> M:
    """Read a verified payload as ``model``.

    Raises:
        UnsupportedVersionError: the version is not one this release speaks.
        MalformedError: not canonical, a missing, wrong or unknown field.
    """
    value = canonical.loads(payload)
    if value.get("version") != 1:
        raise UnsupportedVersionError(f"expected version 1 of {model.__name__}")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        where = ", ".join(sorted({".".join(map(str, item["loc"])) or "message" for item in error.errors()})[:5])
        raise MalformedError(f"expected a valid {model.__name__}; wrong or missing: {where}") from None


def encode(message: Message, key: SigningKey, attachments: tuple[bytes, ...] = ()) -> bytes:
    """Sign ``message`` and return it as a parcel with its attachments.

    Raises:
        ValueError: the message lists other attachments.
    """
    listed: tuple[str, ...] = getattr(message, "attachments_sha256", ())
    if wire.digests(attachments) != tuple(listed):
        raise ValueError("the message does not list these attachments")
    return wire.pack(sign(key, message.payload_type, message.to_payload()), attachments)


def decode(model: type[M], envelope: Envelope, attachments: tuple[bytes, ...], key: VerifyKey) -> M:
    """Verify, then parse, then compare the attachments with the signed digests.

    Raises:
        BadSignatureError: wrong key, type or signature.
        MalformedError: the payload or the attachments are not what was signed for.
    """
    message = parse(model, envelope.open(key, model.payload_type))
    wire.require_attachments(attachments, getattr(message, "attachments_sha256", ()))
    return message
