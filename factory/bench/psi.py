"""Measurement of private set intersection: two real node processes, a relay and the operator, on the loopback.

Two Parquet tables with an 18-character key in shuffled order, half of the smaller one in common. The clock and the
account of processor time run from the order to the closed session with its signed statements: reading tables, making
keys, the protocol over the relay, ledgers and statements. The first session at the nodes, in which they load libraries
and compiled loops, is told beside the second.
"""

import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from factory.bench.measure import Meter
from factory.errors import FactoryError
from factory.pipelines.recipe import parse_recipe

ROWS = 2**20
_NODES = ("east", "west")
_PREPARED_MAX = 2**16
_FIGURES = ("cpu_s", "nodes_cpu_s", "wall_s", "bytes_sent")


class PsiBenchError(FactoryError):
    """The join did not yield the rows that the tables have in common."""

    code = "bench.psi"


def run(*, rows: int | None = None, small: int | None = None) -> dict[str, Any]:
    """Measure and return the object that ``shufang bench psi --json`` prints.

    Args:
        rows: of the larger table.
        small: of the table of the node that learns; as many as ``rows`` if not given.

    Raises:
        PsiBenchError: the extra ``vertical`` is missing, or the result is wrong.
    """
    many = ROWS if rows is None else rows
    few = many if small is None else min(small, many)
    compiled = subprocess.run(
        [sys.executable, "-P", "-m", "nodes.privacy.kernels"], capture_output=True, text=True, check=False
    )
    if compiled.returncode != 0:
        raise PsiBenchError(compiled.stderr.strip().splitlines()[-1] if compiled.stderr else "no compiled loops")
    with tempfile.TemporaryDirectory(prefix="bench-psi-") as name:
        tables = {"east": Path(name) / "east.parquet", "west": Path(name) / "west.parquet"}
        common = max(1, few // 2)
        _write_table(tables["east"], 0, few)
        _write_table(tables["west"], few - common, few - common + many)
        first, found = _sessions("intersection", tables, common, count=2)
        more: dict[str, Any] = {f"first_{key}": first[key] for key in _FIGURES}
        if small is not None and few <= _PREPARED_MAX:
            offline, online = _sessions("prepared", tables, common, count=2)
            more |= {f"offline_{key}": offline[key] for key in _FIGURES} | {
                f"prepared_{key}": online[key] for key in _FIGURES
            }
    return {
        "name": "psi",
        "work": (
            f"which of {few} rows another node has among {many}: KKRT16 over the relay, two node processes, "
            "from the order to the signed statements, tables read from Parquet; second session of nodes that are up; "
            "first_: the first one, in which libraries and compiled loops are loaded"
            + ("; offline_ and prepared_: OPRF, first and second session" if "offline_cpu_s" in more else "")
        ),
        **found,
        **more,
        "rows": many,
        "small": few,
        "common": common,
    }


def _sessions(mode: str, tables: Mapping[str, Path], common: int, *, count: int) -> list[dict[str, Any]]:
    """Run ``count`` sessions at the same nodes and return the cost of each."""
    from factory.federation.parties import run_parties
    from factory.pipelines.build import uses_of
    from factory.trial.world import OPERATOR, World

    recipe = parse_recipe(_RECIPE.replace('mode = "intersection"', f'mode = "{mode}"'))
    costs = []
    with World(recipe, tables) as world:
        grant, digest, _ = world.grant()
        for _ in range(count):
            session = world.session(grant, digest)
            pids = {party: process.pid for party, process in world.processes.items()}
            with Meter({OPERATOR: os.getpid(), **pids}) as meter:
                results = run_parties(session, "psi.join", recipe.parameters, uses_of(recipe))
            told = {int(result.body["common"]) for result in results.values()}
            if told != {common}:
                raise PsiBenchError(f"expected {common} common rows, got {sorted(told)}")
            printed = meter.cost.as_json()
            for node, result in results.items():
                printed["parties"][node]["bytes_sent"] = result.bytes_sent
            printed["bytes_sent"] = sum(result.bytes_sent for result in results.values())
            printed["nodes_cpu_s"] = round(sum(meter.cost.parties[node].cpu_s for node in _NODES), 3)
            costs.append(printed)
    return costs


def _write_table(path: Path, start: int, end: int) -> None:
    """Write a table of keys in an order that tells nothing of them."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    numbers = np.random.default_rng(secrets.randbits(64)).permutation(np.arange(start, end))
    keys = pa.array([f"{number:018d}" for number in (numbers * 2654435761 % 10**18).tolist()])
    pq.write_table(pa.table({"id": keys}), path)


_RECIPE = """
[product]
id = "bench"
form = "component"
name_zh = "测量"
name_en = "bench"
summary_zh = "测量"
summary_en = "bench"
[scenario]
id = "bench"
title_zh = "测量"
title_en = "bench"
purpose = "bench"
[pipeline]
name = "psi.join"
[[parties]]
node = "east"
resource = "res.east.keys"
columns = ["id"]
[[parties]]
node = "west"
resource = "res.west.keys"
columns = ["id"]
[thresholds]
rows_min = 1
contributors_min = 2
cell_min = 1
round_base = 1
quality_score_min = 0
[parameters]
mode = "intersection"
receiver = "east"
rows_min = 1
[parameters.keys]
east = [{ column = "id", rules = ["width", "trim", "upper"] }]
west = [{ column = "id", rules = ["width", "trim", "upper"] }]
"""
