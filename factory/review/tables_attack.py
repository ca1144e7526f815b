"""Attacks on report tables, with nothing but what is published.

- *bounds*: for every suppressed count a linear programme finds the least and the most it can
  be, given all published numbers of its table, which are rounded. Suppression itself says
  "below the minimum"; a cell that is known more closely than that was worked out.
- *linkage*: a number that an earlier report over the same tables shows otherwise. The
  difference of two published counts is a count, too; a cell suppressed here and published
  there is not suppressed.
- *one class*: a group of which all members fall into one class of a sensitive column.

Privacy:
    Findings count cells and repeat none.

Source:
    Fischetti and Salazar, "Models and algorithms for the 2-dimensional cell suppression
    problem", Math. Programming 84, 1999, section 2 (the attacker's programme); Statistical
    Disclosure Control handbook of the SDAP, 2019 (differencing, class disclosure).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from factory.review.counts import COUNTING
from factory.review.finding import Finding, examined

TOTAL = "*"
CELLS_MAX = 400
"""Largest table whose suppressed cells are bounded, in inner cells; a larger one is bounded line by line alone."""

_INFEASIBLE, _UNBOUNDED = 2, 3
"""How the solver ended, see ``scipy.optimize.linprog``."""

Table = Mapping[str, Any]
Place = tuple[str, ...]


def check_bounds(files: Mapping[str, bytes], *, cell_min: int, round_base: int, path: str = "tables.json") -> Finding:
    """Bound every suppressed count and count those that are known more closely than suppression says.

    Args:
        files: the product's files by path.
        cell_min: fewest entities behind a published number.
        round_base: published counts are multiples of this.
        path: the tables' file.
    """
    document = json.loads(files[path])
    tables = [] if document.get("privacy") else [t for t in document["tables"] if t["kind"] in COUNTING]
    widths = [width for table in tables for width in _widths(table, round_base)]
    narrow = sum(width < cell_min - 2 for width in widths)
    return Finding(
        test="suppressed_bounds",
        title_zh="隐去单元格可被推算到的范围",
        title_en="How closely suppressed cells can be worked out",
        value=narrow,
        limit=0,
        is_ok=narrow == 0,
        unit="cells",
        evidence={
            "attack": "linear programme per suppressed cell",
            "suppressed": len(widths),
            "narrowest": min(widths, default=-1),
            "files": examined({path: files[path]}),
        },
    )


def check_linkage(
    files: Mapping[str, bytes], earlier: Mapping[str, bytes], *, cell_min: int, path: str = "tables.json"
) -> Finding:
    """Compare with earlier reports over the same resources.

    Args:
        files: the product's files by path.
        earlier: tables of reports released before that read one of the same resources, by product.
        cell_min: fewest entities behind a published number, hence behind a difference.
        path: the tables' file.
    """
    document = json.loads(files[path])
    mine = {_same(table): table for table in document["tables"] if table["kind"] in COUNTING}
    small = uncovered = compared = 0
    for data in earlier.values():
        before_document = json.loads(data)
        if document.get("privacy") or before_document.get("privacy"):
            continue  # noise of its own in each: a difference is noise
        slack = 2 * (max(document["round_base"], before_document["round_base"]) - 1)
        for before in before_document["tables"]:
            table = mine.get(_same(before))
            if table is None:
                continue
            compared += 1
            for here, there in _pairs(table, before):
                if here is None and there is None:
                    continue
                if here is None or there is None:
                    uncovered += 1
                else:
                    small += abs(here - there) > 0 and abs(here - there) + slack < cell_min
    return Finding(
        test="linkage",
        title_zh="与以往发布比对可推算的单元格",
        title_en="Cells that follow from earlier releases",
        value=small + uncovered,
        limit=0,
        is_ok=small + uncovered == 0,
        unit="cells",
        evidence={
            "attack": "differences of published counts",
            "releases": len(earlier),
            "tables_compared": compared,
            "small_differences": small,
            "uncovered_cells": uncovered,
            "files": examined({path: files[path]}),
        },
    )


def check_one_class(
    files: Mapping[str, bytes], *, sensitive: Mapping[str, Sequence[str]], path: str = "tables.json"
) -> Finding:
    """Count groups of which everybody falls into one class of a sensitive column.

    Args:
        files: the product's files by path.
        sensitive: columns that say something nobody may learn of a whole group, by table name.
        path: the tables' file.
    """
    document = json.loads(files[path])
    tables = [] if document.get("privacy") else [t for t in document["tables"] if t["kind"] in COUNTING]
    found = sum(_one_class(table, sensitive.get(table["name"], ())) for table in tables)
    return Finding(
        test="attribute_disclosure",
        title_zh="全体落入敏感列同一类别的群组",
        title_en="Groups that all fall into one class of a sensitive column",
        value=found,
        limit=0,
        is_ok=found == 0,
        unit="groups",
        evidence={
            "attack": "class disclosure",
            "tables": sum(bool(sensitive.get(table["name"])) for table in tables),
            "files": examined({path: files[path]}),
        },
    )


def _widths(table: Table, round_base: int) -> Iterator[int]:
    """Yield per suppressed inner cell the most it can be less the least."""
    import numpy as np
    from scipy.optimize import linprog

    axes = [list(axis) for axis in table["axes"]]
    inner = list(product(*axes))
    cells = {tuple(cell["at"]): cell for cell in table["cells"]}
    hidden = [place for place in inner if cells.get(place, {}).get("state") == "suppressed"]
    if not hidden or len(inner) > CELLS_MAX:
        return
    column = {place: number for number, place in enumerate(inner)}
    slack = round_base - 1
    rows, low, high = [], [], []
    for place, cell in cells.items():
        if cell["state"] == "suppressed":
            continue
        value = int(cell["value"] or 0)
        rows.append([float(_covers(place, one)) for one in inner])
        low.append(max(value - slack, 0))
        high.append(value + slack if value else slack)
    matrix = np.array([*rows, *(-np.array(rows))])
    most = np.array([*high, *(-np.array(low))], dtype=float)
    for place in hidden:
        target = np.zeros(len(inner))
        target[column[place]] = 1.0
        ends = [linprog(sign * target, A_ub=matrix, b_ub=most, bounds=(0, None)) for sign in (1.0, -1.0)]
        if ends[1].status == _UNBOUNDED:
            continue  # no total above it is published
        if ends[1].status == _INFEASIBLE:
            yield 0  # numbers that contradict each other are no protection
            continue
        yield int(np.floor(-ends[1].fun + 1e-6) - np.ceil(ends[0].fun - 1e-6))


def _covers(place: Place, inner: Place) -> bool:
    return all(label in (TOTAL, own) for label, own in zip(place, inner, strict=True))


def _same(table: Table) -> tuple[Any, ...]:
    """What two tables have in common that show the same numbers: kind, column and how they are divided."""
    axes = tuple(zip(table["by"], map(tuple, table["axes"]), strict=True))
    return table["kind"] in COUNTING, table.get("column"), axes


def _pairs(one: Table, other: Table) -> Iterator[tuple[int | None, int | None]]:
    numbers = [
        {tuple(c["at"]): None if c["state"] == "suppressed" else int(c["value"] or 0) for c in table["cells"]}
        for table in (one, other)
    ]
    for place in numbers[0].keys() & numbers[1].keys():
        yield numbers[0][place], numbers[1][place]


def _one_class(table: Table, sensitive: Sequence[str]) -> int:
    states = {tuple(cell["at"]): cell for cell in table["cells"]}
    axes, found = [list(axis) for axis in table["axes"]], 0
    for number, name in enumerate(table["by"]):
        if name not in sensitive:
            continue
        for rest in product(*(labels for place, labels in enumerate(axes) if place != number)):
            line = [states[*rest[:number], label, *rest[number:]] for label in axes[number]]
            shown = [int(cell["value"] or 0) for cell in line if cell["state"] != "suppressed"]
            found += len(shown) == len(line) and sum(value > 0 for value in shown) == 1
    return found
