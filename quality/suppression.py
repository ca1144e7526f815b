"""Published counts: what a count of rows looks like once it may leave the node.

Pure. Three rules for every count of rows or elements:

- a count from 1 to 4 is shown as "<5" and enters every rate and score as 5, so that no rate
  gives it back;
- every other count is rounded to a multiple of 5;
- all counts stay as they were shown while fewer than 5 rows of the table have changed since. Rounding
  alone does not do: one row that takes a count from 7 to 8 takes the figure from 5 to 10, and whoever
  knows which row is new learns how it was judged. The number of changed rows decides, not the counts, so
  that the moment at which a figure moves tells nothing of a single row.

A table of fewer than ``ROWS_MIN`` rows publishes no figure at all.

Source:
    Suppression below 5 and rounding to base 5: OpenSAFELY output rules and UK ONS output
    checking use thresholds of this kind (docs/reference/quality-report.md states what remains).
"""

from collections.abc import Sequence
from dataclasses import dataclass

CELL_MIN = 5
ROUND_BASE = 5
ROWS_MIN = 10
MOVE_MIN = CELL_MIN
"""The difference of two reports is a count like any other: below 5 it is not shown."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Rows of the table, rows a rule skipped and rows that fail it."""

    rows: int
    missing: int
    failing: int


@dataclass(frozen=True, slots=True)
class Published:
    """Counts of one rule in the form that may leave.

    Attributes:
        checked: elements evaluated.
        failing: elements that fail; 5 when ``small``.
        small: the exact count is from 1 to 4.
    """

    checked: int
    failing: int
    small: bool


def moved(before: Sequence[int], now: Sequence[int]) -> int:
    """Return how many rows at least differ between two deliveries.

    Args:
        before: rows per bucket of a hash over all columns.
        now: the same of the later delivery, in equally many buckets.
    """
    gained = sum(max(0, new - old) for old, new in zip(before, now, strict=True))
    lost = sum(max(0, old - new) for old, new in zip(before, now, strict=True))
    return max(gained, lost)


def steady(now: Counts, shown: Counts, *, verdict_changed: bool = False) -> Counts:
    """Return the counts to publish of a delivery that differs by few rows from the one last shown.

    Args:
        now: exact counts of this delivery.
        shown: what was last shown of the same rule.
        verdict_changed: the rule passes now and failed then, or the other way round; then the failing rows
            are counted anew, since the verdict tells as much.
    """
    if not verdict_changed:
        return shown
    return Counts(shown.rows, shown.missing, min(now.failing, shown.rows - shown.missing))


def rounded(count: int) -> int:
    """Return the multiple of 5 nearest to ``count``; 1 to 4 become 5."""
    if count < 0:
        raise ValueError("expected a count of at least 0")
    return ROUND_BASE if 0 < count < CELL_MIN else (count + ROUND_BASE // 2) // ROUND_BASE * ROUND_BASE


def publish(*, rows: int, missing: int, failing: int) -> Published:
    """Return the published counts of a rule over rows.

    Args:
        rows: of the table, exact.
        missing: rows the rule did not evaluate, exact.
        failing: rows that fail, exact.

    Returns:
        ``checked`` is 0 when fewer than 5 rows were evaluated: then nothing is said of them.
    """
    exact = rows - missing
    if exact < 0 or not 0 <= failing <= exact:
        raise ValueError("expected 0 <= failing <= rows - missing")
    if exact < CELL_MIN:
        return Published(0, 0, small=False)
    checked = max(CELL_MIN, rounded(rows) - rounded(missing))
    return Published(checked, min(rounded(failing), checked), small=0 < failing < CELL_MIN)
