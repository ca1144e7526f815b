"""Searching the events: of a case, of a person, of a product's whole life."""

from collections.abc import Iterator, Mapping
from typing import Any

from factory.registry.errors import CaseUnknownError
from factory.registry.store import Case, Event, Registry
from factory.services.actor import Actor
from factory.services.desk import Desk

_LINKS: Mapping[str, str] = {
    "agreement_id": "agreement",
    "request_id": "request",
    "grant_id": "grant",
    "application_id": "registration",
    "demand_id": "demand",
}
"""Field of a document that names another case, and the kind of that case."""


class Audit:
    """What was done, by whom, when and why."""

    def __init__(self, desk: Desk) -> None:
        """Search the registry of ``desk``."""
        self._desk = desk

    def events(
        self,
        actor: Actor,
        *,
        kind: str | None = None,
        case_id: str | None = None,
        person: str | None = None,
        after: int = 0,
        limit: int = 100,
    ) -> list[Event]:
        """Return events that the actor may see, in order.

        Raises:
            CaseUnknownError: the actor may not see this case, or asks for more than single cases or own acts.
        """
        if self._desk.sight(actor) is not None and person != actor.id:
            if kind is None or case_id is None:
                raise CaseUnknownError("expected kind and name of one case, or your own acts")
            self._desk.read(actor, kind, case_id)
        return self._desk.registry.events(kind=kind, case_id=case_id, actor=person, after=after, limit=limit)

    def refusals(self, *, after: int = 0, limit: int = 100) -> list[Event]:
        """Return acts that were refused, in order."""
        return [
            event for event in self._desk.registry.events(after=after) if str(event.body["act"]).endswith(".refused")
        ][:limit]

    def life(self, actor: Actor, kind: str, case_id: str) -> list[Event]:
        """Return every event of a case and of the cases it rests on or that rest on it, in order.

        Raises:
            CaseUnknownError: there is none, or none for this organisation.
        """
        case = self._desk.read(actor, kind, case_id)
        registry = self._desk.registry
        seen = {(kind, case_id)}
        todo = [case, *_resting_on(registry, case)]
        seen |= {(item.kind, item.id) for item in todo}
        while todo:
            item = todo.pop()
            for place in (*_links(item.document), *_request_of(registry, item)):
                if place in seen:
                    continue
                seen.add(place)
                try:
                    todo.append(registry.get(*place))
                except CaseUnknownError:
                    continue
        found = [event for place in seen for event in registry.events(kind=place[0], case_id=place[1])]
        return sorted(found, key=lambda event: event.seq)


def _request_of(registry: Registry, case: Case) -> list[tuple[str, str]]:
    """Return the request that a grant cites by its digest."""
    if case.kind != "grant":
        return []
    cited = case.document.get("request_sha256")
    return [("request", other.id) for other in registry.cases("request") if other.sha256 == cited]


def _resting_on(registry: Registry, case: Case) -> list[Case]:
    if case.kind != "product":
        return []
    return [other for other in registry.cases("registration") if _names(other.document, case.id)]


def _names(document: Mapping[str, Any], product: str) -> bool:
    application = document.get("application")
    block = application.get("product") if isinstance(application, Mapping) else None
    if not isinstance(block, Mapping):
        return False
    return f"{block.get('id')}@{block.get('product_version')}" == product


def _links(value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            if name in _LINKS and isinstance(item, str) and item:
                yield _LINKS[name], item
            else:
                yield from _links(item)
    elif isinstance(value, list):
        for item in value:
            yield from _links(item)
