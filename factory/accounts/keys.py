"""The key of a platform's accounts: seals TOTP secrets at rest and hides who the natural persons are.

One file of 32 random bytes in the home, mode 0600; two keys are derived from it, so that
neither can stand in for the other.

Source:
    RFC 5869 (HKDF); the Fernet specification (AES-128-CBC with HMAC-SHA256); RFC 2104 (HMAC).
"""

import base64
import hmac
import secrets
from hashlib import sha256
from pathlib import Path

from cryptography.fernet import Fernet
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from factory.files import locked, write_atomic
from factory.key_files import HomeError

FILE = "accounts.key"
_BYTES = 32


class AccountKeys:
    """The derived keys; the repr shows none of them."""

    def __init__(self, master: bytes) -> None:
        """Derive both keys from 32 random bytes."""
        if len(master) != _BYTES:
            raise ValueError("expected 32 bytes")
        self._fernet = Fernet(base64.urlsafe_b64encode(_derive(master, b"shufang accounts sealing v1")))
        self._identity = _derive(master, b"shufang accounts identity v1")

    def __repr__(self) -> str:
        return "AccountKeys(…)"

    @classmethod
    def of_home(cls, home: Path) -> "AccountKeys":
        """Read the file in a home, or make it.

        Raises:
            HomeError: others can read it, or it is no such key.
        """
        folder = home / "keys"
        with locked(folder):
            path = folder / FILE
            if not path.exists():
                write_atomic(path, secrets.token_bytes(_BYTES), mode=0o600)
        if path.stat().st_mode & 0o077:
            raise HomeError(f"expected {path} to be readable by its owner alone; run: chmod 600 {path}")
        master = path.read_bytes()
        if len(master) != _BYTES:
            raise HomeError(f"expected 32 bytes in {path}, got {len(master)}; restore it from the backup")
        return cls(master)

    def seal(self, secret: bytes) -> bytes:
        """Encrypt a secret for keeping."""
        return self._fernet.encrypt(secret)

    def unseal(self, sealed: bytes) -> bytes:
        """Decrypt what ``seal`` made.

        Raises:
            HomeError: another key made it.
        """
        from cryptography.fernet import InvalidToken

        try:
            return self._fernet.decrypt(sealed)
        except InvalidToken:
            raise HomeError(f"expected a secret sealed by this home; restore {FILE} from the backup") from None

    def identity_digest(self, identity: str) -> str:
        """Return the pseudonym of a natural person: hexadecimal, 64 digits.

        Privacy:
            Without the key a number cannot be tried against it.
        """
        plain = "".join(identity.split()).casefold()
        return hmac.new(self._identity, plain.encode(), sha256).hexdigest()


def _derive(master: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=info).derive(master)
