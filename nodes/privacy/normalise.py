"""A register's rows as inputs of private verification.

Privacy:
    Inputs stay in the node's memory; only their tags under the register's key are stored.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nodes.contract.tasks.match import MatchField, record_input

if TYPE_CHECKING:
    import pandas as pd


def inputs(frame: "pd.DataFrame", fields: Sequence[MatchField]) -> tuple[list[bytes], int]:
    """Return the distinct inputs of the granted rows, sorted, and how many rows had an empty field.

    Numbers count as their decimal text without a fraction of zero; a missing value is empty.
    """
    columns = [[text_of(value) for value in frame[field.column].tolist()] for field in fields]
    found: set[bytes] = set()
    skipped = 0
    for values in zip(*columns, strict=True):
        data = record_input(values, fields)
        if data is None:
            skipped += 1
        else:
            found.add(data)
    return sorted(found), skipped


def text_of(value: object) -> str:
    """Return a cell as text; a missing one is empty."""
    if isinstance(value, str):
        return value
    if value is None or value != value:  # noqa: PLR0124  NaN is the one value that differs from itself
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
