"""What a task is to the node agent: a name, a parameter class and a session it can start.

The agent has already verified order, grant, thresholds and quality when it calls ``start``;
a task sees only the granted columns and rows, and what it returns is recorded in the ledger
before it is sent.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import BaseModel

from nodes.contract import canonical
from nodes.contract.canonical import JsonValue
from nodes.contract.grant import Grant
from nodes.contract.messages import Order, RefusalCode
from nodes.contract.sealing import SealHeader
from nodes.contract.signing import Envelope, sha256_hex
from nodes.contract.trust import Actor

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from nodes.tasks.party import PartyRun


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a task hands back for one step: small facts and attachments, both may leave the node.

    Attributes:
        body: JSON without floats; no value of a row, no count below the group limit.
        attachments: ciphertexts, masked vectors and the like.
    """

    body: dict[str, Any] = field(default_factory=dict)
    attachments: tuple[bytes, ...] = ()


class TaskRefusedError(Exception):
    """The task will not do this step, for a reason the asker may know.

    Attributes:
        code: a ``RefusalCode`` value, usually ``task.protocol`` or ``resource.rows``.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class TableView(Protocol):
    """The granted part of one table: its columns and rows, nothing else exists."""

    @property
    def resource(self) -> str:
        """Catalogue id."""
        ...

    @property
    def columns(self) -> tuple[str, ...]:
        """Granted columns that the order names, in the order's sequence."""
        ...

    def frame(self) -> "pd.DataFrame":
        """Return the granted rows and columns; text stays text, numbers are float64 or int64, missing is NaN/None."""
        ...


class LargeTableView(TableView, Protocol):
    """What party tasks may use besides: for tables of a million rows."""

    def arrow(self) -> "pa.Table":
        """Return the granted rows and columns as an Arrow table."""
        ...

    def state(self) -> bytes:
        """Return 32 bytes that differ whenever the granted rows may differ; empty where that cannot be known."""
        ...


class Secrets(Protocol):
    """What a task may do with the node's keys, without holding them."""

    def seal(self, plaintext: bytes, header: SealHeader) -> bytes:
        """Seal for ``header.recipient``, whose key comes from the trust data."""
        ...

    def unseal(self, sealed: bytes, header: SealHeader) -> bytes:
        """Open what was sealed for this node.

        Raises:
            BadSealError: it does not open.
        """
        ...

    def sign(self, payload_type: str, payload: bytes) -> Envelope:
        """Sign as this node."""
        ...


def _no_ledger(_epsilon_micro: int) -> None:
    raise TaskRefusedError(RefusalCode.GRANT_BUDGET, "expected a node with a privacy ledger")


@dataclass(frozen=True, slots=True)
class TaskContext:
    """Everything a task gets.

    Attributes:
        node: this node's actor id.
        order: the verified order; ``order.session_id``, ``order.parties``, ``order.clients``.
        grant: the verified grant; ``grant.thresholds`` bind the task.
        parameters: instance of the task's parameter class.
        tables: view per catalogue id, in the order's sequence.
        actors: every party, client, the operator and the agency's services, from trust data.
        secrets: seal, unseal, sign.
        now: the node's clock.
        state_dir: folder of this node and session for files that must survive a restart; may stay unused.
        charge: takes n units of the grant's budget, durably, before they are spent; raises
            ``TaskRefusedError("grant.budget", …)`` when they are not there.
        parts_dir: folder of this node for its parts of vertical models; it outlives the session.
        run: for party tasks, what runs the half; see ``nodes.tasks.party.start_party``.
        prepared: what the task's ``prepare`` returned for this order, if it has one.
        lose: takes millionths of epsilon from the privacy budget of every table of the order, durably, before noisy
            figures are made; raises ``TaskRefusedError("grant.budget", …)`` when they are not there.
    """

    node: str
    order: Order
    grant: Grant
    parameters: BaseModel
    tables: Mapping[str, TableView]
    actors: Mapping[str, Actor]
    secrets: Secrets
    now: Callable[[], datetime]
    state_dir: str
    charge: Callable[[int], None]
    parts_dir: str = ""
    run: "PartyRun | None" = None
    prepared: object = None
    lose: Callable[[int], None] = _no_ledger


class TaskSession(Protocol):
    """One open session of a task at one node. Steps arrive one at a time, each sequence once."""

    def step(self, sender: str, kind: str, body: Mapping[str, Any], attachments: Sequence[bytes]) -> Outcome:
        """Do one step.

        Raises:
            TaskRefusedError: the step is not one that may come now, from this sender, with this content.
        """
        ...

    def finish(self) -> dict[str, Any]:
        """End the session, drop its secrets and return facts for the node-run statement.

        Returns:
            JSON without floats: at least ``contributors`` (how many nodes the opened sums
            covered) and ``outputs``: list of {"name", "sha256"} that became part of the product.
        """
        ...


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """One entry of the node's task catalogue.

    Attributes:
        name: as grants and orders name it.
        parameters: pydantic model, closed; the order's parameters must fit it.
        start: opens a session; its ``Outcome`` answers the order.
        clients_may: kinds of step that an application unit may send; the operator may send the others.
        free: parameters that may differ between sessions of one grant, because no row comes or goes with them.
        prepare: makes what takes long, from the granted tables, before the order takes a use of the grant; may
            refuse with ``resource.preparing`` meanwhile. Gets the tables, the parameters and the node's home.
        joint: whether sums over the order's parties are opened, so that all sessions of a grant need the same.
        party: whether its half talks to the other nodes; such a session survives a restart of the node.
    """

    name: str
    parameters: type[BaseModel]
    start: Callable[[TaskContext], tuple[TaskSession, Outcome]]
    clients_may: frozenset[str] = frozenset()
    free: frozenset[str] = frozenset()
    joint: bool = False
    party: bool = False
    prepare: Callable[[Mapping[str, TableView], BaseModel, Path], object] | None = None

    def selection_sha256(self, order: Order, parameters: BaseModel) -> str:
        """Return the digest of what chooses the rows behind a figure; one grant has one of it.

        Privacy:
            Two exact sums whose rows, or whose parties, differ by one give that one away.
        """
        chosen = parameters.model_dump(mode="json", exclude=set(self.free))
        rows: list[JsonValue] = [
            use.model_dump(mode="json", exclude={"columns"})
            for use in sorted(order.resources, key=lambda use: use.resource)
        ]
        parties: list[JsonValue] = [*sorted(order.parties)] if self.joint else []
        return sha256_hex(canonical.dumps({"parameters": chosen, "parties": parties, "resources": rows}))
