"""Parcels over the relay: for the operator, and for application units that talk to nodes and agency.

Steps travel in the session they name, everything else in the standing control session
between the two actors. Each exchange uses a channel that no other thread or process uses at
the time, so that askers never wait for one another here.
"""

import secrets
import threading
import time
from collections import defaultdict
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from factory.hub.bus import NodeUnreachableError
from nodes.contract.frames import RelayRefusedError, control_session, session_of
from nodes.light_httpx import httpx
from nodes.relay_client import BACKOFF_S, RelayClient, RelayPlaneSettings

SESSION_TTL_S = 3600
"""How long a session that this bus opens by itself may be left unused, in seconds."""

LINGER_BYTES_MAX = 256 * 1024
"""A larger reply is dropped at the relay at once instead of with the next exchange."""

KEEP_EVERY_S = 2.0
"""How often sessions with other askers are confirmed, so that they outlive a restart of the relay, in seconds."""


@dataclass(slots=True)
class _Channel:
    session: str
    responder: str
    name: str
    sequence: int = 0


class RelayBus:
    """Carries parcels over the relay; may be used by many threads.

    Args:
        actor: our own actor id; the relay takes it from the certificate, names of control
            sessions hold it.
        settings: where the relay is and who we are.
    """

    def __init__(self, actor: str, settings: RelayPlaneSettings) -> None:
        self._actor = actor
        self._client = RelayClient(settings)
        self._pool = ThreadPoolExecutor(max_workers=64, thread_name_prefix="relay-bus")
        self._lock = threading.Lock()
        self._idle: dict[tuple[str, str], list[_Channel]] = defaultdict(list)
        self._kept: dict[str, tuple[frozenset[str], int]] = {}
        self._keeper: threading.Thread | None = None
        self._closed = threading.Event()

    def ask(self, node: str, parcel: bytes, *, timeout_s: float) -> bytes:
        """See ``NodeBus.ask``."""
        session = session_of(parcel) or control_session(self._actor, node)
        deadline = time.monotonic() + timeout_s
        tries = 0
        while True:
            channel = self._take(session, node)
            try:
                channel.sequence += 1
                reply = self._client.exchange(session, node, channel.name, channel.sequence, parcel, deadline=deadline)
            except RelayRefusedError as refusal:
                # 403: the session was made a moment ago, for another node of it; ours is added once.
                again = refusal.status == httpx.codes.NOT_FOUND or (refusal.status, tries) == (httpx.codes.FORBIDDEN, 0)
                if not again or time.monotonic() >= deadline:
                    raise NodeUnreachableError(f"the relay refused {refusal.status} for {node}: {refusal}") from refusal
                tries = self._recreate(session, node, tries, deadline)
                continue
            if reply is not None:
                self._give_back(channel, len(reply))
                return reply
            self._drop(channel)
            raise NodeUnreachableError(f"no answer from {node} within {timeout_s:g} s; is its agent running?")

    def ask_all(self, parcels: Mapping[str, bytes], *, timeout_s: float) -> dict[str, bytes | NodeUnreachableError]:
        """See ``NodeBus.ask_all``."""

        def one(node: str, parcel: bytes) -> bytes | NodeUnreachableError:
            try:
                return self.ask(node, parcel, timeout_s=timeout_s)
            except NodeUnreachableError as error:
                return error

        futures = {node: self._pool.submit(one, node, parcel) for node, parcel in parcels.items()}
        return {node: future.result() for node, future in futures.items()}

    def open_session(self, session: str, parties: Collection[str], *, ttl_s: int = SESSION_TTL_S) -> None:
        """Open a session that other askers (application units) use too, and keep it until ``close_session``.

        Sessions in which only the operator asks need no call: they open with the first step.

        Args:
            session: id of the granted session.
            parties: every node and application unit of it.
            ttl_s: how long the relay keeps it after its last use, should this process die.

        Raises:
            NodeUnreachableError: the relay is not reachable or refuses.
        """
        everyone = frozenset(parties) | {self._actor}
        try:
            self._client.put_session(session, everyone, ttl_s)
        except (httpx.HTTPError, RelayRefusedError) as error:
            raise NodeUnreachableError(f"expected the relay to open {session}: {error}") from error
        with self._lock:
            self._kept[session] = (everyone, ttl_s)
            if self._keeper is None:
                self._keeper = threading.Thread(target=self._keep, name="relay-keeper", daemon=True)
                self._keeper.start()

    def close_session(self, session: str) -> None:
        """End a session at the relay; what it still holds is dropped.

        Raises:
            NodeUnreachableError: the relay is not reachable or refuses.
        """
        with self._lock:
            self._kept.pop(session, None)
            for key in [key for key in self._idle if key[0] == session]:
                del self._idle[key]
        try:
            self._client.end_session(session)
        except (httpx.HTTPError, RelayRefusedError) as error:
            raise NodeUnreachableError(f"expected the relay to end {session}: {error}") from error

    def close(self) -> None:
        """See ``NodeBus.close``."""
        self._closed.set()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._client.close()

    def _take(self, session: str, responder: str) -> _Channel:
        with self._lock:
            idle = self._idle[session, responder]
            return idle.pop() if idle else _Channel(session, responder, secrets.token_hex(8))

    def _give_back(self, channel: _Channel, reply_bytes: int) -> None:
        if reply_bytes > LINGER_BYTES_MAX:
            self._drop(channel)
            return
        with self._lock:
            self._idle[channel.session, channel.responder].append(channel)

    def _drop(self, channel: _Channel) -> None:
        try:
            self._client.drop_channel(channel.session, channel.responder, channel.name)
        except (httpx.HTTPError, RelayRefusedError):
            return  # the relay drops it by age

    def _recreate(self, session: str, node: str, tries: int, deadline: float) -> int:
        """Create the session anew, or wait for the operator who may; return the number of tries."""
        with self._lock:
            self._idle.pop((session, node), None)
            parties, ttl_s = self._kept.get(session, (frozenset({self._actor, node}), SESSION_TTL_S))
        if tries:
            time.sleep(max(0.0, min(BACKOFF_S[min(tries, len(BACKOFF_S)) - 1], deadline - time.monotonic())))
        try:
            self._client.put_session(session, parties, ttl_s)
        except RelayRefusedError as refusal:
            if refusal.status != httpx.codes.FORBIDDEN:
                raise NodeUnreachableError(f"the relay refused session {session}: {refusal}") from refusal
        except httpx.HTTPError:
            return tries + 1
        return tries + 1

    def _keep(self) -> None:
        while not self._closed.wait(KEEP_EVERY_S):
            with self._lock:
                kept = dict(self._kept)
            for session, (parties, ttl_s) in kept.items():
                try:
                    self._client.put_session(session, parties, ttl_s)
                except (httpx.HTTPError, RelayRefusedError, RuntimeError):
                    break  # away, or the client was closed meanwhile; tried again at the next turn
