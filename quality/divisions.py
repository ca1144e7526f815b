"""Administrative divisions with the years in which each code was in force.

A code of GB/T 2260 that was withdrawn stays right in what was written before: the number of a
resident keeps the county of its first issue for life. Two questions are answered a column at a
time: was the code in force on the date beside it, and can the region of an identity number have been
given to a person born then.

The years come from ``python-stdnum`` (file ``stdnum/cn/loc.dat``, read where it is installed), together with the
2023 list of ``quality.codes``; a code that only the list has counts without a beginning. Years are inclusive and
all that the source knows, so in the year of a change both codes are right.

Source:
    GB/T 2260 with its revisions since 1980; python-stdnum 2.2 (LGPL-2.1-or-later), whose file is made from
    the Chinese Wikipedia's lists of the six code areas. GB 11643-1999, 4.1: the address code is of the place of
    registration when the number was given.
"""

import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quality.codes import as_text, division_codes

_FIRST, _LAST = 0, 9_999
_AREA = re.compile(r"^(\d\d) ")
_COUNTY = re.compile(r'^ {2}(\d{4}) county="(.+)"$')
_YEARS = re.compile(r"\[(\d{4})?-(\d{4})?\]")
Periods = tuple[tuple[int, int], ...]


@cache
def periods() -> Mapping[str, Periods]:
    """Return first and last year in force, both inclusive, of every county-level code since 1980."""
    text = resources.files("stdnum.cn").joinpath("loc.dat").read_text(encoding="utf-8")
    found: dict[str, Periods] = dict.fromkeys(division_codes(), ((_FIRST, _LAST),))
    area = ""
    for line in text.splitlines():
        if match := _AREA.match(line):
            area = match[1]
        elif (match := _COUNTY.match(line)) and not match[1].endswith("00"):
            years = [(int(low or _FIRST), int(high or _LAST)) for low, high in _YEARS.findall(match[2])]
            found[area + match[1]] = tuple(years) or ((_FIRST, _LAST),)
    return found


def in_force(codes: Any, dates: Any) -> Any:
    """Say of each row whether the code was in force in the year of the date.

    Args:
        codes: Arrow column of text.
        dates: Arrow column of ``date32``.

    Returns:
        Arrow boolean column; empty where either is.
    """
    import pyarrow.compute as pc

    text = as_text(codes)
    years = pc.year(dates.combine_chunks() if isinstance(dates, pa.ChunkedArray) else dates)
    return _judge(text, years, pc.and_(pc.is_valid(text), pc.is_valid(years)), until_end=False)


def id_regions_existed(numbers: Any) -> Any:
    """Say of each identity number whether its region was in force in the year of birth or later.

    A person may be registered long after birth, so a region that began later is right; one that had ended
    before the birth is not.

    Args:
        numbers: Arrow column of text, of 18 characters.
    """
    import pyarrow.compute as pc

    text = as_text(numbers)
    digits = pc.match_substring_regex(text, "^[0-9]{17}[0-9X]$")
    safe = pc.if_else(pc.fill_null(digits, fill_value=False), text, "0" * 18)
    years = pc.utf8_slice_codeunits(safe, 6, 10).cast(pa.int64())
    return _judge(pc.utf8_slice_codeunits(safe, 0, 6), years, pc.is_valid(text), until_end=True)


def _judge(codes: Any, years: Any, known: Any, *, until_end: bool) -> Any:
    import pyarrow.compute as pc

    names, lows, highs = _table()
    year = pc.fill_null(years, 0).to_numpy(zero_copy_only=False)
    place = pc.fill_null(pc.index_in(codes, value_set=names), -1).to_numpy(zero_copy_only=False)
    # A code has up to three periods; what has fewer repeats its last.
    began = np.ones(lows[place].shape, dtype=bool) if until_end else lows[place] <= year[:, None]
    good = (began & (year[:, None] <= highs[place])).any(axis=1) & (place >= 0)
    return pa.array(good, mask=~known.to_numpy(zero_copy_only=False))


@cache
def _table() -> tuple[Any, NDArray[np.int64], NDArray[np.int64]]:
    known = periods()
    most = max(len(spans) for spans in known.values())
    filled = [[*spans, *[spans[-1]] * (most - len(spans))] for spans in known.values()]
    years = np.asarray(filled, dtype=np.int64)
    return pa.array(known), years[:, :, 0], years[:, :, 1]
