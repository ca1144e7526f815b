"""The relay: an HTTPS long-poll server that carries parcels between the parties of a session.

``python -m factory.hub.relay --settings FILE`` serves until SIGTERM. Every connection needs a
client certificate of the agency's TLS authority; the actor is found by the digest of the
certificate's public key in the agency-signed list of actors, which is read again when the
file changes, so an actor that was removed is refused on its next request.

Everything is held in memory (``factory.hub.mailboxes``): askers keep their parcels until
they have the reply and put them again when the relay was restarted. One connection that is
slow to send or to read costs the others nothing: requests wait for their own body only.
"""

import argparse
import asyncio
import json
import logging
import signal
import ssl
import sys
import time
import tomllib
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs

from factory.errors import FactoryError
from factory.hub.mailboxes import Mailboxes, Place
from nodes.contract.errors import ContractError
from nodes.contract.frames import WAIT_S_MAX, RelayRefusedError, is_name, pack_frames
from nodes.contract.messages import parse
from nodes.contract.parameters import LIMITS, Limits
from nodes.contract.trust import Actor, Actors

_log = logging.getLogger("factory.hub.relay")


class _LoggedHandshake(ssl.SSLObject):
    """Writes down handshakes that fail (PC-CHANNEL): no certificate, a foreign one, or no TLS at all."""

    def do_handshake(self) -> None:
        """Go on with the handshake."""
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            _log.warning("refused a connection: %s", error.reason or type(error).__name__)
            raise


BODY_READ_S_MAX = 120.0
"""Longest time one body may take to arrive, in seconds."""

HEAD_READ_S_MAX = 20.0
"""Longest time from a connection, or from the first byte of a request, to the end of its head, in seconds."""

CONNECTIONS_PER_KEY_MAX = 256
"""Most connections that one certificate's key may hold at a time."""

SWEEP_EVERY_S = 2.0
"""How often overdue sessions and exchanges are dropped."""

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class RelayStartError(FactoryError):
    """The relay cannot start with these settings."""

    code = "hub.relay_start"


@dataclass(frozen=True, slots=True)
class RelaySettings:
    """What the relay needs.

    Attributes:
        host, port: where it listens; port 0 takes a free one.
        cert_path, key_path: its server certificate and key, PEM.
        ca_path: PEM of the agency's TLS authority; client certificates must come from it.
        actors_path: the agency's ``actors.json``, kept fresh by whoever runs the hub.
        port_path: file the port is written to once it listens; for port 0.
    """

    host: str
    port: int
    cert_path: Path
    key_path: Path
    ca_path: Path
    actors_path: Path
    port_path: Path | None = None

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the ``[relay]`` table of a TOML file; relative paths count from its folder.

        Raises:
            RelayStartError: a setting is missing or not known.
        """
        base = path.parent
        try:
            table = dict(tomllib.loads(path.read_text(encoding="utf-8"))["relay"])
            paths = {name: base / table.pop(name) for name in list(table) if name.endswith("_path")}
            return cls(host=str(table.pop("host", "127.0.0.1")), port=int(table.pop("port")), **paths, **table)
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise RelayStartError(f"expected a table [relay] in {path.name} with all settings: {error}") from error


class ActorBook:
    """Actors by the digest of their TLS key, from a file that is read again when it changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._checked_at = 0.0
        self._by_key: dict[str, Actor] = {}
        self._agencies: set[str] = set()
        self._read()

    def find(self, spki_sha256: str, now: datetime) -> Actor | None:
        """Return the actor with this TLS key, if it counts now."""
        if time.monotonic() - self._checked_at > 1.0:
            self._checked_at = time.monotonic()
            if self._stat() != self._stamp:
                self._read()
        actor = self._by_key.get(spki_sha256)
        return actor if actor is not None and actor.is_valid_at(now) else None

    def is_agency(self, actor_id: str) -> bool:
        """Whether this actor is an agency's service."""
        return actor_id in self._agencies

    def _stat(self) -> tuple[int, int, int] | None:
        try:
            stat = self._path.stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_size, stat.st_ino

    def _read(self) -> None:
        stamp = self._stat()
        try:
            actors = parse(Actors, self._path.read_bytes()).actors
        except (OSError, ContractError) as error:
            if self._stamp is None:
                raise RelayStartError(f"expected the agency's list of actors in {self._path}: {error}") from error
            _log.warning("kept the actors read before; %s is not readable: %s", self._path.name, error)
            return
        self._stamp = stamp
        self._by_key = {actor.tls_spki_sha256: actor for actor in actors if actor.tls_spki_sha256}
        self._agencies = {actor.id for actor in actors if "agency" in actor.roles}


class Relay:
    """The relay as an ASGI application; ``scope["state"]["peer_spki"]`` names the caller's key."""

    def __init__(self, actors: ActorBook, limits: Limits = LIMITS) -> None:
        self._actors = actors
        self._boxes = Mailboxes(limits, self._wake)
        self._waiters: dict[str | Place, set[asyncio.Event]] = {}
        self._closing = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        try:
            status, body = await self._route(scope, receive)
        except RelayRefusedError as refusal:
            status, body = refusal.status, str(refusal).encode()
        headers = [(b"content-length", str(len(body)).encode())]
        if status in {411, 413} or (status >= 400 and scope["method"] in {"POST", "PUT"}):
            headers.append((b"connection", b"close"))  # the rest of the body was not read
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def close(self) -> None:
        """Answer every long-poll now, so that the server can end."""
        self._closing = True
        for events in self._waiters.values():
            for event in events:
                event.set()

    async def sweep(self) -> None:
        """Drop what is overdue, now and then, for ever."""
        while True:
            await asyncio.sleep(SWEEP_EVERY_S)
            self._boxes.sweep(time.monotonic())

    async def _route(self, scope: Scope, receive: Receive) -> tuple[int, bytes]:  # noqa: PLR0911  one line per path
        actor = self._caller(scope)
        parts = str(scope["path"]).split("/")[1:]
        query = {key: values[0] for key, values in parse_qs(scope["query_string"].decode("ascii", "replace")).items()}
        match (scope["method"], *parts):
            case ("GET", "v1", "health"):
                return 200, b"ok"
            case ("GET", "v1", "frames"):
                return await self._fetch(actor, query, scope, receive)
            case ("PUT", "v1", "sessions", session):
                return await self._put_session(actor, session, scope, receive)
            case ("DELETE", "v1", "sessions", session):
                self._boxes.end_session(actor.id, session, now=time.monotonic())
                return 204, b""
            case ("DELETE", "v1", "sessions", session, "asks", responder, channel):
                self._boxes.drop_channel(_place(session, actor.id, responder, channel))
                return 204, b""
            case ("POST" | "GET", "v1", "sessions", session, "asks", responder, channel, number):
                return await self._ask(_place(session, actor.id, responder, channel), number, query, scope, receive)
            case ("POST", "v1", "sessions", session, "replies", asker, channel, number):
                return await self._reply(_place(session, asker, actor.id, channel), number, scope, receive)
        raise RelayRefusedError(404, "no such path")

    def _caller(self, scope: Scope) -> Actor:
        actor = self._actors.find(str(scope["state"].get("peer_spki", "")), datetime.now(UTC))
        if actor is None:
            raise RelayRefusedError(
                403, "this certificate's key is not in the agency's list of actors, or not any more"
            )
        return actor

    async def _put_session(self, actor: Actor, session: str, scope: Scope, receive: Receive) -> tuple[int, bytes]:
        body = await self._body(scope, receive, actor.id)
        try:
            wanted = json.loads(body)
            parties, ttl_s = [str(party) for party in wanted["parties"]], int(wanted["ttl_s"])
        except (ValueError, KeyError, TypeError):
            raise RelayRefusedError(400, 'expected {"parties": […], "ttl_s": n}') from None
        others = [party for party in parties if party != actor.id]
        may_create = "operator" in actor.roles or (
            session.startswith(f"control.{actor.id}.") and all(map(self._actors.is_agency, others))
        )
        self._boxes.put_session(actor.id, session, parties, ttl_s, may_create=may_create, now=time.monotonic())
        return 201, b""

    async def _ask(
        self, place: Place, number: str, query: Mapping[str, str], scope: Scope, receive: Receive
    ) -> tuple[int, bytes]:
        sequence = _number(number)
        if scope["method"] == "POST":
            body = await self._body(scope, receive, place.asker)
            self._boxes.put_ask(place, sequence, body, now=time.monotonic())
        else:
            await receive()  # the empty body; what comes next is the end of the connection
        ends_at = time.monotonic() + _wait(query)
        with self._waiting(place) as event:
            while True:
                self._caller(scope)  # who was removed while waiting gets nothing more
                reply = self._boxes.reply_to(place, sequence, now=time.monotonic())
                if reply is not None:
                    return 200, reply
                if self._closing or not await _woken(event, ends_at, receive):
                    return 202, b""

    async def _fetch(
        self, caller: Actor, query: Mapping[str, str], scope: Scope, receive: Receive
    ) -> tuple[int, bytes]:
        actor = caller.id
        working_on = [_working_on(actor, text) for text in filter(None, query.get("busy", "").split(","))]
        ends_at = time.monotonic() + _wait(query)
        await receive()  # the empty body; what comes next is the end of the connection
        with self._waiting(actor) as event:
            while True:
                if self._caller(scope).id != actor:
                    raise RelayRefusedError(403, "this key is another actor's now")
                frames = self._boxes.fetch(actor, working_on)
                if frames:
                    return 200, pack_frames(frames)
                if self._closing or not await _woken(event, ends_at, receive):
                    return 204, b""

    async def _reply(self, place: Place, number: str, scope: Scope, receive: Receive) -> tuple[int, bytes]:
        body = await self._body(scope, receive, place.responder)
        new = self._boxes.put_reply(place, _number(number), body, now=time.monotonic())
        return (201 if new else 200), b""

    async def _body(self, scope: Scope, receive: Receive, asker: str) -> bytes:
        lengths = [value for name, value in scope["headers"] if name == b"content-length"]
        if not lengths or not lengths[0].isdigit():
            raise RelayRefusedError(411, "expected a Content-Length")
        size = int(lengths[0])
        self._boxes.require_room(asker, size)
        self._boxes.reserve(asker, size)
        try:
            async with asyncio.timeout(BODY_READ_S_MAX):
                chunks, more = [], True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise RelayRefusedError(400, "the body broke off")
                    chunks.append(message.get("body", b""))
                    more = message.get("more_body", False)
        except TimeoutError:
            raise RelayRefusedError(400, f"expected the body within {BODY_READ_S_MAX:.0f} s") from None
        finally:
            self._boxes.reserve(asker, -size)
        return b"".join(chunks)

    def _waiting(self, key: str | Place) -> "_Waiting":
        return _Waiting(self._waiters, key)

    def _wake(self, key: str | Place) -> None:
        for event in self._waiters.get(key, ()):
            event.set()


class _Waiting:
    """An event that is set when ``key`` is woken, for the length of a ``with``."""

    def __init__(self, waiters: dict[str | Place, set[asyncio.Event]], key: str | Place) -> None:
        self._waiters, self._key, self._event = waiters, key, asyncio.Event()

    def __enter__(self) -> asyncio.Event:
        self._waiters.setdefault(self._key, set()).add(self._event)
        return self._event

    def __exit__(self, *_: object) -> None:
        events = self._waiters[self._key]
        events.discard(self._event)
        if not events:
            del self._waiters[self._key]


async def _woken(event: asyncio.Event, ends_at: float, receive: Receive) -> bool:
    """Wait for the event; False at the end of the time or when the caller has gone."""
    left = ends_at - time.monotonic()
    if left <= 0:
        return False
    gone = asyncio.ensure_future(receive())
    woken = asyncio.ensure_future(event.wait())
    try:
        done, _ = await asyncio.wait({gone, woken}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (gone, woken):
            task.cancel()
    event.clear()
    return woken in done


def _place(session: str, asker: str, responder: str, channel: str) -> Place:
    if not all(map(is_name, (session, asker, responder, channel))):
        raise RelayRefusedError(400, "expected well-formed names in the path")
    return Place(session, asker, responder, channel)


def _working_on(responder: str, text: str) -> tuple[Place, int]:
    match text.split("/"):
        case [session, asker, channel, number]:
            return _place(session, asker, responder, channel), _number(number)
    raise RelayRefusedError(400, "expected busy as session/asker/channel/sequence, separated by commas")


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= len(text) <= 15 or int(text) < 1:
        raise RelayRefusedError(400, "expected a number from 1 in the path")
    return int(text)


def _wait(query: Mapping[str, str]) -> float:
    try:
        return min(max(float(query.get("wait_s", "0")), 0.0), float(WAIT_S_MAX))
    except ValueError:
        raise RelayRefusedError(400, "expected wait_s as a number of seconds") from None


def _peer_protocol(head_read_s: float, connections_max: int) -> type:
    """Return the protocol of one relay's connections: it knows whose key they are, and ends idle and surplus ones."""
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    held: dict[str, int] = {}

    class PeerProtocol(HttpToolsProtocol):  # type: ignore[misc]  # uvicorn is followed untyped
        """Keeps the digest of the client certificate's key where the application sees it."""

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            connection = transport.get_extra_info("ssl_object")
            der = connection.getpeercert(binary_form=True) if connection is not None else None
            peer = spki_sha256(der) if der else ""
            self.app_state: dict[str, Any] = {"peer_spki": peer}
            self._head_timer: asyncio.TimerHandle | None = None
            held[peer] = held.get(peer, 0) + 1
            self._await_head()
            if held[peer] > connections_max:
                transport.abort()

        def connection_lost(self, exc: Exception | None) -> None:
            self._head_has_come()
            peer = str(self.app_state["peer_spki"])
            held[peer] -= 1
            if not held[peer]:
                del held[peer]
            super().connection_lost(exc)

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._await_head()

        def on_headers_complete(self) -> None:
            self._head_has_come()
            super().on_headers_complete()

        def _await_head(self) -> None:
            self._head_has_come()
            self._head_timer = asyncio.get_running_loop().call_later(head_read_s, self.transport.abort)

        def _head_has_come(self) -> None:
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None

    return PeerProtocol


async def run(
    settings: RelaySettings,
    *,
    limits: Limits = LIMITS,
    head_read_s: float = HEAD_READ_S_MAX,
    connections_max: int = CONNECTIONS_PER_KEY_MAX,
    ready: Callable[[int], None] | None = None,
) -> None:
    """Serve until cancelled.

    Args:
        settings: see ``RelaySettings``.
        limits: sizes, counts and ages.
        head_read_s: how long the head of a request may take; a connection that says nothing is ended after it.
        connections_max: of one certificate's key.
        ready: called with the port once it listens.

    Raises:
        RelayStartError: certificate, list of actors or port are not usable.
    """
    import socket

    import uvicorn

    class RelayServer(uvicorn.Server):  # type: ignore[misc]  # uvicorn is followed untyped
        """Ends the long-polls before it waits for connections to end."""

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            application.close()
            await asyncio.sleep(0.1)
            for connection in list(self.server_state.connections):
                # A caller that keeps an idle connection takes no part in closing TLS; do not wait for it.
                if connection.cycle is None or connection.cycle.response_complete:
                    connection.transport.abort()
            await super().shutdown(sockets)

    application = Relay(ActorBook(settings.actors_path), limits)
    config = uvicorn.Config(
        application,
        http=_peer_protocol(head_read_s, connections_max),
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        ssl_certfile=str(settings.cert_path),
        ssl_keyfile=str(settings.key_path),
        ssl_ca_certs=str(settings.ca_path),
        ssl_cert_reqs=ssl.CERT_REQUIRED,
        timeout_keep_alive=WAIT_S_MAX * 4,
        timeout_graceful_shutdown=1,
        server_header=False,
    )
    try:
        config.load()
        config.ssl.minimum_version = ssl.TLSVersion.TLSv1_3
        config.ssl.sslobject_class = _LoggedHandshake
        listener = socket.create_server((settings.host, settings.port), backlog=512)
        # Accepted connections inherit it. Without it small answers wait 40 ms for the caller's acknowledgement.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as error:  # ssl.SSLError is one
        raise RelayStartError(
            f"expected a usable certificate and a free port {settings.host}:{settings.port}: {error}"
        ) from error
    port = int(listener.getsockname()[1])
    server = RelayServer(config)
    sweeper = asyncio.create_task(application.sweep())
    serving = asyncio.create_task(server._serve([listener]))  # noqa: SLF001  serve() would end by the signal, not by 0
    while not server.started and not serving.done():  # noqa: ASYNC110  the server offers no event
        await asyncio.sleep(0.01)
    if settings.port_path is not None:
        settings.port_path.write_text(f"{port}\n", encoding="ascii")
    if ready is not None:
        ready(port)
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        server.should_exit = True
        await serving
    finally:
        sweeper.cancel()
        with suppress(asyncio.CancelledError):
            await sweeper
        listener.close()


async def until_signal(serving: Coroutine[Any, Any, None]) -> None:
    """Run a server and cancel it on SIGTERM or SIGINT."""
    task = asyncio.ensure_future(serving)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    await task


def spki_sha256(certificate_der: bytes) -> str:
    """Return the SHA-256 of a certificate's SubjectPublicKeyInfo as hex."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    from nodes.contract.signing import sha256_hex

    key = x509.load_der_x509_certificate(certificate_der).public_key()
    return sha256_hex(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def main(arguments: list[str] | None = None) -> int:
    """Entry point of ``python -m factory.hub.relay``."""
    parser = argparse.ArgumentParser(prog="python -m factory.hub.relay", description="Serve the relay until SIGTERM.")
    parser.add_argument("--settings", type=Path, required=True, help="TOML file with a table [relay]")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    try:
        settings = RelaySettings.read(options.settings)
        asyncio.run(
            until_signal(run(settings, ready=lambda port: _log.info("relay listens on %s:%d", settings.host, port)))
        )
    except FactoryError as error:
        sys.stderr.write(f"{error.code}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
