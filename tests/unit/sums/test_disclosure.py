"""Suppression and rounding: nothing small can be worked out, and what is published adds up."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from factory.federation.disclosure import (
    Table,
    protect,
    protect_linked,
    round_published,
    suppression,
    suppression_of_sums,
    with_totals,
)


def one(*counts: int) -> Table:
    return Table((tuple(f"v{i}" for i in range(len(counts))),), {(i,): c for i, c in enumerate(counts)})


def two(*rows: tuple[int, ...]) -> Table:
    axes = (tuple(f"r{i}" for i in range(len(rows))), tuple(f"c{i}" for i in range(len(rows[0]))))
    return Table(axes, {(i, j): c for i, row in enumerate(rows) for j, c in enumerate(row)})


def possible(table: Table, suppressed, known=None) -> dict:
    """Lowest and highest value of each suppressed place, by linear programming over the inner cells.

    ``known`` are lowest and highest values of suppressed places that the reader knows beforehand.
    """
    totals = with_totals(table.counts, table.axes)
    inner = list(table.counts)
    column = {place: index for index, place in enumerate(inner)}

    def row(place) -> list[float]:
        return [float(all(want in (None, have) for want, have in zip(place, cell, strict=True))) for cell in inner]

    open_places = [place for place in totals if place not in suppressed]
    hidden = [place for place in suppressed if totals[place]]
    bound_of = known or dict.fromkeys(hidden, (1, None))
    bounds = [bound_of.get(place, (0, None)) for place in inner]
    limits = [
        (p, sign, end) for p in hidden for sign, end in zip((-1.0, 1.0), bound_of[p], strict=True) if end is not None
    ]
    fixed = {"A_eq": [row(p) for p in open_places], "b_eq": [totals[p] for p in open_places]} if open_places else {}
    ranges = {}
    for place in hidden:
        found_ends = []
        for side in (1.0, -1.0):
            found = linprog(
                [side * value for value in row(place)],
                A_ub=[[sign * v for v in row(p)] for p, sign, _ in limits],
                b_ub=[sign * end for _, sign, end in limits],
                bounds=bounds,
                **fixed,
            )
            found_ends.append(side * found.fun if found.status == 0 else float("inf"))
        ranges[place] = (round(found_ends[0]), found_ends[1])
    assert all(place in column or None in place for place in suppressed)
    return ranges


def assert_wide(table: Table, suppressed, cell_min: int) -> None:
    for place, (low, high) in possible(table, suppressed).items():
        assert high - low > cell_min - 1.5, place
        assert high > cell_min - 0.5, place


def assert_reasons_tell_nothing(table: Table, reasons, cell_min: int) -> None:
    """Each small cell can take every small value, though the reader knows which are small and which are not."""
    totals = with_totals(table.counts, table.axes)
    if all(place in reasons for place, value in totals.items() if value):
        return
    known = {p: (1, cell_min - 1) if r == "threshold" else (cell_min, None) for p, r in reasons.items() if totals[p]}
    widest = {p: known.get(p, (cell_min, None)) for p, value in totals.items() if value}
    most = possible(table, widest, widest)  # what the reasons leave open when no number is published
    for place, (low, high) in possible(table, reasons, known).items():
        if reasons[place] == "threshold":
            assert (low, round(high)) == (most[place][0], round(most[place][1])), place
        else:
            assert high - low > 0.5 or most[place][1] - most[place][0] < 0.5, place


def test_a_single_small_cell_takes_a_partner_with_it() -> None:
    reasons = suppression(one(20, 2, 30, 9), 5)
    assert reasons == {(1,): "threshold", (3,): "complementary"}


def test_two_small_cells_whose_sum_is_too_small_take_a_third() -> None:
    # 1 + 1 with a published total: both would be known to be 1.
    assert set(suppression(one(1, 1, 40), 3)) == {(0,), (1,), (2,)}


@pytest.mark.parametrize(("count", "published"), [(4, None), (5, 5), (6, 6), (0, 0)])
def test_cells_below_the_minimum_go_and_cells_at_it_and_empty_ones_stay(count: int, published: int | None) -> None:
    assert protect(one(count, 50, 60), 5, 1).at((0,)).count == published


def test_a_small_total_goes_with_everything_that_would_give_it_away() -> None:
    table = protect(one(2, 0, 1), 5, 1)
    assert table.suppressed == {(0,), (2,), (None,)}
    assert table.at((1,)).count == 0


def test_a_single_number_below_the_minimum_goes() -> None:
    assert protect(Table((), {(): 4}), 5, 1).suppressed == {()}
    assert protect(Table((), {(): 5}), 5, 1).at(()).count == 5


def test_a_small_cell_of_a_cross_table_takes_a_rectangle_with_it() -> None:
    table = two((30, 2, 40), (25, 35, 20), (10, 60, 70))
    suppressed = protect(table, 5, 1).suppressed
    assert (0, 1) in suppressed
    for row in range(3):
        assert sum((row, column) in suppressed for column in range(3)) != 1 or (row, None) in suppressed
    assert_wide(table, suppressed, 5)


def test_cells_of_a_cross_table_that_each_line_hides_but_the_whole_gives_away_are_found() -> None:
    # Every line has two suppressed cells, yet the cycle is pinned by ones: nothing can move down.
    table = two((1, 1, 30), (1, 1, 30), (30, 30, 30))
    suppressed = protect(table, 3, 1).suppressed
    assert_wide(table, suppressed, 3)
    assert len([p for p in suppressed if None not in p]) > 4


def test_reasons_are_told_apart_inside() -> None:
    cells = {cell.at: cell.reason for cell in protect(one(20, 2, 30, 9), 5, 5).cells if cell.reason}
    assert cells == {(1,): "threshold", (3,): "complementary"}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=5), st.integers(3, 6))
def test_no_cell_of_a_row_can_be_worked_out(counts: list[int], cell_min: int) -> None:
    table = one(*counts)
    assert_reasons_tell_nothing(table, suppression(table, cell_min), cell_min)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, 20), min_size=3, max_size=3), min_size=2, max_size=3), st.integers(2, 6))
def test_no_cell_of_a_cross_table_can_be_worked_out(rows: list[list[int]], cell_min: int) -> None:
    table = two(*(tuple(row) for row in rows))
    reasons = suppression(table, cell_min)
    small = {p for p, v in with_totals(table.counts, table.axes).items() if 0 < v < cell_min}
    assert small <= set(reasons)
    assert_reasons_tell_nothing(table, reasons, cell_min)


def test_a_partner_that_is_hardly_larger_than_the_minimum_does_not_hide_a_small_cell() -> None:
    # With 1 + 10 left over and the reasons known, (1, 10) would be the only way for 1 small and 1 not small.
    assert set(suppression(one(1, 10, 40, 50), 10)) == {(0,), (2,)}


def test_small_cells_beneath_a_small_total_leave_the_other_totals_published() -> None:
    found = suppression(two((5, 230), (2, 205)), 10)
    assert {(0, 0), (1, 0), (None, 0)} <= set(found)
    assert (None, None) not in found


def test_an_empty_cell_goes_where_the_rules_say_so_but_not_the_rest() -> None:
    counts = {(0,): 0, (1,): 30, (2,): 40, (3,): 0}
    table = Table((("a", "b", "c", "other"),), counts, has_rest=True)
    assert suppression(table, 5) == {}
    assert suppression(table, 5, hides_empty=True) == {(0,): "threshold", (1,): "complementary"}


def test_a_dominated_sum_takes_a_partner_that_is_large_enough() -> None:
    sizes = Table((("a", "b", "c", "d"),), {(0,): 1_000, (1,): 20, (2,): 90, (3,): 5_000})
    found = suppression_of_sums(sizes, {(0,): "dominance"})
    assert found == {(0,): "dominance", (3,): "complementary"}


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 60), min_size=3, max_size=3), min_size=1, max_size=4),
    st.integers(1, 6),
    st.sampled_from([1, 3, 5, 10]),
)
def test_published_numbers_add_up_and_move_by_less_than_the_base(rows, cell_min: int, base: int) -> None:
    table = two(*(tuple(row) for row in rows))
    protected = protect(table, cell_min, base)
    exact = with_totals(table.counts, table.axes)
    published = {cell.at: cell.count for cell in protected.cells if not cell.reason}
    for place, value in published.items():
        assert value % base == 0
        assert abs(value - exact[place]) < base
    if not protected.suppressed:
        assert published == with_totals({p: v for p, v in published.items() if None not in p}, table.axes)
    for row in range(len(rows)):
        line = [published.get((row, column)) for column in range(3)]
        if None not in line and (row, None) in published:
            assert published[row, None] == sum(line)


def test_rounding_knows_nothing_of_suppressed_cells() -> None:
    first, second = one(20, 2, 31, 9), one(20, 3, 31, 8)
    suppressed = frozenset({(1,), (3,)})
    rounded = [
        round_published(with_totals(table.counts, table.axes), suppressed, table.axes, 5) for table in (first, second)
    ]
    assert rounded[0] == rounded[1]


def test_sums_round_below_zero_too() -> None:
    values = with_totals({(0,): -1234, (1,): 567, (2,): 0}, (("a", "b", "c"),))
    rounded = round_published(values, frozenset(), (("a", "b", "c"),), 100)
    assert (
        rounded == {(0,): -1200, (1,): 600, (2,): 0, (None,): -600}
        or sum(rounded[(i,)] for i in range(3)) == rounded[(None,)]
    )


def test_a_cell_suppressed_in_one_table_is_suppressed_in_all() -> None:
    cross = two((30, 2, 40), (25, 35, 20), (10, 60, 70))
    margin = one(72, 80, 140)
    found = protect_linked([cross, margin], [("a", "b"), ("a",)], 5)
    for row in range(3):
        assert ((row, None) in found[0]) == ((row,) in found[1])
    small = protect_linked([two((1, 0), (50, 60)), one(1, 110)], [("a", "b"), ("a",)], 5)
    assert (0,) in small[1]
    assert (0, None) in small[0]


def test_wrong_arguments_are_the_programmers_mistake() -> None:
    with pytest.raises(ValueError, match="cell_min"):
        suppression(one(1), 0)
    with pytest.raises(ValueError, match="base"):
        protect(one(1), 1, 0)
    with pytest.raises(ValueError, match="axes"):
        Table((("a",),), {(0,): -1})
