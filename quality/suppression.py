"""Published counts: what a count of rows looks like once it may leave the node.

Pure. Three rules for every count of rows or elements:

- a count from 1 to 4 is shown as "<5" and enters every rate and score as 5, so that no rate
  gives it back;
- every other count is rounded to a multiple of 5;
- a count that moved by fewer than 10 since the last report stays where it was. Rounding alone does
  not do: one row that takes a count from 7 to 8 takes the figure from 5 to 10, and whoever knows
  which row is new learns how it was judged.

A table of fewer than ``ROWS_MIN`` rows publishes no figure at all.

Source:
    Suppression below 5 and rounding to base 5: OpenSAFELY output rules and UK ONS output
    checking use thresholds of this kind (docs/reference/quality-report.md states what remains).
"""

from dataclasses import dataclass

CELL_MIN = 5
ROUND_BASE = 5
ROWS_MIN = 10
MOVE_MIN = 10
"""A count moves in a report only by as many rows as a table must have to be reported at all."""


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


def steady(now: Counts, shown: Counts | None, *, verdict_changed: bool = False) -> Counts:
    """Return the counts to publish, given the ones that the last report was made from.

    Args:
        now: exact counts of this delivery.
        shown: what the last report showed of the same rule; ``None`` when there was none.
        verdict_changed: the rule passes now and failed then, or the other way round; then the failing rows
            are counted anew, since the verdict tells as much.
    """
    if shown is None:
        return now
    rows = _steady(now.rows, shown.rows)
    missing = min(_steady(now.missing, shown.missing), rows)
    failing = now.failing if verdict_changed else _steady(now.failing, shown.failing)
    return Counts(rows, missing, min(failing, rows - missing))


def _steady(now: int, shown: int) -> int:
    return shown if abs(now - shown) < MOVE_MIN else now


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
