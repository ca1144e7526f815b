"""Errors of local trials.

TrialError
├── TrialTableError      ``--table`` names no party of the recipe, or a party has no table
├── TrialOutputError     the output folder cannot be used
├── TrialProcessError    a process of the trial ended; the message holds what it said
└── TrialRefusedError    the pipeline could not go on after nodes refused; the message says why they did
"""

from typing import ClassVar

from factory.errors import FactoryError


class TrialError(FactoryError):
    """Root of the errors of local trials."""

    code: ClassVar[str] = "trial.error"


class TrialTableError(TrialError):
    """A table was given for nobody, twice, or not at all, or its file is not there."""

    code = "trial.table"


class TrialOutputError(TrialError):
    """The output folder cannot be used."""

    code = "trial.output"


class TrialProcessError(TrialError):
    """A process of the trial ended with an error."""

    code = "trial.process"


class TrialRefusedError(TrialError):
    """Too little was left after nodes refused."""

    code = "trial.refused"
