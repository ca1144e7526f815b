"""Sealed bytes from one party to another, unreadable to everybody between.

HPKE (RFC 9180, base mode) with X25519, HKDF-SHA256 and ChaCha20-Poly1305. The header that
says who sends what to whom in which session is the HPKE ``info``, so a sealed message
moved to another session, sender, recipient, label or place does not open. HPKE's base
mode does not name the sender: the message that carries the sealed bytes is signed.

Source:
    RFC 9180, sections 5.1.1 and 7; sender authentication by signing the ciphertext under
    a header with both identities as in ISO/IEC 11770-3, mechanism 6.
"""

from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from nodes.contract import canonical
from nodes.contract.errors import BadSealError, MalformedError

_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)


@dataclass(frozen=True, slots=True)
class SealHeader:
    """Where a sealed message belongs.

    Attributes:
        session_id: the granted session.
        sender: actor id of the party that seals.
        recipient: actor id of the only party that can open.
        label: what it is, e.g. ``"secagg.shares"``.
        sequence: number of this message from this sender to this recipient under this
            label, from 0; each number is used once.
    """

    session_id: str
    sender: str
    recipient: str
    label: str
    sequence: int

    def to_info(self) -> bytes:
        """Return the header as the HPKE ``info`` bytes."""
        return canonical.dumps(
            {
                "context": "shufang/v1/sealed",
                "label": self.label,
                "recipient": self.recipient,
                "sender": self.sender,
                "sequence": self.sequence,
                "session_id": self.session_id,
            }
        )


def seal(plaintext: bytes, recipient_key: bytes, header: SealHeader) -> bytes:
    """Seal ``plaintext`` for the holder of ``recipient_key``.

    Args:
        plaintext: any length.
        recipient_key: 32 raw bytes of the recipient's certified X25519 key.
        header: where the message belongs.

    Returns:
        Encapsulated key (32 bytes) followed by ciphertext and tag.

    Raises:
        MalformedError: the key is not an X25519 public key, or one of low order (RFC 9180, section 7.1.4).
    """
    try:
        public = X25519PublicKey.from_public_bytes(recipient_key)
        return bytes(_SUITE.encrypt(plaintext, public, header.to_info()))
    except ValueError as error:
        raise MalformedError("expected 32 bytes of a usable X25519 public key") from error


def unseal(sealed: bytes, private_key: X25519PrivateKey, header: SealHeader) -> bytes:
    """Open what ``seal`` made for this key and header.

    Raises:
        BadSealError: other key, other header, or altered bytes.
    """
    try:
        return bytes(_SUITE.decrypt(sealed, private_key, header.to_info()))
    except (InvalidTag, ValueError) as error:
        raise BadSealError(
            f"sealed {header.label} from {header.sender} does not open for {header.recipient}"
        ) from error
