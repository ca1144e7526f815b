"""The hub's Flower SuperLink, hardened: ``python -m factory.hub.superlink --settings FILE``.

Stock Flower serves departments, operator and executors on one port, and its control
interface asks for no credentials: whoever reaches it can send code to every node. Here are
two listeners. The public one (TLS) knows ``/v1/fleet/*`` and ``/health`` alone, without
self-registration; everything else is on the loopback behind a bearer token and Flower's
executor secret, both in files only the operator can read. State is in SQLite and survives a
restart. Telemetry, update check and dependency installation are off.
"""

import argparse
import asyncio
import hmac
import json
import logging
import os
import secrets
import socket
import sys
import tomllib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from factory.errors import FactoryError
from factory.hub.relay import until_signal
from nodes.flower_runtime import quiet_flower

_log = logging.getLogger("factory.hub.superlink")

_PUBLIC = "/v1/fleet/"
_NOT_PUBLIC = ("/v1/fleet/register-node", "/v1/fleet/unregister-node")  # the operator registers what the agency admits


class HubStartError(FactoryError):
    """The hub cannot start with these settings, or is not running."""

    code = "hub.start"


@dataclass(frozen=True, slots=True)
class HubSettings:
    """What the hub needs; who drives it (``FlowerBus``, ``HubControl``) reads the same.

    Attributes:
        home: folder of its database, secrets and port note.
        host: address of the public listener.
        port: port of the public listener; 0 takes a free one.
        cert_path, key_path: server certificate and key, PEM; valid for ``127.0.0.1`` too.
        ca_path: PEM of the authority that issued it.
        private_port: loopback port for the operator; 0 takes a free one.
    """

    home: Path
    host: str
    port: int
    cert_path: Path
    key_path: Path
    ca_path: Path
    private_port: int = 0

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the ``[hub]`` table of a TOML file; relative paths count from its folder.

        Raises:
            HubStartError: a setting is missing or not known.
        """
        try:
            table = dict(tomllib.loads(path.read_text(encoding="utf-8"))["hub"])
            paths = {name: path.parent / table.pop(name) for name in list(table) if name.endswith("_path")}
            home = path.parent / table.pop("home", "hub")
            return cls(home=home, host=table.pop("host", "127.0.0.1"), port=int(table.pop("port")), **paths, **table)
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise HubStartError(f"expected a table [hub] in {path.name} with all settings: {error}") from error

    def ports(self) -> tuple[int, int]:
        """Return the ports (public, private) of the running hub.

        Raises:
            HubStartError: it has not been started.
        """
        try:
            note = json.loads(self._ports_path.read_text(encoding="ascii"))
            return int(note["public"]), int(note["private"])
        except (OSError, ValueError, KeyError) as error:
            raise HubStartError(
                f"expected a running hub with the home {self.home}; start it with `shufang up`"
            ) from error

    def note_ports(self, public: int, private: int) -> None:
        """Write down where the hub listens."""
        partial = self._ports_path.with_suffix(".partial")
        partial.write_text(json.dumps({"public": public, "private": private}), encoding="ascii")
        partial.replace(self._ports_path)

    def forget_ports(self) -> None:
        """Remove what an earlier run wrote down, before anybody can reach this one."""
        self._ports_path.unlink(missing_ok=True)

    @property
    def _ports_path(self) -> Path:
        return self.home / "ports.json"

    def control_token(self) -> str:
        """Return the bearer token of the private listener, made on first use."""
        return _secret(self.home / "control.token").hex()

    def executor_secret(self) -> bytes:
        """Return the secret for acquiring tasks, made on first use."""
        return _secret(self.home / "executor.secret")


def _secret(path: Path) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        partial = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(32))
        try:
            os.link(partial, path)  # atomic, and never over one that is there
        except FileExistsError:
            pass
        finally:
            partial.unlink()
    if path.stat().st_mode & 0o077:
        raise HubStartError(f"expected mode 0600 for {path}; run: chmod 600 {path}")
    return path.read_bytes()


Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


def fleet_only(application: Application) -> Application:
    """Return an application that knows the fleet interface of ``application`` and nothing else."""

    async def public(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path = str(scope.get("path", ""))
        if path == "/health" or (path.startswith(_PUBLIC) and not path.startswith(_NOT_PUBLIC)):
            await application(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    return public


async def run(settings: HubSettings, *, ready: Callable[[int, int], None] | None = None) -> None:
    """Serve both listeners until cancelled.

    Args:
        settings: see ``HubSettings``.
        ready: called with the public and the private port once both listen.

    Raises:
        HubStartError: certificate, ports or home are not usable.
    """
    quiet_flower(settings.home / "flower")
    import uvicorn

    common: dict[str, Any] = {
        "ssl_certfile": str(settings.cert_path),
        "ssl_keyfile": str(settings.key_path),
        "access_log": False,
        "log_config": None,
        "timeout_graceful_shutdown": 2,
        "server_header": False,
    }
    settings.forget_ports()
    taken: list[socket.socket] = []
    try:
        taken.append(public_socket := _listen(settings.host, settings.port))
        taken.append(private_socket := _listen("127.0.0.1", settings.private_port))
        application = _application(settings)
        private = uvicorn.Server(uvicorn.Config(application, lifespan="on", **common))
        public = uvicorn.Server(uvicorn.Config(fleet_only(application), lifespan="off", **common))
        private.config.load()
        public.config.load()
    except OSError as error:  # ssl.SSLError is one
        for listener in taken:
            listener.close()
        raise HubStartError(
            f"expected usable certificates and free ports {settings.host}:{settings.port}, "
            f"127.0.0.1:{settings.private_port}: {error}"
        ) from error
    listeners = ((private, private_socket), (public, public_socket))
    # Server.serve() would take the signals and end by them; ours end with 0 and in order.
    serving = [asyncio.create_task(server._serve([listener])) for server, listener in listeners]  # noqa: SLF001
    try:
        for (server, _), task in zip(listeners, serving, strict=True):
            await _started(server, task)
        ports = int(public_socket.getsockname()[1]), int(private_socket.getsockname()[1])
        settings.note_ports(*ports)
        if ready is not None:
            ready(*ports)
        await asyncio.wait(serving, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        _log.info("hub ends")
    finally:
        public.should_exit = private.should_exit = True
        await asyncio.gather(*serving)


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.create_server((host, port), backlog=256)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


async def _started(server: Any, serving: "asyncio.Task[None]") -> None:
    while not server.started:
        if serving.done():
            await serving
            raise HubStartError("expected the hub's listener to start; see its log")
        await asyncio.sleep(0.02)


def _application(settings: HubSettings) -> Application:
    from flwr.common.constant import (
        ACCESS_TOKEN_KEY,
        CONTROL_API_DEFAULT_SERVER_ADDRESS,
        ISOLATION_MODE_PROCESS,
        NOOP_ACCOUNT_NAME,
        NOOP_FLWR_AID,
        TRANSPORT_TYPE_GRPC_RERE,
    )
    from flwr.supercore.auth.typing import AccountInfo
    from flwr.superlink.auth_plugin import ControlAuthnPlugin
    from flwr.superlink.cli.flower_superlink import SuperLinkLifespan
    from flwr.superlink.config_loader import SuperLinkLifespanConfig
    from flwr.superlink.main import create_app

    token = settings.control_token().encode()

    class BearerToken(ControlAuthnPlugin):  # type: ignore[misc]  # flwr is followed untyped
        """Lets in who shows the token; the open-source build of Flower lets in everyone."""

        def __init__(self) -> None:
            """Nothing to prepare."""

        def get_login_details(self) -> None:
            """There is no login."""

        def get_auth_tokens(self, device_code: str) -> None:
            """There is no login."""

        def refresh_tokens(self, metadata: Any) -> tuple[None, None]:  # noqa: ARG002  Flower's signature
            """There is nothing to refresh."""
            return None, None

        def validate_tokens_in_metadata(self, metadata: Any) -> tuple[bool, Any]:
            """Compare the token in constant time."""
            shown = dict(metadata).get(ACCESS_TOKEN_KEY, "")
            if not hmac.compare_digest(str(shown).encode(), token):
                return False, None
            return True, AccountInfo(flwr_aid=NOOP_FLWR_AID, account_name=NOOP_ACCOUNT_NAME)

    certificates = (settings.ca_path.read_bytes(), settings.cert_path.read_bytes(), settings.key_path.read_bytes())
    config = SuperLinkLifespanConfig(
        control_address=CONTROL_API_DEFAULT_SERVER_ADDRESS,
        health_server_address=None,
        host="127.0.0.1",
        port=settings.private_port,
        insecure=False,
        certificates=certificates,
        superexec_auth_secret=settings.executor_secret(),
        authn_plugin=BearerToken(),
        event_log_plugin=None,
        fleet_event_log_plugin=None,
        enable_event_log=False,
        artifact_provider=None,
        enable_supernode_auth=True,
        fleet_api_type=TRANSPORT_TYPE_GRPC_RERE,
        fleet_api_address=None,
        simulation=False,
        ssl_ca_certfile=str(settings.ca_path),
        ssl_certfile=str(settings.cert_path),
        ssl_keyfile=str(settings.key_path),
        database=str(settings.home / "superlink.db"),
        isolation=ISOLATION_MODE_PROCESS,
        runtime_dependency_install=False,
    )
    application: Application = create_app(config, SuperLinkLifespan)
    return application


def main(arguments: list[str] | None = None) -> int:
    """Entry point of ``python -m factory.hub.superlink``."""
    parser = argparse.ArgumentParser(prog="python -m factory.hub.superlink", description="Run the hub until SIGTERM.")
    parser.add_argument("--settings", type=Path, required=True, help="TOML file with a table [hub]")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    for name in ("alembic", "uvicorn"):
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        settings = HubSettings.read(options.settings)
        serving = run(settings, ready=lambda public, _: _log.info("hub listens on %s:%d", settings.host, public))
        asyncio.run(until_signal(serving))
    except FactoryError as error:
        sys.stderr.write(f"{error.code}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
