"""Working days of mainland China: deadlines of tickets run on them.

Years that the calendar does not know yet (its holidays are decreed each November) count Monday to
Friday, and the answer says that it is provisional.
"""

from datetime import date, timedelta


def add_working_days(start: date, days: int) -> tuple[date, bool]:
    """Return the day that lies ``days`` working days after ``start``, and whether it is provisional.

    The day of ``start`` itself does not count.
    """
    if days < 0:
        raise ValueError("expected at least 0 days")
    provisional, day = False, start
    while days:
        day += timedelta(days=1)
        works, known = _works(day)
        provisional = provisional or not known
        days -= works
    return day, provisional


def _works(day: date) -> tuple[bool, bool]:
    from chinese_calendar import is_workday

    try:
        return bool(is_workday(day)), True
    except NotImplementedError:
        return day.weekday() < 5, False
