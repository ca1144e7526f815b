"""Figures of attacks with their intervals, from counts alone. Pure.

An interval from counts is the interval from rows: resampling rows with replacement changes a
histogram as a multinomial draw does.

Privacy:
    Works on counts summed over nodes, or on times that an application unit measured itself.

Source:
    Efron, "Bootstrap methods: another look at the jackknife", Ann. Statist. 7, 1979 (percentile
    interval); Newcombe, Statistics in Medicine 17, 1998, method 10 (difference of proportions);
    Wilson, JASA 22, 1927.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
"""Draws behind a percentile interval of 95 %."""

FALSE_POSITIVES_PERCENT = 1
"""Share of rows that were not trained on which the attacker may take for members, in percent.

Source: Carlini et al., S&P 2022, section III (success is judged at a low false-positive rate)."""

_SEED = 7
_COVERED = 0.95

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured success in millionths with its 95 % interval.

    Attributes:
        micro: the estimate.
        low_micro, high_micro: ends of the interval.
    """

    micro: int
    low_micro: int
    high_micro: int

    def metrics(self, name: str) -> dict[str, int]:
        """Return the three numbers under ``name``, as metrics of a product."""
        return {f"{name}_micro": self.micro, f"{name}_low_micro": self.low_micro, f"{name}_high_micro": self.high_micro}


def area(members: Sequence[int], others: Sequence[int]) -> Figure:
    """Return the area under the curve of an attack; ties within a bin count half.

    Args:
        members: rows trained on per bin, least suspicious bin first.
        others: rows not trained on, likewise.

    Raises:
        ValueError: different numbers of bins, a negative count, or an empty side.
    """
    return _bootstrapped(_areas, *_sides(members, others))


def hits_at_few_mistakes(members: Sequence[int], others: Sequence[int]) -> Figure:
    """Return the share of members that are told while at most ``FALSE_POSITIVES_PERCENT`` of the others are.

    Args, Raises: as of ``area``.
    """
    return _bootstrapped(_hits, *_sides(members, others))


def largest_difference(hits: Sequence[tuple[int, int]], *, members: int, others: int) -> tuple[int, Figure]:
    """Return where members are hit most more often than others, and by how much.

    The interval is that of as many comparisons at once (Bonferroni), so that the largest of many
    differences is not taken for one that was looked for.

    Args:
        hits: per comparison the members and the others that were hit.
        members: how many there are.
        others: how many there are.

    Raises:
        ValueError: no comparison, an empty side, or more hits than rows.
    """
    if not hits or members < 1 or others < 1 or any(not 0 <= a <= members or not 0 <= b <= others for a, b in hits):
        raise ValueError("expected hits among members and among others, and rows of both")
    z = NormalDist().inv_cdf(1 - (1 - _COVERED) / (2 * len(hits)))
    place = max(range(len(hits)), key=lambda at: hits[at][0] / members - hits[at][1] / others)
    first, second = hits[place][0] / members, hits[place][1] / others
    (low1, high1), (low2, high2) = _wilson(first, members, z), _wilson(second, others, z)
    difference = first - second
    low = difference - math.hypot(first - low1, high2 - second)
    high = difference + math.hypot(high1 - first, second - low2)
    return place, Figure(_micro(difference), _micro(low), _micro(high))


def area_of_values(members: Sequence[float], others: Sequence[float]) -> Figure:
    """Return the area under the curve of telling two samples apart by a value, e.g. a time.

    Raises:
        ValueError: a sample is empty.
    """
    edges = sorted({*members, *others})
    place = {value: at for at, value in enumerate(edges)}
    sides = [[0] * len(edges), [0] * len(edges)]
    for side, values in zip(sides, (members, others), strict=True):
        for value in values:
            side[place[value]] += 1
    return area(*sides)


def _sides(members: Sequence[int], others: Sequence[int]) -> tuple[Counts, Counts]:
    if len(members) != len(others) or min([*members, *others], default=-1) < 0 or not sum(members) or not sum(others):
        raise ValueError("expected two histograms over the same bins, neither of them empty")
    return np.array(members, dtype=np.int64), np.array(others, dtype=np.int64)


def _bootstrapped(figure: Callable[[Counts, Counts], Floats], members: Counts, others: Counts) -> Figure:
    rng = np.random.default_rng(_SEED)
    drawn = [rng.multinomial(side.sum(), side / side.sum(), size=RESAMPLES) for side in (members, others)]
    low, high = np.quantile(figure(*drawn), [(1 - _COVERED) / 2, (1 + _COVERED) / 2])
    return Figure(_micro(float(figure(members[None], others[None])[0])), _micro(float(low)), _micro(float(high)))


def _areas(members: Counts, others: Counts) -> Floats:
    below = np.cumsum(others, axis=1) - others
    wins = np.sum(members * (2 * below + others), axis=1)
    result: Floats = wins / (2 * members.sum(axis=1) * others.sum(axis=1))
    return result


def _hits(members: Counts, others: Counts) -> Floats:
    mistaken, caught = (np.cumsum(side[:, ::-1], axis=1) for side in (others, members))
    allowed = others.sum(axis=1, keepdims=True) * FALSE_POSITIVES_PERCENT // 100
    result: Floats = np.max(np.where(mistaken <= allowed, caught, 0), axis=1) / members.sum(axis=1)
    return result


def _wilson(share: float, count: int, z: float) -> tuple[float, float]:
    middle = share + z * z / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return (middle - half) / (1 + z * z / count), (middle + half) / (1 + z * z / count)


def _micro(value: float) -> int:
    return round(value * 1_000_000)
