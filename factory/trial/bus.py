"""The operator's bus in a trial: counts what each party sends, and knows at once when a process is gone.

Elsewhere an operator learns that a node is gone when an answer stays out; here the processes
are its own children, so a trial need not wait for that.
"""

import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from factory.hub.bus import NodeBus, NodeUnreachableError

if TYPE_CHECKING:
    import subprocess

LOOK_EVERY_S = 0.1

OnBytes = Callable[[str, int], None]
"""Told a party and how many bytes of parcels it sent."""


@dataclass(slots=True)
class TrialBus:
    """A ``NodeBus`` around another one.

    Attributes:
        actor: who asks.
        inner: carries the parcels.
        processes: process per party that runs as a child of ours.
        on_bytes: told of every parcel and reply.
    """

    actor: str
    inner: NodeBus
    processes: Mapping[str, "subprocess.Popen[bytes]"]
    on_bytes: OnBytes

    def ask(self, node: str, parcel: bytes, *, timeout_s: float) -> bytes:
        """See ``NodeBus.ask``."""
        answer = self.ask_all({node: parcel}, timeout_s=timeout_s)[node]
        if isinstance(answer, NodeUnreachableError):
            raise answer
        return answer

    def ask_all(self, parcels: Mapping[str, bytes], *, timeout_s: float) -> dict[str, bytes | NodeUnreachableError]:
        """See ``NodeBus.ask_all``."""
        arrived: queue.SimpleQueue[tuple[str, bytes | BaseException]] = queue.SimpleQueue()

        def one(node: str, parcel: bytes) -> None:
            try:
                arrived.put((node, self.inner.ask(node, parcel, timeout_s=timeout_s)))
            except BaseException as error:  # noqa: BLE001  raised again where it is asked for
                arrived.put((node, error))

        for node, parcel in parcels.items():
            self.on_bytes(self.actor, len(parcel))
            # Daemons: one that still waits for a process that is gone must not hold up our own end.
            threading.Thread(target=one, args=(node, parcel), name=f"trial-{node}", daemon=True).start()
        answers: dict[str, bytes | NodeUnreachableError] = {}
        while waiting := [node for node in parcels if node not in answers]:
            try:
                node, answer = arrived.get(timeout=LOOK_EVERY_S)
            except queue.Empty:
                answers |= {node: NodeUnreachableError(f"{node} has ended") for node in waiting if self._is_gone(node)}
                continue
            if isinstance(answer, bytes):
                self.on_bytes(node, len(answer))
            elif not isinstance(answer, NodeUnreachableError):
                raise answer
            answers.setdefault(node, answer)
        return {node: answers[node] for node in parcels}

    def close(self) -> None:
        """See ``NodeBus.close``."""
        self.inner.close()

    def _is_gone(self, node: str) -> bool:
        process = self.processes.get(node)
        return process is not None and process.poll() is not None
