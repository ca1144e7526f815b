"""A run opens no connection, neither on the fast path nor in Great Expectations itself."""

import json
import subprocess
import sys

import pytest

from quality.suite import Rule, Suite, document

PROGRAM = """
import sys
def guard(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        sys.stderr.write(f"CONNECTION {event}\\n")
sys.addaudithook(guard)
from quality.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_run_opens_no_connection(tmp_path):
    rules = (
        Rule("R-1", "expect_column_values_to_not_be_null", {"column": "a"}, "0201", "major", "已填写", "Filled"),
        Rule("R-2", "expect_column_values_to_be_increasing", {"column": "a"}, "0503", "major", "递增", "Increasing"),
    )
    suite = Suite("res.test", "1.0.0", {"a": "integer"}, rules)
    (tmp_path / "suite.json").write_text(json.dumps(document(suite)), encoding="utf-8")
    (tmp_path / "t.csv").write_text("a\n" + "".join(f"{i}\n" for i in range(20)), encoding="utf-8")
    command = ["assess", "--table", "t.csv", "--suite", "suite.json", "--out", "out", "--json"]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *command], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "CONNECTION" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "suite.json", "t.csv"]
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["exact-counts.json", "report.en.html", "report.json", "report.zh.html"]
