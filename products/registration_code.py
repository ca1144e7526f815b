"""Registration codes of products with check characters.

``SF-<year>-<form>-<serial>-<check>``, for example ``SF-2026-MD-00000017-N7``. The two check characters
catch every single substitution, every transposition of neighbours and nearly every other
double error. The code names the internal registration; a national code, once
given, stands beside it in the certificate.

Source:
    ISO/IEC 7064:2003, pure system MOD 1271-36 (radix 36); GB/T 17710-2008 is its Chinese edition.
"""

import re
from dataclasses import dataclass

from products.errors import MalformedError
from products.forms import Form

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_MODULUS = 1271
_PATTERN = re.compile(r"SF-(\d{4})-([A-Z]{2})-(\d{8})-([0-9A-Z]{2})")

FORM_LETTERS: dict[Form, str] = {
    "model": "MD",
    "verification": "VF",
    "report": "RP",
    "index": "IX",
    "dataset": "DS",
    "interface": "IF",
    "service": "SV",
    "component": "CP",
    "tool": "TL",
}
"""Two letters per form of product."""


@dataclass(frozen=True, slots=True)
class RegistrationCode:
    """A valid code, taken apart.

    Attributes:
        year: year in which the code was given.
        form: form of the product.
        serial: running number of the year, from 1.
    """

    year: int
    form: Form
    serial: int


def make(year: int, form: Form, serial: int) -> str:
    """Return the code with its check characters.

    Raises:
        ValueError: year or serial out of range.
    """
    if not 2000 <= year <= 9999 or not 1 <= serial <= 99_999_999:
        raise ValueError("expected a year from 2000 and a serial from 1 to 99999999")
    body = f"SF-{year:04d}-{FORM_LETTERS[form]}-{serial:08d}"
    return f"{body}-{_check(body)}"


def read(code: str) -> RegistrationCode:
    """Check a code and take it apart.

    Raises:
        MalformedError: another form, or check characters that are not the code's.
    """
    match = _PATTERN.fullmatch(code) if code.isascii() else None
    forms = {letters: form for form, letters in FORM_LETTERS.items()}
    if match is None or match[2] not in forms or int(match[3]) == 0:
        raise MalformedError("expected a registration code like SF-2026-MD-00000017-N7")
    if _check(code[:-3]) != match[4]:
        raise MalformedError("the check characters of the registration code do not match it: look for a typing error")
    return RegistrationCode(int(match[1]), forms[match[2]], int(match[3]))


def is_valid(code: str) -> bool:
    """Whether ``code`` has the form and the check characters of a registration code."""
    try:
        read(code)
    except MalformedError:
        return False
    return True


def _check(body: str) -> str:
    product = 0
    for character in body.replace("-", ""):
        product = (product + _ALPHABET.index(character)) * 36 % _MODULUS
    # Two further places of radix 36, as the pure systems with two check characters have.
    value = (1 - product * 36) % _MODULUS
    return _ALPHABET[value // 36] + _ALPHABET[value % 36]
