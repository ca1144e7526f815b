"""The schedule of quality runs: each resource at its declared update frequency, by the agent itself.

A person makes the first run of a resource, since its suite is theirs to check. From then on the next run
is due when the declared frequency has passed, or when the table it saw stops being up to date, whichever
is first; a database is looked at somewhat earlier, so that it never lapses between two runs. A stale
resource, or one whose table could not be read, is looked at every day until its delivery is there.

A run that is missed holds the resource by itself: its table counts as up to date until a fixed time
(``fresh_until``), and only a run moves that time.

Source:
    Regulations Q-MONITOR (SD-05-7, SD-08-1, JL-运营管理-51: scheduled checks on the node), SUP-UPDATE
    (SD-07-2: update at the declared frequency).
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from nodes.books import Books, ResourceRecord
from nodes.catalogue_entries import CatalogueEntry, read_catalogue
from nodes.contract.statement import time_text
from nodes.errors import NodeError, QualityGateError
from nodes.keys import NodeKeys
from nodes.quality_gate import GateResult, run_quality_of_many
from nodes.settings import NodeSettings

RETRY_S = 3_600
"""After a run that could not be done, before the agent tries that resource again."""
_DAY = timedelta(days=1)
_log = logging.getLogger("shufang.node")


@dataclass(frozen=True, slots=True)
class Planned:
    """When a resource is assessed next.

    Attributes:
        resource: catalogue id.
        every_days: its declared frequency.
        assessed_at: last run; ``None``: a person has to make the first.
        due_at: next run; ``None`` before the first.
        fresh_until: until when it may take part without another run.
        state: ``missed``: a day, or a tenth of the period, has passed since it was due.
    """

    resource: str
    every_days: int
    assessed_at: datetime | None
    due_at: datetime | None
    fresh_until: datetime | None
    state: Literal["unassessed", "waiting", "due", "missed"]

    def to_json(self) -> dict[str, Any]:
        """Return what commands print."""
        return {
            "resource": self.resource,
            "every_days": self.every_days,
            "assessed_at": time_text(self.assessed_at) if self.assessed_at else None,
            "due_at": time_text(self.due_at) if self.due_at else None,
            "fresh_until": time_text(self.fresh_until) if self.fresh_until else None,
            "state": self.state,
        }


def plan(entry: CatalogueEntry, record: ResourceRecord | None, *, now: datetime) -> Planned:
    """Say when a resource is assessed next. Pure."""
    days = entry.update_frequency_days
    if record is None or record.assessed_at is None:
        return Planned(entry.id, days, None, None, None, "unassessed")
    lead = min(_DAY, timedelta(days=days) / 10)
    due = record.assessed_at + timedelta(days=days)
    if record.fresh_until is not None:
        due = min(due, record.fresh_until)
    if record.state == "stale" or not record.commitment:
        due = record.assessed_at + _DAY
    elif entry.storage.is_database:
        due -= lead
    state: Literal["waiting", "due", "missed"] = "waiting" if now < due else "due" if now < due + lead else "missed"
    return Planned(entry.id, days, record.assessed_at, due, record.fresh_until, state)


def schedule(settings: NodeSettings, books: Books, *, now: datetime) -> list[Planned]:
    """Return when each resource of the catalogue is assessed next, the most urgent first.

    Raises:
        CatalogueError: a broken entry.
    """
    entries = read_catalogue(settings.catalogue).values()
    rows = [plan(entry, books.resource(entry.id), now=now) for entry in entries]
    return sorted(rows, key=lambda row: (row.due_at is None, row.due_at or now, row.resource))


def run_due(
    settings: NodeSettings,
    keys: NodeKeys,
    books: Books,
    *,
    now: datetime,
    skip: frozenset[str] = frozenset(),
) -> dict[str, GateResult | QualityGateError]:
    """Assess what is due, and note in the ledger what is assessed too late.

    Args:
        settings: of the node.
        keys: sign the reports.
        books: keep states, reports and ledger entries.
        now: the node's clock.
        skip: resources to leave out this time.

    Raises:
        CatalogueError: a broken entry.
        StorageError: the disk refused.
    """
    due = [row for row in schedule(settings, books, now=now) if row.state in {"due", "missed"}]
    due = [row for row in due if row.resource not in skip]
    for row in due:
        if row.state == "missed" and row.due_at is not None:
            books.record("quality.run_missed", facts={"resource": row.resource, "due_at": time_text(row.due_at)})
    catalogue = read_catalogue(settings.catalogue)
    entries = [catalogue[row.resource] for row in due]
    return run_quality_of_many(entries, settings=settings, keys=keys, books=books, now=now) if entries else {}


def keep_schedule(
    settings: NodeSettings,
    keys: NodeKeys,
    books: Books,
    *,
    stop: threading.Event,
    now: Callable[[], datetime],
) -> None:
    """Assess what is due, every ``quality_check_s`` seconds, until ``stop`` is set; never raises.

    Privacy: log lines name resources and states; no message of a library, which may quote a cell.
    """
    failed: dict[str, float] = {}
    while not stop.wait(settings.quality_check_s):
        waiting = frozenset(name for name, since in failed.items() if time.monotonic() - since < RETRY_S)
        try:
            done = run_due(settings, keys, books, now=now(), skip=waiting)
        except NodeError as error:
            _log.error("scheduled quality run ended: %s", error.code)
            continue
        except Exception as error:  # noqa: BLE001  the node goes on answering; a missed run holds the resource by itself
            _log.error("scheduled quality run ended: %s", type(error).__name__)
            continue
        for name, item in done.items():
            if isinstance(item, QualityGateError):
                failed[name] = time.monotonic()
                _log.error("scheduled quality run of %s: %s", name, item.code)
            else:
                failed.pop(name, None)
                _log.info("scheduled quality run of %s: %s", name, item.record.state)
