"""Tickets: what fails is put right by a working day, or the resource is held; every step is in the ledger."""

from datetime import UTC, date, datetime, timedelta

import pytest

from nodes import tickets
from nodes.agent.resources import all_facts
from nodes.contract.working_days import add_working_days
from nodes.errors import BooksError, TicketError
from nodes.tickets import RuleOutcome, after_run
from tests.node_world import NOW

TODAY = date(2026, 6, 1)
RES = "res.east.clinic"


def fails(*rules, severity="critical"):
    return [RuleOutcome(rule, severity, "fail") for rule in rules]


def run(world, outcomes, *, passed=False, today=TODAY, report="aa" * 32):
    changes = after_run(tickets.read(world.books), RES, outcomes, passed=passed, today=today)
    tickets.record_changes(world.books, changes, report_sha256=report)
    return changes


def file(world, **options):
    values = {"kind": "objection", "resource": RES, "known": [RES], "party": "org.bank", "text": "地址有误", "now": NOW}
    return tickets.file_ticket(world.books, world.home / "tickets", **{**values, **options})


def decide(world, name, **options):
    values = {"accept": True, "reason": "属实", "now": NOW}
    return tickets.decide(world.books, world.home / "tickets", name, **{**values, **options})


def test_deadlines_pass_over_the_spring_festival_and_count_its_working_saturday():
    assert add_working_days(date(2026, 2, 13), 1) == (date(2026, 2, 14), False)
    assert add_working_days(date(2026, 2, 14), 1) == (date(2026, 2, 24), False)
    assert add_working_days(date(2026, 6, 5), 0) == (date(2026, 6, 5), False)


def test_a_year_whose_holidays_are_not_decreed_is_provisional():
    assert add_working_days(date(2031, 1, 3), 1) == (date(2031, 1, 6), True)


@pytest.mark.requirement("Q-CORRECT")
def test_a_ticket_of_a_failed_rule_is_not_closed_without_a_later_passing_run(world):
    run(world, fails("R-ID"))
    with pytest.raises(TicketError, match="quality run"):
        tickets.close(world.books, "T-0001")
    run(world, fails("R-ID"))
    assert [(t.id, t.state) for t in tickets.read(world.books)] == [("T-0001", "open")]


@pytest.mark.requirement("Q-CORRECT")
def test_a_later_run_in_which_the_rule_passes_closes_it_and_links_both_reports(world):
    run(world, fails("R-ID", "R-KEY"))
    run(world, [RuleOutcome("R-ID", "critical", "pass"), *fails("R-KEY")], report="bb" * 32)
    first, second = tickets.read(world.books)
    assert (first.state, first.opened_report, first.closed_report) == ("closed", "aa" * 32, "bb" * 32)
    assert second.state == "open"
    assert run(world, fails("R-ID")).opened[0].id == "T-0003"
    assert world.books.verify_chain() > 0


def test_a_rule_that_was_not_assessed_or_left_out_closes_nothing(world):
    run(world, fails("R-ID"))
    run(world, [RuleOutcome("R-ID", "critical", "not_assessed")], passed=True)
    run(world, [], passed=True)
    assert tickets.find(world.books, "T-0001").state == "open"


@pytest.mark.requirement("Q-RECTIFY")
def test_a_ticket_holds_its_resource_from_the_day_after_its_deadline_and_until_it_is_put_right(world):
    run(world, fails("R-ID"))
    ticket = tickets.find(world.books, "T-0001")
    assert ticket.due_on == date(2026, 6, 8)
    assert not ticket.is_overdue(date(2026, 6, 8))
    assert ticket.is_overdue(date(2026, 6, 9))
    late = NOW + timedelta(days=8)
    assert [t.id for t in tickets.overdue(world.books, RES, now=late)] == ["T-0001"]
    assert tickets.overdue(world.books, "res.east.other", now=late) == []
    run(world, [RuleOutcome("R-ID", "critical", "pass")], passed=True, today=date(2026, 6, 9))
    assert tickets.overdue(world.books, RES, now=late) == []


@pytest.mark.requirement("Q-RECTIFY")
def test_an_overdue_ticket_turns_an_order_away_and_one_in_time_does_not(world):
    def state():
        facts, _ = all_facts(
            {world.entry.id: world.entry},
            world.books,
            names={world.entry.id},
            settings=world.settings,
            commitment_key=world.keys.commitment,
            trust=world.trust.current(),
        )
        return facts[world.entry.id].state

    today = tickets.day_of(datetime.now(UTC))
    assert state() == "active"
    run(world, fails("R-ID"), today=today)
    assert state() == "active"
    run(world, [RuleOutcome("R-ID", "critical", "pass")], today=today)
    run(world, fails("R-ID"), today=today - timedelta(days=40))
    assert state() == "held"


@pytest.mark.requirement("Q-OBJECTION")
@pytest.mark.parametrize("wrong", [{"party": " "}, {"text": ""}, {"resource": "res.nobody"}, {"kind": "rectification"}])
def test_nothing_is_filed_anonymously_without_a_reason_or_about_an_unknown_resource(world, wrong):
    with pytest.raises(TicketError):
        file(world, **wrong)
    assert tickets.read(world.books) == []


@pytest.mark.requirement("Q-OBJECTION")
def test_a_decision_without_a_reason_or_twice_is_refused_and_an_accepted_objection_gets_a_deadline(world):
    assert file(world).state == "filed"
    with pytest.raises(TicketError, match="reason"):
        decide(world, "T-0001", reason=" ")
    accepted = decide(world, "T-0001", severity="critical")
    assert (accepted.state, accepted.due_on) == ("open", date(2026, 6, 8))
    with pytest.raises(TicketError, match="await"):
        decide(world, "T-0001")
    assert decide(world, file(world).id, accept=False).state == "rejected"


@pytest.mark.requirement("Q-FEEDBACK")
def test_accepted_feedback_closes_with_a_run_in_which_everything_passes(world):
    decide(world, file(world, kind="feedback").id)
    run(world, fails("R-ID"))
    assert tickets.find(world.books, "T-0001").state == "open"
    run(world, [RuleOutcome("R-ID", "critical", "pass")], passed=True)
    assert {t.state for t in tickets.read(world.books)} == {"closed"}


@pytest.mark.requirement("DISPUTE")
def test_a_dispute_climbs_one_level_at_a_time(world):
    folder = world.home / "tickets"
    file(world, kind="dispute")
    with pytest.raises(TicketError, match="next level"):
        tickets.escalate(world.books, folder, "T-0001", to="government", reason="协商未果", now=NOW)
    with pytest.raises(TicketError, match="reason"):
        tickets.escalate(world.books, folder, "T-0001", to="data-administration", reason="", now=NOW)
    for level in ("data-administration", "government"):
        assert tickets.escalate(world.books, folder, "T-0001", to=level, reason="协商未果", now=NOW).level == level
    with pytest.raises(TicketError, match="last level"):
        tickets.escalate(world.books, folder, "T-0001", to="", reason="协商未果", now=NOW)


def test_what_people_write_is_in_a_private_file_and_not_in_the_ledger(world):
    import stat

    file(world, text="张三丰的号码110101199003074477不对")
    (path,) = (world.home / "tickets").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "张三丰" in path.read_text(encoding="utf-8")
    assert "张三丰" not in str([entry.to_json() for entry in world.books.entries()])


def test_an_altered_ticket_is_noticed(world):
    import sqlite3

    run(world, fails("R-ID"))
    with sqlite3.connect(world.settings.books) as database:
        database.execute("UPDATE ledger SET facts = replace(facts, '2026-06-08', '2027-06-08')")
    with pytest.raises(BooksError):
        world.books.verify_chain()
