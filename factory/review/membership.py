"""Membership inference: how well a model's confidence tells its training rows from others.

The attacker guesses that rows on which the model is surer were trained on (loss threshold).
Its area under the curve is computed from two histograms of confidence, each summed over all
nodes, so nothing about a single row or node is needed here.

Privacy:
    Reads sums over nodes that the pipeline opened; the figure itself is published with the
    model. 500 000 millionths mean the attacker is no better than a coin.

Source:
    Yeom et al., "Privacy Risk in Machine Learning", CSF 2018, section 3.2; interval: Hanley
    and McNeil, Radiology 143, 1982, equation 1.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from factory.review.finding import Finding

AUC_LIMIT_MICRO = 600_000
"""Largest area under the attack's curve that is let through; a choice of this project, stated in the report."""


@dataclass(frozen=True, slots=True)
class MembershipFigure:
    """Success of the attack, in millionths.

    Attributes:
        auc_micro: area under the curve; ties count half.
        low_micro, high_micro: 95 % interval.
        advantage_micro: largest difference between true and false positive rate.
        members, others: rows behind it.
    """

    auc_micro: int
    low_micro: int
    high_micro: int
    advantage_micro: int
    members: int
    others: int


def attack(members: Sequence[int], others: Sequence[int]) -> MembershipFigure:
    """Run the attack on histograms of confidence in the true class, least sure bin first.

    Args:
        members: training rows per bin, summed over nodes.
        others: rows per bin that were not trained on, summed over nodes.

    Raises:
        ValueError: different numbers of bins, a negative count, or an empty side.
    """
    m, n = sum(members), sum(others)
    if len(members) != len(others) or min([*members, *others], default=-1) < 0 or not m or not n:
        raise ValueError("expected two histograms over the same bins, neither of them empty")
    wins = below = 0
    for member, other in zip(members, others, strict=True):
        wins += member * (2 * below + other)
        below += other
    area = wins / (2 * m * n)
    deviation = math.sqrt(_variance(area, m, n))
    advantage, caught, mistaken = 0.0, 0, 0
    for member, other in zip(reversed(members), reversed(others), strict=True):
        caught, mistaken = caught + member, mistaken + other
        advantage = max(advantage, caught / m - mistaken / n)
    low, high = max(0.0, area - 1.96 * deviation), min(1.0, area + 1.96 * deviation)
    return MembershipFigure(_micro(area), _micro(low), _micro(high), _micro(advantage), m, n)


def check_membership(figure: MembershipFigure, *, limit_micro: int = AUC_LIMIT_MICRO) -> Finding:
    """Judge the figure: the attack fails when its area is within the limit."""
    return _finding(
        figure.auc_micro,
        limit_micro,
        {
            "low_micro": figure.low_micro,
            "high_micro": figure.high_micro,
            "advantage_micro": figure.advantage_micro,
            "members": figure.members,
            "others": figure.others,
        },
    )


def check_membership_metrics(metrics: dict[str, int | str], *, limit_micro: int = AUC_LIMIT_MICRO) -> Finding:
    """Judge the figures that the training pipeline measured over all nodes.

    Args:
        metrics: with ``membership_auc_micro`` and ``membership_advantage_micro``.
        limit_micro: largest area that is let through.

    Raises:
        KeyError: the pipeline measured none; a model is not tested without it.
    """
    evidence = {"advantage_micro": int(metrics["membership_advantage_micro"])}
    return _finding(int(metrics["membership_auc_micro"]), limit_micro, evidence)


def _finding(auc_micro: int, limit_micro: int, evidence: dict[str, int]) -> Finding:
    return Finding(
        test="membership_inference",
        title_zh="成员推断攻击",
        title_en="Membership inference",
        value=auc_micro,
        limit=limit_micro,
        is_ok=auc_micro <= limit_micro,
        unit="millionths of AUC",
        evidence={**evidence, "attack": "loss threshold (Yeom et al. 2018)"},
    )


def _variance(area: float, m: int, n: int) -> float:
    first, second = area / (2 - area), 2 * area * area / (1 + area)
    value = (area * (1 - area) + (m - 1) * (first - area * area) + (n - 1) * (second - area * area)) / (m * n)
    return max(value, 0.0)


def _micro(value: float) -> int:
    return round(value * 1_000_000)
