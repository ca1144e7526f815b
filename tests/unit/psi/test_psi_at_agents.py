"""``psi.join`` over real agents: tables, grants, statements, minimum, and what leaves a node."""

import numpy as np
import pandas as pd
import pytest

from factory.errors import NodeRefusedError
from factory.federation.parties import run_parties
from nodes.contract.grant import Thresholds
from nodes.contract.statement import NODE_RUN, read
from nodes.tasks.catalogue import tasks
from tests.party_world import PartyWorld

CANARY = "CANARY-91827364"


def frame(start: int, end: int) -> pd.DataFrame:
    ids = [f"K{number:08d}" for number in range(start, end)]
    return pd.DataFrame({"id": [CANARY, *ids[1:]], "value": list(range(end - start))}).sample(
        frac=1, random_state=start
    )


def parameters(mode: str, receiver: str = "node-a", nodes=("node-a", "node-b"), **changes) -> dict:
    field = {"column": "id", "rules": ["width", "trim", "upper"]}
    return {"mode": mode, "receiver": receiver, "keys": {node: [field] for node in nodes}, **changes}


@pytest.fixture
def world(tmp_path):
    thresholds = Thresholds(rows_min=10, contributors_min=2, cell_min=5, round_base=5, quality_score_min=0)
    made = PartyWorld(
        tmp_path, {"node-a": frame(0, 120), "node-b": frame(60, 200)}, {"psi.join": tasks()["psi.join"]}, thresholds
    )
    yield made
    made.close()


def rows_of(world: PartyWorld, node: str) -> np.ndarray:
    (path,) = (world.homes[node][0].home / "joins").glob("*.npy")
    return np.load(path)


@pytest.mark.parametrize("receiver", ["node-a", "node-b"])
def test_the_receiver_keeps_its_common_rows_and_the_operator_hears_a_rounded_count(world, receiver):
    found = run_parties(world.session(), "psi.join", parameters("intersection", receiver), world.resources())
    tables = {node: table["id"].to_numpy() for node, table in world.tables.items()}
    common = set(tables["node-a"]) & set(tables["node-b"])
    assert set(tables[receiver][rows_of(world, receiver)]) == common
    assert {result.body["common"] for result in found.values()} == {len(common) // 5 * 5}
    other = "node-b" if receiver == "node-a" else "node-a"
    assert not (world.homes[other][0].home / "joins").exists()
    _, predicate = read(found[receiver].statement.payload, NODE_RUN)
    assert predicate["contributors"] == 2


def test_alignment_gives_all_nodes_the_same_rows_in_the_same_order(tmp_path):
    nodes = ("node-a", "node-b", "node-c")
    tables = {"node-a": frame(0, 120), "node-b": frame(60, 200), "node-c": frame(30, 110)}
    world = PartyWorld(tmp_path, tables, {"psi.join": tasks()["psi.join"]})
    run_parties(world.session(), "psi.join", parameters("alignment", nodes=nodes), world.resources())
    joined = [world.tables[node]["id"].to_numpy()[rows_of(world, node)].tolist() for node in nodes]
    assert joined[0] == joined[1] == joined[2]
    assert set(joined[0]) == set.intersection(*(set(table["id"]) for table in tables.values()))
    world.close()


def test_cardinality_leaves_no_rows_anywhere(world):
    found = run_parties(world.session(), "psi.join", parameters("cardinality"), world.resources())
    common = set(world.tables["node-a"]["id"]) & set(world.tables["node-b"]["id"])
    assert found["node-a"].body["common"] == len(common) // 5 * 5
    assert not any((world.homes[node][0].home / "joins").exists() for node in world.nodes)


@pytest.mark.parametrize("mode", ["intersection", "alignment", "cardinality", "prepared", "union"])
def test_fewer_common_rows_than_the_minimum_end_the_session_at_both(world, mode):
    with pytest.raises(NodeRefusedError) as refused:
        run_parties(world.session(), "psi.join", parameters(mode, rows_min=100), world.resources())
    assert refused.value.refusal_code == "resource.rows"
    assert all(len(agent.sessions) == 0 for agent in world.agents.values())
    assert not (world.homes["node-b"][0].home / "joins").exists()


def test_no_value_leaves_a_node(world):
    run_parties(world.session(), "psi.join", parameters("alignment"), world.resources())
    leaked = [parcel for _, _, parcel in world.seen if CANARY.encode() in parcel or b"K0000" in parcel]
    assert leaked == []
    for node in world.nodes:
        home = world.homes[node][0].home
        texts = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file() and path.name != "table.csv")
        assert CANARY.encode() not in texts


@pytest.mark.parametrize(
    "changed",
    [
        {"keys": {node: [{"column": "id", "rules": ["trim"]}] for node in ("node-a", "node-b")}},
        {"receiver": "node-b"},
        {"rows_min": 11},
    ],
)
def test_a_second_comparison_that_differs_is_refused_under_the_same_grant(world, changed):
    # Intersection differencing: two comparisons that differ in little give away what lies between them.
    run_parties(world.session(), "psi.join", parameters("intersection"), world.resources())
    with pytest.raises(NodeRefusedError) as refused:
        run_parties(world.session(), "psi.join", {**parameters("intersection"), **changed}, world.resources())
    assert refused.value.refusal_code == "grant.exhausted"


@pytest.mark.parametrize(
    "wrong",
    [
        {"keys": {"node-a": [{"column": "id"}]}},
        {"receiver": "node-c"},
        {"keys": {"node-a": [{"column": "id", "rules": ["trim"]}], "node-b": [{"column": "id", "rules": ["upper"]}]}},
        {"suite": "weaker"},
        {"mode": "plain"},
        {"rows_min": 0},
    ],
)
def test_wrong_parameters_are_refused(world, wrong):
    with pytest.raises(NodeRefusedError) as refused:
        run_parties(world.session(), "psi.join", {**parameters("intersection"), **wrong}, world.resources())
    assert refused.value.refusal_code == "task.parameters"


def test_a_column_that_the_order_does_not_name_is_refused(world):
    chosen = parameters("intersection", keys={node: [{"column": "other"}] for node in world.nodes})
    with pytest.raises(NodeRefusedError) as refused:
        run_parties(world.session(), "psi.join", chosen, world.resources())
    assert refused.value.refusal_code == "grant.column"


def test_a_prepared_side_is_made_once_for_many_sessions(world):
    chosen = parameters("prepared")
    first = run_parties(world.session(), "psi.join", chosen, world.resources())
    common = set(world.tables["node-a"]["id"]) & set(world.tables["node-b"]["id"])
    assert first["node-a"].body["common"] == len(common) // 5 * 5
    (path,) = (world.homes["node-b"][0].home / "prepared").iterdir()
    made = path.stat().st_mtime_ns
    second = run_parties(world.session(), "psi.join", chosen, world.resources())
    assert path.stat().st_mtime_ns == made
    assert second["node-b"].bytes_sent < first["node-b"].bytes_sent
    assert set(world.tables["node-a"]["id"].to_numpy()[np.load(newest(world, "node-a"))]) == common


def newest(world: PartyWorld, node: str):
    return max((world.homes[node][0].home / "joins").glob("*.npy"), key=lambda path: path.stat().st_mtime_ns)
