"""Ed25519 keys of logs and witnesses: files of mode 0600 in a folder of mode 0700.

A log signs checkpoints (signed-note type 0x01), a witness cosigns them (type 0x04). One key
has one name and one use; every yearly shard of a log has its own.

Source:
    c2sp.org/signed-note, c2sp.org/tlog-cosignature, RFC 8032.
"""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from factory.log.errors import LogKeyError


@dataclass(frozen=True, slots=True, repr=False)
class NoteSigner:
    """A private key with the name it signs under. Its repr shows the name alone.

    Attributes:
        name: the log's origin, or the witness's name.
        private: Ed25519 key.
    """

    name: str
    private: Ed25519PrivateKey

    def __post_init__(self) -> None:
        if not self.name or "+" in self.name or any(c.isspace() for c in self.name):
            raise ValueError("expected a key name without spaces and plus signs")

    @property
    def public(self) -> bytes:
        """The 32 bytes of the public key."""
        return self.private.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """Return the 64 bytes of the signature over ``message``."""
        return self.private.sign(message)

    def __repr__(self) -> str:
        return f"NoteSigner({self.name})"


def make_key(path: Path, name: str) -> NoteSigner:
    """Make a key and store it; an existing file is never overwritten.

    Raises:
        LogKeyError: the file exists.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.parent.chmod(0o700)
    private = Ed25519PrivateKey.generate()
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise LogKeyError(f"{path} exists already; a key is never overwritten") from error
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(pem)
        stream.flush()
        os.fsync(stream.fileno())
    return NoteSigner(name, private)


def read_key(path: Path, name: str) -> NoteSigner:
    """Read the key at ``path``.

    Raises:
        LogKeyError: missing, readable by group or others, or not an Ed25519 key.
    """
    try:
        for place, kind in ((path.parent, "folder"), (path, "file")):
            if stat.S_IMODE(place.stat().st_mode) & 0o077:
                raise LogKeyError(f"expected the key {kind} {place} to be closed to others: chmod go-rwx it")
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except OSError as error:
        raise LogKeyError(f"expected a key at {path}; it cannot be read ({error.strerror})") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise LogKeyError(f"expected a PKCS#8 PEM key at {path}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise LogKeyError(f"expected an Ed25519 key at {path}")
    return NoteSigner(name, key)
