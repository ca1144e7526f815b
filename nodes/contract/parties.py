"""Frames between the nodes of one session: what a department's half of a protocol says to another's.

A frame is a parcel: a signed ``PartyFrame`` and, as its one attachment, the content sealed for
the recipient (``nodes.contract.sealing``). What a half sends is a *message*: a label and bytes of
any length, cut into frames of ``PARTS.chunk_bytes``. Frames of one sender to one recipient are
counted 1, 2, 3 … within an *epoch*. A node that was restarted opens the next epoch with a
``hello``; from then on nothing of an earlier epoch is taken by anybody.

Every frame carries the digest of what its sender was told to do (``agreement_sha256``), so nodes
that an operator told different things refuse each other at the first frame.

Privacy: hub, relay and operator see who sends to whom, when, the label and the size; never the content.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from nodes.contract import canonical
from nodes.contract.messages import Hex32, Message, Name, Order, Time
from nodes.contract.sealing import SealHeader
from nodes.contract.signing import sha256_hex

HELLO = "party.hello"
"""First frame of an epoch: ``{"completed": n}``, the last step that the sender has completed."""

REACHED = "party.reached"
"""The sender has completed a step: ``{"step": n}``."""

ABORT = "party.abort"
"""The sender has ended the session: ``{"code": …}``. Nothing follows it."""

WATCH = "party.watch"
"""Step of the operator: wait for news of the half at a node; answered with ``progress``, and at the end the outcome."""

FRAME = "party.frame"
"""Kind of the answer to a frame."""


@dataclass(frozen=True, slots=True)
class PartyLimits:
    """Limits of frames between nodes.

    Attributes:
        chunk_bytes: longest content of one frame; longer messages are cut.
        inbox_bytes_max: what a node holds of one peer before it lets the peer wait; also the longest message
            that may arrive while nobody asked for it yet.
        epochs_max: how often a session is taken up again after a restart of one of its nodes, and once more.
        silent_s_max: how long a node waits for a peer that neither sends nor takes anything.
        room_s: how long a frame waits for room before its sender is told to repeat it.
    """

    chunk_bytes: int = 4 * 1024 * 1024
    inbox_bytes_max: int = 48 * 1024 * 1024
    epochs_max: int = 9
    silent_s_max: int = 1800
    room_s: float = 15.0


PARTS = PartyLimits()


class PartyFrame(Message):
    """One frame from a node to another node of the same session.

    Attributes:
        session_id: the session that orders opened at both.
        agreement_sha256: see ``agreement_sha256``.
        epoch: 1, and one more after every restart of a party.
        sequence: 1, 2, 3 … from this sender to this recipient in this epoch.
        label: what the message is.
        last: whether the message ends with this frame.
        attachments_sha256: digest of the sealed content.
    """

    payload_type: ClassVar[str] = "application/vnd.shufang.party-frame.v1+json"

    version: Literal[1] = 1
    session_id: Name
    agreement_sha256: Hex32
    epoch: Annotated[int, Field(ge=1, le=PARTS.epochs_max)]
    sequence: Annotated[int, Field(ge=1, le=2**40)]
    label: Name
    last: bool
    sender: Name
    recipient: Name
    attachments_sha256: Annotated[tuple[Hex32, ...], Field(min_length=1, max_length=1, strict=False)]
    issued_at: Time

    def seal_header(self) -> SealHeader:
        """Return where the sealed content belongs: exactly to this frame."""
        return SealHeader(
            self.session_id,
            self.sender,
            self.recipient,
            f"{self.label}#{'last' if self.last else 'more'}",
            self.epoch * 2**40 + self.sequence,
        )


def agreement_sha256(order: Order) -> str:
    """Return the digest of all that must be equal at the nodes of a session."""
    return sha256_hex(
        canonical.dumps(
            {
                "context": "shufang/v1/parties",
                "grant_sha256": order.grant_sha256,
                "operator": order.operator,
                "parameters": order.parameters,
                "parties": [*sorted(order.parties)],
                "purpose": order.purpose,
                "scenario": order.scenario,
                "session_id": order.session_id,
                "task": order.task,
            }
        )
    )
