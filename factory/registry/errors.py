"""Errors of the registry.

RegistryError
├── RegistryUnusableError  the disk refused, or the file is no registry; nothing was changed
├── RegistryOutdatedError  the layout is of another release; says the command that brings it up to date
├── CaseUnknownError      no such request, grant, product or registration
├── CaseExistsError       the name is taken
├── CaseChangedError      somebody else changed it meanwhile; read again
├── ChainBrokenError      the chain of events was altered
└── TransitionRefusedError   the state machine refuses, citing the clause
"""

from typing import ClassVar

from factory.errors import FactoryError
from factory.lifecycle.machine import Refusal


class RegistryError(FactoryError):
    """Root of the errors of the registry."""

    code: ClassVar[str] = "registry.error"


class RegistryUnusableError(RegistryError):
    """The disk refused, or the file is no registry; nothing was changed."""

    code = "registry.unusable"
    retryable = True


class RegistryOutdatedError(RegistryError):
    """The layout of the registry is older or newer than this release; nothing was changed."""

    code = "registry.outdated"


class CaseUnknownError(RegistryError):
    """There is no case of this kind with this name."""

    code = "registry.case_unknown"


class CaseExistsError(RegistryError):
    """There is a case of this kind with this name."""

    code = "registry.case_exists"


class CaseChangedError(RegistryError):
    """The case changed since it was read."""

    code = "registry.case_changed"
    retryable = True


class ChainBrokenError(RegistryError):
    """An event of the chain, or its link to the one before, is not what was recorded."""

    code = "registry.chain_broken"


class TransitionRefusedError(RegistryError):
    """The state machine does not permit the act.

    Attributes:
        refusal: code, message and clauses.
    """

    code = "registry.transition_refused"

    def __init__(self, refusal: Refusal) -> None:
        cited = f" [{', '.join(refusal.clauses)}]" if refusal.clauses else ""
        super().__init__(f"{refusal.message}{cited}")
        self.refusal = refusal
