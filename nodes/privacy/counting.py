"""A node's rows as the vector of whole numbers that encrypted sums add up.

Privacy:
    The vector stays in the node; only its encryption leaves. Values are cut to the public
    bounds of the measure, so one row adds at most that much to a sum.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nodes.contract.tasks.sums import Category, Measure, SumsParameters, layout, power_part
from nodes.contract.tasks.tops import power_sums
from nodes.privacy.studying import numbers_of, studied

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
    places = {
        category.column: _places(frame[category.column], category)
        for category in parameters.categories
        if category.column in parameters.columns
    }
    tables: list[Mapping[str, Any]] = [_table(frame, measure, parameters, places) for measure in parameters.measures]
    tables += [studied(frame, study, parameters, places) for study in parameters.studies]
    return [int(tables[item.measure][item.part][item.cell]) for item in layout(parameters)]


def _places(column: "pd.Series[Any]", category: Category) -> "np.ndarray[Any, Any]":
    """Category index per row; the last index is ``other``."""
    import numpy as np

    other = len(category.values)
    if category.period is not None:
        column = _periods(column, category.period)
    if category.edges:
        numbers = numbers_of(column)
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
        numbers = numbers_of(frame[measure.column])
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
        if "size" in parameters.parts(measure):
            table["size"] = np.zeros(shape, dtype=object)
            for row, unit in enumerate(units):
                table["size"][tuple(int(axis[row]) for axis in cells)] += abs(unit)
        if power_part(1) in parameters.parts(measure):
            table |= _powers(shape, cells, [abs(unit) for unit in units], parameters.powers)
    return table


def _powers(
    shape: tuple[int, ...], cells: tuple["np.ndarray[Any, Any]", ...], sizes: list[int], count: int
) -> dict[str, "np.ndarray[Any, Any]"]:
    """Power sums of the largest contributions to each cell, by name of the part."""
    import numpy as np

    found: dict[tuple[int, ...], list[int]] = {place: [] for place in np.ndindex(*shape)}
    for row, size in enumerate(sizes):
        found[tuple(int(axis[row]) for axis in cells)].append(size)
    table = {power_part(number): np.zeros(shape, dtype=object) for number in range(1, count + 1)}
    for place, values in found.items():
        for number, value in enumerate(power_sums(values, count), start=1):
            table[power_part(number)][place] = value
    return table


def _periods(column: "pd.Series[Any]", period: str) -> "pd.Series[Any]":
    """Year, quarter or month of each date; empty where there is none."""
    import pandas as pd

    dates = pd.to_datetime(column, errors="coerce", format="mixed")
    text = {"year": dates.dt.strftime("%Y"), "month": dates.dt.strftime("%Y-%m")}.get(period)
    if text is None:
        text = dates.dt.strftime("%Y") + "-Q" + dates.dt.quarter.astype("Int64").astype("string")
    return text.astype(object).where(dates.notna(), "")


def _unit(number: float, measure: Measure) -> int:
    """Scale, round half to even, and cut to the measure's bounds."""
    unit = round(float(number) * measure.scale)
    if measure.lower is not None:
        unit = max(unit, measure.lower)
    if measure.upper is not None:
        unit = min(unit, measure.upper)
    return unit


def _text(value: object) -> str:
    if value is None or value != value:  # noqa: PLR0124  NaN is the one value that differs from itself
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
