"""``shufang serve``: the platform over HTTP, on loopback unless it has a certificate.

Beside it one thread carries events into the log of the home. Ends on SIGTERM or SIGINT when
the calls at hand are answered.
"""

import asyncio
import logging
import ssl
import threading
from ipaddress import ip_address
from pathlib import Path

import typer

from factory.errors import FactoryError
from factory.services.platform import Platform

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Suites of TLS 1.2 with forward secrecy and authenticated encryption (RFC 9325 section 4.2); 1.3 has no others."""

DELIVER_S = 1.0
"""How often waiting events are carried into the log, in seconds."""

_log = logging.getLogger(__name__)


class ServeError(FactoryError):
    """Address, certificate or ciphers are not usable."""

    code = "api.serve"


def tls_context(certificate: Path, key: Path, ciphers: str | None = None) -> ssl.SSLContext:
    """Return the settings of TLS, 1.2 or newer.

    Raises:
        ServeError: not usable, or a suite without forward secrecy and authenticated encryption.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.set_ciphers(ciphers or CIPHERS)
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise ServeError(f"expected a usable certificate, key and cipher list: {error}") from error
    weak = sorted(str(suite["name"]) for suite in context.get_ciphers() if not _is_strong(str(suite["name"])))
    if weak:
        raise ServeError(
            f"expected suites with forward secrecy and authenticated encryption, got {', '.join(weak[:5])}; "
            f"use {CIPHERS}"
        )
    return context


def require_private(host: str, *, has_tls: bool) -> None:
    """Refuse to serve in the clear where others can listen.

    Raises:
        ServeError: no TLS and not loopback.
    """
    try:
        is_local = ip_address(host).is_loopback
    except ValueError:
        is_local = host == "localhost"
    if not has_tls and not is_local:
        raise ServeError(f"expected --tls-certificate and --tls-key for {host}; without them only 127.0.0.1 is served")


async def run(platform: Platform, *, host: str, port: int, context: ssl.SSLContext | None = None) -> None:
    """Serve until told to stop."""
    import signal
    import socket

    import uvicorn

    from factory.api.app import build_app

    config = uvicorn.Config(
        build_app(platform), access_log=False, log_config=None, server_header=False, ws="none", lifespan="off"
    )
    config.load()
    config.ssl = context
    try:
        listener = socket.create_server((host, port), backlog=512)
    except OSError as error:
        raise ServeError(f"expected a free port {host}:{port} ({error.strerror}); name another with --port") from error
    scheme = "https" if context else "http"
    typer.echo(f"{scheme}://{host}:{listener.getsockname()[1]}/openapi.json")
    server, stop = uvicorn.Server(config), threading.Event()
    carrier = threading.Thread(target=_carry, args=(platform, stop), daemon=True)
    carrier.start()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, lambda: setattr(server, "should_exit", True))
    try:
        await server._serve([listener])  # noqa: SLF001  serve() would end by the signal, not by 0
    finally:
        stop.set()
        carrier.join()
        listener.close()


def _carry(platform: Platform, stop: threading.Event) -> None:
    """Carry events into the log of the home while it has one; what fails is tried again."""
    from factory.log.home import LogHome
    from factory.log.log import Log
    from factory.registry import outbox

    folder, said = platform.office.home / "log", ""
    while not stop.wait(DELIVER_S):
        if not folder.is_dir():
            continue
        try:
            if not outbox.backlog(platform.desk.registry).waiting:
                continue
            with Log.open(LogHome.read(folder), now=platform.office.now()) as log:
                outbox.deliver(platform.desk.registry, platform.office.identity.key, log)
            said = ""
        except FactoryError as error:
            if error.code != said:
                _log.warning("events wait for the log: %s", error)
            said = error.code


def _is_strong(name: str) -> bool:
    return name.startswith("TLS_") or (name.startswith("ECDHE-") and ("GCM" in name or "CHACHA20" in name))
