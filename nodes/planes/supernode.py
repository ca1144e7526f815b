"""A department's Flower SuperNode: pulls messages from the hub and hands them to the agent on the loopback.

``python -m nodes.planes.supernode --hub HOST:PORT --ca FILE --key FILE --work DIR`` runs
Flower's own SuperNode in process isolation: it runs no code of anyone, sees no table, and
keeps messages until the agent (``nodes.planes.flower``) fetches them with the secret of
``DIR/runner.secret`` from the loopback port noted in ``DIR/runner.port``.

What differs from ``flower-supernode``: nothing reaches out but the connection to the hub; it
asks the hub again after ``--idle-poll-s`` instead of three seconds; after a crash it ends its
own stale session at the hub instead of being locked out for a minute; a hub that does not
answer yet is waited for.
"""

import argparse
import os
import secrets
import socket
import sys
import threading
import time
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nodes.flower_runtime import OBJECT_RETRY_S, quiet_flower

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

SECRET_FILE = "runner.secret"  # noqa: S105  a file name
PORT_FILE = "runner.port"

REPLY_POLL_S = 0.03
"""How often the SuperNode looks whether the agent has answered, in seconds (Flower's own: half a second)."""

PARTS_PATIENCE_S = 20.0
"""Longest wait for a part of a message that the hub does not have, in seconds. The operator uploads to the hub on the
same machine, so a part that is missing for longer was lost when the hub ended; the message is sent again."""

HTTP_PRECONDITION_FAILED = 412


def ensure_secret(work_dir: Path) -> bytes:
    """Return the secret that SuperNode and agent of one node share, made by whoever comes first."""
    work_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    path, partial = work_dir / SECRET_FILE, work_dir / f"{SECRET_FILE}.{os.getpid()}.{secrets.token_hex(4)}"
    if not path.exists():
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(32))
        try:
            os.link(partial, path)  # atomic, and never over one that is there
        except FileExistsError:
            pass
        finally:
            partial.unlink()
    return path.read_bytes()


def load_hub_key(path: Path) -> "ec.EllipticCurvePrivateKey":
    """Read the key by which the hub knows this node (PKCS#8 PEM, or OpenSSH as ``ssh-keygen`` writes it).

    Raises:
        ValueError: not such a key.
    """
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key

    pem = path.read_bytes()
    load = load_ssh_private_key if b"OPENSSH" in pem[:64] else load_pem_private_key
    key = load(pem, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError(f"expected an elliptic-curve key in {path.name}")  # noqa: TRY004  one error for the caller
    return key


def run(*, hub: str, ca_path: Path, key_path: Path, work_dir: Path, idle_poll_s: float) -> None:
    """Run the SuperNode until SIGTERM.

    Args:
        hub: ``host:port`` of the hub's public listener.
        ca_path: PEM of the agency's TLS authority.
        key_path: the node's hub key.
        work_dir: folder of this process's files, used by no other node.
        idle_poll_s: how long to wait after the hub had nothing.
    """
    quiet_flower(work_dir)
    secret = ensure_secret(work_dir)
    key = load_hub_key(key_path)

    from flwr.common.constant import ISOLATION_MODE_PROCESS
    from flwr.supercore.object_store import ObjectStoreFactory
    from flwr.supernode.nodestate import NodeStateFactory
    from flwr.supernode.start_client_internal import start_client_internal

    _poll_sooner(idle_poll_s)
    _end_own_stale_session(work_dir)
    states = NodeStateFactory(objectstore_factory=ObjectStoreFactory())
    port = _serve_runner(states, secret, work_dir)
    start_client_internal(
        state_factory=states,
        server_address=hub,
        node_config={},
        root_certificates=ca_path.read_bytes(),
        insecure=False,
        authentication_keys=(key, key.public_key()),
        isolation=ISOLATION_MODE_PROCESS,
        runtime_api_address=f"127.0.0.1:{port}",
        superexec_auth_secret=secret,
        runtime_dependency_install=False,
    )


def _serve_runner(states: Any, secret: bytes, work_dir: Path) -> int:
    """Serve the runtime interface to the agent on a free loopback port and note the port."""
    import uvicorn
    from flwr.supercore.exit import add_exit_handler
    from flwr.supernode.main import create_app

    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    port = int(listener.getsockname()[1])
    application = create_app(state_factory=states, superexec_auth_secret=secret)
    server = uvicorn.Server(uvicorn.Config(application, access_log=False, log_config=None, timeout_graceful_shutdown=1))
    threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="runner-interface", daemon=True).start()

    def stop() -> None:
        server.should_exit = True

    add_exit_handler(stop)
    while not server.started:
        time.sleep(0.02)
    partial = work_dir / f"{PORT_FILE}.partial"
    partial.write_text(f"{port}\n", encoding="ascii")
    partial.replace(work_dir / PORT_FILE)
    return port


def _poll_sooner(idle_poll_s: float) -> None:
    import flwr.supercore.inflatable.inflatable_utils as inflatable
    from flwr.supernode import start_client_internal as module

    def sleep(seconds: float) -> None:
        time.sleep(idle_poll_s if seconds >= 1 else min(seconds, REPLY_POLL_S))

    # Flower's intervals (3 s idle, 0.5 s for a reply, 1 s for a part) stand in the code, not in a setting.
    patched: Any = module
    patched.time = types.SimpleNamespace(sleep=sleep, time=time.time, monotonic=time.monotonic)
    for function in (inflatable.pull_objects, inflatable.pull_and_inflate_object_from_tree):
        function.__kwdefaults__.update(
            initial_backoff=OBJECT_RETRY_S, backoff_cap=1.0, max_tries_per_object=100_000, max_time=PARTS_PATIENCE_S
        )


def _end_own_stale_session(work_dir: Path) -> None:
    """Let the SuperNode end the session a crashed predecessor left at the hub; it still holds the key."""
    import httpx
    from flwr.proto.fleet_pb2 import DeactivateNodeRequest
    from flwr.supernode.fleet_http_client import FleetHttpClient

    activate = FleetHttpClient.ActivateNode
    noted = work_dir / "node_id"

    def activate_again(client: Any, request: Any) -> Any:
        try:
            response = activate(client, request)
        except httpx.HTTPStatusError as error:
            if error.response.status_code != HTTP_PRECONDITION_FAILED or not noted.exists():
                raise
            client.DeactivateNode(DeactivateNodeRequest(node_id=int(noted.read_text(encoding="ascii"))))
            response = activate(client, request)
        noted.write_text(str(response.node_id), encoding="ascii")
        return response

    FleetHttpClient.ActivateNode = activate_again


def main(arguments: list[str] | None = None) -> int:
    """Entry point of ``python -m nodes.planes.supernode``."""
    parser = argparse.ArgumentParser(
        prog="python -m nodes.planes.supernode", description="Run this department's SuperNode until SIGTERM."
    )
    parser.add_argument("--hub", required=True, help="host:port of the hub")
    parser.add_argument("--ca", type=Path, required=True, help="PEM of the agency's TLS authority")
    parser.add_argument("--key", type=Path, required=True, help="file of the node's hub key")
    parser.add_argument("--work", type=Path, required=True, help="folder for the SuperNode's own files")
    parser.add_argument("--idle-poll-s", type=float, default=1.0, help="wait after the hub had nothing, in seconds")
    options = parser.parse_args(arguments)
    try:
        run(
            hub=options.hub,
            ca_path=options.ca,
            key_path=options.key,
            work_dir=options.work,
            idle_poll_s=options.idle_poll_s,
        )
    except (OSError, ValueError) as error:
        sys.stderr.write(f"expected usable files for the SuperNode: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
