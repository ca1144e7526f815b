"""The operator at work in an embedded deployment: buses, desks, registry and workshop in one place."""

import base64
import tomllib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from factory.agency.client import AgencyClient
from factory.errors import FactoryError
from factory.federation.session import Session
from factory.hub.flower_bus import FlowerBus
from factory.hub.relay_bus import RelayBus
from factory.hub.superlink import HubSettings
from factory.identity import Identity, load_identity
from factory.law.files import deployed
from factory.log.home import LogHome
from factory.registry.store import Registry
from factory.release.nodes import NodeDesk
from factory.site.layout import Site
from factory.site.processes import quoted
from factory.site.stack import status_of
from factory.trust import Trust, load_trust
from factory.workshop import Workshop
from nodes.contract.grant import Grant
from nodes.contract.signing import VerifyKey
from nodes.relay_client import RelayPlaneSettings


class SiteStoppedError(FactoryError):
    """The deployment's processes do not run; nobody would answer."""

    code = "site.stopped"


@dataclass(slots=True)
class OperatorDesk:
    """Everything the operator works with; a context manager that closes connections.

    Raises:
        SiteStoppedError: the deployment does not run.

    Attributes:
        site: the deployment.
        identity: the operator.
        trust: verified trust data.
        flower: carries orders and queries.
        relay: carries steps, and queries to the agency.
        registry: the operator's registry.
    """

    site: Site
    identity: Identity = field(init=False)
    trust: Trust = field(init=False)
    flower: FlowerBus = field(init=False)
    relay: RelayBus = field(init=False)
    registry: Registry = field(init=False)

    def __post_init__(self) -> None:
        if status_of(self.site) is None:
            raise SiteStoppedError(
                f"expected {self.site.folder} to be running; "
                f"start it with: shufang up --home {quoted(self.site.folder)}"
            )
        self.identity = load_identity(self.site.operator)
        self.trust = load_trust(self.identity.trust_path, now=datetime.now(UTC))
        hub = HubSettings.read(self.site.hub_settings)
        moment = datetime.now(UTC)
        keys = {  # after a rotation the newer entry stands first, and counts
            a.id: base64.b64decode(a.hub_spki)
            for a in reversed(self.trust.actors.actors)
            if a.hub_spki and a.is_valid_at(moment)
        }
        self.flower = FlowerBus(hub, keys)
        self.relay = RelayBus(self.identity.id, relay_plane(self.identity, relay_url(self.site.hub_settings)))
        self.registry = Registry.at(self.site.operator / "registry.db")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flower.close()
        self.relay.close()
        self.registry.close()

    def keys(self) -> dict[str, VerifyKey]:
        """Statement key per actor, from the trust data; the entry that counts now."""
        moment = datetime.now(UTC)
        return {a.id: a.verify_key for a in reversed(self.trust.actors.actors) if a.is_valid_at(moment)}

    def admitted_nodes(self) -> list[str]:
        """Return the nodes that the trust data admits now, by id."""
        moment = datetime.now(UTC)
        return sorted({a.id for a in self.trust.actors.actors if "node" in a.roles and a.is_valid_at(moment)})

    def nodes(self) -> NodeDesk:
        """Ask nodes over the control plane."""
        return NodeDesk(self.flower, self.identity.id, self.identity.key, self.keys())

    def agency(self) -> AgencyClient:
        """Ask the agency's service over the relay."""
        return AgencyClient(self.relay, self.identity.id, self.identity.key, "agency", self.keys()["agency"])

    def session(self, grant: Grant, grant_sha256: str) -> Session:
        """Return a session that is not yet open: orders over Flower, steps over the relay."""
        return Session(
            orders=self.flower,
            steps=self.relay,
            key=self.identity.key,
            operator=self.identity.id,
            grant=grant,
            grant_sha256=grant_sha256,
            keys=self.keys(),
            clients=grant.clients,
        )

    def workshop(self, canaries: tuple[str, ...] = ()) -> Workshop:
        """Return the workshop."""
        return Workshop(
            operator=self.identity,
            trust=self.trust,
            desk=self.nodes(),
            agency=self.agency(),
            registry=self.registry,
            log=LogHome.read(self.site.log),
            law=deployed(self.site.operator),
            canaries=canaries,
        )


def relay_url(hub_settings: Path) -> str:
    """Return the address of the relay of these settings."""
    return f"https://127.0.0.1:{tomllib.loads(hub_settings.read_text('utf-8'))['relay']['port']}"


def relay_plane(identity: Identity, url: str) -> RelayPlaneSettings:
    """Return how an identity reaches the relay."""
    return RelayPlaneSettings(
        url=url, ca_path=identity.ca_path, cert_path=identity.tls_certificate_path, key_path=identity.tls_key_path
    )
