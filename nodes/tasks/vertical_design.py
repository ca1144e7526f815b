"""Arithmetic of ``linear.vertical`` on one node's own columns: pure functions and one block's optimiser.

Nothing here talks to anybody. Means, scales, weights and rows stay in the objects below, whose
repr shows none of them.

Source:
    See ``nodes.contract.tasks.vertical_linear``; coordinate descent for the L1 step in a block's
    metric: Friedman, Hastie, Tibshirani, "Regularization Paths for Generalized Linear Models via
    Coordinate Descent", J. Stat. Softw. 33(1), 2010.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nodes.contract.messages import RefusalCode
from nodes.contract.tasks.vertical_linear import SCORE_BINS, VerticalLinearParameters, micro
from nodes.tasks.linear_rows import numbers
from nodes.tasks.spec import TaskRefusedError

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Places = NDArray[np.int64]

_SWEEPS = 100


@dataclass(slots=True, repr=False)
class Design:
    """One party's standardised, clipped columns. Its repr shows nothing.

    Attributes:
        train, test: shape ``(rows, columns)``; at the label party the first column is ones.
        means, scales: per feature, of the training rows, in its unit.
        has_intercept: whether there is a column of ones.
    """

    train: Floats
    test: Floats
    means: Floats
    scales: Floats
    has_intercept: bool


def features_of(frame: "pd.DataFrame", names: Sequence[str], zero_is_missing: Sequence[str]) -> Floats:
    """Return columns as an array of shape ``(rows, features)``, NaN where missing.

    Raises:
        TaskRefusedError: a column that is not numeric or not finite.
    """
    values = np.empty((len(frame), len(names)))
    for place, name in enumerate(names):
        column = numbers(frame[name], name)
        values[:, place] = np.where(column == 0, np.nan, column) if name in zero_is_missing else column
    return values


def design(values: Floats, test: Flags, parameters: VerticalLinearParameters, *, has_intercept: bool) -> Design:
    """Standardise by the training rows, set missing values to the mean, clip.

    Args:
        values: shape ``(rows, features)``, in the joint order, NaN where missing.
        test: which of the rows are kept for testing.
        parameters: as ordered.
        has_intercept: whether to put a column of ones before the features.
    """
    train = values[~test]
    present = np.maximum((~np.isnan(train)).sum(axis=0), 1)
    means = np.nansum(train, axis=0) / present
    spread = np.where(np.isnan(train), 0.0, train - means)
    scales = np.sqrt(np.mean(spread**2, axis=0)) if len(train) else np.ones(values.shape[1])
    scales[scales == 0] = 1.0
    units = np.where(np.isnan(values), 0.0, (values - means) / scales)
    clipped = np.clip(units, -parameters.winsor, parameters.winsor)
    if has_intercept:
        clipped = np.column_stack([np.ones(len(clipped)), clipped])
    return Design(clipped[~test], clipped[test], means, scales, has_intercept)


def require_groups(values: Floats, names: Sequence[str], least: int) -> None:
    """Refuse features by which a sum over all rows would be about few of them.

    Args:
        values: training rows, shape ``(rows, features)``, NaN where missing.
        names: of the features.
        least: fewest rows that must differ from a feature's most frequent value.

    Raises:
        TaskRefusedError: a feature that singles out fewer.

    Privacy:
        The first residuals are known functions of the labels: the sum over a feature that is
        not zero on one row alone would open that row's label.
    """
    for place, name in enumerate(names):
        column = values[:, place]
        column = column[~np.isnan(column)]
        _, counts = np.unique(column, return_counts=True)
        if not len(column) or len(column) - int(counts.max()) < least:
            raise TaskRefusedError(
                RefusalCode.RESOURCE_ROWS,
                f"expected at least {least} rows in which {name} differs from its most frequent value; leave it out",
            )


@dataclass(slots=True, repr=False)
class Block:
    """One party's weights and their accelerated steps. Its repr shows nothing.

    Attributes:
        design: the columns.
        metric: bound of this block of the Hessian, shape ``(columns, columns)``.
        l1, l2: weights of the penalties; the intercept is free.
        weights, before: now and one round ago.
        rounds: how many steps were made.
    """

    design: Design
    metric: Floats
    l1: float
    l2: float
    weights: Floats
    before: Floats
    rounds: int = 0
    _free: Floats = field(init=False)

    def __post_init__(self) -> None:
        self._free = np.ones(len(self.weights))
        if self.design.has_intercept:
            self._free[0] = 0.0

    @property
    def point(self) -> Floats:
        """Where the next gradient is wanted: the weights, carried on by the momentum."""
        return self.weights + self.rounds / (self.rounds + 3) * (self.weights - self.before)

    def step(self, sums: Floats) -> float:
        """Make a step and return half its squared length in the block's metric, an estimate of the decrease.

        Args:
            sums: per column the sum over training rows of column times residual, at ``point``.
        """
        point = self.point
        gradient = sums / len(self.design.train) + self.l2 * self._free * point
        moved = point - np.linalg.solve(self.metric, gradient)
        if self.l1:
            moved = self._shrunk(point, gradient, moved)
        self.before, self.weights = self.weights, moved
        self.rounds += 1
        difference = moved - point
        return float(difference @ self.metric @ difference) / 2

    def _shrunk(self, point: Floats, gradient: Floats, start: Floats) -> Floats:
        """Return the minimum of the local model plus ``l1·|w|``, by coordinate descent."""
        weights = start.copy()
        for _ in range(_SWEEPS):
            last = weights.copy()
            for place in range(len(weights)):
                slope = gradient[place] + self.metric[place] @ (weights - point)
                free = weights[place] - slope / self.metric[place, place]
                threshold = self.l1 * self._free[place] / self.metric[place, place]
                weights[place] = np.sign(free) * max(abs(free) - threshold, 0.0)
            if float(np.max(np.abs(weights - last), initial=0.0)) < 1e-12:
                break
        return weights


def block(design_: Design, parameters: VerticalLinearParameters) -> Block:
    """Return a block at weight zero."""
    train = design_.train
    # Balanced weights are 1 in the mean, but larger for the rare class, which the others cannot see.
    curvature = 1.0 if parameters.model == "linear" else 0.5 if parameters.balanced else 0.25
    l2 = parameters.l2_micro / 1_000_000
    metric: Floats = parameters.block_factor * curvature * train.T @ train / len(train)
    # The smallest number keeps a column that another one repeats from making the metric singular.
    metric += max(l2, 1e-9) * np.eye(len(metric))
    zero = np.zeros(train.shape[1])
    return Block(design_, metric, parameters.l1_micro / 1_000_000, l2, zero, zero.copy())


def scores(columns: Floats, weights: Floats, parameters: VerticalLinearParameters) -> Floats:
    """Return one party's part of each row's score over the half width, clipped to its share of [-1, 1]."""
    share = 1.0 / len(parameters.features)
    return np.clip(columns @ weights / parameters.polynomial.half_width, -share, share)


@dataclass(frozen=True, slots=True)
class Scale:
    """Equal bins for one party's part of the scores.

    Attributes:
        centre: middle of the bins, the mean of the party's scores.
        width: of one bin, the same at both parties.
    """

    centre: float
    width: float

    def flags(self, values: Floats) -> Floats:
        """Return one column of 0 and 1 per bin; scores beyond fall into the outer bins."""
        place = np.floor((values - self.centre) / self.width).astype(np.int64) + SCORE_BINS // 2
        return np.eye(SCORE_BINS)[np.clip(place, 0, SCORE_BINS - 1)]


def curve(name: str, negative: Floats, positive: Floats, centres: Floats) -> dict[str, int]:
    """Return metrics of a score histogram, in millionths.

    Args:
        name: of the rows, ``train`` or ``test``.
        negative: rows of the negative class per bin, ascending.
        positive: likewise of the positive class.
        centres: score in the middle of each bin, in logits.

    Returns:
        ``auc`` (ties within a bin count half), ``auc_low`` and ``auc_high`` between which the exact figure of
        the binned scores lies, ``accuracy`` and ``log_loss``.
    """
    below = np.concatenate([[0.0], np.cumsum(negative)[:-1]])
    sure, tied = float(positive @ below), float(positive @ negative)
    pairs = float(negative.sum() * positive.sum())
    rows = float(negative.sum() + positive.sum())
    right = float(negative[centres < 0].sum() + positive[centres >= 0].sum())
    loss = float(negative @ np.logaddexp(0.0, centres) + positive @ np.logaddexp(0.0, -centres))
    return {
        f"auc_{name}_micro": micro((sure + tied / 2) / pairs),
        f"auc_low_{name}_micro": micro(sure / pairs),
        f"auc_high_{name}_micro": micro((sure + tied) / pairs),
        f"accuracy_{name}_micro": micro(right / rows),
        f"log_loss_{name}_micro": micro(loss / rows),
    }


def membership(train: tuple[Floats, Floats], test: tuple[Floats, Floats], centres: Floats) -> dict[str, int]:
    """Return how well confidence in the true class tells training rows from test rows, in millionths.

    Args:
        train: histograms of the negative and of the positive training rows.
        test: likewise of the test rows.
        centres: score in the middle of each bin.

    Source:
        Yeom et al., "Privacy Risk in Machine Learning", CSF 2018 (membership advantage).
    """
    order = np.argsort(np.concatenate([-centres, centres]), kind="stable")[::-1]
    member, other = (np.concatenate(sides)[order] for sides in (train, test))
    hit, miss = np.cumsum(member) / member.sum(), np.cumsum(other) / other.sum()
    area = float(np.sum(other / other.sum() * (hit - member / member.sum() / 2)))
    return {
        "membership_auc_micro": micro(area),
        "membership_advantage_micro": max(micro(float(np.max(hit - miss))), 0),
    }
