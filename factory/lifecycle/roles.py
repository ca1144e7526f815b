"""Roles, and which of them one body or one person never holds together. Pure.

An organisation has exactly one role per agreement. Within a body some persons hold an office
that acts alone: the agency's registrars, the operator's head of security. Who administers the
accounts of the platform, or supervises it, takes no part in any case.

Source:
    regulations/LIFECYCLE.md, rules for every machine, 2; requirement ROLE.
"""

from collections.abc import Iterable, Mapping

from factory.lifecycle.machine import Refusal

BODIES = (
    "operator",
    "agency",
    "data_administration",
    "sector_authority",
    "authorising_unit",
    "source_department",
    "developer",
    "application_unit",
    "reviewer",
)
"""What an organisation may be under an agreement."""

OFFICES: Mapping[str, str] = {"registrar": "agency", "security_head": "operator", "node": "source_department"}
"""Offices that act alone, with the body they belong to; a department's node acts for it by its own key."""

PLATFORM = ("administrator", "supervisor")
"""Roles that take no part in a case: accounts of the platform, and reading everything."""

ROLES = (*BODIES, *OFFICES, *PLATFORM)

SEES_ALL = frozenset(
    {"agency", "registrar", "data_administration", "sector_authority", "authorising_unit", "supervisor"}
)
"""Roles that may read every case; the others read those of their own body and of its agreements."""

DUTIES = ("ROLE", "SD-03-1", "JN-04-1", "JL-总则-3", "SZ-01-1", "GD-04-1")

_AUTHORITIES = ("agency", "registrar", "data_administration", "sector_authority", "authorising_unit")

APART: frozenset[frozenset[str]] = frozenset(
    frozenset(pair)
    for pair in (
        *(("operator", role) for role in (*_AUTHORITIES, "reviewer", "node", "source_department", "witness")),
        *(("operator", role) for role in PLATFORM),
        *(("developer", role) for role in (*_AUTHORITIES, "reviewer")),
        ("node", "reviewer"),
        ("source_department", "reviewer"),
        ("application_unit", "reviewer"),
        ("application_unit", "registrar"),
    )
)
"""Pairs that one organisation never holds (GD-26-1; DESIGN 5: no operator among the reviewers)."""

PERSON_APART: frozenset[frozenset[str]] = APART | frozenset(
    frozenset(pair)
    for pair in (
        ("agency", "registrar"),  # who rules on a request does not also sign the grant
        ("operator", "security_head"),  # who builds does not also clear the release
        *((role, other) for role in PLATFORM for other in (*BODIES, *OFFICES)),
        PLATFORM,
    )
)
"""Pairs that one person never holds."""


def body_of(role: str) -> str:
    """Return the body an office belongs to; a body is its own."""
    return OFFICES.get(role, role)


def meeting(roles: Iterable[str], apart: frozenset[frozenset[str]] = APART) -> tuple[str, str] | None:
    """Return two of ``roles`` that may not meet, or None."""
    held = set(roles)
    found = sorted(tuple(sorted(pair)) for pair in apart if pair <= held)
    return (found[0][0], found[0][1]) if found else None


def refuse_body(organisation: str, roles: Iterable[str]) -> Refusal | None:
    """Say why an organisation may not hold these roles, or None."""
    pair = meeting(roles)
    if pair is None:
        return None
    return Refusal(
        "roles.apart",
        f"expected {pair[0]} and {pair[1]} in different organisations, {organisation} would hold both",
        DUTIES,
    )


def refuse_person(person: str, roles: Iterable[str]) -> Refusal | None:
    """Say why one person may not hold these roles, or None."""
    pair = meeting(roles, PERSON_APART)
    if pair is None:
        return None
    return Refusal(
        "roles.person_apart", f"expected {pair[0]} and {pair[1]} in different hands, {person} would hold both", DUTIES
    )
