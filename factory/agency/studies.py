"""From opened counts and moments to statistics that may be published; pure.

Every study says how far its figures can be off those of the pooled rows (``error``), and is
withheld as a whole, with the reason, when too few rows or degrees of freedom stand behind it.

Privacy:
    Figures have four significant digits and counts are rounded. Quantiles are middles of bins,
    with at least the minimum of rows on either side; there is no minimum and no maximum.

Source:
    Least squares and its standard errors: Greene, "Econometric Analysis", 7th ed., section
    4.4; iteratively reweighted least squares: McCullagh and Nelder, "Generalized Linear
    Models", 2nd ed., section 4.4.2.
"""

from collections.abc import Mapping
from decimal import Decimal
from itertools import accumulate, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from factory.federation.rules import RuleSet
from nodes.contract.canonical import JsonObject, JsonValue
from nodes.contract.tasks.studies import Study
from nodes.contract.tasks.sums import OTHER, SumsParameters

Parts = Mapping[str, Mapping[tuple[int, ...], int]]
_STEPS_MAX = 50
_DIGITS = 4
_RANK_LIMIT = 1e-9


class _WithheldError(Exception):
    """The study may not be published; ``reason`` is its code."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def rows_behind(parts: Parts) -> int:
    """Return how many rows are behind a study."""
    return sum(parts["count"].values())


def studied_safely(
    study: Study,
    parts: Parts,
    parameters: SumsParameters,
    rules: RuleSet,
    *,
    shown: Mapping[frozenset[tuple[str, int]], int | None] | None = None,
    differs: bool = False,
) -> JsonObject:
    """Return one study as it may be published.

    Args:
        study: which statistic.
        parts: opened counts and moments by part and place.
        parameters: with the category lists.
        rules: the rule set.
        shown: what tables show of a category: its published count, None where it is suppressed.
        differs: the rows differ from those of an earlier release by too few.

    Returns:
        ``name``, ``kind``, ``state`` (``published`` or ``suppressed``), ``reason`` (a code, or empty), ``count``
        (rounded rows), ``error`` (text zh and en), and ``rows``: a list of objects whose figures are decimal texts.
    """
    count = rows_behind(parts)
    document: JsonObject = {"name": study.name, "kind": study.kind, "state": "suppressed", "reason": "", "count": None}
    withheld = "differencing" if differs else "threshold" if count < rules.cell_min else ""
    found: JsonObject = {"rows": [], "error": {"zh": "", "en": ""}}
    if not withheld:
        try:
            found = _figures(study, parts, parameters, rules, shown or {})
        except _WithheldError as error:
            withheld = error.reason
    if withheld:
        return document | found | {"reason": withheld}
    base = rules.round_base
    rounded = None if study.kind == "top" else (count + base // 2) // base * base
    return document | {"state": "published", "count": rounded} | found


def _figures(
    study: Study,
    parts: Parts,
    parameters: SumsParameters,
    rules: RuleSet,
    shown: Mapping[frozenset[tuple[str, int]], int | None],
) -> JsonObject:
    match study.kind:
        case "quantiles":
            return _quantiles(study, parts, rules)
        case "correlation":
            return _correlations(study, parts, rules)
        case "linear":
            return _linear(study, parts, rules)
        case "logistic":
            return _logistic(study, parts, parameters, rules)
    return _top(study, parts, parameters, rules, shown)


def _quantiles(study: Study, parts: Parts, rules: RuleSet) -> JsonObject:
    (variable,) = study.variables
    counts = [parts["count"][(number,)] for number in range(study.bins)]
    total, width = sum(counts), Decimal(variable.upper - variable.lower) / variable.scale / study.bins
    rows: list[JsonValue] = []
    for permille in study.permille:
        target = -(-permille * total // 1000)
        number = next(place for place, reached in enumerate(accumulate(counts)) if reached >= target)
        is_safe = min(target, total - target) >= rules.cell_min
        middle = Decimal(variable.lower) / variable.scale + width * (2 * number + 1) / 2
        rows.append(
            {
                "permille": permille,
                "value": _significant(float(middle), width) if is_safe else None,
                "state": "published" if is_safe else "suppressed",
                "reason": "" if is_safe else "tail",
                "is_at_bound": is_safe and number in {0, study.bins - 1},
            }
        )
    if not any(isinstance(row, dict) and row["state"] == "published" for row in rows):
        raise _WithheldError("tail")
    half = format((width / 2).normalize(), "f")
    return {
        "column": variable.column,
        "rows": rows,
        "error": {
            "zh": f"与合并数据的分位数（反经验分布）相差不超过半个组距 {half}",
            "en": f"within half a bin, {half}, of the pooled quantile (inverted empirical distribution)",
        },
    }


def _moments(study: Study, parts: Parts) -> tuple[int, NDArray[np.float64], NDArray[np.float64]]:
    """Rows, means and centred products, in units of each variable from the middle of its range."""
    width = len(study.variables)
    count = parts["count"][()]
    sums = [parts["moment"][(place,)] for place in range(width)]
    centred = np.zeros((width, width))
    for row, column in product(range(width), repeat=2):
        moment = parts["moment"][min(row, column), max(row, column)]
        centred[row, column] = (count * moment - sums[row] * sums[column]) / count  # exact integers first
    if any(centred[place, place] <= 0 for place in range(width)):
        raise _WithheldError("collinear")
    return count, np.array(sums) / count, centred


def _require_freedom(count: int, used: int, rules: RuleSet) -> int:
    freedom = count - used
    if freedom < rules.dof_min:
        raise _WithheldError("dof")
    return freedom


_MOMENT_ERROR = {
    "zh": "每个数值先取整到取值范围的 1/16384，结果保留四位有效数字",
    "en": "every value is rounded to 1/16384 of its range first; figures have four significant digits",
}


def _correlations(study: Study, parts: Parts, rules: RuleSet) -> JsonObject:
    count, _, centred = _moments(study, parts)
    freedom = _require_freedom(count, 2, rules)
    scale = np.sqrt(np.diag(centred))
    matrix = centred / np.outer(scale, scale)
    names = [variable.column for variable in study.variables]
    rows: list[JsonValue] = [
        {"first": names[row], "second": names[column], "value": _text(float(matrix[row, column]))}
        for row in range(len(names))
        for column in range(row + 1, len(names))
    ]
    return {"rows": rows, "error": dict(_MOMENT_ERROR), "dof": _rounded_freedom(freedom, rules)}


def _linear(study: Study, parts: Parts, rules: RuleSet) -> JsonObject:
    count, means, centred = _moments(study, parts)
    freedom = _require_freedom(count, len(study.variables), rules)
    inverse = _inverse(centred[1:, 1:])
    slopes = inverse @ centred[1:, 0]
    residual = max(float(centred[0, 0] - slopes @ centred[1:, 0]), 0.0)
    variance = residual / freedom
    outcome, *inputs = study.variables
    unit = np.array([variable.unit for variable in inputs]) / outcome.unit
    natural = slopes / unit
    errors = np.sqrt(variance * np.diag(inverse)) / unit
    centre = np.array([variable.middle for variable in inputs]) + means[1:] * [variable.unit for variable in inputs]
    intercept = outcome.middle + means[0] * outcome.unit - float(natural @ centre)
    covariance = (
        variance
        * outcome.unit**2
        * inverse
        / np.outer([variable.unit for variable in inputs], [variable.unit for variable in inputs])
    )
    intercept_error = np.sqrt(variance * outcome.unit**2 / count + float(centre @ covariance @ centre))
    terms = [("", intercept, float(intercept_error))]
    terms += [(v.column, float(b), float(e)) for v, b, e in zip(inputs, natural, errors, strict=True)]
    return {
        "column": outcome.column,
        "rows": [_term(name, "", value, error) for name, value, error in terms],
        "r_squared": _text(1 - residual / float(centred[0, 0])),
        "residual_deviation": _text(float(np.sqrt(variance)) * outcome.unit),
        "dof": _rounded_freedom(freedom, rules),
        "error": dict(_MOMENT_ERROR),
    }


def _logistic(study: Study, parts: Parts, parameters: SumsParameters, rules: RuleSet) -> JsonObject:
    levels = [parameters.category(column).values for column in study.by]
    patterns = list(product(*(range(len(values)) for values in levels)))  # rows of ``other`` groups are left out
    negative, positive = (
        np.array([parts["count"][(side, *pattern)] for pattern in patterns], dtype=float) for side in (0, 1)
    )
    for place, values in enumerate(levels):
        for index in range(len(values)):
            inside = np.array([pattern[place] == index for pattern in patterns])
            counts = (int(negative[inside].sum()), int(positive[inside].sum()))
            if min(counts) == 0 and max(counts) > 0:
                raise _WithheldError("separation")
            if min(counts) < rules.cell_min:
                raise _WithheldError("threshold")
    names = [(column, value) for column, values in zip(study.by, levels, strict=True) for value in values[1:]]
    places = [(place, index) for place, values in enumerate(levels) for index in range(1, len(values))]
    design = np.array([[1.0, *(float(pattern[p] == i) for p, i in places)] for pattern in patterns])
    total = negative + positive
    freedom = _require_freedom(int(total.sum()), design.shape[1], rules)
    weights = np.zeros(design.shape[1])
    for _ in range(_STEPS_MAX):
        chance = 1 / (1 + np.exp(-(design @ weights)))
        information = design.T @ (design * (total * chance * (1 - chance))[:, None])
        step = _inverse(information) @ (design.T @ (positive - total * chance))
        weights = weights + step
        if float(np.abs(step).max()) < 1e-10:
            break
    else:
        raise _WithheldError("separation")
    errors = np.sqrt(np.diag(_inverse(information)))
    terms = [("", "", weights[0], errors[0])]
    terms += [(*name, value, error) for name, value, error in zip(names, weights[1:], errors[1:], strict=True)]
    rows: list[JsonValue] = []
    for column, value, weight, error in terms:
        row = _term(column, value, float(weight), float(error))
        row["odds_ratio"] = _text(float(np.exp(weight)))
        row["odds_low"], row["odds_high"] = (_text(float(np.exp(weight + side * 1.96 * error))) for side in (-1, 1))
        rows.append(row)
    return {
        "column": study.label,
        "positive": study.positive,
        "rows": rows,
        "dof": _rounded_freedom(freedom, rules),
        "error": {
            "zh": "由各组合的确切计数求得极大似然估计，与合并数据一致；结果保留四位有效数字",
            "en": "maximum likelihood from the exact counts of all combinations, as of the pooled rows; "
            "figures have four significant digits",
        },
    }


def _top(
    study: Study,
    parts: Parts,
    parameters: SumsParameters,
    rules: RuleSet,
    shown: Mapping[frozenset[tuple[str, int]], int | None],
) -> JsonObject:
    (column,) = study.by
    values = parameters.category(column).values
    base = rules.round_base
    ranked = sorted(((parts["count"][(index,)], -index) for index in range(len(values))), reverse=True)
    rows: list[JsonValue] = []
    for count, place in ranked:
        known = frozenset({(column, -place)})
        # A count that a table shows is shown alike: two roundings of one number would tell more than either.
        number = shown.get(known, (count + base // 2) // base * base)
        if count >= rules.cell_min and number is not None:
            rows.append({"value": values[-place], "count": number})
    if not rows:
        raise _WithheldError("threshold")
    return {
        "column": column,
        "rows": rows[: study.count],
        "error": {
            "zh": f"计数取整到 {base} 的倍数；{OTHER} 与被隐去的类别不参与排名",
            "en": f"counts are multiples of {base}; {OTHER} and suppressed groups are not ranked",
        },
    }


def _term(column: str, value: str, weight: float, error: float) -> dict[str, Any]:
    return {"column": column, "value": value, "estimate": _text(weight), "standard_error": _text(error)}


def _inverse(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    scale = np.sqrt(np.diag(matrix))
    if not bool((scale > 0).all()):
        raise _WithheldError("collinear")
    scaled = matrix / np.outer(scale, scale)
    if float(np.linalg.eigvalsh(scaled)[0]) < _RANK_LIMIT:
        raise _WithheldError("collinear")
    inverse: NDArray[np.float64] = np.linalg.inv(scaled) / np.outer(scale, scale)
    return inverse


def _rounded_freedom(freedom: int, rules: RuleSet) -> int:
    return freedom // rules.round_base * rules.round_base


def _text(value: float) -> str:
    """Four significant digits as a plain decimal."""
    return format(Decimal(f"{value:.{_DIGITS - 1}e}").normalize() + Decimal(0), "f")


def _significant(value: float, width: Decimal) -> str:
    """A middle of a bin with no more digits than its width is worth."""
    return format(Decimal(value).quantize(Decimal(1).scaleb(width.adjusted() - 1)).normalize() + Decimal(0), "f")
