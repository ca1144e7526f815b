"""The main job on open tables of real bodies: four hospitals, tax fines, a register of firms."""

import csv
import json
import re
from pathlib import Path

import pytest

from tests.tap.recordings import numbers_in

pytestmark = pytest.mark.xdist_group("demo-open")


def cells(package: Path) -> list[list[str]]:
    with (package / "data" / "product" / "tables.csv").open(encoding="utf-8-sig", newline="") as file:
        return list(csv.reader(file))


def test_the_main_job_on_open_tables_ends_with_three_valid_packages(open_job):
    assert open_job.done.returncode == 0, open_job.done.stdout[-1500:] + open_job.done.stderr[-3000:]
    assert sorted(open_job.packages) == ["model", "report", "verification"]
    for words in open_job.summary["verify"].values():
        done = open_job.run(*words.split(), "--json", timeout_s=120)
        assert (done.returncode, json.loads(done.stdout)["verdict"]) == (0, "valid")


def test_a_held_table_and_four_wrong_orders_are_refused_here_too(open_job):
    assert sorted(refusal["code"] for refusal in open_job.summary["refusals"]) == [
        "grant.column",
        "grant.exhausted",
        "grant.expired",
        "request.signature",
        "resource.held",
    ]


def test_a_district_with_one_fine_is_suppressed_with_another_that_hides_it(open_job):
    values = {(table, row): (value, flag) for table, row, _, value, _, flag in cells(open_job.packages["report"])[1:]}
    for table in ("penalties-by-district", "fines-by-district"):
        hidden = {row for (of, row), said in values.items() if of == table and said[0] == "" and said[1]}
        assert "延庆区" in hidden
        assert len(hidden) >= 2
        for district in ("西城区", "东城区", "朝阳区", "海淀区", "合计 Total"):
            assert int(values[table, district][0]) > 0


def test_the_model_card_says_how_well_the_model_does(open_job):
    (card,) = open_job.packages["model"].rglob("model_card.json")
    metrics = json.loads(card.read_text("utf-8"))["metrics"]
    assert 0.7 < metrics["auc_test_micro"] / 1_000_000 < 1


def test_four_nodes_speak_to_the_loopback_alone_and_leave_nothing(open_job):
    assert len(open_job.node_homes) == 4
    hosts = {host for recording in open_job.seen for _, host, _ in recording.peers}
    assert hosts <= {"127.0.0.1", "::1", "localhost", "-"}
    assert [" ".join(recording.words) for recording in open_job.survivors] == []
    assert open_job.left_over == []


def test_no_code_of_a_firm_is_in_a_byte_that_any_process_sent(open_job):
    (table,) = (open_job.out / "nodes").glob("*/tables/hightech.csv")
    with table.open(encoding="utf-8-sig", newline="") as file:
        codes = {row["统一社会信用代码"].encode() for row in csv.DictReader(file)}
    known = {code for code in codes if re.fullmatch(rb"[0-9A-Z]{18}", code)}
    assert len(known) > 9000
    assert numbers_in(table.read_bytes(), known) == known
    assert sum(len(recording.sent) for recording in open_job.seen) > 1_000_000
    for recording in open_job.seen:
        assert numbers_in(recording.sent, known) == set(), recording.module
