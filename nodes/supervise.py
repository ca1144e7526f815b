"""A small supervisor: starts processes, restarts what dies, ends what it started.

Used by `shufang-node up` and `shufang up`; stands outside ``nodes.agent`` because the factory
uses it too. It imports nothing heavy. One supervisor runs per folder: a lock that the kernel
gives back when the process ends says whether it does, so a stale file never lies.

    Supervisor([Child("relay", (sys.executable, "-m", …))], run_dir).run()     # until SIGTERM or SIGINT
    read_status(run_dir)        # None when no supervisor runs there
    stop_supervisor(run_dir)    # ends it and its children
"""

import ctypes
import fcntl
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO, Any

from nodes.errors import NodeError

BACKOFF_S = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Waits before a child is started again, in seconds; the last one repeats."""

STEADY_S = 30.0
"""A child that ran this long starts over with the shortest wait."""

END_S = 8.0
"""How long children may take to end after SIGTERM before they are killed, in seconds."""

LOG_BYTES_MAX = 16 * 1024 * 1024
"""A log file over this size is set aside as ``.log.1`` when its child starts."""

_PR_SET_PDEATHSIG = 1
_STATUS, _LOCK = "status.json", "supervisor.lock"


class SupervisorError(NodeError):
    """Another supervisor runs in this folder, or a program cannot be started."""

    code = "supervise.failed"


@dataclass(frozen=True, slots=True)
class Child:
    """One process to keep alive.

    Attributes:
        name: of its log file and in the status.
        arguments: the program and its arguments; never a secret, everyone can list them.
        environment: variables to add; not secrets either.
    """

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ChildStatus:
    """How one child is.

    Attributes:
        name: of the child.
        pid: of the running process, 0 while it is not running.
        restarts: how often it was started again.
        last_exit: exit status of its last end (negative: the signal), None before the first.
    """

    name: str
    pid: int
    restarts: int
    last_exit: int | None


@dataclass(frozen=True, slots=True)
class SupervisorStatus:
    """How a supervisor and its children are."""

    pid: int
    children: tuple[ChildStatus, ...]

    @property
    def is_healthy(self) -> bool:
        """Whether every child runs now."""
        return all(child.pid for child in self.children)


@dataclass(slots=True)
class _Kept:
    child: Child
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    start_at: float = 0.0
    failures: int = 0
    restarts: int = -1
    last_exit: int | None = None


class Supervisor:
    """Keeps children alive from the thread that calls ``start``; that thread must live as long as they.

    Args:
        children: what to keep alive, in the order of starting; ended in the reverse order.
        run_dir: folder of lock, status and ``logs/``.
    """

    def __init__(self, children: Iterable[Child], run_dir: Path) -> None:
        self._kept = [_Kept(child) for child in children]
        self._run_dir = run_dir
        self._lock: IO[str] | None = None
        self._stopping = False

    def start(self) -> None:
        """Take the folder and start every child.

        Raises:
            SupervisorError: another supervisor has the folder, or a program cannot be started.
        """
        (self._run_dir / "logs").mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = (self._run_dir / _LOCK).open("a", encoding="ascii")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            self._lock = None
            raise SupervisorError(f"expected no supervisor in {self._run_dir}, one is running; end it first") from None
        try:
            for kept in self._kept:
                self._spawn(kept)
        except OSError as error:
            self.stop()
            raise SupervisorError(f"expected to start {error.filename}: {error.strerror}") from error
        self._write_status()

    def check(self) -> None:
        """Note who died and start again whose wait is over; call it a few times a second."""
        changed = False
        for kept in self._kept:
            now = time.monotonic()
            if kept.process is not None and (status := kept.process.poll()) is not None:
                kept.failures = 0 if now - kept.started_at >= STEADY_S else kept.failures
                kept.start_at = now + BACKOFF_S[min(kept.failures, len(BACKOFF_S) - 1)]
                kept.failures += 1
                kept.process, kept.last_exit = None, status
                changed = True
            elif kept.process is None and now >= kept.start_at:
                try:
                    self._spawn(kept)
                except OSError:
                    kept.start_at = now + BACKOFF_S[-1]
                changed = True
        if changed:
            self._write_status()

    def stop(self) -> None:
        """End every child, by SIGTERM and then by SIGKILL, and give the folder back."""
        running = [kept for kept in reversed(self._kept) if kept.process is not None]
        for kept in running:
            _signal(kept.process, signal.SIGTERM)
        ends_at = time.monotonic() + END_S
        for kept in running:
            process, kept.process = kept.process, None
            if process is None:
                continue
            try:
                kept.last_exit = process.wait(max(0.0, ends_at - time.monotonic()))
            except subprocess.TimeoutExpired:
                _signal(process, signal.SIGKILL)
                kept.last_exit = process.wait()
        if self._lock is not None:
            (self._run_dir / _STATUS).unlink(missing_ok=True)
            self._lock.close()
            self._lock = None

    def run(self, ready: Callable[[], None] | None = None) -> None:
        """Start, keep alive until SIGTERM or SIGINT, and stop; call it from the main thread.

        Args:
            ready: called once every child has been started.

        Raises:
            SupervisorError: see ``start``.
        """

        def end(_number: int, _frame: FrameType | None) -> None:
            self._stopping = True

        before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            self.start()
            if ready is not None:
                ready()
            while not self._stopping:
                time.sleep(0.1)
                self.check()
        finally:
            self.stop()
            for number, handler in before.items():
                signal.signal(number, handler)

    def status(self) -> SupervisorStatus:
        """Return how the children are."""
        children = tuple(
            ChildStatus(kept.child.name, kept.process.pid if kept.process else 0, max(kept.restarts, 0), kept.last_exit)
            for kept in self._kept
        )
        return SupervisorStatus(os.getpid(), children)

    def _spawn(self, kept: _Kept) -> None:
        path = self._run_dir / "logs" / f"{kept.child.name}.log"
        if path.exists() and path.stat().st_size > LOG_BYTES_MAX:
            path.replace(path.with_suffix(".log.1"))
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            kept.process = subprocess.Popen(
                list(kept.child.arguments),
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                env={**os.environ, **kept.child.environment},
                start_new_session=True,  # Ctrl-C reaches us alone; we end the children in order
                preexec_fn=die_with_parent(os.getpid()),  # noqa: PLW1509  it calls the kernel and nothing else
            )
        finally:
            os.close(descriptor)
        kept.started_at = time.monotonic()
        kept.restarts += 1

    def _write_status(self) -> None:
        status = self.status()
        document: dict[str, Any] = {
            "pid": status.pid,
            "children": [
                {"name": child.name, "pid": child.pid, "restarts": child.restarts, "last_exit": child.last_exit}
                for child in status.children
            ],
        }
        partial = self._run_dir / f"{_STATUS}.partial"
        partial.write_text(json.dumps(document, indent=2) + "\n", encoding="ascii")
        partial.replace(self._run_dir / _STATUS)


def read_status(run_dir: Path) -> SupervisorStatus | None:
    """Return how the supervisor of a folder is, or None when none runs there."""
    if not _is_locked(run_dir):
        return None
    try:
        document = json.loads((run_dir / _STATUS).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None  # starting or ending just now
    children = tuple(
        ChildStatus(str(item["name"]), int(item["pid"]), int(item["restarts"]), item["last_exit"])
        for item in document["children"]
    )
    return SupervisorStatus(int(document["pid"]), children)


def stop_supervisor(run_dir: Path, *, timeout_s: float = 20.0) -> bool:
    """End the supervisor of a folder; False when none ran.

    Raises:
        SupervisorError: it did not end in time.
    """
    status = read_status(run_dir)
    if status is None:
        return False
    try:
        os.kill(status.pid, signal.SIGTERM)
    except ProcessLookupError:
        return False
    ends_at = time.monotonic() + timeout_s
    while _is_locked(run_dir):
        if time.monotonic() > ends_at:
            raise SupervisorError(f"expected process {status.pid} to end within {timeout_s:g} s")
        time.sleep(0.05)
    return True


def _is_locked(run_dir: Path) -> bool:
    try:
        with (run_dir / _LOCK).open(encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def die_with_parent(parent_pid: int) -> Callable[[], None]:
    """Return what makes a child end when its supervisor is killed; the library is loaded before the fork."""
    prctl = ctypes.CDLL(None).prctl

    def apply() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))
        if os.getppid() != parent_pid:
            os._exit(1)

    return apply


def _signal(process: "subprocess.Popen[bytes] | None", number: signal.Signals) -> None:
    if process is not None and process.poll() is None:
        process.send_signal(number)
