"""From opened sums to tables that may be published; pure.

Privacy:
    Tables show rounded counts, and sums, means and deviations only where enough rows stand
    behind them. Counts behind a sum or mean are not shown. A place that is suppressed in
    one table is suppressed in every table that has it.
"""

import math
from collections.abc import Sequence

from factory.federation.disclosure import Place, Table, protect_linked, round_published, with_totals
from nodes.contract.canonical import JsonObject, JsonValue
from nodes.contract.grant import Thresholds
from nodes.contract.tasks.sums import Measure, SumsParameters, layout

TOTAL = "*"


def protected_tables(parameters: SumsParameters, values: Sequence[int], thresholds: Thresholds) -> JsonObject:
    """Protect opened sums.

    Args:
        parameters: the tables.
        values: opened sums in the order of ``layout``.
        thresholds: of the grant.

    Returns:
        ``{"version": 1, "cell_min", "round_base", "tables": [...]}``; each table has ``name``, ``kind``, ``column``,
        ``by``, ``axes``, ``scale``, ``suppressed`` and ``cells``: ``at`` (labels, ``*`` for a total), ``value``
        (scaled units; null where nothing is published), for means with squares ``deviation``, and ``state``:
        ``published``, ``suppressed`` or ``empty``.
    """
    parts: list[dict[str, dict[tuple[int, ...], int]]] = [{} for _ in parameters.measures]
    for component, value in zip(layout(parameters), values, strict=True):
        parts[component.measure].setdefault(component.part, {})[component.cell] = value
    tables = [
        Table(parameters.axes(measure), found["count"])
        for measure, found in zip(parameters.measures, parts, strict=True)
    ]
    hidden = protect_linked(tables, [measure.by for measure in parameters.measures], thresholds.cell_min)
    rows: list[JsonValue] = [
        _table(measure, table, found, suppressed, thresholds.round_base)
        for measure, table, found, suppressed in zip(parameters.measures, tables, parts, hidden, strict=True)
    ]
    return {"version": 1, "cell_min": thresholds.cell_min, "round_base": thresholds.round_base, "tables": rows}


def _table(
    measure: Measure,
    table: Table,
    parts: dict[str, dict[tuple[int, ...], int]],
    suppressed: frozenset[Place],
    round_base: int,
) -> JsonObject:
    totals = {name: with_totals(cells, table.axes) for name, cells in parts.items()}
    if measure.kind == "mean":
        shown = {p: _ratio(totals["sum"][p], n) for p, n in totals["count"].items() if n and p not in suppressed}
    elif measure.kind == "sum":
        shown = round_published(totals["sum"], suppressed, table.axes, measure.round_to)
    else:
        shown = round_published(totals["count"], suppressed, table.axes, round_base)
    cells: list[JsonValue] = []
    for place, count in totals["count"].items():
        at: list[JsonValue] = [
            TOTAL if index is None else axis[index] for index, axis in zip(place, table.axes, strict=True)
        ]
        state = "suppressed" if place in suppressed else "published" if place in shown else "empty"
        cell: JsonObject = {"at": at, "value": shown.get(place), "state": state}
        if measure.squares and state == "published":
            cell["deviation"] = _deviation(count, totals["sum"][place], totals["squares"][place])
        cells.append(cell)
    return {
        "name": measure.name,
        "kind": measure.kind,
        "column": measure.column,
        "by": list(measure.by),
        "axes": [list(axis) for axis in table.axes],
        "scale": measure.scale,
        "suppressed": len(suppressed),
        "cells": cells,
    }


def _ratio(total: int, count: int) -> int:
    """Mean in scaled units, rounded half up."""
    return (2 * total + count) // (2 * count)


def _deviation(count: int, total: int, squares: int) -> int:
    """Standard deviation of the values in scaled units, rounded down: exact integer arithmetic."""
    return math.isqrt(max(0, count * squares - total * total) // (count * count))
