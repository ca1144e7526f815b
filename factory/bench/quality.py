"""Measurement of quality runs: our engine and Great Expectations on pandas, the same 26 rules on the same table.

A register of persons with 15 columns, linked to enterprises, with planted and listed errors, in
one Parquet file. Each engine runs alone in a process of its own. ``cpu_s`` and
``gx_pandas_cpu_s`` count from the loaded libraries to the finished result, both including the
reading of the file, ours also the report and its pages; ``process_cpu_s`` and
``gx_pandas_process_cpu_s`` count the whole processes with the import of the libraries.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from factory.bench.measure import Cost, Meter
from factory.errors import FactoryError

ROWS = 1_000_000
PEER_ROWS_MAX = 2_000_000
"""Beyond this the peer is left out: its memory grows with the table."""
CHUNK_ROWS = 1_000_000
_SEED, _AS_OF = 20260301, date(2026, 3, 1)


class QualityBenchError(FactoryError):
    """An engine did not finish, so there is nothing to compare."""

    code = "bench.quality"


def run(*, rows: int | None = None) -> dict[str, Any]:
    """Measure and return the object that ``shufang bench quality --json`` prints.

    Args:
        rows: of the table.

    Raises:
        QualityBenchError: an engine did not finish.
    """
    count = ROWS if rows is None else rows
    with tempfile.TemporaryDirectory(prefix="bench-quality-") as name:
        folder = Path(name)
        began = time.perf_counter()
        planted = _write_table(folder, count)
        generate_s = time.perf_counter() - began
        suite = folder / "suite.json"
        suite.write_text(json.dumps(_suite(), ensure_ascii=False), encoding="utf-8")
        ours, cost = _engine("ours", folder)
        if ours["rules"] != len(_rules()):
            raise QualityBenchError(f"expected {len(_rules())} rules to be run, {ours['rules']} were")
        found: dict[str, Any] = {
            "name": "quality",
            "work": (
                f"{ours['rules']} rules on a linked register of {count} persons with 15 columns (Parquet, planted "
                "errors): read, check, score, write report and pages; libraries loaded before"
            ),
            **_figures("", ours, cost),
            "peak_rss_mb": cost.peak_rss_mb,
            "bytes_sent": 0,
            "parties": {"node": cost.parties["engine"].as_json()},
            "rows": count,
            "rules": ours["rules"],
            "generate_wall_s": round(generate_s, 3),
            **_recall(planted, ours["counts"], alone=count <= CHUNK_ROWS),
        }
        if count <= PEER_ROWS_MAX:
            peer, peer_cost = _engine("gx_pandas", folder)
            found |= _figures("gx_pandas_", peer, peer_cost)
            found["gx_pandas_peak_rss_mb"] = peer_cost.peak_rss_mb
            found["counts_equal"] = peer["counts"] == ours["counts"]
            found["times_less_cpu"] = round(found["gx_pandas_cpu_s"] / max(found["cpu_s"], 0.01), 2)
    return found


def _write_table(folder: Path, rows: int, *, chunk_rows: int = CHUNK_ROWS) -> dict[str, int]:
    """Write the table, a large one in chunks, and return how many errors of each kind it has."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from nodes.sample.registers import write_linked_registers

    errors: dict[str, int] = {}
    writer: Any = None
    for number, start in enumerate(range(0, rows, chunk_rows)):
        size = min(chunk_rows, rows - start)
        part = folder / f"part-{number}"
        planted = write_linked_registers(
            part, size, max(100, size // 20), seed=_SEED + 2 * number, as_of=_AS_OF, suffix=".parquet"
        )["persons"]
        for kind, places in planted.errors.items():
            errors[kind] = errors.get(kind, 0) + len(places)
        table = pq.read_table(part / "persons.parquet")
        numbers = pa.array([f"{number:03d}-{text}" for text in table["record_no"].to_pylist()])
        table = table.set_column(table.column_names.index("record_no"), "record_no", numbers)
        writer = writer or pq.ParquetWriter(folder / "persons.parquet", table.schema, compression="zstd")
        writer.write_table(table)
        shutil.rmtree(part)
    writer.close()
    return errors


def _figures(prefix: str, done: Mapping[str, Any], cost: Cost) -> dict[str, Any]:
    return {
        f"{prefix}cpu_s": done["cpu_s"],
        f"{prefix}wall_s": done["wall_s"],
        f"{prefix}process_cpu_s": cost.cpu_s,
        f"{prefix}process_wall_s": cost.wall_s,
    }


def _engine(name: str, folder: Path) -> tuple[dict[str, Any], Cost]:
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "factory.bench.quality", name, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with Meter({"engine": process.pid}) as meter:
        out, _ = process.communicate()
    if process.returncode != 0:
        raise QualityBenchError(f"expected engine {name} to finish, it ended with {process.returncode}")
    return dict(json.loads(out)), meter.cost


# What each kind of planted error makes fail, and by how many rows per planted one.
_CAUGHT_BY: Mapping[str, tuple[str, int]] = {
    "id_check_character": ("Q-ID-1", 1),
    "birth_date_differs": ("Q-ID-3", 1),
    "sex_differs": ("Q-ID-4", 1),
    "mobile_format": ("Q-MOB-1", 1),
    "mobile_missing": ("Q-MOB", 1),
    "name_missing": ("Q-NAME", 1),
    "division_differs": ("Q-DIV", 1),
    "record_no_repeated": ("Q-KEY-1", 2),
    "updated_before_registered": ("Q-ORDER", 1),
    "income_negative": ("Q-INC-1", 1),
    "email_format": ("Q-MAIL-1", 1),
}


def _recall(errors: Mapping[str, int], counts: Mapping[str, list[Any]], *, alone: bool) -> dict[str, Any]:
    """Compare what was planted with what was counted, and every other rule with none.

    Chunks are drawn one by one, so a few identity numbers occur in two of them: really repeated, not planted.
    """
    expected = {rule: errors[kind] * times for kind, (rule, times) in _CAUGHT_BY.items()}
    if not alone:
        counts = {rule: count for rule, count in counts.items() if rule != "Q-ID-2"}
    found = {rule: counts[rule][2] for rule in expected}
    others = sum(int(count[2]) for rule, count in counts.items() if rule not in expected and count[2] is not None)
    return {
        "planted": sum(expected.values()),
        "planted_found": sum(min(found[rule], expected[rule]) for rule in expected),
        "false_alarms": others + sum(max(0, found[rule] - expected[rule]) for rule in expected),
    }


def _rules() -> list[Any]:
    from quality.suite import Rule

    def column(rule: str, kind: str, name: str, **more: Any) -> Rule:
        return Rule(rule, f"expect_column_{kind}", {"column": name, **more}, "0301", "major", "规则", "Rule")

    def pair(rule: str, kind: str, a: str, b: str, **more: Any) -> Rule:
        kwargs = {"column_A": a, "column_B": b, "mostly": 0.9, **more}
        return Rule(rule, f"expect_{kind}", kwargs, "0402", "major", "规则", "Rule")

    # Pairs of values in a set are left out: the library's pandas engine goes through them row by row in
    # Python, which alone would take three quarters of its time and flatter us.
    return [
        Rule("Q-ROWS", "expect_table_row_count_to_be_between", {"min_value": 10}, "0202", "critical", "规则", "Rule"),
        column("Q-KEY", "values_to_not_be_null", "record_no"),
        column("Q-KEY-1", "values_to_be_unique", "record_no", mostly=0.9),
        column("Q-NAME", "values_to_not_be_null", "name", mostly=0.9),
        column("Q-NAME-1", "value_lengths_to_be_between", "name", min_value=2, max_value=30),
        column("Q-ID", "values_to_not_be_null", "id_no"),
        column("Q-ID-1", "values_to_be_valid_resident_ids", "id_no", mostly=0.9),
        column("Q-ID-2", "values_to_be_unique", "id_no", mostly=0.9),
        pair("Q-ID-3", "birth_dates_to_match_resident_ids", "id_no", "birth_date"),
        pair("Q-ID-4", "sexes_to_match_resident_ids", "id_no", "sex"),
        column("Q-SEX", "values_to_be_in_set", "sex", value_set=["男", "女"]),
        column("Q-BIRTH", "values_to_be_between", "birth_date", min_value="1900-01-01", max_value="2026-12-31"),
        column("Q-MOB", "values_to_not_be_null", "mobile", mostly=0.9),
        column("Q-MOB-1", "values_to_be_mobile_numbers", "mobile", mostly=0.9),
        column("Q-DIV", "values_to_be_in_set", "division", value_set=["530193"], mostly=0.9),
        column("Q-REG", "values_to_be_in_set", "district", value_set=["云北区"]),
        pair("Q-ORDER", "column_pair_values_a_to_be_greater_than_b", "updated_on", "registered_on", or_equal=True),
        column("Q-STAT", "values_to_be_in_set", "status", value_set=["在册", "注销", "迁出"]),
        column("Q-EMP", "values_to_be_valid_usccs", "employer", mostly=0.9),
        column("Q-INC", "values_to_not_be_null", "income"),
        column("Q-INC-1", "values_to_be_between", "income", min_value=0, max_value=10_000_000, mostly=0.9),
        column("Q-INC-2", "mean_to_be_between", "income", min_value=1_000, max_value=100_000),
        column("Q-INS", "values_to_be_between", "insured_months", min_value=0, max_value=600),
        column("Q-MAIL-1", "values_to_match_regex", "email", regex="^[a-z0-9.]+@[a-z0-9.]+[.][a-z]+$", mostly=0.9),
        column("Q-REGD", "values_to_be_between", "registered_on", min_value="1990-01-01", max_value="2026-12-31"),
        column("Q-MAX", "max_to_be_between", "updated_on", min_value="2025-01-01", max_value="2026-12-31"),
    ]


_TYPES = dict.fromkeys(
    ("record_no", "name", "id_no", "sex", "mobile", "division", "district", "status", "employer", "email"), "text"
) | dict.fromkeys(("birth_date", "registered_on", "updated_on"), "date")


def _suite() -> dict[str, Any]:
    from quality.suite import Suite, document

    columns: Any = {**_TYPES, "income": "number", "insured_months": "integer"}
    return document(Suite("bench.persons", "1.0.0", columns, tuple(_rules())))


def _ours(folder: Path) -> dict[str, Any]:
    """Run our engine as a node does, report and pages included."""
    import duckdb  # noqa: F401 - loaded before the work is measured
    import pyarrow as pa  # noqa: F401 - as above

    import quality.expectations  # noqa: F401 - as above
    from quality.cli import main

    arguments = ["assess", "--table", str(folder / "persons.parquet"), "--suite", str(folder / "suite.json")]
    cpu, wall = time.process_time(), time.perf_counter()
    output, sys.stdout = sys.stdout, sys.stderr
    main([*arguments, "--out", str(folder / "out"), "--json"])
    sys.stdout = output
    done = {"cpu_s": round(time.process_time() - cpu, 3), "wall_s": round(time.perf_counter() - wall, 3)}
    exact = json.loads((folder / "out" / "exact-counts.json").read_text("utf-8"))
    aggregates = {rule.id for rule in _rules() if "mean" in rule.type or "max_to" in rule.type or "table" in rule.type}
    counts = {
        rule: [item["status"] == "pass", *([None, None] if rule in aggregates else [item["missing"], item["failing"]])]
        for rule, item in exact.items()
        if rule.startswith("Q-")
    }
    return {**done, "rules": len(counts), "counts": counts}


def _gx_pandas(folder: Path) -> dict[str, Any]:
    """Run Great Expectations' own engine on a pandas frame."""
    import great_expectations as gx
    import pandas as pd
    from great_expectations.data_context.types.base import ProgressBarsConfig

    from quality.expectations import build
    from quality.suite import parse

    suite = parse(json.loads((folder / "suite.json").read_text("utf-8")))
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    expectations = []
    for rule in suite.rules:
        expectation = build(replace(rule), suite.columns)
        if expectation is None:
            raise QualityBenchError(f"expected rule {rule.id} to be one of the library")
        expectation.meta = {"id": rule.id}
        expectations.append(expectation)
    cpu, wall = time.process_time(), time.perf_counter()
    frame = pd.read_parquet(folder / "persons.parquet")
    for name, kind in suite.columns.items():
        if kind == "date":
            frame[name] = pd.to_datetime(frame[name])
    source = context.data_sources.add_pandas("bench")
    batch = source.add_dataframe_asset("table").add_batch_definition_whole_dataframe("all")
    result = batch.get_batch({"dataframe": frame}).validate(
        gx.ExpectationSuite(name="bench", expectations=expectations), result_format={"result_format": "BASIC"}
    )
    done = {"cpu_s": round(time.process_time() - cpu, 3), "wall_s": round(time.perf_counter() - wall, 3)}
    counts = {}
    for item in result.results:
        if (item.exception_info or {}).get("raised_exception"):
            raise QualityBenchError(f"expected rule {item.expectation_config.meta['id']} to run on pandas")
        figures = item.result
        failing = figures.get("unexpected_count")
        missing = figures.get("missing_count") if failing is not None else None
        counts[item.expectation_config.meta["id"]] = [
            bool(item.success),
            None if failing is None else int(missing or 0),
            None if failing is None else int(failing),
        ]
    return {**done, "rules": len(counts), "counts": counts}


if __name__ == "__main__":
    sys.stdout.write(json.dumps({"ours": _ours, "gx_pandas": _gx_pandas}[sys.argv[1]](Path(sys.argv[2]))))
