"""Encrypted sums and private verification over real node agents: tables on disk, policy, books, statements."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from factory.agency.decrypting import DecryptionService
from factory.client.match import Invitation, Matcher
from factory.errors import NodeRefusedError
from factory.federation import sums
from factory.federation.session import Reply, Session, require
from nodes import grants
from nodes.agent.handle import Agent
from nodes.books import Books, ResourceRecord
from nodes.catalogue_entries import CatalogueEntry, Column, Storage
from nodes.contract import wire
from nodes.contract.grant import Budget, Grant, Party, Thresholds
from nodes.contract.messages import Query, ResourceUse, Result
from nodes.contract.signing import Envelope, sha256_hex, sign
from nodes.contract.statement import NODE_RUN, PAYLOAD_TYPE, grant_statement, read
from nodes.contract.tasks.match import MatchField, MatchParameters
from nodes.contract.tasks.sums import Category, Measure, Privacy, SumsParameters
from nodes.contract.trust import Actors, Status
from nodes.keys import load_keys, make_keys
from nodes.privacy_ledger import PrivacyLedger
from nodes.settings import NodeSettings
from nodes.tables import commitment, fingerprint
from nodes.tasks.catalogue import tasks
from nodes.trust_store import TrustStore, pin_root
from tests.federation_harness import HarnessBus
from tests.node_world import NOW, Agency, Person

NODES = ("node-east", "node-north", "node-west")
COLUMNS = ("name", "id_no", "district", "fine")
CANARY = "金丝雀专名测试"
CANARY_ID = "110101199003074477"
STATISTICS = SumsParameters(
    measures=(
        Measure(name="cases", kind="count", by=("district",)),
        Measure(name="fines", kind="sum", column="fine", by=("district",), scale=100, lower=0, upper=10**9),
    ),
    categories=(Category(column="district", values=("东城", "西城", "南城")),),
)
QUESTION = MatchParameters(
    fields=(MatchField(column="name", rules=("width", "trim")), MatchField(column="id_no", rules=("trim", "upper"))),
    batch_max=2,
)


def entry(node: str) -> CatalogueEntry:
    return CatalogueEntry.model_validate(
        {
            "id": f"res.{node}",
            "version": 1,
            "name_zh": "处罚登记",
            "name_en": "Penalties",
            "owner": f"org.{node}",
            "class": "tax",
            "grade": "important",
            "update_frequency_days": 30,
            "operation_attribute": "conditional",
            "eligibility": {"checked_by": "office", "checked_on": "2026-01-05"},
            "storage": Storage(path="fines.csv"),
            "columns": (
                Column(name="name", type="text", grade="general", identifier=True),
                Column(name="id_no", type="text", grade="general", identifier=True),
                Column(name="district", type="text", grade="general"),
                Column(name="fine", type="number", grade="general"),
            ),
        }
    )


def write_table(path: Path, node: int) -> None:
    lines = [",".join(COLUMNS), f"{CANARY},{CANARY_ID},东城,77"]
    for row in range(40):
        district = "东城" if row % 2 else "西城"
        lines.append(f"人{node}-{row},11010119900101{row:04d},{district},{row}.25")
    if node == 0:
        lines.append("独,110101199001019999,南城,5")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@dataclass
class World:
    sessions: dict[str, Session]
    bus: HarnessBus
    people: dict[str, Person]
    actors: Actors
    envelopes: dict[str, list[Envelope]]
    service: DecryptionService

    @property
    def resources(self) -> dict[str, tuple[ResourceUse, ...]]:
        return {node: (ResourceUse(resource=f"res.{node}", version=1, columns=("district", "fine")),) for node in NODES}

    def call(self, kind: str, body: Mapping[str, Any], attachments: tuple[bytes, ...]) -> Reply:
        query = Query(
            query_id="q-1",
            kind=kind,
            sender="operator",
            recipient="agency",
            body=dict(body),
            attachments_sha256=wire.digests(attachments),
            issued_at=NOW,
            expires_at=NOW + timedelta(minutes=5),
        )
        handler = self.service.handle_decrypt if kind == "he.decrypt" else self.service.handle_public_key
        answer, parts = handler(query, attachments)
        result = Result(
            request_sha256=sha256_hex(query.to_payload()),
            kind=kind,
            sender="agency",
            body=answer,
            attachments_sha256=wire.digests(parts),
            ledger_seq=1,
            ledger_sha256="0" * 64,
            answered_at=NOW,
        )
        return Reply("agency", answer, parts, sign(self.people["agency"].key, Result.payload_type, result.to_payload()))

    def sent(self) -> bytes:
        return b"".join(reply for _, _, reply in self.bus.seen)


def the_grant(task: str, nodes: tuple[str, ...], columns: tuple[str, ...], unit: str, total: int) -> Grant:
    return Grant(
        grant_id=f"g-{task}",
        agreement_id="agr-1",
        scenario="sc-1",
        scenario_title="场景",
        purpose="p-1",
        product_form="report" if task == "sums.ckks" else "verification",
        operator="operator",
        registrars=("registrar-1", "registrar-2"),
        parties=tuple(
            Party(node=node, resources=(ResourceUse(resource=f"res.{node}", version=1, columns=columns),))
            for node in nodes
        ),
        clients=("bank-1",) if task == "match.voprf" else (),
        tasks=(task,),
        uses_max=3,
        thresholds=Thresholds(rows_min=10, contributors_min=len(nodes), cell_min=5, round_base=5, quality_score_min=0),
        budget=Budget(unit=unit, total=total),
        request_sha256="cd" * 32,
        issued_at=NOW - timedelta(days=1),
        not_before=NOW - timedelta(days=1),
        not_after=NOW + timedelta(days=10),
    )


@pytest.fixture
def world(tmp_path) -> World:
    homes = {}
    for index, node in enumerate(NODES):
        home = tmp_path / node
        (home / "catalogue").mkdir(parents=True)
        settings = NodeSettings(home, node, f"org.{node}", node, node, "127.0.0.1:1", "https://127.0.0.1:2")
        make_keys(settings.keys)
        write_table(home / "fines.csv", index)
        (home / "catalogue/fines.toml").write_text(entry(node).to_toml(), encoding="utf-8")
        homes[node] = (settings, load_keys(settings.keys))
    people = [
        Person("operator", ("operator",), "org.op"),
        Person("agency", ("agency",), "org.agency"),
        Person("registrar-1", ("registrar",), "org.agency"),
        Person("registrar-2", ("registrar",), "org.agency"),
        Person("bank-1", ("application_unit",), "org.bank"),
        *(Person(node, ("node",), f"org.{node}", keys.statement, keys.sealing) for node, (_, keys) in homes.items()),
    ]
    named = {person.id: person for person in people}
    actors = Actors(actors=tuple(person.actor() for person in people))
    agency = Agency()
    published = agency.publish(actors, Status(items=()))
    granted = (
        the_grant("sums.ckks", NODES, ("district", "fine"), "session", 3),
        the_grant("match.voprf", ("node-north",), ("name", "id_no"), "query", 4),
    )
    agents, envelopes = {}, {}
    payloads = {
        grant.grant_id: grant_statement(grant, agreement_name="agreement.pdf", agreement_sha256="ef" * 32)
        for grant in granted
    }
    for node, (settings, keys) in homes.items():
        pin_root(settings.trust, agency.root)
        trust = TrustStore(settings.trust)
        trust.update(published, now=NOW)
        books = Books(settings.books, clock=lambda: NOW)
        held = entry(node)
        seal = commitment(held, settings.home, keys.commitment)
        mark = fingerprint(held, settings.home)
        books.keep_resource(
            ResourceRecord(
                held.id, 1, "active", "", held.schema_sha256, seal, mark, 9500, "A", "aa" * 32, "bb" * 32, NOW,
                NOW + timedelta(days=30),
            ),
            kind="resource.assessed",
        )  # fmt: skip
        for grant in granted:
            payload = payloads[grant.grant_id]
            signed = [sign(named[name].key, PAYLOAD_TYPE, payload) for name in ("registrar-1", "registrar-2")]
            envelopes.setdefault(grant.grant_id, signed)
            if grant.party(node) is None:
                continue
            offer = tuple(envelope.to_bytes() for envelope in signed)
            digest, _, good = grants.check_offer(offer, node=node, trust=trust.current(), now=NOW)
            books.offer_grant(digest, grant.grant_id, payload, good, actor="operator")
            grants.approve(books, digest, key=keys.statement, node=node, catalogue={held.id: held}, reason="ok")
            envelopes[grant.grant_id].append(sign(keys.statement, PAYLOAD_TYPE, payload))
        agents[node] = Agent(settings, keys, books, trust, tasks(), now=lambda: NOW)
    bus = HarnessBus(agents)
    sessions = {
        grant.tasks[0]: Session(
            orders=bus,
            steps=bus,
            key=named["operator"].key,
            operator="operator",
            grant=grant,
            grant_sha256=sha256_hex(payloads[grant.grant_id]),
            keys={name: person.key.public for name, person in named.items()},
            clients=grant.clients,
            now=lambda: NOW,
        )
        for grant in granted
    }
    home = tmp_path / "agency"
    home.mkdir()
    service = DecryptionService(
        home, "agency", named["agency"].key, lambda: actors, lambda: Status(items=()), lambda: NOW
    )
    return World(sessions, bus, named, actors, envelopes, service)


def statement(world: World, task: str, node: str) -> tuple[list[tuple[str, str]], dict[str, Any]]:
    closed = require(world.sessions[task].close())
    envelope = Envelope.from_bytes(closed[node].attachments[0])
    return read(envelope.open(world.sessions[task].keys[node], PAYLOAD_TYPE), NODE_RUN)


def test_agents_contribute_to_a_sum_and_state_it(world: World) -> None:
    session = world.sessions["sums.ckks"]
    statistics = sums.compute(
        session, STATISTICS, world.resources, world.call, grant_envelopes=world.envelopes["g-sums.ckks"]
    )
    cases = {cell["at"][0]: (cell["value"], cell["state"]) for cell in statistics.tables[0]["cells"]}
    assert cases["南城"] == (None, "suppressed")
    assert [state for _, state in cases.values()].count("suppressed") == 2
    assert statistics.contributors == NODES
    subjects, predicate = statement(world, "sums.ckks", "node-east")
    assert ("tables.json", sha256_hex(statistics.tables_bytes)) in subjects
    assert predicate["contributors"] == 3
    assert predicate["facts"]["sum_sha256"] == [sha256_hex(part) for part in statistics.sums]


def test_an_application_unit_asks_an_agent_until_the_budget_is_spent(world: World) -> None:
    session, bank = world.sessions["match.voprf"], world.people["bank-1"]
    uses = {"node-north": (ResourceUse(resource="res.node-north", version=1, columns=("name", "id_no")),)}
    accepted = require(session.open("match.voprf", QUESTION.model_dump(mode="json"), uses))["node-north"]
    matcher = Matcher(
        client="bank-1",
        key=bank.key,
        sealing_key=bank.sealing,
        actors=world.actors,
        bus=world.bus,
        invitation=Invitation(session.order_envelopes["node-north"], accepted.envelope),
        now=lambda: NOW,
    )
    asked = [{"name": CANARY, "id_no": CANARY_ID}, {"name": CANARY, "id_no": "110101199001010001"}]
    assert matcher.ask(asked) == (True, False)
    assert matcher.ask(asked[:1]) == (True,)
    with pytest.raises(NodeRefusedError, match=r"grant\.budget"):
        matcher.ask(asked)
    _, predicate = statement(world, "match.voprf", "node-north")
    assert predicate["facts"]["queries"] == 3
    assert predicate["budget"] == {"unit": "query", "before": 0, "after": 3}
    registers = list((world.bus.nodes["node-north"].settings.home / "registers").iterdir())
    assert [path.stat().st_mode & 0o777 for path in registers] == [0o600]


def test_no_canary_leaves_the_agents_or_lies_in_what_they_write(world: World) -> None:
    test_agents_contribute_to_a_sum_and_state_it(world)
    test_an_application_unit_asks_an_agent_until_the_budget_is_spent(world)
    for canary in (CANARY.encode(), CANARY_ID.encode()):
        assert canary not in world.sent()
        for agent in world.bus.nodes.values():
            written = [p for p in Path(agent.settings.home).rglob("*") if p.is_file() and p.name != "fines.csv"]
            assert all(canary not in path.read_bytes() for path in written)


def test_noise_is_paid_for_in_the_ledger_of_every_node_and_ends_when_the_limit_is_reached(world: World) -> None:
    pytest.importorskip("opendp")
    noisy = STATISTICS.model_copy(update={"privacy": Privacy(epsilon_micro=1_500_000)})
    statistics = sums.compute(
        world.sessions["sums.ckks"], noisy, world.resources, world.call, grant_envelopes=world.envelopes["g-sums.ckks"]
    )
    assert statistics.document["privacy"] == {"epsilon_micro": 1_500_000}
    for node in NODES:
        agent = world.bus.nodes[node]
        ledger = PrivacyLedger(agent.books, agent.settings.privacy_anchor, agent.settings.epsilon_micro_max)
        assert ledger.spent_micro(f"res.{node}") == 1_500_000
        assert agent.settings.privacy_anchor.stat().st_mode & 0o777 == 0o600
    first = world.sessions["sums.ckks"]
    again = Session(
        orders=first.orders,
        steps=first.steps,
        key=first.key,
        operator="operator",
        grant=first.grant,
        grant_sha256=first.grant_sha256,
        keys=first.keys,
        now=first.now,
    )
    answers = again.open("sums.ckks", noisy.model_dump(mode="json"), world.resources)
    assert {answer.code for answer in answers.values()} == {"grant.budget"}
