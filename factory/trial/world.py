"""A throw-away world on the loopback: agency, registrars, operator, relay and one node process per party.

The trust is thrown away, the protocol is not: nodes enrol, are admitted, verify the grant
that two registrars signed, and do what they would do anywhere. Only here do the registrars'
and the agency's keys lie beside the operator's, in one temporary folder that is removed.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from factory.agency.client import AgencyClient
from factory.agency.office import Office, create_office, sign_trust
from factory.federation.session import Session
from factory.hub.relay_bus import RelayBus
from factory.identity import Identity, create_identity, install_admission
from factory.pipelines.build import uses_of
from factory.pipelines.recipe import Recipe
from factory.release.nodes import NodeDesk
from factory.site_processes import end_process, run_modules, start_module, wait_until
from factory.trust import load_trust
from nodes.contract.grant import Budget, Grant, Party
from nodes.contract.signing import Envelope, VerifyKey, sha256_hex, sign
from nodes.contract.statement import PAYLOAD_TYPE, grant_statement
from nodes.relay_client import RelayPlaneSettings
from products.trust import DEFAULT_RELEASE_POLICY

OPERATOR, AGENCY = "operator", "agency"
_REGISTRARS = ("registrar-1", "registrar-2")


@dataclass(slots=True)
class World:
    """The throw-away world; use it as a context manager.

    Attributes:
        recipe: what will run; names the nodes.
        tables: per node, the file of its table.
    """

    recipe: Recipe
    tables: Mapping[str, Path]
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="shufang-try-")))
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)
    _office: Office | None = None
    _operator: Identity | None = None
    _bus: RelayBus | None = None

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
    def bus(self) -> RelayBus:
        """The operator's way to every party."""
        if self._bus is None:
            raise RuntimeError("the world is not open")
        return self._bus

    def keys(self) -> dict[str, VerifyKey]:
        """Statement keys of nodes and agency, from the trust data."""
        trust = load_trust(self.operator.trust_path, now=datetime.now(UTC))
        return {actor.id: actor.verify_key for actor in trust.actors.actors}

    def grant(self) -> tuple[Grant, str, list[Envelope]]:
        """Have the registrars sign a grant for the recipe and the nodes approve it."""
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
            tasks=(self.recipe.pipeline.name,),
            uses_max=4,
            thresholds=self.recipe.thresholds.model_copy(update={"quality_score_min": 0}),
            budget=Budget(unit="query", total=1_000_000),
            request_sha256=sha256_hex(b"trial"),
            issued_at=now,
            not_before=now - timedelta(minutes=5),
            not_after=now + timedelta(hours=12),
        )
        payload = grant_statement(grant, agreement_name="trial", agreement_sha256=sha256_hex(b"trial"))
        envelopes = [sign(self._home_key(name), PAYLOAD_TYPE, payload) for name in _REGISTRARS]
        desk = self.desk()
        desk.offer_grant(self.recipe.nodes, envelopes)
        signed = desk.grant_signatures(self.recipe.nodes, sha256_hex(payload))
        return grant, sha256_hex(payload), [*envelopes, *(Envelope.from_bytes(data) for data in signed.values())]

    def desk(self) -> NodeDesk:
        """Ask nodes outside sessions."""
        return NodeDesk(self.bus, OPERATOR, self.operator.key, self.keys(), timeout_s=60.0)

    def agency(self) -> AgencyClient:
        """Ask the agency's service."""
        return AgencyClient(self.bus, OPERATOR, self.operator.key, AGENCY, self.keys()[AGENCY])

    def session(self, grant: Grant, grant_sha256: str) -> Session:
        """Return a session that is not yet open; orders and steps go over the relay."""
        return Session(
            orders=self.bus,
            steps=self.bus,
            key=self.operator.key,
            operator=OPERATOR,
            grant=grant,
            grant_sha256=grant_sha256,
            keys=self.keys(),
            clients=grant.clients,
        )

    def _found(self) -> None:
        registrars = [self._identity(name, "org-agency", ("registrar",)) for name in _REGISTRARS]
        self._office = office = create_office(
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
        )
        operator = self._identity(OPERATOR, "org-operator", ("operator",), root=office.root())
        office.admit((operator.home / "enrolment.json").read_bytes())
        self._publish(office, registrars)
        install_admission(operator, office.response(OPERATOR))
        self._operator = operator
        url = self._start_relay(office, operator)
        self._found_nodes(office, registrars, url)
        self._bus = RelayBus(OPERATOR, _plane(operator, url))
        if self.recipe.pipeline.name == "sums.ckks":
            self._start_agency(office, url)
        self._await_nodes()

    def _start_relay(self, office: Office, operator: Identity) -> str:
        hub = self.folder / "hub"
        hub.mkdir(mode=0o700)
        key = ec.generate_private_key(ec.SECP256R1())
        from factory.identity import write_key_file

        write_key_file(hub / "server.pem", key)
        (hub / "server.crt").write_bytes(office.issue_server(key.public_key(), "relay"))
        (hub / "ca.crt").write_bytes(operator.ca_path.read_bytes())
        self._write_actors(office)
        (hub / "relay.toml").write_text(
            '[relay]\nport = 0\ncert_path = "server.crt"\nkey_path = "server.pem"\nca_path = "ca.crt"\n'
            'actors_path = "actors.json"\nport_path = "relay.port"\n'
        )
        self.processes["relay"] = start_module(
            "factory.hub.relay", "--settings", str(hub / "relay.toml"), log=self.folder / "logs" / "relay.log"
        )
        note = hub / "relay.port"
        wait_until("the relay", lambda: note.is_file() and bool(note.read_text().strip()))
        return f"https://127.0.0.1:{note.read_text().strip()}"

    def _found_nodes(self, office: Office, registrars: list[Identity], url: str) -> None:
        root = self.folder / "1.root.json"
        root.write_bytes(office.root())
        nodes = self.recipe.nodes
        run_modules(
            [
                ("nodes.cli", "init", "--home", str(self._home(node)), "--id", node, "--organisation", f"org-{node}",
                 "--title-zh", node, "--title-en", node, "--relay", url, "--root", str(root), "--plane", "relay")
                for node in nodes
            ]
        )  # fmt: skip
        for node in nodes:
            office.admit((self._home(node) / "enrolment.json").read_bytes())
        self._publish(office, registrars)
        install_admission(self.operator, office.response(OPERATOR))
        self._write_actors(office)
        commands = []
        for party in self.recipe.parties:
            answer = self.folder / f"{party.node}.answer.json"
            answer.write_bytes(office.response(party.node))
            commands.append(
                ("nodes.trial", "--home", str(self._home(party.node)), "--answer", str(answer),
                 "--table", str(self.tables[party.node].absolute()), "--resource", party.resource)
            )  # fmt: skip
        run_modules(commands)
        for node in nodes:
            self.processes[node] = start_module(
                "nodes.agent.serve", "--home", str(self._home(node)), log=self.folder / "logs" / f"{node}.log"
            )

    def _start_agency(self, office: Office, url: str) -> None:
        office.install_own()
        (office.home / "agency.toml").write_text(f'relay_url = "{url}"\n')
        self.processes[AGENCY] = start_module(
            "factory.agency.serve", "--home", str(office.home), log=self.folder / "logs" / "agency.log"
        )

    def _await_nodes(self) -> None:
        for name in self.processes:
            if self.processes[name].poll() is not None:
                log = (self.folder / "logs" / f"{name}.log").read_text(errors="replace").strip().splitlines()
                raise RuntimeError(f"{name} ended at once: {' / '.join(log[-3:])}")
        desk = self.desk()
        for node in self.recipe.nodes:
            desk.ask(node, "node.describe")

    def _publish(self, office: Office, registrars: list[Identity]) -> None:
        for registrar in registrars:
            sign_trust(registrar, office.trust_folder)
        office.publish()

    def _write_actors(self, office: Office) -> None:
        path = self.folder / "hub" / "actors.json"
        partial = path.with_suffix(".partial")
        partial.write_bytes(office.trust().actors.to_payload())
        partial.replace(path)

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

    def _home_key(self, name: str) -> Any:
        from factory.identity import load_identity

        return load_identity(self.folder / name).key

    def _end(self) -> None:
        if self._bus is not None:
            self._bus.close()
        for process in reversed(self.processes.values()):
            end_process(process)
        shutil.rmtree(self.folder, ignore_errors=True)


def _plane(identity: Identity, url: str) -> RelayPlaneSettings:
    return RelayPlaneSettings(
        url=url, ca_path=identity.ca_path, cert_path=identity.tls_certificate_path, key_path=identity.tls_key_path
    )


def _public_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
