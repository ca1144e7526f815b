"""What the nodes' attacks find on a model that generalises, and on ones that remember."""

import numpy as np
import pandas as pd
import pytest

from factory.federation import linear as operator_half
from factory.federation.secagg import NodeReplyError
from factory.law.files import proposed
from factory.review.suite import Limits, run_tests
from nodes.contract.messages import Condition
from nodes.contract.tasks import linear
from nodes.contract.tasks.descent import UNIT, Descent
from nodes.contract.tasks.linear import BINS, LinearParameters, digits
from nodes.tasks import linear_attacks, linear_rows
from nodes.tasks.catalogue import tasks
from nodes.tasks.linear_rows import Rows
from tests.federation_harness import Trial

LIMITS = Limits(10, 5, proposed("NATIONAL").review)


def tables(rows, features, *, nodes=3, seed=1):
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=features) / np.sqrt(features)
    parts = []
    for _ in range(nodes):
        values = rng.normal(size=(rows, features))
        positive = rng.random(rows) < 1 / (1 + np.exp(-values @ truth))
        test = rng.random(rows) < 0.3
        parts.append(Rows(values[~test], positive[~test], values[test], positive[test]))
    return parts


def trained(parts, **changes):
    """Train in the clear, with the arithmetic of both halves and no masks."""
    count = parts[0].train.shape[1]
    label = Condition(column="y", operator="eq", values=(1,))
    parameters = LinearParameters(features=tuple(f"f{n}" for n in range(count)), label=label, **changes)
    descent = Descent(parameters)
    while descent.expected != "linear.score":
        descent.take([sum(column) for column in zip(*(vector(part, descent) for part in parts), strict=True)])
    return descent


def vector(part, descent):
    count = len(descent.parameters.features)
    if descent.expected == "linear.means":
        present, totals = linear_rows.present_totals(part.train)
        moments = [x for n, total in zip(present, totals, strict=True) for x in (int(n), *digits(float(total)))]
        return [len(part.train), int(part.train_positive.sum()), *moments]
    if descent.expected == "linear.gram":
        centred = linear_rows.centred(part.train, np.array(descent.means))
        return [x for value in (centred.T @ centred)[np.triu_indices(count)] for x in digits(float(value))]
    moved = linear_rows.steps(
        linear_rows.standardised(part.train, np.array(descent.means), np.array(descent.scales)),
        part.train_positive,
        np.array(descent.point),
        preconditioner=np.array(descent.inverse),
        penalty=descent.parameters.l2_micro / 1e6,
        count=1,
    )
    return [len(part.train), *(round(float(weight) * len(part.train) * UNIT) for weight in moved)]


def attacked(parts, descent):
    counts = [linear_attacks.measure(part, descent, node=f"n{n}") for n, part in enumerate(parts)]
    total = [sum(column) for column in zip(*counts, strict=True)]
    return operator_half.measure_attacks([0] * linear.SCORE_LENGTH + total, descent.parameters.features, cell_min=10)


def stopped(metrics):
    found = run_tests("model", {"model.onnx": b"x"}, metrics=metrics | {"membership_auc_micro": 0}, limits=LIMITS)
    return {finding.test for finding in found if not finding.is_ok}


@pytest.mark.requirement("RECON")
def test_a_model_that_generalises_passes():
    parts = tables(400, 5)
    metrics = attacked(parts, trained(parts))
    assert 450_000 < metrics["lira_auc_micro"] < 620_000
    assert metrics["lira_auc_low_micro"] < metrics["lira_auc_micro"] < metrics["lira_auc_high_micro"]
    assert metrics["memorised_rows"] == metrics["reconstructed_rows"] == 0
    assert stopped(metrics) == set()


@pytest.mark.requirement("RECON")
def test_an_overfit_model_is_stopped_by_its_likelihood_ratio():
    parts = tables(40, 30)
    metrics = attacked(parts, trained(parts, l2_micro=1, rounds=200, tolerance_micro=0))
    assert metrics["lira_auc_low_micro"] > 600_000
    assert {"membership_ratio", "memorised_rows"} <= stopped(metrics)


@pytest.mark.requirement("RECON")
@pytest.mark.parametrize(("l2_micro", "memorised"), [(1, 1), (10_000, 0)])
def test_a_row_with_a_feature_of_its_own_is_memorised_unless_the_penalty_forbids_it(l2_micro, memorised):
    parts = tables(400, 3)
    for number, part in enumerate(parts):
        train, test = (np.column_stack([rows, np.zeros(len(rows))]) for rows in (part.train, part.test))
        if number == 0:
            train[7, 3] = 1.0
            part.train_positive[7] = train[7, :3].sum() < 0
        parts[number] = Rows(train, part.train_positive, test, part.test_positive)
    metrics = attacked(parts, trained(parts, l2_micro=l2_micro, rounds=200, tolerance_micro=0))
    assert metrics["memorised_rows"] == memorised
    assert ("memorised_rows" in stopped(metrics)) is bool(memorised)


@pytest.mark.requirement("RECON")
def test_a_row_whose_gradient_was_opened_alone_is_rebuilt():
    parts = tables(400, 5)
    descent = trained(parts)
    row = linear_rows.standardised(parts[1].train[:1], np.array(descent.means), np.array(descent.scales))[0]
    ridge = np.array([0.0, *[descent.parameters.l2_micro / 1e6] * 5])
    point = np.array(descent.averages[0][0])
    opened = point - np.array(descent.inverse) @ (0.4 * row + ridge * point)  # as if the round had had one row
    descent.averages[0] = (list(point), list(opened))
    metrics = attacked(parts, descent)
    assert metrics["reconstructed_rows"] == 1
    assert stopped(metrics) == {"reconstruction"}


@pytest.mark.parametrize("features", [1, 2])
def test_with_few_features_no_row_is_rebuilt_by_chance(features):
    parts = tables(400, features)
    assert attacked(parts, trained(parts))["reconstructed_rows"] == 0


@pytest.mark.requirement("RECON")
def test_a_feature_that_follows_from_the_model_on_training_rows_alone_is_stopped():
    length = linear.attack_length(2)
    counts = [0] * length
    counts[BINS // 2], counts[BINS + BINS // 2] = 300, 100  # no membership signal
    counts[2 * BINS + 1 : 2 * BINS + 5] = [150, 50, 270, 50]  # second feature: 90 % against 50 %
    metrics = operator_half.measure_attacks([0] * linear.SCORE_LENGTH + counts, ("age", "dose"), cell_min=10)
    assert metrics["attribute_feature"] == "dose"
    assert metrics["attribute_advantage_micro"] == 400_000
    assert "attribute_inference" in stopped(metrics)


def test_a_node_without_test_rows_adds_nothing():
    (part,) = tables(50, 3, nodes=1)
    empty = Rows(part.train, part.train_positive, part.test[:0], part.test_positive[:0])
    assert set(linear_attacks.measure(empty, trained([part]), node="n")) == {0}


@pytest.mark.parametrize("values", [[0] * 10, [0] * (linear.score_length(2) - 1) + [-1]])
def test_counts_of_attacks_that_cannot_be_are_not_believed(values):
    with pytest.raises(NodeReplyError, match="counts of attacks"):
        operator_half.measure_attacks(values, ("a", "b"), cell_min=1)


def test_the_same_rows_and_seed_give_the_same_counts_and_another_node_other_halves():
    parts = tables(60, 3)
    descent = trained(parts)
    one, again = (linear_attacks.measure(parts[0], descent, node="n0") for _ in range(2))
    assert one == again
    assert linear_attacks.measure(parts[0], descent, node="n1") != one


def test_more_shadows_agree_with_few():
    parts = tables(150, 10)
    few, many = (attacked(parts, trained(parts, shadows=shadows)) for shadows in (16, 128))
    assert abs(few["lira_auc_micro"] - many["lira_auc_micro"]) < 60_000


def test_the_figures_come_out_of_a_masked_session():
    rng = np.random.default_rng(2)
    frames = {}
    for place, node in enumerate(("node-east", "node-north", "node-west")):
        age = rng.normal(50 + 3 * place, 10, 150)
        ill = (rng.random(150) < 1 / (1 + np.exp(-(age - 50) / 10))).astype(int)
        frames[node] = {f"res.{node}": pd.DataFrame({"age": age, "ill": ill})}
    trial = Trial.of(tasks()["linear.secagg"], frames)
    ordered = LinearParameters(features=("age",), label=Condition(column="ill", operator="eq", values=(1,)))
    model = operator_half.train(trial.session(), trial.resources(ordered.columns), ordered)
    assert stopped(dict(model.metrics)) == set()
    assert model.metrics["attribute_feature"] == "age"
    assert model.metrics["lira_auc_low_micro"] < model.metrics["lira_auc_high_micro"]
