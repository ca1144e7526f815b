"""How much each department's data contributed to a product: Shapley values over departments.

The worth of a coalition is what a product made from its data alone is worth (a metric between 0 and 1);
a coalition from which nothing can be learnt is worth as much as a guess. Up to ten departments every
coalition counts; beyond, permutations are drawn with a seed that is stated, so that anybody gets the same
shares again. Leaving one out orders departments differently and is not used.

Source:
    Shapley, "A Value for n-Person Games", 1953; Ghorbani & Zou, "Data Shapley", ICML 2019. Computed by shapiq.
    Regulations CT-TRACE (SD-23-2, SZ-10.4-6, GD-30-2).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from factory.errors import FactoryError

EXACT_MAX = 10
"""Most departments for which every coalition is evaluated: 2**10 products."""
PERMUTATIONS = 200
"""Permutations that are drawn beyond."""

Worth = Callable[[frozenset[str]], float]


class ContributionError(FactoryError):
    """Contributions cannot be told: no provenance, a coalition without a worth, or the library is missing."""

    code: ClassVar[str] = "contribution.unknown"


@dataclass(frozen=True, slots=True)
class Contribution:
    """What came out.

    Attributes:
        method: how it was computed, in words, with the seed where one was drawn.
        shapley: value per department; they add up to the worth of all less that of none.
        shares: parts of the revenue per department; at least 0, adding up to 1.
    """

    method: str
    shapley: Mapping[str, float]
    shares: Mapping[str, float]


def contribution(departments: Sequence[str], worth: Worth, *, runs: Sequence[str], seed: int = 0) -> Contribution:
    """Return each department's contribution.

    Args:
        departments: of the grant.
        worth: metric of a product from the data of some of them.
        runs: departments with a verified run statement in the product's provenance.
        seed: for the permutations, beyond ``EXACT_MAX`` departments.

    Raises:
        ContributionError: no provenance, a department without a run, or shapiq is not installed.
    """
    players = sorted(set(departments))
    missing = sorted(set(players) - set(runs))
    if not players or missing:
        raise ContributionError(
            f"expected a product with the signed run of every department, {', '.join(missing) or 'none'} is missing; "
            "without provenance there are no shares"
        )
    known: dict[frozenset[str], float] = {}

    def of(coalition: frozenset[str]) -> float:
        if coalition not in known:
            known[coalition] = float(worth(coalition))
        return known[coalition]

    if len(players) <= EXACT_MAX:
        values, method = _exact(players, of), f"exact Shapley value over {len(players)} departments (shapiq)"
    else:
        values = _sampled(players, of, seed)
        method = f"Shapley value by {PERMUTATIONS} permutations, seed {seed}, over {len(players)} departments (shapiq)"
    positive = {name: max(value, 0.0) for name, value in values.items()}
    total = sum(positive.values())
    shares = {name: value / total if total > 0 else 1 / len(players) for name, value in positive.items()}
    return Contribution(method, values, shares)


def worth_from(table: Mapping[str, float]) -> Worth:
    """Return the worth of coalitions from a table whose keys are department names joined by ``+``, ``""`` for none.

    Raises:
        ContributionError: when a coalition is asked for that the table does not hold.
    """
    known = {frozenset(filter(None, name.split("+"))): value for name, value in table.items()}

    def worth(coalition: frozenset[str]) -> float:
        if coalition not in known:
            raise ContributionError(f"expected the worth of {'+'.join(sorted(coalition)) or 'no department'}")
        return known[coalition]

    return worth


def _exact(players: Sequence[str], worth: Worth) -> dict[str, float]:
    found = _shapiq().ExactComputer(_game(players, worth), n_players=len(players))("SV", 1)
    return {name: float(found[(place,)]) for place, name in enumerate(players)}


def _sampled(players: Sequence[str], worth: Worth, seed: int) -> dict[str, float]:
    sampler = _shapiq().PermutationSamplingSV(n=len(players), random_state=seed)
    found = sampler.approximate(PERMUTATIONS * len(players), _game(players, worth))
    return {name: float(found[(place,)]) for place, name in enumerate(players)}


def _game(players: Sequence[str], worth: Worth) -> Any:  # an array function; the library is untyped
    import numpy as np

    def game(coalitions: Any) -> Any:  # as above
        rows = np.atleast_2d(coalitions)
        return np.array([worth(frozenset(p for p, is_in in zip(players, row, strict=True) if is_in)) for row in rows])

    return game


def _shapiq() -> Any:  # the library is untyped
    try:
        import shapiq
    except ImportError as error:
        raise ContributionError("expected the extra `contribution`: pip install 'shufang[contribution]'") from error
    return shapiq
