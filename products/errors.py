"""Errors of the packages and their verifier.

ProductError
├── MalformedError            bytes that are not what they claim to be
├── TooLargeError             more bytes, files or depth than the limits allow
├── BadSignatureError         a signature that does not verify, or too few of them
├── BadProofError             a log proof that does not hold
├── UntrustedError            trust data that does not lead back to the pinned root
├── IncompleteError           what a package of this form must hold is missing
└── PackageExistsError        the destination is already there

Every class has a unique ``code`` that is never reused. A message says what was expected and
what came; it never holds the content of a product file.
"""

from typing import ClassVar


class ProductError(Exception):
    """Root of all errors of ``products``."""

    code: ClassVar[str] = "products.error"
    retryable: ClassVar[bool] = False


class MalformedError(ProductError):
    """The bytes are not well-formed, or not in their one canonical spelling."""

    code = "products.malformed"


class TooLargeError(ProductError):
    """A limit of ``products.limits`` is exceeded."""

    code = "products.too_large"


class BadSignatureError(ProductError):
    """A signature does not verify, or fewer than the threshold do."""

    code = "products.bad_signature"


class BadProofError(ProductError):
    """A log proof does not verify: inclusion, checkpoint, cosignatures or quorum."""

    code = "products.bad_proof"


class UntrustedError(ProductError):
    """Trust data does not lead back to the pinned root, or is expired at the time in question."""

    code = "products.untrusted"


class IncompleteError(ProductError):
    """A part that a package of this form must have is missing, or one too many is there."""

    code = "products.incomplete"


class PackageExistsError(ProductError):
    """The destination of a new package exists already; a release is never overwritten."""

    code = "products.package_exists"
