"""Errors of the log.

FactoryError
└── LogError
    ├── LogKeyError           a key file that is missing, open to others or not Ed25519
    ├── LogMissingError       a folder that is no log, or an entry the log does not hold
    ├── LogBusyError          another process writes this log
    ├── LogCorruptError       files of the log contradict its own signed checkpoint
    ├── LogRollbackError      a tree smaller than, or inconsistent with, one already signed
    ├── LogFrozenError        a shard of a past year takes no more entries
    ├── LogDiskError          the disk refused a write; nothing was acknowledged
    ├── LogEntryError         an envelope whose signature is not that of the key given with it
    ├── NotWitnessedError     too few witnesses answered
    └── WitnessRefusedError   a witness answered with a refusal
"""

from factory.errors import FactoryError


class LogError(FactoryError):
    """Root of the errors of ``factory.log``."""

    code = "log.error"


class LogKeyError(LogError):
    """A key file is missing, readable by others, or not an Ed25519 key."""

    code = "log.key"


class LogMissingError(LogError):
    """There is no log at this place, or no such entry in it."""

    code = "log.missing"


class LogBusyError(LogError):
    """Another process holds the writer's lock."""

    code = "log.busy"
    retryable = True


class LogCorruptError(LogError):
    """What lies on disk contradicts the log's own signed checkpoint."""

    code = "log.corrupt"


class LogRollbackError(LogError):
    """Signing was refused: the tree is smaller than, or inconsistent with, one already signed."""

    code = "log.rollback"


class LogFrozenError(LogError):
    """The shard belongs to a past year; its final checkpoint stays."""

    code = "log.frozen"


class LogDiskError(LogError):
    """The disk refused a write; what was not acknowledged is not in the log."""

    code = "log.disk"
    retryable = True


class LogEntryError(LogError):
    """An envelope was offered that its key did not sign."""

    code = "log.entry"


class NotWitnessedError(LogError):
    """The quorum of witnesses has not cosigned a checkpoint that holds the entry."""

    code = "log.not_witnessed"
    retryable = True


class WitnessRefusedError(LogError):
    """A witness refused a checkpoint.

    Attributes:
        witness: name of the witness.
        status: its HTTP status.
    """

    code = "log.witness_refused"

    def __init__(self, witness: str, status: int, message: str) -> None:
        super().__init__(f"{witness} answered {status}: {message}")
        self.witness = witness
        self.status = status
