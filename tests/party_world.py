"""Two or more real node agents in one process, joined by a wire that can lose, repeat and alter parcels."""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd

from factory.federation.session import Session
from factory.hub.bus import NodeUnreachableError
from nodes import grants
from nodes.agent.handle import Agent
from nodes.books import Books, ResourceRecord
from nodes.catalogue_entries import CatalogueEntry, Column, Storage
from nodes.contract.grant import Budget, Grant, Party, Thresholds
from nodes.contract.messages import ResourceUse
from nodes.contract.signing import Envelope, sha256_hex, sign
from nodes.contract.statement import PAYLOAD_TYPE, grant_statement
from nodes.contract.trust import Actors, Status
from nodes.errors import PeerAwayError
from nodes.keys import load_keys, make_keys
from nodes.settings import NodeSettings
from nodes.tables import commitment, fingerprint
from nodes.tasks.spec import TaskSpec
from nodes.trust_store import TrustStore, pin_root
from tests.node_world import NOW, Agency, Person

TYPES = {"int64": "integer", "float64": "number"}
Through = Callable[[str, str, bytes, Callable[[bytes], bytes]], bytes]
"""Sender, recipient, parcel and what carries it on; returns the reply."""


@dataclass
class PartyWorld:
    """Agents with tables, a grant for all of them, and the wire between them."""

    folder: Path
    tables: Mapping[str, pd.DataFrame]
    specs: Mapping[str, TaskSpec]
    thresholds: Thresholds = field(
        default_factory=lambda: Thresholds(
            rows_min=10, contributors_min=2, cell_min=5, round_base=1, quality_score_min=0
        )
    )
    budget: Budget = field(default_factory=lambda: Budget(unit="session", total=9))
    through: Through = lambda _sender, _recipient, parcel, on: on(parcel)
    seen: list[tuple[str, str, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.nodes = tuple(self.tables)
        self.homes: dict[str, Any] = {}
        self.dead: set[str] = set()
        self.pool = ThreadPoolExecutor(max_workers=8)
        for node, frame in self.tables.items():
            home = self.folder / node
            (home / "catalogue").mkdir(parents=True)
            settings = NodeSettings(home, node, f"org.{node}", node, node, "127.0.0.1:1", "https://127.0.0.1:2")
            make_keys(settings.keys)
            frame.to_csv(home / "table.csv", index=False)
            (home / "catalogue/table.toml").write_text(self.entry(node).to_toml(), encoding="utf-8")
            self.homes[node] = (settings, load_keys(settings.keys))
        people = [
            Person("operator", ("operator",), "org.op"),
            Person("registrar-1", ("registrar",), "org.agency"),
            Person("registrar-2", ("registrar",), "org.agency"),
            *(Person(n, ("node",), f"org.{n}", k.statement, k.sealing) for n, (_, k) in self.homes.items()),
        ]
        self.people = {person.id: person for person in people}
        agency = Agency()
        published = agency.publish(Actors(actors=tuple(person.actor() for person in people)), Status(items=()))
        self.grant = self._grant()
        payload = grant_statement(self.grant, agreement_name="agreement.pdf", agreement_sha256="ef" * 32)
        self.grant_sha256 = sha256_hex(payload)
        offered = [sign(self.people[n].key, PAYLOAD_TYPE, payload).to_bytes() for n in ("registrar-1", "registrar-2")]
        self.agents: dict[str, Agent] = {}
        for node, (settings, keys) in self.homes.items():
            pin_root(settings.trust, agency.root)
            trust = TrustStore(settings.trust)
            trust.update(published, now=NOW)
            books = Books(settings.books, clock=lambda: NOW)
            held = self.entry(node)
            books.keep_resource(
                ResourceRecord(
                    held.id, 1, "active", "", held.schema_sha256, commitment(held, settings.home, keys.commitment),
                    fingerprint(held, settings.home), 9500, "A", "aa" * 32, "bb" * 32, NOW, NOW + timedelta(days=30),
                ),
                kind="resource.assessed",
            )  # fmt: skip
            digest, _, good = grants.check_offer(tuple(offered), node=node, trust=trust.current(), now=NOW)
            books.offer_grant(digest, self.grant.grant_id, Envelope.from_bytes(good[0]).payload, good, actor="operator")
            grants.approve(books, digest, key=keys.statement, node=node, catalogue={held.id: held}, reason="ok")
            books.close()
            self.start(node)

    def entry(self, node: str) -> CatalogueEntry:
        columns = tuple(
            Column(name=name, type=TYPES.get(str(kind), "text"), grade="general")
            for name, kind in self.tables[node].dtypes.items()
        )
        return CatalogueEntry.model_validate(
            {
                "id": f"res.{node}", "version": 1, "name_zh": "表", "name_en": "table", "owner": f"org.{node}",
                "class": "health", "grade": "general", "update_frequency_days": 30,
                "operation_attribute": "conditional", "eligibility": {"checked_by": "office", "checked_on": "2026-01-05"},
                "storage": Storage(path="table.csv"), "columns": columns,
            }
        )  # fmt: skip

    def start(self, node: str) -> Agent:
        """Start a node's agent, or start it again."""
        settings, keys = self.homes[node]
        books = Books(settings.books, clock=lambda: NOW)
        agent = Agent(settings, keys, books, TrustStore(settings.trust), dict(self.specs), now=lambda: NOW)
        agent.attach(lambda session, recipient, parcel, timeout_s: self.post(node, agent, recipient, parcel))
        self.agents[node] = agent  # as a process: it is reached when it has taken up what was open
        self.dead.discard(node)
        return agent

    def kill(self, node: str) -> None:
        """End a node as a power cut would: nothing more leaves it, nothing is written."""
        self.dead.add(node)
        old = self.agents[node]
        with old.books._lock:
            old.books._db.close()

    def post(self, sender: str, agent: Agent, recipient: str, parcel: bytes) -> bytes:
        def on(carried: bytes) -> bytes:
            if recipient in self.dead or sender in self.dead or self.agents.get(sender) is not agent:
                raise PeerAwayError("dead")
            return self.agents[recipient].handle(carried)

        self.seen.append((sender, recipient, parcel))
        return self.through(sender, recipient, parcel, on)

    # The operator's bus

    def ask(self, node: str, parcel: bytes, *, timeout_s: float) -> bytes:
        answer = self.ask_all({node: parcel}, timeout_s=timeout_s)[node]
        assert isinstance(answer, bytes)
        return answer

    def ask_all(self, parcels: Mapping[str, bytes], *, timeout_s: float) -> dict[str, Any]:
        def one(node: str, parcel: bytes) -> bytes | NodeUnreachableError:
            pause = threading.Event()
            for _ in range(600):  # as the relay does: the parcel waits for the node
                agent = self.agents[node]
                reply = b"" if node in self.dead else agent.handle(parcel)
                if reply and node not in self.dead and self.agents[node] is agent:
                    return reply
                pause.wait(0.05)
            return NodeUnreachableError(node)

        futures = {node: self.pool.submit(one, node, parcel) for node, parcel in parcels.items()}
        return {node: future.result(timeout_s) for node, future in futures.items()}

    def close(self) -> None:
        """End all agents."""
        for agent in self.agents.values():
            for opened in list(agent.sessions._open.values()):
                if opened.run is not None:
                    opened.run.end()
        self.pool.shutdown(wait=False)

    def session(self) -> Session:
        return Session(
            orders=self, steps=self, key=self.people["operator"].key, operator="operator", grant=self.grant,
            grant_sha256=self.grant_sha256, keys={n: p.key.public for n, p in self.people.items()}, now=lambda: NOW,
        )  # fmt: skip

    def resources(self, *nodes: str) -> dict[str, tuple[ResourceUse, ...]]:
        return {node: self._uses(node) for node in nodes or self.nodes}

    def _uses(self, node: str) -> tuple[ResourceUse, ...]:
        return (ResourceUse(resource=f"res.{node}", version=1, columns=tuple(map(str, self.tables[node].columns))),)

    def _grant(self) -> Grant:
        return Grant(
            grant_id="g-1", agreement_id="agr-1", scenario="sc-1", scenario_title="场景", purpose="p-1",
            product_form="model", operator="operator", registrars=("registrar-1", "registrar-2"),
            parties=tuple(Party(node=node, resources=self._uses(node)) for node in self.nodes),
            tasks=tuple(self.specs), uses_max=9, thresholds=self.thresholds, budget=self.budget,
            request_sha256="cd" * 32, issued_at=NOW - timedelta(days=1), not_before=NOW - timedelta(days=1),
            not_after=NOW + timedelta(days=10),
        )  # fmt: skip
