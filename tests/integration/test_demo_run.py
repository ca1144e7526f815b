"""The main job from outside: what it says, what crossed the wire, what lies about, what is gone."""

import csv
import ipaddress
import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tap.recordings import numbers_in, occurring

pytestmark = pytest.mark.xdist_group("demo")

SECRET_FILES = ("*.pem", "*.key", "*.secret", "*.token")
PUBLIC_FILES = ("*.pub.pem", "1.root.json")


def departments(job):
    return [recording for recording in job.seen if recording.module.split(".")[0] in {"nodes", "quality"}]


def secrets_of(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Every secret of a deployment with the ways it could stand in a command line."""
    for pattern in SECRET_FILES:
        for path in sorted(folder.rglob(pattern)):
            if not any(path.match(public) for public in PUBLIC_FILES):
                yield path, forms_of(path.read_bytes())


def forms_of(data: bytes) -> list[str]:
    import base64

    lines = [line for line in data.decode("latin-1").split("\n") if not line.startswith("-----") and len(line) >= 16]
    raw = data.strip()
    return [*lines, raw.hex(), base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode()]


def id_numbers(job) -> set[bytes]:
    """The identity numbers and credit codes of the built-in registers."""
    found = set()
    for name, columns in (("persons", ("id_no",)), ("enterprises", ("uscc",))):
        for path in (job.out / "nodes").glob(f"*/tables/{name}.csv"):
            with path.open(encoding="utf-8-sig", newline="") as file:
                found |= {row[column].encode() for row in csv.DictReader(file) for column in columns}
    return {number for number in found if len(number) == 18}


def files_outside_tables(job) -> list[Path]:
    """Every file but the tables, the list of what was planted, and the questions of the unit about its own customers."""
    found = []
    for path in sorted(job.out.rglob("*")):
        parts = path.relative_to(job.out).parts
        own = parts[0] == "planted" or parts[:1] == ("bank-yun",) or (parts[0] == "nodes" and parts[2:3] == ("tables",))
        if path.is_file() and not own:
            found.append(path)
    return found


def test_the_main_job_ends_well(main_job):
    assert main_job.done.returncode == 0, main_job.done.stdout[-1500:] + main_job.done.stderr[-3000:]
    assert main_job.done.stderr == ""


def test_every_package_is_valid_and_every_quality_report_is_there(main_job):
    assert sorted(main_job.packages) == ["model", "report", "verification"]
    for form, package in main_job.packages.items():
        words = main_job.summary["verify"][form].split()
        assert words[0] == "shufang"
        done = main_job.run(*words, "--json", timeout_s=120)
        report = json.loads(done.stdout)
        assert (done.returncode, report["verdict"]) == (0, "valid")
        assert (package / "bagit.txt").is_file()
    reports = main_job.summary["quality_reports"]
    assert len(reports) == len(set(reports)) == 8
    for path in reports:
        assert "</html>" in Path(path).read_text("utf-8")


def test_a_held_table_and_four_wrong_orders_are_refused_with_their_codes(main_job):
    shown = {refusal["what"]: refusal["code"] for refusal in main_job.summary["refusals"]}
    assert shown == {
        "held table": "resource.held",
        "ungranted column": "grant.column",
        "over-used grant": "grant.exhausted",
        "expired grant": "grant.expired",
        "altered in transit": "request.signature",
    }


def test_each_refusal_is_in_the_ledger_of_the_node_that_refused(main_job):
    for refusal in main_job.summary["refusals"]:
        home = main_job.out / "nodes" / refusal["node"]
        entries = main_job.json("shufang-node", "ledger", "list", "--last", "10000", "--home", home)
        assert refusal["code"] in {entry["facts"].get("code") for entry in entries if entry["kind"] == "refused"}


def test_no_planted_value_is_in_a_byte_that_any_process_sent(main_job):
    for recording in main_job.seen:
        assert occurring(recording.sent, main_job.planted) == set(), recording.module


def test_no_identity_number_or_credit_code_is_in_a_byte_that_any_process_sent(main_job):
    known = id_numbers(main_job)
    assert len(known) > 1000
    for recording in main_job.seen:
        assert numbers_in(recording.sent, known) == set(), recording.module


def test_the_tap_heard_every_agent_and_supernode_in_plain_text(main_job):
    for home in main_job.node_homes:
        key = home.name.removeprefix("node-")
        said = {"nodes.agent.serve": b"", "nodes.planes.supernode": b""}
        for recording in main_job.seen:
            if recording.concerns(home) and recording.module in said:
                said[recording.module] += recording.sent
        crossing = f"res.{key}.clinic"  # in answers, whose payload is base64
        assert [occurring(sent, {crossing}) for sent in said.values()] == [{crossing}, {crossing}]


def test_the_search_finds_a_planted_value_where_one_is(main_job):
    tables = sorted((main_job.out / "nodes").glob("*/tables/*.csv"))
    found = set().union(*(occurring(path.read_bytes(), main_job.planted) for path in tables))
    assert found == main_job.planted
    assert len(found) > 20
    persons = next(path for path in tables if path.name == "persons.csv")
    assert len(numbers_in(persons.read_bytes(), id_numbers(main_job))) > 1000


def test_no_planted_value_lies_outside_the_tables(main_job):
    known = id_numbers(main_job)
    files = files_outside_tables(main_job)
    assert len(files) > 300
    for path in files:
        data = path.read_bytes()
        assert occurring(data, main_job.planted) == set(), path
        assert numbers_in(data, known) == set(), path


def test_no_planted_value_is_in_what_was_printed_or_in_an_exported_ledger(main_job, tmp_path):
    assert occurring(main_job.done.stdout.encode(), main_job.planted) == set()
    for home in main_job.node_homes:
        target = tmp_path / f"{home.name}.jsonl"
        main_job.json("shufang-node", "ledger", "export", target, "--home", home)
        assert b"session.close" in target.read_bytes()
        assert occurring(target.read_bytes(), main_job.planted) == set()


def test_the_quality_engine_sends_nothing_at_all(main_job):
    runs = [recording for recording in departments(main_job) if recording.module == "quality"]
    assert len(runs) >= 4
    assert [recording.sent for recording in runs if recording.sent] == []


def test_no_process_reached_or_listened_beyond_the_loopback(main_job):
    reached = {(host, port) for recording in main_job.seen for _, host, port in recording.peers}
    assert {("127.0.0.1", main_job.hub_port), ("127.0.0.1", main_job.relay_port)} <= reached
    for host in {host for host, _ in reached} - {"localhost", "-"}:
        assert ipaddress.ip_address(host).is_loopback


def test_no_secret_is_in_a_command_line(main_job):
    lines = [" ".join(recording.words) for recording in main_job.seen]
    lines += [line for recording in main_job.seen for line in recording.started]
    assert any(str(main_job.out / "agency") in line for line in lines)
    everything = "\n".join(lines)
    assert "PRIVATE KEY" not in everything
    secrets = dict(secrets_of(main_job.out))
    assert len(secrets) > 40
    for path, forms in secrets.items():
        assert [form for form in forms if form in everything] == [], path


def test_a_secret_can_be_read_by_its_owner_alone(main_job):
    for path, _ in secrets_of(main_job.out):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE(main_job.out.stat().st_mode) & 0o077 == 0


def test_every_ledger_and_the_agencys_chain_verify(main_job):
    for home in main_job.node_homes:
        found = main_job.json("shufang-node", "ledger", "verify", "--home", home)
        assert found["valid"]
        assert found["entries"] > 30
    chain = main_job.json("shufang", "agency", "events", "--home", main_job.out / "agency")
    assert chain["verified"] == len(chain["events"]) > 8


def test_a_ledger_with_one_altered_entry_does_not_verify(main_job, tmp_path):
    import shutil
    import sqlite3

    home = tmp_path / "node"
    shutil.copytree(main_job.node_homes[0], home)
    with sqlite3.connect(home / "books.db") as books:
        assert books.execute("UPDATE ledger SET actor = actor || 'x' WHERE seq = 5").rowcount == 1
    books.close()
    assert main_job.run("shufang-node", "ledger", "verify", "--home", home, timeout_s=60).returncode == 1


def test_the_monitor_of_the_log_raises_no_alert(main_job):
    done = main_job.run(
        "shufang", "log", "monitor", *(main_job.out / "operator" / "log").glob("20??"),
        "--trust", main_job.out / "trust", "--package", main_job.out / "packages", "--json", timeout_s=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["alerts"] == []
    assert found["size"] == sum(found["entries_by_actor"].values()) > 50


def test_no_process_and_no_temporary_file_is_left(main_job):
    assert len(main_job.seen) > 50
    assert [" ".join(recording.words) for recording in main_job.survivors] == []
    assert main_job.left_over == []


def test_a_folder_that_holds_something_else_is_refused_and_left_alone(main_job, tmp_path):
    (tmp_path / "letter.txt").write_text("mine")
    done = main_job.run("shufang", "demo", "--out", tmp_path, timeout_s=60)
    assert done.returncode == 1
    assert "demo.folder" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]
    assert (tmp_path / "letter.txt").read_text() == "mine"


@pytest.mark.slow
def test_twice_into_the_same_folder_works(main_job):
    before = (main_job.out / "1.root.json").read_bytes()
    assert main_job.run("shufang", "demo", "--out", main_job.out).returncode == 0
    assert (main_job.out / "1.root.json").read_bytes() != before
