"""A register's rows as inputs of private verification.

Privacy:
    Inputs stay in the node's memory; only their tags under the register's key are stored.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nodes.contract.tasks.match import BAND_UNKNOWN, MatchBand, MatchField, record_input

if TYPE_CHECKING:
    import pandas as pd


def inputs(
    frame: "pd.DataFrame", fields: Sequence[MatchField], band: MatchBand | None = None
) -> tuple[dict[bytes, int | None], int]:
    """Return the band of each distinct input of the granted rows, and how many rows had an empty field.

    Numbers count as their decimal text without a fraction of zero; a missing value is empty.

    Args:
        frame: granted rows.
        fields: what makes a match.
        band: the banded column; without it every band is None. Rows of one input with different bands have none.
    """
    columns = [[text_of(value) for value in frame[field.column].tolist()] for field in fields]
    bands: Sequence[int | None] = [None] * len(frame)
    if band is not None:
        bands = [band.band_of(text_of(value)) for value in frame[band.column].tolist()]
    found: dict[bytes, int | None] = {}
    skipped = 0
    for *values, own in zip(*columns, bands, strict=True):
        data = record_input(values, fields)
        if data is None:
            skipped += 1
        elif found.setdefault(data, own) != own:
            found[data] = BAND_UNKNOWN
    return found, skipped


def text_of(value: object) -> str:
    """Return a cell as text; a missing one is empty."""
    if isinstance(value, str):
        return value
    if value is None or value != value:  # noqa: PLR0124  NaN is the one value that differs from itself
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
