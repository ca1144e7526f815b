"""Errors of release assembly.

ReleaseError
├── EvidenceMissingError   a statement, report or signature that the release rests on is missing
├── RegistrationError      the product has no valid code, or its application was refused
└── SigningRefusedError    a registrar does not sign, and why
"""

from typing import ClassVar

from factory.errors import FactoryError


class ReleaseError(FactoryError):
    """Root of the errors of ``factory.release``."""

    code: ClassVar[str] = "release.error"


class EvidenceMissingError(ReleaseError):
    """Something that the release rests on is missing or does not verify."""

    code = "release.evidence"


class RegistrationError(ReleaseError):
    """The product has no registration code in force."""

    code = "release.registration"


class SigningRefusedError(ReleaseError):
    """The release is not what its evidence leads to, so it is not signed."""

    code = "release.signing_refused"
