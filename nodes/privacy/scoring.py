"""A department's own domain of a composite index: one score per entity, and how much hangs on it.

Privacy:
    Scores stay here; what is added up is weight times score, under encryption. Of the
    sensitivity analysis leave rounded figures over at least ten entities.

Source:
    See ``nodes.contract.tasks.index``; principal component weights are squared loadings of the
    first component, OECD and JRC 2008, section 6.1.
"""

import math
from typing import TYPE_CHECKING, Any

from nodes.contract.tasks.index import (
    SCORE_MAX,
    SCORE_MIN,
    SHIFT_PERMILLE,
    WEIGHT_UNITS,
    Domain,
    IndexParameters,
    Indicator,
)
from nodes.privacy.studying import numbers_of

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    Numbers = np.ndarray[Any, Any]

_EXPONENTIAL_LOW = 60.0


def domain_scores(frame: "pd.DataFrame", domain: Domain, parameters: IndexParameters) -> "Numbers":
    """Return one score from 1 to 100 per entity; NaN where the domain says nothing of it.

    Args:
        frame: granted rows with the key and the indicators' columns.
        domain: what is measured.
        parameters: of the index.

    Raises:
        ValueError: a value is missing and may not be, an entity has several rows, or a column holds no numbers.
    """
    import numpy as np

    columns = [_normalised(_values(frame, item, parameters), item, parameters) for item in domain.indicators]
    scores = np.stack(columns, axis=1)
    weights = _weights(scores, domain)
    if parameters.aggregation == "geometric":
        result: Numbers = np.exp(np.log(scores) @ weights)
    else:
        result = scores @ weights
    return result


def domain_weight(scores: "Numbers", domain: Domain, parameters: IndexParameters) -> float:
    """Return the weight of the domain, between 0 and 1; only the ratio to the others' counts."""
    import numpy as np

    match parameters.domain_weighting:
        case "fixed":
            return domain.weight_permille / 1000
        case "equal":
            return 1.0
    return float(_divergence(scores[~np.isnan(scores)][:, None])[0])


def vector(scores: "Numbers", weight: float, parameters: IndexParameters) -> list[int]:
    """Return what is encrypted: per entity weight times score (or its logarithm), weight, and 1 or 0."""
    import numpy as np

    unit = round(weight * WEIGHT_UNITS)
    found: list[int] = []
    for score in scores:
        found += [0, 0, 0] if np.isnan(score) else [round(unit * _inner(float(score), parameters)), unit, 1]
    return found


def sensitivity(
    scores: "Numbers", weight: float, composite: "Numbers", weight_total: float, parameters: IndexParameters
) -> dict[str, int]:
    """Return how the ranking changes without this domain, and with its weight moved.

    Args:
        scores: of this domain.
        weight: of this domain.
        composite: published scores; NaN where there is none, or not all domains stand behind it.
        weight_total: of all domains.
        parameters: of the index.

    Returns:
        ``weight_permille`` (share of this domain) and, for ``without``, ``more`` and ``less`` (weight moved by
        ``SHIFT_PERMILLE``): Spearman's rank correlation with the published ranking in hundredths, the largest shift in
        ranks, and how many entities change their band.
    """
    import numpy as np

    there = ~np.isnan(composite) & ~np.isnan(scores)
    before, own = composite[there], scores[there]
    inner = np.array([_inner(float(value), parameters) for value in before])
    part = np.array([_inner(float(value), parameters) for value in own])
    found = {"weight_permille": round(1000 * weight / weight_total), "entities": len(before)}
    moves = (("without", -weight), ("more", weight * SHIFT_PERMILLE / 1000), ("less", -weight * SHIFT_PERMILLE / 1000))
    for name, change in moves:
        moved = (inner * weight_total + change * part) / (weight_total + change)
        after = np.exp(moved) if parameters.aggregation == "geometric" else moved
        ranks = _ranks(-before), _ranks(-np.round(after, 2))
        bands = [parameters.band(round(float(value) * 100)) for value in (*before, *after)]
        found[f"{name}_correlation_x100"] = round(100 * _correlation(*ranks))
        found[f"{name}_shift_max"] = math.ceil(float(np.abs(ranks[0] - ranks[1]).max()))
        found[f"{name}_bands_changed"] = sum(
            one != other for one, other in zip(bands[: len(before)], bands[len(before) :], strict=True)
        )
    return found


def _inner(score: float, parameters: IndexParameters) -> float:
    return math.log(score) if parameters.aggregation == "geometric" else score


def _values(frame: "pd.DataFrame", item: Indicator, parameters: IndexParameters) -> "Numbers":
    """One value per entity of the list, NaN where there is none."""
    keys = frame[parameters.key].astype(str)
    if item.column is None:
        found = keys.groupby(keys).size().astype(float)
    else:
        numbers = frame.assign(_value=numbers_of(frame[item.column])).groupby(keys)["_value"]
        if item.aggregate == "value" and int(numbers.size().max() if len(frame) else 0) > 1:
            raise ValueError(f"expected one row per entity for {item.name}; use mean or sum")
        found = numbers.sum(min_count=1) if item.aggregate == "sum" else numbers.mean()
    values: Numbers = found.reindex(list(parameters.entities)).to_numpy(dtype=float)
    return _completed(values, item, parameters)


def _completed(values: "Numbers", item: Indicator, parameters: IndexParameters) -> "Numbers":
    import numpy as np

    missing = np.isnan(values)
    if bool(missing.all()):
        raise ValueError(f"expected a value of {item.name} for one entity at least")
    match parameters.missing:
        case "refuse" if bool(missing.any()):
            raise ValueError(f"expected a value of {item.name} for every entity; choose another rule for missing ones")
        case "mean":
            return np.where(missing, values[~missing].mean(), values)
        case "zero":
            return np.where(missing, 0.0, values)
    return values


def _normalised(values: "Numbers", item: Indicator, parameters: IndexParameters) -> "Numbers":
    """Score from 1 to 100, more is better; a column that does not vary gets the middle."""
    import numpy as np

    signed = -values if item.direction == "lower" else values
    there = signed[~np.isnan(signed)]
    low, high, width = float(there.min()), float(there.max()), SCORE_MAX - SCORE_MIN
    if high == low:
        return np.where(np.isnan(signed), np.nan, (SCORE_MIN + SCORE_MAX) / 2)
    match parameters.normalisation:
        case "z":
            clipped: Numbers = np.clip(50 + 10 * (signed - there.mean()) / there.std(), SCORE_MIN, SCORE_MAX)
            return clipped
        case "minmax":
            return SCORE_MIN + width * (signed - low) / (high - low)
        case "rank":
            ranks = np.full(len(signed), np.nan)
            ranks[~np.isnan(signed)] = _ranks(there)
            return SCORE_MIN + width * (ranks - 1) / (len(there) - 1)
    rate = math.log(SCORE_MAX / _EXPONENTIAL_LOW)
    return _EXPONENTIAL_LOW * np.exp(rate * (signed - low) / (high - low))


def _weights(scores: "Numbers", domain: Domain) -> "Numbers":
    """Weights of the indicators, with sum 1."""
    import numpy as np

    complete = scores[~np.isnan(scores).any(axis=1)]
    raw = np.ones(scores.shape[1])
    if domain.weighting == "fixed":
        raw = np.array([float(item.weight_permille) for item in domain.indicators])
    elif domain.weighting == "entropy":
        raw = _divergence(complete)
    elif domain.weighting in {"critic", "pca"} and bool((complete.std(axis=0) > 0).all()):
        correlation = np.corrcoef(complete, rowvar=False)
        if domain.weighting == "critic":
            raw = complete.std(axis=0) * (1 - correlation).sum(axis=1)
        else:
            raw = np.linalg.eigh(correlation)[1][:, -1] ** 2
    total = float(raw.sum())
    return raw / total if total > 0 else np.full(len(raw), 1 / len(raw))


def _divergence(scores: "Numbers") -> "Numbers":
    """One minus the entropy of each column's shares."""
    import numpy as np

    if len(scores) < 2:
        return np.zeros(scores.shape[1])
    share = scores / scores.sum(axis=0)
    entropy = -(share * np.log(share)).sum(axis=0) / math.log(len(scores))
    divergence: Numbers = np.maximum(1 - entropy, 0.0)
    return divergence


def _ranks(values: "Numbers") -> "Numbers":
    """Ranks from 1, ties share their mean."""
    import numpy as np

    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    means: Numbers = (ends - counts + 1 + ends) / 2
    return means[place]


def _correlation(one: "Numbers", other: "Numbers") -> float:
    import numpy as np

    if float(one.std()) == 0 or float(other.std()) == 0:
        return 1.0 if bool((one == other).all()) else 0.0
    return float(np.corrcoef(one, other)[0, 1])
