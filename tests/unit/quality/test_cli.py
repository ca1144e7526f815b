"""The command: exit codes, files, and a start that is light."""

import hashlib
import io
import json
import stat
import subprocess
import sys
from datetime import date

import pytest

from nodes.sample.kits import write_kit
from nodes.sample.registers import PERSON_ERRORS_CRITICAL, write_person_register
from quality.cli import main

NOW = "2026-03-02T04:00:00+00:00"


def arguments(tmp_path, *more):
    _, suite = write_kit("persons", tmp_path, resource="res.north.persons", owner="org.north", table="p.csv")
    table, out = tmp_path / "p.csv", tmp_path / "out"
    return ["assess", "--table", str(table), "--suite", str(suite), "--out", str(out), "--now", NOW, "--json", *more]


def test_a_missing_suite_is_a_usage_error_and_writes_nothing(tmp_path, capsys):
    code = main(["assess", "--table", "t.csv", "--suite", str(tmp_path / "none.json"), "--out", str(tmp_path / "out")])
    assert code == 2
    assert "quality.suite" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_profile_with_an_unknown_key_is_a_usage_error(tmp_path, capsys):
    (tmp_path / "profile.json").write_text('{"weights": {}}', encoding="utf-8")
    assert main(arguments(tmp_path, "--profile", str(tmp_path / "profile.json"))) == 2
    assert "quality.profile" in capsys.readouterr().err


def test_a_table_with_broken_keys_exits_1_and_a_good_one_0(tmp_path, capsys):
    table = tmp_path / "p.csv"
    write_person_register(table, 500, seed=2, as_of=date(2026, 3, 1), errors=PERSON_ERRORS_CRITICAL)
    assert main(arguments(tmp_path)) == 1
    answer = json.loads(capsys.readouterr().out)
    assert {"code": "rule.critical", "about": "R-ID-1"} in answer["holds"]
    write_person_register(table, 500, seed=2, as_of=date(2026, 3, 1))
    assert main(arguments(tmp_path, "--previous", str(tmp_path / "out" / "report.json"))) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["verdict"], answer["findings"]) == ("pass", [])
    content = (tmp_path / "out" / "report.json").read_bytes()
    assert hashlib.sha256(content).hexdigest() == answer["sha256"]
    assert len(json.loads(content)["history"]) == 2
    exact = tmp_path / "out" / "exact-counts.json"
    assert stat.S_IMODE(exact.stat().st_mode) == 0o600


def test_a_batch_that_is_no_list_of_jobs_is_a_usage_error(monkeypatch, capsys):
    for text in ("", "{}", '["assess"]'):
        monkeypatch.setattr("sys.stdin", io.StringIO(text))
        assert main(["batch"]) == 2
        assert "quality.jobs" in capsys.readouterr().err


def test_a_batch_answers_every_job_in_one_line_also_after_one_that_cannot_be_run(tmp_path, monkeypatch, capsys):
    write_person_register(tmp_path / "p.csv", 500, seed=2, as_of=date(2026, 3, 1))
    good = arguments(tmp_path)[1:]
    missing = [*good[:3], str(tmp_path / "none.json"), *good[4:]]
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps([missing, good])))
    assert main(["batch"]) == 1
    first, second = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert first["error"] == "quality.suite"
    assert second["verdict"] == "pass"


def test_a_draft_suite_recognises_formats_and_passes_on_its_own_table(tmp_path, capsys):
    table, suite = tmp_path / "p.csv", tmp_path / "draft.json"
    write_person_register(table, 500, seed=2, as_of=date(2026, 3, 1))
    assert main(["suggest", "--table", str(table), "--name", "res.north.persons", "--out", str(suite)]) == 0
    draft = json.loads(suite.read_text(encoding="utf-8"))
    kinds = {(item["type"], item["kwargs"].get("column")) for item in draft["expectations"]}
    assert ("expect_column_values_to_be_valid_resident_ids", "id_no") in kinds
    assert ("expect_column_values_to_be_mobile_numbers", "mobile") in kinds
    assert ("expect_column_max_to_be_within_days", "updated_on") in kinds
    assert draft["meta"]["shufang"]["columns"]["birth_date"] == "date"
    assert draft["meta"]["shufang"]["columns"]["division"] == "text"
    out = tmp_path / "out"
    assert main(["assess", "--table", str(table), "--suite", str(suite), "--out", str(out), "--now", NOW]) == 0
    capsys.readouterr()


def test_a_draft_of_a_table_without_header_is_refused(tmp_path, capsys):
    table = tmp_path / "p.csv"
    table.write_text("110101199003077777,x\n" * 20, encoding="utf-8")
    assert main(["suggest", "--table", str(table)]) == 2
    assert "110101199003077777" not in capsys.readouterr().err


def test_help_and_scores_load_no_heavy_library():
    program = (
        "import sys, quality.cli, quality.scoring, quality.suite, quality.report;"
        "sys.exit(sorted({'great_expectations','pandas','duckdb','pyarrow','numpy'} & set(sys.modules)) or 0)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_wrong_time_is_a_usage_error(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        main([*arguments(tmp_path), "--delivered-at", "yesterday"])
    assert end.value.code == 2
    assert "--delivered-at" in capsys.readouterr().err


def test_an_unknown_format_is_a_finding(tmp_path, capsys):
    (tmp_path / "p.dbf").write_bytes(b"PK")
    assert main([*arguments(tmp_path), "--table", str(tmp_path / "p.dbf")]) == 1
    assert json.loads(capsys.readouterr().out)["findings"] == ["source.format"]


@pytest.mark.parametrize("broken", ["[]", "{", '{"schema": "shufang.quality-report/1", "rules": [1]}'])
def test_a_broken_previous_report_is_a_usage_error(tmp_path, capsys, broken):
    (tmp_path / "previous.json").write_text(broken, encoding="utf-8")
    assert main(arguments(tmp_path, "--previous", str(tmp_path / "previous.json"))) == 2
    assert "quality.report" in capsys.readouterr().err
    assert main(["report", str(tmp_path / "previous.json"), "--out", str(tmp_path / "page")]) == 2


@pytest.mark.parametrize("command", ["assess", "suggest", "report"])
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    capsys.readouterr()
