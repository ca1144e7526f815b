"""Second signatures with SM2 and SM3 over the same bytes as the ECDSA ones: the extra ``gm``.

An actor with an SM2 key signs the pre-authentication encoding of a statement a second time. The
envelope has the same payload; its key id is the SHA-256 of the SM2 key. Keys in files serve tests
and drills: the library is not constant-time; in production the key sits in a certified device.

Source:
    GB/T 32918.2-2016 (signatures), GB/T 32918.5-2017 (curve), GB/T 35276-2017 (encodings); the
    distinguishing identifier is the default of GM/T 0009.
"""

import importlib
from typing import Any

from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from nodes.contract.errors import ContractError
from nodes.contract.signing import Envelope, pae, sha256_hex

USER_ID = b"1234567812345678"
SPKI_PREFIX = bytes.fromhex("3059301306072a8648ce3d020106082a811ccf5501822d034200")
"""DER SubjectPublicKeyInfo of an SM2 key up to the uncompressed point."""


class GmMissingError(ContractError):
    """The extra ``gm`` is not installed."""

    code = "contract.gm_missing"


def make_key() -> bytes:
    """Return a fresh private key, 32 bytes."""
    private: bytes = _gmalg().SM2().generate_keypair()[0]
    return private


def spki_of(private: bytes) -> bytes:
    """Return the DER SubjectPublicKeyInfo of a private key."""
    point: bytes = _gmalg().SM2().generate_pk(private)
    return SPKI_PREFIX + point


def sign(private: bytes, message: bytes) -> bytes:
    """Return a DER-encoded signature.

    Args:
        private: 32 bytes.
        message: for an envelope its pre-authentication encoding.
    """
    gmalg = _gmalg()
    r, s = gmalg.SM2(private, USER_ID, gmalg.SM2().generate_pk(private)).sign(message)
    return encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big"))


def countersign(private: bytes, envelope: Envelope) -> bytes:
    """Return the envelope of the second signature over what ``envelope`` signs; the caller has verified it."""
    signature = sign(private, pae(envelope.payload_type, envelope.payload))
    return Envelope(envelope.payload_type, envelope.payload, sha256_hex(spki_of(private)), signature).to_bytes()


def _gmalg() -> Any:  # no type stubs
    try:
        return importlib.import_module("gmalg")
    except ImportError:
        raise GmMissingError("expected the extra `gm` for SM2 signatures: pip install shufang[gm]") from None
