"""Signed envelopes: DSSE over canonical bytes, one ECDSA P-256 signature each.

The signature covers the payload type and the payload bytes as received; it is checked
before anything is parsed. The payload type names the kind and version of message, so a
grant can never be read as an order.

Source:
    DSSE v1.0.2 (github.com/secure-systems-lab/dsse), protocol.md; FIPS 186-5, ECDSA.
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from nodes.contract import canonical
from nodes.contract.errors import BadSignatureError, MalformedError

_ECDSA = ec.ECDSA(hashes.SHA256())


def sha256_hex(data: bytes) -> str:
    """Return the SHA-256 digest of ``data`` as 64 lower-case hex digits."""
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True, slots=True)
class VerifyKey:
    """A public ECDSA P-256 key, known by the SHA-256 of its SubjectPublicKeyInfo.

    Attributes:
        spki: DER bytes of the SubjectPublicKeyInfo.
    """

    spki: bytes

    def __post_init__(self) -> None:
        self._public()

    @property
    def keyid(self) -> str:
        """SHA-256 of ``spki`` as hex; the name of the key in every envelope."""
        return sha256_hex(self.spki)

    def verify(self, signature: bytes, message: bytes) -> None:
        """Check a DER-encoded ECDSA signature over ``message``.

        Raises:
            BadSignatureError: it does not verify.
        """
        try:
            self._public().verify(signature, message, _ECDSA)
        except InvalidSignature as error:
            raise BadSignatureError(f"signature of key {self.keyid[:12]} does not verify") from error

    def _public(self) -> ec.EllipticCurvePublicKey:
        try:
            key = serialization.load_der_public_key(self.spki)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise MalformedError("expected a DER SubjectPublicKeyInfo") from error
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise MalformedError("expected an ECDSA P-256 public key")
        return key


@dataclass(frozen=True, slots=True, repr=False)
class SigningKey:
    """A private ECDSA P-256 key. Its repr shows the key id alone."""

    private: ec.EllipticCurvePrivateKey

    @classmethod
    def from_pem(cls, pem: bytes, *, password: bytes | None = None) -> "SigningKey":
        """Read a PKCS#8 PEM key.

        Raises:
            MalformedError: not a P-256 private key, or a wrong password.
        """
        try:
            key = serialization.load_pem_private_key(pem, password)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise MalformedError("expected a PKCS#8 PEM private key (and its password, if it is encrypted)") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise MalformedError("expected an ECDSA P-256 private key")
        return cls(key)

    @property
    def public(self) -> VerifyKey:
        """The public half."""
        spki = self.private.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return VerifyKey(spki)

    def sign(self, message: bytes) -> bytes:
        """Return a DER-encoded ECDSA signature with SHA-256 over ``message``."""
        return self.private.sign(message, _ECDSA)

    def __repr__(self) -> str:
        return f"SigningKey({self.public.keyid[:12]})"


@dataclass(frozen=True, slots=True)
class Envelope:
    """A DSSE envelope with exactly one signature.

    Attributes:
        payload_type: media type that names the kind and version of the payload.
        payload: the signed bytes.
        keyid: SHA-256 of the signer's SubjectPublicKeyInfo, as hex.
        signature: DER-encoded ECDSA signature over the pre-authentication encoding.
    """

    payload_type: str
    payload: bytes
    keyid: str
    signature: bytes

    @property
    def payload_sha256(self) -> str:
        """Digest by which other messages name this payload."""
        return sha256_hex(self.payload)

    def to_bytes(self) -> bytes:
        """Return the envelope as canonical JSON bytes."""
        return canonical.dumps(
            {
                "payload": base64.b64encode(self.payload).decode("ascii"),
                "payloadType": self.payload_type,
                "signatures": [{"keyid": self.keyid, "sig": base64.b64encode(self.signature).decode("ascii")}],
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> "Envelope":
        """Parse an envelope without trusting it.

        Raises:
            MalformedError: other keys, not exactly one signature, or not base64.
            TooLargeError: longer than a header may be.
        """
        value = canonical.loads(data)
        signatures = value.get("signatures")
        if set(value) != {"payload", "payloadType", "signatures"} or not isinstance(signatures, list):
            raise MalformedError("expected a DSSE envelope with payload, payloadType and signatures")
        if len(signatures) != 1 or not isinstance(signatures[0], dict) or set(signatures[0]) != {"keyid", "sig"}:
            raise MalformedError("expected exactly one signature with keyid and sig")
        payload, payload_type = value["payload"], value["payloadType"]
        keyid, signature = signatures[0]["keyid"], signatures[0]["sig"]
        if not (
            isinstance(payload, str)
            and isinstance(payload_type, str)
            and isinstance(keyid, str)
            and isinstance(signature, str)
        ):
            raise MalformedError("expected text in every field of the envelope")
        return cls(payload_type, _unbase64(payload), keyid, _unbase64(signature))

    def open(self, key: VerifyKey, payload_type: str) -> bytes:
        """Verify the envelope and return its payload.

        Args:
            key: the only key that is accepted.
            payload_type: the only payload type that is accepted.

        Raises:
            BadSignatureError: another key, another type, or a signature that does not verify.
        """
        if self.payload_type != payload_type:
            raise BadSignatureError(f"expected payload type {payload_type}, got another one")
        if self.keyid != key.keyid:
            raise BadSignatureError(f"expected a signature of key {key.keyid[:12]}, got another key")
        key.verify(self.signature, pae(self.payload_type, self.payload))
        return self.payload


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return DSSE's pre-authentication encoding, the bytes that are signed."""
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign(key: SigningKey, payload_type: str, payload: bytes) -> Envelope:
    """Sign ``payload`` under ``payload_type`` and return the envelope."""
    return Envelope(payload_type, payload, key.public.keyid, key.sign(pae(payload_type, payload)))


def _unbase64(text: str) -> bytes:
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise MalformedError("expected standard base64") from error
    if base64.b64encode(data).decode("ascii") != text:
        raise MalformedError("expected canonical base64 with padding")
    return data
