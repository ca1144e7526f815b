"""What both halves of RFC 9497 share: VOPRF(ristretto255, SHA-512), its hashing and transcripts.

The department's half is ``nodes.privacy.oprf``, the asker's ``factory.client.oprf``. Curve
operations are libsodium's (``rbcl``); this module adds the RFC's hash-to-group, scalars
and the challenge of the proof that one key was used.

Source:
    RFC 9497, sections 2.2, 3.3 and 4.1; RFC 9380, section 5.3.1 (expand_message_xmd);
    RFC 9496 (ristretto255).

Privacy:
    A blinded element is uniform in the group whatever its input. An evaluation tells the
    asker the function's value at that one input and nothing about any other.
"""

import hashlib
from collections.abc import Sequence

from nodes.contract.errors import BadElementError
from nodes.contract.group import rbcl

OPRF_MODE = 0
VOPRF_MODE = 1
ELEMENT_BYTES = 32
SCALAR_BYTES = 32
PROOF_BYTES = 64
OUTPUT_BYTES = 64
BATCH_MAX = 1024
"""Most elements under one proof; RFC 9497 allows 2**16 - 1."""

_IDENTITY = bytes(ELEMENT_BYTES)
_ORDER = 2**252 + 27742317777372353535851937790883648493
_INPUT_BYTES_MAX = 2**16 - 1


def context(mode: int) -> bytes:
    """Return the RFC's context string for ``mode``, which separates its two modes."""
    return b"OPRFV1-" + bytes([mode]) + b"-ristretto255-SHA512"


def hash_to_group(data: bytes, *, mode: int = VOPRF_MODE) -> bytes:
    """Map ``data`` to a group element whose discrete logarithm nobody knows.

    Raises:
        BadElementError: longer than 65 535 bytes, or mapped to the identity (which no known input is).
    """
    if len(data) > _INPUT_BYTES_MAX:
        raise BadElementError(f"expected an input of at most {_INPUT_BYTES_MAX} bytes")
    element = bytes(rbcl.crypto_core_ristretto255_from_hash(_expand(data, b"HashToGroup-" + context(mode))))
    if element == _IDENTITY:
        raise BadElementError("expected an input that does not map to the identity")
    return element


def hash_to_scalar(data: bytes, *, mode: int = VOPRF_MODE, dst: bytes | None = None) -> bytes:
    """Map ``data`` to a scalar; ``dst`` replaces the usual domain separation tag."""
    tag = b"HashToScalar-" + context(mode) if dst is None else dst
    return bytes(rbcl.crypto_core_ristretto255_scalar_reduce(_expand(data, tag)))


def require_element(data: bytes) -> bytes:
    """Return ``data`` if it is a canonical group element other than the identity.

    Raises:
        BadElementError: it is not.
    """
    if len(data) != ELEMENT_BYTES or data == _IDENTITY or not rbcl.crypto_core_ristretto255_is_valid_point(data):
        raise BadElementError("expected a canonical ristretto255 element other than the identity")
    return data


def require_scalar(data: bytes) -> bytes:
    """Return ``data`` if it is a canonical scalar.

    Raises:
        BadElementError: it is not.
    """
    if len(data) != SCALAR_BYTES or int.from_bytes(data, "little") >= _ORDER:
        raise BadElementError("expected a canonical ristretto255 scalar")
    return data


def multiply(scalar: bytes, element: bytes) -> bytes:
    """Return ``scalar * element``.

    Raises:
        BadElementError: the product is the identity.
    """
    try:
        return bytes(rbcl.crypto_scalarmult_ristretto255(scalar, element))
    except RuntimeError as error:
        raise BadElementError("expected a product other than the identity") from error


def composites(
    public_key: bytes, blinded: Sequence[bytes], evaluated: Sequence[bytes], *, mode: int = VOPRF_MODE
) -> list[bytes]:
    """Return the weights with which a batch is folded into one statement.

    Source:
        RFC 9497, section 2.2.1, ComputeComposites.
    """
    seed = hashlib.sha512(_prefixed(public_key) + _prefixed(b"Seed-" + context(mode))).digest()
    weights = []
    for index, (element, image) in enumerate(zip(blinded, evaluated, strict=True)):
        transcript = _prefixed(seed) + index.to_bytes(2, "big") + _prefixed(element) + _prefixed(image) + b"Composite"
        weights.append(hash_to_scalar(transcript, mode=mode))
    return weights


def fold(weights: Sequence[bytes], elements: Sequence[bytes]) -> bytes:
    """Return the weighted sum of ``elements``."""
    total = multiply(weights[0], elements[0])
    for weight, element in zip(weights[1:], elements[1:], strict=True):
        total = bytes(rbcl.crypto_core_ristretto255_add(total, multiply(weight, element)))
    return total


def challenge(public_key: bytes, parts: Sequence[bytes], *, mode: int = VOPRF_MODE) -> bytes:
    """Return the Fiat-Shamir challenge over the key and the four elements M, Z, t2, t3."""
    transcript = b"".join(_prefixed(part) for part in (public_key, *parts)) + b"Challenge"
    return hash_to_scalar(transcript, mode=mode)


def output(data: bytes, unblinded: bytes) -> bytes:
    """Return the function's 64-byte value at ``data``, from the unblinded element."""
    return hashlib.sha512(_prefixed(data) + _prefixed(unblinded) + b"Finalize").digest()


def _prefixed(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


def _expand(message: bytes, dst: bytes) -> bytes:
    """expand_message_xmd with SHA-512 for 64 bytes: one block suffices."""
    suffix = dst + bytes([len(dst)])
    first = hashlib.sha512(bytes(128) + message + (64).to_bytes(2, "big") + b"\x00" + suffix).digest()
    return hashlib.sha512(first + b"\x01" + suffix).digest()
