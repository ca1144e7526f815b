"""What an opened sum leads to, and what the operator reads from the scores."""

import numpy as np
import pytest

from factory.federation import linear as operator_half
from factory.federation.secagg import NodeReplyError
from nodes.contract.messages import Condition
from nodes.contract.tasks import descent, linear
from nodes.contract.tasks.linear import BINS, LinearParameters
from nodes.tasks import linear_rows

PARAMETERS = LinearParameters(
    features=("age", "dose"), label=Condition(column="ill", operator="eq", values=(1,)), rounds=2, tolerance_micro=0
)


def means(rows=10, positives=4, present=(10, 8)):
    vector = [rows, positives]
    for count, total in zip(present, (500.0, 48.0), strict=True):
        vector += [count, *linear.digits(total)]
    return vector


def gram(cells=(1000.0, 0.0, 160.0)):
    return [digit for value in cells for digit in linear.digits(value)]


def at_training() -> descent.Descent:
    state = descent.Descent(PARAMETERS)
    state.take(means())
    state.take(gram())
    return state


@pytest.mark.parametrize("positives", [0, 10])
def test_one_class_cannot_be_learnt(positives):
    with pytest.raises(descent.CannotTrainError, match="one class only"):
        descent.Descent(PARAMETERS).take(means(positives=positives))


def test_a_feature_without_values_cannot_be_learnt():
    with pytest.raises(descent.CannotTrainError, match="values of dose"):
        descent.Descent(PARAMETERS).take(means(present=(10, 0)))


def test_contributors_without_rows_cannot_be_averaged():
    with pytest.raises(descent.CannotTrainError, match="training rows"):
        at_training().take([0, 0, 0, 0])


def test_a_moment_beyond_the_digits_is_refused():
    with pytest.raises(ValueError, match="rescale the column"):
        linear.digits(2.0**130)


def test_means_and_scales_come_from_the_present_values():
    state = at_training()
    assert state.means == [50.0, 6.0]
    assert state.scales == [10.0, 4.0]


def test_a_constant_feature_gets_scale_one():
    state = descent.Descent(PARAMETERS)
    state.take(means())
    state.take(gram((1000.0, 0.0, 0.0)))
    assert state.scales == [10.0, 1.0]


def test_the_preconditioner_inverts_the_bound_of_the_hessian():
    state = descent.Descent(PARAMETERS)
    state.take(means())
    state.take(gram((1000.0, 200.0, 160.0)))
    bound = np.diag([0.25, 0.26, 0.26])
    bound[1, 2] = bound[2, 1] = 0.125
    assert np.allclose(np.array(state.inverse) @ bound, np.eye(3), atol=1e-12)


def test_training_ends_after_the_rounds_ordered():
    state = at_training()
    for value in (8, 16):
        assert state.expected == "linear.train"
        state.take([10, *(10 * value * descent.UNIT for _ in range(3))])
    assert state.expected == "linear.score"
    assert state.point == [16.0, 16.0, 16.0]
    assert state.moved_micro[0] == 8_000_000


def test_training_ends_when_nothing_moves():
    state = at_training()
    state.take([10, 0, 0, 0])
    assert state.expected == "linear.score"


def test_every_stage_and_point_asks_another_question():
    state = descent.Descent(PARAMETERS)
    seen = [state.question_sha256()]
    for values in (means(), gram(), [10, descent.UNIT, 0, 0]):
        state.take(values)
        seen.append(state.question_sha256())
    assert len(set(seen)) == 4


def score_vector(rng, rows=400):
    vector, logits, positives = [], [], []
    for _ in range(2):
        positive = rng.random(rows) < 0.4
        logit = rng.normal(0, 1.5, rows) + positive
        vector += [*linear_rows.histogram(logit[~positive]), *linear_rows.histogram(logit[positive])]
        logits.append(logit)
        positives.append(positive)
    return [*map(int, vector), 400 * descent.UNIT, 200 * descent.UNIT], logits, positives


def test_the_exact_area_lies_between_the_bounds_of_the_histogram():
    values, logits, positives = score_vector(np.random.default_rng(3))
    metrics = operator_half.measure(values, cell_min=5)
    exact = linear_rows.auc(logits[1], positives[1]) * 1e6
    assert metrics["auc_low_test_micro"] <= exact <= metrics["auc_high_test_micro"]
    assert abs(metrics["auc_test_micro"] - exact) < 3000
    assert metrics["accuracy_test_micro"] == round(linear_rows.accuracy(logits[1], positives[1]) * 1e6)
    assert metrics["log_loss_test_micro"] == 500_000


def test_training_and_test_rows_alike_give_no_membership_advantage():
    values, _, _ = score_vector(np.random.default_rng(3))
    same = [*values[: 2 * BINS], *values[: 2 * BINS], 0, 0]
    metrics = operator_half.measure(same, cell_min=1)
    assert (metrics["membership_auc_micro"], metrics["membership_advantage_micro"]) == (500_000, 0)


def test_metrics_over_too_few_rows_of_a_class_are_left_out():
    cells = [0] * (4 * BINS + 2)
    cells[3 * BINS + 40], cells[2 * BINS + 10] = 4, 50
    assert "auc_test_micro" not in operator_half.measure(cells, cell_min=5)
    assert "auc_test_micro" in operator_half.measure(cells, cell_min=4)


def test_a_histogram_with_negative_counts_is_not_believed():
    with pytest.raises(NodeReplyError, match="negative"):
        operator_half.measure([-1] + [0] * (4 * BINS + 1), cell_min=1)


@pytest.mark.parametrize(
    ("operator", "values", "expected"),
    [
        ("eq", (1,), [False, True, False, False]),
        ("ne", (1,), [True, False, True, False]),
        ("in", (0, 2), [True, False, True, False]),
        ("lt", (1,), [True, False, False, False]),
        ("le", (1,), [True, True, False, False]),
        ("gt", (1,), [False, False, True, False]),
        ("ge", (1,), [False, True, True, False]),
    ],
)
def test_a_missing_label_meets_no_condition(operator, values, expected):
    import pandas as pd

    column = pd.Series([0.0, 1.0, 2.0, np.nan])
    condition = Condition(column="num", operator=operator, values=values)
    assert linear_rows.holds(column, condition).tolist() == expected


def test_text_labels_compare_as_text():
    import pandas as pd

    condition = Condition(column="status", operator="in", values=("是", "yes"))
    assert linear_rows.holds(pd.Series(["是", "否", None, "yes"]), condition).tolist() == [True, False, False, True]
