"""Errors of the agency's side.

AgencyError
├── AgencyExistsError       making an agency where one is
├── AdmissionRefusedError   this actor, role or key may not be admitted
├── NothingPendingError     nothing waits for this act
├── SignatureMissingError   a signature of a second person is missing
├── RootRefusedError        a new root that the keys in force do not vouch for
├── CertificateError        a certificate request or certificate that does not fit
└── RequestRefusedError     a request or ruling that a rule does not allow
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from factory.errors import FactoryError
from factory.registry.errors import TransitionRefusedError


class AgencyError(FactoryError):
    """Root of the errors of ``factory.agency``."""

    code: ClassVar[str] = "agency.error"


class AgencyExistsError(AgencyError):
    """There is an agency in this folder already; its root is not made twice."""

    code = "agency.exists"


class AdmissionRefusedError(AgencyError):
    """The bundle does not fit what is known, or the roles do not go together."""

    code = "agency.admission_refused"


class RootRefusedError(AgencyError):
    """Too few of the root keys in force, or a root that does not follow."""

    code = "agency.root_refused"


class NothingPendingError(AgencyError):
    """Nothing waits for this act."""

    code = "agency.nothing_pending"


class SignatureMissingError(AgencyError):
    """Two persons sign; one of them has not yet, or has signed other bytes."""

    code = "agency.signature_missing"


class CertificateError(AgencyError):
    """A certificate request or certificate does not fit."""

    code = "agency.certificate"


class RequestRefusedError(AgencyError):
    """A rule does not allow this request or ruling.

    Attributes:
        reason: code of the rule.
        clauses: ids of the clauses behind it.
    """

    code = "agency.request_refused"

    def __init__(self, reason: str, message: str, clauses: tuple[str, ...] = ()) -> None:
        cited = f" [{', '.join(clauses)}]" if clauses else ""
        super().__init__(f"{message}{cited}")
        self.reason = reason
        self.clauses = clauses


@contextmanager
def in_agency_words() -> Iterator[None]:
    """Raise what the desk refuses as the agency's own error, with code and clauses.

    Raises:
        RequestRefusedError: instead of ``TransitionRefusedError``.
    """
    try:
        yield
    except TransitionRefusedError as error:
        raise RequestRefusedError(error.refusal.code, error.refusal.message, error.refusal.clauses) from error
