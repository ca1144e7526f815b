"""Key files of a home: made once, mode 0600 in a 0700 folder, refused otherwise; encrypted if the officer wants it.

``statement.pem`` ECDSA P-256 (signs), ``sealing.pem`` X25519 (opens what is sealed for this node),
``hub.pem`` ECDSA P-384 (how the hub knows the node), ``tls.pem`` ECDSA P-256 (client certificate),
``commitment.key`` 32 random bytes (keyed commitments; never leaves the node), and ``sm2.key`` the 32
bytes of an SM2 key in nodes that make second signatures.

The folder may hold ``passphrase-file``: one line, the path of the file with the passphrase, best on
another device. Then all but ``hub.pem`` and ``tls.pem`` are encrypted: those two only open connections,
and the libraries that use them read them from the file.

Source:
    PKCS#8 (RFC 5958) with PBES2 (RFC 8018) and AES-256, as the cryptography library writes it.
"""

import os
import secrets
import shlex
import stat
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from nodes.contract import gm
from nodes.contract.signing import SigningKey
from nodes.errors import KeyFileError

STATEMENT, SEALING, HUB, TLS, COMMITMENT = "statement.pem", "sealing.pem", "hub.pem", "tls.pem", "commitment.key"
KEY_FILES = (STATEMENT, SEALING, HUB, TLS, COMMITMENT)
SM2 = "sm2.key"
NOTE = "passphrase-file"
"""Names the file with the passphrase of the folder's keys."""
PASSPHRASE_BYTES_MIN = 12
"""Shortest passphrase of encrypted keys."""


@dataclass(frozen=True, slots=True)
class NodeKeys:
    """The keys the agent itself uses; their repr shows nothing.

    Attributes:
        statement: signs results, refusals and statements.
        sealing: opens sealed messages.
        commitment: 32 bytes of the commitment key.
        sm2: 32 bytes of the key of second signatures, or None.
    """

    statement: SigningKey = field(repr=False)
    sealing: X25519PrivateKey = field(repr=False)
    commitment: bytes = field(repr=False)
    sm2: bytes | None = field(repr=False, default=None)


def make_keys(folder: Path, *, passphrase_file: Path | None = None, with_sm2: bool = False) -> None:
    """Make all five keys of a node in ``folder``, which must not hold any of them yet.

    Args:
        folder: for the keys.
        passphrase_file: encrypts them at rest; made with a random passphrase if it is not there.
        with_sm2: make an SM2 key too (extra ``gm``).

    Raises:
        KeyFileError: a key file is already there, or the passphrase is too short or open to others.
    """
    there = [name for name in KEY_FILES if (folder / name).exists()]
    if there:
        raise KeyFileError(f"expected no key yet, {there[0]} is already in {folder}; use `shufang-node keys rotate`")
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    passphrase = _name_passphrase(folder, passphrase_file) if passphrase_file is not None else None
    write_private(folder / STATEMENT, _pem(ec.generate_private_key(ec.SECP256R1()), passphrase))
    write_private(folder / SEALING, _pem(X25519PrivateKey.generate(), passphrase))
    write_private(folder / HUB, _pem(ec.generate_private_key(ec.SECP384R1())))
    write_private(folder / TLS, _pem(ec.generate_private_key(ec.SECP256R1())))
    write_private(folder / COMMITMENT, _boxed(secrets.token_bytes(32), passphrase))
    if with_sm2:
        write_private(folder / SM2, _boxed(gm.make_key(), passphrase))


def passphrase_file_of(folder: Path) -> Path | None:
    """Return where the passphrase of a folder of keys is, or None where they are not encrypted.

    Raises:
        KeyFileError: others can change where it is said to be.
    """
    note = folder / NOTE
    return Path(read_private(note).decode("utf-8").strip()) if note.exists() else None


def encrypt_keys(folder: Path, passphrase_file: Path) -> list[str]:
    """Encrypt the keys of a node at rest, and return their names. Safe to repeat after a crash.

    Raises:
        KeyFileError: they are encrypted already, or the passphrase is too short or open to others.
    """
    names = [name for name in (STATEMENT, SEALING, COMMITMENT, SM2) if name != SM2 or (folder / SM2).exists()]
    plain = [name for name in names if not _is_encrypted(read_private(folder / name))]
    if not plain:
        raise KeyFileError(f"expected keys that are not encrypted yet in {folder}")
    content = {name: read_private(folder / name) for name in plain}
    # The note goes first: a crash in between leaves plain keys, which are still read.
    passphrase = _name_passphrase(folder, passphrase_file)
    for name in plain:
        if name in (COMMITMENT, SM2):
            sealed = _boxed(content[name], passphrase)
        else:
            key = _load_pem(folder / name)
            if not isinstance(key, ec.EllipticCurvePrivateKey | X25519PrivateKey):
                raise KeyFileError(f"expected a private key of this node in {folder / name}")
            sealed = _pem(key, passphrase)
        part = folder / f"{name}.part"
        part.unlink(missing_ok=True)
        write_private(part, sealed)
        part.replace(folder / name)
    return plain


def load_keys(folder: Path) -> NodeKeys:
    """Read the agent's keys.

    Raises:
        KeyFileError: missing, open to others, or not such a key.
    """
    statement, sealing = load_statement_key(folder / STATEMENT), load_sealing_key(folder / SEALING)
    return NodeKeys(statement, sealing, _load_secret(folder / COMMITMENT), load_sm2_key(folder))


def load_sm2_key(folder: Path) -> bytes | None:
    """Read the key of second signatures, 32 bytes, or None in nodes that make none.

    Raises:
        KeyFileError: open to others, or not 32 bytes.
    """
    return _load_secret(folder / SM2) if (folder / SM2).exists() else None


def _load_secret(path: Path) -> bytes:
    secret = read_private(path)
    if _is_encrypted(secret):
        secret = load_sealing_key(path).private_bytes_raw()
    if len(secret) != 32:
        raise KeyFileError(f"expected 32 bytes in {path}, got {len(secret)}")
    return secret


def load_statement_key(path: Path) -> SigningKey:
    """Read an ECDSA P-256 key file.

    Raises:
        KeyFileError: missing, open to others, or not such a key.
    """
    return SigningKey(load_ec_key(path, ec.SECP256R1))


def load_sealing_key(path: Path) -> X25519PrivateKey:
    """Read an X25519 key file.

    Raises:
        KeyFileError: missing, open to others, or not such a key.
    """
    key = _load_pem(path)
    if not isinstance(key, X25519PrivateKey):
        raise KeyFileError(f"expected an X25519 private key in {path}")
    return key


def load_ec_key(path: Path, curve: type[ec.EllipticCurve]) -> ec.EllipticCurvePrivateKey:
    """Read an elliptic-curve key file of one curve.

    Raises:
        KeyFileError: missing, open to others, or not such a key.
    """
    key = _load_pem(path)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, curve):
        name = "P-256" if curve is ec.SECP256R1 else "P-384"
        raise KeyFileError(f"expected a private key on {name} in {path}")
    return key


def read_private(path: Path) -> bytes:
    """Read a private file after checking that nobody else may.

    Raises:
        KeyFileError: missing, or readable or writable by group or others, or in such a folder.
    """
    require_private(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise KeyFileError(f"expected to be able to read {path} ({error.strerror})") from error


def require_private(path: Path) -> None:
    """Check that a key file and its folder belong to one user alone.

    Raises:
        KeyFileError: missing, or open to group or others.
    """
    try:
        mode, folder_mode = path.stat().st_mode, path.parent.stat().st_mode
    except FileNotFoundError as error:
        raise KeyFileError(f"expected a key file {path}; make keys with `shufang-node init`") from error
    except OSError as error:
        raise KeyFileError(f"expected to be able to read {path} ({error.strerror})") from error
    if stat.S_IMODE(mode) & 0o077:
        raise KeyFileError(
            f"expected mode 0600 of {path}, got {stat.S_IMODE(mode):04o}; run: chmod 600 {shlex.quote(str(path))}"
        )
    if stat.S_IMODE(folder_mode) & 0o077:
        raise KeyFileError(
            f"expected mode 0700 of {path.parent}, got {stat.S_IMODE(folder_mode):04o}; run: "
            f"chmod 700 {shlex.quote(str(path.parent))}"
        )


def write_private(path: Path, content: bytes) -> None:
    """Write a new file with mode 0600, durably.

    Raises:
        KeyFileError: the file exists, or the disk refuses it.
    """
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise KeyFileError(f"expected to be able to make {path} ({error.strerror})") from error


def public_der(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the DER SubjectPublicKeyInfo of a private key's public half."""
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _pem(key: ec.EllipticCurvePrivateKey | X25519PrivateKey, passphrase: bytes | None = None) -> bytes:
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase is not None:
        encryption = serialization.BestAvailableEncryption(passphrase)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def _boxed(secret: bytes, passphrase: bytes | None) -> bytes:
    """Return 32 secret bytes as they are kept: raw, or in the encrypted form of a key of 32 bytes."""
    return secret if passphrase is None else _pem(X25519PrivateKey.from_private_bytes(secret), passphrase)


def _is_encrypted(content: bytes) -> bool:
    return b"ENCRYPTED" in content[:64]


def _name_passphrase(folder: Path, passphrase_file: Path) -> bytes:
    """Note where the passphrase is, make it if it is not there, and return it."""
    wanted, named = passphrase_file.absolute(), passphrase_file_of(folder)
    if named not in (None, wanted):
        raise KeyFileError(f"expected no other passphrase than that named in {folder / NOTE}")
    if not wanted.exists():
        wanted.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(wanted, secrets.token_hex(32).encode("ascii") + b"\n")
    passphrase = _passphrase(wanted)
    if named is None:
        write_private(folder / NOTE, f"{wanted}\n".encode())
    return passphrase


def _passphrase(path: Path) -> bytes:
    passphrase = read_private(path).strip()
    if len(passphrase) < PASSPHRASE_BYTES_MIN:
        raise KeyFileError(f"expected a passphrase of at least {PASSPHRASE_BYTES_MIN} bytes in {path}")
    return passphrase


def _load_pem(path: Path) -> object:
    pem, passphrase = read_private(path), None
    if _is_encrypted(pem):
        named = passphrase_file_of(path.parent)
        passphrase = _passphrase(named) if named is not None else None
    try:
        return serialization.load_pem_private_key(pem, passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyFileError(
            f"expected a PKCS#8 PEM private key in {path}, and its passphrase if it is encrypted"
        ) from error
