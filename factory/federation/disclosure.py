"""Disclosure control of tables: what may be published of counts and sums, so that no small cell can be worked out.

Three steps, for tables of no, one or two axes with their totals:

1. *Primary* suppression: every cell or total with fewer than ``cell_min`` entities, and what a
   caller names besides (dominance, class disclosure, differences to earlier releases).
2. *Complementary* suppression until an observer who knows every published number exactly, and
   why each suppressed cell is missing, still cannot tell one small count from another: a cell
   below the minimum can take every value below it, and no other one is a single value. A
   table with totals is a circulation in a network (cells are edges, totals are nodes), so the
   exact range of a cell is a maximum flow; nothing is estimated. Of a sum, every primary cell
   can still move by a tenth both ways.
3. *Controlled rounding* of what is published to multiples of a base: every number moves by
   less than one base and totals stay the sums of their parts. It reads published numbers
   alone, so it reveals nothing about suppressed ones.

Because the reason of a suppression is counted among what everybody knows, it may be published.

Privacy:
    Who reads a protected table learns its published numbers within the base, and of a
    suppressed cell its reason and the range above. Tables that share categories are
    protected together by ``protect_linked``: what is suppressed in one is in all; ranges are
    verified per table, not over all jointly. Earlier releases: ``factory.agency.register``.

Source:
    Willenborg and de Waal, "Elements of Statistical Disclosure Control", 2001, chapters 4
    to 6; Cox, "Network models for complementary cell suppression", JASA 90, 1995; Cox and
    Ernst, "Controlled rounding", INFOR 20, 1982.
"""

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, product
from typing import Literal

Place = tuple[int | None, ...]
"""A cell: one index per axis, None for the total over that axis."""
Reason = Literal["threshold", "dominance", "class", "differencing", "complementary"]
"""Why a place is suppressed; all but the last are primary. ``factory.federation.rules.REASONS`` has the words."""
SPREAD = 10
"""A suppressed sum must be able to move by one part in this many, both ways."""
_ENDLESS = 2**62


@dataclass(frozen=True, slots=True)
class Table:
    """Counts of entities, without totals.

    Attributes:
        axes: labels per axis, none to two axes.
        counts: number of entities per cell, every cell of the cross product, 0 or more.
        has_rest: the last label of each axis stands for everything that is not listed; that it is empty tells nothing.
    """

    axes: tuple[tuple[str, ...], ...]
    counts: Mapping[tuple[int, ...], int]
    has_rest: bool = False

    def is_rest(self, place: Place) -> bool:
        """Whether a place is about what is not listed."""
        ends = [len(axis) - 1 for axis in self.axes]
        return self.has_rest and any(index == end for index, end in zip(place, ends, strict=True))

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
        reason: why it is suppressed, empty if it is not.
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


def protect(
    table: Table, cell_min: int, round_base: int, *, also: Mapping[Place, Reason] | None = None
) -> ProtectedTable:
    """Suppress and round one table.

    Args:
        table: exact counts.
        cell_min: fewest entities behind a published number.
        round_base: published counts are multiples of this; 1 leaves them exact.
        also: places to suppress in any case, and why.

    Raises:
        ValueError: ``cell_min`` or ``round_base`` below 1.
    """
    reasons = suppression(table, cell_min, also=also)
    totals = with_totals(table.counts, table.axes)
    rounded = round_published(totals, frozenset(reasons), table.axes, round_base)
    return ProtectedTable(
        table.axes, tuple(ProtectedCell(place, rounded.get(place), reasons.get(place, "")) for place in totals)
    )


def suppression(
    table: Table, cell_min: int, *, also: Mapping[Place, Reason] | None = None, hides_empty: bool = False
) -> dict[Place, Reason]:
    """Return which places must not be published, and why; see the module text.

    Args:
        table: exact counts.
        cell_min: fewest entities behind a published number.
        also: places to suppress in any case, and why.
        hides_empty: empty places are suppressed as small ones are.

    Raises:
        ValueError: ``cell_min`` below 1.
    """
    if cell_min < 1:
        raise ValueError("expected cell_min of 1 or more")
    totals = with_totals(table.counts, table.axes)
    reasons: dict[Place, Reason] = {
        place: "threshold"
        for place, value in totals.items()
        if value < cell_min and (value or (hides_empty and not table.is_rest(place)))
    }
    for place, reason in (also or {}).items():
        reasons.setdefault(place, reason)
    lowest = 0 if hides_empty else 1

    def known(place: Place) -> tuple[int, int]:
        """Range of a suppressed place that its reason alone gives away."""
        match reasons.get(place):
            case "threshold":
                return lowest, cell_min - 1
            case "class":
                return 0, _ENDLESS
        return (cell_min, _ENDLESS) if totals[place] else (0, 0)

    def needed(place: Place) -> tuple[int, int, int]:
        """How far up, how far down, and how far in all a place must be able to move."""
        value = totals[place]
        match reasons.get(place):
            case "threshold":
                return cell_min - 1 - value, value - lowest, 0
            case "class":
                return 0, 0, cell_min - 1
        return 0, 0, 1 if value and cell_min > 1 else 0

    _complete(totals, reasons, known, needed)
    return reasons


def suppression_of_sums(table: Table, reasons: Mapping[Place, Reason]) -> dict[Place, Reason]:
    """Return ``reasons`` with what must go besides, so that no suppressed sum can be worked out closely.

    Args:
        table: sizes of the sums (of absolute values, where values may be negative) in the place of counts.
        reasons: what is suppressed already, and why.
    """
    totals = with_totals(table.counts, table.axes)
    found = dict(reasons)

    def needed(place: Place) -> tuple[int, int, int]:
        spread = -(-totals[place] // SPREAD)
        return (0, 0, 0) if found.get(place, "complementary") == "complementary" else (spread, spread, 0)

    _complete(totals, found, lambda _: (0, _ENDLESS), needed)
    return found


def _complete(
    totals: Mapping[Place, int],
    reasons: dict[Place, Reason],
    known: Callable[[Place], tuple[int, int]],
    needed: Callable[[Place], tuple[int, int, int]],
) -> None:
    """Add complementary places to ``reasons`` until every suppressed one can move as far as it must.

    No more is asked than is left when everything that is not empty is suppressed: reasons alone may narrow a place,
    as two small cells beneath a small total narrow each other.
    """
    hideable = {place for place, value in totals.items() if value} | set(reasons)
    widest = _Network(totals, {place: known(place) for place in hideable})
    demands = {place: widest.clipped(place, needed(place)) for place in hideable}
    while reasons:
        network = _Network(totals, {place: known(place) for place in reasons})
        weak = next(
            (
                place
                for place in sorted(reasons, key=_order)
                if network.clipped(place, demands[place]) != demands[place]
            ),
            None,
        )
        if weak is None:
            return
        added = network.partners(weak, demands[weak], {place: known(place) for place in hideable - set(reasons)})
        if not added:  # nothing is left that could hide it: everything that is not empty goes
            added = {place for place, value in totals.items() if value and place not in reasons}
        if not added:  # only empty cells are published; an empty cell forced in by a linked table stays as it is
            return
        reasons |= dict.fromkeys(added, "complementary")


def protect_linked(
    tables: Sequence[Table],
    columns: Sequence[Sequence[str]],
    cell_min: int,
    *,
    primary: Sequence[Mapping[Place, Reason]] = (),
    hides_empty: bool = False,
) -> list[dict[Place, Reason]]:
    """Return suppressed places of tables over the same entities, suppressing a shared cell in all of them.

    Args:
        tables: exact counts.
        columns: per table the column behind each axis; equal columns have equal labels.
        cell_min: fewest entities behind a published number.
        primary: per table, places to suppress in any case, and why.
        hides_empty: empty places are suppressed as small ones are.
    """
    given = list(primary) or [{} for _ in tables]
    shared: set[frozenset[tuple[str, int]]] = set()
    while True:
        before = len(shared)
        found = []
        for table, names, own in zip(tables, columns, given, strict=True):
            places = with_totals(table.counts, table.axes)
            linked: dict[Place, Reason] = {place: "complementary" for place in places if key(place, names) in shared}
            suppressed = suppression(table, cell_min, also=linked | dict(own), hides_empty=hides_empty)
            shared |= {key(place, names) for place in suppressed}
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


def key(place: Place, names: Sequence[str]) -> frozenset[tuple[str, int]]:
    """Return what a place is about: columns with the index of their category, whichever table it is in."""
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

    def __init__(self, totals: Mapping[Place, int], known: Mapping[Place, tuple[int, int]]) -> None:
        self._totals = totals
        self._known = known
        self._arcs: dict[str, list[_Arc]] = {}
        if totals and () not in totals:
            for place in totals:
                source, target = _ends(place)
                self._arcs.setdefault(source, []).append(_Arc(place, 1, target))
                self._arcs.setdefault(target, []).append(_Arc(place, -1, source))

    def clipped(self, place: Place, needed: tuple[int, int, int]) -> tuple[int, int, int]:
        """Return how far up, down and in all a suppressed place can move, as far as that is needed."""
        up_min, down_min, span_min = needed
        if place == () or not any(needed):
            return needed
        low, high = self._known[place]
        value, limit = self._totals[place], max(needed)
        source, target = _ends(place)
        up = min(high - value, self._flow(target, source, place, limit=limit))
        down = min(value - low, self._flow(source, target, place, limit=limit))
        return min(up, up_min), min(down, down_min), min(up + down, span_min)

    def partners(self, place: Place, demand: tuple[int, int, int], free: Mapping[Place, tuple[int, int]]) -> set[Place]:
        """Return the cheapest places to suppress as well, so that ``place`` can move further; empty if there are none.

        Args:
            place: cannot move as far as it must.
            demand: how far up, down and in all it must.
            free: places that may be suppressed, with what would be known of them.
        """
        up_min, down_min, span_min = demand
        source, target = _ends(place)
        for start, end, wanted in ((target, source, max(up_min, span_min)), (source, target, max(down_min, span_min))):
            change = dict.fromkeys((*self._known, *free), 0)
            missing = wanted - self._flow(start, end, place, limit=wanted, change=change)
            for room_min in (missing, 1):  # one path with room enough before several narrow ones
                path = self._cheapest(start, end, place, change, free, room_min) if missing > 0 else []
                added = {arc.place for arc in path} - set(self._known)
                if added:
                    return added
        return set()

    def _flow(
        self, source: str, target: str, without: Place, *, limit: int, change: dict[Place, int] | None = None
    ) -> int:
        """Maximum flow through the other suppressed places, counted up to ``limit``; ``change`` gets what moved."""
        if change is None:
            change = dict.fromkeys(self._known, 0)
        total = 0
        while total < limit:
            path = self._augmenting(source, target, without, change)
            if path is None:
                break
            step = min(limit - total, *(self._room(arc, change, self._known) for arc in path))
            for arc in path:
                change[arc.place] += arc.sign * step
            total += step
        return total

    def _room(self, arc: _Arc, change: Mapping[Place, int], known: Mapping[Place, tuple[int, int]]) -> int:
        """How far a place may still move within what is known of it."""
        low, high = known[arc.place]
        value = self._totals[arc.place] + change[arc.place]
        return max(0, high - value if arc.sign > 0 else value - low)

    def _augmenting(self, source: str, target: str, without: Place, change: Mapping[Place, int]) -> list[_Arc] | None:
        found: dict[str, tuple[str, _Arc]] = {}
        queue = deque([source])
        while queue:
            node = queue.popleft()
            for arc in self._arcs.get(node, ()):
                if arc.place not in self._known or arc.place == without or arc.target in found:
                    continue
                if arc.target == source or self._room(arc, change, self._known) < 1:
                    continue
                found[arc.target] = (node, arc)
                if arc.target == target:
                    return _trace(found, source, target)
                queue.append(arc.target)
        return None

    def _cheapest(  # noqa: PLR0917  the state of one search
        self,
        source: str,
        target: str,
        without: Place,
        change: Mapping[Place, int],
        free: Mapping[Place, tuple[int, int]],
        room_min: int,
    ) -> list[_Arc]:
        """Shortest path with room left; a place costs its count, or nothing if it is suppressed."""
        known = {**free, **self._known}
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
                if arc.place == without or arc.place not in known or self._room(arc, change, known) < room_min:
                    continue
                price = cost + (0 if arc.place in self._known else self._totals[arc.place])
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
