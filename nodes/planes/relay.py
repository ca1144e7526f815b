"""The data plane at a node: answers steps, and in local trials orders, over the relay.

The node dials out; it holds one long-poll and answers what comes. See ``nodes.relay_client``
for what happens when either side restarts.

Privacy: what the handler returns is signed, recorded in the ledger and vetted by the agent
before it comes here.
"""

import secrets
import threading
import time

from nodes.contract.frames import RelayRefusedError
from nodes.errors import PeerAwayError
from nodes.light_httpx import httpx
from nodes.relay_client import BACKOFF_S, Handler, RelayClient, RelayPlaneSettings
from nodes.relay_client import serve as serve_relay

__all__ = ["Handler", "PeerPost", "RelayPlaneSettings", "serve_relay"]

_NO_SESSION = frozenset({httpx.codes.NOT_FOUND, httpx.codes.FORBIDDEN, httpx.codes.CONFLICT})
"""The relay was restarted, or the operator has not opened the session for these parties yet."""


class PeerPost:
    """Carries parcels to other nodes of a session; a ``nodes.agent.parties.Post``, used by many threads.

    The session at the relay is the operator's; while the relay does not know it, this waits.
    """

    def __init__(self, settings: RelayPlaneSettings) -> None:
        self._client = RelayClient(settings)
        self._lock = threading.Lock()
        self._idle: dict[tuple[str, str], list[tuple[str, int]]] = {}

    def __call__(self, session: str, recipient: str, parcel: bytes, timeout_s: float) -> bytes:
        """Put a parcel and return its reply.

        Raises:
            PeerAwayError: none came in time, or the session has ended at the relay.
        """
        deadline, tries = time.monotonic() + timeout_s, 0
        while True:
            channel, sequence = self._take(session, recipient)
            try:
                reply = self._client.exchange(session, recipient, channel, sequence + 1, parcel, deadline=deadline)
            except RelayRefusedError as refusal:
                if refusal.status not in _NO_SESSION or time.monotonic() >= deadline:
                    raise PeerAwayError(f"the relay refused {refusal.status} for {recipient}") from refusal
                time.sleep(BACKOFF_S[min(tries, len(BACKOFF_S) - 1)])
                tries += 1
                continue
            if reply is None:
                raise PeerAwayError(f"expected an answer of {recipient} within {timeout_s:g} s")
            with self._lock:
                self._idle.setdefault((session, recipient), []).append((channel, sequence + 1))
            return reply

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def _take(self, session: str, recipient: str) -> tuple[str, int]:
        with self._lock:
            idle = self._idle.get((session, recipient))
            if idle:
                return idle.pop()
            if len(self._idle) > 1024:
                self._idle.clear()  # of sessions long ended; the relay drops their channels by age
        return f"n{secrets.token_hex(8)}", 0
