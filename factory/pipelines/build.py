"""What a pipeline hands over: the files of a product and everything a reviewer needs to judge them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from factory.errors import FactoryError
from factory.federation.session import Answer, Reply, Session
from factory.pipelines.recipe import Recipe
from nodes.contract.messages import ResourceUse


class BuildError(FactoryError):
    """The pipeline ran but did not yield a product."""

    code = "pipeline.build"


PARTY_BYTES = "party_bytes"
"""Evidence: bytes that each node sent to other nodes."""


@dataclass(frozen=True, slots=True)
class Mechanism:
    """One privacy mechanism of a product.

    Attributes:
        name: short name.
        source: paper and section, or standard.
        parameter_set: name in ``nodes.contract.parameters`` or of the task's contract.
    """

    name: str
    source: str
    parameter_set: str


@dataclass(frozen=True, slots=True)
class Learns:
    """What one party learned beyond the product."""

    party: str
    what_zh: str
    what_en: str


@dataclass(frozen=True, slots=True)
class Built:
    """A built product, not yet tested.

    Attributes:
        recipe: what was asked for.
        recipe_bytes: the very file, whose digest goes into the build provenance.
        files: product files by path below ``data/product/``.
        metrics: integers (millionths end in ``_micro``) and short texts; no value of a row.
        participants: nodes whose rows became part of the product.
        sessions: ids of the granted sessions.
        node_runs: per node, the envelope of its signed node-run statement.
        mechanisms, learns: for the privacy statement.
        cell_min, round_base, suppressed: disclosure control that was applied.
        started_at, finished_at: of the build.
        headline: (zh, en) lines for people.
    """

    recipe: Recipe
    recipe_bytes: bytes
    files: Mapping[str, bytes]
    metrics: Mapping[str, int | str]
    participants: tuple[str, ...]
    sessions: tuple[str, ...]
    node_runs: Mapping[str, bytes]
    mechanisms: tuple[Mechanism, ...]
    learns: tuple[Learns, ...]
    cell_min: int
    round_base: int
    suppressed: int
    started_at: datetime
    finished_at: datetime
    headline: tuple[tuple[str, str], ...] = ()
    evidence: Mapping[str, Any] = field(default_factory=dict)


def uses_of(recipe: Recipe) -> dict[str, list[ResourceUse]]:
    """Return per node what the recipe reads, as orders and grants name it."""
    uses: dict[str, list[ResourceUse]] = {node: [] for node in recipe.nodes}
    for party in recipe.parties:
        uses[party.node].append(
            ResourceUse(
                resource=party.resource, version=party.version, columns=party.columns, row_filter=party.row_filter
            )
        )
    return uses


def close_session(session: Session) -> dict[str, bytes]:
    """Close a session everywhere and return each node's signed node-run statement.

    A node that is gone is missing in the result; whether that is acceptable is the pipeline's to say.
    """
    return node_runs(session.close())


def node_runs(answers: Mapping[str, Answer]) -> dict[str, bytes]:
    """Return the node-run envelopes out of the answers to ``session.close``."""
    return {
        node: answer.attachments[0]
        for node, answer in answers.items()
        if isinstance(answer, Reply) and len(answer.attachments) == 1
    }


def percent_text(micro: int) -> str:
    """Return millionths as a percentage with one decimal, e.g. ``97.4 %``."""
    return f"{micro / 10_000:.1f} %"


def ratio_text(micro: int, digits: int = 3) -> str:
    """Return millionths as a decimal, e.g. ``0.974``."""
    return f"{micro / 1_000_000:.{digits}f}"


def require_nodes(node_run_envelopes: Mapping[str, bytes], expected: Sequence[str]) -> None:
    """Check that every expected node signed its run.

    Raises:
        BuildError: one did not.
    """
    missing = sorted(set(expected) - set(node_run_envelopes))
    if missing:
        raise BuildError(f"expected a signed run statement of {', '.join(missing)}; is the node up? Build again")
