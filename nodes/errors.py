"""Errors of the department's side.

NodeError
├── SettingsError             a wrong or missing setting
├── KeyFileError              a key file that is missing, readable by others, or no such key
├── TrustError                trust metadata that does not verify from the pinned root
│   └── TrustRollbackError    older than what this node has already seen
├── CatalogueError            a catalogue entry that cannot be read or bound
│   └── SecretRefusedError    a state secret
├── TableError                a table that cannot be read as its entry says
│   ├── TableMissingError     the file is not there
│   ├── TableEncodingError    the bytes are not in the stated encoding
│   ├── TableChangedError     columns differ from the bound schema
│   └── TableEmptyError       no row
├── GrantError                a grant that cannot be offered, approved or rejected now
├── BooksError                the ledger's chain does not verify, or an entry that cannot be made
│   ├── UsesExhaustedError    no use of the grant is left
│   ├── BudgetExhaustedError  not enough budget is left
│   ├── LedgerReplacedError   the books are an older copy than their anchor
│   └── OrderReplayedError    another order of this name, or for this session, was seen before
├── StorageError              the disk refused a write
├── QualityGateError          a quality run that could not be done or stored
├── TicketError               a ticket that cannot be filed, decided or closed like this
├── RegisterError             a consent or a line of the register of personal information that does not count
├── PeerAwayError             no answer of another node for now
├── MissingPartError          an optional part of the installation that this work needs is not there
└── EnrolmentError            an enrolment or admission that does not fit this node

Every class has a unique ``code`` that is never reused. A message says what was expected,
what came and what to do next; it never holds a value of a row.
"""

from typing import ClassVar


class NodeError(Exception):
    """Root of all errors of ``nodes`` outside the contract."""

    code: ClassVar[str] = "node.error"
    retryable: ClassVar[bool] = False


class SettingsError(NodeError):
    """A setting in ``node.toml`` is wrong or missing."""

    code = "node.settings"


class KeyFileError(NodeError):
    """A key file is missing, open to others, or not a key of the expected kind."""

    code = "node.key_file"


class TrustError(NodeError):
    """Trust metadata does not verify from the pinned root."""

    code = "node.trust"


class TrustRollbackError(TrustError):
    """Trust metadata is older than what this node has already seen."""

    code = "node.trust_rollback"


class CatalogueError(NodeError):
    """A catalogue entry cannot be read, written or bound."""

    code = "node.catalogue"


class TableError(NodeError):
    """A table cannot be read as its catalogue entry says."""

    code = "node.table"


class TableMissingError(TableError):
    """The table's file is not there or not readable."""

    code = "node.table_missing"


class TableEncodingError(TableError):
    """The table's bytes are not in the stated encoding."""

    code = "node.table_encoding"


class TableChangedError(TableError):
    """The table's columns are no longer those of the bound schema."""

    code = "node.table_changed"


class TableEmptyError(TableError):
    """The table has no row."""

    code = "node.table_empty"


class GrantError(NodeError):
    """A grant cannot be offered, approved, rejected or revoked now."""

    code = "node.grant"


class BooksError(NodeError):
    """The books refuse an entry, or their chain does not verify."""

    code = "node.books"


class UsesExhaustedError(BooksError):
    """No use of the grant is left."""

    code = "node.uses_exhausted"


class BudgetExhaustedError(BooksError):
    """The grant's budget does not cover this charge."""

    code = "node.budget_exhausted"


class LedgerReplacedError(BooksError):
    """The books are an older copy than the anchor of the privacy ledger, or the anchor is gone."""

    code = "node.ledger_replaced"


class SelectionTakenError(BooksError):
    """The grant was used before for other rows, parties or parameters that choose rows."""

    code = "node.selection_taken"


class OrderReplayedError(BooksError):
    """Another order with this name, or for this session, is already in the books."""

    code = "node.order_replayed"


class StorageError(NodeError):
    """The disk refused a write; nothing was changed."""

    code = "node.storage"
    retryable = True


class PeerAwayError(NodeError):
    """Another node did not answer over the relay within the time."""

    code = "node.peer_away"
    retryable = True


class MissingPartError(NodeError):
    """This work needs an extra of the installation that is not there."""

    code = "node.missing_part"


class QualityGateError(NodeError):
    """A quality run could not be done, or its report is not one."""

    code = "node.quality_gate"


class TicketError(NodeError):
    """A ticket cannot be filed, decided, escalated or closed like this."""

    code = "node.ticket"


class RegisterError(NodeError):
    """A consent, or a line of the register of personal information, does not count."""

    code = "node.register"


class SecretRefusedError(CatalogueError):
    """A state secret is neither bound nor offered."""

    code = "node.state_secret"


class EnrolmentError(NodeError):
    """An enrolment or admission does not fit this node."""

    code = "node.enrolment"
