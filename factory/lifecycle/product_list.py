"""The list of products (产品清单) as a state machine. Pure.

``drafted → filed → struck``. The operator drafts an item from catalogue entries and a demand; every source
department of its entries and a developer join it; data administration files it, and what is filed is public.
Where the profile asks for the list, no product off it is started or released.

Source:
    regulations/LIFECYCLE.md section 5 (idea → listed); requirement PROD-LIST (SZ-09-1, SZ-09-3, SZ-09-7).
"""

from dataclasses import dataclass

from factory.lifecycle.machine import Refusal, Transition

LISTED = ("PROD-LIST", "SZ-09-1", "SZ-09-3", "SZ-09-7")


@dataclass(frozen=True, slots=True)
class ListingFacts:
    """What the guards look at.

    Attributes:
        entries: catalogue entries that the item names.
        usable: those of them that the catalogue has in scope.
        demand: open or answered demand that the item answers, empty without one.
        owners: organisations of the departments that own the entries.
        developers: organisations that are to develop it.
        joined: organisations that joined the item.
        organisation: of who acts.
        role: of who acts.
        reason: of who strikes.
    """

    entries: frozenset[str] = frozenset()
    usable: frozenset[str] = frozenset()
    demand: str = ""
    owners: frozenset[str] = frozenset()
    developers: frozenset[str] = frozenset()
    joined: frozenset[str] = frozenset()
    organisation: str = ""
    role: str = ""
    reason: str = ""


def _from_the_catalogue(facts: ListingFacts) -> Refusal | None:
    missing = sorted(facts.entries - facts.usable)
    if missing or not facts.entries:
        told = f"{missing[0]} is none" if missing else "the item names none"
        return Refusal("listing.entries", f"expected catalogue entries in scope, {told}", LISTED)
    return None


def _from_a_demand(facts: ListingFacts) -> Refusal | None:
    if not facts.demand:
        return Refusal("listing.demand", "expected the demand record that the item answers", LISTED)
    return None


def _with_a_developer(facts: ListingFacts) -> Refusal | None:
    return None if facts.developers else Refusal("listing.developer", "expected who is to develop it", LISTED)


def _concerned(facts: ListingFacts) -> Refusal | None:
    parties = facts.owners if facts.role == "source_department" else facts.developers
    if facts.organisation not in parties:
        return Refusal("listing.party", f"expected a party of the item, {facts.organisation} is none", LISTED)
    return None


def _joined_by_all(facts: ListingFacts) -> Refusal | None:
    missing = sorted((facts.owners | facts.developers) - facts.joined)
    if missing:
        return Refusal("listing.joined", f"expected the item joined by {', '.join(missing)}", LISTED)
    return None


def _reasoned(facts: ListingFacts) -> Refusal | None:
    return None if facts.reason.strip() else Refusal("listing.reason", "expected a reason", LISTED)


TRANSITIONS: tuple[Transition[ListingFacts], ...] = (
    Transition(
        "draft",
        frozenset({"none", "struck"}),
        "drafted",
        frozenset({"operator"}),
        (_from_the_catalogue, _from_a_demand, _with_a_developer),
        LISTED,
    ),
    Transition(
        "join",
        frozenset({"drafted"}),
        "drafted",
        frozenset({"source_department", "developer"}),
        (_concerned,),
        LISTED,
    ),
    Transition(
        "file",
        frozenset({"drafted"}),
        "filed",
        frozenset({"data_administration"}),
        (_from_the_catalogue, _joined_by_all),
        LISTED,
    ),
    Transition(
        "strike",
        frozenset({"drafted", "filed"}),
        "struck",
        frozenset({"data_administration"}),
        (_reasoned,),
        LISTED,
    ),
)
"""The machine."""
