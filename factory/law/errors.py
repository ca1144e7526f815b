"""Errors of the law.

LawError
├── ProfileMalformedError   a profile or law.toml is not what it must be; names the parameter
├── ProfileUnsetError       words without numbers are not set; lists each with the proposed line
├── ProfileUnknownError     no such profile
└── TableError              the requirement table, or a test result file, is not what it must be
"""

from typing import ClassVar

from factory.errors import FactoryError


class LawError(FactoryError):
    """Root of the errors of the law."""

    code: ClassVar[str] = "law.error"


class ProfileMalformedError(LawError):
    """A profile, or a deployment's law.toml, is not what it must be."""

    code = "law.profile_malformed"


class ProfileUnsetError(LawError):
    """A word without a number is not set; the deployment does not start.

    Attributes:
        unset: parameters with their words and proposed lines.
    """

    code = "law.profile_unset"

    def __init__(self, name: str, unset: tuple[str, ...]) -> None:
        listed = "\n  ".join(unset)
        super().__init__(
            f"{name}: {len(unset)} words of the texts have no number; confirm each in law.toml under [set]:\n  {listed}"
        )
        self.unset = unset


class ProfileUnknownError(LawError):
    """There is no such profile."""

    code = "law.profile_unknown"


class TableError(LawError):
    """The requirement table, or a file of test results, is not what it must be."""

    code = "law.table"
