"""Ed25519 keys of logs and witnesses: key files as ``factory.key_files`` has them.

A log signs checkpoints (signed-note type 0x01), a witness cosigns them (type 0x04). One key
has one name and one use; every yearly shard of a log has its own.

Source:
    c2sp.org/signed-note, c2sp.org/tlog-cosignature, RFC 8032.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from factory.key_files import HomeError, key_pem, load_key, prepare_folder
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


def make_key(path: Path, name: str, *, passphrase_file: Path | None = None) -> NoteSigner:
    """Make a key and store it; an existing file is never overwritten.

    Args:
        path: the file; its folder is made.
        name: the log's origin, or the witness's name.
        passphrase_file: encrypts the keys of this folder at rest; made if it is not there.

    Raises:
        LogKeyError: the file exists.
        HomeError: the passphrase cannot be used.
    """
    prepare_folder(path.parent, passphrase_file)
    private = Ed25519PrivateKey.generate()
    pem = key_pem(path, private)
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
        LogKeyError: missing, readable by group or others, encrypted under another passphrase, or not an Ed25519 key.
    """
    try:
        key = load_key(path)
    except HomeError as error:
        raise LogKeyError(str(error)) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise LogKeyError(f"expected an Ed25519 key at {path}")
    return NoteSigner(name, key)
