"""What an application unit keeps: keys, quotas, answers under idempotency keys, alarms."""

from datetime import UTC, datetime, timedelta

import pytest

from factory.client.books import (
    FILE,
    Books,
    IdempotencyError,
    KeyHeldError,
    ProgramKeyError,
    PurposeError,
    QuotaError,
)
from factory.client.watching import WINDOW, Watch, entropy_percent

NOW = datetime(2026, 11, 2, 23, 0, tzinfo=UTC)


@pytest.fixture
def books(tmp_path):
    opened = Books(tmp_path)
    yield opened
    opened.close()


def admit(books, secret, **changed):
    return books.admit(secret, **({"purpose": "loan", "granted": "loan", "now": NOW} | changed))


def test_a_key_is_shown_once_and_kept_as_a_digest_in_a_file_of_its_owner(books, tmp_path) -> None:
    secret = books.add_key("loans", purpose="loan", quota_day=5, now=NOW)
    assert admit(books, secret).name == "loans"
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    for file in tmp_path.iterdir():
        assert secret.encode() not in file.read_bytes()
    with pytest.raises(ProgramKeyError):
        books.add_key("loans", purpose="loan", quota_day=5, now=NOW)


@pytest.mark.parametrize("secret", ["", "sfc_wrong", "\udcff", "x" * 10_000])
def test_a_wrong_key_is_refused(books, secret) -> None:
    books.add_key("loans", purpose="loan", quota_day=5, now=NOW)
    with pytest.raises(ProgramKeyError):
        admit(books, secret)


def test_a_key_is_good_for_its_purpose_and_the_grants_alone(books) -> None:
    secret = books.add_key("loans", purpose="loan", quota_day=5, now=NOW)
    for changed in (
        {"purpose": "marketing"},
        {"granted": "marketing"},
        {"purpose": "marketing", "granted": "marketing"},
    ):
        with pytest.raises(PurposeError):
            admit(books, secret, **changed)


def test_a_quota_ends_the_day_and_a_refused_call_is_not_counted(books) -> None:
    key = admit(books, books.add_key("loans", purpose="loan", quota_day=5, now=NOW))
    books.count(key, 3, session="s", now=NOW)
    with pytest.raises(QuotaError):
        books.count(key, 3, session="s", now=NOW)
    books.count(key, 2, session="s", now=NOW)
    books.count(key, 5, session="s", now=NOW + timedelta(hours=1))  # the next day
    assert [(row["records"], row["calls"]) for row in books.usage()] == [(5, 2), (5, 1)]


def test_a_revoked_key_stays_revoked_and_a_held_one_can_be_released(books) -> None:
    secret = books.add_key("loans", purpose="loan", quota_day=5, now=NOW)
    books.alarm("loans", "hits", {"percent": 1, "limit": 10}, now=NOW)
    with pytest.raises(KeyHeldError):
        admit(books, secret)
    books.set_state("loans", "active")
    assert admit(books, secret).state == "active"
    books.set_state("loans", "revoked")
    with pytest.raises(ProgramKeyError):
        books.set_state("loans", "active")
    with pytest.raises(ProgramKeyError):
        admit(books, secret)
    assert [alarm["kind"] for alarm in books.alarms()] == ["hits"]


def test_the_same_call_is_answered_again_for_a_day_and_another_under_its_name_is_refused(books) -> None:
    key = admit(books, books.add_key("loans", purpose="loan", quota_day=5, now=NOW))
    books.keep_answer(key, "one", "a" * 64, {"asked": 1}, now=NOW)
    assert books.answered(key, "one", "a" * 64, now=NOW) == {"asked": 1}
    with pytest.raises(IdempotencyError):
        books.answered(key, "one", "b" * 64, now=NOW)
    assert books.answered(key, "one", "a" * 64, now=NOW + timedelta(hours=25)) is None


def test_books_outlive_the_process(tmp_path) -> None:
    first = Books(tmp_path)
    secret = first.add_key("loans", purpose="loan", quota_day=5, now=NOW)
    first.count(admit(first, secret), 4, session="s", now=NOW)
    del first  # as if killed: nothing is closed
    again = Books(tmp_path)
    with pytest.raises(QuotaError):
        again.count(admit(again, secret), 2, session="s", now=NOW)
    again.close()


def ask(values: list[str], *, hit) -> object:
    watch, alarm = Watch(), None
    for number, value in enumerate(values):
        alarm = alarm or watch.see([[value]], [hit(number)])
    return alarm


def test_numbers_that_are_counted_up_raise_the_entropy_alarm() -> None:
    alarm = ask([f"53010219900101{number:04d}" for number in range(WINDOW)], hit=lambda _: True)
    assert (alarm.kind, alarm.percent) == ("entropy", 0)


def test_guessing_raises_the_alarm_of_hits() -> None:
    alarm = ask([f"{number * 7919:018d}"[::-1] for number in range(WINDOW)], hit=lambda n: n % 20 == 0)
    assert alarm.kind == "hits"


def test_customers_of_a_bank_raise_none() -> None:
    values = [
        f"5301{number % 12 + 1:02d}19{number % 60 + 40}{number % 12 + 1:02d}{number % 28 + 1:02d}{number * 37 % 9999:04d}"
        for number in range(3 * WINDOW)
    ]
    assert ask(values, hit=lambda n: n % 3 != 0) is None


def test_entropy_is_none_for_one_value_and_full_for_all_different() -> None:
    assert entropy_percent([b"a"] * 8) == 0
    assert entropy_percent([bytes([n]) for n in range(8)]) == 100
    assert entropy_percent([b"a", b"b"] * 4) == 33
