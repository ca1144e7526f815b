"""A platform over HTTP for tests: an agency from real keys, bodies and people of every role, and their tokens."""

import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from factory.accounts.credentials import Credentials
from factory.api.app import build_app
from factory.law.files import write_law
from factory.lifecycle.roles import ROLES
from factory.registry.request import read_agreement, read_request
from factory.registry.store import Registry
from factory.services.actor import Actor
from factory.services.people import NewAccount, NewOrganisation
from factory.services.platform import Platform, build_platform
from tests import offices, request_texts
from tests.registries import CHEAP
from tests.town import catalogue_entries

BODIES = {
    "org-platform": ("administrator", "supervisor"),
    "org-operator": ("operator",),
    "data-bureau": ("agency", "registrar", "data_administration", "authorising_unit"),
    "org-admin": ("data_administration",),
    "org-health": ("sector_authority",),
    "org-east": ("source_department", "node"),
    "org-west": ("source_department", "node"),
    "org-north": ("source_department", "node"),
    "org-dev": ("developer",),
    "org-bank": ("application_unit",),
    "org-university": ("reviewer",),
    "org-security": ("operator", "security_head"),
}
"""Bodies with what they may be; ``data-bureau`` is the organisation of the agency's own keys."""

DISTRICTS = ("east", "west", "north")

PARTIES = {
    "data-bureau": "agency", "org-admin": "data_administration", "org-health": "sector_authority",
    "org-operator": "operator", "org-dev": "developer", "org-bank": "application_unit",
    "org-east": "source_department", "org-west": "source_department", "org-north": "source_department",
    "org-university": "reviewer",
}  # fmt: skip

HOMES = {
    "agency": "data-bureau", "registrar": "data-bureau", "authorising_unit": "data-bureau",
    "data_administration": "org-admin", "sector_authority": "org-health",
    "operator": "org-operator", "security_head": "org-operator", "source_department": "org-east", "node": "org-east",
    "developer": "org-dev", "application_unit": "org-bank", "reviewer": "org-university",
    "administrator": "org-platform", "supervisor": "org-platform",
}  # fmt: skip
"""Body of the one account that each role has."""


class Served:
    """The application with an account of each role."""

    def __init__(self, folder: Path, url: str) -> None:
        self.world = offices.world(folder)
        self.nodes = {name: self.world.add(f"node-{name}", f"org-{name}", "node") for name in DISTRICTS}
        self.node = self.nodes["east"]
        self.reviewers = [self.world.add(f"reviewer-{body}", body, "reviewer") for body in ("university", "institute")]
        self.operator = self.world.add("operator", "org-operator", "operator")
        self.bank = self.world.add("unit-1", "org-bank", "application_unit")
        self.world.publish()
        self.registry = Registry(url)
        catalogue_entries(
            self.world.office, self.registry, {name: (node.key, f"org-{name}") for name, node in self.nodes.items()}
        )
        self.platform: Platform = build_platform(self.world.office, self.registry)
        self.people, self.desk = self.platform.people, self.platform.desk
        self.people.found(
            NewOrganisation(id="org-platform", name_zh="平台", name_en="Platform", roles=BODIES["org-platform"]),
            NewAccount(
                id="p-administrator", name="管理员", organisation="org-platform", roles=("administrator",),
                identity="n-administrator",
            ),
        )  # fmt: skip
        self.admin = Actor("p-administrator", "org-platform", frozenset({"administrator"}), "password")
        for body, roles in BODIES.items():
            if body != "org-platform":
                self.people.register(self.admin, NewOrganisation(id=body, name_zh=body, name_en=body, roles=roles))
        for role, body in HOMES.items():
            if role != "administrator":
                self.add_person(f"p-{role}", body, role)
        self.client = self._start()
        self.tokens = {role: self.token(f"p-{role}") for role in ROLES}

    def _start(self) -> httpx.Client:
        config = uvicorn.Config(build_app(self.platform), port=0, log_config=None, lifespan="off", ws="none")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)
        self.url = f"http://127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}"
        return httpx.Client(base_url=self.url, timeout=30)

    def add_person(self, name: str, body: str, *roles: str) -> Actor:
        asked = NewAccount(id=name, name=name, organisation=body, roles=roles, identity=f"n-{name}")
        self.people.open_account(self.admin, asked)
        return self.actor(name)

    def actor(self, name: str) -> Actor:
        document = self.registry.get("account", name).document
        return Actor(name, document["organisation"], frozenset(document["roles"]), "password")

    def token(self, name: str) -> str:
        credentials = Credentials(self.registry, None, CHEAP)  # type: ignore[arg-type]  # seals nothing here
        now = self.desk.clock()
        return credentials.issue(name, "session", now=now, until=now + timedelta(hours=8))

    def law(self, code: str) -> None:
        """Put the jurisdiction of this platform under another profile."""
        home = self.world.office.home
        (home / "law.toml").unlink(missing_ok=True)
        write_law(home, code, accept_proposed=True)

    def agree(self, **changes: Any) -> Any:
        """File an agreement with a role for each body."""
        text = read_agreement(request_texts.AGREEMENT).model_dump(mode="json")
        return self.call(
            "POST", "/v1/agreements", {"agreement": {**text, **changes}, "parties": PARTIES}, role="agency"
        )

    def request(self, **changes: Any) -> dict[str, Any]:
        """Return the body of a data request."""
        made = read_request(request_texts.request_text(**changes), operator="operator", now=self.desk.clock())
        return made.model_dump(mode="json")

    def call(self, method: str, path: str, body: object = None, *, role: str = "", token: str = "", **headers: str):
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if role or token:
            sent["Authorization"] = f"Bearer {token or self.tokens[role]}"
        return self.client.request(method, path, json=body, headers=sent)

    def close(self) -> None:
        self.client.close()
        self._server.should_exit = True
        self._thread.join()
        self.registry.close()
