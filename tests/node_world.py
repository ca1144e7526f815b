"""A small world for tests of a node: an agency with TUF metadata, actors with real keys, one home, one stub task."""

import base64
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from pydantic import BaseModel, ConfigDict
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

from nodes.agent.handle import Agent
from nodes.books import Books, ResourceRecord
from nodes.catalogue_entries import CatalogueEntry, Column, Storage
from nodes.contract import canonical, messages, wire
from nodes.contract.grant import Budget, Grant, Party, Thresholds
from nodes.contract.messages import Message, Order, Query, Refusal, ResourceUse, Result, Step
from nodes.contract.signing import Envelope, SigningKey, sha256_hex, sign
from nodes.contract.statement import PAYLOAD_TYPE, grant_statement
from nodes.contract.trust import Actor, Actors, Status, StatusItem
from nodes.keys import load_keys, make_keys
from nodes.settings import NodeSettings
from nodes.tables import commitment, fingerprint
from nodes.tasks.spec import Outcome, TaskContext, TaskRefusedError, TaskSpec
from nodes.trust_store import TrustStore, pin_root

NOW = datetime(2026, 6, 1, 8, 0, 0, tzinfo=UTC)
NODE = "node-east"
CANARY_NAME = "欧阳金丝雀测试专名甲乙"
CANARY_ID = "110101199003074477"


class StubParameters(BaseModel):
    """Parameters of the stub task."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    base: int


class StubSession:
    """Sums a column and answers with a rounded count; fails on request."""

    def __init__(self, context: TaskContext) -> None:
        self.context = context
        self.steps: list[str] = []
        self.frame = next(iter(context.tables.values())).frame()

    def step(self, sender: str, kind: str, body: Mapping[str, Any], attachments: Sequence[bytes]) -> Outcome:
        self.steps.append(kind)
        if kind == "stub.fail":
            raise RuntimeError(f"boom {self.frame.iloc[0].to_dict()}")
        if kind == "stub.refuse":
            raise TaskRefusedError("task.protocol", "expected another step")
        if kind == "stub.charge":
            self.context.charge(int(body["units"]))
        return Outcome({"count": len(self.frame) // 10 * 10, "kind": kind}, tuple(part[::-1] for part in attachments))

    def finish(self) -> dict[str, Any]:
        return {"contributors": 3, "outputs": [{"name": "model.onnx", "sha256": "ab" * 32}], "steps": len(self.steps)}


def stub_tasks() -> dict[str, TaskSpec]:
    def start(context: TaskContext) -> tuple[StubSession, Outcome]:
        if context.parameters.base == 13:
            raise TaskRefusedError("resource.rows", "expected more rows")
        if context.parameters.base == 14:
            raise RuntimeError(f"boom {CANARY_ID}")
        return StubSession(context), Outcome({"ready": True})

    return {
        "stub.sum": TaskSpec("stub.sum", StubParameters, start, frozenset({"stub.ask"}), free=frozenset({"base"})),
        "stub.other": TaskSpec("stub.other", StubParameters, start),
    }


@dataclass
class Person:
    """One actor with its keys."""

    id: str
    roles: tuple[str, ...]
    organisation: str
    key: SigningKey = field(default_factory=lambda: SigningKey(ec.generate_private_key(ec.SECP256R1())))
    sealing: X25519PrivateKey = field(default_factory=X25519PrivateKey.generate)
    changes: dict[str, Any] = field(default_factory=dict)

    def actor(self) -> Actor:
        return Actor(
            id=self.id,
            organisation=self.organisation,
            title_zh=self.id,
            title_en=self.id,
            roles=self.roles,
            statement_spki=base64.b64encode(self.key.public.spki).decode(),
            sealing_key=base64.b64encode(self.sealing.public_key().public_bytes_raw()).decode(),
            not_before=NOW - timedelta(days=30),
            not_after=NOW + timedelta(days=300),
        ).model_copy(update=self.changes)


class Agency:
    """Writes a TUF repository in memory."""

    def __init__(self) -> None:
        self.signers = {
            name: CryptoSigner.generate_ecdsa() for name in ("r1", "r2", "r3", "t1", "t2", "snapshot", "timestamp")
        }
        root = Root(version=1, expires=NOW + timedelta(days=700), consistent_snapshot=True)
        for role, names in (
            ("root", ("r1", "r2", "r3")),
            ("targets", ("t1", "t2")),
            ("snapshot", ("snapshot",)),
            ("timestamp", ("timestamp",)),
        ):
            for name in names:
                root.add_key(self.signers[name].public_key, role)
        root.roles["root"].threshold = 2
        root.roles["targets"].threshold = 2
        self.root = self._sign(Metadata(root), "r1", "r2")
        self.version = 0

    def _sign(self, metadata: Metadata, *names: str) -> bytes:
        for name in names:
            metadata.sign(self.signers[name], append=True)
        return metadata.to_bytes()

    def publish(
        self,
        actors: Actors,
        status: Status,
        *,
        extra: Mapping[str, bytes] | None = None,
        timestamp_days: int = 7,
        version: int | None = None,
        signers: tuple[str, ...] = ("t1", "t2"),
    ) -> dict[str, bytes]:
        self.version = version or self.version + 1
        content = {"actors.json": actors.to_payload(), "status.json": status.to_payload(), **(extra or {})}
        files = {"metadata/1.root.json": self.root}
        targets = Targets(version=self.version, expires=NOW + timedelta(days=180))
        for name, data in content.items():
            targets.targets[name] = TargetFile.from_data(name, data, ["sha256"])
            files[f"targets/{hashlib.sha256(data).hexdigest()}.{name}"] = data
        targets_bytes = self._sign(Metadata(targets), *signers)
        snapshot = Snapshot(version=self.version, expires=NOW + timedelta(days=30))
        snapshot.meta["targets.json"] = MetaFile.from_data(self.version, targets_bytes, ["sha256"])
        snapshot_bytes = self._sign(Metadata(snapshot), "snapshot")
        timestamp = Timestamp(version=self.version, expires=NOW + timedelta(days=timestamp_days))
        timestamp.snapshot_meta = MetaFile.from_data(self.version, snapshot_bytes, ["sha256"])
        files[f"metadata/{self.version}.targets.json"] = targets_bytes
        files[f"metadata/{self.version}.snapshot.json"] = snapshot_bytes
        files["metadata/timestamp.json"] = self._sign(Metadata(timestamp), "timestamp")
        return files


ROWS = 40


def write_table(path: Path, rows: int = ROWS) -> None:
    lines = ["name,id_number,district,age,score"]
    lines.append(f"{CANARY_NAME},{CANARY_ID},云东,36,1.5")
    lines += [
        f"姓名测试某某第{i:04d}号,1101011990030{i:05d},{'云东' if i % 2 else '云西'},{20 + i % 50},{i}.25"
        for i in range(1, rows)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def entry(**changes: Any) -> CatalogueEntry:
    base = CatalogueEntry.model_validate(
        {
            "id": "res.east.clinic",
            "version": 1,
            "name_zh": "登记",
            "name_en": "Register",
            "owner": "org.east",
            "class": "health",
            "grade": "general",
            "update_frequency_days": 30,
            "operation_attribute": "conditional",
            "eligibility": {"checked_by": "office", "checked_on": "2026-01-05"},
            "storage": Storage(path="tables/clinic.csv"),
            "columns": (
                Column(name="name", type="text", grade="general", identifier=True),
                Column(name="id_number", type="text", grade="general", identifier=True),
                Column(name="district", type="text", grade="general"),
                Column(name="age", type="integer", grade="general"),
                Column(name="score", type="number", grade="general"),
            ),
        }
    )
    return base.model_copy(update=changes)


class World:
    """Everything one node needs, and the others' keys."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.now = NOW
        self.home = folder / "home"
        self.home.mkdir(parents=True)
        self.settings = NodeSettings(
            self.home, NODE, "org.east", "云东区", "East", "127.0.0.1:1", "https://127.0.0.1:2", **settings
        )
        make_keys(self.settings.keys)
        self.keys = load_keys(self.settings.keys)
        self.people = {
            person.id: person
            for person in (
                Person("operator", ("operator",), "org.op"),
                Person("agency", ("agency",), "org.agency"),
                Person("registrar-1", ("registrar",), "org.agency"),
                Person("registrar-2", ("registrar",), "org.agency"),
                Person("node-west", ("node",), "org.west"),
                Person("node-north", ("node",), "org.north"),
                Person("unit-1", ("application_unit",), "org.bank"),
                Person("stranger", ("operator",), "org.strange"),
                Person("reviewer-1", ("reviewer",), "org.review"),
                Person(NODE, ("node",), "org.east", self.keys.statement, self.keys.sealing),
            )
        }
        self.agency = Agency()
        self.status: tuple[StatusItem, ...] = ()
        pin_root(self.settings.trust, self.agency.root)
        self.trust = TrustStore(self.settings.trust)
        self.trust.update(self.publish(), now=NOW)
        (self.home / "tables").mkdir()
        (self.home / "catalogue").mkdir()
        write_table(self.home / "tables/clinic.csv")
        self.entry = entry()
        (self.home / "catalogue/clinic.toml").write_text(self.entry.to_toml(), encoding="utf-8")
        self.books = Books(self.settings.books, clock=lambda: self.now)
        self.assess()
        self.agent = self.restarted()
        self._number = 0

    def publish(self, **options: Any) -> dict[str, bytes]:
        actors = Actors(actors=tuple(person.actor() for person in self.people.values()))
        return self.agency.publish(actors, Status(items=self.status), **options)

    def strike(self, kind: str, subject: str, state: str = "revoked", **options: Any) -> None:
        self.status = (
            *self.status,
            StatusItem(subject_kind=kind, subject=subject, state=state, since=NOW, reason="test"),
        )
        self.trust.update(self.publish(**options), now=self.now)

    def assess(self, **changes: Any) -> None:
        record = ResourceRecord(
            self.entry.id,
            self.entry.version,
            "active",
            "",
            self.entry.schema_sha256,
            commitment(self.entry, self.home, self.keys.commitment),
            fingerprint(self.entry, self.home),
            9500,
            "A",
            "aa" * 32,
            "bb" * 32,
            NOW,
            NOW + timedelta(days=30),
        )
        self.books.keep_resource(replace(record, **changes), kind="resource.assessed")

    def restarted(self, **settings: Any) -> Agent:
        self.settings = replace(self.settings, **settings)
        return Agent(self.settings, self.keys, self.books, self.trust, stub_tasks(), now=lambda: self.now)

    # Grants

    def grant(self, **changes: Any) -> Grant:
        use = ResourceUse(resource="res.east.clinic", version=1, columns=("age", "score", "district"))
        base = Grant(
            grant_id="g-1",
            agreement_id="agr-1",
            scenario="sc-1",
            scenario_title="场景",
            purpose="p-1",
            product_form="model",
            operator="operator",
            registrars=("registrar-1", "registrar-2"),
            parties=tuple(Party(node=node, resources=(use,)) for node in (NODE, "node-west", "node-north")),
            clients=("unit-1",),
            tasks=("stub.sum",),
            uses_max=3,
            thresholds=Thresholds(rows_min=10, contributors_min=2, cell_min=5, round_base=5, quality_score_min=8000),
            budget=Budget(unit="session", total=3),
            request_sha256="cd" * 32,
            issued_at=NOW - timedelta(days=1),
            not_before=NOW - timedelta(days=1),
            not_after=NOW + timedelta(days=10),
        )
        return base.model_copy(update=changes)

    def envelopes(self, grant: Grant, signers: Sequence[str] = ("registrar-1", "registrar-2")) -> tuple[bytes, ...]:
        payload = grant_statement(grant, agreement_name="agreement.pdf", agreement_sha256="ef" * 32)
        return tuple(sign(self.people[name].key, PAYLOAD_TYPE, payload).to_bytes() for name in signers)

    def install_grant(self, grant: Grant | None = None, *, approve: bool = True) -> str:
        from nodes import grants

        grant = grant or self.grant()
        digest, _, good = grants.check_offer(self.envelopes(grant), node=NODE, trust=self.trust.current(), now=self.now)
        self.books.offer_grant(digest, grant.grant_id, Envelope.from_bytes(good[0]).payload, good, actor="operator")
        if approve:
            grants.approve(
                self.books,
                digest,
                key=self.keys.statement,
                node=NODE,
                catalogue={self.entry.id: self.entry},
                reason="ok",
            )
        return digest

    # Messages

    def order(self, digest: str, /, **changes: Any) -> Order:
        self._number += 1
        base = Order(
            order_id=f"o-{self._number}",
            session_id=f"s-{self._number}",
            grant_id="g-1",
            grant_sha256=digest,
            task="stub.sum",
            scenario="sc-1",
            purpose="p-1",
            operator="operator",
            node=NODE,
            parties=(NODE, "node-west", "node-north"),
            resources=(ResourceUse(resource="res.east.clinic", version=1, columns=("age", "score")),),
            parameters={"base": 1},
            issued_at=self.now,
            expires_at=self.now + timedelta(minutes=10),
        )
        return base.model_copy(update=changes)

    def step(
        self,
        order: Order,
        kind: str,
        sequence: int,
        *,
        sender: str = "operator",
        attachments: tuple[bytes, ...] = (),
        **changes: Any,
    ) -> Step:
        base = Step(
            session_id=order.session_id,
            order_sha256=sha256_hex(order.to_payload()),
            sequence=sequence,
            kind=kind,
            sender=sender,
            recipient=NODE,
            body={},
            attachments_sha256=wire.digests(attachments),
            issued_at=self.now,
        )
        return base.model_copy(update=changes)

    def query(
        self,
        kind: str,
        body: Mapping[str, Any] | None = None,
        *,
        sender: str = "operator",
        attachments: Sequence[bytes] = (),
    ) -> Query:
        self._number += 1
        return Query(
            query_id=f"q-{self._number}",
            kind=kind,
            sender=sender,
            recipient=NODE,
            body=dict(body or {}),
            attachments_sha256=wire.digests(attachments),
            issued_at=self.now,
            expires_at=self.now + timedelta(minutes=5),
        )

    def parcel(self, message: Message, *, signer: str | None = None, attachments: Sequence[bytes] = ()) -> bytes:
        name = signer or getattr(message, "operator", None) or message.sender
        return messages.encode(message, self.people[name].key, tuple(attachments))

    def ask(
        self, message: Message, *, signer: str | None = None, attachments: Sequence[bytes] = ()
    ) -> tuple[Result | Refusal, tuple[bytes, ...]]:
        return self.read(self.agent.handle(self.parcel(message, signer=signer, attachments=attachments)))

    def read(self, parcel: bytes) -> tuple[Result | Refusal, tuple[bytes, ...]]:
        envelope, attachments = wire.unpack(parcel)
        model = Refusal if envelope.payload_type == Refusal.payload_type else Result
        return messages.decode(model, envelope, attachments, self.keys.statement.public), attachments

    def code(self, message: Message, **options: Any) -> str:
        """Return the refusal's code, or "" for a result."""
        answer, _ = self.ask(message, **options)
        return answer.code.value if isinstance(answer, Refusal) else ""


def touch(path: Path, moment: datetime) -> None:
    os.utime(path, (moment.timestamp(), moment.timestamp()))


def canonical_bytes(value: Any) -> bytes:
    return canonical.dumps(value)
