"""The relay as its users see it: ask over it, or serve what is asked. Used by nodes and by the factory.

This module stands outside ``nodes.planes`` because all who dial the relay share it: nodes
and the agency's service answer (``serve``), operator and application units ask
(``RelayClient.exchange``). Connections go out only, with TLS 1.3 and the actor's own
certificate; proxies named in the environment are not used.

Privacy: carries parcels as they are. Logs name sessions, sizes and status codes, never content.
"""

import http.client
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlencode

from nodes.contract.errors import ContractError
from nodes.contract.frames import WAIT_S_MAX, Frame, RelayRefusedError, unpack_frames
from nodes.contract.parameters import LIMITS
from nodes.light_httpx import httpx

_log = logging.getLogger(__name__)

BACKOFF_S = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
"""Waits between attempts while the relay is down or full, in seconds; the last one repeats."""

REPLY_GIVE_UP_S = 120.0
"""How long a reply that the relay has no room for is offered again; the asker can always repeat its request."""

Handler = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class RelayPlaneSettings:
    """How to reach the relay.

    Attributes:
        url: ``https://host:port``.
        ca_path: PEM of the agency's TLS authority, the only one that is trusted.
        cert_path, key_path: this actor's client certificate and its key, PEM.
        poll_wait_s: length of one long-poll.
        sessions_max: sessions that are served at the same time; each may use one thread.
    """

    url: str
    ca_path: Path
    cert_path: Path
    key_path: Path
    poll_wait_s: float = 20.0
    sessions_max: int = 32


class RelayClient:
    """One actor's connections to the relay; may be used by many threads."""

    def __init__(self, settings: RelayPlaneSettings, *, connections: int = 64) -> None:
        self.settings = settings
        self._http = httpx.Client(
            base_url=settings.url.rstrip("/"),
            verify=_tls(settings),
            trust_env=False,
            http1=True,
            http2=False,
            timeout=httpx.Timeout(60.0, connect=5.0),
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def health(self) -> str:
        """Return the relay's ``Date`` header, or an empty text.

        Raises:
            httpx.HTTPError: not reachable, or TLS failed.
            RelayRefusedError: the relay does not know this actor.
        """
        return str(self._checked(self._http.get("/v1/health")).headers.get("date", ""))

    def put_session(self, session: str, parties: Iterable[str], ttl_s: int) -> None:
        """Create a session, or add parties and time.

        Raises:
            httpx.HTTPError: not reachable.
            RelayRefusedError: refused.
        """
        self._checked(
            self._http.put(f"/v1/sessions/{session}", json={"parties": sorted(set(parties)), "ttl_s": int(ttl_s)})
        )

    def end_session(self, session: str) -> None:
        """End a session; one the relay does not know is fine.

        Raises:
            httpx.HTTPError: not reachable.
            RelayRefusedError: refused.
        """
        response = self._http.delete(f"/v1/sessions/{session}")
        if response.status_code != httpx.codes.NOT_FOUND:
            self._checked(response)

    def drop_channel(self, session: str, responder: str, channel: str) -> None:
        """Forget a channel and what it holds.

        Raises:
            httpx.HTTPError: not reachable.
            RelayRefusedError: refused.
        """
        self._checked(self._http.delete(f"/v1/sessions/{session}/asks/{responder}/{channel}"))

    def exchange(
        self, session: str, responder: str, channel: str, sequence: int, parcel: bytes, *, deadline: float
    ) -> bytes | None:
        """Put a parcel and wait for its reply; ride out a relay that is full or away for a moment.

        Args:
            session: in which session.
            responder: who shall answer.
            channel: our stream of exchanges; no other thread or process uses it.
            sequence: number within the channel, from 1.
            parcel: what to send.
            deadline: value of ``time.monotonic`` at which to give up.

        Returns:
            The reply, or None when none came in time.

        Raises:
            RelayRefusedError: refused; 404 when the relay does not know the session.
        """
        if len(parcel) > LIMITS.frame_bytes_max:
            raise RelayRefusedError(413, f"expected at most {LIMITS.frame_bytes_max} bytes, got {len(parcel)}")
        path = f"/v1/sessions/{session}/asks/{responder}/{channel}/{sequence}"
        stored, tries = False, 0
        while (left := deadline - time.monotonic()) > 0:
            wait = max(0.0, min(left, float(WAIT_S_MAX), self.settings.poll_wait_s))
            try:
                if stored:
                    response = self._http.get(path, params={"wait_s": f"{wait:.3f}"}, timeout=wait + 15)
                else:
                    response = self._http.post(
                        path, params={"wait_s": f"{wait:.3f}"}, content=parcel, timeout=wait + 30
                    )
                response = self._checked(response)
            except httpx.HTTPError as error:
                _log.debug("relay away: %s", type(error).__name__)
                stored, tries = False, _pause(tries, deadline)
                continue
            except RelayRefusedError as refusal:
                if refusal.status != httpx.codes.TOO_MANY_REQUESTS:
                    raise
                tries = _pause(tries, deadline)
                continue
            if response.status_code == httpx.codes.OK:
                return response.content
            stored, tries = True, 0
        return None

    def reply(self, frame: Frame, body: bytes) -> None:
        """Put the reply to a parcel.

        Raises:
            httpx.HTTPError: not reachable.
            RelayRefusedError: refused.
        """
        path = f"/v1/sessions/{frame.session}/replies/{frame.asker}/{frame.channel}/{frame.sequence}"
        self._checked(self._http.post(path, content=body))

    @staticmethod
    def _checked(response: httpx.Response) -> httpx.Response:
        if response.is_success:
            return response
        raise RelayRefusedError(
            response.status_code, response.text[:300] or f"the relay answered {response.status_code}"
        )


class RelayListener:
    """The one connection on which an actor waits for parcels; another thread may interrupt the wait."""

    def __init__(self, settings: RelayPlaneSettings) -> None:
        url = httpx.URL(settings.url)
        self._connection = http.client.HTTPSConnection(url.host, url.port or 443, context=_tls(settings))
        self._interrupted = False

    def fetch(self, busy: Iterable[Frame], *, wait_s: float) -> list[Frame]:
        """Wait for parcels that are for this actor.

        Args:
            busy: frames in work; no other parcel of their askers in these sessions comes meanwhile.
            wait_s: how long to wait.

        Raises:
            OSError, http.client.HTTPException: not reachable, or interrupted.
            RelayRefusedError: refused.
            ContractError: the relay sent something else.
        """
        query = urlencode({"wait_s": f"{wait_s:.3f}", "busy": ",".join(map(_token, busy))})
        connection = self._connection
        try:
            if connection.sock is None:
                connection.timeout = 5.0
                connection.connect()
            if self._interrupted:
                raise InterruptedError
            connected: socket.socket = connection.sock
            connected.settimeout(wait_s + 15)
            connection.request("GET", f"/v1/frames?{query}")
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            raise
        if response.status >= httpx.codes.BAD_REQUEST:
            raise RelayRefusedError(response.status, body[:300].decode("utf-8", "replace"))
        return [] if response.status == httpx.codes.NO_CONTENT else unpack_frames(body)

    def interrupt(self) -> None:
        """End the wait that is under way, and any later one."""
        self._interrupted = True
        connected = self._connection.sock
        if connected is not None:
            with suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection; call it when no thread waits."""
        self._connection.close()


def serve(settings: RelayPlaneSettings, handler: Handler, stop: threading.Event) -> None:
    """Answer what arrives over the relay until ``stop`` is set.

    Parcels of one asker in one session are handled strictly one after the other, all others
    at the same time. A parcel counts as done when the relay has its reply; after a
    restart of either side it is handed out again, so ``handler`` must answer the same bytes
    with the same reply.

    Args:
        settings: where the relay is and who we are.
        handler: answers one parcel; never raises.
        stop: set it to end; the call returns when the work at hand is done.
    """
    with RelayClient(settings, connections=settings.sessions_max) as client:
        _Server(client, RelayListener(settings), handler, stop).run()


class _Server:
    def __init__(self, client: RelayClient, listener: RelayListener, handler: Handler, stop: threading.Event) -> None:
        self._client = client
        self._listener = listener
        self._handler = handler
        self._stop = stop
        self._busy: dict[tuple[str, str], Frame] = {}
        self._threads: dict[tuple[str, str], threading.Thread] = {}
        self._next: dict[tuple[str, str], Frame] = {}
        self._freed = threading.Condition()

    def run(self) -> None:
        poll = threading.Thread(target=self._poll, name="relay-poll", daemon=True)
        poll.start()
        self._stop.wait()
        self._listener.interrupt()
        for thread in (poll, *self._workers()):
            thread.join(timeout=10)
        self._listener.close()

    def _workers(self) -> list[threading.Thread]:
        with self._freed:
            return list(self._threads.values())

    def _poll(self) -> None:
        tries, reported = 0, ""
        while not self._stop.is_set():
            with self._freed:
                self._freed.wait_for(self._has_room, timeout=1.0)
                if not self._has_room():
                    continue
                busy = list(self._busy.values())
            try:
                frames = self._listener.fetch(busy, wait_s=min(self._client.settings.poll_wait_s, float(WAIT_S_MAX)))
            except (OSError, http.client.HTTPException, ContractError) as error:
                if self._stop.is_set():
                    return
                if reported != (reported := f"{type(error).__name__}: {error}"):
                    _log.warning("relay %s not usable, trying again: %s", self._client.settings.url, reported)
                self._stop.wait(BACKOFF_S[min(tries, len(BACKOFF_S) - 1)])
                tries += 1
                continue
            if reported:
                _log.warning("relay %s answers again", self._client.settings.url)
            tries, reported = 0, ""
            for frame in frames:
                self._start(frame)

    def _has_room(self) -> bool:
        return len(self._busy) < self._client.settings.sessions_max

    def _start(self, frame: Frame) -> None:
        with self._freed:
            if _line(frame) in self._busy:
                # The asker had our reply, and its next parcel came, before the worker was done here.
                self._next[_line(frame)] = frame
                return
            if self._stop.is_set() or not self._has_room():
                return  # still unanswered at the relay, which hands it out again
            worker = threading.Thread(target=self._work, args=(frame,), name=f"relay-{frame.session}", daemon=True)
            self._busy[_line(frame)] = frame
            self._threads[_line(frame)] = worker
        worker.start()

    def _work(self, frame: Frame) -> None:
        current: Frame | None = frame
        try:
            while current is not None:
                self._send(current, self._handler(current.body))
                current = self._next_after(current)
        finally:
            self._free(frame)

    def _next_after(self, done: Frame) -> Frame | None:
        """Return the parcel of this asker and session that came meanwhile; else the two are free."""
        with self._freed:
            following = self._next.pop(_line(done), None)
            if following is None or _token(following) == _token(done) or self._stop.is_set():
                self._free(done)
                return None
            self._busy[_line(done)] = following
            return following

    def _free(self, done: Frame) -> None:
        line = _line(done)
        with self._freed:
            if self._threads.get(line) is threading.current_thread():
                del self._threads[line], self._busy[line]
                self._freed.notify_all()

    def _send(self, frame: Frame, reply: bytes) -> None:
        if len(reply) > LIMITS.frame_bytes_max:
            _log.error("reply of %d bytes in %s exceeds the frame limit and is not sent", len(reply), frame.session)
            return
        give_up, tries = time.monotonic() + REPLY_GIVE_UP_S, 0
        while not self._stop.is_set() or tries == 0:
            try:
                self._client.reply(frame, reply)
            except RelayRefusedError as refusal:
                if refusal.status != httpx.codes.TOO_MANY_REQUESTS or time.monotonic() > give_up:
                    _log.info("reply in %s not taken: %d", frame.session, refusal.status)
                    return
            except httpx.HTTPError:
                if time.monotonic() > give_up:
                    return
            else:
                return
            tries = _pause(tries, give_up)


def _tls(settings: RelayPlaneSettings) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(settings.ca_path))
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(settings.cert_path, settings.key_path)
    return context


def _line(frame: Frame) -> tuple[str, str]:
    return frame.session, frame.asker


def _token(frame: Frame) -> str:
    return f"{frame.session}/{frame.asker}/{frame.channel}/{frame.sequence}"


def _pause(tries: int, deadline: float) -> int:
    time.sleep(max(0.0, min(BACKOFF_S[min(tries, len(BACKOFF_S) - 1)], deadline - time.monotonic())))
    return tries + 1
