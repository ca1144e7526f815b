"""Errors of serving.

ServingError
├── CallRefusedError      a call, key, feedback or release that a rule does not allow
├── AlteredError          a stored file is not what was released
└── UnauthenticatedError  no key, or none that is known
"""

from typing import ClassVar

from factory.errors import FactoryError
from factory.lifecycle.machine import Refusal


class ServingError(FactoryError):
    """Root of the errors of ``factory.serving``."""

    code: ClassVar[str] = "serving.error"


class CallRefusedError(ServingError):
    """A rule does not allow it.

    Attributes:
        refusal: code, message and clauses.
    """

    code = "serving.refused"

    def __init__(self, refusal: Refusal) -> None:
        cited = f" [{', '.join(refusal.clauses)}]" if refusal.clauses else ""
        super().__init__(f"{refusal.message}{cited}")
        self.refusal = refusal


class AlteredError(ServingError):
    """A stored file is not the one that was released; it is not delivered."""

    code = "serving.altered"


class UnauthenticatedError(ServingError):
    """No key was given, or none that is known."""

    code = "serving.unauthenticated"
