"""Registration codes: their check characters catch what people get wrong."""

import pytest

from products import registration_code
from products.errors import MalformedError

CODE = "SF-2026-MD-00000017-N7"


def test_a_known_code_is_made_and_read() -> None:
    assert registration_code.make(2026, "model", 17) == CODE
    assert registration_code.read(CODE) == registration_code.RegistrationCode(2026, "model", 17)


@pytest.mark.requirement("REG-CODE")
def test_every_single_substitution_is_found() -> None:
    for place, right in enumerate(CODE):
        for wrong in "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ":
            if right not in ("-", wrong):
                assert not registration_code.is_valid(CODE[:place] + wrong + CODE[place + 1 :])


def test_every_transposition_of_neighbours_is_found() -> None:
    for place in range(len(CODE) - 1):
        one, two = CODE[place], CODE[place + 1]
        if one != two and "-" not in (one, two):
            assert not registration_code.is_valid(CODE[:place] + two + one + CODE[place + 2 :])


@pytest.mark.parametrize(
    "code", ["", "SF-2026-MD-17-N7", CODE.lower(), CODE + " ", CODE.replace("0", "０", 1), "SF-2026-ZZ-00000017-N7"]
)
def test_another_form_is_refused(code: str) -> None:
    with pytest.raises(MalformedError):
        registration_code.read(code)


@pytest.mark.parametrize(("year", "serial"), [(1999, 1), (2026, 0), (2026, 100_000_000)])
def test_numbers_out_of_range_are_the_programmers_mistake(year: int, serial: int) -> None:
    with pytest.raises(ValueError, match="expected a year"):
        registration_code.make(year, "report", serial)
