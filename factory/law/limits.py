"""Limits in the units of the texts, and the moment when one has passed. Pure.

A limit in days, working days, months or years ends with its last day in China; one in hours or
minutes ends to the minute. Years whose holidays are not decreed yet count Monday to Friday and
the answer says that it is provisional.
"""

import calendar
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Literal, cast

from nodes.contract.working_days import add_working_days

Unit = Literal["min", "h", "d", "wd", "mo", "y"]

CHINA = timezone(timedelta(hours=8), "Asia/Shanghai")
"""Days are those of this clock."""

_TEXT = re.compile(r"([1-9][0-9]{0,3}) (min|h|d|wd|mo|y)")
_WORDS = {"min": "分钟", "h": "小时", "d": "日", "wd": "个工作日", "mo": "个月", "y": "年"}


@dataclass(frozen=True, slots=True)
class Limit:
    """A time limit.

    Attributes:
        amount: at least 1.
        unit: ``min``, ``h``, ``d`` (calendar days), ``wd`` (working days), ``mo`` or ``y``.
    """

    amount: int
    unit: Unit

    @classmethod
    def parse(cls, text: str) -> "Limit":
        """Read ``10 wd``.

        Raises:
            ValueError: not an amount and a unit.
        """
        match = _TEXT.fullmatch(text)
        if match is None:
            raise ValueError(f"expected an amount and a unit like '10 wd' (min, h, d, wd, mo, y), got {text[:40]!r}")
        return cls(int(match[1]), cast("Unit", match[2]))

    def __str__(self) -> str:
        """Return it as the profiles write it."""
        return f"{self.amount} {self.unit}"

    @property
    def text_zh(self) -> str:
        """As people read it."""
        return f"{self.amount} {_WORDS[self.unit]}"


@dataclass(frozen=True, slots=True)
class Passing:
    """When a limit has passed.

    Attributes:
        at: first moment after the limit.
        last_day: last day in China that is still inside.
        is_provisional: it lies in, or reaches over, a year whose holidays are not decreed yet.
    """

    at: datetime
    last_day: date
    is_provisional: bool


def day_of(moment: datetime) -> date:
    """Return the calendar day in China."""
    return moment.astimezone(CHINA).date()


def end_of(day: date) -> datetime:
    """Return the first moment after ``day`` in China, in UTC."""
    following = day + timedelta(days=1)
    return datetime(following.year, following.month, following.day, tzinfo=CHINA).astimezone(UTC)


def passing(limit: Limit, since: datetime) -> Passing:
    """Return when ``limit`` has passed that started at ``since``; the day of ``since`` does not count."""
    start = day_of(since)
    if limit.unit in {"min", "h"}:
        span = timedelta(minutes=limit.amount) if limit.unit == "min" else timedelta(hours=limit.amount)
        at = since + span
        return Passing(at, day_of(at), is_provisional=False)
    if limit.unit == "wd":
        last, provisional = add_working_days(start, limit.amount)
        return Passing(end_of(last), last, provisional)
    if limit.unit == "d":
        last = start + timedelta(days=limit.amount)
    else:
        last = add_months(start, limit.amount * (12 if limit.unit == "y" else 1))
    return Passing(end_of(last), last, is_provisional=False)


def add_months(day: date, months: int) -> date:
    """Return the same day ``months`` later, or the last of that month if it has no such day."""
    index = day.year * 12 + day.month - 1 + months
    year, month = divmod(index, 12)
    return date(year, month + 1, min(day.day, calendar.monthrange(year, month + 1)[1]))


def add_years(moment: datetime, years: int) -> datetime:
    """Return the same moment ``years`` later; 29 February becomes the 28th."""
    local = moment.astimezone(CHINA)
    day = add_months(local.date(), years * 12)
    return local.replace(year=day.year, month=day.month, day=day.day).astimezone(moment.tzinfo)
