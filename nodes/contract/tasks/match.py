"""Private verification (``match.voprf``): parameters, and how a record becomes an input.

Department and asker must turn a record into the same bytes, so the rules are named here,
stand in the signed order and are applied by both with this module's functions.

False positives: a tag is the first 16 bytes of a pseudorandom output. A record that is not
in the register matches one of n tags by chance with probability at most n / 2**128, for a
register of ten million below 2**-104.
"""

import hashlib
import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator

from nodes.contract.errors import MalformedError
from nodes.contract.messages import Part, Text

TASK = "match.voprf"
EVALUATE = "match.evaluate"
LABEL_ASK = "match.ask"
LABEL_ANSWER = "match.answer"
SUITE = "voprf-ristretto255-sha512-v1"
TAG_BYTES = 16
BUCKET_ROWS_MIN = 1000
"""Fewest records among which an asked one hides: the department learns a bucket, never less than this many."""
BITS_MAX = 20
"""Most bits of a digest that a department can learn of an asked record, whatever it says of its register: 2**20
buckets of ``BUCKET_ROWS_MIN`` records are a thousand million, the population of a country."""

Rule = Literal["trim", "spaces", "width", "upper", "lower", "brackets", "id18", "name_dots"]
"""``trim`` cuts blanks at both ends · ``spaces`` removes all blanks · ``width`` Unicode NFKC · ``upper``, ``lower`` ·
``brackets`` all bracket forms to round half-width ones · ``id18`` 15-digit resident numbers to 18 digits ·
``name_dots`` the separators in names of minorities and foreigners to U+00B7."""

_BRACKETS = str.maketrans(dict.fromkeys("（﹙［〔【〖「『", "(") | dict.fromkeys("）﹚］〕】〗」』", ")"))
_DOTS = str.maketrans(dict.fromkeys("•．・‧∙･⋅●", "·"))
_BLANKS = re.compile(r"[\s\u200b\u200c\u200d\u2060\ufeff]+")
_ID15 = re.compile(r"^[0-9]{15}$")
_ID_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_ID_CHECK = "10X98765432"


class MatchField(Part):
    """One field of the asked record.

    Attributes:
        column: column of the register, and key of the asker's record.
        rules: applied in this order by both sides.
    """

    column: Text
    rules: Annotated[tuple[Rule, ...], Field(max_length=8, strict=False)] = ("width", "trim")


class MatchParameters(Part):
    """Parameters of an order for ``match.voprf``.

    Attributes:
        suite: named protocol set.
        fields: what makes a match; all must agree.
        batch_max: most records in one step.
        queries_max: most records in the session.
    """

    version: Literal[1] = 1
    suite: Literal["voprf-ristretto255-sha512-v1"] = "voprf-ristretto255-sha512-v1"
    fields: Annotated[tuple[MatchField, ...], Field(min_length=1, max_length=8, strict=False)]
    batch_max: Annotated[int, Field(ge=1, le=64)] = 16
    queries_max: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000

    @model_validator(mode="after")
    def _each_once(self) -> "MatchParameters":
        if len({field.column for field in self.fields}) != len(self.fields):
            raise ValueError("each column once")
        return self


def normalise(value: str, rules: Sequence[Rule]) -> str:
    """Return ``value`` after ``rules``, in their order; an empty result means there is no value."""
    for rule in rules:
        value = _RULES[rule](value)
    return value


def record_input(values: Sequence[str], fields: Sequence[MatchField]) -> bytes | None:
    """Return the bytes that stand for one record, or None if a field is empty.

    Args:
        values: one text per field, in the order's sequence.
        fields: the fields of the order.

    Raises:
        MalformedError: another number of values, or a value of more than 1 000 characters.
    """
    if len(values) != len(fields):
        raise MalformedError(f"expected {len(fields)} values, got {len(values)}")
    chunks = [b"shufang/v1/match", len(fields).to_bytes(1, "big")]
    for value, field in zip(values, fields, strict=True):
        text = normalise(value, field.rules).encode("utf-8")
        if not text:
            return None
        if len(text) > 4000:
            raise MalformedError(f"expected a value of at most 4000 bytes in {field.column}")
        chunks += (len(text).to_bytes(2, "big"), text)
    return b"".join(chunks)


def bucket_of(data: bytes, bits: int) -> int:
    """Return the bucket of an input: the first ``bits`` bits of a plain digest.

    Privacy:
        The department learns these bits of an asked record. They are chosen so that at
        least ``BUCKET_ROWS_MIN`` of its own records share them; a register below twice that many has no bits.
    """
    digest = hashlib.sha256(b"shufang/v1/bucket" + data).digest()
    return int.from_bytes(digest[:4], "big") >> (32 - bits)


def _id18(value: str) -> str:
    """GB 11643: before 1999 numbers had two digits of the year and no check digit (ISO 7064 MOD 11-2)."""
    if not _ID15.match(value):
        return value
    body = value[:6] + "19" + value[6:]
    total = sum(int(digit) * weight for digit, weight in zip(body, _ID_WEIGHTS, strict=True))
    return body + _ID_CHECK[total % 11]


_RULES: dict[Rule, Callable[[str], str]] = {
    "trim": lambda value: value.strip().strip("\u200b\u200c\u200d\u2060\ufeff").strip(),
    "spaces": lambda value: _BLANKS.sub("", value),
    "width": lambda value: unicodedata.normalize("NFKC", value),
    "upper": str.upper,
    "lower": str.lower,
    "brackets": lambda value: value.translate(_BRACKETS),
    "id18": _id18,
    "name_dots": lambda value: value.translate(_DOTS),
}
