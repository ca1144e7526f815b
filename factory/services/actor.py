"""Who acts: an authenticated person, service or node, with organisation and roles."""

from dataclasses import dataclass
from typing import Literal

from factory.identity import Identity

Means = Literal["password", "api_key", "key", "home"]


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts, as authenticated; never a group.

    Attributes:
        id: account of a person or service, or actor id of a key that the agency lists.
        organisation: on whose behalf.
        roles: what it may act as there.
        means: how it was authenticated; ``home`` is the command line in an own home.
        purposes: purpose codes its credential is bound to; empty for any.
        credential: id of the credential it came with, empty for a home.
    """

    id: str
    organisation: str
    roles: frozenset[str]
    means: Means
    purposes: frozenset[str] = frozenset()
    credential: str = ""


def of_home(identity: Identity, *, official: str = "", roles: frozenset[str] | None = None) -> Actor:
    """Return who acts from an own home, as its keys let it.

    Args:
        identity: of the home.
        official: the person who decides, where the home belongs to an office.
        roles: what is acted as, if not all that the home may sign as.
    """
    return Actor(official or identity.id, identity.organisation, roles or frozenset(identity.roles), "home")
