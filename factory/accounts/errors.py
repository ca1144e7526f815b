"""Errors of accounts and authentication.

AccountError
├── UnauthenticatedError     no identity, or none that counts now; never says which part was wrong
├── LockedError              too many failures with this login; the same for logins nobody has
├── WeakPasswordError        the new password is too short, too long or too obvious
└── CredentialError          no such credential of this account, or it cannot be used for this
"""

from typing import ClassVar

from factory.errors import FactoryError


class AccountError(FactoryError):
    """Root of the errors of ``factory.accounts``."""

    code: ClassVar[str] = "accounts.error"


class UnauthenticatedError(AccountError):
    """No identity was shown, or none that counts now."""

    code = "accounts.unauthenticated"

    def __init__(self, message: str = "expected a login, key or session that counts now; sign in again") -> None:
        super().__init__(message)


class LockedError(AccountError):
    """Too many failures with this login, whoever it belongs to."""

    code = "accounts.locked"
    retryable = True


class WeakPasswordError(AccountError):
    """The new password is too short, too long or too obvious."""

    code = "accounts.weak_password"


class CredentialError(AccountError):
    """There is no such credential of this account, or it cannot be used for this."""

    code = "accounts.credential"
