import json

from typer.testing import CliRunner

from factory.bench.cli import app
from factory.bench.log import run


def test_an_unknown_measurement_is_a_usage_error():
    result = CliRunner().invoke(app, ["nothing"])
    assert result.exit_code == 2


def test_the_measurement_of_the_log_has_the_fixed_shape():
    result = run(rows=300, tree_entries=1000)
    assert {
        "name",
        "work",
        "cpu_s",
        "wall_s",
        "bytes_sent",
        "peak_rss_mb",
        "parties",
        "per_s",
        "p50_ms",
        "p95_ms",
    } <= set(result)
    assert result["name"] == "log"
    assert result["per_s"] > 0
    assert json.loads(json.dumps(result)) == result
