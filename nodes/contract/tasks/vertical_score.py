"""Parameters of ``linear.vertical.score``: score named entities with a model whose parts stay at their owners.

Each node looks the entities up in its own table, computes its part of each score and masks it: for
every pair of nodes one adds and the other subtracts a stream that only the two know. The masked
parts are uniform; their sum modulo 2**64 over all nodes of the model is the score.

Source:
    Bonawitz et al., "Practical Secure Aggregation", CCS 2017, section 4 (pairwise masks); ChaCha20: RFC 8439.
"""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, StringConstraints, model_validator

from nodes.contract.messages import Hex32, Name, Part
from nodes.contract.tasks.match import MatchField

TASK = "linear.vertical.score"

UNIT = 2**32
"""Scores travel in units of 2**-32 logits, modulo 2**64."""

SCORE_MAX = 2**20
"""Largest absolute part of a score."""

Value = Annotated[str, StringConstraints(min_length=1, max_length=1000)]


class VerticalScoreParameters(Part):
    """What an order for ``linear.vertical.score`` may say; the same for all nodes.

    Attributes:
        parts: per node, the digest of its part of the model, as ``parts.json`` of the product lists them.
        keys: per node, the fields by which its table names an entity; the same rules at every node.
        entities: per entity, one value per field of the key. An entity that a node does not have counts there as
            the mean, and nobody is told.
    """

    parts: Annotated[dict[Name, Hex32], Field(min_length=2, max_length=16)]
    keys: dict[Name, Annotated[tuple[MatchField, ...], Field(min_length=1, max_length=8, strict=False)]]
    entities: Annotated[
        tuple[Annotated[tuple[Value, ...], Field(strict=False)], ...],
        Field(min_length=1, max_length=2000, strict=False),
    ]

    @model_validator(mode="after")
    def _consistent(self) -> "VerticalScoreParameters":
        if set(self.keys) != set(self.parts):
            raise ValueError("keys and parts name the same nodes")
        if len({tuple(field.rules for field in fields) for fields in self.keys.values()}) != 1:
            raise ValueError("the same rules of keys at every node, field by field")
        width = len(next(iter(self.keys.values())))
        if any(len(entity) != width for entity in self.entities):
            raise ValueError("one value per field of the key for every entity")
        return self


def combine(masked: Sequence[bytes], count: int) -> tuple[float, ...]:
    """Add the masked parts of all nodes of the model and return one score per entity, in logits.

    Args:
        masked: per node ``count`` unsigned 64-bit numbers, little-endian.
        count: of entities.

    Raises:
        ValueError: a part of another length.

    Privacy:
        Without the part of any one node the others are uniform.
    """
    if any(len(part) != 8 * count for part in masked):
        raise ValueError(f"expected {count} numbers of every node")
    scores = []
    for place in range(count):
        total = sum(int.from_bytes(part[8 * place : 8 * place + 8], "little") for part in masked) % 2**64
        scores.append((total - 2**64 if total >= 2**63 else total) / UNIT)
    return tuple(scores)
