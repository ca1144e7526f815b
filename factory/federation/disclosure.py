"""Disclosure control of tables: what may be published of counts and sums, so that no small cell can be worked out.

Three steps, for tables of no, one or two axes with their totals:

1. *Primary* suppression: every cell or total with fewer than ``cell_min`` entities, but not none.
2. *Complementary* suppression until, for an observer who knows every published number exactly
   and that a suppressed cell is not empty, each suppressed cell can still take ``cell_min``
   different values or more, up to ``cell_min`` at least. A table with totals is a circulation
   in a network (cells are edges, totals are nodes), so the exact range of a cell is a
   maximum flow; nothing is estimated.
3. *Controlled rounding* of what is published to multiples of a base: every number moves by
   less than one base and totals stay the sums of their parts. It reads published numbers
   alone, so it reveals nothing about suppressed ones.

The published form does not tell primary from complementary suppression.

Privacy:
    Who reads a protected table learns its published numbers within the base, and for a
    suppressed cell a range of at least ``cell_min`` values. Tables that share categories are
    protected together by ``protect_linked``: what is suppressed in one is in all; ranges are
    verified per table, not over all jointly. Earlier tables from other data are not known here.

Source:
    Willenborg and de Waal, "Elements of Statistical Disclosure Control", 2001, chapters 4
    to 6; Cox, "Network models for complementary cell suppression", JASA 90, 1995; Cox and
    Ernst, "Controlled rounding", INFOR 20, 1982.
"""

import heapq
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, product
from typing import Literal

Place = tuple[int | None, ...]
"""A cell: one index per axis, None for the total over that axis."""
Reason = Literal["primary", "complementary"]
_ENDLESS = 2**62


@dataclass(frozen=True, slots=True)
class Table:
    """Counts of entities, without totals.

    Attributes:
        axes: labels per axis, none to two axes.
        counts: number of entities per cell, every cell of the cross product, 0 or more.
    """

    axes: tuple[tuple[str, ...], ...]
    counts: Mapping[tuple[int, ...], int]

    def __post_init__(self) -> None:
        cells = set(product(*(range(len(axis)) for axis in self.axes)))
        if len(self.axes) > 2 or set(self.counts) != cells or any(value < 0 for value in self.counts.values()):
            raise ValueError("expected up to two axes and a count of 0 or more for every cell")


@dataclass(frozen=True, slots=True)
class ProtectedCell:
    """One cell or total as it may be published.

    Attributes:
        at: its place.
        count: published count, None if suppressed.
        reason: why it is suppressed, empty if it is not. For the protecting service's own
            checks; it is not part of the published form.
    """

    at: Place
    count: int | None
    reason: Reason | Literal[""] = ""


@dataclass(frozen=True, slots=True)
class ProtectedTable:
    """A table with totals after protection.

    Attributes:
        axes: labels per axis.
        cells: every cell and total, cells first.
    """

    axes: tuple[tuple[str, ...], ...]
    cells: tuple[ProtectedCell, ...]

    @property
    def suppressed(self) -> frozenset[Place]:
        """Places of which nothing is published."""
        return frozenset(cell.at for cell in self.cells if cell.reason)

    def at(self, place: Place) -> ProtectedCell:
        """Return the cell at ``place``."""
        return next(cell for cell in self.cells if cell.at == place)


def protect(table: Table, cell_min: int, round_base: int, *, also: Collection[Place] = ()) -> ProtectedTable:
    """Suppress and round one table.

    Args:
        table: exact counts.
        cell_min: fewest entities behind a published number.
        round_base: published counts are multiples of this; 1 leaves them exact.
        also: places to suppress in any case, because a linked table does.

    Raises:
        ValueError: ``cell_min`` or ``round_base`` below 1.
    """
    reasons = suppression(table, cell_min, also=also)
    totals = with_totals(table.counts, table.axes)
    rounded = round_published(totals, frozenset(reasons), table.axes, round_base)
    return ProtectedTable(
        table.axes, tuple(ProtectedCell(place, rounded.get(place), reasons.get(place, "")) for place in totals)
    )


def suppression(table: Table, cell_min: int, *, also: Collection[Place] = ()) -> dict[Place, Reason]:
    """Return which places must not be published, and why; see the module text.

    Raises:
        ValueError: ``cell_min`` below 1.
    """
    if cell_min < 1:
        raise ValueError("expected cell_min of 1 or more")
    totals = with_totals(table.counts, table.axes)
    reasons: dict[Place, Reason] = {place: "primary" for place, value in totals.items() if 0 < value < cell_min}
    for place in also:
        reasons.setdefault(place, "complementary")
    while reasons:
        network = _Network(totals, frozenset(reasons))
        weak = next((place for place in sorted(reasons, key=_order) if not network.is_wide(place, cell_min)), None)
        if weak is None:
            break
        added = network.partners(weak)
        if not added:  # nothing is left that could hide it: everything that is not empty goes
            added = {place for place, value in totals.items() if value and place not in reasons}
        if not added:  # only empty cells are published; an empty cell forced in by a linked table stays as it is
            break
        reasons |= dict.fromkeys(added, "complementary")
    return reasons


def protect_linked(tables: Sequence[Table], columns: Sequence[Sequence[str]], cell_min: int) -> list[frozenset[Place]]:
    """Return suppressed places of tables over the same entities, suppressing a shared cell in all of them.

    Args:
        tables: exact counts.
        columns: per table the column behind each axis; equal columns have equal labels.
        cell_min: fewest entities behind a published number.
    """
    shared: set[frozenset[tuple[str, int]]] = set()
    while True:
        before = len(shared)
        found = []
        for table, names in zip(tables, columns, strict=True):
            places = with_totals(table.counts, table.axes)
            also = [place for place in places if _key(place, names) in shared]
            suppressed = frozenset(suppression(table, cell_min, also=also))
            shared |= {_key(place, names) for place in suppressed}
            found.append(suppressed)
        if len(shared) == before:
            return found


def with_totals(values: Mapping[tuple[int, ...], int], axes: Sequence[Sequence[str]]) -> dict[Place, int]:
    """Return cells and totals; cells first, then totals, the grand total last."""
    result: dict[Place, int] = {place: value for place, value in values.items()}  # noqa: C416  dict() would keep the narrower key type
    if len(axes) == 2:
        rows, columns = (range(len(axis)) for axis in axes)
        result |= {(row, None): sum(values[row, column] for column in columns) for row in rows}
        result |= {(None, column): sum(values[row, column] for row in rows) for column in columns}
    if axes:
        result[(None,) * len(axes)] = sum(values.values())
    return result


def round_published(
    totals: Mapping[Place, int], suppressed: frozenset[Place], axes: Sequence[Sequence[str]], base: int
) -> dict[Place, int]:
    """Round what is published to multiples of ``base`` so that totals stay sums of their parts.

    Args:
        totals: exact cells and totals, counts or sums.
        suppressed: places left out.
        axes: labels per axis.
        base: unit of the published numbers.

    Returns:
        Each published place with a multiple of ``base`` less than one base away. A function of the published numbers
        alone.

    Raises:
        ValueError: ``base`` below 1.
    """
    if base < 1:
        raise ValueError("expected a base of 1 or more")
    published = {place: value for place, value in totals.items() if place not in suppressed}
    if base == 1 or not axes:
        return {place: _nearest(value, base) * base for place, value in published.items()}
    flow = {place: _nearest(published[place], base) if place in published else 0 for place in totals}
    lowest = {p: published[p] // base if p in published else -_ENDLESS for p in totals}
    highest = {p: -(-published[p] // base) if p in published else _ENDLESS for p in totals}
    _balance(flow, lowest, highest)
    return {place: flow[place] * base for place in published}


def _nearest(value: int, base: int) -> int:
    return (2 * value + base) // (2 * base)


def _order(place: Place) -> tuple[int, ...]:
    return tuple(-1 if index is None else index for index in place)


def _key(place: Place, names: Sequence[str]) -> frozenset[tuple[str, int]]:
    return frozenset((name, index) for name, index in zip(names, place, strict=True) if index is not None)


def _ends(place: Place) -> tuple[str, str]:
    """The edge of a place: in every node of the network what flows in flows out.

    Row r sends its cells to the columns and gets its total from "rows"; columns pass their
    totals to "columns"; the grand total closes the circle. With one axis all cells lead from
    "rows" to "columns".
    """
    match place:
        case (None, None) | (None,):
            return "columns", "rows"
        case (int(),):
            return "rows", "columns"
        case (int() as row, None):
            return "rows", f"r{row}"
        case (None, int() as column):
            return f"c{column}", "columns"
        case (int() as row, int() as column):
            return f"r{row}", f"c{column}"
    return "columns", "rows"


@dataclass(frozen=True, slots=True)
class _Arc:
    """One direction in which a place may change: +1 along its edge, -1 against it."""

    place: Place
    sign: int
    target: str


class _Network:
    """What an observer can work out about the suppressed places of one table."""

    def __init__(self, totals: Mapping[Place, int], suppressed: frozenset[Place]) -> None:
        self._totals = totals
        self._suppressed = suppressed
        self._arcs: dict[str, list[_Arc]] = {}
        if totals and () not in totals:
            for place in totals:
                source, target = _ends(place)
                self._arcs.setdefault(source, []).append(_Arc(place, 1, target))
                self._arcs.setdefault(target, []).append(_Arc(place, -1, source))

    def is_wide(self, place: Place, cell_min: int) -> bool:
        """Whether the range of a suppressed place has ``cell_min`` values and reaches ``cell_min``."""
        if place == ():
            return True
        value = self._totals[place]
        if value == 0:  # suppressed because of a linked table; being empty is not a small count
            return True
        source, target = _ends(place)
        up = self._flow(target, source, place, limit=2 * cell_min)
        down = min(value - 1, self._flow(source, target, place, limit=2 * cell_min))
        return up + down >= cell_min - 1 and value + up >= cell_min

    def partners(self, place: Place) -> set[Place]:
        """Return the cheapest places to suppress as well, so that ``place`` can grow; empty if there are none."""
        source, target = _ends(place)
        path = self._cheapest(target, source, place)
        added = {arc.place for arc in path} - self._suppressed
        if added:
            return added
        # It can grow already, yet not far enough or not shrink: give it one more neighbour.
        near = {source, target}
        free = [p for p, v in self._totals.items() if v and p not in self._suppressed and near & set(_ends(p))]
        return {min(free, key=lambda p: (self._totals[p], _order(p)))} if free else set()

    def _flow(self, source: str, target: str, without: Place, *, limit: int) -> int:
        """Maximum flow through the other suppressed places, counted up to ``limit``."""
        change = dict.fromkeys(self._suppressed, 0)
        total = 0
        while total < limit:
            path = self._augmenting(source, target, without, change)
            if path is None:
                break
            step = min(limit - total, *(self._room(arc, change) for arc in path))
            for arc in path:
                change[arc.place] += arc.sign * step
            total += step
        return total

    def _room(self, arc: _Arc, change: Mapping[Place, int]) -> int:
        """How far a place may still move: up without end, down to one entity (an empty one not at all)."""
        if arc.sign > 0:
            return _ENDLESS
        return max(0, self._totals[arc.place] + change[arc.place] - min(1, self._totals[arc.place]))

    def _augmenting(self, source: str, target: str, without: Place, change: Mapping[Place, int]) -> list[_Arc] | None:
        found: dict[str, tuple[str, _Arc]] = {}
        queue = deque([source])
        while queue:
            node = queue.popleft()
            for arc in self._arcs.get(node, ()):
                if arc.place not in self._suppressed or arc.place == without or arc.target in found:
                    continue
                if arc.target == source or self._room(arc, change) < 1:
                    continue
                found[arc.target] = (node, arc)
                if arc.target == target:
                    return _trace(found, source, target)
                queue.append(arc.target)
        return None

    def _cheapest(self, source: str, target: str, without: Place) -> list[_Arc]:
        """Shortest path over places that are not empty; a place costs its count, or nothing if it is suppressed."""
        best, tick = {source: 0}, count()
        found: dict[str, tuple[str, _Arc]] = {}
        heap: list[tuple[int, int, str]] = [(0, next(tick), source)]
        while heap:
            cost, _, node = heapq.heappop(heap)
            if node == target:
                return _trace(found, source, target)
            if cost > best[node]:
                continue
            for arc in self._arcs.get(node, ()):
                value = self._totals[arc.place]
                if arc.place == without or value == 0 or (arc.sign < 0 and value < 2):
                    continue
                price = cost + (0 if arc.place in self._suppressed else value)
                if price < best.get(arc.target, _ENDLESS):
                    best[arc.target], found[arc.target] = price, (node, arc)
                    heapq.heappush(heap, (price, next(tick), arc.target))
        return []


def _trace(found: Mapping[str, tuple[str, _Arc]], source: str, target: str) -> list[_Arc]:
    path, node = [], target
    while node != source:
        node, arc = found[node]
        path.append(arc)
    return path


def _balance(flow: dict[Place, int], lowest: Mapping[Place, int], highest: Mapping[Place, int]) -> None:
    """Change ``flow`` within its bounds until every node passes on what it gets; a solution exists.

    The exact numbers divided by the base lie within the bounds and balance, so whole
    numbers do as well: bounds of a circulation are whole (Hoffman's circulation theorem).
    """
    arcs: dict[str, list[_Arc]] = {}
    excess: dict[str, int] = {}
    for place, amount in flow.items():
        source, target = _ends(place)
        arcs.setdefault(source, []).append(_Arc(place, 1, target))
        arcs.setdefault(target, []).append(_Arc(place, -1, source))
        excess[source] = excess.get(source, 0) - amount
        excess[target] = excess.get(target, 0) + amount
    while any(excess.values()):
        path, start, end = _relieve(arcs, excess, flow, lowest, highest)
        for arc in path:
            flow[arc.place] += arc.sign
        excess[start] -= 1
        excess[end] += 1


def _relieve(
    arcs: Mapping[str, Iterable[_Arc]],
    excess: Mapping[str, int],
    flow: Mapping[Place, int],
    lowest: Mapping[Place, int],
    highest: Mapping[Place, int],
) -> tuple[list[_Arc], str, str]:
    """Shortest path by which one unit leaves a node that has too much for one that has too little."""
    for start in sorted(node for node, amount in excess.items() if amount > 0):
        found: dict[str, tuple[str, _Arc]] = {}
        queue = deque([start])
        while queue:
            node = queue.popleft()
            for arc in arcs.get(node, ()):
                moved = flow[arc.place] + arc.sign
                if arc.target in found or arc.target == start or not lowest[arc.place] <= moved <= highest[arc.place]:
                    continue
                found[arc.target] = (node, arc)
                if excess[arc.target] < 0:
                    return _trace(found, start, arc.target), start, arc.target
                queue.append(arc.target)
    raise ValueError("expected bounds around numbers that add up")
