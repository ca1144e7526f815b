"""The register of releases: what was published about whom, so that no difference tells of a few.

Two numbers about nearly the same entities give away the entities between them, whichever
products they are in. Every published number is therefore kept with the rows it is about and
their exact count, and a new number is held against all earlier ones: where one set of rows
lies within the other and the counts differ by fewer than the minimum, but not by none, the
new number is not published.

Privacy:
    Holds exact counts of what was published and stays with the agency. Differences of more
    than two numbers, and sets of rows that overlap without one holding the other, are not
    covered; rounding and the minimum count bound what they tell.

Source:
    Denning, "Cryptography and Data Security", 1982, section 6.3 (trackers); ABS DataLab
    output rules: no difference below the minimum between tables that can be combined.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nodes.contract.canonical import JsonObject, JsonValue
from nodes.contract.grant import Party
from nodes.contract.tasks.sums import Category

Rows = Mapping[str, frozenset[str]]
"""Per table (node and catalogue id) the conditions every row fulfilled."""


@dataclass(frozen=True, slots=True)
class Limit:
    """What a row's value in one column must be.

    Attributes:
        column: of the table.
        values: accepted texts, or with ``is_other`` the texts that are not accepted.
        is_other: everything but ``values``.
        low, high: for bands and periods: from ``low`` on and below ``high``; None for no end.
        is_range: whether low and high count and values do not.
    """

    column: str
    values: frozenset[str] = frozenset()
    is_other: bool = False
    low: int | None = None
    high: int | None = None
    is_range: bool = False

    def is_within(self, other: "Limit") -> bool:
        """Whether every value this accepts is accepted by ``other``."""
        if self == other:
            return True
        if self.is_range or other.is_range:
            if not (self.is_range and other.is_range):
                return other == Limit(self.column, is_other=True)  # any value that is there
            return (other.low is None or (self.low is not None and self.low >= other.low)) and (
                other.high is None or (self.high is not None and self.high <= other.high)
            )
        if self.is_other:
            return other.is_other and other.values <= self.values
        return not self.values & other.values if other.is_other else self.values <= other.values


@dataclass(frozen=True, slots=True)
class Published:
    """One published number: which rows, and how many.

    Attributes:
        limits: of its rows' values, beside the conditions of the tables.
        count: exact number of rows.
    """

    limits: frozenset[Limit]
    count: int

    def as_json(self) -> JsonObject:
        """Return the form that is stored."""
        limits: list[JsonValue] = [
            {
                "column": limit.column,
                "values": _texts(limit.values),
                "is_other": limit.is_other,
                "low": limit.low,
                "high": limit.high,
                "is_range": limit.is_range,
            }
            for limit in sorted(self.limits, key=lambda limit: limit.column)
        ]
        return {"count": self.count, "limits": limits}

    def is_within(self, other: "Published") -> bool:
        """Whether these rows, out of the same tables, are all among the other's."""
        return all(
            any(own.is_within(limit) for own in self.limits if own.column == limit.column) for limit in other.limits
        )


@dataclass(frozen=True, slots=True)
class Release:
    """What one opening published.

    Attributes:
        grant_id: under which grant.
        rows: the tables behind it.
        numbers: what was published.
        index_sha256: digest of the parameters of a composite index, empty for tables.
    """

    grant_id: str
    rows: Rows
    numbers: tuple[Published, ...]
    index_sha256: str = ""

    def as_json(self) -> JsonObject:
        """Return the form that is stored."""
        rows: JsonObject = {table: _texts(conditions) for table, conditions in self.rows.items()}
        numbers: list[JsonValue] = [number.as_json() for number in self.numbers]
        return {"rows": rows, "numbers": numbers, "index_sha256": self.index_sha256}

    @classmethod
    def from_json(cls, grant_id: str, value: Mapping[str, Any]) -> "Release":
        """Read what ``as_json`` wrote."""
        return cls(
            grant_id,
            {table: frozenset(conditions) for table, conditions in value["rows"].items()},
            tuple(
                Published(
                    frozenset(Limit(**{**limit, "values": frozenset(limit["values"])}) for limit in number["limits"]),
                    number["count"],
                )
                for number in value["numbers"]
            ),
            value["index_sha256"],
        )


def gives_away(number: Published, rows: Rows, earlier: Iterable[Release], cell_min: int) -> str | None:
    """Return the grant of an earlier release from which ``number`` differs by too few, or None."""
    for release in earlier:
        inside, outside = _tables_within(rows, release.rows), _tables_within(release.rows, rows)
        if not inside and not outside:
            continue
        for old in release.numbers:
            if not 0 < abs(number.count - old.count) < cell_min:
                continue
            if (inside and number.is_within(old)) or (outside and old.is_within(number)):
                return release.grant_id
    return None


def rows_of(parties: Sequence[Party], columns: Iterable[str]) -> dict[str, frozenset[str]]:
    """Return the tables of these parties that have all the columns, with the conditions on their rows."""
    wanted = set(columns)
    return {
        f"{party.node}/{use.resource}": frozenset(condition.model_dump_json() for condition in use.row_filter)
        for party in parties
        for use in party.resources
        if wanted <= set(use.columns)
    }


def limit_of(category: Category, index: int) -> Limit:
    """Return what a category of a table says of its rows; the last index is ``other``."""
    if category.period is not None:
        if index == len(category.values):
            return Limit(category.column, frozenset(category.values), is_other=True)
        low, length = _months(category.values[index])
        return Limit(category.column, low=low, high=low + length, is_range=True)
    if category.edges:
        if index == len(category.values):
            return Limit(category.column)  # no value at all
        ends = (None, *category.edges, None)
        return Limit(category.column, low=ends[index], high=ends[index + 1], is_range=True)
    if index == len(category.values):
        return Limit(category.column, frozenset(category.values), is_other=True)
    return Limit(category.column, frozenset({category.values[index]}))


def _texts(values: Iterable[str]) -> list[JsonValue]:
    return [*sorted(values)]


def has_value(column: str) -> Limit:
    """Return the limit that a column is not empty."""
    return Limit(column, is_other=True)


def _tables_within(inner: Rows, outer: Rows) -> bool:
    """Whether every table of ``inner`` is in ``outer``, there with no further condition."""
    return all(table in outer and outer[table] <= conditions for table, conditions in inner.items())


def _months(period: str) -> tuple[int, int]:
    """First month, counted from year 0, and number of months of ``2024``, ``2024-Q1`` or ``2024-03``."""
    year, _, part = period.partition("-")
    if not part:
        return int(year) * 12, 12
    if part.startswith("Q"):
        return int(year) * 12 + (int(part[1]) - 1) * 3, 3
    return int(year) * 12 + int(part) - 1, 1
