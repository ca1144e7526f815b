"""Composite index: against the pooled computation, over the protocol, and what must be refused."""

import math

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from factory.agency.decrypting import DecryptionRefusedError
from factory.agency.index import composite, releases_left
from factory.errors import NodeRefusedError
from factory.federation.session import Refusal, require
from factory.federation.sums import TooFewContributorsError, compute
from nodes.contract import canonical
from nodes.contract.tasks.index import Band, Domain, IndexParameters, Indicator
from nodes.privacy import scoring
from nodes.tasks.catalogue import tasks
from tests.sums_world import World

NODES = ("node-east", "node-north", "node-west")
AREAS = tuple(f"area-{number:02d}" for number in range(14))
RNG = np.random.default_rng(11)


def table(columns: tuple[str, ...]) -> pd.DataFrame:
    return pd.DataFrame({"area": AREAS} | {name: RNG.gamma(3, 20, len(AREAS)).round(2) for name in columns})


TABLES = {
    "node-east": table(("firms", "failures")),
    "node-north": table(("patents", "papers", "grants")),
    "node-west": table(("arrears",)),
}
DOMAINS = (
    Domain(
        name="vitality",
        node="node-east",
        weight_permille=500,
        weighting="fixed",
        indicators=(
            Indicator(name="firms", column="firms", direction="higher", weight_permille=700),
            Indicator(name="failures", column="failures", direction="lower", weight_permille=300),
        ),
    ),
    Domain(
        name="science",
        node="node-north",
        weight_permille=300,
        weighting="critic",
        indicators=tuple(
            Indicator(name=name, column=name, direction="higher") for name in ("patents", "papers", "grants")
        ),
    ),
    Domain(
        name="tax",
        node="node-west",
        weight_permille=200,
        indicators=(Indicator(name="arrears", column="arrears", direction="lower"),),
    ),
)
BANDS = (Band(name="C", from_x100=0), Band(name="B", from_x100=4000), Band(name="A", from_x100=6000))


def parameters(**fields) -> IndexParameters:
    return IndexParameters(key="area", entities=AREAS, domains=DOMAINS, bands=BANDS, **fields)


def minmax(values: np.ndarray, *, lower: bool = False) -> np.ndarray:
    signed = -values if lower else values
    return 1 + 99 * (signed - signed.min()) / (signed.max() - signed.min())


def published(index: IndexParameters, tables=None) -> dict:
    """Nodes' vectors added and the agency's half, without encryption."""
    tables = tables or TABLES
    vectors = []
    for domain in index.domains:
        scores = scoring.domain_scores(tables[domain.node], domain, index)
        vectors.append(scoring.vector(scores, scoring.domain_weight(scores, domain, index), index))
    return composite(index, [sum(column) for column in zip(*vectors, strict=True)], [d.node for d in index.domains])


def test_the_composite_equals_the_pooled_computation() -> None:
    east, north, west = (TABLES[node] for node in NODES)
    vitality = 0.7 * minmax(east["firms"].to_numpy()) + 0.3 * minmax(east["failures"].to_numpy(), lower=True)
    matrix = np.stack([minmax(north[name].to_numpy()) for name in ("patents", "papers", "grants")], axis=1)
    critic = matrix.std(axis=0) * (1 - np.corrcoef(matrix.T)).sum(axis=0)
    science = matrix @ (critic / critic.sum())
    tax = minmax(west["arrears"].to_numpy(), lower=True)
    expected = 0.5 * vitality + 0.3 * science + 0.2 * tax
    rows = published(parameters())["rows"]
    assert [row["entity"] for row in rows] == list(AREAS)
    for row, value in zip(rows, expected, strict=True):
        assert abs(row["score_x100"] - 100 * value) <= 0.51
        assert row["band"] == ("A" if row["score_x100"] >= 6000 else "B" if row["score_x100"] >= 4000 else "C")
    order = np.argsort(-expected)
    assert [rows[place]["rank"] for place in order] == list(range(1, 15))


def test_a_geometric_mean_equals_the_pooled_computation() -> None:
    index = parameters(aggregation="geometric", domain_weighting="equal")
    logs = sum(np.log(scoring.domain_scores(TABLES[d.node], d, index)) for d in index.domains) / 3
    for row, value in zip(published(index)["rows"], np.exp(logs), strict=True):
        assert abs(row["score_x100"] - 100 * value) <= 0.51


def test_entropy_weights_between_domains_equal_the_pooled_ones() -> None:
    index = parameters(domain_weighting="entropy")
    scores = np.stack([scoring.domain_scores(TABLES[d.node], d, index) for d in index.domains], axis=1)
    share = scores / scores.sum(axis=0)
    divergence = 1 + (share * np.log(share)).sum(axis=0) / math.log(len(AREAS))
    for row, value in zip(published(index)["rows"], scores @ divergence / divergence.sum(), strict=True):
        assert abs(row["score_x100"] - 100 * value) <= 0.51


@pytest.mark.parametrize(
    ("normalisation", "expected"),
    [
        ("minmax", [1.0, 34.0, 100.0]),
        ("rank", [1.0, 50.5, 100.0]),
        ("z", [50 - 10 * 4 / math.sqrt(14 / 3 * 2), None, None]),
        ("exponential", [60.0, 60 * (100 / 60) ** (1 / 3), 100.0]),
    ],
)
def test_each_normalisation_by_hand(normalisation: str, expected: list) -> None:
    index = parameters(normalisation=normalisation, missing="leave_out")
    frame = pd.DataFrame({"area": AREAS[:3], "arrears": [9.0, 7.0, 3.0]})
    found = scoring.domain_scores(frame, DOMAINS[2], index)
    assert np.isnan(found[3:]).all()
    if normalisation == "z":
        values = -np.array([9.0, 7.0, 3.0])
        expected = list(50 + 10 * (values - values.mean()) / values.std())
    assert found[:3] == pytest.approx(expected)


@pytest.mark.parametrize("weighting", ["fixed", "equal", "entropy", "critic", "pca"])
def test_weights_within_a_domain_add_up_and_a_copy_counts_less_under_critic(weighting: str) -> None:
    one, other = RNG.normal(size=50), RNG.normal(size=50)
    scores = np.stack([minmax(one), minmax(one) * 0.999 + 0.05, minmax(other)], axis=1)
    indicators = tuple(Indicator(name=name, column=name, direction="higher") for name in "abc")
    weights = scoring._weights(scores, Domain(name="d", node="n", indicators=indicators, weighting=weighting))
    assert weights.sum() == pytest.approx(1)
    assert (weights >= 0).all()
    if weighting == "critic":
        assert weights[2] > weights[0]
    if weighting == "pca":
        assert weights[0] > weights[2]


def test_missing_values_follow_the_rule() -> None:
    lacking = TABLES | {"node-west": TABLES["node-west"].iloc[1:]}
    with pytest.raises(ValueError, match="for every entity"):
        published(parameters(), lacking)
    left_out = published(parameters(missing="leave_out"), lacking)["rows"]
    assert left_out[0] == {
        "entity": "area-00",
        "score_x100": None,
        "rank": None,
        "band": "",
        "domains": 2,
        "state": "suppressed",
        "reason": "domains",
    }
    assert left_out[1]["score_x100"] is not None
    mean = published(parameters(missing="mean"), lacking)["rows"]
    zero = published(parameters(missing="zero"), lacking)["rows"]
    assert mean[0]["score_x100"] != zero[0]["score_x100"]
    assert None not in (mean[0]["score_x100"], zero[0]["score_x100"])
    double = TABLES | {"node-west": pd.concat([TABLES["node-west"]] * 2)}
    with pytest.raises(ValueError, match="one row per entity"):
        published(parameters(), double)


def test_sensitivity_equals_the_index_made_without_the_domain() -> None:
    index = parameters()
    whole = published(index)
    composite_scores = np.array([row["score_x100"] / 100 for row in whole["rows"]])
    scores = {d.node: scoring.domain_scores(TABLES[d.node], d, index) for d in index.domains}
    found = scoring.sensitivity(scores["node-east"], 0.5, composite_scores, 1.0, index)
    without = (0.3 * scores["node-north"] + 0.2 * scores["node-west"]) / 0.5
    ranks = [pd.Series(-values).rank().to_numpy() for values in (composite_scores, without)]
    assert found["weight_permille"] == 500
    assert found["without_correlation_x100"] == round(100 * np.corrcoef(*ranks)[0, 1])
    assert found["without_shift_max"] == np.abs(ranks[0] - ranks[1]).max()
    assert found["more_correlation_x100"] > found["without_correlation_x100"]


def world_of(tmp_path, **fields) -> World:
    world = World(tmp_path, frames=dict(TABLES), spec=tasks()["index.ckks"])
    world.set_grant(tasks=("index.ckks",), uses_max=5, product_form="index", **fields)
    return world


def run(world: World, index: IndexParameters, session=None):
    return compute(
        session or world.session(), index, world.trial.resources(), world.call, grant_envelopes=world.envelopes
    )


def test_over_the_protocol_the_composite_is_opened_and_each_department_tells_its_own_sensitivity(tmp_path) -> None:
    world, index = world_of(tmp_path), parameters()
    session = world.session()
    statistics = run(world, index, session)
    assert statistics.document == canonical.loads(canonical.dumps(published(index)))
    told = require(session.step("index.sensitivity", {node: {} for node in NODES}))
    assert {node: reply.body["weight_permille"] for node, reply in told.items()} == {
        "node-east": 500,
        "node-north": 300,
        "node-west": 200,
    }
    again = session.step("index.sensitivity", {"node-east": {}})["node-east"]
    assert isinstance(again, Refusal)
    assert again.code == "task.protocol"
    assert require(session.close())["node-east"].body["contributors"] == 3


def test_sensitivity_before_the_release_is_refused(tmp_path) -> None:
    world = world_of(tmp_path)
    session = world.session()
    session.open("index.ckks", parameters().model_dump(mode="json"), world.trial.resources())
    answer = session.step("index.sensitivity", {"node-east": {}})["node-east"]
    assert answer.code == "task.protocol"


def test_a_second_index_with_other_weights_over_three_domains_is_not_opened(tmp_path) -> None:
    world, index = world_of(tmp_path), parameters()
    run(world, index)
    world.set_grant(grant_id="g-second")
    other = index.model_copy(update={"domain_weighting": "equal"})
    with pytest.raises(DecryptionRefusedError) as refused:
        run(world, other)
    assert refused.value.refusal_code == "grant.exhausted"
    world.set_grant(grant_id="g-third")
    assert run(world, index).document["kind"] == "index"  # the same index again is no new equation


@pytest.mark.parametrize(("domains", "earlier", "left"), [(3, 0, 1), (3, 1, 0), (4, 1, 1), (5, 1, 2), (5, 3, 0)])
def test_the_number_of_indices_leaves_every_department_an_unknown_more(domains: int, earlier: int, left: int) -> None:
    listed = tuple(DOMAINS[2].model_copy(update={"name": f"d{n}", "node": f"n{n}"}) for n in range(domains))
    index = IndexParameters(key="area", entities=AREAS, domains=listed)
    assert releases_left(index, [f"{number:064d}" for number in range(earlier)] + [index.sha256]) == left


def test_an_index_without_one_of_its_domains_is_not_opened(tmp_path) -> None:
    world = world_of(tmp_path)
    world.trial.bus.down.add("node-west")
    with pytest.raises((TooFewContributorsError, NodeRefusedError, DecryptionRefusedError)):
        run(world, parameters())


def test_a_node_without_a_domain_or_with_missing_values_refuses_the_order(tmp_path) -> None:
    world = world_of(tmp_path)
    foreign = parameters().model_copy(
        update={"domains": (DOMAINS[0].model_copy(update={"node": "node-other"}), *DOMAINS[1:])}
    )
    answers = world.session().open("index.ckks", foreign.model_dump(mode="json"), world.trial.resources())
    assert {node: answer.code for node, answer in answers.items()} == dict.fromkeys(NODES, "task.parameters")
    more = parameters().model_copy(update={"entities": (*AREAS, "area-99")})
    answers = world.session().open("index.ckks", more.model_dump(mode="json"), world.trial.resources())
    assert {answer.code for answer in answers.values()} == {"task.parameters"}


@pytest.mark.parametrize(
    "build",
    [
        lambda: parameters(domains_min=4),
        lambda: parameters(domains_min=2),
        lambda: IndexParameters(key="area", entities=AREAS, domains=DOMAINS[:2]),
        lambda: IndexParameters(key="area", entities=AREAS[:9], domains=DOMAINS),
        lambda: IndexParameters(key="area", entities=AREAS, domains=(*DOMAINS[:2], DOMAINS[0])),
        lambda: IndexParameters(key="area", entities=AREAS, domains=DOMAINS, bands=BANDS[1:]),
        lambda: IndexParameters(key="area", entities=AREAS, domains=DOMAINS, domain_weighting="critic"),
        lambda: Domain(name="d", node="n", weighting="pca", indicators=DOMAINS[2].indicators),
        lambda: Indicator(name="i", column="c", direction="higher", aggregate="count"),
        lambda: Indicator(name="i", direction="higher"),
    ],
)
def test_an_index_that_makes_no_sense_or_would_leak_is_refused(build) -> None:
    with pytest.raises(ValidationError):
        build()
