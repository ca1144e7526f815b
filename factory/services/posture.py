"""Whether each protective measure is on: grading, access, encryption, de-identification, log, backup.

The check is recorded; while the last one is red, no new grant is issued.

Source:
    requirement SEC-MEASURES (SD-31-2, JN-19-3, JL-运营实施-2, SZ-11.3-10, GD-34-4).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from factory.agency.office import Office
from factory.lifecycle.machine import Refusal
from factory.registry import outbox
from factory.registry.errors import CaseUnknownError
from factory.registry.store import Case, Registry
from factory.services.actor import Actor
from factory.services.desk import Desk

MEASURES_CLAUSES = ("SEC-MEASURES", "SD-31-2", "JN-19-3", "JL-运营实施-2", "SZ-11.3-10", "GD-34-4")
BACKUP_DAYS, LOG_DAYS = 7, 1
"""Oldest backup, and longest wait of an event for the log, in days; the texts give no number."""

KIND, NAME, BACKUP = "posture", "current", "posture.backup"


@dataclass(frozen=True, slots=True)
class Measure:
    """One measure and whether it is on.

    Attributes:
        name: of the measure.
        problem: what is missing and what to do, empty if it is on.
    """

    name: str
    problem: str


class Posture:
    """The check over an agency's home and registry."""

    def __init__(self, office: Office, registry: Registry) -> None:
        """Check the home of ``office`` and its ``registry``."""
        self._office = office
        self._registry = registry
        self._desk = Desk(registry, office.now)

    def measure(self) -> tuple[Measure, ...]:
        """Look at every measure; records nothing."""
        looks: Mapping[str, Callable[[], str]] = {
            "grading": self._grading,
            "access_control": self._access,
            "encrypted_storage": self._encryption,
            "de_identification": self._de_identification,
            "log_keeping": self._log,
            "backup": self._backup,
        }
        return tuple(Measure(name, look()) for name, look in looks.items())

    def check(self, actor: Actor) -> Case:
        """Look at every measure and record the outcome, ``green`` or ``red``."""
        found = self.measure()
        state = "red" if any(item.problem for item in found) else "green"
        document = {"measures": {item.name: item.problem for item in found}}
        act = "posture.check"
        with self._desk.together():
            try:
                case = self._registry.get(KIND, NAME)
            except CaseUnknownError:
                return self._desk.enter(actor, KIND, NAME, act, state=state, document=document, reason=state)
            return self._desk.amend(actor, case, act, state=state, document=document, reason=state)

    def record_backup(self, actor: Actor, *, sha256: str) -> None:
        """Record that a backup was made, by the digest of its archive."""
        self._desk.record(actor, KIND, NAME, BACKUP, evidence={"backup": sha256})

    def _grading(self) -> str:
        cases = [case for case in self._registry.cases("resource") if case.state not in {"withdrawn", "excluded"}]
        ungraded = [case.id for case in cases if not _entry(case).get("grade")]
        return f"expected a grade for every resource; {ungraded[0]} has none" if ungraded else ""

    def _access(self) -> str:
        open_files = [path.name for path in _keys(self._office.home) if path.stat().st_mode & 0o077]
        return f"expected keys that their owner alone can read; run: chmod 600 {open_files[0]}" if open_files else ""

    def _encryption(self) -> str:
        plain = [path.name for path in _keys(self._office.home) if b"BEGIN PRIVATE KEY" in path.read_bytes()]
        return f"expected keys encrypted at rest, {plain[0]} is not; run: shufang identity encrypt" if plain else ""

    def _de_identification(self) -> str:
        for case in self._registry.cases("grant", state="granted"):
            limits = case.document.get("thresholds")
            if not isinstance(limits, dict) or min(int(str(limits.get(n, 0))) for n in ("rows_min", "cell_min")) < 2:
                return f"expected thresholds on every grant; {case.id} has none"
        return ""

    def _log(self) -> str:
        if not (self._office.home / "log").is_dir():
            return "expected a log for events; run: shufang log init --home HOME/log"
        oldest = outbox.oldest_waiting(self._registry)
        if oldest is not None and self._office.now() - oldest > timedelta(days=LOG_DAYS):
            return f"expected every event in the log within {LOG_DAYS} day; run: shufang registry deliver"
        return ""

    def _backup(self) -> str:
        made = [e for e in self._registry.events(kind=KIND, case_id=NAME) if e.body["act"] == BACKUP]
        last = datetime.fromisoformat(str(made[-1].body["at"])) if made else None
        if last is None or self._office.now() - last > timedelta(days=BACKUP_DAYS):
            return f"expected a backup within {BACKUP_DAYS} days; make one and record it"
        return ""


def hold(registry: Registry) -> Refusal | None:
    """Say why no new grant is issued now, or None."""
    try:
        case = registry.get(KIND, NAME)
    except CaseUnknownError:
        return None
    if case.state != "red":
        return None
    measures = case.document["measures"]
    off = sorted(name for name, problem in measures.items() if problem) if isinstance(measures, dict) else []
    return Refusal("request.posture", f"new grants are held while measures are off: {', '.join(off)}", MEASURES_CLAUSES)


def _keys(home: Path) -> list[Path]:
    return sorted(path for path in (home / "keys").iterdir() if path.is_file() and not path.name.startswith("."))


def _entry(case: Case) -> Mapping[str, object]:
    entry = case.document.get("entry")
    return entry if isinstance(entry, dict) else {}
