"""DSSE envelopes with one ECDSA P-256 signature over an in-toto statement.

One signature per envelope, canonical bytes throughout: an envelope has one spelling, so its
digest and its log entry name it exactly. Where several actors vouch for the same fact, each
signs the same payload in an envelope of its own.

Source:
    DSSE v1.0.2 (envelope, pre-authentication encoding); in-toto Attestation Framework v1.
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from products import canonical
from products.errors import BadSignatureError, MalformedError
from products.limits import LIMITS

PAYLOAD_TYPE = "application/vnd.in-toto+json"
_ECDSA = ec.ECDSA(hashes.SHA256())


@dataclass(frozen=True, slots=True)
class Envelope:
    """A parsed envelope; nothing in it is believed yet.

    Attributes:
        payload: the signed statement.
        keyid: SHA-256 of the signer's SubjectPublicKeyInfo, as hex.
        signature: DER-encoded ECDSA signature.
    """

    payload: bytes
    keyid: str
    signature: bytes

    @property
    def payload_sha256(self) -> str:
        """Digest by which statements name this payload, as hex."""
        return hashlib.sha256(self.payload).hexdigest()

    @property
    def pae(self) -> bytes:
        """The bytes that are signed."""
        return b"DSSEv1 %d %b %d %b" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(self.payload), self.payload)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Envelope":
        """Parse an envelope.

        Raises:
            MalformedError: not canonical, another payload type, not exactly one signature.
            TooLargeError: over the limit.
        """
        value = canonical.loads(data, size_max=LIMITS.envelope_bytes_max)
        if set(value) != {"payload", "payloadType", "signatures"}:
            raise MalformedError("expected an envelope of payload, payloadType and signatures")
        if value["payloadType"] != PAYLOAD_TYPE:
            raise MalformedError(f"expected the payload type {PAYLOAD_TYPE}")
        match value["signatures"]:
            case [{"keyid": str(keyid), "sig": str(signature), **rest}] if not rest:
                return cls(_unbase64(value["payload"]), keyid, _unbase64(signature))
        raise MalformedError("expected exactly one signature of keyid and sig")

    def verify(self, spki: bytes) -> None:
        """Check the signature with a DER SubjectPublicKeyInfo.

        Raises:
            BadSignatureError: another key, or it does not verify.
            MalformedError: not an ECDSA P-256 key.
        """
        if hashlib.sha256(spki).hexdigest() != self.keyid:
            raise BadSignatureError("expected the key that the envelope names")
        self.verify_bytes(spki)

    def verify_bytes(self, spki: bytes) -> None:
        """Check the signature alone, whatever id the envelope gives the key.

        Raises:
            BadSignatureError: it does not verify.
            MalformedError: not an ECDSA P-256 key.
        """
        try:
            key = serialization.load_der_public_key(spki)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise MalformedError("expected a DER SubjectPublicKeyInfo") from error
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise MalformedError("expected an ECDSA P-256 public key")
        try:
            key.verify(self.signature, self.pae, _ECDSA)
        except InvalidSignature as error:
            raise BadSignatureError(f"the signature of key {self.keyid[:12]} does not verify") from error


def _unbase64(text: object) -> bytes:
    if not isinstance(text, str):
        raise MalformedError("expected base64 text")
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise MalformedError("expected standard base64") from error
    if base64.b64encode(data).decode("ascii") != text:
        raise MalformedError("expected canonical base64 with padding")
    return data
