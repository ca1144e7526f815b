"""Private joins between real node processes over a real relay: sizes, the command, and a node that is killed."""

import csv
import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from factory.errors import NodeRefusedError
from factory.federation.parties import run_parties
from factory.pipelines.build import uses_of
from factory.pipelines.recipe import read_recipe
from factory.trial.world import World
from nodes.contract.statement import NODE_RUN, read
from tests.trials import EXAMPLES, ROOT, changed, command

pytestmark = pytest.mark.slow


def registers(folder: Path, first: int = 400, second: int = 500, common: int = 150) -> dict[str, Path]:
    """Write two registers of enterprises whose codes are written in different ways."""
    east, west = folder / "east.csv", folder / "west.csv"
    with east.open("w", encoding="utf-8", newline="") as stream:
        rows = [(f"９１11０108MA{number:08d}",) for number in range(first)]
        csv.writer(stream).writerows([("credit_code",), *rows])
    with west.open("w", encoding="utf-8", newline="") as stream:
        rows = [(f" 911101 08ma{number:08d} ",) for number in range(first - common, first - common + second)]
        csv.writer(stream).writerows([("code",), *rows])
    return {"east": east, "west": west}


@pytest.mark.parametrize("mode", ["alignment", "intersection", "cardinality", "prepared", "union"])
def test_the_command_joins_two_files_and_prints_what_it_cost(tmp_path, mode):
    recipe = changed("join.toml", tmp_path, ('mode = "alignment"', f'mode = "{mode}"'))
    done = subprocess.run(
        command(recipe, registers(tmp_path), "--json", "--out", str(tmp_path / "out")),
        capture_output=True, cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    printed = json.loads(done.stdout)
    assert printed["metrics"]["common"] == 150
    assert printed["product"]["participants"] == ["east", "west"]
    assert all(printed["cost"]["parties"][node]["bytes_sent"] > 0 for node in ("east", "west"))
    assert json.loads((tmp_path / "out" / "method.json").read_text("utf-8"))["mode"] == mode


def test_too_few_common_rows_are_one_clear_message(tmp_path):
    recipe = changed("join.toml", tmp_path, ("rows_min = 10           #", "rows_min = 151           #"))
    done = subprocess.run(
        command(recipe, registers(tmp_path), "--json"), capture_output=True, cwd=ROOT, check=False, text=True
    )
    assert done.returncode == 1
    assert "expected at least 151 common rows" in done.stderr
    assert "150" not in done.stderr


@pytest.mark.parametrize("victim", ["east", "west"])
def test_a_node_killed_in_the_middle_returns_and_the_join_completes(tmp_path, victim):
    recipe = read_recipe(EXAMPLES / "join.toml")
    tables = registers(tmp_path, 60_000, 60_000, 20_000)
    with World(recipe, tables) as world:
        grant, digest, _ = world.grant()
        session = world.session(grant, digest)
        found: dict = {}
        problems: list[Exception] = []
        started = threading.Event()

        def drive() -> None:
            try:
                found.update(
                    run_parties(
                        session, "psi.join", recipe.parameters, uses_of(recipe), on_progress=lambda _: started.set()
                    )
                )
            except (NodeRefusedError, AssertionError) as error:
                problems.append(error)

        driver = threading.Thread(target=drive)
        driver.start()
        assert started.wait(60)
        os.kill(world.processes[victim].pid, signal.SIGKILL)
        world.processes[victim].wait(10)
        time.sleep(0.5)
        world._start(victim, "nodes.agent.serve", "--home", str(world._home(victim)))
        driver.join(120)
        assert problems == []
        assert {result.body["common"] for result in found.values()} == {20_000}
        predicates = [read(result.statement.payload, NODE_RUN)[1] for result in found.values()]
        assert {predicate["facts"]["epochs"] for predicate in predicates} == {2}
