"""Arithmetic of ``linear.secagg`` on one node's rows: pure functions from arrays to arrays.

Privacy: every result here is about this node alone and must be masked before it leaves,
but for ``auc`` and ``accuracy`` that ``nodes.tasks.linear`` rounds and guards.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nodes.contract.messages import Condition, RefusalCode
from nodes.contract.tasks.linear import BIN_LOGIT_MAX, BINS, WEIGHT_MAX, LinearParameters
from nodes.tasks.spec import TableView, TaskRefusedError

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

_LOCAL_STEPS = 200


@dataclass(frozen=True, slots=True, repr=False)
class Rows:
    """One node's labelled rows, split. Its repr shows nothing.

    Attributes:
        train: shape ``(rows, features)``, in the columns' units, NaN where missing.
        train_positive: shape ``(rows,)``.
        test, test_positive: likewise.
    """

    train: Floats
    train_positive: Flags
    test: Floats
    test_positive: Flags


def read(view: TableView, parameters: LinearParameters, *, node: str) -> Rows:
    """Return the labelled rows of ``view`` as arrays, split into training and test rows.

    Raises:
        TaskRefusedError: a column that is not numeric or not finite.
    """
    frame = view.frame()
    columns = [numbers(frame[name], name) for name in parameters.features]
    values = np.column_stack(columns) if len(frame) else np.empty((0, len(columns)))
    for place, name in enumerate(parameters.features):
        if name in parameters.zero_is_missing:
            values[values[:, place] == 0, place] = np.nan
    label = frame[parameters.label.column]
    labelled = label.notna().to_numpy(dtype=bool)
    positive = holds(label, parameters.label)
    if parameters.split is None:
        test = split(len(frame), node, seed=parameters.seed, test_permille=parameters.test_permille)
    else:
        chosen = Condition(column=parameters.split.column, operator="eq", values=(parameters.split.test_value,))
        test = holds(frame[parameters.split.column], chosen)
    train, test = labelled & ~test, labelled & test
    return Rows(values[train], positive[train], values[test], positive[test])


def split(rows: int, node: str, *, seed: int, test_permille: int) -> Flags:
    """Return which rows are kept for testing, the same at every run.

    A row's place is hashed with node and seed, so that no generator's version matters.
    """
    flags = np.empty(rows, dtype=bool)
    for place in range(rows):
        digest = hashlib.sha256(f"shufang/v1/split\0{seed}\0{node}\0{place}".encode()).digest()
        flags[place] = int.from_bytes(digest[:8], "big") % 1000 < test_permille
    return flags


def holds(column: object, condition: Condition) -> Flags:
    """Return where the condition holds; never where the value is missing.

    Args:
        column: pandas series of numbers or text.
        condition: numbers compare as numbers, text as text.
    """
    import pandas as pd

    series: pd.Series = column
    present = series.notna().to_numpy(dtype=bool)
    result = np.zeros(len(series), dtype=bool)
    if pd.api.types.is_numeric_dtype(series):
        values = series.to_numpy(dtype=float, na_value=np.nan)[present]
        wanted: list[float] | list[str] = _wanted_numbers(condition)
    else:
        values = series[present].astype(str).to_numpy(dtype=object)
        wanted = [str(value) for value in condition.values]  # noqa: PD011  a field of ours, not of pandas
    first = wanted[0]
    match condition.operator:
        case "eq" | "in":
            result[present] = np.isin(values.astype(type(first)), wanted)
        case "ne":
            result[present] = ~np.isin(values.astype(type(first)), wanted)
        case "lt":
            result[present] = values < first
        case "le":
            result[present] = values <= first
        case "gt":
            result[present] = values > first
        case "ge":
            result[present] = values >= first
    return result


def present_totals(values: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Return per feature how many values are present, and their total."""
    return np.sum(~np.isnan(values), axis=0), np.nansum(values, axis=0)


def centred(values: Floats, means: Floats) -> Floats:
    """Return the values minus the means; a missing value counts as the mean."""
    difference: Floats = np.where(np.isnan(values), 0.0, values - means)
    return difference


def standardised(values: Floats, means: Floats, scales: Floats) -> Floats:
    """Return a leading column of ones and the standardised features."""
    return np.column_stack([np.ones(len(values)), centred(values, means) / scales])


def steps(
    design: Floats, positive: Flags, weights: Floats, *, preconditioner: Floats, penalty: float, count: int
) -> Floats:
    """Return the weights after ``count`` full-batch steps of preconditioned gradient descent.

    Args:
        design: shape ``(rows, 1 + features)``, see ``standardised``.
        positive: shape ``(rows,)``.
        weights: shape ``(1 + features,)``, intercept first.
        preconditioner: shape ``(1 + features, 1 + features)``, the inverse of an upper bound of the Hessian.
        penalty: λ of ``½·λ·|w|²``; the intercept is free.
        count: how many steps.

    Source:
        Böhning & Lindsay, "Monotonicity of quadratic-approximation algorithms", Ann. Inst.
        Statist. Math. 40, 1988: ¼·XᵀX bounds the Hessian of the logistic loss.
    """
    ridge = np.full(len(weights), penalty)
    ridge[0] = 0.0
    for _ in range(count):
        residual = probability(design @ weights) - positive
        gradient = design.T @ residual / len(design) + ridge * weights
        weights = np.clip(weights - preconditioner @ gradient, -WEIGHT_MAX, WEIGHT_MAX)
    return weights


def fit_alone(values: Floats, positive: Flags, *, penalty: float) -> tuple[Floats, Floats, Floats]:
    """Return means, scales and weights of a model of these rows alone: the baseline of one node."""
    present, totals = present_totals(values)
    means = totals / np.maximum(present, 1)
    difference = centred(values, means)
    scales = np.sqrt(np.mean(difference**2, axis=0))
    scales[scales == 0] = 1.0
    design = standardised(values, means, scales)
    bound: Floats = design.T @ design / (4 * len(design)) + penalty * np.diag([0.0, *np.ones(len(means))])
    weights = steps(
        design,
        positive,
        np.zeros(len(means) + 1),
        preconditioner=np.linalg.inv(bound).astype(np.float64),
        penalty=penalty,
        count=_LOCAL_STEPS,
    )
    return means, scales, weights


def probability(logits: Floats) -> Floats:
    """Return ``1 / (1 + exp(-logits))`` without overflow."""
    small = np.exp(-np.abs(logits))
    result: Floats = np.where(logits >= 0, 1.0, small) / (1.0 + small)
    return result


def log_loss_total(logits: Floats, positive: Flags) -> float:
    """Return the sum of log losses."""
    return float(np.sum(np.logaddexp(0.0, np.where(positive, -logits, logits))))


def histogram(logits: Floats) -> NDArray[np.int64]:
    """Return how many logits fall into each of ``BINS`` equal bins of ±``BIN_LOGIT_MAX``."""
    place = np.floor((logits + BIN_LOGIT_MAX) * (BINS / (2 * BIN_LOGIT_MAX)))
    return np.bincount(np.clip(place, 0, BINS - 1).astype(np.int64), minlength=BINS)


def auc(logits: Floats, positive: Flags) -> float:
    """Return the area under the ROC curve; ties count half. Both classes must be present.

    Source:
        Mann–Whitney U statistic.
    """
    _, place, counts = np.unique(logits, return_inverse=True, return_counts=True)
    rank = (np.cumsum(counts) - (counts - 1) / 2)[place]
    positives = int(positive.sum())
    negatives = len(positive) - positives
    return float((rank[positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def accuracy(logits: Floats, positive: Flags) -> float:
    """Return the share of rows on the right side of probability one half."""
    return float(np.mean((logits >= 0) == positive))


def numbers(column: object, name: str) -> Floats:
    """Return a column as float64, NaN where missing.

    Raises:
        TaskRefusedError: text, or a number that is not finite.
    """
    import pandas as pd

    series: pd.Series = column
    converted = pd.to_numeric(series, errors="coerce")
    if bool((converted.isna() & series.notna()).any()):
        raise TaskRefusedError(
            RefusalCode.TASK_PARAMETERS, f"expected numbers in column {name}, got text: name numeric columns"
        )
    values: Floats = converted.to_numpy(dtype=float, na_value=np.nan)
    if bool(np.isinf(values).any()):
        raise TaskRefusedError(RefusalCode.TASK_PARAMETERS, f"expected finite numbers in column {name}")
    return values


def _wanted_numbers(condition: Condition) -> list[float]:
    try:
        return [float(value) for value in condition.values]  # noqa: PD011  a field of ours, not of pandas
    except ValueError as error:
        raise TaskRefusedError(
            RefusalCode.TASK_PARAMETERS, f"expected numbers to compare column {condition.column} with"
        ) from error
