"""Verification of SM2-with-SM3 signatures over the same bytes as the ECDSA ones: the extra ``gm``.

Source:
    GB/T 32918.2-2016 (SM2 signatures), GB/T 32918.5-2017 (curve), GB/T 35276-2017 (key and
    signature encoding); the distinguishing identifier is the default of GM/T 0009.
"""

import importlib
from typing import Any

from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from products.errors import BadSignatureError, MalformedError, ProductError

USER_ID = b"1234567812345678"
SPKI_PREFIX = bytes.fromhex("3059301306072a8648ce3d020106082a811ccf5501822d034200")
"""DER SubjectPublicKeyInfo of an SM2 key up to the uncompressed point."""


class GmMissingError(ProductError):
    """The extra ``gm`` is not installed."""

    code = "product.gm_missing"


def verify(spki: bytes, signature: bytes, message: bytes) -> None:
    """Check a signature.

    Raises:
        MalformedError: not an SM2 key, or not the one DER spelling of a signature.
        BadSignatureError: it does not verify.
        GmMissingError: the extra is not installed.
    """
    if len(spki) != len(SPKI_PREFIX) + 65 or not spki.startswith(SPKI_PREFIX) or spki[len(SPKI_PREFIX)] != 4:
        raise MalformedError("expected the DER SubjectPublicKeyInfo of an SM2 key")
    try:
        r, s = decode_dss_signature(signature)
        halves = r.to_bytes(32, "big"), s.to_bytes(32, "big")
    except (ValueError, OverflowError) as error:
        raise MalformedError("expected a DER-encoded SM2 signature") from error
    if encode_dss_signature(r, s) != signature:
        raise MalformedError("expected the one DER spelling of a signature")
    gmalg = _gmalg()
    point = spki[len(SPKI_PREFIX) :]
    checker = gmalg.SM2(uid=USER_ID, pk=point)
    if not checker.verify_pk(point) or not checker.verify(message, *halves):
        raise BadSignatureError("the SM2 signature does not verify")


def _gmalg() -> Any:  # no type stubs
    try:
        return importlib.import_module("gmalg")
    except ImportError:
        raise GmMissingError("expected the extra `gm` for SM2 signatures: pip install shufang[gm]") from None
