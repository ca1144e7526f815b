import json

from factory.bench.verify import run


def test_the_measurement_of_the_verifier_has_the_fixed_shape():
    result = run(rows=20, runs=2)
    fixed = {"name", "work", "cpu_s", "wall_s", "bytes_sent", "peak_rss_mb", "parties", "per_s", "p50_ms", "p95_ms"}
    assert fixed <= set(result)
    assert (result["name"], result["verdict"]) == ("verify", "valid")
    assert result["verify_cpu_s"] > 0
    assert result["overhead_bytes"] < result["package_bytes"]
    assert json.loads(json.dumps(result)) == result
