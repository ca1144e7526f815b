"""The agent's process: ``python -m nodes.agent.serve --home DIR``.

Reads the settings, serves the planes, ends on SIGTERM or when a plane ends by itself.
"""

import argparse
import logging
import signal
import sys
import threading
from pathlib import Path

from nodes.agent.handle import Agent
from nodes.books import Books
from nodes.contract.errors import ContractError
from nodes.errors import NodeError
from nodes.keys import load_keys
from nodes.planes.flower import FlowerPlaneSettings, serve_flower
from nodes.planes.relay import PeerPost, RelayPlaneSettings, serve_relay
from nodes.quality_schedule import keep_schedule
from nodes.settings import NodeSettings, load_settings
from nodes.tasks.catalogue import tasks
from nodes.trust_store import TrustStore

_log = logging.getLogger("shufang.node")


def build_agent(settings: NodeSettings) -> Agent:
    """Make the agent of a home with its keys, books, trust data and the installed tasks.

    Raises:
        NodeError: a key file, the books or the settings are not in order.
    """
    return Agent(settings, load_keys(settings.keys), Books(settings.books), TrustStore(settings.trust), tasks())


def flower_plane(settings: NodeSettings) -> FlowerPlaneSettings:
    """Return how this node reaches the hub."""
    return FlowerPlaneSettings(
        superlink_address=settings.hub,
        ca_path=settings.certs / "ca.crt",
        key_path=settings.keys / "hub.pem",
        work_dir=settings.home / "flower",
    )


def relay_plane(settings: NodeSettings) -> RelayPlaneSettings:
    """Return how this node reaches the relay."""
    return RelayPlaneSettings(
        url=settings.relay,
        ca_path=settings.certs / "ca.crt",
        cert_path=settings.certs / "tls.crt",
        key_path=settings.keys / "tls.pem",
    )


def serve(settings: NodeSettings, stop: threading.Event) -> None:
    """Answer parcels on the planes of the settings until ``stop`` is set, or a plane ends by itself.

    Raises:
        NodeError: the home is not in order.
    """
    agent = build_agent(settings)
    agent.trust.current()
    planes: list[threading.Thread] = []
    if "relay" in settings.planes:
        agent.attach(PeerPost(relay_plane(settings)))

    def run(name: str) -> None:
        try:
            if name == "flower":
                serve_flower(flower_plane(settings), agent.handle, agent.foreign_bundle, stop)
            else:
                serve_relay(relay_plane(settings), agent.handle, stop)
        except Exception as error:  # noqa: BLE001  a plane's end ends the process; the supervisor starts it again
            _log.error("plane %s ended: %s", name, type(error).__name__)  # no trace: it may quote a parcel
        finally:
            stop.set()

    for name in settings.planes:
        planes.append(threading.Thread(target=run, args=(name,), name=f"plane-{name}"))
        planes[-1].start()
    if settings.quality_check_s:
        # Not waited for at the end: a run that is cut off has put nothing in force.
        threading.Thread(
            target=keep_schedule,
            args=(settings, agent.keys, agent.books),
            kwargs={"stop": stop, "now": agent.now},
            name="quality",
            daemon=True,
        ).start()
    _log.info("serving %s on %s", settings.id, ", ".join(settings.planes))
    while not stop.wait(1.0):
        pass
    for plane in planes:
        plane.join(timeout=30)
    agent.books.close()


def main() -> int:
    """Run the agent of one home."""
    parser = argparse.ArgumentParser(prog="python -m nodes.agent.serve", description="Run a node's agent.")
    parser.add_argument("--home", type=Path, required=True, help="the node's home")
    home = parser.parse_args().home.absolute()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        serve(load_settings(home), stop)
    except (NodeError, ContractError) as error:
        sys.stderr.write(f"{error.code}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
