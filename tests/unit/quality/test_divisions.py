"""Division codes with their years: a withdrawn code is right where it was right, and wrong after its end."""

from datetime import date

import pyarrow as pa
import pytest

from quality.codes import division_codes, id_check_characters
from quality.divisions import id_regions_existed, in_force, periods


def number(region, born):
    import numpy as np

    digits = f"{region}{born:%Y%m%d}001"
    check = id_check_characters(np.array([[int(d) for d in digits]], dtype=np.uint8))
    return digits + chr(check[0])


# Changes of the State Council's decrees: 崇文区 was merged into 东城区 in 2010, 密云县 (110228) became 密云区
# (110118) in 2015, 通县 (110223) became 通州区 (110112) in 1997.
@pytest.mark.parametrize(
    ("code", "day", "right"),
    [
        ("110103", date(2009, 1, 1), True),
        ("110103", date(2011, 1, 1), False),
        ("110118", date(2014, 6, 1), False),
        ("110118", date(2016, 6, 1), True),
        ("110228", date(2014, 6, 1), True),
        ("110228", date(2016, 6, 1), False),
        ("110223", date(1997, 6, 1), True),
        ("110112", date(1997, 6, 1), True),
        ("110101", date(2026, 1, 1), True),
        ("530191", date(2026, 1, 1), False),
        ("11010", date(2026, 1, 1), False),
        ("", date(2026, 1, 1), False),
    ],
)
def test_a_code_is_right_on_the_days_on_which_it_was_in_force(code, day, right):
    assert in_force(pa.array([code]), pa.array([day])).to_pylist() == [right]


def test_an_empty_cell_stays_empty():
    days = pa.array([None, date(2020, 1, 1)], type=pa.date32())
    assert in_force(pa.array(["110101", None]), days).to_pylist() == [None, None]
    assert id_regions_existed(pa.array([None], type=pa.string())).to_pylist() == [None]


@pytest.mark.parametrize(
    ("region", "born", "right"),
    [
        ("110103", date(1975, 3, 1), True),
        ("110103", date(2010, 3, 1), True),
        ("110103", date(2011, 3, 1), False),
        ("110118", date(1975, 3, 1), True),
        ("530191", date(1975, 3, 1), False),
        ("440524", date(1880, 1, 1), True),
        ("110105", date(1949, 12, 31), True),
    ],
)
def test_a_region_that_ended_before_the_birth_cannot_stand_in_a_number(region, born, right):
    assert id_regions_existed(pa.array([number(region, born)])).to_pylist() == [right]


def test_what_is_no_number_has_no_region():
    found = id_regions_existed(pa.array(["11010319750301001x", "乙" * 18, "", "110103"]))
    assert found.to_pylist() == [False] * 4


def test_every_code_of_the_2023_list_is_known_and_all_but_two_are_in_force_now():
    codes = sorted(division_codes())
    known = in_force(pa.array(codes), pa.array([date(2023, 12, 31)] * len(codes)))
    assert known.to_pylist().count(True) == len(codes) == 2_978
    later = in_force(pa.array(codes), pa.array([date(2026, 6, 1)] * len(codes))).to_pylist()
    # 江北区 and 渝北区 became 两江新区 in 2025.
    assert [code for code, right in zip(codes, later, strict=True) if not right] == ["500105", "500112"]
    assert len(periods()) > 6_000


def test_a_slice_and_chunks_are_judged_by_their_own_cells():
    codes = pa.chunked_array([["110103"], ["110101", "110103"]])
    days = pa.chunked_array([[date(2011, 1, 1)], [date(2011, 1, 1), date(2001, 1, 1)]])
    assert in_force(codes, days).to_pylist() == [False, True, True]
    assert in_force(codes.combine_chunks()[1:], days.combine_chunks()[1:]).to_pylist() == [True, True]
