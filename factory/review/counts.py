"""Minimum counts: no published table shows a small group, or lets one be worked out.

Reads ``tables.json`` of a report: every number of a count table is none or at least the
minimum (less the rounding base), a multiple of the base, and no suppressed cell is the only
one in a row or column whose total is published.

Privacy: a finding counts cells; it repeats none of them.
"""

import json
from collections.abc import Collection, Mapping
from typing import Any

from factory.review.finding import Finding, examined

COUNT_UNITS = frozenset(
    {
        "人", "家", "户", "例", "条", "个", "次", "笔", "件", "宗", "起", "名", "人次", "家次",
        "persons", "people", "enterprises", "households", "cases", "records", "entities", "times", "fines", "patients",
        "items", "rows", "companies", "taxpayers", "visits",
    }
)  # fmt: skip
"""Units of tables that count entities."""

_TOTALS = ("合计", "总计", "Total")


def check_counts(
    files: Mapping[str, bytes],
    *,
    cell_min: int,
    round_base: int,
    count_units: Collection[str] = COUNT_UNITS,
    path: str = "tables.json",
) -> Finding:
    """Check the counts of a report.

    Args:
        files: the product's files by path.
        cell_min: fewest entities behind a published number.
        round_base: published counts are multiples of this.
        count_units: units whose tables count entities.
        path: the tables' file.
    """
    tables = json.loads(files[path])["tables"]
    counting = [table for table in tables if {table["unit_zh"], table["unit_en"]} & set(count_units)]
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
            "tables": len(tables),
            "count_tables": len(counting),
            "small_cells": small,
            "derivable_cells": derivable,
            "suppressed_cells": sum(
                value is None for table in tables for row in table["rows"] for value in row["values"]
            ),
            "files": examined({path: files[path]}),
        },
    )


def _small(table: Mapping[str, Any], cell_min: int, round_base: int) -> int:
    bad = 0
    for row in table["rows"]:
        for value in row["values"]:
            if value is None:
                continue
            number = int(value)
            # Rounding moves a count by less than one base, so a true minimum may show as the multiple below it.
            bad += number != 0 and (number <= cell_min - round_base or number % round_base != 0)
    return bad


def _derivable(table: Mapping[str, Any]) -> int:
    rows, columns = table["rows"], table["columns"]
    last_row_total = bool(rows) and str(rows[-1]["title"]).startswith(_TOTALS)
    last_column_total = bool(columns) and str(columns[-1]).startswith(_TOTALS)
    lines: list[list[Any]] = []
    if last_column_total:
        lines += [list(row["values"]) for row in rows]
    if last_row_total:
        lines += [[row["values"][place] for row in rows] for place in range(len(columns))]
    return sum(line[-1] is not None and sum(value is None for value in line[:-1]) == 1 for line in lines)
