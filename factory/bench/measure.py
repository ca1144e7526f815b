"""What a piece of work costs: processor time, wall time, memory and bytes, for each party.

Processor time is summed over whole process trees, including processes that ended meanwhile;
memory is the peak of the largest process. Read from ``/proc``, so Linux only. Bytes are
counted by whoever sends them and handed in: the kernel does not keep them by process.

Source:
    proc(5): ``stat`` fields 14-17, ``VmHWM`` of ``status``, ``task/*/children``.
"""

import math
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_PROC = Path("/proc")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
SAMPLE_INTERVAL_S = 0.1


@dataclass(frozen=True, slots=True)
class PartyCost:
    """What one party used.

    Attributes:
        cpu_s: processor time of its processes, user and system.
        peak_rss_mb: peak resident memory of its largest process, since that process started.
        bytes_sent: as counted by the caller.
        processes: how many were seen.
    """

    cpu_s: float
    peak_rss_mb: float
    bytes_sent: int
    processes: int

    def as_json(self) -> dict[str, Any]:
        """Return the object that commands print."""
        return {"cpu_s": self.cpu_s, "peak_rss_mb": self.peak_rss_mb, "bytes_sent": self.bytes_sent}


@dataclass(frozen=True, slots=True)
class Cost:
    """What the whole work used.

    Attributes:
        wall_s: time that passed.
        parties: cost by party.
    """

    wall_s: float
    parties: Mapping[str, PartyCost]

    @property
    def cpu_s(self) -> float:
        """Processor time of all parties."""
        return round(sum(party.cpu_s for party in self.parties.values()), 3)

    @property
    def bytes_sent(self) -> int:
        """Bytes of all parties."""
        return sum(party.bytes_sent for party in self.parties.values())

    @property
    def peak_rss_mb(self) -> float:
        """Peak of the largest process."""
        return max((party.peak_rss_mb for party in self.parties.values()), default=0.0)

    def as_json(self) -> dict[str, Any]:
        """Return ``cpu_s``, ``wall_s``, ``bytes_sent``, ``peak_rss_mb`` and the same by party."""
        return {
            "cpu_s": self.cpu_s,
            "wall_s": self.wall_s,
            "bytes_sent": self.bytes_sent,
            "peak_rss_mb": self.peak_rss_mb,
            "parties": {name: party.as_json() for name, party in sorted(self.parties.items())},
        }


@dataclass
class _Process:
    """One process as last seen; times in clock ticks."""

    party: str
    parent: int
    own: int
    own_before: int
    ended: int
    ended_before: int
    peak_kb: int
    gone: bool = False


@dataclass
class Meter:
    """Measures process trees while it is open.

    A process belongs to the party of its nearest ancestor that was named. Processes that start
    and end between two samples are counted with their parent.

        with Meter({"operator": os.getpid()}) as meter:
            node = subprocess.Popen(…)
            meter.add("node-east", node.pid)
            …
        print(meter.cost.as_json())

    Attributes:
        roots: process id by party, of processes that run already.
    """

    roots: Mapping[str, int]
    _by_root: dict[int, str] = field(default_factory=dict, init=False, repr=False)
    _seen: dict[tuple[int, int], _Process] = field(default_factory=dict, init=False, repr=False)
    _bytes: dict[str, int] = field(default_factory=dict, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)
    _stop: threading.Event = field(default_factory=threading.Event, init=False, repr=False)
    _thread: threading.Thread | None = field(default=None, init=False, repr=False)
    _started_s: float = field(default=0.0, init=False, repr=False)
    _cost: Cost | None = field(default=None, init=False, repr=False)

    def __enter__(self) -> Self:
        self._by_root = {pid: party for party, pid in self.roots.items()}
        self._started_s = time.perf_counter()
        self._sample(first=True)
        self._thread = threading.Thread(target=self._run, name="meter", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._sample()
        wall_s = round(time.perf_counter() - self._started_s, 3)
        with self._lock:
            self._cost = Cost(wall_s, {party: self._party(party) for party in self._parties()})

    @property
    def cost(self) -> Cost:
        """The cost, once the meter is closed.

        Raises:
            ValueError: it is still open.
        """
        if self._cost is None:
            raise ValueError("expected a closed meter")
        return self._cost

    def add(self, party: str, pid: int) -> None:
        """Count the tree below ``pid``, started while the meter is open, for ``party``."""
        with self._lock:
            self._by_root[pid] = party
            for (seen_pid, _), process in self._seen.items():
                if seen_pid == pid:
                    process.party = party
        self._sample()

    def count_bytes(self, party: str, sent: int) -> None:
        """Add to the bytes that ``party`` sent."""
        with self._lock:
            self._bytes[party] = self._bytes.get(party, 0) + sent

    def _run(self) -> None:
        while not self._stop.wait(SAMPLE_INTERVAL_S):
            self._sample()

    def _sample(self, *, first: bool = False) -> None:
        with self._lock:
            alive: set[tuple[int, int]] = set()
            pending = [(pid, party) for pid, party in self._by_root.items()]
            while pending:
                pid, party = pending.pop()
                found = self._take(pid, party, first=first)
                if found is None or found in alive:
                    continue
                alive.add(found)
                pending += [(child, party) for child in _children(pid) if child not in self._by_root]
            for key, process in self._seen.items():
                process.gone = process.gone or key not in alive

    def _take(self, pid: int, party: str, *, first: bool) -> tuple[int, int] | None:
        """Note one process; return its id and start time, or None if it is gone."""
        try:
            fields = (_PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
            status = (_PROC / str(pid) / "status").read_bytes()
        except OSError:
            return None
        own, ended = int(fields[11]) + int(fields[12]), int(fields[13]) + int(fields[14])
        key = (pid, int(fields[19]))
        process = self._seen.get(key)
        if process is None:
            before = (own, ended) if first else (0, 0)
            process = _Process(party, int(fields[1]), own, before[0], ended, before[1], 0)
            self._seen[key] = process
        process.parent, process.own, process.ended = int(fields[1]), own, ended
        process.peak_kb = max(process.peak_kb, _peak_kb(status))
        return key

    def _parties(self) -> set[str]:
        return set(self._by_root.values()) | set(self._bytes)

    def _party(self, party: str) -> PartyCost:
        mine = [(key, process) for key, process in self._seen.items() if process.party == party]
        ticks = 0
        for (pid, _), process in mine:
            # A child that was waited for is also in its parent's account of ended children.
            counted = sum(
                child.own + child.ended for child in self._seen.values() if child.gone and child.parent == pid
            )
            ticks += process.own - process.own_before + max(0, process.ended - process.ended_before - counted)
        peak_kb = max((process.peak_kb for _, process in mine), default=0)
        return PartyCost(round(ticks / _TICKS_PER_S, 3), round(peak_kb / 1024, 1), self._bytes.get(party, 0), len(mine))


def _children(pid: int) -> list[int]:
    children: list[int] = []
    try:
        for task in (_PROC / str(pid) / "task").iterdir():
            children += map(int, (task / "children").read_bytes().split())
    except OSError:
        return children
    return children


def _peak_kb(status: bytes) -> int:
    for line in status.splitlines():
        if line.startswith(b"VmHWM:"):
            return int(line.split()[1])
    return 0


def percentile(values: list[float], share: float) -> float:
    """Return the value below which ``share`` of ``values`` lie (nearest rank).

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("expected at least one value")
    ordered = sorted(values)
    return ordered[min(len(ordered), max(1, math.ceil(len(ordered) * share))) - 1]
