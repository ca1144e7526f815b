"""Clocks that run for cases: started and ended by events; a passed one is told, and approves nothing."""

from collections.abc import Iterator, Mapping
from datetime import date, datetime

from factory.agency.office import Office
from factory.law.clocks import CLOCKS, Due, Notice, Running, due, overdue
from factory.registry.store import Case
from factory.services.desk import Desk
from factory.services.governed import STATED
from nodes.contract import canonical

ENDS: Mapping[str, frozenset[str]] = {
    "agreement.publicity": frozenset({"agreement.clear"}),
    "agreement.filing": frozenset({"agreement.file"}),
    "agreement.disclosure": frozenset({"agreement.disclose"}),
    "agreement.change_filing": frozenset({"agreement.file"}),
    "request.ruling": frozenset({"request.approve", "request.reject"}),
    "resource.supply": frozenset({"resource.bind", "resource.withdraw"}),
    "product.review": frozenset({"product.review", "product.return", "product.retire"}),
    "registration.accept": frozenset({"registration.code", "registration.refuse"}),
    "registration.cancel": frozenset({"registration.cancellation", "registration.deny"}),
    "incident.notice": frozenset({"incident.report"}),
    "standing.rectification": frozenset({"standing.restore", "standing.revoke", "standing.exit"}),
}
"""Acts that end a clock; clocks of recurring duties belong to whoever reports, and do not run for a case here."""

_KINDS = ("agreement", "resource", "request", "product", "registration", "incident", "standing")


class Clocks:
    """What runs for which case."""

    def __init__(self, desk: Desk, office: Office) -> None:
        """Read the registry of ``desk`` under the law of ``office``."""
        self._desk = desk
        self._office = office

    def of(self, case: Case) -> list[Due]:
        """Return the clocks that run for a case, the earliest end first."""
        profile = self._office.law()
        ends = (due(CLOCKS[r.clock], profile, r.since, until=r.until) for r in self._running(case))
        return sorted((end for end in ends if end is not None), key=lambda end: end.at)

    def notices(self) -> list[Notice]:
        """Return whom to tell what now, over every case."""
        running = [r for kind in _KINDS for case in self._desk.registry.cases(kind) for r in self._running(case)]
        return overdue(running, self._office.law(), self._desk.clock())

    def _running(self, case: Case) -> Iterator[Running]:
        events = self._desk.registry.events(kind=case.kind, case_id=case.id)
        for name, ends in ENDS.items():
            since = None
            for event in events:
                act = str(event.body["act"])
                if act == CLOCKS[name].starts:
                    since = datetime.fromisoformat(str(event.body["at"]))
                elif act in ends:
                    since = None
            if since is not None:
                until = None if CLOCKS[name].limit else self._named_day(case)
                if CLOCKS[name].limit or until is not None:
                    yield Running(name, f"{case.kind}/{case.id}", since, until)

    def _named_day(self, case: Case) -> date | None:
        kept = self._desk.registry.artefacts(case.kind, case.id).get(STATED)
        item = canonical.loads(kept).get("deadline") if kept else None
        return date.fromisoformat(str(item["value"])) if isinstance(item, dict) else None
