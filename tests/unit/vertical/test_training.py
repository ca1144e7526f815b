"""Both halves in two real processes: the model equals the clear one, what each side sees, and what is refused."""

import json
from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import roc_auc_score

from nodes.contract.messages import RefusalCode
from nodes.contract.tasks.vertical_linear import VerticalLinearParameters
from nodes.privacy import vertical_ckks as ckks
from nodes.tasks import vertical_design, vertical_feature, vertical_label, vertical_state
from tests.party_pairs import Done, pair
from tests.vertical_data import DEFAULT_CREDIT, HETERO, Joined, default_credit, hetero

A, B = "node-a", "node-b"
CELL_MIN = 5


class View:
    """A granted table."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame
        self.columns = tuple(frame)

    def frame(self) -> pd.DataFrame:
        return self._frame


def breast(rows: int = 569) -> Joined:
    bunch = load_breast_cancer()
    values = bunch.data[:rows]
    return Joined(values[:, :10], values[:, 10:], (bunch.target[:rows] == 0).astype(int))


def parameters(joined: Joined, **changed) -> VerticalLinearParameters:
    wanted = {
        "label_party": A,
        "label": {"column": "y", "operator": "eq", "values": [1]},
        "keys": {A: [{"column": "id"}], B: [{"column": "id"}]},
        "features": {A: joined.names("a"), B: joined.names("b")},
        "split": {"column": "held_out", "test_value": 1},
        "metrics": False,
        **changed,
    }
    return VerticalLinearParameters.model_validate(wanted, strict=False)


def half(module, chosen, frame, folder, party):
    context = SimpleNamespace(
        parameters=chosen,
        tables={"t": View(frame)},
        grant=SimpleNamespace(thresholds=SimpleNamespace(rows_min=30, cell_min=CELL_MIN)),
        parts_dir=str(folder / party.node),
    )
    return module.run(party, context)


def train(joined: Joined, chosen, folder, *, frames=None, **options) -> tuple[Done, Done]:
    left, right = frames or joined.frames()
    return pair(
        partial(half, vertical_label, chosen, left, folder),
        partial(half, vertical_feature, chosen, right, folder),
        **options,
    )


def parts(done: tuple[Done, Done], folder) -> list[dict]:
    found = []
    for node, one in zip((A, B), done, strict=True):
        assert one.error is None, one.error
        found.append(json.loads((folder / node / f"{one.value.body['part_sha256']}.json").read_bytes()))
    return found


def weights(part: dict) -> np.ndarray:
    return np.array([float.fromhex(item["weight"]) for item in part["features"]])


def scored(joined: Joined, found: list[dict], winsor: float = 3.0) -> np.ndarray:
    total = np.zeros(len(joined.labels))
    for part, values in zip(found, (joined.left, joined.right), strict=True):
        mean, scale = (np.array([float.fromhex(item[key]) for item in part["features"]]) for key in ("mean", "scale"))
        total += float.fromhex(part["intercept"]) + np.clip((values - mean) / scale, -winsor, winsor) @ weights(part)
    return total


def clear(joined: Joined, chosen: VerticalLinearParameters) -> tuple[np.ndarray, np.ndarray]:
    """The same steps on the joint table, without any encryption."""
    test = joined.held_out.astype(bool)
    blocks = [
        vertical_design.block(vertical_design.design(values, test, chosen, has_intercept=first), chosen)
        for values, first in ((joined.left, True), (joined.right, False))
    ]
    labels = joined.labels[~test] - 0.5
    for _ in range(chosen.rounds):
        logits = sum(
            vertical_design.scores(one.design.train, one.point, chosen) * chosen.polynomial.half_width for one in blocks
        )
        residuals = np.array([chosen.polynomial.at(value) for value in logits]) - labels
        for one in blocks:
            one.step(one.design.train.T @ residuals)
    return blocks[0].weights, blocks[1].weights


@pytest.mark.parametrize(("degree", "l1_micro"), [(3, 0), (7, 20_000)])
def test_training_under_encryption_equals_the_same_steps_in_the_clear(tmp_path, degree, l1_micro):
    joined = breast()
    chosen = parameters(joined, rounds=4, degree=degree, l1_micro=l1_micro, l2_micro=50_000)
    found = parts(train(joined, chosen, tmp_path), tmp_path)
    expected = clear(joined, chosen)
    assert np.abs(weights(found[0]) - expected[0][1:]).max() < 0.01
    assert np.abs(weights(found[1]) - expected[1]).max() < 0.01
    assert float.fromhex(found[0]["intercept"]) == pytest.approx(expected[0][0], abs=0.01)
    if l1_micro:
        assert (weights(found[1]) == 0).any()


@pytest.mark.slow
def test_coefficients_and_areas_equal_those_of_pooled_scikit_learn(tmp_path):
    joined = breast()
    chosen = parameters(joined, rounds=14, l2_micro=50_000, metrics=True)
    done = train(joined, chosen, tmp_path)
    found = parts(done, tmp_path)
    train_rows = joined.held_out == 0
    pooled = LogisticRegression(C=1 / (0.05 * train_rows.sum()), max_iter=5000).fit(
        joined.standardised(3.0)[train_rows], joined.labels[train_rows]
    )
    assert np.abs(np.concatenate([weights(part) for part in found]) - pooled.coef_[0]).max() < 0.06
    ours, theirs = scored(joined, found), pooled.decision_function(joined.standardised(3.0))
    for rows in (train_rows, ~train_rows):
        assert (
            abs(roc_auc_score(joined.labels[rows], ours[rows]) - roc_auc_score(joined.labels[rows], theirs[rows]))
            < 0.002
        )
    measured = done[0].value.body["metrics"]
    assert measured["auc_test_micro"] / 1e6 == pytest.approx(
        roc_auc_score(joined.labels[~train_rows], ours[~train_rows]), abs=0.01
    )
    assert measured["auc_low_test_micro"] <= measured["auc_test_micro"] <= measured["auc_high_test_micro"]


@pytest.mark.slow
@pytest.mark.skipif(not HETERO.is_dir(), reason="expected ../shared/data/fate_small_hetero")
def test_areas_on_the_published_hetero_table_equal_pooled_scikit_learn(tmp_path):
    joined = hetero("breast")
    chosen = parameters(joined, rounds=12, l2_micro=50_000)
    ours = scored(joined, parts(train(joined, chosen, tmp_path), tmp_path))
    rows = joined.held_out == 0
    pooled = LogisticRegression(C=1 / (0.05 * rows.sum()), max_iter=5000).fit(
        joined.standardised(0)[rows], joined.labels[rows]
    )
    theirs = pooled.decision_function(joined.standardised(0))
    for part in (rows, ~rows):
        assert (
            abs(roc_auc_score(joined.labels[part], ours[part]) - roc_auc_score(joined.labels[part], theirs[part]))
            < 0.003
        )


@pytest.mark.slow
@pytest.mark.skipif(not DEFAULT_CREDIT.is_dir(), reason="expected ../shared/data/fate_default_credit")
def test_areas_on_default_credit_are_within_two_thousandths_of_pooled_scikit_learn(tmp_path):
    joined = default_credit()
    chosen = parameters(joined, rounds=8, degree=3, l2_micro=100)
    ours = scored(joined, parts(train(joined, chosen, tmp_path), tmp_path))
    rows = joined.held_out == 0
    pooled = LogisticRegression(max_iter=5000).fit(joined.standardised(0)[rows], joined.labels[rows])
    theirs = pooled.decision_function(joined.standardised(0))
    for part in (rows, ~rows):
        assert (
            abs(roc_auc_score(joined.labels[part], ours[part]) - roc_auc_score(joined.labels[part], theirs[part]))
            < 0.002
        )


@pytest.mark.slow
def test_a_linear_target_and_balanced_classes_are_learnt(tmp_path):
    joined = breast()
    frames = joined.frames()
    target = joined.left[:, 2] * 0.3 + joined.right[:, 3] * 0.01
    frames[0]["y"] = target
    chosen = parameters(joined, model="linear", rounds=12, l2_micro=10_000)
    found = parts(train(joined, chosen, tmp_path, frames=frames), tmp_path)
    rows = joined.held_out == 0
    mean, scale = (float.fromhex(text) for text in found[0]["target"])
    predicted = mean + scale * scored(joined, found)
    pooled = (
        Ridge(alpha=0.01 * rows.sum())
        .fit(joined.standardised(3.0)[rows], target[rows])
        .predict(joined.standardised(3.0))
    )
    assert np.corrcoef(predicted[~rows], pooled[~rows])[0, 1] > 0.995
    balanced = parameters(joined, balanced=True, degree=3, rounds=3, l2_micro=50_000)
    intercepts = [
        float.fromhex(parts(train(joined, one, tmp_path), tmp_path)[0]["intercept"])
        for one in (balanced, parameters(joined, degree=3, rounds=3, l2_micro=50_000))
    ]
    assert intercepts[0] > intercepts[1]  # positives are the smaller class


def test_the_label_side_sees_fewer_figures_than_rows_and_they_determine_no_row(tmp_path):
    joined = breast()
    chosen = parameters(joined, rounds=3, degree=3)
    label, feature = train(joined, chosen, tmp_path, keep_received=True)
    assert label.error is None
    assert feature.error is None
    rows = int((joined.held_out == 0).sum())
    features = len(joined.names("a")) + 1
    seen = {}
    for name, content in label.received:
        seen.setdefault(name, []).append(len(content))
    # Sealed: scores under the other key, and products, of which its integers are uniform (test_vertical_ckks).
    seen = {name: sizes for name, sizes in seen.items() if not name.startswith(("psi.", "ot."))}
    assert set(seen) == {"keys", "first-scores", "products", "opened", "moved"}
    assert seen["products"] == [ckks.products_bytes(len(joined.names("b")))] * 3
    # In the clear: one number per own column and round, and how far the other block moved.
    assert seen["opened"] == [8 * features] * 3
    assert seen["moved"] == [8] * 3
    assert 3 * features + 3 < rows
    # Every row's residual may be anything: no unit vector lies in the span of what was summed.
    test = joined.held_out.astype(bool)
    design = vertical_design.design(joined.left, test, chosen, has_intercept=True).train
    basis, _ = np.linalg.qr(design)
    assert float((basis**2).sum(axis=1).max()) < 0.9


def test_the_feature_side_sees_sealed_labels_and_one_figure_per_feature_and_round(tmp_path):
    joined = breast()
    chosen = parameters(joined, rounds=2, degree=3)
    _, feature = train(joined, chosen, tmp_path, keep_received=True)
    seen = {}
    for name, content in feature.received:
        seen.setdefault(name, []).append(content)
    seen = {name: contents for name, contents in seen.items() if not name.startswith(("psi.", "ot."))}
    assert set(seen) == {"split", "keys", "labels", "scores", "products", "opened", "turn"}
    assert [len(content) for content in seen["opened"]] == [8 * len(joined.names("b"))] * 2
    assert len(set(seen["scores"])) == 2


def test_training_goes_on_from_a_checkpoint_with_fresh_keys(tmp_path):
    joined = breast()
    chosen = parameters(joined, rounds=4, degree=3, l2_micro=50_000)
    whole = parts(train(joined, chosen, tmp_path), tmp_path)
    short = parameters(joined, rounds=2, degree=3, l2_micro=50_000)

    def first(module, frame, party):
        half(module, short, frame, tmp_path, party)
        step, state = party.resumed
        saved = vertical_state.Saved.from_bytes(state)
        return step, vertical_state.Saved(
            saved.rows, saved.rounds, saved.weights, saved.before, saved.moved_micro
        ).to_bytes()

    frames = joined.frames()
    done = pair(partial(first, vertical_label, frames[0]), partial(first, vertical_feature, frames[1]))
    states = {A: done[0].value, B: done[1].value}

    def second(module, frame, party):
        party.resumed = states[party.node]
        return half(module, chosen, frame, tmp_path, party)

    done = pair(partial(second, vertical_label, frames[0]), partial(second, vertical_feature, frames[1]))
    resumed = parts(done, tmp_path)
    for one, other in zip(whole, resumed, strict=True):
        assert np.abs(weights(one) - weights(other)).max() < 0.01


class TestRefused:
    """What would let a sum over rows be about single rows."""

    def refused(self, done: Done) -> tuple[str, str]:
        assert done.error is not None
        return done.error[1], done.error[2]

    def test_as_few_rows_as_figures(self, tmp_path):
        joined = breast(120)
        chosen = parameters(joined, rounds=6)
        for done in train(joined, chosen, tmp_path):
            code, _ = self.refused(done)
            assert code in {RefusalCode.RESOURCE_ROWS, RefusalCode.PARTY_ENDED}

    def test_a_single_training_row(self, tmp_path):
        joined = breast()
        joined.held_out[:] = 1
        joined.held_out[7] = 0
        code, _ = self.refused(train(joined, parameters(joined, rounds=1), tmp_path)[1])
        assert code == RefusalCode.RESOURCE_ROWS

    @pytest.mark.parametrize("side", [0, 1])
    def test_a_feature_that_singles_out_few_rows(self, tmp_path, side):
        joined = breast()
        (joined.left, joined.right)[side][:, 3] = 0.0
        (joined.left, joined.right)[side][: CELL_MIN - 1, 3] = 1.0
        code, text = self.refused(train(joined, parameters(joined, rounds=2), tmp_path)[side])
        assert code == RefusalCode.RESOURCE_ROWS
        assert "differs from its most frequent value" in text

    def test_one_class_only(self, tmp_path):
        joined = breast()
        joined.labels[:] = 0
        code, text = self.refused(train(joined, parameters(joined, rounds=2), tmp_path)[0])
        assert code == RefusalCode.RESOURCE_ROWS
        assert "each class" in text

    def test_too_few_common_rows(self, tmp_path):
        joined = breast()
        left, right = joined.frames()
        right["id"] = [f"x{text}" for text in right["id"]]
        for done in train(joined, parameters(joined, rounds=2), tmp_path, frames=(left, right)):
            code, _ = self.refused(done)
            assert code in {RefusalCode.RESOURCE_ROWS, RefusalCode.PARTY_ENDED}
