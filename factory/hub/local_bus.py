"""Nodes in the operator's own process: for tests and studies, never where there are two trust domains."""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError

from factory.hub.bus import NodeUnreachableError


class LocalBus:
    """Carries parcels to handlers in this process, each node's in its own thread, one at a time.

    Args:
        handlers: per node, what answers a parcel.
    """

    def __init__(self, handlers: Mapping[str, Callable[[bytes], bytes]]) -> None:
        self._handlers = dict(handlers)
        self._locks = {node: threading.Lock() for node in self._handlers}
        self._pool = ThreadPoolExecutor(max_workers=4 * max(1, len(self._handlers)), thread_name_prefix="local-bus")

    def ask(self, node: str, parcel: bytes, *, timeout_s: float) -> bytes:
        """See ``NodeBus.ask``."""
        answer = self.ask_all({node: parcel}, timeout_s=timeout_s)[node]
        if isinstance(answer, NodeUnreachableError):
            raise answer
        return answer

    def ask_all(self, parcels: Mapping[str, bytes], *, timeout_s: float) -> dict[str, bytes | NodeUnreachableError]:
        """See ``NodeBus.ask_all``."""
        futures = {
            node: self._pool.submit(self._handle, node, parcel)
            for node, parcel in parcels.items()
            if node in self._handlers
        }
        answers: dict[str, bytes | NodeUnreachableError] = {}
        for node in parcels:
            if node not in futures:
                answers[node] = NodeUnreachableError(f"expected one of {sorted(self._handlers)}, got {node}")
                continue
            try:
                answers[node] = futures[node].result(timeout=timeout_s)
            except FutureTimeoutError:
                answers[node] = NodeUnreachableError(f"no answer from {node} within {timeout_s:g} s")
        return answers

    def close(self) -> None:
        """See ``NodeBus.close``."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _handle(self, node: str, parcel: bytes) -> bytes:
        with self._locks[node]:
            return self._handlers[node](parcel)
