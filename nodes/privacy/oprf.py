"""The department's half of private verification: evaluate blinded elements and prove the key.

Source:
    RFC 9497, sections 2.2.1 (GenerateProof), 3.2.1 (DeriveKeyPair), 3.3.2 (VOPRF).

Privacy:
    The department sees elements that are uniform whatever was asked. Who holds an output
    can compare it with the tag table; without the key no other output can be computed, so
    every guess costs one evaluation, which the node counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from nodes.contract import voprf
from nodes.contract.errors import BadElementError
from nodes.contract.group import rbcl
from nodes.contract.voprf import VOPRF_MODE


@dataclass(frozen=True, slots=True, repr=False)
class EvaluationKey:
    """The secret scalar of one register version. Its repr shows the public half alone.

    Attributes:
        secret: 32 bytes, little-endian, not zero.
    """

    secret: bytes

    def __post_init__(self) -> None:
        if not any(voprf.require_scalar(self.secret)):
            raise BadElementError("expected a key other than zero")

    @classmethod
    def generate(cls) -> "EvaluationKey":
        """Return a fresh key from the system's generator."""
        return cls(bytes(rbcl.crypto_core_ristretto255_scalar_random()))

    @classmethod
    def derive(cls, seed: bytes, info: bytes, *, mode: int = VOPRF_MODE) -> "EvaluationKey":
        """Return the key that RFC 9497 derives from ``seed`` (32 random bytes) and ``info``.

        Raises:
            BadElementError: no key within 256 attempts, which no seed is known to cause.
        """
        data = seed + len(info).to_bytes(2, "big") + info
        for counter in range(256):
            scalar = voprf.hash_to_scalar(data + bytes([counter]), dst=b"DeriveKeyPair" + voprf.context(mode))
            if any(scalar):
                return cls(scalar)
        raise BadElementError("expected a seed that yields a key")

    @property
    def public(self) -> bytes:
        """The committed public key, 32 bytes."""
        return bytes(rbcl.crypto_scalarmult_ristretto255_base(self.secret))

    def __repr__(self) -> str:
        return f"EvaluationKey({self.public.hex()[:12]})"


def evaluate(
    key: EvaluationKey, blinded: Sequence[bytes], *, mode: int = VOPRF_MODE
) -> tuple[tuple[bytes, ...], bytes]:
    """Evaluate a batch of blinded elements and prove that the committed key was used.

    Args:
        key: the register's key.
        blinded: 1 to ``BATCH_MAX`` elements of 32 bytes, as received.
        mode: the RFC's mode.

    Returns:
        Evaluated elements in the same order, and the proof for all of them.

    Raises:
        BadElementError: an element is malformed or the identity, or the number is out of range.
    """
    if not 1 <= len(blinded) <= voprf.BATCH_MAX:
        raise BadElementError(f"expected 1 to {voprf.BATCH_MAX} elements, got {len(blinded)}")
    evaluated = tuple(voprf.multiply(key.secret, voprf.require_element(element)) for element in blinded)
    nonce = bytes(rbcl.crypto_core_ristretto255_scalar_random())
    return evaluated, prove(key, blinded, evaluated, nonce, mode=mode)


def prove(
    key: EvaluationKey, blinded: Sequence[bytes], evaluated: Sequence[bytes], nonce: bytes, *, mode: int = VOPRF_MODE
) -> bytes:
    """Return the proof (challenge and response) that ``evaluated = key * blinded``.

    Args:
        key: the register's key.
        blinded: the elements.
        evaluated: their images.
        nonce: a fresh random scalar; using it twice reveals the key.
        mode: the RFC's mode.

    Source:
        RFC 9497, section 2.2.1; Chaum and Pedersen, CRYPTO 1992.
    """
    public_key = key.public
    folded = voprf.fold(voprf.composites(public_key, blinded, evaluated, mode=mode), blinded)
    image = voprf.multiply(key.secret, folded)
    commitment_base = bytes(rbcl.crypto_scalarmult_ristretto255_base(nonce))
    commitment = voprf.multiply(nonce, folded)
    challenge = voprf.challenge(public_key, (folded, image, commitment_base, commitment), mode=mode)
    product = rbcl.crypto_core_ristretto255_scalar_mul(challenge, key.secret)
    return challenge + bytes(rbcl.crypto_core_ristretto255_scalar_sub(nonce, product))


def evaluate_input(key: EvaluationKey, data: bytes, *, mode: int = VOPRF_MODE) -> bytes:
    """Return the 64-byte output for an input the department holds itself."""
    return voprf.output(data, voprf.multiply(key.secret, voprf.hash_to_group(data, mode=mode)))
