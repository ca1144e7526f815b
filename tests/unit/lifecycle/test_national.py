"""The national register: returned once, publicity of ten working days, objections by name, then the code."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from factory.lifecycle.machine import Permit, Refusal
from factory.lifecycle.national import ACCEPT_DAYS, PUBLICITY_DAYS, REVIEW_DAYS, NationalFacts, deadline, move

NOW = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
OVER = datetime(2026, 3, 17, 0, 0, tzinfo=UTC)
UNTIL = date(2026, 3, 16)


def facts(**changes: object) -> NationalFacts:
    return replace(NationalFacts(now=NOW, reason="because"), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("act", "state", "role", "change", "code"),
    [
        ("file", "none", "operator", {"is_registered": False}, "national.unregistered"),
        ("return", "filed", "agency", {"returns": 1}, "national.returned_before"),
        ("return", "filed", "agency", {"reason": " "}, "national.reason"),
        ("decline", "accepted", "agency", {"reason": ""}, "national.reason"),
        ("object", "in_publicity", "interested", {"publicity_until": UNTIL}, "national.objection"),
        (
            "object",
            "in_publicity",
            "interested",
            {"publicity_until": UNTIL, "objector": "张三"},
            "national.objection",
        ),
        (
            "object",
            "in_publicity",
            "interested",
            {"publicity_until": UNTIL, "objector": "张三", "evidence_sha256": "ab", "now": OVER},
            "national.publicity_over",
        ),
        ("uphold", "in_publicity", "agency", {}, "national.no_objection"),
        ("dismiss", "in_publicity", "agency", {"open_objections": 1, "reason": ""}, "national.reason"),
        (
            "code",
            "in_publicity",
            "agency",
            {"publicity_until": UNTIL, "national_code": "N"},
            "national.publicity_lasts",
        ),
        (
            "code",
            "in_publicity",
            "agency",
            {"publicity_until": UNTIL, "now": OVER, "open_objections": 1, "national_code": "N"},
            "national.disputed",
        ),
        ("code", "in_publicity", "agency", {"publicity_until": UNTIL, "now": OVER}, "national.code"),
    ],
)
def test_a_gap_is_refused_with_its_code(act: str, state: str, role: str, change: dict, code: str) -> None:
    answer = move(act, state=state, role=role, facts=facts(**change))
    assert isinstance(answer, Refusal)
    assert answer.code == code
    assert answer.clauses


@pytest.mark.parametrize(
    ("act", "state", "role"),
    [
        ("accept", "returned", "agency"),
        ("accept", "filed", "operator"),
        ("publish", "filed", "agency"),
        ("code", "accepted", "agency"),
        ("code", "terminated", "agency"),
        ("file", "terminated", "operator"),
        ("file", "declined", "operator"),
        ("object", "coded", "interested"),
    ],
)
def test_another_state_or_role_is_refused(act: str, state: str, role: str) -> None:
    assert isinstance(move(act, state=state, role=role, facts=facts()), Refusal)


def test_the_publicity_s_last_day_still_counts_and_the_code_follows_it() -> None:
    last = datetime(2026, 3, 16, 15, 59, tzinfo=UTC)  # 23:59 in China
    objection = facts(publicity_until=UNTIL, now=last, objector="张三", evidence_sha256="ab")
    assert isinstance(move("object", state="in_publicity", role="interested", facts=objection), Permit)
    coded = facts(publicity_until=UNTIL, now=last + timedelta(minutes=1), national_code="N-1")
    assert isinstance(move("code", state="in_publicity", role="agency", facts=coded), Permit)


def test_an_objection_that_is_upheld_terminates_the_filing() -> None:
    answer = move("uphold", state="in_publicity", role="agency", facts=facts(open_objections=1))
    assert isinstance(answer, Permit)
    assert answer.target == "terminated"


def test_the_three_clocks_run_in_working_days() -> None:
    # 2 March 2026 is a Monday; the Qingming holiday (4 to 6 April) interrupts the third clock.
    assert [deadline(date(2026, 3, 2), days)[0] for days in (ACCEPT_DAYS, REVIEW_DAYS)] == [
        date(2026, 3, 5),
        date(2026, 3, 30),
    ]
    assert deadline(date(2026, 4, 2), PUBLICITY_DAYS) == (date(2026, 4, 17), False)
    assert deadline(date(2035, 3, 1), 1)[1]
