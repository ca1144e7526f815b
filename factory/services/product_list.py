"""The list of products: drafted by the operator, joined by departments and developers, filed, public.

What the guards look at is read from the registry: catalogue, demands, who joined. Nobody states it.

Source:
    requirement PROD-LIST (SZ-09-1, SZ-09-3, SZ-09-7).
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from factory.lifecycle.product_list import ListingFacts
from factory.lifecycle.resource import USABLE
from factory.registry.errors import CaseUnknownError
from factory.registry.request import Form
from factory.registry.store import Case, Registry
from factory.services.actor import Actor
from factory.services.desk import Desk
from nodes.contract.grant import Grant
from nodes.contract.messages import Name, Part, Text

KIND = "listing"
ProductId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._:-]{0,60}$")]
"""Name of a product without its version; the list is of products, not of versions."""


class NewListing(Part):
    """An item of the list.

    Attributes:
        product: its name without a version.
        title: for people.
        form: what it is.
        resources: catalogue entries it is made from.
        demand_id: demand of an application unit that it answers.
        developers: organisations that are to develop it.
        agreement_id: agreement under which it is made.
    """

    product: ProductId
    title: Text
    form: Form
    resources: Annotated[tuple[Name, ...], Field(min_length=1, max_length=200, strict=False)]
    demand_id: Name
    developers: Annotated[tuple[Name, ...], Field(min_length=1, max_length=50, strict=False)]
    agreement_id: Name


class ProductList:
    """Items of the list, in the registry of the platform."""

    def __init__(self, desk: Desk) -> None:
        """Work through ``desk``."""
        self._desk = desk

    def draft(self, actor: Actor, asked: NewListing) -> Case:
        """Draft an item; one that was struck is drafted anew, and nobody has joined it then.

        Raises:
            TransitionRefusedError: an entry that is not in scope, no demand, or not the operator; recorded.
        """
        document = {**asked.model_dump(mode="json"), "joined": {}}

        def facts() -> ListingFacts:
            return self._facts(document, actor)

        words: dict[str, Any] = {"reason": asked.title, "agreement": asked.agreement_id}
        with self._desk.together():
            if _known(self._desk.registry, KIND, asked.product) is None:
                return self._desk.open(actor, KIND, asked.product, "draft", facts=facts, document=document, **words)
            return self._desk.move(
                actor, KIND, asked.product, "draft", facts=lambda _: facts(), document=document, **words
            )

    def join(self, actor: Actor, product: str) -> Case:
        """Join an item as a source department of one of its entries, or as its developer.

        Raises:
            TransitionRefusedError: no party of it; recorded.
            CaseUnknownError: no such item.
        """

        def joined(case: Case) -> Mapping[str, Any]:
            return {**case.document, "joined": {**_joined(case.document), actor.organisation: actor.id}}

        return self._desk.move(
            actor, KIND, product, "join", facts=lambda case: self._facts(case.document, actor), document=joined
        )

    def file(self, actor: Actor, product: str) -> Case:
        """File an item; from then on it is on the public list.

        Raises:
            TransitionRefusedError: a party has not joined, or an entry left the catalogue; recorded.
            CaseUnknownError: no such item.
        """
        return self._desk.move(actor, KIND, product, "file", facts=lambda case: self._facts(case.document, actor))

    def strike(self, actor: Actor, product: str, *, reason: str) -> Case:
        """Take an item off the list.

        Raises:
            TransitionRefusedError: no reason, or not data administration; recorded.
            CaseUnknownError: no such item.
        """
        facts = ListingFacts(reason=reason)
        return self._desk.move(actor, KIND, product, "strike", facts=facts, reason=reason)

    def public(self) -> list[dict[str, Any]]:
        """Return the filed items as everybody may see them, by name.

        Privacy:
            Names of products, forms and catalogue entries, which are public; no person, no demand's text.
        """
        shown = ("product", "title", "form", "resources", "developers")
        return [
            {name: case.document[name] for name in shown} for case in self._desk.registry.cases(KIND, state="filed")
        ]

    def _facts(self, document: Mapping[str, Any], actor: Actor) -> ListingFacts:
        registry, names = self._desk.registry, frozenset(str(name) for name in document["resources"])
        found = {name: case for name in names if (case := _known(registry, "resource", name)) is not None}
        usable = {name: case for name, case in found.items() if case.state in USABLE}
        demand = _known(registry, "demand", str(document["demand_id"]))
        return ListingFacts(
            entries=names,
            usable=frozenset(usable),
            demand=demand.id if demand is not None and demand.state in {"open", "answered"} else "",
            owners=frozenset(str(_entry(case)["owner"]) for case in usable.values()),
            developers=frozenset(str(name) for name in document["developers"]),
            joined=frozenset(_joined(document)),
            organisation=actor.organisation,
            role="source_department" if "source_department" in actor.roles else "developer",
        )


def is_listed(registry: Registry, product: str, form: str, grant: Grant | None) -> bool:
    """Whether a product version is on the filed list, in this form and with no other entry than the list names."""
    case = _known(registry, KIND, product.partition("@")[0])
    if case is None or case.state != "filed" or grant is None:
        return False
    named = case.document["resources"]
    used = {use.resource for party in grant.parties for use in party.resources}
    return case.document["form"] == form and isinstance(named, list) and used <= set(named)


def _known(registry: Registry, kind: str, name: str) -> Case | None:
    try:
        return registry.get(kind, name)
    except CaseUnknownError:
        return None


def _entry(case: Case) -> Mapping[str, Any]:
    found = case.document["entry"]
    return found if isinstance(found, dict) else {}


def _joined(document: Mapping[str, Any]) -> dict[str, str]:
    found = document["joined"]
    return {str(name): str(person) for name, person in found.items()} if isinstance(found, dict) else {}
