"""A relay in a thread, over real TLS on a free port, that tests can stop and start again."""

import asyncio
import threading
from pathlib import Path

from factory.hub import relay
from factory.hub.relay import RelaySettings
from nodes.contract.parameters import LIMITS, Limits
from nodes.relay_client import RelayPlaneSettings
from tests.unit.hub.certificates import Authority, Identity, actor, write_actors

ROLES = {
    "operator": "operator",
    "agency": "agency",
    "unit-1": "application_unit",
    "node-east": "node",
    "node-west": "node",
    "node-north": "node",
}


class RelayHouse:
    """One relay with the actors of ``ROLES``; ``actors_path`` may be rewritten while it runs."""

    def __init__(self, folder: Path, limits: Limits = LIMITS, **options: float) -> None:
        self.authority = Authority(folder)
        self.identities: dict[str, Identity] = {name: self.authority.issue(name) for name in ROLES}
        self.actors_path = folder / "actors.json"
        self.write_actors(*ROLES)
        self._server = self.authority.issue("relay", server=True)
        self._limits = limits
        self._options = options
        self.port = 0
        self.start()

    def write_actors(self, *names: str) -> None:
        write_actors(
            self.actors_path, *(actor(name, ROLES[name], tls=self.identities[name].spki_sha256) for name in names)
        )

    def start(self) -> None:
        settings = RelaySettings(
            "127.0.0.1",
            self.port,
            self._server.cert_path,
            self._server.key_path,
            self.authority.ca_path,
            self.actors_path,
        )
        ready, self._loop = threading.Event(), asyncio.new_event_loop()

        def listens(port: int) -> None:
            self.port = port
            ready.set()

        async def serve() -> None:
            self._task = asyncio.current_task()
            await relay.run(settings, limits=self._limits, ready=listens, **self._options)
            await asyncio.sleep(0.1)  # TLS connections that are closing need the loop a little longer

        def run() -> None:
            try:
                self._loop.run_until_complete(serve())
            finally:
                self._loop.close()
                ready.set()

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()
        assert ready.wait(10)
        assert self._thread.is_alive()

    def stop(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._task.cancel)
            self._thread.join(10)
            assert not self._thread.is_alive()

    def settings(self, name: str, **changes: object) -> RelayPlaneSettings:
        identity = self.identities[name]
        return RelayPlaneSettings(
            f"https://127.0.0.1:{self.port}",
            self.authority.ca_path,
            identity.cert_path,
            identity.key_path,
            **{"poll_wait_s": 2.0, **changes},
        )
