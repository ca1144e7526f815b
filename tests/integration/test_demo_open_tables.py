"""The main job on open tables of real bodies: four hospitals, tax fines, a register of firms."""

import csv
import json
from pathlib import Path

import pytest

pytestmark = [pytest.mark.xdist_group("demo-open"), pytest.mark.slow]


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
        "grant.expired",
        "grant.exhausted",
        "resource.held",
        "request.signature",
    ]


def test_a_district_with_few_fines_is_not_published_and_others_are(open_job):
    text = "\n".join(",".join(row) for row in cells(open_job.packages["report"]))
    assert "延庆区" not in text
    for district in ("西城区", "东城区", "朝阳区", "海淀区"):
        assert district in text


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


def test_no_row_of_the_register_of_firms_is_in_a_byte_that_any_process_sent(open_job):
    (table,) = (open_job.out / "nodes").glob("*/tables/hightech.csv")
    with table.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.reader(file))[1:]
    rows_as_sent = {",".join(row).encode() for row in rows if sum(map(len, row)) > 30}
    assert len(rows_as_sent) > 1000
    for recording in open_job.seen:
        assert not any(row in recording.sent for row in rows_as_sent) if recording.sent else True
