"""From opened sums to tables that may be published; pure.

Privacy:
    Tables show rounded counts, and sums, means and deviations only where enough rows stand
    behind them and no few of them dominate. Counts behind a sum or mean are not shown. A
    place that is suppressed in one table is suppressed in every table that has it; a sum or
    mean suppressed for dominance in every table about the same column.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, cast

from factory.agency import register, tops
from factory.federation.disclosure import (
    Place,
    Reason,
    Table,
    key,
    protect_linked,
    round_published,
    suppression_of_sums,
    with_totals,
)
from factory.federation.rules import REASONS, RuleSet, rule_set
from nodes.contract.canonical import JsonObject, JsonValue
from nodes.contract.grant import Thresholds
from nodes.contract.tasks.sums import Measure, SumsParameters, layout, power_part

TOTAL = "*"

_Parts = dict[str, dict[tuple[int, ...], int]]


@dataclass(frozen=True, slots=True)
class Protected:
    """What may leave, and what the register must remember of it.

    Attributes:
        document: ``{"version": 2, "rules", "reasons", "cell_min", "round_base", "tables": [...], "studies": [...]}``.
            Each table has ``name``, ``kind``, ``column``, ``by``, ``axes``, ``scale``, ``error`` (most that a
            published number is off the pooled one, in scaled units), ``suppressed`` and ``cells``: ``at`` (labels,
            ``*`` for a total), ``value`` (scaled units; null where nothing is published), for means with squares
            ``deviation``, ``state``: ``published``, ``suppressed`` or ``empty``, and where suppressed ``reason``.
            Studies: see ``factory.agency.studies``.
        numbers: the published numbers with their rows and exact counts.
        suppressed: places that are not published, over all tables and studies.
    """

    document: JsonObject
    numbers: tuple[register.Published, ...]
    suppressed: int


def protected_tables(
    parameters: SumsParameters,
    values: Sequence[int],
    thresholds: Thresholds,
    *,
    rows: register.Rows | None = None,
    earlier: Sequence[register.Release] = (),
) -> Protected:
    """Protect opened sums.

    Args:
        parameters: the tables and studies, and the rule set.
        values: opened sums in the order of ``layout``.
        thresholds: of the grant.
        rows: the tables the sums are over.
        earlier: what was released before.

    Raises:
        NotASetError: a contributor's largest contributions are none.
    """
    rules = rule_set(parameters.rules, thresholds)
    if parameters.privacy is not None:
        return _noisy(parameters, values, rules)
    everything: list[_Parts] = [{} for _ in (*parameters.measures, *parameters.studies)]
    for component, value in zip(layout(parameters), values, strict=True):
        everything[component.measure].setdefault(component.part, {})[component.cell] = value
    parts = everything[: len(parameters.measures)]
    tables = [
        Table(parameters.axes(measure), found["count"], has_rest=True)
        for measure, found in zip(parameters.measures, parts, strict=True)
    ]
    exact = [_numbers(parameters, measure, table) for measure, table in zip(parameters.measures, tables, strict=True)]
    primary: list[dict[Place, Reason]] = []
    for measure, table, numbers in zip(parameters.measures, tables, exact, strict=True):
        found: dict[Place, Reason] = dict.fromkeys(_one_class(measure, table, rules), "class")
        for place, number in numbers.items():
            if register.gives_away(number, rows or {}, earlier, rules.cell_min):
                found[place] = "differencing"
        primary.append(found)
    hidden = protect_linked(
        tables,
        [measure.by for measure in parameters.measures],
        rules.cell_min,
        primary=primary,
        hides_empty=rules.hides_empty,
    )
    hidden = _without_dominated(parameters, tables, parts, hidden, rules)
    shown: list[JsonValue] = [
        _table(measure, table, found, suppressed, rules)
        for measure, table, found, suppressed in zip(parameters.measures, tables, parts, hidden, strict=True)
    ]
    released = [
        number
        for numbers, suppressed in zip(exact, hidden, strict=True)
        for place, number in numbers.items()
        if place not in suppressed
    ]
    studied: list[JsonValue] = []
    if parameters.studies:
        from factory.agency.studies import rows_behind, studied_safely  # numpy, which tables alone do not need

        known = _shown(parameters, shown, tables, hidden)
        for study, counted in zip(parameters.studies, everything[len(parts) :], strict=True):
            number = register.Published(
                frozenset(register.has_value(variable.column) for variable in study.variables),
                rows_behind(counted),
            )
            differs = register.gives_away(number, rows or {}, earlier, rules.cell_min) is not None
            result = studied_safely(study, counted, parameters, rules, shown=known, differs=differs)
            studied.append(result)
            if result["state"] == "published":
                released.append(number)
    suppressed_count = sum(map(len, hidden)) + sum(
        isinstance(study, dict) and study["state"] == "suppressed" for study in studied
    )
    used: set[str] = {reason for suppressed in hidden for reason in suppressed.values()}
    used |= {str(study["reason"]) for study in studied if isinstance(study, dict) and study["reason"]}
    reasons: JsonObject = {code: {"zh": REASONS[code][0], "en": REASONS[code][1]} for code in sorted(used)}
    document: JsonObject = {
        "version": 2,
        "rules": rules.as_json(),
        "reasons": reasons,
        "cell_min": rules.cell_min,
        "round_base": rules.round_base,
        "tables": shown,
        "studies": studied,
    }
    return Protected(document, tuple(released), suppressed_count)


def _noisy(parameters: SumsParameters, values: Sequence[int], rules: RuleSet) -> Protected:
    """Tables of sums that carry the departments' noise; it protects whoever is in them, so nothing else is done.

    Means over fewer than the minimum count are left out, for they would be noise alone.
    """
    everything: list[_Parts] = [{} for _ in parameters.measures]
    for component, value in zip(layout(parameters), values, strict=True):
        everything[component.measure].setdefault(component.part, {})[component.cell] = value
    tables: list[JsonValue] = []
    for measure, parts in zip(parameters.measures, everything, strict=True):
        axes = parameters.axes(measure)
        counts = with_totals(parts["count"], axes)
        sums = with_totals(parts["sum"], axes) if "sum" in parts else {}
        cells: list[JsonValue] = []
        for place, count in counts.items():
            number: int | None = None
            if measure.kind != "mean":
                number = sums[place] if measure.kind == "sum" else max(count, 0)
            elif count >= rules.cell_min:
                number = _ratio(sums[place], count)
            at: list[JsonValue] = [
                TOTAL if index is None else axis[index] for index, axis in zip(place, axes, strict=True)
            ]
            cell: JsonObject = {"at": at, "value": number, "state": "published" if number is not None else "suppressed"}
            if number is None:
                cell["reason"] = "threshold"
            cells.append(cell)
        # Laplace noise of every department on one cell; a total adds that of its cells.
        scale = parameters.noise_scale("sum" if measure.kind != "count" and sums else "count", measure)
        tables.append(
            {
                "name": measure.name,
                "kind": measure.kind,
                "column": measure.column,
                "by": list(measure.by),
                "axes": [list(axis) for axis in axes],
                "scale": measure.scale,
                "error": math.ceil(1.96 * math.sqrt(2 * parameters.departments) * scale),
                "suppressed": sum(isinstance(cell, dict) and cell["value"] is None for cell in cells),
                "cells": cells,
            }
        )
    suppressed = sum(int(cast(int, table["suppressed"])) for table in tables if isinstance(table, dict))
    zh, en = REASONS["threshold"]
    document: JsonObject = {
        "version": 2,
        "rules": rules.as_json(),
        "privacy": None if parameters.privacy is None else parameters.privacy.model_dump(mode="json"),
        "reasons": {"threshold": {"zh": zh, "en": en}} if suppressed else {},
        "cell_min": rules.cell_min,
        "round_base": rules.round_base,
        "tables": tables,
        "studies": [],
    }
    return Protected(document, (), suppressed)


def _shown(
    parameters: SumsParameters,
    documents: Sequence[JsonValue],
    tables: Sequence[Table],
    hidden: Sequence[Mapping[Place, Reason]],
) -> dict[frozenset[tuple[str, int]], int | None]:
    """What the tables show of each category: its published count, None where it is suppressed."""
    found: dict[frozenset[tuple[str, int]], int | None] = {}
    for measure, document, table, suppressed in zip(parameters.measures, documents, tables, hidden, strict=True):
        if measure.column is not None or not isinstance(document, dict):
            continue
        cells = cast(list[dict[str, Any]], document["cells"])
        for place, cell in zip(with_totals(table.counts, table.axes), cells, strict=True):
            name = key(place, measure.by)
            if place in suppressed:
                found[name] = None
            else:
                found.setdefault(name, cell["value"])
    return found


def _numbers(parameters: SumsParameters, measure: Measure, table: Table) -> dict[Place, register.Published]:
    """What each place is about, for the register."""
    categories = [parameters.category(column) for column in measure.by]
    present = [] if measure.column is None else [register.has_value(measure.column)]
    found = {}
    for place, count in with_totals(table.counts, table.axes).items():
        limits = [
            register.limit_of(category, index)
            for category, index in zip(categories, place, strict=True)
            if index is not None
        ]
        found[place] = register.Published(frozenset((*present, *limits)), count)
    return found


def _one_class(measure: Measure, table: Table, rules: RuleSet) -> set[Place]:
    """Places of every group of which one class of a sensitive column has too large a share."""
    found: set[Place] = set()
    for axis, column in enumerate(measure.by):
        if column not in measure.sensitive:
            continue
        others = [range(len(labels)) for place, labels in enumerate(table.axes) if place != axis]
        for rest in product(*others):
            line = [(*rest[:axis], index, *rest[axis:]) for index in range(len(table.axes[axis]))]
            if rules.is_one_class([table.counts[place] for place in line]):
                found |= set(line)
    return found


def _without_dominated(
    parameters: SumsParameters,
    tables: Sequence[Table],
    parts: Sequence[_Parts],
    hidden: Sequence[dict[Place, Reason]],
    rules: RuleSet,
) -> list[dict[Place, Reason]]:
    """Suppress sums and means that few contributions make up, and those from which one could be worked out."""
    result = list(hidden)
    columns = {measure.column for measure in parameters.measures if measure.column is not None}
    for column in sorted(columns):
        group = [place for place, measure in enumerate(parameters.measures) if measure.column == column]
        sizes = {
            place: Table(
                tables[place].axes, {c: abs(v) for c, v in parts[place].get("size", parts[place]["sum"]).items()}
            )
            for place in group
        }
        reasons = {place: dict(hidden[place]) for place in group}
        for place in group:
            for at in _dominated(parameters, parts[place], sizes[place], rules):
                reasons[place].setdefault(at, "dominance")
        shared: dict[frozenset[tuple[str, int]], None] = {}
        while True:
            before = len(shared)
            for place in group:
                names = parameters.measures[place].by
                for at in with_totals(sizes[place].counts, sizes[place].axes):
                    if key(at, names) in shared:
                        reasons[place].setdefault(at, "complementary")
                reasons[place] = suppression_of_sums(sizes[place], reasons[place])
                shared |= dict.fromkeys(key(at, names) for at in reasons[place])
            if len(shared) == before:
                break
        for place in group:
            result[place] = reasons[place]
    return result


def _dominated(parameters: SumsParameters, parts: _Parts, sizes: Table, rules: RuleSet) -> list[Place]:
    if power_part(1) not in parts:
        return []
    totals = with_totals(sizes.counts, sizes.axes)
    names = [power_part(number) for number in range(1, parameters.powers + 1)]
    largest = {cell: tops.largest([parts[name][cell] for name in names]) for cell in sizes.counts}
    found = []
    for place, total in totals.items():
        inside = [
            value
            for cell, values in largest.items()
            if all(index in (None, own) for index, own in zip(place, cell, strict=True))
            for value in values
        ]
        if rules.dominates(total, sorted(inside, reverse=True)):
            found.append(place)
    return found


def _table(
    measure: Measure, table: Table, parts: _Parts, suppressed: Mapping[Place, Reason], rules: RuleSet
) -> JsonObject:
    shown_parts = [name for name in ("count", "sum", "squares") if name in parts]
    totals = {name: with_totals(parts[name], table.axes) for name in shown_parts}
    gone = frozenset(suppressed)
    if measure.kind == "mean":
        shown = {p: _ratio(totals["sum"][p], n) for p, n in totals["count"].items() if n and p not in gone}
        error = 1
    elif measure.kind == "sum":
        shown = round_published(totals["sum"], gone, table.axes, measure.round_to)
        error = measure.round_to - 1
    else:
        shown = round_published(totals["count"], gone, table.axes, rules.round_base)
        error = rules.round_base - 1
    cells: list[JsonValue] = []
    for place, count in totals["count"].items():
        at: list[JsonValue] = [
            TOTAL if index is None else axis[index] for index, axis in zip(place, table.axes, strict=True)
        ]
        state = "suppressed" if place in gone else "published" if place in shown else "empty"
        cell: JsonObject = {"at": at, "value": shown.get(place), "state": state}
        if place in gone:
            cell["reason"] = suppressed[place]
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
        "error": error,
        "suppressed": len(suppressed),
        "cells": cells,
    }


def _ratio(total: int, count: int) -> int:
    """Mean in scaled units, rounded half up."""
    return (2 * total + count) // (2 * count)


def _deviation(count: int, total: int, squares: int) -> int:
    """Standard deviation of the values in scaled units, rounded down: exact integer arithmetic."""
    return math.isqrt(max(0, count * squares - total * total) // (count * count))
