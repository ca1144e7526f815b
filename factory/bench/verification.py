"""Measurement of private verification: a register is prepared, changed a little, and asked.

Real processes: a node with its own home, a relay over TLS, and an application unit per task.
Per query counts what goes both ways between the application unit and the relay. ``bare_`` is what
libsodium takes on the same machine for the curve alone: no proof, no message, no ledger, no table.
"""

import csv
import json
import os
import random
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.bench.measure import Cost, Meter

if TYPE_CHECKING:
    from factory.client.match import Invitation
    from factory.federation.session import Session
    from factory.pipelines.recipe import Recipe
    from factory.trial.world import World

ROWS = 1_000_000
SINGLE = 500
BATCH = 10_000
CHANGED = 1_000
BARE = 5_000
NODE, UNIT = "node-register", "unit-bank"

RECIPE = f"""
clients = ["{UNIT}"]
product.id = "bench"
product.form = "verification"
product.name_zh = "测量"
product.name_en = "Bench"
product.summary_zh = "测量"
product.summary_en = "Bench"
scenario = {{ id = "bench", title_zh = "测量", title_en = "Bench", purpose = "bench" }}
pipeline = {{ name = "match.voprf" }}
thresholds = {{ rows_min = 20, contributors_min = 1, cell_min = 1, round_base = 1, quality_score_min = 8000 }}
[[parties]]
node = "{NODE}"
resource = "res.firms"
columns = ["name", "code", "capital"]
[parameters]
batch_max = 1000
queries_max = 1000000
minute_max = 1000000
band = {{ column = "capital", edges = ["100", "1000"] }}
[[parameters.fields]]
column = "name"
rules = ["width", "spaces", "brackets"]
[[parameters.fields]]
column = "code"
rules = ["width", "trim", "upper"]
"""


def run(*, rows: int | None = None) -> dict[str, Any]:
    """Measure and return the object that ``shufang bench verification --json`` prints.

    Args:
        rows: records of the register.
    """
    from factory.pipelines.recipe import parse_recipe
    from factory.trial.world import OPERATOR, World

    count = ROWS if rows is None else rows
    recipe = parse_recipe(RECIPE, name="bench")
    with tempfile.TemporaryDirectory(prefix="bench-verification-") as folder:
        table, records = Path(folder) / "firms.csv", Path(folder)
        firms = _firms(count)
        _write(table, firms)
        with (
            Meter({OPERATOR: os.getpid()}) as meter,
            World(recipe, {"res.firms": table}, on_start=meter.add, on_bytes=meter.count_bytes) as world,
        ):
            grant, digest, _ = world.grant()
            session, invitation, prepared = _opened(world, recipe, world.session(grant, digest))
            single = _asked(world, invitation, _questions(records / "one", firms, min(SINGLE, count)), batch=1)
            bulk = _asked(
                world, invitation, _questions(records / "many", firms, min(BATCH, count)), batch=1000, table=records
            )
            session.close()
            _write(table, [*firms[: -min(CHANGED, count // 2)], *_firms(min(CHANGED, count // 2), start=count)])
            again, _, updated = _opened(world, recipe, world.session(grant, digest))
            again.close()
        return {
            "name": "verification",
            "work": (
                f"a register of {count} firms (name and code, with a band), prepared once and again after "
                f"{min(CHANGED, count // 2)} rows changed; {single['asked']} single queries by bucket; "
                f"{bulk['asked']} queries in batches of 1000 by whole table"
            ),
            **meter.cost.as_json(),
            "prepare_s": round(prepared.wall_s, 1),
            "prepare_cpu_s": round(prepared.cpu_s, 1),
            "update_s": round(updated.wall_s, 1),
            "update_cpu_s": round(updated.cpu_s, 1),
            "p50_ms": single["p50_us"] / 1000,
            "p95_ms": single["p95_us"] / 1000,
            "bytes_per_query": (single["bytes_sent"] + single["bytes_received"]) // single["asked"],
            "batch_queries": bulk["asked"],
            "batch_wall_s": round(bulk["wall_s"], 2),
            "batch_bytes_per_query": (bulk["bytes_sent"] + bulk["bytes_received"] - bulk["table_bytes"])
            // bulk["asked"],
            "table_bytes": bulk["table_bytes"],
            "node_cpu_us_per_query": round(bulk["node_cpu_s"] * 1e6 / bulk["asked"], 1),
            "per_s_per_core": round(bulk["asked"] / bulk["node_cpu_s"]) if bulk["node_cpu_s"] else None,
            **_bare(),
            "right": single["right"] and bulk["right"],
        }


def _bare() -> dict[str, float]:
    """Return the processor time of the curve alone, in microseconds for a query and for a record of the register."""
    import secrets

    from nodes.contract import voprf

    inputs = [secrets.token_bytes(40) for _ in range(BARE)]
    scalar = voprf.hash_to_scalar(secrets.token_bytes(32))
    began = time.process_time()
    elements = [voprf.hash_to_group(data) for data in inputs]
    hashed = time.process_time()
    images = [voprf.multiply(scalar, element) for element in elements]
    multiplied = time.process_time()
    for data, image in zip(inputs, images, strict=True):
        voprf.output(data, image)
    ended = time.process_time()
    return {
        "bare_us_per_query": round((multiplied - hashed) * 1e6 / BARE, 1),
        "bare_us_per_record": round((ended - began) * 1e6 / BARE, 1),
    }


def _firms(count: int, *, start: int = 0) -> list[tuple[str, str, str]]:
    """Return names, made-up codes of 18 places, and capital in units of 10 000 yuan."""
    rng = random.Random(start + 1)  # noqa: S311  test data
    return [
        (f"云州{number:08d}科技有限公司", f"91530000MA{number:08d}", str(rng.randrange(1, 5000)))
        for number in range(start, start + count)
    ]


def _write(path: Path, firms: list[tuple[str, str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "code", "capital"])
        writer.writerows(firms)


def _questions(path: Path, firms: list[tuple[str, str, str]], count: int) -> tuple[Path, list[bool]]:
    """Write as many questions, every second about a firm that is not there; return what is right."""
    rng, truth = random.Random(7), []  # noqa: S311  test data
    with path.with_suffix(".jsonl").open("w", encoding="utf-8") as file:
        for number in range(count):
            name, code, _ = firms[rng.randrange(len(firms))]
            truth.append(number % 2 == 0)
            file.write(json.dumps({"name": name, "code": code if truth[-1] else "X" + code[1:]}) + "\n")
    return path.with_suffix(".jsonl"), truth


def _opened(world: "World", recipe: "Recipe", session: "Session") -> tuple["Session", "Invitation", Cost]:
    """Open a session, waiting for the register; return what the node used for it."""
    from factory.client.match import Invitation
    from factory.federation.session import require
    from factory.pipelines import verification

    with Meter({NODE: world.processes[NODE].pid}) as meter:
        answers = require(
            verification.open_prepared(
                session, verification.parameters_of(recipe), recipe, now=lambda: datetime.now(UTC), retry_s=0.5
            )
        )
    return session, Invitation(session.order_envelopes[NODE], answers[NODE].envelope), meter.cost


def _asked(
    world: "World",
    invitation: "Invitation",
    questions: tuple[Path, list[bool]],
    *,
    batch: int,
    table: Path | None = None,
) -> dict[str, Any]:
    """Ask as the application unit, in its own process; return its facts and what the node used."""
    path, truth = questions
    answers, invited = path.with_suffix(".answers"), path.with_suffix(".invitation")
    invited.write_bytes(invitation.to_bytes())
    options = ["--table", str(table)] if table else []
    with Meter({NODE: world.processes[NODE].pid}) as meter:
        began = time.perf_counter()
        printed = world.run(
            UNIT, "factory.client.ask", "--home", str(world.client_home(UNIT)), "--relay", world.relay_url,
            "--invitation", str(invited), "--records", str(path), "--answers", str(answers), "--batch", str(batch),
            *options,
        )  # fmt: skip
        wall_s = time.perf_counter() - began
    facts: dict[str, Any] = json.loads(printed)
    found = [json.loads(line)["match"] for line in answers.read_text("utf-8").splitlines()]
    return {**facts, "wall_s": wall_s, "node_cpu_s": meter.cost.cpu_s, "right": found == truth}
