"""Clocks over holidays, swapped weekends, years not decreed and the day's edge in China."""

from datetime import UTC, date, datetime, timedelta

import pytest

from factory.law.clocks import CLOCKS, Running, due, overdue
from factory.law.files import proposed
from factory.law.limits import CHINA, Limit, add_months, add_years, passing
from factory.law.profile import CODES
from nodes.contract.working_days import add_working_days

GD, SZ, NATIONAL = proposed("GD"), proposed("SZ"), proposed("NATIONAL")


def at(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=CHINA)


@pytest.mark.parametrize(
    ("start", "days", "last"),
    [
        # 2026: the Spring Festival takes 15 to 23 February; Saturdays 14 and 28 February are worked instead.
        (date(2026, 2, 13), 1, date(2026, 2, 14)),
        (date(2026, 2, 13), 2, date(2026, 2, 24)),
        (date(2026, 2, 27), 1, date(2026, 2, 28)),
        # 2026: National Day 1 to 7 October; Sunday 20 September and Saturday 10 October are worked.
        (date(2026, 9, 18), 1, date(2026, 9, 20)),
        (date(2026, 9, 30), 1, date(2026, 10, 8)),
        (date(2026, 10, 9), 1, date(2026, 10, 10)),
        # 2026: Labour Day 1 to 5 May, Saturday 9 May is worked.
        (date(2026, 4, 30), 3, date(2026, 5, 8)),
        (date(2026, 4, 30), 4, date(2026, 5, 9)),
        # 2025: the Mid-Autumn Festival falls into National Day, 1 to 8 October; Saturday 11 is worked.
        (date(2025, 9, 30), 1, date(2025, 10, 9)),
        (date(2025, 9, 30), 3, date(2025, 10, 11)),
        # 2020: the Spring Festival was prolonged to 2 February by decree.
        (date(2020, 1, 23), 1, date(2020, 2, 3)),
    ],
)
def test_working_days_know_holidays_and_swapped_weekends(start, days, last):
    assert add_working_days(start, days) == (last, False)


def test_2026_has_248_working_days():
    day, provisional = add_working_days(date(2025, 12, 31), 248)
    assert (day, provisional) == (date(2026, 12, 31), False)


def test_a_limit_that_reaches_an_undecreed_year_is_provisional_and_one_that_does_not_is_not():
    assert not passing(Limit(10, "wd"), at(2026, 12, 1, 9)).is_provisional
    found = passing(Limit(20, "wd"), at(2026, 12, 21, 9))
    assert found.is_provisional
    assert found.last_day.year == 2027


def test_a_deadline_lasts_to_the_end_of_its_day_in_china():
    # 23:30 on Friday in China is Friday, though it is 15:30 in UTC; 00:30 on Saturday is the next day.
    friday = datetime(2026, 3, 6, 15, 30, tzinfo=UTC)
    assert passing(Limit(1, "wd"), friday).last_day == date(2026, 3, 9)
    assert passing(Limit(1, "wd"), friday).at == datetime(2026, 3, 9, 16, tzinfo=UTC)
    saturday = datetime(2026, 3, 6, 16, 30, tzinfo=UTC)
    assert passing(Limit(1, "d"), saturday).last_day == date(2026, 3, 8)


@pytest.mark.parametrize(
    ("limit", "since", "last"),
    [
        (Limit(5, "d"), at(2026, 9, 29, 9), date(2026, 10, 4)),  # days of publicity run through a holiday
        (Limit(1, "mo"), at(2026, 1, 31, 9), date(2026, 2, 28)),
        (Limit(1, "mo"), at(2024, 1, 31, 9), date(2024, 2, 29)),
        (Limit(3, "mo"), at(2026, 11, 30, 9), date(2027, 2, 28)),
        (Limit(12, "mo"), at(2024, 2, 29, 9), date(2025, 2, 28)),
        (Limit(5, "y"), at(2024, 2, 29, 9), date(2029, 2, 28)),
    ],
)
def test_days_months_and_years_are_of_the_calendar(limit, since, last):
    assert passing(limit, since).last_day == last


def test_hours_and_minutes_run_to_the_minute():
    since = at(2026, 2, 14, 23, 30)
    assert passing(Limit(1, "h"), since).at == since + timedelta(hours=1)
    assert passing(Limit(30, "min"), since).at == since + timedelta(minutes=30)


def test_years_of_a_term_keep_the_hour():
    assert add_years(datetime(2024, 2, 29, 8, tzinfo=UTC), 1) == datetime(2025, 2, 28, 8, tzinfo=UTC)
    assert add_months(date(2026, 1, 1), -6) == date(2025, 7, 1)


@pytest.mark.parametrize("text", ["10", "10 days", "0 wd", "-1 d", "wd", "10  wd", "99999 d"])
def test_a_limit_is_an_amount_and_a_unit(text):
    with pytest.raises(ValueError, match="10 wd"):
        Limit.parse(text)


def test_the_same_clock_follows_each_profile():
    filing = CLOCKS["agreement.filing"]
    since = at(2026, 9, 28, 9)
    found = due(filing, GD, since)
    assert found is not None
    assert (found.last_day, found.clauses) == (date(2026, 10, 16), ("AGR-FILE", "GD-23-1"))
    assert due(filing, proposed("JL"), since).last_day == date(2026, 10, 28)
    assert due(filing, proposed("JN"), since) is None


@pytest.mark.parametrize("code", CODES)
def test_every_clock_has_a_limit_in_every_profile(code):
    profile = proposed(code)
    for clock in CLOCKS.values():
        if clock.limit:
            due(clock, profile, at(2026, 3, 2, 9))
        else:
            assert due(clock, profile, at(2026, 3, 2, 9), until=date(2026, 3, 20)).last_day == date(2026, 3, 20)


def test_a_clock_of_an_order_needs_the_day_of_the_order():
    with pytest.raises(ValueError, match="day of its order"):
        due(CLOCKS["standing.rectification"], GD, at(2026, 3, 2, 9))
    with pytest.raises(ValueError, match="profile"):
        due(CLOCKS["request.ruling"], GD, at(2026, 3, 2, 9), until=date(2026, 3, 20))
    with pytest.raises(ValueError, match="aware"):
        due(CLOCKS["request.ruling"], GD, datetime(2026, 3, 2, 9))


def test_a_clock_warns_then_escalates_and_holds_and_approves_nothing():
    ticket = Running("ticket.rectify", "ticket/T-1", at(2026, 3, 2, 9))
    end = due(CLOCKS["ticket.rectify"], GD, ticket.since)
    assert overdue([ticket], GD, end.warn_at - timedelta(seconds=1)) == []
    [warning] = overdue([ticket], GD, end.warn_at)
    assert (warning.stage, warning.tell, warning.holds) == ("warning", ("source_department",), False)
    assert overdue([ticket], GD, end.at - timedelta(seconds=1))[0].stage == "warning"
    [late] = overdue([ticket], GD, end.at)
    assert (late.stage, late.tell, late.holds) == ("overdue", ("source_department", "data_administration"), True)


def test_a_ruling_that_is_late_is_reported_and_holds_nothing():
    [late] = overdue([Running("request.ruling", "request/r", at(2026, 3, 2, 9))], GD, at(2026, 6, 1, 9))
    assert (late.stage, late.holds) == ("overdue", False)


def test_a_period_opens_the_next_step_and_warns_nobody_before():
    case = Running("agreement.publicity", "agreement/a", at(2026, 3, 2, 9))
    end = due(CLOCKS["agreement.publicity"], GD, case.since)
    assert overdue([case], GD, end.at - timedelta(seconds=1)) == []
    assert overdue([case], GD, end.at)[0].stage == "over"


def test_the_earliest_end_comes_first():
    cases = [
        Running("request.ruling", "request/b", at(2026, 3, 3, 9)),
        Running("incident.notice", "incident/a", at(2026, 3, 4, 9)),
    ]
    assert [notice.subject for notice in overdue(cases, GD, at(2026, 9, 1, 9))] == ["incident/a", "request/b"]


def test_an_hour_warns_within_the_hour():
    since = at(2026, 3, 2, 9)
    found = due(CLOCKS["incident.notice"], SZ, since)
    assert found.warn_at == since + timedelta(minutes=48)
    assert NATIONAL.limit("incident.notice") == Limit(1, "h")


@pytest.mark.parametrize(
    ("limit", "warns"),
    [
        ("24 h", at(2026, 3, 3, 4, 12)),  # four fifths of a day, to the minute
        ("30 h", at(2026, 3, 3, 0, 0)),  # of more than a day the start of that day
        ("1 d", at(2026, 3, 3, 0, 0)),
    ],
)
def test_a_limit_of_more_than_a_day_warns_at_the_start_of_a_day(limit, warns):
    incident = SZ.incident.model_copy(update={"notice": Limit.parse(limit)})
    found = due(CLOCKS["incident.notice"], SZ.model_copy(update={"incident": incident}), at(2026, 3, 2, 9))
    assert found.warn_at == warns
