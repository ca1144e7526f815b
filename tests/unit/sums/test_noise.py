"""Differential privacy of sums: noise at every department, of the stated size, paid for in its ledger."""

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

pytest.importorskip("opendp")

from factory.errors import NodeRefusedError
from factory.federation.session import Refusal
from factory.federation.sums import TooFewContributorsError
from nodes.contract.tasks.studies import Study
from nodes.contract.tasks.sums import Category, Measure, Privacy, SumsParameters, layout
from nodes.privacy.counting import vector
from nodes.privacy.noise import noised
from tests.sums_world import FRAMES, World

CATEGORIES = (Category(column="kind", values=("a", "b", "c")),)
MEASURES = (
    Measure(name="by-kind", kind="count", by=("kind",)),
    Measure(name="fines", kind="sum", column="fine", by=("kind",), scale=1, lower=0, upper=100),
)
PARAMETERS = SumsParameters(measures=MEASURES, categories=CATEGORIES, privacy=Privacy(epsilon_micro=3_000_000))


def test_the_noise_has_the_scale_that_epsilon_asks_for() -> None:
    values = [1000] * len(layout(PARAMETERS))
    draws = np.array([noised(values, PARAMETERS) for _ in range(400)]) - 1000
    parts = np.array([item.part for item in layout(PARAMETERS)])
    # Three kinds of numbers share epsilon 3: each has 1. Discrete Laplace: variance 2 q / (1 - q)**2 with q = exp(-1/scale).
    q = np.exp(-1.0)
    assert draws[:, parts == "count"].var() == pytest.approx(2 * q / (1 - q) ** 2, rel=0.2)
    assert draws[:, parts == "sum"].std() == pytest.approx(np.sqrt(2) * 100, rel=0.15)
    assert abs(draws[:, parts == "count"].mean()) < 0.2


def test_a_smaller_epsilon_makes_more_noise_and_without_privacy_there_is_none() -> None:
    less = PARAMETERS.model_copy(update={"privacy": Privacy(epsilon_micro=300_000)})
    assert less.noise_scale("count", MEASURES[0]) == 10 * PARAMETERS.noise_scale("count", MEASURES[0]) == 10.0
    assert PARAMETERS.model_copy(update={"privacy": None}).noise_scale("count", MEASURES[0]) == 0.0


def test_over_the_protocol_every_department_pays_and_figures_are_within_the_stated_error(tmp_path) -> None:
    world = World(tmp_path)
    statistics = world.compute(PARAMETERS)
    assert [node.lost for node in world.trial.nodes.values()] == [[3_000_000]] * 3
    pooled = pd.concat(FRAMES.values())
    counts = pooled["kind"].value_counts()
    table = statistics.tables[0]
    assert statistics.document["privacy"] == {"epsilon_micro": 3_000_000}
    for cell in table["cells"]:
        if cell["at"][0] in counts.index:
            assert abs(cell["value"] - counts[cell["at"][0]]) <= 4 * table["error"]
    assert 0 < table["error"] < 20


def test_a_department_whose_budget_is_spent_gives_nothing(tmp_path) -> None:
    from nodes.tasks.spec import TaskRefusedError

    world = World(tmp_path)

    class Spent(list):
        def append(self, units: int) -> None:
            raise TaskRefusedError("grant.budget", "spent")

    world.trial.nodes["node-east"].lost = Spent()
    answers = world.session().open("sums.ckks", PARAMETERS.model_dump(mode="json"), world.trial.resources())
    assert isinstance(answers["node-east"], Refusal)
    assert answers["node-east"].code == "grant.budget"
    with pytest.raises((TooFewContributorsError, NodeRefusedError)):
        world.compute(PARAMETERS)


def test_equal_rows_give_unlike_vectors() -> None:
    values = vector(FRAMES["node-east"], PARAMETERS)
    assert noised(values, PARAMETERS) != noised(values, PARAMETERS)


@pytest.mark.parametrize(
    "change",
    [
        {"measures": (Measure(name="m", kind="sum", column="fine", lower=0),)},
        {"measures": (Measure(name="m", kind="mean", column="fine", lower=0, upper=9, squares=True),)},
        {"studies": (Study(name="t", kind="top", by=("kind",)),)},
    ],
)
def test_noise_for_figures_without_a_bound_is_refused(change) -> None:
    with pytest.raises(ValidationError):
        SumsParameters(**{"measures": MEASURES, "categories": CATEGORIES, "privacy": PARAMETERS.privacy} | change)
