"""Several nodes and an operator in one process, with real keys and the real message encoding.

It drives task sessions as the agent does (order, steps, signed results and refusals) without
tables on disk, policy or ledger, so that a protocol's two halves can be tested on their own.

    trial = Trial.of(spec, {"node-a": {"res.a": frame}, ...}, clients=("unit-1",))
    session = trial.session()
    opened = session.open(spec.name, parameters, trial.resources())
    trial.bus.fail("node-b", "secagg.unmask", when="before")
"""

import base64
import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from factory.federation.session import Session
from factory.hub.bus import NodeUnreachableError
from nodes.contract import sealing, wire
from nodes.contract.errors import ContractError
from nodes.contract.grant import Budget, Grant, Party, Thresholds
from nodes.contract.messages import Order, Query, Refusal, ResourceUse, Result, Step, decode, encode, parse
from nodes.contract.sealing import SealHeader
from nodes.contract.signing import Envelope, SigningKey, sha256_hex, sign
from nodes.contract.trust import Actor
from nodes.tasks.spec import Outcome, TaskContext, TaskRefusedError, TaskSession, TaskSpec

ZERO = "0" * 64
OPERATOR = "operator"


def signing_key() -> SigningKey:
    return SigningKey(ec.generate_private_key(ec.SECP256R1()))


@dataclass(frozen=True, repr=False)
class Member:
    """An actor with its private keys."""

    actor: Actor
    key: SigningKey
    sealing: X25519PrivateKey

    @classmethod
    def make(cls, actor_id: str, role: str) -> "Member":
        key, private = signing_key(), X25519PrivateKey.generate()
        raw = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        now = datetime.now(UTC)
        actor = Actor(
            id=actor_id,
            organisation=f"org-{actor_id}",
            title_zh=actor_id,
            title_en=actor_id,
            roles=(role,),
            statement_spki=base64.b64encode(key.public.spki).decode(),
            sealing_key=base64.b64encode(raw).decode(),
            not_before=now - timedelta(days=1),
            not_after=now + timedelta(days=1),
        )
        return cls(actor, key, private)


@dataclass(frozen=True, repr=False)
class HarnessSecrets:
    party: Member
    actors: Mapping[str, Actor]
    unsealed: list[bytes] = field(default_factory=list)

    def seal(self, plaintext: bytes, header: SealHeader) -> bytes:
        return sealing.seal(plaintext, self.actors[header.recipient].sealing_bytes, header)

    def unseal(self, sealed: bytes, header: SealHeader) -> bytes:
        plaintext = sealing.unseal(sealed, self.party.sealing, header)
        self.unsealed.append(plaintext)
        return plaintext

    def sign(self, payload_type: str, payload: bytes) -> Envelope:
        return sign(self.party.key, payload_type, payload)


@dataclass(frozen=True)
class FrameView:
    resource: str
    columns: tuple[str, ...]
    table: pd.DataFrame = field(repr=False)

    def frame(self) -> pd.DataFrame:
        return self.table[list(self.columns)].copy()


@dataclass
class HarnessNode:
    """Answers parcels as the agent does, for one task."""

    party: Member
    spec: TaskSpec
    tables: Mapping[str, pd.DataFrame]
    parties: Mapping[str, Member]
    grant: Grant
    budget_left: int = 1_000_000
    home: str = field(default_factory=lambda: tempfile.mkdtemp(prefix="harness-"))
    sent: list[bytes] = field(default_factory=list)
    unsealed: list[bytes] = field(default_factory=list)
    sessions: dict[str, TaskSession] = field(default_factory=dict)
    orders: dict[str, str] = field(default_factory=dict)
    sequences: dict[tuple[str, str], int] = field(default_factory=dict)
    kinds: list[str] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        weakref.finalize(self, shutil.rmtree, self.home, ignore_errors=True)

    @property
    def node(self) -> str:
        return self.party.actor.id

    def handle(self, parcel: bytes) -> bytes:
        envelope, attachments = wire.unpack(parcel)
        request_sha256 = envelope.payload_sha256
        try:
            kind, outcome = self._act(envelope, attachments)
        except TaskRefusedError as error:
            refusal = Refusal(
                request_sha256=request_sha256,
                code=error.code,
                message=str(error),
                sender=self.node,
                ledger_seq=1,
                ledger_sha256=ZERO,
                refused_at=datetime.now(UTC),
            )
            return self._send(encode(refusal, self.party.key))
        result = Result(
            request_sha256=request_sha256,
            kind=kind,
            sender=self.node,
            body=outcome.body,
            attachments_sha256=wire.digests(outcome.attachments),
            ledger_seq=1,
            ledger_sha256=ZERO,
            answered_at=datetime.now(UTC),
        )
        return self._send(encode(result, self.party.key, outcome.attachments))

    def _act(self, envelope: Envelope, attachments: tuple[bytes, ...]) -> tuple[str, Any]:
        if envelope.payload_type == Order.payload_type:
            order = decode(Order, envelope, attachments, self.parties[OPERATOR].key.public)
            return "order.accepted", self._start(order, envelope.payload_sha256)
        sender = next(p for p in self.parties.values() if p.key.public.keyid == envelope.keyid)
        if envelope.payload_type == Query.payload_type:
            query = decode(Query, envelope, attachments, sender.key.public)
            place = (query.body["session_id"], sender.actor.id)
            return query.kind, Outcome({"sequence": self.sequences.get(place, 0)})
        try:
            step = decode(Step, envelope, attachments, sender.key.public)
        except ContractError as error:
            raise TaskRefusedError("request.signature", str(error)) from error
        if step.sender != sender.actor.id or step.session_id not in self.sessions:
            raise TaskRefusedError("session.unknown", "expected an open session")
        if step.order_sha256 != self.orders[step.session_id]:
            raise TaskRefusedError("session.unknown", "expected the order of this session")
        place = (step.session_id, step.sender)
        if step.sequence != self.sequences.get(place, 0) + 1:
            raise TaskRefusedError("session.sequence", "expected the next step")
        self.sequences[place] = step.sequence
        self.kinds.append(step.kind)
        if step.sender != OPERATOR and step.kind not in self.spec.clients_may:
            raise TaskRefusedError("request.sender_role", "expected a step that a client may send")
        session = self.sessions[step.session_id]
        if step.kind == "session.close":
            return step.kind, Outcome(session.finish())
        return step.kind, session.step(step.sender, step.kind, step.body, attachments)

    def _start(self, order: Order, order_sha256: str) -> Any:
        actors = {name: party.actor for name, party in self.parties.items()}
        context = TaskContext(
            node=self.node,
            order=order,
            grant=self.grant,
            parameters=self.spec.parameters.model_validate(order.parameters),
            tables={
                use.resource: FrameView(use.resource, use.columns, self.tables[use.resource]) for use in order.resources
            },
            actors=actors,
            secrets=HarnessSecrets(self.party, actors, self.unsealed),
            now=lambda: datetime.now(UTC),
            state_dir=f"{self.home}/sessions/{order.session_id}",
            charge=self._charge,
            lose=self.lost.append,
        )
        session, outcome = self.spec.start(context)
        self.sessions[order.session_id] = session
        self.orders[order.session_id] = order_sha256
        return outcome

    def _charge(self, units: int) -> None:
        if units > self.budget_left:
            raise TaskRefusedError("grant.budget", "expected units left in the budget")
        self.budget_left -= units

    def _send(self, parcel: bytes) -> bytes:
        self.sent.append(parcel)
        return parcel


@dataclass
class HarnessBus:
    """In-memory ``NodeBus``; nodes can be made to fail before or after a step took effect."""

    nodes: Mapping[str, HarnessNode]
    failures: list[tuple[str, str, str, int]] = field(default_factory=list)
    down: set[str] = field(default_factory=set)
    seen: list[tuple[str, str, bytes]] = field(default_factory=list)
    counts: dict[tuple[str, str], int] = field(default_factory=dict)

    def fail(self, node: str, kind: str, *, when: str, nth: int = 1) -> None:
        """Take ``node`` down for good at its ``nth`` step of this kind, ``before`` or ``after`` it took effect."""
        self.failures.append((node, kind, when, nth))

    def ask(self, node: str, parcel: bytes, *, timeout_s: float) -> bytes:
        del timeout_s
        envelope, _ = wire.unpack(parcel)
        kind = "order"
        if envelope.payload_type == Step.payload_type:
            kind = parse(Step, envelope.payload).kind
        self.counts[node, kind] = self.counts.get((node, kind), 0) + 1
        due = [f[2] for f in self.failures if f[:2] == (node, kind) and f[3] == self.counts[node, kind]]
        if "before" in due:
            self.down.add(node)
        if node in self.down:
            raise NodeUnreachableError(f"no answer from {node}")
        reply = self.nodes[node].handle(parcel)
        self.seen.append((node, kind, reply))
        if "after" in due:
            self.down.add(node)
            raise NodeUnreachableError(f"no answer from {node}")
        return reply

    def ask_all(self, parcels: Mapping[str, bytes], *, timeout_s: float) -> dict[str, bytes | NodeUnreachableError]:
        answers: dict[str, bytes | NodeUnreachableError] = {}
        for node, parcel in parcels.items():
            try:
                answers[node] = self.ask(node, parcel, timeout_s=timeout_s)
            except NodeUnreachableError as error:
                answers[node] = error
        return answers

    def close(self) -> None:
        self.down = set(self.nodes)


@dataclass
class Trial:
    """Everything of one grant: parties with keys, nodes with tables, a bus."""

    grant: Grant
    parties: dict[str, Member]
    bus: HarnessBus

    @classmethod
    def of(
        cls,
        spec: TaskSpec,
        tables: Mapping[str, Mapping[str, pd.DataFrame]],
        *,
        clients: Sequence[str] = (),
        rows_min: int = 1,
        contributors_min: int = 2,
        cell_min: int = 3,
        agency: str = "agency",
    ) -> "Trial":
        now = datetime.now(UTC)
        parties = {node: Member.make(node, "node") for node in tables}
        parties[OPERATOR] = Member.make(OPERATOR, "operator")
        parties[agency] = Member.make(agency, "agency")
        parties |= {client: Member.make(client, "application_unit") for client in clients}
        grant = Grant(
            grant_id="g-harness",
            agreement_id="agr-1",
            scenario="scn-1",
            scenario_title="harness",
            purpose="purpose-1",
            product_form="model",
            operator=OPERATOR,
            registrars=("registrar-1", "registrar-2"),
            parties=tuple(
                Party(
                    node=node,
                    resources=tuple(
                        ResourceUse(resource=name, version=1, columns=tuple(map(str, frame.columns)))
                        for name, frame in held.items()
                    ),
                )
                for node, held in tables.items()
            ),
            clients=tuple(clients),
            tasks=(spec.name,),
            uses_max=10,
            thresholds=Thresholds(
                rows_min=rows_min,
                contributors_min=contributors_min,
                cell_min=cell_min,
                round_base=1,
                quality_score_min=0,
            ),
            budget=Budget(unit="session", total=10),
            request_sha256=ZERO,
            issued_at=now,
            not_before=now - timedelta(days=1),
            not_after=now + timedelta(days=1),
        )
        nodes = {node: HarnessNode(parties[node], spec, held, parties, grant) for node, held in tables.items()}
        return cls(grant, parties, HarnessBus(nodes))

    @property
    def nodes(self) -> Mapping[str, HarnessNode]:
        return self.bus.nodes

    def session(self, *, clients: Sequence[str] = ()) -> Session:
        return Session(
            orders=self.bus,
            steps=self.bus,
            key=self.parties[OPERATOR].key,
            operator=OPERATOR,
            grant=self.grant,
            grant_sha256=sha256_hex(self.grant.model_dump_json().encode()),
            keys={name: party.key.public for name, party in self.parties.items()},
            clients=tuple(clients),
        )

    def resources(self, columns: Sequence[str] | None = None) -> dict[str, tuple[ResourceUse, ...]]:
        """What each node shall read: all it has, or the named columns."""
        return {
            node: tuple(
                ResourceUse(
                    resource=name, version=1, columns=tuple(columns) if columns else tuple(map(str, frame.columns))
                )
                for name, frame in held.tables.items()
            )
            for node, held in self.nodes.items()
        }
