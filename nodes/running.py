"""Running a node: which processes, and what must be in order before they start."""

import subprocess
import sys
import time
from datetime import datetime

from nodes.enrolment import certificate_window
from nodes.errors import EnrolmentError, SettingsError
from nodes.keys import KEY_FILES, require_private
from nodes.settings import NodeSettings
from nodes.supervise import Child, Supervisor, read_status

START_S = 20.0


def children_of(settings: NodeSettings) -> list[Child]:
    """Return the node's processes: the agent, and the SuperNode where Flower carries orders."""
    children = []
    if "flower" in settings.planes:
        from nodes.planes.flower import FlowerPlaneSettings

        plane = FlowerPlaneSettings(
            superlink_address=settings.hub,
            ca_path=settings.certs / "ca.crt",
            key_path=settings.keys / "hub.pem",
            work_dir=settings.home / "flower",
            idle_poll_s=settings.hub_poll_ms / 1000,
        )
        children.append(Child("supernode", (sys.executable, "-P", *plane.supernode_arguments)))
    children.append(Child("agent", (sys.executable, "-P", "-m", "nodes.agent.serve", "--home", str(settings.home))))
    return children


def require_ready(settings: NodeSettings, *, now: datetime) -> None:
    """Check what would make the processes fail at once.

    Raises:
        KeyFileError: a key file is not in order.
        EnrolmentError: no certificate yet, or an expired one.
        SettingsError: a plane without an address.
    """
    for name in KEY_FILES:
        require_private(settings.keys / name)
    try:
        _, ends = certificate_window((settings.certs / "tls.crt").read_bytes())
    except OSError as error:
        raise EnrolmentError(
            "expected a certificate of the agency; install its answer with `shufang-node admit-response FILE`"
        ) from error
    if now >= ends:
        raise EnrolmentError(
            f"expected a certificate in force, it ended at {ends:%Y-%m-%d}; ask the agency for a new one"
        )
    if ("flower" in settings.planes and not settings.hub) or ("relay" in settings.planes and not settings.relay):
        raise SettingsError(
            "expected an address of every plane; set `hub` and `relay` in node.toml, or change `planes`"
        )


def run_node(settings: NodeSettings) -> None:
    """Run the node's processes until SIGTERM or SIGINT.

    Raises:
        SupervisorError: one is running already.
    """
    Supervisor(children_of(settings), settings.home / "run").run()


def start_detached(settings: NodeSettings) -> int:
    """Start the node in the background and return its supervisor's process id.

    Raises:
        EnrolmentError: it did not come up in time.
    """
    settings.logs.mkdir(exist_ok=True)
    with (settings.logs / "up.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "nodes.cli", "up", "--home", str(settings.home)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        found = read_status(settings.home / "run")
        if found is not None and found.pid == process.pid and found.is_healthy:
            return process.pid
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise EnrolmentError(f"expected the node to come up; see {settings.logs / 'up.log'} and `shufang-node doctor`")
