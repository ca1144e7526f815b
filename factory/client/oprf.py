"""The asker's half of RFC 9497: blind an input, check the proof, finish the output.

Source:
    RFC 9497, sections 2.2.2 (VerifyProof) and 3.3.2 (VOPRF).

Privacy:
    The blinded element is uniform: it says nothing about the input, not even to who holds
    the key. The blind never leaves the asker and serves one input once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from nodes.contract import voprf
from nodes.contract.errors import BadElementError, BadProofError
from nodes.contract.group import rbcl
from nodes.contract.voprf import VOPRF_MODE


@dataclass(frozen=True, slots=True, repr=False)
class Blinded:
    """One blinded input. Its repr shows nothing.

    Attributes:
        data: the input.
        blind: the secret scalar.
        element: what is sent.
    """

    data: bytes
    blind: bytes
    element: bytes

    def __repr__(self) -> str:
        return "Blinded()"


def blind(data: bytes) -> Blinded:
    """Blind ``data`` with a fresh random scalar.

    Raises:
        BadElementError: the input is too long.
    """
    return blind_with(data, bytes(rbcl.crypto_core_ristretto255_scalar_random()))


def blind_with(data: bytes, scalar: bytes, *, mode: int = VOPRF_MODE) -> Blinded:
    """Blind ``data`` with ``scalar``, which must be random and used for nothing else."""
    return Blinded(data, scalar, voprf.multiply(voprf.require_scalar(scalar), voprf.hash_to_group(data, mode=mode)))


def verify(
    public_key: bytes, blinded: Sequence[bytes], evaluated: Sequence[bytes], proof: bytes, *, mode: int = VOPRF_MODE
) -> None:
    """Check that ``evaluated`` was made from ``blinded`` with the key behind ``public_key``.

    Raises:
        BadElementError: an element or scalar is malformed, or the identity.
        BadProofError: the proof does not hold, or the numbers of elements differ.
    """
    if not blinded or len(blinded) != len(evaluated) or len(proof) != voprf.PROOF_BYTES:
        raise BadProofError("expected one evaluated element per blinded one, and a proof of 64 bytes")
    for element in (public_key, *blinded, *evaluated):
        voprf.require_element(element)
    stated, response = voprf.require_scalar(proof[:32]), voprf.require_scalar(proof[32:])
    weights = voprf.composites(public_key, blinded, evaluated, mode=mode)
    folded, image = voprf.fold(weights, blinded), voprf.fold(weights, evaluated)
    add = rbcl.crypto_core_ristretto255_add
    try:
        base = bytes(rbcl.crypto_scalarmult_ristretto255_base(response))
        commitment_base = bytes(add(base, voprf.multiply(stated, public_key)))
        commitment = bytes(add(voprf.multiply(response, folded), voprf.multiply(stated, image)))
    except (BadElementError, RuntimeError) as error:  # a zero challenge or response: no honest prover makes one
        raise BadProofError("expected a proof without zeros") from error
    expected = voprf.challenge(public_key, (folded, image, commitment_base, commitment), mode=mode)
    if expected != stated:
        raise BadProofError("expected an evaluation with the key the department has committed to")


def finish(blinded: Blinded, evaluated: bytes) -> bytes:
    """Return the function's 64-byte value at the blinded input, from a verified evaluation."""
    inverse = bytes(rbcl.crypto_core_ristretto255_scalar_invert(blinded.blind))
    return voprf.output(blinded.data, voprf.multiply(inverse, voprf.require_element(evaluated)))
