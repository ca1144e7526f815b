"""A P-256 key in a PKCS#11 token, behind the interface of a key file.

The private half never leaves the token. ``identity.toml`` names the token; the PIN stands in a
file of its own that only its owner can read. Needs the extra ``hsm`` (python-pkcs11).

    [pkcs11]
    module = "/usr/lib/softhsm/libsofthsm2.so"
    token = "registrar-1"
    pin_file = "pin"                    relative to the home, mode 0600
    statement = "statement"             labels of the keys in the token
    trust = "trust"

Source:
    OASIS PKCS#11 v3.1, mechanism CKM_ECDSA.
"""

# ruff: noqa: ARG002 - the interface's methods that are refused ignore what they are given

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from factory.errors import FactoryError


class TokenError(FactoryError):
    """The token, its PIN or its key does not answer as the settings say."""

    code = "home.token"


@dataclass(frozen=True, slots=True, repr=False)
class Token:
    """Where keys are.

    Attributes:
        module: PKCS#11 library.
        label: of the token.
        pin: user PIN.
    """

    module: Path
    label: str
    pin: str

    def __repr__(self) -> str:
        return f"Token({self.label})"

    def key(self, label: str) -> "TokenKey":
        """Return the private key of this label.

        Raises:
            TokenError: no such library, token or P-256 key, or a wrong PIN.
        """
        try:
            import pkcs11
        except ImportError:
            raise TokenError("expected the extra `hsm` (python-pkcs11) for keys in a token") from None
        try:
            token = pkcs11.lib(str(self.module)).get_token(token_label=self.label)
            try:
                session = token.open(user_pin=self.pin)
            except pkcs11.UserAlreadyLoggedIn:  # by this process, for another key of the same token
                session = token.open()
            private = session.get_key(object_class=pkcs11.ObjectClass.PRIVATE_KEY, label=label)
            public = session.get_key(object_class=pkcs11.ObjectClass.PUBLIC_KEY, label=label)
            point = public[pkcs11.Attribute.EC_POINT]
        except (pkcs11.PKCS11Error, RuntimeError, OSError) as error:
            raise TokenError(
                f"expected the key {label} in the token {self.label}, got {type(error).__name__}"
            ) from error
        # CKA_EC_POINT is a DER OCTET STRING around the uncompressed point of 65 bytes.
        try:
            key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point[-65:])
        except ValueError as error:
            raise TokenError(f"expected a P-256 key {label} in the token {self.label}") from error
        return TokenKey(private, key, label)


class TokenKey(ec.EllipticCurvePrivateKey):
    """A private key that only signs; nothing of it can be written to a file."""

    def __init__(self, handle: Any, public: ec.EllipticCurvePublicKey, label: str) -> None:
        """Wrap the handle of an open session."""
        self._handle, self._public, self._label = handle, public, label

    def __repr__(self) -> str:
        return f"TokenKey({self._label})"

    @property
    def curve(self) -> ec.EllipticCurve:
        """P-256."""
        return self._public.curve

    @property
    def key_size(self) -> int:
        """256 bits."""
        return self._public.key_size

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """Return the public half."""
        return self._public

    def sign(self, data: Any, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        """Return a DER-encoded ECDSA signature with SHA-256, made in the token."""
        import pkcs11

        if not isinstance(signature_algorithm, ec.ECDSA) or not isinstance(
            signature_algorithm.algorithm, hashes.SHA256
        ):
            raise TokenError("expected ECDSA with SHA-256")
        try:
            raw = self._handle.sign(hashlib.sha256(data).digest(), mechanism=pkcs11.Mechanism.ECDSA)
        except pkcs11.PKCS11Error as error:
            raise TokenError(f"the token did not sign with {self._label}: {type(error).__name__}") from error
        half = len(raw) // 2
        return encode_dss_signature(int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big"))

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> NoReturn:
        """Refuse: this key signs only."""
        raise TokenError("expected a signature, not a key exchange, of a key in a token")

    def private_numbers(self) -> NoReturn:
        """Refuse: the key does not leave the token."""
        raise TokenError("a key in a token does not leave it")

    def private_bytes(
        self,
        encoding: serialization.Encoding,
        format: serialization.PrivateFormat,  # noqa: A002
        encryption_algorithm: serialization.KeySerializationEncryption,
    ) -> NoReturn:
        """Refuse: the key does not leave the token."""
        raise TokenError("a key in a token does not leave it")

    def __copy__(self) -> "TokenKey":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "TokenKey":
        return self


def read_token(settings: Mapping[str, Any], pin: bytes) -> Token:
    """Return the token that the table ``pkcs11`` of ``identity.toml`` names.

    Raises:
        TokenError: a field is missing.
    """
    try:
        return Token(Path(str(settings["module"])), str(settings["token"]), pin.decode("utf-8").strip())
    except KeyError as error:
        raise TokenError(f"expected {error} in the table pkcs11 of identity.toml") from None
