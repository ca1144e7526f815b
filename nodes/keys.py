"""Key files of a home: made once, mode 0600 in a 0700 folder, refused otherwise.

``statement.pem`` ECDSA P-256 (signs), ``sealing.pem`` X25519 (opens what is sealed for this node),
``hub.pem`` ECDSA P-384 (how the hub knows the node), ``tls.pem`` ECDSA P-256 (client certificate),
``commitment.key`` 32 random bytes (keyed commitments; never leaves the node).
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

from nodes.contract.errors import MalformedError
from nodes.contract.signing import SigningKey
from nodes.errors import KeyFileError

STATEMENT, SEALING, HUB, TLS, COMMITMENT = "statement.pem", "sealing.pem", "hub.pem", "tls.pem", "commitment.key"
KEY_FILES = (STATEMENT, SEALING, HUB, TLS, COMMITMENT)


@dataclass(frozen=True, slots=True)
class NodeKeys:
    """The keys the agent itself uses; their repr shows nothing.

    Attributes:
        statement: signs results, refusals and statements.
        sealing: opens sealed messages.
        commitment: 32 bytes of the commitment key.
    """

    statement: SigningKey = field(repr=False)
    sealing: X25519PrivateKey = field(repr=False)
    commitment: bytes = field(repr=False)


def make_keys(folder: Path) -> None:
    """Make all five keys of a node in ``folder``, which must not hold any of them yet.

    Raises:
        KeyFileError: a key file is already there.
    """
    there = [name for name in KEY_FILES if (folder / name).exists()]
    if there:
        raise KeyFileError(f"expected no key yet, {there[0]} is already in {folder}; use `shufang-node keys rotate`")
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    write_private(folder / STATEMENT, _pem(ec.generate_private_key(ec.SECP256R1())))
    write_private(folder / SEALING, _pem(X25519PrivateKey.generate()))
    write_private(folder / HUB, _pem(ec.generate_private_key(ec.SECP384R1())))
    write_private(folder / TLS, _pem(ec.generate_private_key(ec.SECP256R1())))
    write_private(folder / COMMITMENT, secrets.token_bytes(32))


def load_keys(folder: Path) -> NodeKeys:
    """Read the agent's keys.

    Raises:
        KeyFileError: missing, open to others, or not such a key.
    """
    try:
        statement = SigningKey.from_pem(read_private(folder / STATEMENT))
    except MalformedError as error:
        raise KeyFileError(f"expected an ECDSA P-256 key in {folder / STATEMENT}") from error
    commitment = read_private(folder / COMMITMENT)
    if len(commitment) != 32:
        raise KeyFileError(f"expected 32 bytes in {folder / COMMITMENT}, got {len(commitment)}")
    return NodeKeys(statement, load_sealing_key(folder / SEALING), commitment)


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
        raise KeyFileError(f"expected a private key on {curve.name} in {path}")
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


def _pem(key: ec.EllipticCurvePrivateKey | X25519PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _load_pem(path: Path) -> object:
    pem = read_private(path)
    try:
        return serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyFileError(f"expected a PKCS#8 PEM private key in {path}") from error
