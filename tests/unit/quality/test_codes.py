"""Identity codes: the standards' own examples, and one mutant per thing a code can be wrong in."""

import pyarrow as pa
import pytest

from quality.codes import births_match, division_codes, divisions_valid, resident_ids_valid, usccs_valid

# Examples printed in GB 11643-1999.
STANDARD_IDS = ["11010519491231002X", "440524188001010014"]


def test_the_examples_of_gb_11643_are_valid():
    assert resident_ids_valid(pa.array(STANDARD_IDS)).to_pylist() == [True, True]


@pytest.mark.parametrize(
    "wrong",
    [
        "110105194912310021",
        "11010519491231002x",
        "11010519491331002X",
        "110105194902300024",
        "010105194912310026",
        "1101051949123100X2",
        "11010519491231002",
        "11010519491231002X ",
        "１１０１０５",
        "",
    ],
    ids=[
        "check",
        "lower x",
        "month 13",
        "30 February",
        "province 01",
        "X inside",
        "17 long",
        "blank",
        "full width",
        "empty",
    ],
)
def test_a_wrong_identity_number_is_not_valid(wrong):
    assert resident_ids_valid(pa.array([wrong])).to_pylist() == [False]


def test_29_february_is_valid_in_leap_years_only():
    def number(birth):
        body = f"110105{birth}002"
        weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
        return body + "10X98765432"[sum(int(d) * w for d, w in zip(body, weights, strict=True)) % 11]

    numbers = [number(birth) for birth in ("20000229", "19000229", "20240229", "20230229")]
    assert resident_ids_valid(pa.array(numbers)).to_pylist() == [True, False, True, False]


def test_published_credit_codes_are_valid():
    assert usccs_valid(pa.array(["91110108MA009HJB3M", "91110000100000011P"])).to_pylist()[0] is True


@pytest.mark.parametrize(
    "wrong",
    ["91110108MA009HJB3N", "91110108MA009HJB3", "91110108MA009HIB3M", "9111A108MA009HJB3M", "91110108ma009hjb3m"],
    ids=["check", "17 long", "letter I", "letter in region", "lower case"],
)
def test_a_wrong_credit_code_is_not_valid(wrong):
    assert usccs_valid(pa.array([wrong])).to_pylist() == [False]


def test_five_faulty_codes_of_the_high_tech_table_are_found():
    faulty = [
        "9111010156743845XQ",
        "91110108MA01L0TH6X",
        "91110108MA006E833D",
        "91110111MA7E2D1L77",
        "121000004000147000",
    ]
    assert usccs_valid(pa.array(faulty)).to_pylist() == [False] * 5


def test_an_empty_cell_stays_empty():
    column = pa.array([None, STANDARD_IDS[0], None])
    assert resident_ids_valid(column).to_pylist() == [None, True, None]
    assert usccs_valid(pa.array([None], type=pa.string())).to_pylist() == [None]
    assert divisions_valid(pa.array(["110101", "530191", None])).to_pylist() == [True, False, None]


def test_a_slice_of_a_column_is_judged_by_its_own_cells():
    column = pa.chunked_array([pa.array(["x", *STANDARD_IDS])]).slice(1)
    assert resident_ids_valid(column).to_pylist() == [True, True]


def test_birth_dates_are_compared_with_the_number():
    births = pa.array([19_000, -7_306], type=pa.int32()).cast(pa.date32())
    assert births_match(pa.array([STANDARD_IDS[0]] * 2), births).to_pylist() == [False, True]


def test_the_division_list_is_the_whole_list():
    assert len(division_codes()) == 2_978
