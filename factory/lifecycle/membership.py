"""Organisations, the accounts of their people and services, and the parties of an agreement. Pure.

``none → active ⇄ suspended → closed`` for organisations and accounts; the parties of an
agreement are one case that gives each organisation its one role.

Source:
    regulations/LIFECYCLE.md, rules for every machine, 1 and 2; requirements ROLE, LOG-PERSON, SEC-IDENT, PLAT-UNIFIED.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from factory.lifecycle.machine import Refusal, Transition
from factory.lifecycle.roles import BODIES, DUTIES, ROLES, body_of, refuse_body, refuse_person

IDENTITY = ("SEC-IDENT", "JN-07-2")
PERSON = ("LOG-PERSON", "SD-30-4", "JL-运营管理-33", "SZ-11.3-5", "GD-34-7")
PLATFORM_CLAUSES = ("PLAT-UNIFIED", "SD-10-1", "SZ-01-8", "GD-08-1")
LEVELS = ("province", "city", "county")


@dataclass(frozen=True, slots=True)
class OrganisationFacts:
    """What the guards of an organisation look at.

    Attributes:
        organisation: its id.
        roles: what it may be, over all agreements.
        level: of government, empty for bodies that are none.
        parent: organisation of the next higher level, empty at the top.
        parent_level: level of the parent, empty if it is unknown or not active.
        reason: of a suspension, restoration or closing.
    """

    organisation: str
    roles: frozenset[str]
    level: str = ""
    parent: str = ""
    parent_level: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class AccountFacts:
    """What the guards of an account look at.

    Attributes:
        account: its id.
        is_service: for a program; then a person answers for it.
        roles: what it is to act as.
        organisation_state: of the body it belongs to, empty if there is none.
        organisation_roles: what that body may be.
        identity_holder: account of the same natural person, empty if there is none.
        has_identity: whether a natural person is named.
        responsible_state: state of the account that answers for a service.
        is_own: who asks is the account itself.
        reason: of a suspension, restoration or closing.
    """

    account: str
    is_service: bool
    roles: frozenset[str]
    organisation_state: str = ""
    organisation_roles: frozenset[str] = frozenset()
    identity_holder: str = ""
    has_identity: bool = False
    responsible_state: str = ""
    is_own: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class PartiesFacts:
    """What the guards of an agreement's parties look at.

    Attributes:
        organisation: who gets a role.
        role: which.
        present: role per organisation as it stands.
        allowed: what the organisation may be.
        organisation_state: of the body.
    """

    organisation: str
    role: str
    present: Mapping[str, str] = field(default_factory=dict)
    allowed: frozenset[str] = frozenset()
    organisation_state: str = ""


def _roles_known(facts: OrganisationFacts | AccountFacts) -> Refusal | None:
    unknown = sorted(facts.roles - set(ROLES))
    if unknown or not facts.roles:
        return Refusal("roles.unknown", f"expected roles among {', '.join(ROLES)}; got {', '.join(unknown)}", DUTIES)
    return None


def _body_apart(facts: OrganisationFacts) -> Refusal | None:
    return refuse_body(facts.organisation, facts.roles)


def _a_tenant(facts: OrganisationFacts) -> Refusal | None:
    if not facts.level:
        return None
    if facts.level not in LEVELS:
        return Refusal("organisation.level", f"expected one of {', '.join(LEVELS)}", PLATFORM_CLAUSES)
    if not facts.parent and facts.level != "county":
        return None
    if facts.parent_level not in LEVELS or LEVELS.index(facts.parent_level) >= LEVELS.index(facts.level):
        return Refusal(
            "organisation.parent",
            f"expected an active body of a level above {facts.level} on this platform as the parent",
            PLATFORM_CLAUSES,
        )
    return None


def _person_apart(facts: AccountFacts) -> Refusal | None:
    return refuse_person(facts.account, facts.roles)


def _within_its_body(facts: AccountFacts) -> Refusal | None:
    if facts.organisation_state != "active":
        return Refusal("account.organisation", "expected an active organisation on this platform", IDENTITY)
    bodies = {body_of(role) for role in facts.organisation_roles} | facts.organisation_roles
    outside = sorted(role for role in facts.roles if body_of(role) not in bodies)
    if outside:
        return Refusal("roles.body", f"the organisation is no {', '.join(outside)}; expected roles of its own", DUTIES)
    return None


def _one_person_one_account(facts: AccountFacts) -> Refusal | None:
    if facts.is_service:
        if facts.responsible_state != "active":
            return Refusal("account.responsible", "expected an active person who answers for the service", PERSON)
        return None
    if not facts.has_identity:
        return Refusal("account.shared", "expected the natural person of the account; nobody shares one", PERSON)
    if facts.identity_holder:
        return Refusal(
            "account.person", "this natural person has an account; one person acts for one organisation", PERSON
        )
    return None


def _not_own(facts: AccountFacts) -> Refusal | None:
    return Refusal("duties.own_account", "nobody changes an account of their own", DUTIES) if facts.is_own else None


def _reasoned(facts: OrganisationFacts | AccountFacts) -> Refusal | None:
    return None if facts.reason.strip() else Refusal("membership.reason", "expected a reason", PERSON)


def _assignable(facts: PartiesFacts) -> Refusal | None:
    if facts.role not in BODIES:
        return Refusal("roles.unknown", f"expected one of {', '.join(BODIES)}", DUTIES)
    if facts.organisation_state != "active" or facts.role not in facts.allowed:
        return Refusal("roles.body", f"expected an active organisation that may be {facts.role}", DUTIES)
    return None


def _one_role_per_agreement(facts: PartiesFacts) -> Refusal | None:
    held = facts.present.get(facts.organisation)
    if held is not None:
        return Refusal(
            "roles.agreement",
            f"expected one role per organisation and agreement; {facts.organisation} is its {held}",
            DUTIES,
        )
    if facts.role == "operator" and "operator" in facts.present.values():
        return Refusal("roles.agreement", "expected one operator per agreement", DUTIES)
    return None


def _words(*words: str) -> frozenset[str]:
    return frozenset(words)


_ADMINISTRATOR = _words("administrator")

ORGANISATION: tuple[Transition[OrganisationFacts], ...] = (
    Transition(
        "register", _words("none"), "active", _ADMINISTRATOR, (_roles_known, _body_apart, _a_tenant), PLATFORM_CLAUSES
    ),
    Transition("suspend", _words("active"), "suspended", _ADMINISTRATOR, (_reasoned,), IDENTITY),
    Transition("restore", _words("suspended"), "active", _ADMINISTRATOR, (_reasoned,), IDENTITY),
    Transition("close", _words("active", "suspended"), "closed", _ADMINISTRATOR, (_reasoned,), IDENTITY),
)

ACCOUNT: tuple[Transition[AccountFacts], ...] = (
    Transition(
        "open",
        _words("none"),
        "active",
        _ADMINISTRATOR,
        (_roles_known, _person_apart, _within_its_body, _one_person_one_account),
        PERSON,
    ),
    Transition(
        "assign",
        _words("active"),
        "active",
        _ADMINISTRATOR,
        (_not_own, _roles_known, _person_apart, _within_its_body, _reasoned),
        PERSON,
    ),
    Transition("suspend", _words("active"), "suspended", _ADMINISTRATOR, (_not_own, _reasoned), IDENTITY),
    Transition("restore", _words("suspended"), "active", _ADMINISTRATOR, (_not_own, _reasoned), IDENTITY),
    Transition("close", _words("active", "suspended"), "closed", _ADMINISTRATOR, (_not_own, _reasoned), IDENTITY),
)

PARTIES: tuple[Transition[PartiesFacts], ...] = (
    Transition("form", _words("none"), "formed", _words("agency"), (), DUTIES),
    Transition("assign", _words("formed"), "formed", _words("agency"), (_assignable, _one_role_per_agreement), DUTIES),
)
