"""Errors of the quality engine.

QualityError
├── SuiteError        a suite file that does not say what a suite must say
├── ProfileError      a scoring profile that is incomplete or contradicts itself
├── SourceError       a table that cannot be read as declared; becomes a finding of the report, not a crash
├── DisclosureError   something that the projection does not allow was about to leave
├── ReportError       report JSON that this release cannot draw
└── JobsError         a batch whose list of jobs is not one

Every class has a ``code`` that is unique in the project and never reused. No message holds a
value of a row: libraries' own messages do, so they are never passed on.
"""

from typing import ClassVar


class QualityError(Exception):
    """Root of all errors of ``quality``."""

    code: ClassVar[str] = "quality.error"
    retryable: ClassVar[bool] = False


class SuiteError(QualityError):
    """The suite file is not a valid suite."""

    code = "quality.suite"


class ProfileError(QualityError):
    """The scoring profile is not valid."""

    code = "quality.profile"


class SourceError(QualityError):
    """The table cannot be read.

    Attributes:
        finding: which finding of the report this becomes, one of ``quality.findings.FINDINGS``.
    """

    code = "quality.source"

    def __init__(self, finding: str, message: str) -> None:
        super().__init__(message)
        self.finding = finding


class DisclosureError(QualityError):
    """Text that looks like data stands where only a name may stand."""

    code = "quality.disclosure"


class ReportError(QualityError):
    """The report JSON is not one this release can draw."""

    code = "quality.report"


class JobsError(QualityError):
    """The list of jobs of a batch is not one."""

    code = "quality.jobs"
