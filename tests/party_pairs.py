"""Two halves of a protocol in two real processes over a socket, with the interface that the agent gives them."""

import multiprocessing
import pickle
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from nodes.contract.messages import RefusalCode
from nodes.tasks.spec import TaskRefusedError

HEAD = struct.Struct(">HQ")


@dataclass
class SocketParty:
    """A ``Party`` with one peer; keeps its states in memory and counts what it sends."""

    node: str
    peer: str
    socket: socket.socket
    resumed: tuple[int, bytes] | None = None
    sent: list[tuple[str, int]] = field(default_factory=list)
    received: list[tuple[str, bytes]] = field(default_factory=list)
    keep_received: bool = False
    told: dict[str, Any] = field(default_factory=dict)

    @property
    def peers(self) -> tuple[str, ...]:
        return (self.peer,)

    def channel(self, peer: str) -> "SocketParty":
        assert peer == self.peer
        return self

    def send(self, label: str, data: Any) -> None:
        view = memoryview(data).cast("B") if len(data) else memoryview(b"")
        name = label.encode()
        self.socket.sendall(HEAD.pack(len(name), len(view)) + name)
        self.socket.sendall(view)
        self.sent.append((label, len(view)))

    def receive(self, label: str, *, size_max: int) -> bytes:
        length, size = HEAD.unpack(self._exactly(HEAD.size))
        found = self._exactly(length).decode()
        if found != label:
            raise TaskRefusedError(RefusalCode.TASK_PROTOCOL, f"expected {label}, got {found}")
        if size > size_max:
            raise TaskRefusedError(RefusalCode.TOO_LARGE, f"expected at most {size_max} bytes of {label}, got {size}")
        data = self._exactly(size)
        if self.keep_received:
            self.received.append((label, data))
        return data

    def checkpoint(self, step: int, state: bytes) -> None:
        assert step == (self.resumed[0] if self.resumed else 0) + 1
        self.resumed = (step, state)

    def progress(self, **facts: int | str) -> None:
        self.told |= facts

    def _exactly(self, size: int) -> bytes:
        data = bytearray(size)
        view = memoryview(data)
        while view:
            count = self.socket.recv_into(view)
            if not count:
                raise TaskRefusedError(RefusalCode.PARTY_ENDED, "the peer is gone")
            view = view[count:]
        return bytes(data)


@dataclass(frozen=True)
class Done:
    """What one process ended with: a value, or the error's class name, code and text."""

    value: Any
    error: tuple[str, str, str] | None
    cpu_s: float
    sent: list[tuple[str, int]]
    received: list[tuple[str, bytes]]


def pair(
    first: Callable[[SocketParty], Any],
    second: Callable[[SocketParty], Any],
    *,
    names: tuple[str, str] = ("node-a", "node-b"),
    keep_received: bool = False,
    timeout_s: float = 120.0,
) -> tuple[Done, Done]:
    """Run two halves and return what each ended with; nothing is raised for a half that fails."""
    context = multiprocessing.get_context("fork")
    left, right = socket.socketpair()
    processes, pipes = [], []
    for half, own, other, name, peer in (
        (first, left, right, names[0], names[1]),
        (second, right, left, names[1], names[0]),
    ):
        reader, writer = context.Pipe(duplex=False)
        process = context.Process(target=_main, args=(half, own, other, name, peer, writer, keep_received))
        process.start()
        writer.close()
        processes.append(process)
        pipes.append(reader)
    left.close()
    right.close()
    found = []
    try:
        for process, reader in zip(processes, pipes, strict=True):
            assert reader.poll(timeout_s), "a half did not end in time: do both send a long message at once?"
            found.append(pickle.loads(reader.recv_bytes()))
            process.join(timeout_s)
            reader.close()
    finally:
        for process in processes:
            process.kill()
    return found[0], found[1]


def _main(half, own, other, name, peer, writer, keep_received) -> None:
    other.close()
    party = SocketParty(name, peer, own, keep_received=keep_received)
    began = time.process_time()
    value, error = None, None
    try:
        value = half(party)
    except Exception as problem:  # noqa: BLE001  handed to the test
        error = (type(problem).__name__, str(getattr(problem, "code", "")), str(problem))
    own.close()
    writer.send_bytes(pickle.dumps(Done(value, error, time.process_time() - began, party.sent, party.received)))
    writer.close()
