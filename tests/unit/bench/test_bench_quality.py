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


def test_a_table_written_in_chunks_has_every_row_and_counts_the_errors_of_all(tmp_path):
    from pyarrow import parquet

    errors = quality._write_table(tmp_path, 2_500, chunk_rows=1_000)
    table = parquet.read_table(tmp_path / "persons.parquet")
    numbers = table["record_no"].to_pylist()
    assert (table.num_rows, table.num_columns) == (2_500, 15)
    assert len(numbers) - len(set(numbers)) == errors["record_no_repeated"]
    assert errors["mobile_missing"] == 50
    assert [path.name for path in tmp_path.iterdir()] == ["persons.parquet"]
