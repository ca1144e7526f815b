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


@pytest.mark.slow
def test_a_draft_from_a_file_can_be_bound_and_passes_and_replaces_nothing(world, tmp_path):
    from nodes.binding import bind_entry
    from nodes.catalogue_entries import read_entry
    from nodes.errors import TableError
    from nodes.quality_gate import draft_from_file

    table = tmp_path / "对象.csv"
    lines = [f"{i:06d},张{chr(0x4E00 + i)},{i % 7},2026-01-{i % 28 + 1:02d}" for i in range(300)]
    table.write_bytes(("编号,姓名,次数,日期\n" + "\n".join(lines) + "\n").encode("gb18030"))
    options = {"resource": "res.east.drafted", "owner": "org.east", "folder": tmp_path / "drafts"}
    with pytest.raises(TableError):
        draft_from_file(tmp_path / "none.csv", **options)
    entry_path, suite = draft_from_file(table, **options)
    with pytest.raises(QualityGateError, match="no draft"):
        draft_from_file(table, **options)
    entry = read_entry(entry_path)
    assert [(column.name, column.type) for column in entry.columns] == [
        ("编号", "text"), ("姓名", "text"), ("次数", "integer"), ("日期", "date"),
    ]  # fmt: skip
    bound = bind_entry(world.settings, entry, books=world.books, suite=suite)
    done = run_quality(
        bound, settings=world.settings, keys=world.keys, books=world.books, now=datetime.now(UTC),
    )  # fmt: skip
    assert (done.record.state, done.record.score_x100) == ("active", 10_000)


@pytest.mark.slow
def test_weights_and_thresholds_of_a_resource_come_from_its_profile_and_stand_in_the_report(world):
    import json

    suggest_suite(world.entry, settings=world.settings)
    folder = world.home / "profiles"
    folder.mkdir()
    profile = folder / f"{world.entry.id}.json"
    stated = {
        "name": "east", "version": "2.0.0", "score_min_x100": 9_900,
        "dimension_weights": {"conformity": 1, "completeness": 1, "accuracy": 90, "consistency": 1, "timeliness": 6,
                              "accessibility": 1},
        "severity_weights": {"critical": 9, "major": 3, "minor": 1},
    }  # fmt: skip
    profile.write_text(json.dumps(stated), encoding="utf-8")
    first = run(world)
    assert first.record.state == "active"
    report = json.loads((first.folder / "report.json").read_text("utf-8"))
    assert (report["profile"]["name"], report["profile"]["score_min_x100"]) == ("east", 9_900)
    assert {item["name"]: item["weight"] for item in report["dimensions"]} == stated["dimension_weights"]
    assert report["profile"]["severity_weights"]["critical"] == 9
    # Nothing of this table is about consistency: shown as not assessed, with its weight, in neither language as 100.
    absent = next(item for item in report["dimensions"] if item["name"] == "consistency")
    assert (absent["score_x100"], absent["verdict"]) == (None, "not_assessed")
    for lang, words in (("zh", "未评估"), ("en", "not assessed")):
        assert words in (first.folder / f"report.{lang}.html").read_text("utf-8")
    profile.write_text('{"score_min_x100": 9900, "colour": 1}', encoding="utf-8")
    with pytest.raises(QualityGateError, match="colour"):
        run(world)
    assert (
        world.books.resource(world.entry.id) == first.record or world.books.resource(world.entry.id).state == "active"
    )
    assert len(world.books.reports(world.entry.id)) == 1


@pytest.mark.slow
def test_the_pages_carry_the_signature_of_the_report_that_is_in_the_books(world):
    from nodes.quality_gate import write_pages

    with pytest.raises(QualityGateError, match="quality run"):
        write_pages(world.home / "pages", world.entry.id, books=world.books)
    suggest_suite(world.entry, settings=world.settings)
    done = run(world)
    pages = write_pages(world.home / "pages", world.entry.id, books=world.books, pdf=True)
    key = world.keys.statement.public.keyid[:16]
    for path in (pages["html_zh"], pages["html_en"], done.folder / "report.zh.html"):
        from pathlib import Path

        text = Path(path).read_text("utf-8")
        assert key in text
        assert done.record.report_sha256 in text
    assert Path(pages["pdf_zh"]).read_bytes().startswith(b"%PDF")
    assert pages["sha256"] == done.record.report_sha256
