"""Errors of the sandbox."""

from factory.errors import FactoryError


class SandboxUnusableError(FactoryError):
    """This machine cannot confine the code; nothing was run."""

    code = "sandbox.unusable"


class SandboxInputError(FactoryError):
    """A script, an input or an output that is not what the sandbox takes."""

    code = "sandbox.input"
