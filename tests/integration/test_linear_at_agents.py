"""A regression over three real node agents: tables on disk, policy, books, grants and statements."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from factory.errors import NodeRefusedError
from factory.federation import linear, onnx_export
from factory.federation.session import Session
from nodes import grants
from nodes.agent.handle import Agent
from nodes.books import Books, ResourceRecord
from nodes.catalogue_entries import CatalogueEntry, Column, Storage
from nodes.contract.grant import Budget, Grant, Party, Thresholds
from nodes.contract.messages import Condition, ResourceUse
from nodes.contract.signing import Envelope, sha256_hex, sign
from nodes.contract.statement import NODE_RUN, PAYLOAD_TYPE, grant_statement, read
from nodes.contract.tasks.linear import LinearParameters
from nodes.contract.trust import Actors, Status
from nodes.keys import load_keys, make_keys
from nodes.settings import NodeSettings
from nodes.tables import commitment, fingerprint
from nodes.tasks.catalogue import tasks
from nodes.trust_store import TrustStore, pin_root
from tests.federation_harness import HarnessBus
from tests.node_world import NOW, Agency, Person

NODES = ("node-east", "node-north", "node-west")
CANARY = "61.8765432109"
PARAMETERS = LinearParameters(
    features=("age", "dose"), label=Condition(column="ill", operator="gt", values=(0,)), rounds=8
)


def entry(node: str) -> CatalogueEntry:
    return CatalogueEntry.model_validate(
        {
            "id": f"res.{node}",
            "version": 1,
            "name_zh": "门诊",
            "name_en": "Clinic",
            "owner": f"org.{node}",
            "class": "health",
            "grade": "important",
            "update_frequency_days": 30,
            "operation_attribute": "conditional",
            "eligibility": {"checked_by": "office", "checked_on": "2026-01-05"},
            "storage": Storage(path="clinic.csv"),
            "columns": (
                Column(name="name", type="text", grade="general", identifier=True),
                Column(name="age", type="number", grade="general"),
                Column(name="dose", type="number", grade="general"),
                Column(name="ill", type="integer", grade="general"),
            ),
        }
    )


def write_table(path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    lines = ["name,age,dose,ill", f"金丝雀专名测试,{CANARY},1.5,1"]
    for place in range(90):
        age, dose = rng.normal(50, 10), rng.normal(5, 2)
        ill = int(rng.random() < 1 / (1 + np.exp(-(age - 50) / 8)))
        lines.append(f"人{place},{age:.3f},{'' if place % 9 == 0 else f'{dose:.3f}'},{ill}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@dataclass
class Federation:
    session: Session
    bus: HarnessBus
    agents: dict[str, Agent]

    @property
    def resources(self):
        return {
            node: (ResourceUse(resource=f"res.{node}", version=1, columns=PARAMETERS.columns),) for node in self.agents
        }

    def everything_sent(self) -> bytes:
        return b"".join(reply for _, _, reply in self.bus.seen)


@pytest.fixture
def federation(tmp_path):
    homes = {}
    for seed, node in enumerate(NODES):
        home = tmp_path / node
        (home / "catalogue").mkdir(parents=True)
        settings = NodeSettings(home, node, f"org.{node}", node, node, "127.0.0.1:1", "https://127.0.0.1:2")
        make_keys(settings.keys)
        write_table(home / "clinic.csv", seed)
        (home / "catalogue/clinic.toml").write_text(entry(node).to_toml(), encoding="utf-8")
        homes[node] = (settings, load_keys(settings.keys))
    people = [
        Person("operator", ("operator",), "org.op"),
        Person("registrar-1", ("registrar",), "org.agency"),
        Person("registrar-2", ("registrar",), "org.agency"),
        *(Person(node, ("node",), f"org.{node}", keys.statement, keys.sealing) for node, (_, keys) in homes.items()),
    ]
    named = {person.id: person for person in people}
    agency = Agency()
    published = agency.publish(Actors(actors=tuple(person.actor() for person in people)), Status(items=()))
    grant = the_grant()
    payload = grant_statement(grant, agreement_name="agreement.pdf", agreement_sha256="ef" * 32)
    offered = [sign(named[name].key, PAYLOAD_TYPE, payload).to_bytes() for name in ("registrar-1", "registrar-2")]
    agents = {}
    for node, (settings, keys) in homes.items():
        pin_root(settings.trust, agency.root)
        trust = TrustStore(settings.trust)
        trust.update(published, now=NOW)
        books = Books(settings.books, clock=lambda: NOW)
        held = entry(node)
        books.keep_resource(
            ResourceRecord(
                held.id,
                1,
                "active",
                "",
                held.schema_sha256,
                commitment(held, settings.home, keys.commitment),
                fingerprint(held, settings.home),
                9500,
                "A",
                "aa" * 32,
                "bb" * 32,
                NOW,
                NOW + timedelta(days=30),
            ),
            kind="resource.assessed",
        )
        digest, _, good = grants.check_offer(tuple(offered), node=node, trust=trust.current(), now=NOW)
        books.offer_grant(digest, grant.grant_id, Envelope.from_bytes(good[0]).payload, good, actor="operator")
        grants.approve(books, digest, key=keys.statement, node=node, catalogue={held.id: held}, reason="ok")
        agents[node] = Agent(settings, keys, books, trust, tasks(), now=lambda: NOW)
    bus = HarnessBus(agents)
    session = Session(
        orders=bus,
        steps=bus,
        key=named["operator"].key,
        operator="operator",
        grant=grant,
        grant_sha256=sha256_hex(payload),
        keys={name: person.key.public for name, person in named.items()},
        now=lambda: NOW,
    )
    return Federation(session, bus, agents)


def the_grant() -> Grant:
    return Grant(
        grant_id="g-1",
        agreement_id="agr-1",
        scenario="sc-1",
        scenario_title="场景",
        purpose="p-1",
        product_form="model",
        operator="operator",
        registrars=("registrar-1", "registrar-2"),
        parties=tuple(
            Party(
                node=node,
                resources=(ResourceUse(resource=f"res.{node}", version=1, columns=("age", "dose", "ill")),),
            )
            for node in NODES
        ),
        tasks=("linear.secagg",),
        uses_max=2,
        thresholds=Thresholds(rows_min=50, contributors_min=2, cell_min=3, round_base=1, quality_score_min=8000),
        budget=Budget(unit="session", total=2),
        request_sha256="cd" * 32,
        issued_at=NOW - timedelta(days=1),
        not_before=NOW - timedelta(days=1),
        not_after=NOW + timedelta(days=10),
    )


@pytest.mark.requirement("REQ-LEAST")
def test_an_ungranted_column_as_a_feature_is_refused(federation):
    wrong = PARAMETERS.model_copy(update={"features": ("age", "name")})
    columns = {
        node: (ResourceUse(resource=f"res.{node}", version=1, columns=("age", "name", "ill")),) for node in NODES
    }
    with pytest.raises(NodeRefusedError, match=r"grant\.column"):
        linear.train(federation.session, columns, wrong)


def test_the_agents_train_a_model_and_state_it_in_signed_statements(federation):
    model = linear.train(federation.session, federation.resources, PARAMETERS)
    assert model.metrics["auc_test_micro"] > 600_000
    assert model.vouched == NODES
    closed = linear.close(federation.session)
    for node in NODES:
        envelope = Envelope.from_bytes(closed[node].attachments[0])
        payload = envelope.open(federation.session.keys[node], PAYLOAD_TYPE)
        subjects, predicate = read(payload, NODE_RUN)
        assert ("model.json", sha256_hex(model.document)) in subjects
        assert predicate["contributors"] == 3
        assert predicate["facts"]["training_rounds"] == len(model.rounds)
    assert onnx_export.export(model.document)


def test_a_node_that_restarts_in_the_middle_does_not_lose_the_run(federation):
    def forget(progress):
        if progress.stage == "train" and progress.done == 2:
            agent = federation.agents["node-north"]
            agent.sessions.remove(federation.session.session_id)

    model = linear.train(federation.session, federation.resources, PARAMETERS, progress=forget)
    assert model.dropped == {"node-north": "linear.train"}
    assert model.vouched == ("node-east", "node-west")


@pytest.mark.requirement("PC-TECH", "RAW-CONTAIN")
def test_no_canary_leaves_and_none_is_written_into_the_books(federation):
    linear.train(federation.session, federation.resources, PARAMETERS)
    linear.close(federation.session)
    sent = federation.everything_sent()
    assert CANARY.encode() not in sent
    assert "金丝雀专名测试".encode() not in sent
    assert np.float64(CANARY).tobytes() not in sent
    for node, agent in federation.agents.items():
        agent.books.verify_chain()
        assert CANARY.encode() not in Path(agent.settings.books).read_bytes(), node
