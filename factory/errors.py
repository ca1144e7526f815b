"""Errors of the operator's side.

FactoryError
├── NodeUnreachableError      (factory.hub.bus)
├── NodeRefusedError          a node or service refused with a code
├── StorageError              the disk, or its rights, refused
├── FileMissingError          a file or folder that was named is not there
├── ConnectionFailedError     hub or relay did not answer
├── InputError                a file or value that was given is not what it must be
└── …                         each module adds its own below this root

Every class has a unique ``code`` that is never reused. A message says what was expected,
what came and what to do next; it never holds a value of a row.
"""

from typing import ClassVar


class FactoryError(Exception):
    """Root of all errors of ``factory``."""

    code: ClassVar[str] = "factory.error"
    retryable: ClassVar[bool] = False


class NodeRefusedError(FactoryError):
    """A node, or the agency's service, refused.

    Attributes:
        node: who refused.
        refusal_code: its stable reason.
    """

    code = "factory.node_refused"

    def __init__(self, node: str, refusal_code: str, message: str) -> None:
        super().__init__(f"{node} refused ({refusal_code}): {message}")
        self.node = node
        self.refusal_code = refusal_code


class StorageError(FactoryError):
    """The disk, or the rights on it, refused a read or write."""

    code = "factory.storage"
    retryable = True


class FileMissingError(FactoryError):
    """A file or folder that was named is not there, or is of the other kind."""

    code = "factory.file"


class ConnectionFailedError(FactoryError):
    """Hub or relay did not answer, or not as they do."""

    code = "factory.connection"
    retryable = True


class InputError(FactoryError):
    """A file or value that was given is not what it must be."""

    code = "factory.input"
