"""The quality gate with the real engine: a table is held, put right, and back in use."""

from datetime import UTC, datetime, timedelta

import pytest

from nodes.contract.signing import Envelope, sha256_hex
from nodes.errors import QualityGateError
from nodes.quality_gate import REPORT_TYPE, GateResult, run_quality, run_quality_of_many, suggest_suite
from tests.node_world import CANARY_ID, CANARY_NAME


def run(world, **options):
    return run_quality(
        world.entry, settings=world.settings, keys=world.keys, books=world.books, now=datetime.now(UTC), **options
    )


def test_a_run_without_a_suite_says_how_to_get_one(world):
    with pytest.raises(QualityGateError, match="quality suggest"):
        run(world)


@pytest.mark.slow
def test_a_stale_or_broken_table_is_held_and_returns_when_it_is_put_right(world):
    suggest_suite(world.entry, settings=world.settings)
    good = run(world)
    assert (good.record.state, good.record.score_x100) == ("active", 10_000)
    (digest, _, data) = world.books.reports(world.entry.id)[-1]
    report = Envelope.from_bytes(data).open(world.keys.statement.public, REPORT_TYPE)
    assert sha256_hex(report) == digest == good.record.report_sha256
    assert CANARY_ID.encode() not in report
    assert CANARY_NAME.encode() not in report
    assert run(world, delivered_at=datetime.now(UTC) - timedelta(days=31)).record.state == "stale"
    table = world.home / "tables/clinic.csv"
    whole = table.read_bytes()
    table.write_bytes(whole[: whole.index(b"\n") + 1])
    assert run(world).record.state == "held"
    table.write_bytes(whole)
    assert run(world).record.state == "active"
    kinds = [entry.kind for entry in world.books.entries() if entry.kind.startswith("resource.")]
    assert kinds[-4:] == ["resource.assessed", "resource.stale", "resource.held", "resource.active"]


@pytest.mark.slow
def test_many_resources_are_assessed_in_one_run_and_one_without_a_suite_keeps_no_other_from_it(world):
    suggest_suite(world.entry, settings=world.settings)
    second = world.entry.model_copy(update={"id": "res.east.second"})
    lone = world.entry.model_copy(update={"id": "res.east.lone"})
    suggest_suite(second, settings=world.settings)
    done = run_quality_of_many(
        [world.entry, lone, second],
        settings=world.settings,
        keys=world.keys,
        books=world.books,
        now=datetime.now(UTC),
    )
    assert [type(item) for item in done.values()] == [GateResult, QualityGateError, GateResult]
    assert [done[entry.id].record.state for entry in (world.entry, second)] == ["active", "active"]
    assert len(world.books.reports(second.id)) == 1
