"""A node that is killed in the middle of training does not lose the round."""

import json
import os
import signal
from datetime import UTC, datetime

import pytest

from factory.federation.secagg import TooFewNodesError
from factory.pipelines import model
from factory.trial import run
from factory.trial.world import World
from tests import trials

pytestmark = pytest.mark.xdist_group("trials")


def train(planned, victims):
    """Train in a world of real processes and kill ``victims`` with SIGKILL after the second round."""
    killed = []
    with World(planned.recipe, planned.tables) as world:
        grant, digest, _ = world.grant()

        def kill(text):
            if text.startswith("train 2/") and not killed:
                for party in victims:
                    os.kill(world.processes[party].pid, signal.SIGKILL)
                    killed.append(world.processes[party].wait(10))

        built = model.build(
            planned.recipe,
            planned.recipe_bytes,
            world.session(grant, digest),
            now=lambda: datetime.now(UTC),
            progress=kill,
        )
    assert killed == [-signal.SIGKILL] * len(victims)
    return built


@pytest.mark.slow
def test_a_node_killed_in_training_is_left_out_and_the_model_is_made(tmp_path):
    planned = run.plan(trials.EXAMPLES / "model.toml", trials.clinic(tmp_path))
    built = train(planned, ["west"])
    assert built.participants == ("east", "north")
    assert sorted(built.node_runs) == ["east", "north"]
    assert built.metrics["auc_test_micro"] > 900_000
    card = json.loads(built.files["model_card.json"])
    assert [item["node"] for item in card["training"]["dropped"]] == ["west"]
    assert any("west" in zh and "退出" in zh for zh, _ in built.headline)


@pytest.mark.slow
def test_too_few_nodes_left_end_the_training_and_nothing_is_opened(tmp_path):
    planned = run.plan(trials.EXAMPLES / "model.toml", trials.clinic(tmp_path))
    with pytest.raises(TooFewNodesError):
        train(planned, ["west", "north"])
