"""A complete, honest release for tests: real keys, a real TUF repository, log and witness entries.

``Draft`` is everything that will be signed, as plain values; a test edits it before anybody signs
(an insider's lie), or edits the written package (tampering). The Merkle tree here is the slow,
obvious recursion, so the verifier's loop is checked against something else.
"""

import base64
import hashlib
import json
import shutil
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

from nodes.contract import gm
from nodes.contract.signing import Envelope, SigningKey, pae, sign
from nodes.contract.statement import PAYLOAD_TYPE, statement
from products import registration_code
from products.fields import time_text
from products.forms import BUILD, GRANT, NODE_RUN, PRIVACY, RELEASE, RESOURCE, REVIEW
from products.log import (
    COSIGNATURE_TYPE,
    SIGNATURE_TYPE,
    Checkpoint,
    LogProof,
    SignedCheckpoint,
    cosign_checkpoint,
    leaf_bytes,
    leaf_hash,
    node_hash,
    note_key,
    sign_checkpoint,
)
from products.package import bag, interop, paths
from products.package.payload import Payload, ProductDescription, Source, build_payload
from products.package.writing import SignedStatement, write_package
from products.policy_shapes import DEFAULT_SHAPES
from products.trust import DEFAULT_RELEASE_POLICY, REVIEW_PROPERTIES, ReleasePolicy

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
RELEASED = NOW - timedelta(days=2)
WITNESSED = RELEASED + timedelta(minutes=10)
ORIGIN = "log.operator.example/2026"
NODES = ("node-east", "node-west", "node-north")
WITNESSES = ("supervisor", "exchange", "archive")
ORGANISATIONS = {
    "operator": "org-operator",
    "node-east": "org-east",
    "node-west": "org-west",
    "node-north": "org-north",
    "registrar-1": "org-agency",
    "registrar-2": "org-agency",
    "reviewer-1": "org-university",
    "reviewer-2": "org-association",
    "outsider": "org-outside",
    "operator-2": "org-operator-2",
}
ROLES = {"operator": "operator", "registrar": "registrar", "reviewer": "reviewer", "node": "node", "outsider": "node"}


@lru_cache
def key(actor: str) -> SigningKey:
    """Return the actor's key, one per test run."""
    return SigningKey(ec.generate_private_key(ec.SECP256R1()))


@lru_cache
def ed25519(name: str) -> Ed25519PrivateKey:
    """Return a log, witness or TUF key, one per test run."""
    return Ed25519PrivateKey.generate()


@lru_cache
def sm2_key(actor: str) -> bytes:
    """Return the actor's SM2 key, one per test run."""
    return gm.make_key()


def with_sm2(draft: "Draft", *, policy: bool = True) -> "Draft":
    """Let everybody sign with SM2 too, and the agency's policy ask for it."""
    for actor in draft.trust.actors:
        actor["sm2_spki"] = base64.b64encode(gm.spki_of(sm2_key(actor["id"]))).decode()
    if policy:
        draft.trust.policy = draft.trust.policy.model_copy(update={"profile": "gm"})
        draft.release["policy"]["sha256"] = sha256(draft.trust.policy.to_bytes())
    draft.sm2 = True
    return draft


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# --- trust repository -----------------------------------------------------------------------


def actor_entry(actor: str, **changes: Any) -> dict[str, Any]:
    return {
        "id": actor,
        "organisation": ORGANISATIONS[actor],
        "title_zh": actor,
        "title_en": actor,
        "roles": [ROLES[actor.split("-", maxsplit=1)[0]]],
        "statement_spki": base64.b64encode(key(actor).public.spki).decode(),
        "sealing_key": "",
        "hub_spki": "",
        "tls_spki_sha256": "",
        "sm2_spki": "",
        "not_before": time_text(NOW - timedelta(days=300)),
        "not_after": time_text(NOW + timedelta(days=300)),
        "compromised_since": None,
        "removed_at": None,
    } | changes


def tlog_policy() -> bytes:
    lines = [f"log {note_key(ORIGIN, SIGNATURE_TYPE, ed25519('log')).vkey}"]
    lines += [
        f"witness {name} {note_key(f'{name}.example', COSIGNATURE_TYPE, ed25519(name)).vkey}" for name in WITNESSES
    ]
    return "\n".join([*lines, "group witnesses 2 " + " ".join(WITNESSES), "quorum witnesses", ""]).encode()


@dataclass
class Trust:
    """Content of a trust repository."""

    actors: list[dict[str, Any]] = field(
        default_factory=lambda: [actor_entry(a) for a in ORGANISATIONS if a != "operator-2"]
    )
    status: list[dict[str, Any]] = field(default_factory=list)
    policy: ReleasePolicy = DEFAULT_RELEASE_POLICY
    shapes: bytes = DEFAULT_SHAPES
    version: int = 1
    issued: datetime = RELEASED - timedelta(hours=1)
    root_versions: int = 1
    root_name: str = "root"
    target_signers: tuple[str, ...] = ("targets-1", "targets-2")

    def struck(self, kind: str, subject: str, state: str) -> "Trust":
        """Return the same with one more entry of the status list, as a fresh repository."""
        later = deepcopy(self)
        item = {"subject_kind": kind, "subject": subject, "state": state, "since": time_text(NOW), "reason": "test"}
        later.status.append(item)
        return later.fresh()

    def fresh(self) -> "Trust":
        later = deepcopy(self)
        later.version, later.issued = self.version + 1, NOW - timedelta(hours=1)
        return later

    def write(self, folder: Path) -> Path:
        from products import canonical

        targets = {
            "actors.json": canonical.dumps({"version": 1, "actors": self.actors}),
            "status.json": canonical.dumps({"version": 1, "items": self.status}),
            "release-policy.json": self.policy.to_bytes(),
            "tlog-policy.txt": tlog_policy(),
            "policy-shapes.ttl": self.shapes,
            "ca.crt": b"a target that packages do not carry\n",
        }
        (folder / "metadata").mkdir(parents=True)
        (folder / "targets").mkdir()
        for name, data in targets.items():
            (folder / "targets" / f"{sha256(data)}.{name}").write_bytes(data)
        signed_targets = Targets(version=self.version, expires=self.issued + timedelta(days=180))
        for name, data in targets.items():
            signed_targets.targets[name] = TargetFile.from_data(name, data, ["sha256"])
        targets_bytes = _signed(signed_targets, self.target_signers)
        meta = {"targets.json": MetaFile(self.version, len(targets_bytes), {"sha256": sha256(targets_bytes)})}
        snapshot = _signed(
            Snapshot(version=self.version, expires=self.issued + timedelta(days=30), meta=meta), ("snapshot",)
        )
        timestamp = Timestamp(
            version=self.version,
            expires=self.issued + timedelta(days=7),
            snapshot_meta=MetaFile(self.version, len(snapshot), {"sha256": sha256(snapshot)}),
        )
        for version, data in enumerate(self.roots(), start=1):
            (folder / "metadata" / f"{version}.root.json").write_bytes(data)
        (folder / "metadata" / f"{self.version}.targets.json").write_bytes(targets_bytes)
        (folder / "metadata" / f"{self.version}.snapshot.json").write_bytes(snapshot)
        (folder / "metadata" / "timestamp.json").write_bytes(_signed(timestamp, ("timestamp",)))
        return folder

    def roots(self) -> list[bytes]:
        return [_root(version, self.root_name) for version in range(1, self.root_versions + 1)]


@lru_cache
def _root(version: int, name: str) -> bytes:
    root = Root(version=version, expires=NOW + timedelta(days=600), consistent_snapshot=True)
    # Version 2 replaces the third root key: it needs two signatures of the old and of the new keys.
    holders = [f"{name}-1", f"{name}-2", f"{name}-{2 + version}"]
    for role, names, threshold in (
        ("root", holders, 2),
        ("targets", ["targets-1", "targets-2"], 2),
        ("snapshot", ["snapshot"], 1),
        ("timestamp", ["timestamp"], 1),
    ):
        for holder in names:
            root.add_key(SSlibKey.from_crypto(ed25519(holder).public_key()), role)
        root.roles[role].threshold = threshold
    return _signed(root, tuple(holders[:2]))


def _signed(signed: Root | Targets | Snapshot | Timestamp, signers: tuple[str, ...]) -> bytes:
    metadata = Metadata(signed)
    for name in signers:
        private = ed25519(name)
        metadata.sign(CryptoSigner(private, SSlibKey.from_crypto(private.public_key())), append=True)
    return metadata.to_bytes()


def root_sha256(name: str = "root") -> str:
    return sha256(_root(1, name))


# --- log ------------------------------------------------------------------------------------


def tree_root(leaves: list[bytes]) -> bytes:
    """RFC 9162 section 2.1.1, literally."""
    if len(leaves) == 1:
        return leaves[0]
    k = _split(len(leaves))
    return node_hash(tree_root(leaves[:k]), tree_root(leaves[k:]))


def tree_path(index: int, leaves: list[bytes]) -> list[bytes]:
    """RFC 9162 section 2.1.3.1, literally."""
    if len(leaves) == 1:
        return []
    k = _split(len(leaves))
    if index < k:
        return [*tree_path(index, leaves[:k]), tree_root(leaves[k:])]
    return [*tree_path(index - k, leaves[k:]), tree_root(leaves[:k])]


def _split(n: int) -> int:
    k = 1
    while 2 * k < n:
        k *= 2
    return k


def signed_checkpoint(
    leaves: list[bytes], at: datetime, *, witnesses: tuple[str, ...] = ("supervisor", "archive"), log: str = "log"
) -> SignedCheckpoint:
    checkpoint = Checkpoint(ORIGIN, len(leaves), tree_root(leaves))
    time_s = int(at.timestamp())
    lines = [sign_checkpoint(checkpoint, ed25519(log))]
    lines += [
        cosign_checkpoint(checkpoint, f"{w}.example", ed25519(w), time_s=time_s + i) for i, w in enumerate(witnesses)
    ]
    return SignedCheckpoint(checkpoint, tuple(lines))


# --- the release ----------------------------------------------------------------------------


@dataclass
class Stmt:
    """One statement before it is signed."""

    kind: str
    subjects: list[tuple[str, str]]
    predicate: dict[str, Any]
    signers: list[str]


@dataclass
class Earlier:
    """The release of the version before, as registrars signed it and the log keeps it."""

    product: dict[str, Any] = field(default_factory=lambda: {"id": "prod.model", "version": "0.9.0"})
    signers: tuple[str, ...] = ("registrar-1", "registrar-2")
    named: dict[str, Any] | None = None  # what the later release says instead of the truth
    named_version: str = ""
    witnesses: tuple[str, ...] = ("supervisor", "archive")
    released_at: datetime = RELEASED - timedelta(days=90)
    unlogged: bool = False  # the proof is of another entry

    def signed(self) -> tuple[dict[str, Any], list[SignedStatement]]:
        """Return what the later release says of it, and the envelopes with their proofs."""
        draft = honest("model")
        predicate = deepcopy(draft.release)
        predicate["product"] |= self.product
        predicate["released_at"] = time_text(self.released_at)
        predicate["attestations"] = [{"name": "grant", "predicate_type": GRANT, "sha256": draft.grant_sha256}]
        payload = statement(RELEASE, draft.payload.subjects, predicate)
        envelopes = {actor: sign(key(actor), PAYLOAD_TYPE, payload) for actor in self.signers}
        leaves = [
            leaf_hash(leaf_bytes(pae(PAYLOAD_TYPE, e.payload), e.signature, key(actor).public.spki))
            for actor, e in envelopes.items()
        ] + [leaf_hash(b"another entry")] * 2
        note = signed_checkpoint(leaves, self.released_at + timedelta(minutes=9), witnesses=self.witnesses)
        found = []
        for index, (actor, envelope) in enumerate(envelopes.items()):
            place = index if not self.unlogged else 2
            proof = LogProof(place, tuple(tree_path(place, leaves)), note)
            found.append(SignedStatement("release", actor, envelope.to_bytes(), proof.to_bytes()))
        return self.named or {
            "version": self.named_version or self.product["version"],
            "sha256": sha256(payload),
        }, found


@dataclass
class Draft:
    """All that will be signed, logged and written."""

    payload: Payload
    statements: dict[str, Stmt]
    release: dict[str, Any]
    release_signers: list[str]
    quality: dict[str, bytes]
    trust: Trust
    grant_sha256: str  # of the honest grant
    witnessed: datetime = WITNESSED
    witnesses: tuple[str, ...] = ("supervisor", "archive")
    log_key: str = "log"
    log_order: Callable[[list[tuple[str, str]]], list[tuple[str, str]]] = lambda items: items
    drop_after: tuple[str, ...] = ()  # envelopes left out of the finished package, "name.actor"
    unlisted: tuple[str, ...] = ()  # statements that the release does not list
    unnamed_sources: tuple[str, ...] = ()  # statements that the build does not name
    earlier: "Earlier | None" = None  # the version before
    sm2: bool = False  # everybody signs a second time, with SM2

    def run(self, node: str) -> dict[str, Any]:
        return self.statements[f"run-{node}"].predicate

    def resource(self, node: str) -> dict[str, Any]:
        return self.statements[f"resource-{node}"].predicate

    @property
    def grant(self) -> dict[str, Any]:
        return self.statements["grant"].predicate


def product_files(form: str) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Return product and metadata files of a form."""
    match form:
        case "model":
            return {"model.onnx": b"\x08\x0a onnx model bytes"}, {"model_card.md": "# 模型卡\n".encode()}
        case "report":
            tables = {
                "report.html": b"<!DOCTYPE html><p>1</p>\n",
                "tables.json": b'{"t": [10]}\n',
                "tables.csv": b"t\n10\n",
            }
            return tables, {}
        case "verification":
            api = {"openapi": "3.1.0", "info": {"title": "t", "version": "1"}, "paths": {}}
            return {"openapi.json": json.dumps(api).encode()}, {"method.md": b"# method\n"}
        case "dataset":
            return {"districts.csv": "district,count\n云东区,120\n云西区,85\n".encode()}, {}
    raise ValueError(form)


def description(form: str) -> ProductDescription:
    return ProductDescription(
        id=f"prod.{form}",
        version="1.0.0",
        form=form,
        name_zh="云州风险模型",
        name_en="Risk model of Yunzhou",
        summary_zh="由三个区的数据联合得到。",
        summary_en="Made from the data of three districts together.",
        operator="operator",
        operator_name="operator",
        scenario="sc.credit",
        scenario_title="普惠信贷",
        purpose="credit-risk",
        grant="g-1",
        pipeline=f"pipeline.{form}",
        sources=[Source(f"res.{node[5:]}.clinic", 1, "门诊", "clinic", node, f"REG-{node}") for node in sorted(NODES)],
        sessions=["s-1"],
        started_at=RELEASED - timedelta(hours=5),
        finished_at=RELEASED - timedelta(hours=4),
        licence="授权用途内使用 / for the granted purpose only",
    )


def honest(form: str = "model", *, more_files: int = 0) -> Draft:
    """Return the draft of a release that is right in every respect."""
    files, metadata = product_files(form)
    files |= {f"parts/part-{i:03d}.txt": f"part {i}\n".encode() * 50 for i in range(more_files)}
    payload = build_payload(description(form), product_files=files, metadata_files=metadata)
    quality = {f"res.{node[5:]}.clinic": quality_report(node) for node in NODES}
    statements = {f"resource-{node}": _resource(node, quality) for node in NODES}
    statements["grant"] = _grant(form)
    grant_sha256 = sha256(_payload(statements["grant"]))
    for node in NODES:
        statements[f"run-{node}"] = _run(node, quality, grant_sha256)
    statements["build"] = _build(form, payload, grant_sha256)
    statements["privacy"] = _privacy(form, payload)
    for reviewer in ("reviewer-1", "reviewer-2"):
        statements[f"review-{reviewer}"] = _review(reviewer, payload)
    release = {
        "product": {
            "id": f"prod.{form}",
            "version": "1.0.0",
            "form": form,
            "name_zh": "云州风险模型",
            "name_en": "Risk model of Yunzhou",
            "previous": None,
        },
        "registration": {
            "code": registration_code.make(2026, form, 17),
            "valid_until": time_text(RELEASED + timedelta(days=730)),
        },
        "policy": {
            "name": DEFAULT_RELEASE_POLICY.name,
            "version": DEFAULT_RELEASE_POLICY.policy_version,
            "sha256": sha256(DEFAULT_RELEASE_POLICY.to_bytes()),
        },
        "manifest": payload.manifest_digests,
        "participants": list(NODES),
        "grant": {"id": "g-1", "sha256": grant_sha256},
        "validity": {
            "not_before": time_text(RELEASED),
            "not_after": time_text(RELEASED + timedelta(days=365)),
        },
        "retain_until": time_text(RELEASED + timedelta(days=366 * 6)),
        "released_at": time_text(RELEASED),
    }
    signers = ["operator", *NODES, "registrar-1", "registrar-2"]
    return Draft(payload, statements, release, signers, quality, Trust(), grant_sha256)


def quality_report(node: str, *, score: int = 9650, verdict: str = "pass") -> bytes:
    """Return what the verifier reads of a quality report."""
    from products import canonical

    return canonical.dumps(
        {
            "resource": {"id": f"res.{node[5:]}.clinic", "version": "1"},
            "node": node,
            "assessed_at": time_text(RELEASED - timedelta(days=10)),
            "score": {"total_x100": score, "verdict": verdict},
        }
    )


def _columns() -> list[str]:
    return ["age", "sex", "chol"]


def _resource(node: str, quality: dict[str, bytes]) -> Stmt:
    resource = f"res.{node[5:]}.clinic"
    predicate = {
        "resource": {
            "id": resource,
            "version": 1,
            "name_zh": "门诊",
            "name_en": "clinic",
            "holder": node,
            "organisation": ORGANISATIONS[node],
            "columns": [{"name": name, "type": "integer"} for name in [*_columns(), "zip"]],
            "schema_sha256": sha256(b"schema"),
            "commitment": {"alg": "hmac-sha256", "value": sha256(node.encode())},
        },
        "registration": {
            "platform": "platform.example",
            "code": f"REG-{node}",
            "valid_until": time_text(NOW + timedelta(days=100)),
        },
        "quality": {
            "report_sha256": sha256(quality[resource]),
            "score_x100": 9650,
            "grade": "A",
            "assessed_at": time_text(RELEASED - timedelta(days=10)),
            "suite_sha256": sha256(b"suite"),
        },
        "stated_at": time_text(RELEASED - timedelta(days=9)),
    }
    return Stmt(RESOURCE, [(f"resource/{resource}@1", sha256(b"entry" + node.encode()))], predicate, [node])


def _grant(form: str) -> Stmt:
    filters = [{"column": "age", "operator": "ge", "values": [18]}]
    predicate = {
        "version": 1,
        "grant_id": "g-1",
        "agreement_id": "agreement-1",
        "scenario": "sc.credit",
        "scenario_title": "普惠信贷",
        "purpose": "credit-risk",
        "product_form": form,
        "operator": "operator",
        "registrars": ["registrar-1", "registrar-2"],
        "parties": [
            {
                "node": node,
                "resources": [
                    {"resource": f"res.{node[5:]}.clinic", "version": 1, "columns": _columns(), "row_filter": filters}
                ],
            }
            for node in NODES
        ],
        "clients": [],
        "tasks": ["linear.secagg"],
        "uses_max": 5,
        "thresholds": {
            "rows_min": 10,
            "contributors_min": 3,
            "cell_min": 5,
            "round_base": 5,
            "quality_score_min": 9000,
        },
        "budget": {"unit": "session", "total": 10},
        "request_sha256": sha256(b"request"),
        "issued_at": time_text(RELEASED - timedelta(days=5)),
        "not_before": time_text(RELEASED - timedelta(days=5)),
        "not_after": time_text(RELEASED + timedelta(days=365)),
    }
    return Stmt(GRANT, [("agreement.pdf", sha256(b"agreement"))], predicate, ["registrar-1", "registrar-2", *NODES])


def _run(node: str, quality: dict[str, bytes], grant_sha256: str) -> Stmt:
    resource = f"res.{node[5:]}.clinic"
    predicate = {
        "node": node,
        "session": "s-1",
        "task": "linear.secagg",
        "scenario": "sc.credit",
        "purpose": "credit-risk",
        "grant": {"id": "g-1", "sha256": grant_sha256},
        "order": {"id": "o-1", "sha256": sha256(b"order")},
        "resources": [
            {
                "id": resource,
                "version": 1,
                "columns": _columns(),
                "row_filter": [{"column": "age", "operator": "ge", "values": [18]}],
                "commitment": sha256(node.encode()),
                "quality": {"report_sha256": sha256(quality[resource]), "score_x100": 9650},
            }
        ],
        "uses": {"before": 0, "after": 1},
        "budget": {"unit": "session", "before": 2, "after": 3},
        "ledger": {"first_seq": 1, "last_seq": 9, "last_sha256": sha256(b"ledger")},
        "contributors": 3,
        "facts": {"rounds": 20},
        "code": {"version": "0.1.0", "tree_sha256": sha256(b"tree")},
        "started_at": time_text(RELEASED - timedelta(hours=5)),
        "finished_at": time_text(RELEASED - timedelta(hours=4)),
    }
    return Stmt(NODE_RUN, [(f"run/s-1/{node}", sha256(b"transcript" + node.encode()))], predicate, [node])


def _build(form: str, payload: Payload, grant_sha256: str) -> Stmt:
    predicate = {
        "buildDefinition": {
            "buildType": "urn:shufang:predicate/federated-pipeline/v1",
            "externalParameters": {
                "pipeline": f"pipeline.{form}",
                "recipe": {},
                "grant": {"id": "g-1", "sha256": grant_sha256},
                "purpose": "credit-risk",
                "product_form": form,
            },
            "internalParameters": {"parties": list(NODES), "sessions": ["s-1"]},
            "resolvedDependencies": [{"uri": "git+code", "digest": {"sha256": sha256(b"tree")}}],
        },
        "runDetails": {
            "builder": {"id": "urn:shufang:actor:operator"},
            "metadata": {
                "invocationId": "s-1",
                "startedOn": time_text(RELEASED - timedelta(hours=5)),
                "finishedOn": time_text(RELEASED - timedelta(hours=3)),
            },
            "byproducts": [],
        },
    }
    return Stmt(BUILD, payload.product_subjects, predicate, ["operator", *NODES])


def _privacy(form: str, payload: Payload) -> Stmt:
    predicate = {
        "mechanisms": [{"name": "secure aggregation", "source": "Bonawitz et al. 2017", "parameter_set": "p1"}],
        "unit": "session",
        "consumed": 1,
        "ledgers": [{"node": node, "before": 2, "after": 3} for node in NODES],
        "learns": [{"party": "operator", "what_zh": "仅总和", "what_en": "only sums"}],
        "disclosure": {"cell_min": 5, "round_base": 5, "suppressed": 0},
    }
    return Stmt(PRIVACY, payload.product_subjects, predicate, list(NODES))


def _review(reviewer: str, payload: Payload) -> Stmt:
    predicate = {
        "verifier": {"id": reviewer},
        "timeCreated": time_text(RELEASED - timedelta(hours=2)),
        "properties": list(REVIEW_PROPERTIES),
        "findings": [{"point": "p1", "result": "ok", "evidence_sha256": sha256(b"evidence")}],
    }
    return Stmt(REVIEW, payload.subjects, predicate, [reviewer])


def _payload(stmt: Stmt) -> bytes:
    return statement(stmt.kind, stmt.subjects, stmt.predicate)


def _with_its_grant(draft: Draft) -> Draft:
    """Let everybody who named the honest grant name the edited one."""
    stmts, old, new = deepcopy(draft.statements), draft.grant_sha256, sha256(_payload(draft.statements["grant"]))

    def renamed(value: dict[str, Any]) -> dict[str, Any]:
        return json.loads(json.dumps(value).replace(old, new))

    for stmt in stmts.values():
        stmt.predicate = renamed(stmt.predicate)
    return replace(draft, statements=stmts, release=renamed(draft.release))


def sign_all(draft: Draft) -> list[SignedStatement]:
    """Sign, log and witness everything in the draft."""
    draft = _with_its_grant(draft)
    if draft.earlier is not None:
        draft.release["product"]["previous"] = draft.earlier.signed()[0]
    payloads = {name: _payload(stmt) for name, stmt in draft.statements.items() if name != "build"}
    if "build" in draft.statements:
        build = deepcopy(draft.statements["build"])
        build.predicate["buildDefinition"]["resolvedDependencies"] += [
            {"uri": f"statement:{name}", "digest": {"sha256": sha256(data)}}
            for name, data in payloads.items()
            if name not in draft.unnamed_sources
        ]
        payloads["build"] = _payload(build)
    release = deepcopy(draft.release)
    release.setdefault(
        "attestations",
        [
            {"name": name, "predicate_type": draft.statements[name].kind, "sha256": sha256(data)}
            for name, data in sorted(payloads.items())
            if name not in draft.unlisted
        ],
    )
    payloads["release"] = statement(RELEASE, draft.payload.subjects, release)
    order = [(name, actor) for name, stmt in draft.statements.items() for actor in stmt.signers]
    order = draft.log_order(order + [("release", actor) for actor in draft.release_signers])
    envelopes = {(name, actor): sign(key(actor), PAYLOAD_TYPE, payloads[name]) for name, actor in order}
    leaves = [leaf_hash(b"an older entry %d" % i) for i in range(5)]
    leaves += [
        leaf_hash(leaf_bytes(pae(PAYLOAD_TYPE, e.payload), e.signature, key(actor).public.spki))
        for (_, actor), e in envelopes.items()
    ]
    note = signed_checkpoint(leaves, draft.witnessed, witnesses=draft.witnesses, log=draft.log_key)
    signed = []
    for index, ((name, actor), envelope) in enumerate(envelopes.items(), start=5):
        proof = LogProof(index, tuple(tree_path(index, leaves)), note)
        signed.append(SignedStatement(name, actor, envelope.to_bytes(), proof.to_bytes()))
    return [item for item in signed if f"{item.name}.{item.actor}" not in draft.drop_after]


def write(draft: Draft, folder: Path, *, second: bool = False) -> Path:
    """Write the package of a draft; returns the package's folder.

    Args:
        draft: what is signed.
        folder: where it is written to.
        second: add the second signatures for tools of others, with a stand-in for the certificate's page.
    """
    trust = draft.trust.write(folder / "trust-repository")
    dest, signed = folder / "package", sign_all(draft)
    more = second_signatures(draft, signed) if second else {}
    if draft.sm2:
        for item in signed:
            envelope = Envelope.from_bytes(item.envelope)
            more[paths.sm2_path(f"{item.name}.{item.actor}")] = gm.countersign(sm2_key(item.actor), envelope)
    write_package(
        dest,
        payload=draft.payload,
        signed=signed,
        quality_reports=draft.quality,
        trust_dir=trust,
        second=more,
        previous=draft.earlier.signed()[1] if draft.earlier is not None else (),
    )
    return dest


def second_signatures(draft: Draft, signed: list[SignedStatement]) -> dict[str, bytes]:
    """Return what operator, reviewers and registrars sign for tools of others."""
    from factory.release.second import operators_files, sign_second

    subjects, page = draft.payload.subjects, b"%PDF-1.7 stand-in\n"
    reviewers = {name: key(name).public.spki for name in ("reviewer-1", "reviewer-2")}
    product = draft.release["product"]
    layout = interop.layout(
        interop.Functionaries(key("operator").public.spki, reviewers),
        [path for path, _ in subjects],
        expires=datetime.fromisoformat(draft.release["validity"]["not_after"]),
        readme=interop.readme(product["id"], product["version"], draft.release["registration"]["code"]),
    )
    release = next(Envelope.from_bytes(item.envelope).payload_sha256 for item in signed if item.name == "release")
    files = {paths.CERTIFICATE_PDF: page, **operators_files(key("operator"), product["form"], subjects)}
    for name, spki in reviewers.items():
        files[interop.link_path(interop.REVIEW_STEP, spki)] = sign_second(key(name), interop.review_link(subjects))
    for name in ("registrar-1", "registrar-2"):
        files[interop.layout_path(name)] = sign_second(key(name), layout)
        vouched = interop.certificate_statement(sha256(page), release)
        files[interop.certificate_path(name)] = sign_second(key(name), vouched)
    return files


def rebag(package: Path) -> None:
    """Make the tag manifest fit again, as a careful forger would."""
    files = [p for p in sorted(package.rglob("*")) if p.is_file() and not p.is_symlink()]
    names = {str(p.relative_to(package)): p for p in files}
    digests = {
        n: sha256(p.read_bytes()) for n, p in names.items() if not n.startswith("data/") and n != paths.TAGMANIFEST
    }
    (package / paths.TAGMANIFEST).write_bytes(bag.manifest(digests))


def copy(package: Path, dest: Path) -> Path:
    shutil.copytree(package, dest, symlinks=True)
    return dest
