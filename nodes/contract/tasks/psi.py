"""Private set intersection (``psi.join``): parameters equal for all parties, by node where they differ.

Modes, and what each reveals beyond the sizes of the sets (``nodes.privacy`` has the arguments):

``intersection``   the receiver learns which of its rows the other node has; the other node learns how many
``alignment``      every node learns which of its rows all have, in one random order, for training
``cardinality``    the receiver learns how many, neither learns which; the other node is told how many
``union``          both nodes get one list of names for all rows, with dummies where they have none: neither learns
                   which of its rows are common, both learn how many
``prepared``       as ``intersection``, for a receiver with few rows: the other node's side is computed once and kept
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from nodes.contract.messages import Name, Part
from nodes.contract.tasks.match import MatchField

TASK = "psi.join"
SUITE = "kkrt16-ristretto255-blake2b-v1"
ROWS = "rows"
"""Name of the output that stays at a node: positions of its common rows."""

Mode = Literal["intersection", "alignment", "cardinality", "prepared", "union"]


class PsiParameters(Part):
    """Parameters of an order for ``psi.join``.

    Attributes:
        suite: named protocol set.
        mode: see the module text.
        receiver: node that learns, and for ``alignment`` the one that leads.
        keys: per node, the fields that make its key; as many at every node, with the same rules in the same place.
        rows_min: fewest common rows; fewer end the session at all nodes. The grant's ``rows_min`` and each node's
            own count too.
    """

    version: Literal[1] = 1
    suite: Literal["kkrt16-ristretto255-blake2b-v1"] = "kkrt16-ristretto255-blake2b-v1"
    mode: Mode = "intersection"
    receiver: Name
    keys: dict[Name, Annotated[tuple[MatchField, ...], Field(min_length=1, max_length=8, strict=False)]]
    rows_min: Annotated[int, Field(ge=1, le=2**27)] = 10

    @model_validator(mode="after")
    def _consistent(self) -> "PsiParameters":
        if self.receiver not in self.keys or len(self.keys) < 2:
            raise ValueError("the receiver and at least one other node have keys")
        if self.mode != "alignment" and len(self.keys) != 2:
            raise ValueError("two nodes, or mode alignment")
        rules = {tuple(field.rules for field in fields) for fields in self.keys.values()}
        if len(rules) != 1:
            raise ValueError("the same rules at every node, field by field")
        if any(len({field.column for field in fields}) != len(fields) for fields in self.keys.values()):
            raise ValueError("each column once")
        return self
