"""Organisations, accounts of persons and services, and the parties of agreements."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, StringConstraints

from factory.accounts.credentials import Credentials, Kind
from factory.accounts.keys import AccountKeys
from factory.lifecycle.membership import AccountFacts, OrganisationFacts, PartiesFacts
from factory.registry.errors import CaseExistsError, CaseUnknownError
from factory.registry.store import Case
from factory.services.actor import Actor
from factory.services.desk import Desk
from nodes.contract.messages import Name, Part, Text

Words = Annotated[tuple[Name, ...], Field(min_length=1, max_length=20, strict=False)]
Short = Annotated[str, StringConstraints(max_length=96)]

_EVERY: tuple[Kind, ...] = ("password", "totp", "api_key", "session", "invitation")


class NewOrganisation(Part):
    """A body to register.

    Attributes:
        id: its name everywhere.
        name_zh, name_en: for people.
        roles: what it may be.
        level: of government, empty for bodies that are none.
        parent: organisation of the next higher level.
    """

    id: Name
    name_zh: Text
    name_en: Text
    roles: Words
    level: Short = ""
    parent: Short = ""


class NewAccount(Part):
    """An account to open.

    Attributes:
        id: login, and the actor of every event.
        name: of the person, or what the service does.
        organisation: it belongs to.
        roles: what it acts as.
        identity: number of the natural person; only a keyed digest is kept. Empty for a service.
        responsible: account that answers for a service; empty for a person.
    """

    id: Name
    name: Text
    organisation: Name
    roles: Words
    identity: Short = ""
    responsible: Short = ""


class People:
    """Who takes part, and as what."""

    def __init__(self, desk: Desk, credentials: Credentials, keys: AccountKeys) -> None:
        """Work through ``desk``."""
        self._desk = desk
        self._credentials = credentials
        self._keys = keys

    def found(self, platform: NewOrganisation, administrator: NewAccount) -> Case:
        """Make the first organisation and its administrator, once, from the platform's own home.

        Raises:
            TransitionRefusedError: a rule does not allow them.
            CaseExistsError: there is an administrator.
        """
        actor = Actor("platform", platform.id, frozenset({"administrator"}), "home")
        with self._desk.together():
            if self._desk.registry.cases("account", limit=1):
                raise CaseExistsError("expected a platform without accounts; its administrator opens further ones")
            self.register(actor, platform)
            return self.open_account(actor, administrator)

    def register(self, actor: Actor, asked: NewOrganisation) -> Case:
        """Register an organisation.

        Raises:
            TransitionRefusedError: roles that stay apart, or no place among the levels.
        """

        def facts() -> OrganisationFacts:
            parent = self._known("organisation", asked.parent)
            is_there = parent is not None and parent.state == "active"
            return OrganisationFacts(
                asked.id,
                frozenset(asked.roles),
                level=asked.level,
                parent=asked.parent,
                parent_level=str(parent.document["level"]) if parent is not None and is_there else "",
            )

        document = {
            "name_zh": asked.name_zh,
            "name_en": asked.name_en,
            "roles": sorted(set(asked.roles)),
            "level": asked.level,
            "parent": asked.parent,
        }
        return self._desk.open(actor, "organisation", asked.id, "register", facts=facts, document=document)

    def change_organisation(self, actor: Actor, organisation: str, act: str, *, reason: str) -> Case:
        """Suspend, restore or close an organisation; its accounts stop at once while it is not active."""

        def facts(case: Case) -> OrganisationFacts:
            return OrganisationFacts(case.id, _words(case, "roles"), reason=reason)

        return self._desk.move(actor, "organisation", organisation, act, facts=facts, reason=reason)

    def open_account(self, actor: Actor, asked: NewAccount) -> Case:
        """Open an account of one natural person, or of a service that a person answers for.

        Raises:
            TransitionRefusedError: the person has one, roles that stay apart, or not of the organisation.
        """
        is_service = not asked.identity and bool(asked.responsible)
        digest = self._keys.identity_digest(asked.identity) if asked.identity.strip() else ""

        def facts() -> AccountFacts:
            body = self._known("organisation", asked.organisation)
            responsible = self._known("account", asked.responsible)
            return AccountFacts(
                asked.id,
                is_service=is_service,
                roles=frozenset(asked.roles),
                organisation_state=body.state if body else "",
                organisation_roles=_words(body, "roles") if body else frozenset(),
                identity_holder=self._holder(digest),
                has_identity=bool(digest),
                responsible_state=_state_of_person(responsible, asked.organisation),
            )

        document = {
            "name": asked.name,
            "organisation": asked.organisation,
            "roles": sorted(set(asked.roles)),
            "identity_hmac": digest,
            "is_service": is_service,
            "responsible": asked.responsible,
        }
        return self._desk.open(actor, "account", asked.id, "open", facts=facts, document=document)

    def change_account(self, actor: Actor, account: str, act: str, *, reason: str) -> Case:
        """Suspend, restore or close an account; sessions end at once, and a closed one loses every credential."""

        def facts(case: Case) -> AccountFacts:
            return AccountFacts(
                case.id,
                is_service=bool(case.document["is_service"]),
                roles=_words(case, "roles"),
                is_own=case.id == actor.id,
                reason=reason,
            )

        with self._desk.together():
            case = self._desk.move(actor, "account", account, act, facts=facts, reason=reason)
            ending: tuple[Kind, ...] = {"suspend": ("session",), "close": _EVERY}.get(act, ())
            if ending:
                self._credentials.revoke_all(account, ending, now=self._desk.clock())
        return case

    def change_roles(self, actor: Actor, account: str, roles: Sequence[str], *, reason: str) -> Case:
        """Give an account other roles of its body; its sessions end, its keys act by the new roles at once.

        Raises:
            TransitionRefusedError: roles that stay apart, or not of the organisation, or the actor's own account.
        """

        def facts(case: Case) -> AccountFacts:
            body = self._known("organisation", str(case.document["organisation"]))
            return AccountFacts(
                case.id,
                is_service=bool(case.document["is_service"]),
                roles=frozenset(roles),
                organisation_state=body.state if body else "",
                organisation_roles=_words(body, "roles") if body else frozenset(),
                is_own=case.id == actor.id,
                reason=reason,
            )

        with self._desk.together():
            case = self._desk.move(
                actor,
                "account",
                account,
                "assign",
                facts=facts,
                reason=reason,
                document=lambda case: {**case.document, "roles": sorted(set(roles))},
            )
            self._credentials.revoke_all(account, ("session",), now=self._desk.clock())
        return case

    def form_parties(self, actor: Actor, agreement: str, roles: dict[str, str]) -> Case:
        """Give the bodies of a new agreement their roles, one each.

        Args:
            actor: of the agency.
            agreement: its id.
            roles: role per organisation.

        Raises:
            TransitionRefusedError: a body may not have the role.
        """
        with self._desk.together():
            document = {"agreement_id": agreement, "roles": {}}
            case = self._desk.open(actor, "parties", agreement, "form", facts=None, document=document)
            for organisation, role in sorted(roles.items()):
                case = self.assign(actor, agreement, organisation, role)
        return case

    def assign(self, actor: Actor, agreement: str, organisation: str, role: str) -> Case:
        """Give one more body its role under an agreement.

        Raises:
            TransitionRefusedError: it has a role there, or may not be that.
        """

        def facts(case: Case) -> PartiesFacts:
            body = self._known("organisation", organisation)
            return PartiesFacts(
                organisation,
                role,
                present=_roles(case),
                allowed=_words(body, "roles") if body else frozenset(),
                organisation_state=body.state if body else "",
            )

        # The agreement binds who assigns only once it has an agency: the first assignments make it.
        case = self._desk.registry.get("parties", agreement)
        return self._desk.move(
            actor,
            "parties",
            agreement,
            "assign",
            facts=facts,
            document=lambda case: {**case.document, "roles": {**_roles(case), organisation: role}},
            reason=f"{organisation}: {role}",
            agreement=case.agreement if "agency" in _roles(case).values() else NO_AGREEMENT,
        )

    def _known(self, kind: str, name: str) -> Case | None:
        try:
            return self._desk.registry.get(kind, name)
        except CaseUnknownError:
            return None

    def _holder(self, digest: str) -> str:
        if not digest:
            return ""
        accounts = self._desk.registry.cases("account")
        return next(
            (case.id for case in accounts if case.document["identity_hmac"] == digest and case.state != "closed"), ""
        )


NO_AGREEMENT = "-"
"""Stands for: no agreement binds the actor here."""


def _state_of_person(account: Case | None, organisation: str) -> str:
    if account is None or account.document["is_service"] or account.document["organisation"] != organisation:
        return ""
    return account.state


def _words(case: Case, name: str) -> frozenset[str]:
    found = case.document.get(name)
    return frozenset(str(word) for word in found) if isinstance(found, list) else frozenset()


def _roles(case: Case) -> dict[str, str]:
    found = case.document.get("roles")
    return {str(body): str(role) for body, role in found.items()} if isinstance(found, dict) else {}
