"""The schedule: each resource at its declared frequency; what is missed is stale and so held."""

import logging
import threading
from datetime import UTC, datetime, timedelta

import pytest

from nodes.agent.resources import facts_of
from nodes.books import ResourceRecord
from nodes.errors import SettingsError
from nodes.quality_gate import run_quality, suggest_suite
from nodes.quality_schedule import keep_schedule, plan, run_due, schedule
from tests.node_world import NOW

DAY = timedelta(days=1)


def record(entry, **changes):
    values = {"assessed_at": NOW, "fresh_until": NOW + 20 * DAY, "state": "active", "reason": "", "commitment": "ab"}
    values |= changes
    return ResourceRecord(resource=entry.id, version=entry.version, schema_sha256=entry.schema_sha256, **values)


def database(entry):
    storage = {"path": "", "format": "postgresql", "connection": "main", "table": "t"}
    return entry.model_copy(update={"storage": entry.storage.model_copy(update=storage)})


def test_the_first_run_is_a_persons(world):
    row = plan(world.entry, None, now=NOW)
    assert (row.state, row.due_at) == ("unassessed", None)


@pytest.mark.parametrize(
    ("changes", "due"),
    [
        ({}, NOW + 20 * DAY),
        ({"fresh_until": NOW + 50 * DAY}, NOW + 30 * DAY),
        ({"fresh_until": None, "state": "held"}, NOW + 30 * DAY),
        ({"fresh_until": NOW - DAY, "state": "stale"}, NOW + DAY),
        ({"fresh_until": None, "state": "held", "commitment": ""}, NOW + DAY),
    ],
)
def test_the_next_run_is_due_when_the_period_or_the_freshness_ends(world, changes, due):
    assert world.entry.update_frequency_days == 30
    assert plan(world.entry, record(world.entry, **changes), now=NOW).due_at == due


def test_a_database_is_looked_at_before_it_lapses(world):
    entry = database(world.entry)
    row = plan(entry, record(entry, fresh_until=NOW + 30 * DAY), now=NOW)
    assert row.due_at == NOW + 29 * DAY
    assert row.due_at < row.fresh_until


@pytest.mark.parametrize(
    ("days", "state"), [(19.99, "waiting"), (20, "due"), (20.99, "due"), (21, "missed"), (400, "missed")]
)
def test_a_run_is_due_on_its_day_and_missed_a_day_later(world, days, state):
    assert plan(world.entry, record(world.entry), now=NOW + days * DAY).state == state


@pytest.mark.requirement("Q-MONITOR")
@pytest.mark.slow
def test_a_missed_run_makes_the_resource_stale_and_the_next_run_of_the_schedule_brings_it_back(world):
    suggest_suite(world.entry, settings=world.settings)
    now = datetime.now(UTC).replace(microsecond=0)
    first = run_quality(world.entry, settings=world.settings, keys=world.keys, books=world.books, now=now)
    options = {"settings": world.settings, "keys": world.keys, "books": world.books}
    assert run_due(**options, now=now + 20 * DAY) == {}
    later = now + 32 * DAY
    (row,) = schedule(world.settings, world.books, now=later)
    assert row.state == "missed"
    facts, _ = facts_of(
        world.entry,
        world.books.resource(world.entry.id),
        settings=world.settings,
        commitment_key=world.keys.commitment,
    )
    assert abs(facts.fresh_until - first.record.fresh_until) < timedelta(seconds=1)
    assert first.record.fresh_until < later
    done = run_due(**options, now=later)
    assert done[world.entry.id].record.state == "stale"
    missed = [entry for entry in world.books.entries() if entry.kind == "quality.run_missed"]
    assert [entry.facts["resource"] for entry in missed] == [world.entry.id]
    # Nothing is delivered: looked at once a day, not all the time.
    assert run_due(**options, now=later + DAY / 2) == {}
    import os

    os.utime(world.home / "tables/clinic.csv", (later.timestamp(), later.timestamp()))
    assert run_due(**options, now=later + 1.01 * DAY)[world.entry.id].record.state == "active"


@pytest.mark.slow
def test_a_running_node_assesses_what_is_due_and_logs_no_more_than_the_state(world, caplog):
    from dataclasses import replace

    suggest_suite(world.entry, settings=world.settings)
    now = datetime.now(UTC).replace(microsecond=0)
    run_quality(world.entry, settings=world.settings, keys=world.keys, books=world.books, now=now)
    caplog.set_level(logging.INFO, "shufang.node")
    stop = threading.Event()
    thread = threading.Thread(
        target=keep_schedule,
        args=(replace(world.settings, quality_check_s=1), world.keys, world.books),
        kwargs={"stop": stop, "now": lambda: now + 31 * DAY},
    )
    thread.start()
    for _ in range(600):
        if len(world.books.reports(world.entry.id)) == 2:
            break
        stop.wait(0.1)
    stop.set()
    thread.join()
    assert len(world.books.reports(world.entry.id)) == 2
    assert [r.getMessage() for r in caplog.records if r.name == "shufang.node"] == [
        f"scheduled quality run of {world.entry.id}: stale"
    ]


def test_a_broken_catalogue_does_not_end_the_watch(world, caplog):
    from dataclasses import replace

    (world.settings.catalogue / "broken.toml").write_text("id = 110101199003077777", encoding="utf-8")
    stop = threading.Event()
    settings = replace(world.settings, quality_check_s=1)
    thread = threading.Thread(
        target=keep_schedule, args=(settings, world.keys, world.books), kwargs={"stop": stop, "now": lambda: NOW}
    )
    thread.start()
    for _ in range(100):
        if caplog.records:
            break
        stop.wait(0.1)
    assert thread.is_alive()
    stop.set()
    thread.join()
    assert "node.catalogue" in caplog.text
    assert "110101199003077777" not in caplog.text


def test_a_negative_interval_is_refused(world):
    from dataclasses import replace

    with pytest.raises(SettingsError, match="quality_check_s"):
        replace(world.settings, quality_check_s=-1)
