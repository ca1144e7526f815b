"""Tasks whose half at each node talks to the halves at the other nodes of the order.

A *half* is plain sequential code: a function of a ``Party`` and the task's context that sends,
receives, notes the steps it has completed and returns ``Finished``. One function per role, each in
its own module; ``start_party`` makes one of them the task's session. The agent seals, signs, orders
and records the frames (``nodes.agent.parties``); tests run two halves over a socket.

Resuming: when a node dies and returns, the half at *every* node is run again. ``Party.resumed``
then holds the last step that all of them had completed, and what this half saved there. What a
half draws at random (keys, masks) it draws anew.

Privacy: what a half sends reaches that peer alone; what it reveals is said where the half is. ``Finished`` and
``progress`` go to the operator, ``Party.checkpoint`` writes a file of this node. A step that is run again shows the
peer a second transcript of it under other random numbers, at most ``PARTS.epochs_max`` of them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from nodes.contract.messages import RefusalCode
from nodes.contract.parties import WATCH
from nodes.tasks.spec import Outcome, TaskContext, TaskRefusedError, TaskSession

WATCH_MS_MAX = 10_000

Content = bytes | bytearray | memoryview


class Channel(Protocol):
    """The way to one peer. Both directions keep their order; nothing is lost, doubled or altered."""

    @property
    def peer(self) -> str:
        """Actor id of the other node."""
        ...

    def send(self, label: str, data: Content) -> None:
        """Hand a message over; returns when it is queued, waits while the queue is full.

        Args:
            label: name of the message, equal on both sides.
            data: any length; not to be changed by the caller afterwards.
        """
        ...

    def receive(self, label: str, *, size_max: int) -> bytes:
        """Wait for the peer's next message.

        Args:
            label: what must come next.
            size_max: longest message accepted, in bytes.

        Raises:
            TaskRefusedError: another label or a longer message came; the session ends.
        """
        ...


class Party(Protocol):
    """This node in one session with other nodes."""

    @property
    def node(self) -> str:
        """Own actor id."""
        ...

    @property
    def peers(self) -> tuple[str, ...]:
        """The other nodes of the order, in the order's sequence."""
        ...

    @property
    def resumed(self) -> tuple[int, bytes] | None:
        """The last step that all parties have completed, and what this half saved there; None at the start."""
        ...

    def channel(self, peer: str) -> Channel:
        """Return the way to ``peer``."""
        ...

    def checkpoint(self, step: int, state: bytes) -> None:
        """Note that a step is done; on disk when this returns.

        Args:
            step: 1, 2, 3 …, the same at every party.
            state: what this half needs to go on from here; stays in this node, readable by it alone.
        """
        ...

    def progress(self, **facts: int | str) -> None:
        """Tell the operator how far it is: counts of rounds and the like; nothing derived from single rows."""
        ...


@dataclass(frozen=True, slots=True)
class Finished:
    """What a half ends with.

    Attributes:
        facts: for the node-run statement; ``contributors`` and ``outputs`` as ``TaskSession.finish``.
        body: small facts for the operator.
        attachments: bytes for the operator.
    """

    facts: dict[str, Any] = field(default_factory=dict)
    body: dict[str, Any] = field(default_factory=dict)
    attachments: tuple[bytes, ...] = ()


Half = Callable[[Party, TaskContext], Finished]


class PartyRun(Protocol):
    """The running half of a session, as the agent keeps it."""

    def set_half(self, half: Callable[[Party], Finished]) -> None:
        """Say what runs once the order is answered."""
        ...

    def watch(self, wait_s: float) -> Outcome:
        """Wait for news, at most ``wait_s``, and return state and progress; at the end the outcome."""
        ...

    def end(self) -> dict[str, Any]:
        """End the half and return the facts for the statement."""
        ...


class PartySession:
    """The session of a party task; the half runs in a thread of its own."""

    def __init__(self, run: PartyRun) -> None:
        self._run = run

    def step(self, sender: str, kind: str, body: Mapping[str, Any], attachments: Sequence[bytes]) -> Outcome:
        """Answer ``party.watch`` with ``{"wait_ms": n}``.

        Raises:
            TaskRefusedError: another kind or body.
        """
        del sender
        wait_ms = body.get("wait_ms")
        if kind != WATCH or attachments or set(body) != {"wait_ms"} or type(wait_ms) is not int:
            raise TaskRefusedError(RefusalCode.TASK_PROTOCOL, f'expected {WATCH} with {{"wait_ms": n}}')
        return self._run.watch(min(max(wait_ms, 0), WATCH_MS_MAX) / 1000)

    def finish(self) -> dict[str, Any]:
        """End the half, if it still runs, and return the facts for the statement."""
        return self._run.end()


def start_party(context: TaskContext, half: Half, body: Mapping[str, Any] | None = None) -> tuple[TaskSession, Outcome]:
    """Make ``half`` this node's part of the session.

    Args:
        context: of the task.
        half: this node's role.
        body: what answers the order, if anything.

    Raises:
        TaskRefusedError: this node has no data plane, or is the only party.
    """
    if context.run is None or len(context.order.parties) < 2:
        raise TaskRefusedError(
            RefusalCode.TASK_PROTOCOL, "expected two or more parties, each with the relay among its planes"
        )
    context.run.set_half(lambda party: half(party, context))
    return PartySession(context.run), Outcome(dict(body or {}))
