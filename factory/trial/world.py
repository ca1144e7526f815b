"""A throw-away world on the loopback: agency, registrars, operator, relay and one node process per party.

The trust is thrown away, the protocol is not: nodes enrol, are admitted, verify the grant
that two registrars signed, and do what they would do anywhere. Only here do the registrars'
and the agency's keys lie beside the operator's, in one temporary folder that is removed.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from factory.agency.client import AgencyClient
from factory.agency.interface import record_interface
from factory.agency.office import Office, create_office, sign_trust
from factory.agency.protection import record_protection
from factory.federation.session import Session
from factory.files import write_atomic
from factory.hub.relay_bus import RelayBus
from factory.identity import Identity, create_identity, install_admission, load_identity
from factory.key_files import write_key_file
from factory.pipelines.build import uses_of
from factory.pipelines.pipeline import pipeline_of
from factory.pipelines.recipe import Recipe
from factory.release.nodes import NodeDesk
from factory.trial.bus import OnBytes, TrialBus
from factory.trial.errors import TrialProcessError
from factory.trust import load_trust
from nodes.contract.enrolment import open_enrolment
from nodes.contract.grant import Budget, Grant, Party
from nodes.contract.signing import Envelope, VerifyKey, sha256_hex, sign
from nodes.contract.statement import PAYLOAD_TYPE, grant_statement
from nodes.contract.trust import Actors
from nodes.relay_client import RelayPlaneSettings
from nodes.supervise import die_with_parent
from products.trust import DEFAULT_RELEASE_POLICY

OPERATOR, AGENCY, RELAY = "operator", "agency", "relay"
START_S = 60.0
"""How long a process may take to come up, in seconds; on a machine that is busy with other things."""

_REGISTRARS = ("registrar-1", "registrar-2")
_END_S = 5.0
_LOOK_EVERY_S = 0.02


def _nothing(_name: str, _number: int) -> None:
    """Tell nobody."""


@dataclass(slots=True)
class World:
    """The throw-away world; use it as a context manager.

    Attributes:
        recipe: what will run; names nodes, tables and application units.
        tables: file per catalogue id; a node with one table may be named instead.
        on_start: told name and process id of every process, to measure it.
        on_bytes: told who sent how many bytes.
        folder: everything of the world; removed at its end.
        processes: running processes by party.
    """

    recipe: Recipe
    tables: Mapping[str, Path]
    on_start: Callable[[str, int], None] = _nothing
    on_bytes: OnBytes = _nothing
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="shufang-try-")))
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)
    relay_url: str = ""
    _operator: Identity | None = None
    _bus: TrialBus | None = None
    _relay_bus: RelayBus | None = None

    def __enter__(self) -> Self:
        try:
            self._found()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    @property
    def operator(self) -> Identity:
        """The operator's identity."""
        if self._operator is None:
            raise RuntimeError("the world is not open")
        return self._operator

    @property
    def bus(self) -> TrialBus:
        """The operator's way to every party."""
        if self._bus is None:
            raise RuntimeError("the world is not open")
        return self._bus

    def keys(self) -> dict[str, VerifyKey]:
        """Statement keys of nodes and agency, from the trust data."""
        trust = load_trust(self.operator.trust_path, now=datetime.now(UTC))
        return {actor.id: actor.verify_key for actor in trust.actors.actors}

    def grant(self, *, also: tuple[str, ...] = (), uses_max: int = 4) -> tuple[Grant, str, list[Envelope]]:
        """Have the registrars sign a grant for the recipe and the nodes approve it.

        Args:
            also: tasks beside the recipe's own.
            uses_max: most sessions.

        Returns:
            The grant, the digest of its payload, and the envelopes of registrars and nodes.
        """
        now = datetime.now(UTC)
        grant = Grant(
            grant_id="g-trial",
            agreement_id="agr-trial",
            scenario=self.recipe.scenario.id,
            scenario_title=self.recipe.scenario.title_zh,
            purpose=self.recipe.scenario.purpose,
            product_form=self.recipe.product.form,
            operator=OPERATOR,
            registrars=_REGISTRARS,
            parties=tuple(Party(node=node, resources=tuple(uses)) for node, uses in uses_of(self.recipe).items()),
            clients=self.recipe.clients,
            tasks=(self.recipe.pipeline.name, *also),
            uses_max=uses_max,
            thresholds=self.recipe.thresholds.model_copy(update={"quality_score_min": 0}),
            budget=Budget(unit="query", total=1_000_000),
            request_sha256=sha256_hex(b"trial"),
            issued_at=now,
            not_before=now - timedelta(minutes=5),
            not_after=now + timedelta(hours=12),
        )
        payload = grant_statement(grant, agreement_name="trial", agreement_sha256=sha256_hex(b"trial"))
        envelopes = [sign(load_identity(self.folder / name).key, PAYLOAD_TYPE, payload) for name in _REGISTRARS]
        desk = self.desk()
        desk.offer_grant(self.recipe.nodes, envelopes)
        signed = desk.grant_signatures(self.recipe.nodes, sha256_hex(payload))
        return grant, sha256_hex(payload), [*envelopes, *(Envelope.from_bytes(data) for data in signed.values())]

    def desk(self) -> NodeDesk:
        """Ask nodes outside sessions."""
        return NodeDesk(self.bus, OPERATOR, self.operator.key, self.keys(), timeout_s=START_S)

    def agency(self) -> AgencyClient:
        """Ask the agency's service."""
        return AgencyClient(self.bus, OPERATOR, self.operator.key, AGENCY, self.keys()[AGENCY])

    def session(self, grant: Grant, grant_sha256: str) -> Session:
        """Return a session that is not yet open; orders and steps go over the relay."""
        session = Session(
            orders=self.bus,
            steps=self.bus,
            key=self.operator.key,
            operator=OPERATOR,
            grant=grant,
            grant_sha256=grant_sha256,
            keys=self.keys(),
            clients=grant.clients,
        )
        if self._relay_bus is not None:
            self._relay_bus.open_session(session.session_id, (*self.recipe.nodes, *grant.clients))
        return session

    def client_home(self, client: str) -> Path:
        """Return the identity home of an application unit of the recipe."""
        return self.folder / client

    def run(self, party: str, module: str, *arguments: str) -> bytes:
        """Run one of our commands as ``party`` to its end and return what it printed.

        Raises:
            TrialProcessError: it ended with an error; the message holds its last line.
        """
        printed = self.folder / "logs" / f"{party}.out"
        printed.unlink(missing_ok=True)  # of an earlier command of this party
        process = self._start(party, module, *arguments, out=printed)
        while process.poll() is None:
            time.sleep(_LOOK_EVERY_S)
        if process.returncode != 0:
            raise self._ended(party)
        del self.processes[party]
        return printed.read_bytes()

    def _found(self) -> None:
        for folder in ("desk", "nodes", "hub", "logs"):
            (self.folder / folder).mkdir(mode=0o700)
        self._start_nodes()  # first of all, since they take longest and wait for what they need from here
        registrars = [self._identity(name, "org-agency", ("registrar",)) for name in _REGISTRARS]
        office = create_office(
            self.folder / AGENCY,
            actor_id=AGENCY,
            organisation="org-agency",
            title_zh="试用机构",
            title_en="Trial agency",
            registrars=[(item.home / "enrolment.json").read_bytes() for item in registrars],
            registrar_trust_keys=[_public_pem(item.trust_key) for item in registrars],
            root_folders=[self.folder / "root" / str(number) for number in range(3)],
            release_policy=DEFAULT_RELEASE_POLICY.to_bytes(),
            tlog_policy=b"",
            accept_proposed=True,
        )
        write_atomic(self.folder / "desk" / "root.json", office.root())
        self._start_relay(office)
        self._operator = self._identity(OPERATOR, "org-operator", ("operator",), root=office.root())
        dialling = [
            self._operator,
            *(
                self._identity(client, f"org-{client}", ("application_unit",), root=office.root())
                for client in self.recipe.clients
            ),
        ]
        for identity in dialling:
            office.admit((identity.home / "enrolment.json").read_bytes())
        for node in self.recipe.nodes:
            record_protection(
                office.identity, node, grade=1, report=b"local trial", tester="trial", official="trial",
                until=office.now() + timedelta(days=1), now=office.now(),
            )  # fmt: skip
            bundle = self._file_of(node, self._home(node) / "enrolment.json")
            record_interface(office.identity, open_enrolment(bundle), answer=b"local trial", now=office.now())
            office.admit(bundle)
        for registrar in registrars:
            sign_trust(registrar, office.trust_folder)
        office.publish()
        for identity in dialling:
            install_admission(identity, office.response(identity.id))
        write_atomic(self.folder / "hub" / "actors.json", office.trust().actors.to_payload())
        port = self._file_of(RELAY, self.folder / "hub" / "relay.port").decode("ascii").strip()
        self.relay_url = f"https://127.0.0.1:{port}"
        write_atomic(self.folder / "desk" / "relay.txt", self.relay_url.encode("ascii"))
        for node in self.recipe.nodes:
            write_atomic(self.folder / "desk" / f"{node}.answer.json", office.response(node))
        if pipeline_of(self.recipe).needs_key_service:
            self._start_agency(office)
        self._relay_bus = RelayBus(OPERATOR, _plane(self._operator, self.relay_url))
        self._bus = TrialBus(OPERATOR, self._relay_bus, self.processes, self.on_bytes)
        self._await_nodes()

    def _start_nodes(self) -> None:
        for node in self.recipe.nodes:
            tables = [
                {
                    "resource": party.resource,
                    "path": str((self.tables.get(party.resource) or self.tables[node]).absolute()),
                    "columns": list(party.columns),
                    "text": _key_columns(self.recipe, node),
                }
                for party in self.recipe.parties
                if party.node == node
            ]
            desk = self.folder / "desk"
            write_atomic(desk / f"{node}.tables.json", json.dumps(tables).encode("utf-8"))
            self._start(node, "nodes.trial", "--home", str(self._home(node)), "--id", node, "--desk", str(desk))

    def _start_relay(self, office: Office) -> None:
        hub = self.folder / "hub"
        key = ec.generate_private_key(ec.SECP256R1())
        write_key_file(hub / "server.pem", key)
        (hub / "server.crt").write_bytes(office.issue_server(key.public_key(), RELAY))
        (hub / "ca.crt").write_bytes(office.authority.certificate_pem)
        write_atomic(hub / "actors.json", Actors(actors=()).to_payload())
        (hub / "relay.toml").write_text(
            '[relay]\nport = 0\ncert_path = "server.crt"\nkey_path = "server.pem"\nca_path = "ca.crt"\n'
            'actors_path = "actors.json"\nport_path = "relay.port"\n'
        )
        self._start(RELAY, "factory.hub.relay", "--settings", str(hub / "relay.toml"))

    def _start_agency(self, office: Office) -> None:
        office.install_own()
        (office.home / "agency.toml").write_text(f'relay_url = "{self.relay_url}"\n')
        self._start(AGENCY, "factory.agency.serve", "--home", str(office.home))

    def _await_nodes(self) -> None:
        desk = self.desk()
        for node in self.recipe.nodes:
            try:
                desk.ask(node, "node.describe")
            except Exception:
                if self.processes[node].poll() is not None:
                    raise self._ended(node) from None
                raise

    def _start(self, name: str, module: str, *arguments: str, out: Path | None = None) -> "subprocess.Popen[bytes]":
        log = self.folder / "logs" / f"{name}.log"
        with log.open("ab") as errors, (out or log).open("ab") as printed:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=errors,
                start_new_session=True,  # Ctrl-C reaches us alone; we end the others
                preexec_fn=die_with_parent(os.getpid()),  # noqa: PLW1509  it calls the kernel and nothing else
            )
        self.processes[name] = process
        self.on_start(name, process.pid)
        return process

    def _file_of(self, name: str, path: Path) -> bytes:
        """Wait for a file that one of our processes writes, as long as it runs."""
        deadline = time.monotonic() + START_S
        while not (path.is_file() and path.stat().st_size):
            if self.processes[name].poll() is not None:
                raise self._ended(name)
            if time.monotonic() > deadline:
                raise TrialProcessError(f"expected {name} to come up within {START_S:g} s; is the machine overloaded?")
            time.sleep(_LOOK_EVERY_S)
        return path.read_bytes()

    def _ended(self, name: str) -> TrialProcessError:
        """Return what to say of a process that has ended: the message and code it left, or its exit code."""
        log = (self.folder / "logs" / f"{name}.log").read_text("utf-8", errors="replace").strip().splitlines()
        code, _, message = (log[-1] if log else "").partition(": ")
        if not message:
            return TrialProcessError(f"{name} ended with exit code {self.processes[name].returncode}")
        return TrialProcessError(f"{name}: {message} ({code})")

    def _identity(self, name: str, organisation: str, roles: Any, *, root: bytes | None = None) -> Identity:
        return create_identity(
            self.folder / name,
            actor_id=name,
            organisation=organisation,
            title_zh=name,
            title_en=name,
            roles=roles,
            root=root,
        )

    def _home(self, node: str) -> Path:
        return self.folder / "nodes" / node

    def _end(self) -> None:
        with _undisturbed():
            if self._bus is not None:
                self._bus.close()
            for process in self.processes.values():
                if process.poll() is None:
                    process.terminate()
            deadline = time.monotonic() + _END_S
            for process in self.processes.values():
                try:
                    process.wait(max(0.0, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
            shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Ignore a second Ctrl-C while processes are ended and files removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _key_columns(recipe: Recipe, node: str) -> list[str]:
    """Return the columns that make a key, which stay text even if they look like numbers."""
    keys = recipe.parameters.get("keys", {})
    fields = keys.get(node, ()) if keys else recipe.parameters.get("fields", ()) if pipeline_of(recipe).asks else ()
    return [item["column"] for item in fields]


def _plane(identity: Identity, url: str) -> RelayPlaneSettings:
    return RelayPlaneSettings(
        url=url, ca_path=identity.ca_path, cert_path=identity.tls_certificate_path, key_path=identity.tls_key_path
    )


def _public_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
