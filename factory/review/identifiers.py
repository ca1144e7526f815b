"""Identifiers: numbers that name a person or a body must not stand in a product.

Resident identity numbers (GB 11643: region, date and check digit must hold), mobile
numbers, and unified social credit codes (GB 32100), the last unless the product is about
public enterprise information and says so.

Privacy: a finding names file, kind and count, never the number.
"""

import re
import unicodedata
from collections.abc import Mapping
from datetime import date

from factory.review.finding import Finding, examined
from factory.review.reading import layers, texts

_RESIDENT = re.compile(r"(?<![0-9A-Za-z.])[1-9]\d{5}(?:18|19|20)\d{9}[0-9Xx](?![0-9A-Za-z])")
_MOBILE = re.compile(r"(?<![0-9A-Za-z.])(?:\+?86[\s-]?)?1[3-9]\d[\s-]?\d{4}[\s-]?\d{4}(?![0-9A-Za-z.])")
_USCC = re.compile(r"(?<![0-9A-Za-z.])[1-9ANYG][1-59][0-9]{6}[0-9A-HJ-NPQRTUWXY]{10}(?![0-9A-Za-z])")
_WEIGHTS = tuple(2**power % 11 for power in range(17, 0, -1))
_CHECK = "10X98765432"
_USCC_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_REGIONS = frozenset(
    {11, 12, 13, 14, 15, 21, 22, 23, 31, 32, 33, 34, 35, 36, 37, 41, 42, 43, 44, 45, 46}
    | {50, 51, 52, 53, 54, 61, 62, 63, 64, 65, 71, 81, 82, 83}
)


def is_resident_id(text: str) -> bool:
    """Whether 18 characters are a resident identity number: region, date and check digit.

    Source:
        GB 11643-1999; ISO/IEC 7064 MOD 11-2.
    """
    if not re.fullmatch(r"\d{17}[0-9Xx]", text) or int(text[:2]) not in _REGIONS:
        return False
    try:
        date(int(text[6:10]), int(text[10:12]), int(text[12:14]))
    except ValueError:
        return False
    total = sum(int(digit) * weight for digit, weight in zip(text[:17], _WEIGHTS, strict=True))
    return _CHECK[total % 11] == text[17].upper()


def is_credit_code(text: str) -> bool:
    """Whether 18 characters are a unified social credit code.

    Source:
        GB 32100-2015, MOD 31.
    """
    if len(text) != 18 or any(character not in _USCC_ALPHABET for character in text):
        return False
    total = sum(_USCC_ALPHABET.index(character) * pow(3, place, 31) for place, character in enumerate(text[:17]))
    return _USCC_ALPHABET[(31 - total % 31) % 31] == text[17]


def check_identifiers(files: Mapping[str, bytes], *, allow_credit_codes: bool = False) -> Finding:
    """Search every file for identifiers.

    Args:
        files: the product's files by path.
        allow_credit_codes: the product is about public enterprise information, its ruling says so.
    """
    counts: dict[str, dict[str, int]] = {}
    for path, content in sorted(files.items()):
        found = _kinds(content)
        if allow_credit_codes:
            found.pop("credit_code", None)
        if any(found.values()):
            counts[path] = {kind: count for kind, count in found.items() if count}
    total = sum(count for kinds in counts.values() for count in kinds.values())
    return Finding(
        test="identifiers",
        title_zh="身份标识检索",
        title_en="Search for identifiers",
        value=total,
        limit=0,
        is_ok=total == 0,
        unit="identifiers",
        evidence={
            "kinds": ["resident_id", "mobile", *([] if allow_credit_codes else ["credit_code"])],
            "files": examined(files),
            "hits": {path: dict(kinds) for path, kinds in counts.items()},
        },
    )


def _kinds(content: bytes) -> dict[str, int]:
    residents: set[str] = set()
    mobiles: set[str] = set()
    codes: set[str] = set()
    for layer in layers(content):
        for view in texts(layer):
            text = unicodedata.normalize("NFKC", view)
            residents |= {m[0] for m in _RESIDENT.finditer(text) if is_resident_id(m[0])}
            mobiles |= {m[0] for m in _MOBILE.finditer(text)}
            codes |= {m[0] for m in _USCC.finditer(text) if is_credit_code(m[0])}
    return {"resident_id": len(residents), "mobile": len(mobiles), "credit_code": len(codes - residents)}
