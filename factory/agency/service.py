"""The agency's service: answers signed queries over the relay; people decide, it only carries.

    request.submit       a data request (attachment)            operator
    request.status       where it stands, what was cut          operator
    grant.fetch          the grant with the registrars' envelopes (attachments)  operator
    registration.apply   seven blocks (attachment)              operator
    registration.status  state and code                         operator
    registration.ask     renewal, correction or cancellation    operator
    national.file        national filing of a registration      operator
    national.status      its state and running clock            operator
    prerelease.deliver   the pre-release report (attachment); the answer is the receipt  operator
    trust.fetch          current trust files (attachments)      every admitted actor
    he.public_key, he.decrypt, …   handlers of the key service, mounted by name

Verify, then parse, then decide; every answer, refusals too, is an event of the registry's
chain before it is sent, and the same question is answered with the same bytes.
Privacy: requests, grants and registrations hold names and reasons, no row; what the key
service opens is its own module's promise.
"""

import logging
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from factory.agency.admission import current_entry
from factory.agency.errors import RequestRefusedError
from factory.agency.national import NationalRegistrations
from factory.agency.office import Office
from factory.agency.registrations import Registrations
from factory.agency.rulings import Rulings
from factory.errors import FactoryError
from factory.registry.store import Registry
from factory.services.actor import Actor as Acting
from factory.services.desk import Desk
from factory.trust import Trust, TrustError
from nodes.contract import wire
from nodes.contract.errors import (
    BadSignatureError,
    ContractError,
    TooLargeError,
    UnknownActorError,
    UnsupportedVersionError,
)
from nodes.contract.messages import Query, Refusal, RefusalCode, Result, decode, encode, parse
from nodes.contract.parameters import CLOCK_SKEW_S_MAX
from nodes.contract.signing import Envelope, sha256_hex
from nodes.contract.trust import Actor, Role

Answer = tuple[dict[str, Any], tuple[bytes, ...]]
Handler = Callable[[Query, tuple[bytes, ...]], Answer]

_SKEW = timedelta(seconds=CLOCK_SKEW_S_MAX)
_log = logging.getLogger(__name__)


class ServiceRefusedError(FactoryError):
    """A handler refuses, with a code of the contract.

    Attributes:
        refusal_code: what the asker is told.
    """

    code = "agency.service_refused"

    def __init__(self, refusal_code: RefusalCode, message: str) -> None:
        super().__init__(message)
        self.refusal_code = refusal_code


@dataclass(frozen=True, slots=True)
class Mounted:
    """One kind of query and who may ask it.

    Attributes:
        handler: answers it, or raises a ``FactoryError`` or ``ContractError``.
        roles: roles that may ask; empty means every admitted actor.
    """

    handler: Handler
    roles: frozenset[Role] = frozenset({"operator"})


class AgencyService:
    """The agency's half of every query; ``handle`` may be called from several threads and never raises."""

    def __init__(self, office: Office, registry: Registry, mounted: Mapping[str, Mounted] | None = None) -> None:
        """Serve for ``office``; ``mounted`` adds the key service's kinds."""
        self._office = office
        self._registry = registry
        self._desk = Desk(registry, office.now)
        self._rulings = Rulings(office, registry)
        self._registrations = Registrations(office, registry)
        self._national = NationalRegistrations(office, registry)
        self._lock = threading.Lock()
        self._kinds: dict[str, Mounted] = {
            "request.submit": Mounted(self._submit),
            "request.status": Mounted(lambda query, _: (self._rulings.status(_text(query, "request_id")), ())),
            "grant.fetch": Mounted(self._grant),
            "registration.apply": Mounted(self._apply),
            "registration.status": Mounted(
                lambda query, _: (self._registrations.status(_text(query, "application_id")), ())
            ),
            "registration.ask": Mounted(self._ask_registration),
            "national.file": Mounted(self._file),
            "national.status": Mounted(lambda query, _: (self._national.status(_text(query, "application_id")), ())),
            "prerelease.deliver": Mounted(self._prerelease),
            "trust.fetch": Mounted(self._trust, frozenset()),
            **(mounted or {}),
        }

    def handle(self, parcel: bytes) -> bytes:
        """Answer one parcel with a signed result or refusal."""
        with self._lock:
            try:
                return self._answer(parcel)
            except (FactoryError, ContractError) as error:
                return self._refuse(_digest(parcel), *_reason(error))
            except Exception as error:  # noqa: BLE001  the outermost loop: one bad question must not end the service
                digest = _digest(parcel)
                places = " < ".join(f"{f.name}:{f.lineno}" for f in reversed(traceback.extract_tb(error.__traceback__)))
                _log.error("query %s failed: %s at %s", digest[:12], type(error).__name__, places)
                message = f"the service failed on this query; tell the agency the reference {digest[:12]}"
                return self._refuse(digest, RefusalCode.TASK_FAILED, message)

    def _answer(self, parcel: bytes) -> bytes:
        envelope, attachments = wire.unpack(parcel)
        trust = self._office.trust()
        query, sender = self._open(envelope, attachments, trust)
        self._check(query)
        mounted = self._kinds.get(query.kind)
        if mounted is None:
            raise ServiceRefusedError(
                RefusalCode.KIND_UNKNOWN, f"expected a kind this service answers, got {query.kind}"
            )
        if mounted.roles and not mounted.roles & set(sender.roles):
            raise ServiceRefusedError(RefusalCode.SENDER_ROLE, f"{query.kind} is not for {sender.id}")
        digest = envelope.payload_sha256
        kept = self._registry.artefacts("reply", digest)
        if kept:
            return kept["parcel"]
        body, parts = mounted.handler(query, attachments)
        by = Acting(sender.id, sender.organisation, frozenset(sender.roles), "key")
        event = self._desk.record(
            by, "query", query.query_id, f"query.{query.kind}", role=sender.roles[0], evidence={"query": digest}
        )
        result = Result(
            request_sha256=digest,
            kind=query.kind,
            sender=self._office.identity.id,
            body=body,
            attachments_sha256=wire.digests(parts),
            ledger_seq=event.seq,
            ledger_sha256=event.sha256,
            answered_at=self._office.now(),
        )
        reply = encode(result, self._office.identity.key, parts)
        self._registry.put("reply", digest, "parcel", reply)
        return reply

    def _open(self, envelope: Envelope, attachments: tuple[bytes, ...], trust: Trust) -> tuple[Query, Actor]:
        # The name inside says which key must have signed; nothing else of it is used before that is checked.
        claimed = parse(Query, envelope.payload)
        actor = current_entry(trust.actors, claimed.sender, now=self._office.now())
        if actor is None:
            raise UnknownActorError(f"expected an admitted actor with a key that counts now, not {claimed.sender}")
        query = decode(Query, envelope, attachments, actor.verify_key)
        for kind, subject in (("actor", actor.id), ("key", actor.verify_key.keyid)):
            if trust.status.state_of(kind, subject) is not None:
                raise ServiceRefusedError(RefusalCode.ACTOR_REVOKED, f"{actor.id} is suspended or revoked")
        return query, actor

    def _check(self, query: Query) -> None:
        now = self._office.now()
        if query.recipient != self._office.identity.id:
            raise ServiceRefusedError(RefusalCode.RECIPIENT, f"expected a query to {self._office.identity.id}")
        if query.issued_at > now + _SKEW:
            skew = int((query.issued_at - now).total_seconds())
            raise ServiceRefusedError(RefusalCode.CLOCK_SKEW, f"the sender's clock is {skew} s ahead; set it right")
        if query.expires_at <= now - _SKEW or query.expires_at <= query.issued_at:
            raise ServiceRefusedError(RefusalCode.EXPIRED, "the query has expired; send a new one")

    def _submit(self, query: Query, attachments: tuple[bytes, ...]) -> Answer:
        case = self._rulings.submit(_only(attachments), sender=query.sender)
        return {"request_id": case.id, "request_sha256": case.sha256, "state": case.state}, ()

    def _grant(self, query: Query, _attachments: tuple[bytes, ...]) -> Answer:
        grant, envelopes = self._rulings.issue(_text(query, "request_id"))
        return {"grant_id": grant.grant_id}, tuple(envelopes)

    def _apply(self, query: Query, attachments: tuple[bytes, ...]) -> Answer:
        case = self._registrations.apply(_only(attachments), sender=query.sender)
        return {"application_id": case.id, "state": case.state}, ()

    def _ask_registration(self, query: Query, _attachments: tuple[bytes, ...]) -> Answer:
        case = self._registrations.ask(
            _text(query, "application_id"),
            _text(query, "kind"),
            sender=query.sender,
            reason=_text(query, "reason"),
            field=_text(query, "field"),
            value=_text(query, "value"),
        )
        return {"application_id": case.id, "state": case.state}, ()

    def _file(self, query: Query, _attachments: tuple[bytes, ...]) -> Answer:
        case = self._national.file(_text(query, "application_id"), sender=query.sender)
        return self._national.status(case.id), ()

    def _prerelease(self, query: Query, attachments: tuple[bytes, ...]) -> Answer:
        report, product = _only(attachments), _text(query, "product")
        digest = sha256_hex(report)
        by = Acting(query.sender, query.sender, frozenset({"operator"}), "key")
        with self._desk.together():
            self._desk.record(by, "product", product, "prerelease.deliver", evidence={"report": digest})
            self._registry.put("prerelease", product[:96], digest, report)
        return {"product": product, "report_sha256": digest}, ()

    def _trust(self, _query: Query, _attachments: tuple[bytes, ...]) -> Answer:
        files = dict(sorted(self._office.trust().files.items()))
        return {"files": list(files)}, tuple(files.values())

    def _refuse(self, digest: str, code: RefusalCode, message: str) -> bytes:
        now = self._office.now()
        by = Acting("unknown", "unknown", frozenset({"sender"}), "key")
        event = self._desk.record(by, "query", digest, "query.refused", reason=code.value, evidence={"query": digest})
        refusal = Refusal(
            request_sha256=digest,
            code=code,
            message=message[:2000],
            sender=self._office.identity.id,
            ledger_seq=event.seq,
            ledger_sha256=event.sha256,
            refused_at=now,
        )
        return encode(refusal, self._office.identity.key)


def _digest(parcel: bytes) -> str:
    try:
        return wire.unpack(parcel)[0].payload_sha256
    except ContractError:
        return sha256_hex(parcel)


def _only(attachments: tuple[bytes, ...]) -> bytes:
    if len(attachments) != 1:
        raise ServiceRefusedError(RefusalCode.MALFORMED, f"expected one attachment, got {len(attachments)}")
    return attachments[0]


def _text(query: Query, name: str) -> str:
    value = query.body.get(name)
    if not isinstance(value, str):
        raise ServiceRefusedError(RefusalCode.MALFORMED, f"expected {name} in the body of {query.kind}")
    return value


_CODES: tuple[tuple[type[Exception], RefusalCode], ...] = (
    (TrustError, RefusalCode.TRUST_STALE),
    (UnsupportedVersionError, RefusalCode.VERSION),
    (TooLargeError, RefusalCode.TOO_LARGE),
    (BadSignatureError, RefusalCode.SIGNATURE),
    (UnknownActorError, RefusalCode.ACTOR_UNKNOWN),
    (ContractError, RefusalCode.MALFORMED),
)


def _reason(error: FactoryError | ContractError) -> tuple[RefusalCode, str]:
    if isinstance(error, ServiceRefusedError):
        return error.refusal_code, str(error)
    if isinstance(error, RequestRefusedError):
        return RefusalCode.NOT_ALLOWED, f"{error.reason}: {error}"
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code, str(error)
    return RefusalCode.NOT_ALLOWED, f"{error.code}: {error}"
