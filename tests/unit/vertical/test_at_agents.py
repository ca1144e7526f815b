"""Training and joint scoring over real agents: statements, budget, what is refused, and what passes on the way."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from factory.errors import NodeRefusedError
from factory.federation import vertical_scoring
from factory.federation.parties import run_parties
from nodes.contract.grant import Budget
from nodes.contract.statement import NODE_RUN, read
from nodes.contract.tasks.vertical_score import TASK as SCORE
from nodes.contract.tasks.vertical_score import VerticalScoreParameters, combine
from nodes.tasks import model_parts
from nodes.tasks.catalogue import tasks
from tests.party_world import PartyWorld

ROWS = 120
A, B = "node-a", "node-b"
CANARY = "91310000CANARY0007"


def tables() -> dict[str, pd.DataFrame]:
    rng = np.random.default_rng(2)
    values = rng.normal(size=(ROWS, 4))
    labels = (values.sum(axis=1) + rng.normal(size=ROWS) > 0).astype(int)
    identifiers = [CANARY, *(f"id{place}" for place in range(1, ROWS))]
    left = pd.DataFrame({"id": identifiers, "y": labels, "a0": values[:, 0], "a1": values[:, 1]})
    right = pd.DataFrame({"id": identifiers, "b0": values[:, 2], "b1": values[:, 3]})
    return {A: left, B: right.sample(frac=1.0, random_state=1)}


def world_of(tmp_path, task: str, **options) -> PartyWorld:
    return PartyWorld(tmp_path, tables(), {task: tasks()[task]}, **options)


@pytest.fixture
def scoring(tmp_path):
    made = world_of(tmp_path, SCORE, budget=Budget(unit="query", total=5))
    yield made
    made.close()


def part(node: str, names: tuple[str, str], weights: tuple[float, float], intercept: float = 0.0) -> bytes:
    features = [
        {"name": name, "mean": (0.0).hex(), "scale": (1.0).hex(), "weight": weight.hex(), "zero_is_missing": False}
        for name, weight in zip(names, weights, strict=True)
    ]
    document = {"version": 1, "node": node, "intercept": intercept.hex(), "winsor_milli": 3000, "features": features}
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def asked(world: PartyWorld, entities) -> VerticalScoreParameters:
    documents = {A: part(A, ("a0", "a1"), (1.5, -0.5), 0.25), B: part(B, ("b0", "b1"), (2.0, 1.0))}
    digests = {
        node: model_parts.keep(str(world.homes[node][0].parts), document) for node, document in documents.items()
    }
    keys = {node: [{"column": "id"}] for node in (A, B)}
    return VerticalScoreParameters.model_validate(
        {"parts": digests, "keys": keys, "entities": [[name] for name in entities]}, strict=False
    )


def expected(name: str) -> float:
    left, right = (frame.set_index("id") for frame in tables().values())
    first, second = (np.clip(frame.loc[name], -3, 3) for frame in (left, right))
    return 0.25 + 1.5 * first["a0"] - 0.5 * first["a1"] + 2.0 * second["b0"] + second["b1"]


def test_joint_scores_are_the_sums_of_the_parts(scoring):
    names = ["id7", CANARY, "id50"]
    found = vertical_scoring.score(scoring.session(), asked(scoring, names), scoring.resources())
    assert found == pytest.approx([expected(name) for name in names], abs=1e-6)


def test_a_part_alone_says_nothing_and_differs_each_time(scoring):
    chosen = asked(scoring, ["id7"])
    runs = [
        run_parties(scoring.session(), SCORE, chosen.model_dump(mode="json"), scoring.resources()) for _ in range(2)
    ]
    alone = [run[A].attachments[0] for run in runs]
    assert alone[0] != alone[1]
    assert combine([runs[0][A].attachments[0], runs[1][B].attachments[0]], 1)[0] != pytest.approx(
        expected("id7"), abs=1
    )


def test_an_entity_that_one_node_does_not_have_counts_there_as_the_mean(scoring):
    assert vertical_scoring.score(scoring.session(), asked(scoring, ["nobody"]), scoring.resources()) == pytest.approx(
        [0.25]
    )


def test_scores_beyond_the_budget_are_refused(scoring):
    with pytest.raises(NodeRefusedError, match="budget"):
        vertical_scoring.score(scoring.session(), asked(scoring, [f"id{n}" for n in range(1, 7)]), scoring.resources())


def test_a_part_that_a_node_does_not_keep_is_refused(scoring):
    chosen = asked(scoring, ["id7"])
    other = chosen.model_copy(update={"parts": {**chosen.parts, B: "ab" * 32}})
    with pytest.raises(NodeRefusedError, match="is none"):
        vertical_scoring.score(scoring.session(), other, scoring.resources())


def test_a_part_whose_file_was_altered_is_refused(scoring):
    chosen = asked(scoring, ["id7"])
    path = scoring.homes[B][0].parts / f"{chosen.parts[B]}.json"
    path.write_bytes(path.read_bytes().replace(b"b0", b"b1", 1))
    with pytest.raises(NodeRefusedError, match="expected the bytes"):
        vertical_scoring.score(scoring.session(), chosen, scoring.resources())


@pytest.mark.slow
def test_agents_train_keep_their_parts_and_state_their_runs(tmp_path):
    world = world_of(tmp_path, "linear.vertical")
    try:
        wanted = {
            "label_party": A,
            "label": {"column": "y", "operator": "eq", "values": [1]},
            "keys": {node: [{"column": "id"}] for node in (A, B)},
            "features": {A: ["a0", "a1"], B: ["b0", "b1"]},
            "rounds": 4,
            "degree": 3,
        }
        told = []
        found = run_parties(world.session(), "linear.vertical", wanted, world.resources(), on_progress=told.append)
        assert found[A].body["metrics"]["auc_test_micro"] > 800_000
        for node, result in found.items():
            _, statement = read(result.statement.payload, NODE_RUN)
            assert statement["facts"]["training_rounds"] == 4
            digest = result.body["part_sha256"]
            assert digest.encode() in result.statement.payload
            kept = world.homes[node][0].parts / f"{digest}.json"
            assert kept.stat().st_mode & 0o777 == 0o600
            assert result.attachments == ()
            assert b"weight" not in json.dumps(result.body).encode()
        assert not any(CANARY.encode() in parcel for _, _, parcel in world.seen)
        assert told[-1][A]["progress"]["round"] == 4
    finally:
        world.close()


@pytest.mark.slow
def test_three_parties_train_what_two_would(tmp_path):
    joined = tables()
    names = {A: ["a0", "a1"], B: ["b0"], "node-c": ["b1"]}
    held = {
        A: joined[A],
        B: joined[B][["id", "b0"]],
        "node-c": joined[B][["id", "b1"]].sample(frac=1.0, random_state=4),
    }
    spec = {"linear.vertical": tasks()["linear.vertical"]}
    world = PartyWorld(tmp_path, held, spec)
    try:
        wanted = {
            "label_party": A,
            "label": {"column": "y", "operator": "eq", "values": [1]},
            "keys": {node: [{"column": "id"}] for node in names},
            "features": names,
            "rounds": 10,
            "degree": 7,
            "l2_micro": 50_000,
        }
        found = run_parties(world.session(), "linear.vertical", wanted, world.resources())
        assert {result.body["rounds"] for result in found.values()} <= set(range(5, 11))
        weights = {}
        for node, result in found.items():
            document = model_parts.load(str(world.homes[node][0].parts), result.body["part_sha256"])
            weights |= {item["name"]: float.fromhex(item["weight"]) for item in document["features"]}
        both = joined[A].merge(joined[B], on="id")
        columns = ["a0", "a1", "b0", "b1"]
        units = ((both[columns] - both[columns].mean()) / both[columns].std()).clip(-3, 3)
        pooled = LogisticRegression(C=1 / (0.05 * len(both))).fit(units, both["y"]).coef_[0]
        # Trained on four fifths of the rows, with a polynomial for the sigmoid.
        assert np.abs(np.array([weights[name] for name in columns]) - pooled).max() < 0.25
    finally:
        world.close()


@pytest.mark.slow
def test_a_node_that_dies_and_returns_goes_on_at_the_last_completed_round(tmp_path):
    world = world_of(tmp_path, "linear.vertical")
    killed = []

    def on_progress(news) -> None:
        if not killed and news.get(A, {}).get("progress", {}).get("round", 0) >= 2:
            killed.append(news[A]["progress"]["round"])
            world.kill(B)
            world.start(B)

    try:
        wanted = {
            "label_party": A,
            "label": {"column": "y", "operator": "eq", "values": [1]},
            "keys": {node: [{"column": "id"}] for node in (A, B)},
            "features": {A: ["a0", "a1"], B: ["b0", "b1"]},
            "rounds": 6,
            "degree": 3,
            "tolerance_micro": 0,
            "metrics": False,
        }
        found = run_parties(world.session(), "linear.vertical", wanted, world.resources(), on_progress=on_progress)
        assert killed
        assert {result.body["rounds"] for result in found.values()} == {6}
        assert len(found[A].body["moved_micro"]) == 6
        _, statement = read(found[B].statement.payload, NODE_RUN)
        assert statement["facts"]["epochs"] >= 2
    finally:
        world.close()
