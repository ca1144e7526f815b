"""The processes of an embedded deployment, kept alive by one supervisor.

``python -m factory.site.stack SITE`` runs them until SIGTERM. Every party's processes open
that party's home and no other.
"""

import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from factory.site.founding import open_site
from factory.site.layout import Site
from factory.site.processes import ProcessFailedError, quoted, wait_until
from nodes.supervise import Child, Supervisor, SupervisorStatus, read_status, stop_supervisor

READY_S = 90.0
END_S = 20.0


def children(site: Site) -> list[Child]:
    """Return hub, relay, agency service, witness and the nodes."""

    def python(name: str, module: str, *arguments: str) -> Child:
        return Child(name, (sys.executable, "-P", "-m", module, *arguments))

    settings = str(site.hub_settings)
    return [
        python("witness", "factory.log.witness", "--home", str(site.folder / "witness")),
        python("relay", "factory.hub.relay", "--settings", settings),
        python("hub", "factory.hub.superlink", "--settings", settings),
        python("agency", "factory.agency.serve", "--home", str(site.agency)),
        *(python(d.node, "nodes.cli", "up", "--home", str(site.node(d))) for d in site.departments),
    ]


def start_stack(site: Site) -> None:
    """Start everything in the background and wait until hub, relay, agency and every node answer.

    Raises:
        ProcessFailedError: something did not come up; the message names it and its log.
    """
    if read_status(site.run) is not None:
        raise ProcessFailedError(
            f"expected nothing running in {site.folder}; end it with: shufang down --home {quoted(site.folder)}"
        )
    _require_free_ports(site)
    log = site.run / "logs" / "stack.log"
    log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    pid = _spawn([sys.executable, "-P", "-m", "factory.site.stack", str(site.folder)], log)
    try:
        _await_children(site, pid)
        register_nodes(site, [department.node for department in site.departments])
        _await_nodes(site)
    except BaseException:
        stop_stack(site)
        _end(pid)
        raise


def stop_stack(site: Site) -> bool:
    """End everything; False when nothing ran."""
    found = read_status(site.run)
    stopped = bool(stop_supervisor(site.run))
    if found is not None:
        _has_ended(found.pid)
    return stopped


def status_of(site: Site) -> SupervisorStatus | None:
    """Return how the processes are, or None when nothing runs."""
    return read_status(site.run)


def register_nodes(site: Site, nodes: Sequence[str]) -> None:
    """Tell the hub which nodes the agency has admitted; others cannot connect."""
    import base64
    from datetime import UTC, datetime

    from factory.hub.flower_bus import HubControl
    from factory.hub.superlink import HubSettings
    from factory.trust import load_trust

    trust = load_trust(site.operator / "trust", now=datetime.now(UTC))
    control = HubControl(HubSettings.read(site.hub_settings))
    try:
        for node in nodes:
            actor = trust.actors.find(node, role="node", moment=datetime.now(UTC))
            control.register(node, base64.b64decode(actor.hub_spki))
    finally:
        control.close()


def _require_free_ports(site: Site) -> None:
    """Say which port is taken before anything starts; a moment later the process itself would."""
    import socket
    import tomllib

    settings = tomllib.loads(site.hub_settings.read_text("utf-8"))
    for name in ("hub", "relay"):
        port = int(settings[name]["port"])
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError as error:
            raise ProcessFailedError(
                f"expected port {port} of the {name} to be free ({error.strerror}); end the program that listens on it "
                f"and start again, or found another deployment: shufang up --home FOLDER"
            ) from error


def _spawn(arguments: list[str], log: Path) -> int:
    """Start a process that outlives this one, in a session of its own, and return its pid."""
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    return os.posix_spawn(arguments[0], arguments, os.environ, file_actions=actions, setsid=True)


def _has_ended(pid: int) -> bool:
    """Whether a process that we started has ended; takes its exit status."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def _end(pid: int) -> None:
    if not _has_ended(pid):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + END_S
        while not _has_ended(pid):
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)


def _await_children(site: Site, pid: int) -> None:
    from factory.hub.superlink import HubSettings

    hub = HubSettings.read(site.hub_settings)

    def is_up() -> bool:
        if _has_ended(pid):
            raise ProcessFailedError(f"the supervisor ended at once; look into {site.run / 'logs' / 'stack.log'}")
        found = read_status(site.run)
        if found is not None:
            dying = [child.name for child in found.children if child.restarts >= 2]
            if dying:
                raise ProcessFailedError(f"{dying[0]} does not stay up: {_last_line(site, dying[0])}")
        return found is not None and found.is_healthy and _listens(hub.port) and (hub.home / "ports.json").exists()

    wait_until("hub, relay, agency and nodes", is_up, timeout_s=READY_S)


def _await_nodes(site: Site) -> None:
    from factory.hub.flower_bus import HubControl
    from factory.hub.superlink import HubSettings

    control = HubControl(HubSettings.read(site.hub_settings))
    try:
        wait_until(
            "every node online at the hub",
            lambda: sum(node.is_online for node in control.nodes()) >= len(site.departments),
            timeout_s=READY_S,
            every_s=0.2,
        )
    finally:
        control.close()


def _listens(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _last_line(site: Site, name: str) -> str:
    path = site.run / "logs" / f"{name}.log"
    lines = path.read_text("utf-8", errors="replace").strip().splitlines() if path.is_file() else []
    return lines[-1][:300] if lines else f"look into {path}"


def main() -> int:
    """Run the processes of one site until told to stop."""
    site = open_site(Path(sys.argv[1]))
    Supervisor(children(site), site.run).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
