"""Private keys at rest: mode 0600 in a folder of mode 0700, encrypted where the folder says with what.

A folder of keys may hold ``passphrase-file``: one line, the path of the file with the passphrase, best
on another device. Then every key that is written there is encrypted, and every key read from there
is opened with it. So a passphrase stands in no argument, no setting and no log.

HomeError
├── HomeMissingError      no such key, or not with this passphrase
├── HomeExistsError       making what is there
└── UnsafeKeyFileError    a key or passphrase that others on the machine may read

Source:
    PKCS#8 (RFC 5958) with PBES2 (RFC 8018) and AES-256, as the cryptography library writes it.
"""

import os
import secrets
import shlex
import stat
from collections.abc import Collection
from pathlib import Path
from typing import ClassVar

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from factory.errors import FactoryError
from factory.files import write_atomic

PrivateKey = ec.EllipticCurvePrivateKey | X25519PrivateKey | Ed25519PrivateKey

NOTE = "passphrase-file"
"""Name of the file in a folder of keys that says where the passphrase is."""

PASSPHRASE_BYTES_MIN = 12
"""Shortest passphrase of encrypted keys."""

OPENED_BY_LIBRARIES = ("tls.pem", "server.pem")
"""Keys that only open connections; the TLS libraries read them from the file, so they stay as they are."""


class HomeError(FactoryError):
    """Root of the errors of identity homes and their keys."""

    code: ClassVar[str] = "home.error"


class HomeMissingError(HomeError):
    """There is no identity home here, or a file of it is missing."""

    code = "home.missing"


class HomeExistsError(HomeError):
    """An identity home is here already; its keys are not overwritten."""

    code = "home.exists"


class UnsafeKeyFileError(HomeError):
    """A key file or its folder can be read by others."""

    code = "home.unsafe_key"


def read_key_file(path: Path) -> bytes:
    """Read a key file if nobody else can.

    Raises:
        HomeMissingError: it is not there.
        UnsafeKeyFileError: it, or its folder, is open to group or others, or it is a link.
    """
    try:
        mode, folder_mode = path.lstat().st_mode, path.parent.stat().st_mode
    except FileNotFoundError:
        raise HomeMissingError(f"expected the key file {path}") from None
    if not stat.S_ISREG(mode) or mode & 0o077:
        raise UnsafeKeyFileError(
            f"expected mode 0600 of {path}, got {stat.S_IMODE(mode):04o}; run: chmod 600 {shlex.quote(str(path))}"
        )
    if folder_mode & 0o077:
        raise UnsafeKeyFileError(
            f"expected mode 0700 of {path.parent}, got {stat.S_IMODE(folder_mode):04o}; run: "
            f"chmod 700 {shlex.quote(str(path.parent))}"
        )
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def load_key(path: Path) -> object:
    """Return the private key in a file, opened with the passphrase of its folder if it is encrypted.

    Raises:
        HomeMissingError: no such file, no PKCS#8 key, or another passphrase.
        UnsafeKeyFileError: others can read it.
    """
    pem = read_key_file(path)
    passphrase = passphrase_of(path.parent) if b"ENCRYPTED" in pem[:64] else None
    try:
        return serialization.load_pem_private_key(pem, passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise HomeMissingError(f"expected a PKCS#8 key in {path}, and its passphrase if it is encrypted") from error


def load_p256_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Return the ECDSA P-256 key in a file.

    Raises:
        HomeError: as ``load_key``, or another kind of key.
    """
    key = load_key(path)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise HomeMissingError(f"expected an ECDSA P-256 key in {path}")
    return key


def write_key_file(path: Path, key: PrivateKey) -> None:
    """Write a private key as PKCS#8 PEM, readable by its owner alone from the first byte on.

    It is encrypted where its folder names a passphrase, but for keys that libraries open themselves.
    """
    passphrase = passphrase_of(path.parent) if path.name not in OPENED_BY_LIBRARIES else None
    write_atomic(path, _pem(key, passphrase), mode=0o600)


def key_pem(path: Path, key: PrivateKey) -> bytes:
    """Return the bytes that ``write_key_file`` writes, for a caller that makes the file itself."""
    return _pem(key, passphrase_of(path.parent))


def prepare_folder(folder: Path, passphrase_file: Path | None) -> None:
    """Make a folder for keys; with a passphrase, everything written there is encrypted from the start.

    Args:
        folder: is made if it is not there.
        passphrase_file: where the passphrase is; made with a random one if it is not there.

    Raises:
        HomeExistsError: the folder names another passphrase already.
        UnsafeKeyFileError: others can read the passphrase, or it is too short.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    if passphrase_file is None:
        return
    wanted = passphrase_file.absolute()
    note = folder / NOTE
    if note.exists() and Path(note.read_text("utf-8").strip()) != wanted:
        raise HomeExistsError(f"expected no other passphrase than that named in {note}")
    if not wanted.exists():
        wanted.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(wanted, secrets.token_hex(32).encode("ascii") + b"\n", mode=0o600)
    _passphrase(wanted)
    write_atomic(note, f"{wanted}\n".encode(), mode=0o600)


def encrypt_folder(folder: Path, passphrase_file: Path, *, leave: Collection[str] = OPENED_BY_LIBRARIES) -> list[str]:
    """Encrypt the keys of a folder, and return their names. Safe to repeat after a crash.

    Raises:
        HomeExistsError: they are encrypted already.
        UnsafeKeyFileError: the passphrase can be read by others, or it is too short.
    """
    paths = [
        path for path in sorted(folder.glob("*.pem")) if path.name not in leave and not path.name.endswith(".pub.pem")
    ]
    plain = [path for path in paths if b"ENCRYPTED" not in read_key_file(path)[:64]]
    if not plain:
        raise HomeExistsError(f"expected keys that are not encrypted yet in {folder}")
    loaded = {path: load_key(path) for path in plain}
    # The note goes first: a crash in between leaves plain keys, which are still read.
    prepare_folder(folder, passphrase_file)
    for path, key in loaded.items():
        if isinstance(key, PrivateKey):
            write_key_file(path, key)
    return [path.name for path in plain]


def passphrase_of(folder: Path) -> bytes | None:
    """Return the passphrase of a folder of keys, or None where they are not encrypted.

    Raises:
        HomeMissingError: the file that the note names is not there.
        UnsafeKeyFileError: others can read it.
    """
    note = folder / NOTE
    return _passphrase(Path(read_key_file(note).decode("utf-8").strip())) if note.exists() else None


def _passphrase(path: Path) -> bytes:
    passphrase = read_key_file(path).strip()
    if len(passphrase) < PASSPHRASE_BYTES_MIN:
        raise UnsafeKeyFileError(f"expected a passphrase of at least {PASSPHRASE_BYTES_MIN} bytes in {path}")
    return passphrase


def _pem(key: PrivateKey, passphrase: bytes | None) -> bytes:
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase is not None:
        encryption = serialization.BestAvailableEncryption(passphrase)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
