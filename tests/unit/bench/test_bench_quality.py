"""The measurement of quality runs: the two engines agree, and what was planted is found."""

import pytest

from factory.bench import quality


@pytest.mark.slow
def test_both_engines_count_the_same_and_every_planted_error_is_found_without_a_false_alarm():
    found = quality.run(rows=3_000)
    assert found["counts_equal"] is True
    assert (found["rules"], found["rows"]) == (26, 3_000)
    assert found["planted"] == found["planted_found"] > 0
    assert found["false_alarms"] == 0
    assert found["cpu_s"] < found["process_cpu_s"]
    assert {"wall_s", "peak_rss_mb", "bytes_sent", "parties", "gx_pandas_cpu_s", "gx_pandas_wall_s"} <= set(found)
