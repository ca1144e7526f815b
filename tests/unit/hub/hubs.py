"""A hub and SuperNodes as real processes on free ports; the agents' halves run as threads of the test."""

import base64
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from factory.hub.flower_bus import HubControl
from factory.hub.superlink import HubSettings
from nodes.planes.flower import FlowerPlaneSettings, serve_flower
from tests.unit.hub.certificates import Authority, hub_key


def wait_for(claim, timeout_s: float = 30.0, what: str = "it") -> None:
    """Wait until ``claim()`` is true."""
    ends_at = time.monotonic() + timeout_s
    while not claim():
        assert time.monotonic() < ends_at, f"{what} did not happen within {timeout_s} s"
        time.sleep(0.05)


class HubHouse:
    """One hub and its SuperNodes; ``close`` ends every process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority(folder)
        server = self.authority.issue("superlink", server=True)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.spki_of: dict[str, bytes] = {}
        self.foreign: list[tuple[str, str, str]] = []
        self.stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._toml = folder / "hub.toml"
        self._toml.write_text(
            "[hub]\n"
            'home = "hub"\nhost = "127.0.0.1"\nport = 0\n'
            f'cert_path = "{server.cert_path}"\nkey_path = "{server.key_path}"\nca_path = "{self.authority.ca_path}"\n'
        )
        self.settings = HubSettings.read(self._toml)
        self.start_hub()

    def start(self, name: str, *arguments: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, *arguments], stdout=log, stderr=log, cwd=Path.cwd()
            )

    def start_hub(self) -> None:
        (self.settings.home / "ports.json").unlink(missing_ok=True)
        self.start("hub", "-m", "factory.hub.superlink", "--settings", str(self._toml))
        try:
            wait_for(self._hub_started, what="the hub's start")
        except AssertionError:
            self.close()
            raise
        self.public, self.private = self.settings.ports()

    def restart_hub(self) -> None:
        """Start the hub again on the ports it had."""
        text = self._toml.read_text().replace("port = 0\n", f"port = {self.public}\nprivate_port = {self.private}\n")
        self._toml.write_text(text)
        self.start_hub()

    def _hub_started(self) -> bool:
        assert self.processes["hub"].poll() is None, (self.folder / "hub.log").read_text()[-2000:]
        return (self.settings.home / "ports.json").exists()

    def add_node(self, name: str, handler) -> FlowerPlaneSettings:
        key_path = self.folder / f"{name}-hub.pem"
        self.spki_of[name] = base64.b64decode(hub_key(key_path))
        control = HubControl(self.settings)
        control.register(name, self.spki_of[name])
        control.close()
        settings = FlowerPlaneSettings(
            f"127.0.0.1:{self.public}",
            self.authority.ca_path,
            key_path,
            self.folder / name,
            idle_poll_s=0.1,
            task_poll_s=0.03,
        )
        self.start(name, *settings.supernode_arguments)

        def on_foreign(digest: str, reason: str) -> None:
            self.foreign.append((name, digest, reason))

        thread = threading.Thread(target=serve_flower, args=(settings, handler, on_foreign, self.stop), daemon=True)
        thread.start()
        self._threads.append(thread)
        return settings

    def wait_online(self) -> None:
        control = HubControl(self.settings)
        wait_for(lambda: sum(node.is_online for node in control.nodes()) >= len(self.spki_of), what="all nodes online")
        control.close()

    def close(self) -> None:
        self.stop.set()
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(5)
        for thread in self._threads:
            thread.join(5)
