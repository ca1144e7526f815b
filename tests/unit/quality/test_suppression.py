"""Published counts: small ones vanish, near ones look alike."""

import pytest

from quality.suppression import Published, publish, rounded


@pytest.mark.parametrize(("exact", "shown"), [(0, 0), (1, 5), (4, 5), (5, 5), (7, 5), (8, 10), (999_998, 1_000_000)])
def test_counts_are_rounded_to_5_and_small_ones_stand_at_5(exact, shown):
    assert rounded(exact) == shown


@pytest.mark.parametrize("failing", [1, 2, 3, 4])
def test_counts_from_1_to_4_cannot_be_told_apart(failing):
    assert publish(rows=100, missing=0, failing=failing) == Published(100, 5, small=True)


def test_five_is_shown():
    assert publish(rows=100, missing=0, failing=5) == Published(100, 5, small=False)


@pytest.mark.parametrize("missing", [1, 2, 3, 4])
def test_rows_skipped_are_not_given_away_by_the_rows_checked(missing):
    assert publish(rows=100, missing=missing, failing=0).checked == 95


def test_two_deliveries_that_differ_by_one_row_publish_the_same():
    assert publish(rows=1_001, missing=20, failing=50) == publish(rows=1_002, missing=21, failing=51)


def test_nothing_is_said_of_fewer_than_5_rows():
    assert publish(rows=100, missing=96, failing=4) == Published(0, 0, small=False)


def test_published_failures_never_exceed_what_was_checked():
    assert publish(rows=13, missing=0, failing=13) == Published(15, 15, small=False)
    assert publish(rows=12, missing=4, failing=8) == Published(5, 5, small=False)


@pytest.mark.parametrize(("missing", "failing"), [(-1, 0), (0, 11), (11, 0), (5, 6)])
def test_impossible_counts_are_a_programming_error(missing, failing):
    with pytest.raises(ValueError, match="expected"):
        publish(rows=10, missing=missing, failing=failing)
