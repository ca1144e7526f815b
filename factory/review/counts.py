"""Minimum counts: no published table shows a small group, or lets one be worked out.

Reads the ``tables.json`` that the agency protected (``factory.agency.tables``) as an
outsider would: every number of a count table is none or at least the minimum (less the
rounding base) and a multiple of the base, and no suppressed cell is the only one in a line
whose total is published.

Privacy: a finding counts cells; it repeats none of them.
"""

import json
from collections.abc import Mapping
from itertools import product
from typing import Any

from factory.review.finding import Finding, examined

COUNTING = frozenset({"count", "crosstab"})
"""Kinds of tables whose numbers are counts of entities."""

_TOTAL = "*"


def check_counts(files: Mapping[str, bytes], *, cell_min: int, round_base: int, path: str = "tables.json") -> Finding:
    """Check the counts of a report.

    Args:
        files: the product's files by path.
        cell_min: fewest entities behind a published number.
        round_base: published counts are multiples of this.
        path: the tables' file.
    """
    document = json.loads(files[path])
    privacy = document.get("privacy")
    # Noise of every department protects whoever is counted: a small noisy number is no small count.
    tables = [] if privacy else document["tables"]
    counting = [table for table in tables if table["kind"] in COUNTING]
    small = sum(_small(table, cell_min, round_base) for table in counting)
    derivable = sum(_derivable(table) for table in tables)
    return Finding(
        test="minimum_counts",
        title_zh="最小计数与可推算单元格",
        title_en="Minimum counts and cells that can be worked out",
        value=small + derivable,
        limit=0,
        is_ok=small + derivable == 0 and bool(counting or not tables),
        unit="cells",
        evidence={
            "cell_min": cell_min,
            "round_base": round_base,
            "epsilon_micro": privacy["epsilon_micro"] if privacy else 0,
            "tables": len(document["tables"]),
            "count_tables": len(counting),
            "small_cells": small,
            "derivable_cells": derivable,
            "suppressed_cells": sum(cell["state"] == "suppressed" for table in tables for cell in table["cells"]),
            "files": examined({path: files[path]}),
        },
    )


def _small(table: Mapping[str, Any], cell_min: int, round_base: int) -> int:
    numbers = [int(cell["value"]) for cell in table["cells"] if cell["value"] is not None]
    # Rounding moves a count by less than one base, so a true minimum may show as the multiple below it.
    return sum(number != 0 and (number <= cell_min - round_base or number % round_base != 0) for number in numbers)


def _derivable(table: Mapping[str, Any]) -> int:
    """Count lines whose total and all parts but one are published. A mean's total is no sum of its parts."""
    if table["kind"] == "mean":
        return 0
    states = {tuple(cell["at"]): cell["state"] for cell in table["cells"]}
    axes = [list(axis) for axis in table["axes"]]
    found = 0
    for place, axis in enumerate(axes):
        others = [[*labels, _TOTAL] for number, labels in enumerate(axes) if number != place]
        for rest in product(*others):
            line = [states[*rest[:place], label, *rest[place:]] for label in axis]
            total = states[*rest[:place], _TOTAL, *rest[place:]]
            found += total != "suppressed" and line.count("suppressed") == 1
    return found
