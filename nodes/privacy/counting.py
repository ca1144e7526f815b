"""A node's rows as the vector of whole numbers that encrypted sums add up.

Privacy:
    The vector stays in the node; only its encryption leaves. Values are cut to the public
    bounds of the measure, so one row adds at most that much to a sum.
"""

from typing import TYPE_CHECKING, Any

from nodes.contract.tasks.sums import Category, Measure, SumsParameters, layout

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


def vector(frame: "pd.DataFrame", parameters: SumsParameters) -> list[int]:
    """Count and add up the rows of ``frame`` in the order of ``layout``.

    Args:
        frame: granted rows with all columns of the parameters.
        parameters: the tables.

    Returns:
        Whole numbers; counts of rows, sums and sums of squares in scaled units.

    Raises:
        ValueError: a column to be summed, or cut into bands, is not numeric.
    """
    places = {category.column: _places(frame[category.column], category) for category in parameters.categories}
    tables = [_table(frame, measure, parameters, places) for measure in parameters.measures]
    return [int(tables[item.measure][item.part][item.cell]) for item in layout(parameters)]


def _places(column: "pd.Series[Any]", category: Category) -> "np.ndarray[Any, Any]":
    """Category index per row; the last index is ``other``."""
    import numpy as np

    other = len(category.values)
    if category.edges:
        numbers = _numbers(column)
        bands = np.searchsorted(np.asarray(category.edges, dtype=float), numbers, side="right")
        return np.where(np.isnan(numbers), other, bands)
    known = {value: index for index, value in enumerate(category.values)}
    return np.fromiter((known.get(_text(value), other) for value in column.tolist()), dtype=np.int64, count=len(column))


def _table(
    frame: "pd.DataFrame",
    measure: Measure,
    parameters: SumsParameters,
    places: dict[str, "np.ndarray[Any, Any]"],
) -> dict[str, "np.ndarray[Any, Any]"]:
    import numpy as np

    shape = tuple(len(axis) for axis in parameters.axes(measure))
    present = np.ones(len(frame), dtype=bool)
    units: list[int] = []
    if measure.column is not None:
        numbers = _numbers(frame[measure.column])
        present = ~np.isnan(numbers)
        units = [_unit(number, measure) for number in numbers[present]]
    cells = tuple(places[column][present] for column in measure.by)
    counts = np.zeros(shape, dtype=np.int64)
    np.add.at(counts, cells, 1 if cells else int(present.sum()))
    table = {"count": counts}
    if measure.column is not None:
        for part, power in (("sum", 1), ("squares", 2)):
            totals = np.zeros(shape, dtype=object)  # Python's integers: squares may pass 64 bits
            for row, unit in enumerate(units):
                totals[tuple(int(axis[row]) for axis in cells)] += unit**power
            table[part] = totals
    return table


def _unit(number: float, measure: Measure) -> int:
    """Scale, round half to even, and cut to the measure's bounds."""
    unit = round(float(number) * measure.scale)
    if measure.lower is not None:
        unit = max(unit, measure.lower)
    if measure.upper is not None:
        unit = min(unit, measure.upper)
    return unit


def _numbers(column: "pd.Series[Any]") -> "np.ndarray[Any, Any]":
    import numpy as np
    import pandas as pd

    if not pd.api.types.is_numeric_dtype(column):
        raise ValueError(f"expected numbers in column {column.name}")
    numbers = column.to_numpy(dtype=float, na_value=np.nan)
    return np.where(np.isinf(numbers), np.nan, numbers)


def _text(value: object) -> str:
    if value is None or value != value:  # noqa: PLR0124  NaN is the one value that differs from itself
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
