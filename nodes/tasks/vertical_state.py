"""What both roles of ``linear.vertical`` keep between rounds, and the small messages they exchange.

A checkpoint holds the joint order of rows and the weights, so that a session goes on after a
restart; keys and masks are never in it: they are drawn anew.

Privacy: checkpoints stay at their node. The small messages hold how far a block moved, and
whether to go on.
"""

import json
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nodes.contract.messages import RefusalCode
from nodes.contract.tasks.vertical_linear import VerticalLinearParameters
from nodes.privacy.vertical_ckks import Fixed, agree, pack, unpack
from nodes.tasks.linear_rows import split
from nodes.tasks.spec import TaskRefusedError

LOGISTIC_RESIDUAL_MAX = 1.6
"""Largest absolute residual of a logistic model: the polynomial lies within (-0.62, 0.62)."""

BALANCED_WEIGHT_MAX = 8.0
"""Largest weight of a row when classes are balanced."""

TARGET_MAX = 10.0
"""A linear target is clipped to ± this many standard deviations."""

SMALL = 256
"""Longest small message, in bytes."""

SPLIT_BYTES_MAX = 2**22
"""Longest message that names the test rows."""

_DOUBLE = struct.Struct("<d")
GO_ON, STOP = b"go-on", b"stop"


@dataclass(frozen=True, slots=True, repr=False)
class Saved:
    """One node's checkpoint. Its repr shows nothing.

    Attributes:
        rows: places in the node's own table, in the joint order.
        rounds: how many were done.
        weights, before: of the block; empty before the first round.
        moved_micro: the label side's joint estimate of the decrease per round, in millionths.
        is_done: no further round is made.
    """

    rows: NDArray[np.int64]
    rounds: int
    weights: NDArray[np.float64]
    before: NDArray[np.float64]
    moved_micro: tuple[int, ...] = ()
    is_done: bool = False

    def to_bytes(self) -> bytes:
        """Return the state for ``Party.checkpoint``."""
        head = json.dumps({"rounds": self.rounds, "moved_micro": self.moved_micro, "is_done": self.is_done}).encode(
            "ascii"
        )
        return pack([head, self.rows.tobytes(), self.weights.tobytes(), self.before.tobytes()])

    @classmethod
    def from_bytes(cls, data: bytes) -> "Saved":
        """Read what ``to_bytes`` wrote."""
        head, rows, weights, before = unpack(data, 4)
        facts = json.loads(head)
        return cls(
            np.frombuffer(rows, dtype=np.int64),
            facts["rounds"],
            np.frombuffer(weights, dtype=np.float64),
            np.frombuffer(before, dtype=np.float64),
            tuple(facts["moved_micro"]),
            facts["is_done"],
        )


def fixed_for(parameters: VerticalLinearParameters, rows: int) -> Fixed:
    """Return the scales both sides use for ``rows`` training rows.

    Raises:
        TaskRefusedError: too many rows.
    """
    largest = LOGISTIC_RESIDUAL_MAX * (BALANCED_WEIGHT_MAX if parameters.balanced else 1.0)
    if parameters.model == "linear":
        largest = TARGET_MAX + parameters.polynomial.half_width
    try:
        return agree(rows=rows, levels=parameters.levels, column_max=max(parameters.winsor, 1.0), residual_max=largest)
    except ValueError as error:
        raise TaskRefusedError(RefusalCode.RESOURCE_ROWS, str(error)) from error


def write_number(value: float) -> bytes:
    """Return a float64 as bytes."""
    return _DOUBLE.pack(value)


def read_number(data: bytes) -> float:
    """Read a finite float64.

    Raises:
        TaskRefusedError: something else.
    """
    if len(data) != _DOUBLE.size or not np.isfinite(value := _DOUBLE.unpack(data)[0]):
        raise TaskRefusedError(RefusalCode.TASK_PROTOCOL, "expected a number")
    return float(value)


def hash_split(rows: int, parameters: VerticalLinearParameters) -> NDArray[np.bool_]:
    """Return which of the joint rows are kept for testing, by seed and place; the same at every party."""
    return split(rows, "joint", seed=parameters.seed, test_permille=parameters.test_permille)


def write_flags(flags: NDArray[np.bool_]) -> bytes:
    """Return one bit per row."""
    return np.packbits(flags).tobytes()


def read_flags(data: bytes, rows: int) -> NDArray[np.bool_]:
    """Read one bit per row.

    Raises:
        TaskRefusedError: another number of rows.
    """
    if len(data) != -(-rows // 8):
        raise TaskRefusedError(RefusalCode.TASK_PROTOCOL, f"expected one bit for each of {rows} rows")
    return np.unpackbits(np.frombuffer(data, dtype=np.uint8), count=rows).astype(bool)


def require_rows(parameters: VerticalLinearParameters, train: int, test: int, *, least: int, cell_min: int) -> None:
    """Refuse so few rows that what a party sees could be about single ones.

    Raises:
        TaskRefusedError: fewer training rows than the protocol needs, or a small test part.
    """
    needed = parameters.rows_min(least)
    if train < needed:
        raise TaskRefusedError(
            RefusalCode.RESOURCE_ROWS, f"expected at least {needed} joint training rows for so many features and rounds"
        )
    if 0 < test < cell_min:
        raise TaskRefusedError(RefusalCode.RESOURCE_ROWS, f"expected no test rows or at least {cell_min}")
