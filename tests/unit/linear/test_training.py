"""Both halves of ``linear.secagg`` together, against training on the pooled rows."""

import numpy as np
import pandas as pd
import pytest

from factory.errors import NodeRefusedError
from factory.federation import linear
from factory.federation.secagg import TooFewNodesError
from nodes.contract.messages import Condition
from nodes.contract.tasks.linear import LinearParameters
from nodes.tasks import linear_rows
from nodes.tasks.catalogue import tasks
from tests.federation_harness import Trial

SPEC = tasks()["linear.secagg"]
NODES = ("node-east", "node-north", "node-west")


def table(rows: int, *, seed: int, shift: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    age, dose = rng.normal(50 + shift, 10, rows), rng.gamma(2.0, 3.0, rows)
    logit = 0.08 * (age - 50) - 0.3 * (dose - 6) + 0.2
    frame = pd.DataFrame({"age": age, "dose": dose, "ill": (rng.random(rows) < 1 / (1 + np.exp(-logit))).astype(int)})
    frame.loc[frame.index % 11 == 3, "dose"] = np.nan
    return frame


def tables() -> dict[str, dict[str, pd.DataFrame]]:
    return {
        node: {f"res.{node}": table(120 + 60 * place, seed=place, shift=5.0 * place)}
        for place, node in enumerate(NODES)
    }


def parameters(**changes) -> LinearParameters:
    values = {
        "features": ("age", "dose"),
        "label": Condition(column="ill", operator="eq", values=(1,)),
        "rounds": 6,
        "tolerance_micro": 10,
    }
    return LinearParameters(**(values | changes))


def run(trial: Trial, ordered: LinearParameters | None = None) -> linear.LinearModel:
    ordered = ordered or parameters()
    return linear.train(trial.session(), trial.resources(ordered.columns), ordered)


def pooled(held: dict[str, dict[str, pd.DataFrame]], ordered: LinearParameters):
    """What an operator with all rows would train: scikit-learn on the same split."""
    from sklearn.linear_model import LogisticRegression

    parts = []
    for node, tables_ in held.items():
        (frame,) = tables_.values()
        test = linear_rows.split(len(frame), node, seed=ordered.seed, test_permille=ordered.test_permille)
        parts.append(frame.assign(test=test))
    rows = pd.concat(parts)
    train, test = rows[~rows.test], rows[rows.test]
    names = list(ordered.features)
    means = train[names].mean()
    filled = train[names].fillna(means)
    scales = filled.std(ddof=0)
    model = LogisticRegression(C=1 / (ordered.l2_micro / 1e6 * len(train)), tol=1e-10, max_iter=1000)
    label = ordered.label.column
    model.fit(((filled - means) / scales).to_numpy(), train[label].to_numpy())
    logits = model.decision_function(((test[names].fillna(means) - means) / scales).to_numpy())
    return model, logits, test[label].to_numpy(dtype=bool)


def test_an_order_for_too_many_features_that_the_table_lacks_is_refused():
    trial = Trial.of(SPEC, tables())
    with pytest.raises(NodeRefusedError, match=r"grant\.column"):
        linear.train(trial.session(), trial.resources(("age", "ill")), parameters())


def test_two_nodes_are_not_enough_for_a_masked_sum():
    held = tables()
    del held["node-west"]
    with pytest.raises(NodeRefusedError, match=r"task\.protocol.*3 to 200 nodes"):
        run(Trial.of(SPEC, held))


def test_a_node_with_fewer_rows_than_the_grant_asks_refuses():
    with pytest.raises(NodeRefusedError, match=r"node-east refused \(resource\.rows\)"):
        run(Trial.of(SPEC, tables(), rows_min=121))


def test_text_in_a_feature_is_refused_without_showing_it():
    held = tables()
    held["node-east"]["res.node-east"]["age"] = held["node-east"]["res.node-east"]["age"].astype(object)
    held["node-east"]["res.node-east"].loc[0, "age"] = "CANARY"
    with pytest.raises(NodeRefusedError, match=r"task\.parameters.*numbers in column age") as caught:
        run(Trial.of(SPEC, held))
    assert "CANARY" not in str(caught.value)


def test_rows_of_one_class_over_all_nodes_cannot_be_learnt_from():
    held = tables()
    for tables_ in held.values():
        for frame in tables_.values():
            frame["ill"] = 1
    with pytest.raises(linear.NothingToLearnError, match="both classes"):
        run(Trial.of(SPEC, held))


def test_a_feature_without_values_anywhere_is_named():
    held = tables()
    for tables_ in held.values():
        for frame in tables_.values():
            frame["dose"] = np.nan
    with pytest.raises(linear.NothingToLearnError, match="values of dose"):
        run(Trial.of(SPEC, held))


def test_one_local_step_reaches_the_pooled_weights():
    held = tables()
    model = run(Trial.of(SPEC, held), parameters(rounds=40))
    reference, _, _ = pooled(held, parameters())
    assert np.allclose(model.weights, reference.coef_[0], atol=2e-4)
    assert abs(model.intercept - reference.intercept_[0]) < 2e-4


def test_several_local_steps_stay_close_to_the_pooled_weights():
    held = tables()
    model = run(Trial.of(SPEC, held), parameters(local_steps=3, rounds=15))
    reference, _, _ = pooled(held, parameters())
    assert np.allclose(model.weights, reference.coef_[0], atol=0.05)


def test_breast_cancer_split_in_three_reaches_the_pooled_area_under_the_curve():
    from sklearn.datasets import load_breast_cancer

    rows, target = load_breast_cancer(return_X_y=True, as_frame=True)
    frame = rows.iloc[:, :10].assign(benign=target)
    held = {node: {f"res.{node}": frame.iloc[place::3].reset_index(drop=True)} for place, node in enumerate(NODES)}
    ordered = parameters(
        features=tuple(rows.columns[:10]),
        label=Condition(column="benign", operator="eq", values=(1,)),
        rounds=25,
        tolerance_micro=1000,
    )
    model = run(Trial.of(SPEC, held), ordered)
    _, logits, positive = pooled(held, ordered)
    exact = linear_rows.auc(logits, positive) * 1e6
    assert abs(model.metrics["auc_test_micro"] - exact) < 5000
    assert model.metrics["auc_low_test_micro"] - 1000 <= exact <= model.metrics["auc_high_test_micro"] + 1000
    assert {name: item["withheld"] for name, item in model.baselines.items()} == dict.fromkeys(NODES, False)


def test_a_node_with_one_class_takes_part_and_withholds_its_own_metrics():
    held = tables()
    held["node-west"]["res.node-west"]["ill"] = 1
    model = run(Trial.of(SPEC, held))
    assert model.contributors_min == 3
    assert model.baselines["node-west"] == {"withheld": True}


def test_a_feature_missing_at_one_node_is_learnt_from_the_others():
    held = tables()
    held["node-west"]["res.node-west"]["dose"] = 0.0
    model = run(Trial.of(SPEC, held), parameters(zero_is_missing=("dose",)))
    assert model.weights[1] < -0.3


def test_test_rows_can_be_named_by_a_column():
    held = tables()
    for tables_ in held.values():
        for frame in tables_.values():
            frame["part"] = np.where(frame.index % 4 == 0, "test", "train")
    ordered = parameters(split={"column": "part", "test_value": "test"})
    model = run(Trial.of(SPEC, held), ordered)
    assert model.metrics["train_rows"] == sum(3 * (120 + 60 * place) // 4 for place in range(3))


def test_the_same_rows_and_seed_give_the_same_model_bytes():
    first, second = run(Trial.of(SPEC, tables())), run(Trial.of(SPEC, tables()))
    assert first.document == second.document
    assert first.metrics == second.metrics


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("kind", "nth"),
    [
        ("order", 1),
        ("secagg.keys", 1),
        ("secagg.shares", 1),
        ("linear.means", 1),
        ("linear.gram", 1),
        ("linear.score", 1),
    ],
)
def test_a_drop_out_below_the_threshold_ends_the_session(kind, nth, when):
    trial = Trial.of(SPEC, tables(), contributors_min=3)
    trial.bus.fail("node-north", kind, when=when, nth=nth)
    with pytest.raises(TooFewNodesError, match="2 are left"):
        run(trial)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("kind", "nth"),
    [
        ("order", 1),
        ("secagg.keys", 1),
        ("secagg.shares", 1),
        ("linear.means", 1),
        ("linear.train", 3),
        ("secagg.confirm", 4),
        ("secagg.unmask", 4),
        ("linear.score", 1),
        ("linear.compare", 1),
        ("linear.accept", 1),
    ],
)
def test_a_node_that_drops_out_does_not_lose_the_round(kind, nth, when):
    trial = Trial.of(SPEC, tables())
    trial.bus.fail("node-north", kind, when=when, nth=nth)
    model = run(trial)
    assert set(model.dropped) == {"node-north"}
    assert model.vouched == ("node-east", "node-west")
    assert abs(model.metrics["auc_test_micro"] - 700_000) < 150_000


def test_a_drop_out_in_the_middle_keeps_what_the_others_sum_to():
    held = tables()
    trial = Trial.of(SPEC, held)
    trial.bus.fail("node-north", "linear.train", when="after", nth=1)
    model = run(trial)
    assert model.rounds[0].contributors == ("node-east", "node-west")
    assert model.metrics["train_rows"] > 0


def test_nodes_vouch_for_the_model_file_and_state_what_they_did():
    trial = Trial.of(SPEC, tables())
    session = trial.session()
    ordered = parameters(rounds=3)
    model = linear.train(session, trial.resources(ordered.columns), ordered)
    facts = linear.close(session)["node-east"].body
    assert facts["contributors"] == 3
    assert facts["training_rounds"] == 3
    assert [item["name"] for item in facts["outputs"]] == ["model.json"]
    from nodes.contract.signing import sha256_hex

    assert facts["outputs"][0]["sha256"] == sha256_hex(model.document)


def test_no_value_of_a_row_leaves_a_node():
    held = tables()
    canary = 123456.789012345
    held["node-east"]["res.node-east"].loc[5, "age"] = canary
    trial = Trial.of(SPEC, held)
    run(trial, parameters(rounds=3))
    import struct

    sent = b"".join(trial.nodes["node-east"].sent)
    assert struct.pack("<d", canary) not in sent
    assert repr(canary).encode() not in sent
    assert canary.hex().encode() not in sent


def test_progress_is_told_of_every_stage():
    trial = Trial.of(SPEC, tables())
    seen = []
    ordered = parameters(rounds=2)
    linear.train(trial.session(), trial.resources(ordered.columns), ordered, progress=seen.append)
    assert [item.stage for item in seen] == ["keys", "means", "gram", "train", "train", "score", "compare", "accept"]
