"""Who somebody is: by password and code, by API key, by a key that the agency lists.

Nothing tells which part was wrong, nor whether a login exists: unknown logins cost the same
time, are counted the same way and lock the same way. An attempt is counted before it is
checked, so that guesses in parallel are guesses.

Source:
    requirements SEC-IDENT (JN-07-2), SEC-CRED (SZ-11.3-16), LOG-PERSON (SD-30-4).
"""

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Literal

from factory.accounts.credentials import INVITATION_DAYS, KEY_DAYS_MAX, SESSION_HOURS, Credential, Credentials
from factory.accounts.errors import CredentialError, LockedError, UnauthenticatedError
from factory.agency.admission import current_entry
from factory.registry.errors import CaseUnknownError
from factory.registry.schema import table
from factory.registry.store import Case
from factory.services.actor import Actor, Means
from factory.services.desk import Desk
from factory.trust import Trust
from nodes.contract.errors import ContractError
from nodes.contract.messages import Message, Name, Text, Time, parse
from nodes.contract.parameters import CLOCK_SKEW_S_MAX
from nodes.contract.signing import Envelope
from nodes.contract.statement import time_text

FAILURES_MAX, LOCK_MINUTES = 5, 15
"""Attempts before a login locks, and for how long (GB/T 22239-2019 8.1.4.1 b asks for such a limit)."""

_LOGIN = re.compile(r"[a-z0-9][a-z0-9._:-]{0,95}")
_BY_KEY = "key/"
"""No account has this name: names hold no slash."""


class KeyLogin(Message):
    """What a node or an official's key signs to open a session.

    Attributes:
        actor: who signs.
        audience: id of the platform it is meant for.
        nonce: of the platform's challenge; counts once.
        at: when it was signed.
    """

    payload_type = "application/vnd.shufang.key-login.v1+json"

    version: Literal[1] = 1
    actor: Name
    audience: Name
    nonce: Text
    at: Time


class Authentication:
    """Opens sessions and says who a token belongs to."""

    def __init__(
        self, desk: Desk, credentials: Credentials, *, platform: str = "", trust: Callable[[], Trust] | None = None
    ) -> None:
        """Authenticate against the accounts of ``desk``'s registry.

        Args:
            desk: registry and clock.
            credentials: of the same registry.
            platform: actor id of the agency, the audience of key logins.
            trust: returns the agency's current trust data; None where there is none.
        """
        self._desk = desk
        self._registry = desk.registry
        self._credentials = credentials
        self._platform = platform
        self._trust = trust

    def login(self, login: str, password: str, code: str = "") -> str:
        """Open a session and return its token.

        Raises:
            LockedError: too many failures with this login.
            UnauthenticatedError: login, password or code is wrong.
        """
        now, name = self._desk.clock(), _digest(login.strip())
        self._count(name, now)
        owner = login.strip() if _LOGIN.fullmatch(login.strip()) else ""
        account = self._account(owner)
        is_known = self._credentials.check_password(owner, password, now=now)
        if not is_known or account is None or not self._credentials.check_totp(account.id, code, now=now):
            self._record("unknown", "none", "account.login.refused", name[:16])
            raise UnauthenticatedError
        with self._registry.transaction() as connection:
            failures = table("failures")
            connection.execute(failures.delete().where(failures.c.login == name))
            token = self._credentials.issue(account.id, "session", now=now, until=now + timedelta(hours=SESSION_HOURS))
            self._record(account.id, str(account.document["organisation"]), "account.login", account.id)
        return token

    def challenge(self) -> str:
        """Return a nonce for ``login_by_key``; it counts for the tolerated clock skew."""
        now = self._desk.clock()
        return self._credentials.issue(
            "challenge", "challenge", now=now, until=now + timedelta(seconds=CLOCK_SKEW_S_MAX)
        )

    def login_by_key(self, envelope: bytes) -> str:
        """Open a session for whoever signed a challenge with a key that the agency lists.

        Raises:
            UnauthenticatedError: another key, a used or old challenge, or an actor that is suspended.
        """
        now = self._desk.clock()
        try:
            signed = Envelope.from_bytes(envelope)
            asked = parse(KeyLogin, signed.payload)
            trust = self._current_trust()
            actor = current_entry(trust.actors, asked.actor, now=now)
            if actor is None:
                raise UnauthenticatedError
            signed.open(actor.verify_key, KeyLogin.payload_type)
        except ContractError as error:
            raise UnauthenticatedError from error
        if asked.audience != self._platform or abs((now - asked.at).total_seconds()) > CLOCK_SKEW_S_MAX:
            raise UnauthenticatedError
        with self._registry.transaction():
            nonce = self._credentials.find(asked.nonce, now=now)
            if nonce is None or nonce.kind != "challenge" or _is_struck(trust, asked.actor, actor.verify_key.keyid):
                raise UnauthenticatedError
            self._credentials.revoke(nonce.id, now=now)
            token = self._credentials.issue(
                f"{_BY_KEY}{actor.id}",
                "session",
                now=now,
                until=now + timedelta(hours=SESSION_HOURS),
                settings={"keyid": actor.verify_key.keyid},
            )
            self._record(actor.id, actor.organisation, "account.login", actor.id)
        return token

    def actor(self, token: str) -> Actor:
        """Return who a session or API key belongs to; what changed since takes effect at once.

        Raises:
            UnauthenticatedError: ended, revoked, unknown, or of an account or body that is not active.
        """
        now = self._desk.clock()
        found = self._credentials.find(token, now=now)
        if found is None or found.kind not in {"session", "api_key"}:
            raise UnauthenticatedError
        if found.owner.startswith(_BY_KEY):
            return self._actor_by_key(found, now)
        account = self._account(found.owner)
        if account is None:
            raise UnauthenticatedError
        means: Means = "api_key" if found.kind == "api_key" else "password"
        purposes = frozenset(str(purpose) for purpose in found.settings.get("purposes", ()))
        return _as_actor(account, means, purposes, found.id)

    def logout(self, actor: Actor) -> None:
        """End the session or key the actor came with."""
        self._credentials.revoke(actor.credential, now=self._desk.clock())
        self._desk.note(actor, "account", actor.id, "logout")

    def invite(self, actor: Actor, account: str) -> str:
        """Return a token with which the owner sets a first, or a forgotten, password.

        Raises:
            CredentialError: a service, which has keys and no password.
            CaseUnknownError: no such account.
        """
        case = self._registry.get("account", account)
        if case.document["is_service"]:
            raise CredentialError("expected a person's account; a service has API keys and no password")
        now = self._desk.clock()
        with self._registry.transaction():
            self._credentials.revoke_all(account, ("invitation",), now=now)
            token = self._credentials.issue(account, "invitation", now=now, until=now + timedelta(days=INVITATION_DAYS))
            self._desk.note(actor, "account", account, "invite")
        return token

    def accept(self, invitation: str, password: str) -> str:
        """Set the password of an invited account and return its id.

        Raises:
            UnauthenticatedError: the invitation does not count.
            WeakPasswordError: the password is too weak.
        """
        now = self._desk.clock()
        with self._registry.transaction():
            found = self._credentials.find(invitation, now=now)
            account = self._account(found.owner) if found is not None and found.kind == "invitation" else None
            if account is None:
                raise UnauthenticatedError
            self._credentials.set_password(account.id, password, now=now)
            self._record(account.id, str(account.document["organisation"]), "account.set_password", account.id)
        return account.id

    def change_password(self, actor: Actor, old: str, new: str) -> None:
        """Set a new password; every session of the account ends.

        Raises:
            UnauthenticatedError: the old one is wrong.
            LockedError: it was wrong too often.
            WeakPasswordError: the new one is too weak.
        """
        now, name = self._desk.clock(), _digest(actor.id)
        self._count(name, now)
        if not self._credentials.check_password(actor.id, old, now=now):
            raise UnauthenticatedError("expected the password that counts now")
        with self._registry.transaction() as connection:
            failures = table("failures")
            connection.execute(failures.delete().where(failures.c.login == name))
            self._credentials.set_password(actor.id, new, now=now)
            self._desk.note(actor, "account", actor.id, "set_password")

    def make_key(
        self, actor: Actor, *, account: str = "", label: str, days: int, purposes: frozenset[str] = frozenset()
    ) -> str:
        """Make an API key of the actor, or of a service the actor answers for; it is shown this once.

        Raises:
            CredentialError: another's account, or a term that is too long.
        """
        owner = account or actor.id
        if not 1 <= days <= KEY_DAYS_MAX:
            raise CredentialError(f"expected a key for 1 to {KEY_DAYS_MAX} days, got {days}")
        self._own(actor, owner)
        now = self._desk.clock()
        settings = {"label": label, "purposes": sorted(purposes)}
        with self._registry.transaction():
            token = self._credentials.issue(
                owner, "api_key", now=now, until=now + timedelta(days=days), settings=settings
            )
            self._desk.note(actor, "account", owner, "make_key", reason=label)
        return token

    def rotate_key(self, actor: Actor, credential: str, *, days: int) -> str:
        """Make a key in place of another, which ends at once.

        Raises:
            CredentialError: no key of the actor, or of a service the actor answers for.
        """
        old = self._owned_key(actor, credential)
        now = self._desk.clock()
        with self._registry.transaction():
            self._credentials.revoke(old.id, now=now)
            return self.make_key(
                actor,
                account=old.owner,
                label=str(old.settings.get("label", "")),
                days=days,
                purposes=frozenset(old.settings.get("purposes", ())),
            )

    def revoke_key(self, actor: Actor, credential: str) -> None:
        """End a key or session at once; an administrator ends anybody's.

        Raises:
            CredentialError: no such credential of the actor, or of a service the actor answers for.
        """
        found = self._owned_key(actor, credential)
        with self._registry.transaction():
            self._credentials.revoke(found.id, now=self._desk.clock())
            self._desk.note(actor, "account", found.owner, "revoke_key", evidence=None, reason=found.id)

    def keys(self, actor: Actor, account: str = "") -> list[Credential]:
        """Return what may be shown of an account's credentials.

        Raises:
            CredentialError: another's account.
        """
        owner = account or actor.id
        if "administrator" not in actor.roles:
            self._own(actor, owner)
        return self._credentials.of(owner)

    def start_totp(self, actor: Actor) -> str:
        """Return the ``otpauth://`` address of a second factor, which ``confirm_totp`` makes count."""
        return self._credentials.start_totp(actor.id, issuer=self._platform or "shufang", now=self._desk.clock())

    def confirm_totp(self, actor: Actor, code: str) -> None:
        """Make the second factor count.

        Raises:
            CredentialError: none was started, or the code is not of it.
        """
        with self._registry.transaction():
            self._credentials.confirm_totp(actor.id, code, now=self._desk.clock())
            self._desk.note(actor, "account", actor.id, "set_totp")

    def _actor_by_key(self, found: Credential, now: datetime) -> Actor:
        name = found.owner.removeprefix(_BY_KEY)
        trust = self._current_trust()
        entry = current_entry(trust.actors, name, now=now)
        if entry is None or entry.verify_key.keyid != found.settings.get("keyid"):
            raise UnauthenticatedError
        if _is_struck(trust, name, entry.verify_key.keyid):
            raise UnauthenticatedError
        roles = frozenset({"source_department", "node"} if "node" in entry.roles else entry.roles)
        return Actor(entry.id, entry.organisation, roles, "key", credential=found.id)

    def _owned_key(self, actor: Actor, credential: str) -> Credential:
        credentials = table("credentials")
        with self._registry.database.reading() as connection:
            row = connection.execute(credentials.select().where(credentials.c.id == credential)).first()
        if row is None or row.kind not in {"api_key", "session"}:
            raise CredentialError("expected a key of this account; list them to see their ids")
        if "administrator" not in actor.roles:
            self._own(actor, row.owner)
        return next(item for item in self._credentials.of(row.owner) if item.id == row.id)

    def _own(self, actor: Actor, owner: str) -> None:
        if owner == actor.id:
            return
        account = self._account(owner)
        if account is None or account.document.get("responsible") != actor.id:
            raise CredentialError("expected a key of this account; list them to see their ids")

    def _account(self, name: str) -> Case | None:
        """Return an account if it and its organisation are active."""
        try:
            account = self._registry.get("account", name[:96])
            body = self._registry.get("organisation", str(account.document["organisation"]))
        except CaseUnknownError:
            return None
        return account if account.state == body.state == "active" else None

    def _count(self, name: str, now: datetime) -> None:
        failures = table("failures")
        with self._registry.transaction() as connection:
            row = connection.execute(failures.select().where(failures.c.login == name)).first()
            count = row.attempts if row is not None else 0
            if row is not None and row.locked_until:
                if time_text(now) < row.locked_until:
                    raise LockedError(f"too many attempts; wait until {row.locked_until} and try again")
                count = 0
            until = time_text(now + timedelta(minutes=LOCK_MINUTES)) if count + 1 >= FAILURES_MAX else ""
            connection.execute(failures.delete().where(failures.c.login == name))
            connection.execute(failures.insert().values(login=name, attempts=count + 1, locked_until=until))

    def _current_trust(self) -> Trust:
        if self._trust is None:
            raise UnauthenticatedError
        return self._trust()

    def _record(self, actor: str, organisation: str, name: str, case_id: str) -> None:
        by = Actor(actor, organisation, frozenset(), "password")
        self._desk.record(by, "account", case_id, name, role="none")


def _digest(login: str) -> str:
    return sha256(login.casefold().encode("utf-8", "surrogatepass")).hexdigest()


def _as_actor(account: Case, means: Means, purposes: frozenset[str], credential: str) -> Actor:
    roles = account.document["roles"]
    held = frozenset(str(role) for role in roles) if isinstance(roles, list) else frozenset()
    return Actor(account.id, str(account.document["organisation"]), held, means, purposes, credential)


def _is_struck(trust: Trust, actor: str, keyid: str) -> bool:
    return any(trust.status.state_of(kind, name) is not None for kind, name in (("actor", actor), ("key", keyid)))
