"""A node's rows as the counts and moments of a study; see ``nodes.contract.tasks.studies``.

Privacy:
    As in ``nodes.privacy.counting``: the numbers stay in the node, only their encryption
    leaves; values are cut to the variable's public bounds first.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nodes.contract.tasks.studies import Study, Variable
from nodes.contract.tasks.sums import SumsParameters

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    Numbers = np.ndarray[Any, Any]


def studied(
    frame: "pd.DataFrame", study: Study, parameters: SumsParameters, places: Mapping[str, "Numbers"]
) -> dict[str, Any]:
    """Return per part the number at each place of one study.

    Args:
        frame: granted rows.
        study: which statistic.
        parameters: with the category lists.
        places: category index per row of each column that has a list.

    Raises:
        ValueError: a variable's column is not numeric.
    """
    match study.kind:
        case "quantiles":
            return {"count": _bins(frame, study)}
        case "correlation" | "linear":
            return _moments(frame, study)
        case "logistic":
            return {"count": _combinations(study, parameters, places)}
        case _:
            return {"count": _counts([places[study.by[0]]], [len(parameters.study_axes(study)[0])])}


def numbers_of(column: "pd.Series[Any]") -> "Numbers":
    """Return a numeric column as float64; missing and infinite values are NaN.

    Raises:
        ValueError: the column holds no numbers.
    """
    import numpy as np
    import pandas as pd

    if not pd.api.types.is_numeric_dtype(column):
        raise ValueError(f"expected numbers in column {column.name}")
    numbers = column.to_numpy(dtype=float, na_value=np.nan)
    return np.where(np.isinf(numbers), np.nan, numbers)


def _bins(frame: "pd.DataFrame", study: Study) -> "Numbers":
    import numpy as np

    (variable,) = study.variables
    numbers = numbers_of(frame[variable.column])
    numbers = numbers[~np.isnan(numbers)] * variable.scale
    share = (numbers - variable.lower) / (variable.upper - variable.lower)
    return np.bincount(np.clip((share * study.bins).astype(np.int64), 0, study.bins - 1), minlength=study.bins)


def _moments(frame: "pd.DataFrame", study: Study) -> dict[str, Any]:
    import numpy as np

    columns = [_units(numbers_of(frame[variable.column]), variable) for variable in study.variables]
    values = np.stack(columns, axis=1)
    values = values[~np.isnan(values).any(axis=1)].astype(np.int64)
    moments: dict[tuple[int, ...], int] = {(place,): int(values[:, place].sum()) for place in range(values.shape[1])}
    products = values.T @ values
    for row in range(len(products)):
        for column in range(row, len(products)):
            moments[row, column] = int(products[row, column])
    return {"count": {(): len(values)}, "moment": moments}


def _units(numbers: "Numbers", variable: Variable) -> "Numbers":
    """Whole units from the middle of the range; NaN stays."""
    import numpy as np

    cut = np.clip(numbers, variable.lower / variable.scale, variable.upper / variable.scale)
    return np.rint((cut - variable.middle) / variable.unit)


def _combinations(study: Study, parameters: SumsParameters, places: Mapping[str, "Numbers"]) -> "Numbers":
    label = str(study.label)
    listed = parameters.category(label).values  # noqa: PD011  a field of the contract, no pandas object
    positive = listed.index(str(study.positive))
    known = places[label] < len(listed)
    outcome = (places[label][known] == positive).astype(int)
    axes = [places[column][known] for column in study.by]
    return _counts([outcome, *axes], [2, *(len(axis) for axis in parameters.study_axes(study))])


def _counts(axes: "list[Numbers]", sizes: list[int]) -> "Numbers":
    import numpy as np

    counts = np.zeros(sizes, dtype=np.int64)
    np.add.at(counts, tuple(axes), 1)
    return counts
