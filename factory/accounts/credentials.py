"""Credentials at rest: passwords as argon2id, TOTP secrets sealed, tokens as digests.

A token reads ``sfk_<id>_<secret>`` (API key), ``sfs_…`` (session), ``sfi_…`` (invitation to
set a first password) or ``sfc_…`` (challenge for a key to sign); only the SHA-256 of its 32
random bytes is kept, and it is shown once.
Every credential has an owner and an end, and can be revoked; nothing here returns a secret
that is kept.

Source:
    RFC 9106 section 4, second recommended option (argon2id); RFC 6238 (TOTP, 6 digits, 30 s, one step of drift).
"""

import functools
import hmac
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal

from factory.accounts.errors import CredentialError, WeakPasswordError
from factory.accounts.keys import AccountKeys
from factory.registry.schema import table
from factory.registry.store import Registry
from nodes.contract import canonical
from nodes.contract.statement import time_text

if TYPE_CHECKING:
    from argon2 import PasswordHasher

Kind = Literal["password", "totp", "api_key", "session", "invitation", "challenge"]

PASSWORD_MIN, PASSWORD_MAX = 12, 256
"""Length of a password in characters (GB/T 22239 asks for complexity; NIST SP 800-63B-4 3.1.1 for length)."""

PASSWORD_DAYS, KEY_DAYS_MAX, INVITATION_DAYS = 365, 365, 7
"""How long a password and an invitation count, and an API key at most, in days."""

SESSION_HOURS = 8
"""How long a session counts, in hours: one working day."""

TOTP_STEP_S = 30
_PREFIXES: Mapping[str, Kind] = {"sfk": "api_key", "sfs": "session", "sfi": "invitation", "sfc": "challenge"}
_PUBLIC = re.compile(r"[0-9a-f]{16}")
_FOREVER = "9999-12-31T23:59:59Z"


@dataclass(frozen=True, slots=True)
class Credential:
    """What may be shown of a credential.

    Attributes:
        id: public part.
        owner: account, or ``key/<actor id>`` for sessions opened by a key the agency lists.
        kind: of it.
        created_at, expires_at, revoked_at: as text; ``revoked_at`` is empty while it counts.
        settings: label, purposes, role it was opened for.
    """

    id: str
    owner: str
    kind: str
    created_at: str
    expires_at: str
    revoked_at: str
    settings: Mapping[str, Any]


class Credentials:
    """The credentials of a registry. Callers hold the transaction where several belong together."""

    def __init__(self, registry: Registry, keys: AccountKeys, hasher: "PasswordHasher | None" = None) -> None:
        """Keep credentials in ``registry``, sealed by ``keys``; ``hasher`` has the cost of passwords."""
        self._registry = registry
        self._keys = keys
        self._given = hasher

    @functools.cached_property
    def _hasher(self) -> "PasswordHasher":
        from argon2 import PasswordHasher

        return self._given or PasswordHasher()

    @functools.cached_property
    def _nobody(self) -> str:
        """A hash that no password has, of the cost of a real one."""
        return self._hasher.hash(secrets.token_urlsafe(32))

    def set_password(self, owner: str, password: str, *, now: datetime) -> None:
        """Set a password in place of the earlier one; sessions opened before end.

        Raises:
            WeakPasswordError: too short, too long, or holds the owner's name.
        """
        if not PASSWORD_MIN <= len(password) <= PASSWORD_MAX:
            raise WeakPasswordError(f"expected a password of {PASSWORD_MIN} to {PASSWORD_MAX} characters")
        if owner.casefold() in password.casefold() or len(set(password)) < PASSWORD_MIN // 2:
            raise WeakPasswordError("expected a password without the login and with more different characters")
        hashed = self._hasher.hash(password).encode("ascii")
        with self._registry.transaction():
            self.revoke_all(owner, ("password", "session", "invitation"), now=now)
            self._add(
                secrets.token_hex(8),
                owner,
                "password",
                hashed,
                settings={},
                now=now,
                until=now + timedelta(days=PASSWORD_DAYS),
            )

    def check_password(self, owner: str, password: str, *, now: datetime) -> bool:
        """Whether this is the owner's password; takes as long for an owner that is not there.

        Not inside a transaction: it takes its time on purpose.
        """
        from argon2.exceptions import VerificationError

        found = next(iter(self._rows(owner, "password", now)), None)
        hashed = found.secret.decode("ascii") if found is not None else self._nobody
        try:
            self._hasher.verify(hashed, password[: PASSWORD_MAX + 1])
        except VerificationError:
            return False
        return found is not None

    def start_totp(self, owner: str, *, issuer: str, now: datetime) -> str:
        """Return the ``otpauth://`` address of a new secret; it counts once ``confirm_totp`` saw a code of it."""
        import pyotp

        secret = pyotp.random_base32()
        with self._registry.transaction():
            for row in self._rows(owner, "totp", now):
                if not canonical.loads(row.settings)["confirmed"]:
                    self.revoke(row.id, now=now)
            self._add(
                secrets.token_hex(8),
                owner,
                "totp",
                self._keys.seal(secret.encode("ascii")),
                settings={"confirmed": False, "step": 0},
                now=now,
            )
        return pyotp.TOTP(secret).provisioning_uri(name=owner, issuer_name=issuer)

    def confirm_totp(self, owner: str, code: str, *, now: datetime) -> None:
        """Make the secret count that ``start_totp`` gave, in place of an earlier one.

        Raises:
            CredentialError: none was started, or the code is not of it.
        """
        with self._registry.transaction():
            rows = list(self._rows(owner, "totp", now))
            fresh = next((row for row in rows if not canonical.loads(row.settings)["confirmed"]), None)
            if fresh is None or not self._spend(fresh, code, now):
                raise CredentialError("expected the current code of the secret that was just set up")
            for row in rows:
                if row.id != fresh.id:
                    self.revoke(row.id, now=now)

    def check_totp(self, owner: str, code: str, *, now: datetime) -> bool:
        """Whether the code counts; True without a second factor. A code counts once."""
        with self._registry.transaction():
            rows = [row for row in self._rows(owner, "totp", now) if canonical.loads(row.settings)["confirmed"]]
            return not rows or self._spend(rows[0], code, now)

    def issue(
        self, owner: str, kind: Kind, *, now: datetime, until: datetime, settings: Mapping[str, Any] | None = None
    ) -> str:
        """Make a token and return it; it is shown this once."""
        prefix = next(name for name, of in _PREFIXES.items() if of == kind)
        public, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
        self._add(public, owner, kind, _digest(secret), settings=settings or {}, now=now, until=until)
        return f"{prefix}_{public}_{secret}"

    def find(self, token: str, *, now: datetime) -> Credential | None:
        """Return the credential of a token if it counts now."""
        prefix, _, rest = token.partition("_")
        public, _, secret = rest.partition("_")
        credentials = table("credentials")
        name = public if _PUBLIC.fullmatch(public) else ""
        with self._registry.database.reading() as connection:
            row = connection.execute(credentials.select().where(credentials.c.id == name)).first()
        expected = row.secret if row is not None else bytes(32)
        is_right = hmac.compare_digest(_digest(secret), expected)
        if row is None or not is_right or row.kind != _PREFIXES.get(prefix):
            return None
        return _shown(row) if _counts(row, now) else None

    def revoke(self, credential_id: str, *, now: datetime, owner: str | None = None) -> None:
        """End a credential at once.

        Raises:
            CredentialError: there is none that counts, or it is not the owner's.
        """
        credentials = table("credentials")
        query = credentials.update().where(credentials.c.id == credential_id, credentials.c.revoked_at == "")
        if owner is not None:
            query = query.where(credentials.c.owner == owner)
        with self._registry.transaction() as connection:
            if connection.execute(query.values(revoked_at=time_text(now))).rowcount != 1:
                raise CredentialError("expected a credential of this account that counts; list them to see their ids")

    def revoke_all(self, owner: str, kinds: tuple[Kind, ...], *, now: datetime) -> int:
        """End every credential of these kinds; returns how many."""
        credentials = table("credentials")
        query = credentials.update().where(
            credentials.c.owner == owner, credentials.c.kind.in_(kinds), credentials.c.revoked_at == ""
        )
        with self._registry.transaction() as connection:
            return int(connection.execute(query.values(revoked_at=time_text(now))).rowcount)

    def of(self, owner: str) -> list[Credential]:
        """Return what may be shown of an owner's credentials, ended ones too, by age."""
        credentials = table("credentials")
        query = credentials.select().where(credentials.c.owner == owner).order_by("created_at", "id")
        with self._registry.database.reading() as connection:
            return [_shown(row) for row in connection.execute(query)]

    def has(self, owner: str, kind: Kind, *, now: datetime) -> bool:
        """Whether the owner has one of this kind that counts."""
        return any(True for _ in self._rows(owner, kind, now))

    def _add(
        self,
        public: str,
        owner: str,
        kind: Kind,
        secret: bytes,
        *,
        settings: Mapping[str, Any],
        now: datetime,
        until: datetime | None = None,
    ) -> None:
        with self._registry.transaction() as connection:
            connection.execute(
                table("credentials")
                .insert()
                .values(
                    id=public,
                    owner=owner,
                    kind=kind,
                    secret=secret,
                    settings=canonical.dumps(dict(settings)),
                    created_at=time_text(now),
                    expires_at=time_text(until) if until else _FOREVER,
                )
            )

    def _rows(self, owner: str, kind: Kind, now: datetime) -> Iterator[Any]:
        credentials = table("credentials")
        query = credentials.select().where(credentials.c.owner == owner, credentials.c.kind == kind)
        with self._registry.database.reading() as connection:
            found = connection.execute(query.order_by(credentials.c.created_at.desc(), credentials.c.id)).all()
        return (row for row in found if _counts(row, now))

    def _spend(self, row: Any, code: str, now: datetime) -> bool:
        import pyotp

        settings = canonical.loads(row.settings)
        totp = pyotp.TOTP(self._keys.unseal(row.secret).decode("ascii"))
        current = int(now.timestamp()) // TOTP_STEP_S
        spent = settings["step"]
        for step in (current - 1, current, current + 1):
            right = hmac.compare_digest(totp.at(step * TOTP_STEP_S).encode(), code.strip().encode())
            if right and isinstance(spent, int) and step > spent:
                credentials = table("credentials")
                body = canonical.dumps({"confirmed": True, "step": step})
                with self._registry.transaction() as connection:
                    connection.execute(credentials.update().where(credentials.c.id == row.id).values(settings=body))
                return True
        return False


def _counts(row: Any, now: datetime) -> bool:
    return not row.revoked_at and time_text(now) < row.expires_at


def _shown(row: Any) -> Credential:
    return Credential(
        row.id, row.owner, row.kind, row.created_at, row.expires_at, row.revoked_at, canonical.loads(row.settings)
    )


def _digest(secret: str) -> bytes:
    return sha256(secret.encode("utf-8", "surrogatepass")).digest()
