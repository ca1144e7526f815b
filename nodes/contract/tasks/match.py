"""Private verification (``match.voprf``): parameters, and how a record becomes an input.

Department and asker must turn a record into the same bytes, so the rules are named here,
stand in the signed order and are applied by both with this module's functions.

False positives: a tag is the first 8 bytes of a pseudorandom output. A record that is not
in the register matches one of the n tags it is compared with by chance with probability at
most n / 2**64: below 2**-52 for a bucket of 4 000, below 2**-40 for ten million.

Bands: beside each tag may stand one byte, the band of a column's value, covered by a byte of
the same output that only who asked for this record can compute.

Source:
    Freedman, Ishai, Pinkas and Reingold, TCC 2005, section 4 (keyword search: a payload
    covered by the function's further output).
"""

import hashlib
import hmac
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Annotated, Literal

from pydantic import Field, model_validator

from nodes.contract.errors import MalformedError
from nodes.contract.messages import Part, Text

TASK = "match.voprf"
EVALUATE = "match.evaluate"
TABLE = "match.table"
LABEL_TABLE = "match.table"
LABEL_ASK = "match.ask"
LABEL_ANSWER = "match.answer"
SUITE = "voprf-ristretto255-sha512-v1"
TAG_BYTES = 8
BAND_UNKNOWN = 255
"""Band of a record whose value is missing, no number, or stands there twice with different bands."""
TABLE_PART_BYTES = 1024 * 1024
"""Bytes of the tag table that go in one step."""
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


class MatchBand(Part):
    """A column whose value an asker learns as a band.

    Attributes:
        column: a number in the register.
        edges: rising decimal numbers; band 0 is all below the first, band k from edge k on, below edge k+1.
    """

    column: Text
    edges: Annotated[tuple[Text, ...], Field(min_length=1, max_length=50, strict=False)]

    @model_validator(mode="after")
    def _rising(self) -> "MatchBand":
        numbers = [number for edge in self.edges if (number := _number(edge)) is not None]
        if len(numbers) != len(self.edges) or numbers != sorted(set(numbers)):
            raise ValueError("rising decimal numbers")
        return self

    def band_of(self, value: str) -> int:
        """Return the band of a value given as text, ``BAND_UNKNOWN`` if it is no number."""
        number = _number(value.strip())
        return BAND_UNKNOWN if number is None else bisect_right([Decimal(edge) for edge in self.edges], number)

    def name_of(self, band: int) -> str:
        """Return a band as people read it, e.g. ``[100, 500)``."""
        if not 0 <= band <= len(self.edges):
            return "?"
        low = self.edges[band - 1] if band else "-∞"
        high = self.edges[band] if band < len(self.edges) else "∞"
        return f"{'[' if band else '('}{low}, {high})"


class MatchParameters(Part):
    """Parameters of an order for ``match.voprf``.

    Attributes:
        suite: named protocol set.
        fields: what makes a match; all must agree.
        batch_max: most records in one step.
        queries_max: most records in the session.
        minute_max: most records of one application unit in a minute.
        band: column of which an asker learns the band, besides yes or no.
    """

    version: Literal[1] = 1
    suite: Literal["voprf-ristretto255-sha512-v1"] = "voprf-ristretto255-sha512-v1"
    fields: Annotated[tuple[MatchField, ...], Field(min_length=1, max_length=8, strict=False)]
    batch_max: Annotated[int, Field(ge=1, le=1000)] = 16
    queries_max: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    minute_max: Annotated[int, Field(ge=1, le=1_000_000)] = 60_000
    band: MatchBand | None = None

    @property
    def entry_bytes(self) -> int:
        """Bytes of one entry of the tag table: the tag, and a covered band if there are bands."""
        return TAG_BYTES + (self.band is not None)

    @model_validator(mode="after")
    def _each_once(self) -> "MatchParameters":
        if len({field.column for field in self.fields}) != len(self.fields):
            raise ValueError("each column once")
        if self.band is not None and self.band.column in {field.column for field in self.fields}:
            raise ValueError("a band of a column that is not asked for by its value")
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


def digest_of(data: bytes) -> bytes:
    """Return the plain digest of an input, 32 bytes; its first bits choose the bucket."""
    return hashlib.sha256(b"shufang/v1/bucket" + data).digest()


def cover_key(output: bytes) -> bytes:
    """Return the 16 bytes under which bands of this record are covered, from a 64-byte output of the function."""
    return hmac.digest(output[TAG_BYTES:], b"shufang/v1/band", "sha256")[:16]


def cover_of(key: bytes, version: bytes) -> int:
    """Return the byte that covers a record's band in one version of the register.

    Privacy:
        It changes with the version: who compares two versions without the key cannot tell
        whether a band did.
    """
    return hmac.digest(key, version, "sha256")[0]


def _number(text: str) -> Decimal | None:
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def bucket_of(data: bytes, bits: int) -> int:
    """Return the bucket of an input: the first ``bits`` bits of a plain digest.

    Privacy:
        The department learns these bits of an asked record. They are chosen so that at
        least ``BUCKET_ROWS_MIN`` of its own records share them; a register below twice that many has no bits.
    """
    return int.from_bytes(digest_of(data)[:4], "big") >> (32 - bits)


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
