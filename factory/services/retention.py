"""How long events stay: five years at least, and their removal afterwards is an event itself.

Source:
    JL-运营管理-44, GD-39-11 (complete network logs of the authorised operation, five years at least);
    requirement LOG-RETAIN.
"""

from datetime import datetime

from factory.lifecycle.machine import Refusal
from factory.registry.store import REMOVAL, Act, Event
from factory.services.actor import Actor
from factory.services.desk import Desk

YEARS = 5
"""How long an event stays at least, in years."""

RETAIN = ("LOG-RETAIN", "JL-运营管理-44", "GD-39-11")


class Retention:
    """Removal of events whose time is over."""

    def __init__(self, desk: Desk) -> None:
        """Work on the registry of ``desk``."""
        self._desk = desk

    def remove(self, actor: Actor, through: int, *, reason: str) -> Event:
        """Remove the oldest events up to ``through``; the log keeps their digests.

        Args:
            actor: an administrator.
            through: number of the last event to go.
            reason: why.

        Raises:
            TransitionRefusedError: one of them is younger than five years, or no administrator asks.
            CaseUnknownError: there is no such event.
        """
        refusal = self._refuse(actor, through, reason)
        if refusal is not None:
            raise self._desk.refuse(actor, "log", str(through), "remove", refusal)
        act = Act(actor.id, "administrator", actor.organisation, REMOVAL, reason)
        return self._desk.registry.remove_events(through, act, self._desk.clock())

    def _refuse(self, actor: Actor, through: int, reason: str) -> Refusal | None:
        if "administrator" not in actor.roles:
            return Refusal("log.role", "events are removed by administrator alone", RETAIN)
        if not reason.strip():
            return Refusal("log.reason", "expected a reason", RETAIN)
        for event in self._desk.registry.events():
            if event.seq > through:
                break
            at = datetime.fromisoformat(str(event.body["at"]))
            if self._desk.clock() < _years_later(at, YEARS):
                return Refusal(
                    "log.retained",
                    f"event {event.seq} is of {at:%Y-%m-%d}; it stays until {_years_later(at, YEARS):%Y-%m-%d}",
                    RETAIN,
                )
        return None


def _years_later(moment: datetime, years: int) -> datetime:
    try:
        return moment.replace(year=moment.year + years)
    except ValueError:  # 29 February
        return moment.replace(year=moment.year + years, month=3, day=1)
