"""Acceptance of measured contribution: the four hospitals, sampling beyond ten, and nothing without provenance."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from factory import cli
from factory.contribution import ContributionError, contribution, worth_from

pytest.importorskip("shapiq", reason="the extra `contribution` is not installed")
DATA = Path(__file__).parents[3] / "shared" / "data" / "heart_disease_4site"
HOSPITALS = ("cleveland", "hungarian", "switzerland", "va")
FEATURES = ("age", "sex", "cp", "trestbps", "chol", "fbs", "restecg", "thalach", "exang", "oldpeak")
THREE = {"": 0.5, "a": 0.6, "b": 0.6, "c": 0.5, "a+b": 0.8, "a+c": 0.6, "b+c": 0.6, "a+b+c": 0.8}


def hospital_worth():
    """Accuracy on the joint test rows of a model that some hospitals could have trained, 0.5 without one."""
    import numpy as np
    import pandas as pd
    from sklearn.linear_model import LogisticRegression

    parts = {"train": {}, "test": {}}
    for name in HOSPITALS:
        table = pd.read_csv(DATA / f"{name}.csv")
        for split, found in parts.items():
            rows = table[table.flamby_split == split]
            found[name] = (rows[list(FEATURES)].to_numpy(float), (rows.num > 0).to_numpy(int))
    pooled = np.vstack([x for x, _ in parts["train"].values()])
    mean, scale = pooled.mean(0), pooled.std(0)
    test_x = (np.vstack([x for x, _ in parts["test"].values()]) - mean) / scale
    test_y = np.concatenate([y for _, y in parts["test"].values()])

    def worth(coalition):
        rows = [parts["train"][name] for name in sorted(coalition)]
        labels = np.concatenate([y for _, y in rows]) if rows else np.array([])
        if len(set(labels)) < 2:
            return 0.5  # one class alone teaches nothing
        model = LogisticRegression(max_iter=5000).fit((np.vstack([x for x, _ in rows]) - mean) / scale, labels)
        return float((model.predict(test_x) == test_y).mean())

    return worth


@pytest.mark.requirement("CT-TRACE")
@pytest.mark.skipif(not DATA.is_dir(), reason="the open tables are not beside the project")
def test_the_four_hospitals_get_the_shares_of_the_oracle():
    made = contribution(HOSPITALS, hospital_worth(), runs=HOSPITALS)
    assert [round(made.shapley[name], 4) for name in HOSPITALS] == [0.1319, 0.1168, 0.0131, 0.0453]
    assert sum(made.shares.values()) == pytest.approx(1)
    assert "exact" in made.method


@pytest.mark.requirement("CT-TRACE")
def test_shares_are_repeatable_sum_to_one_and_change_without_a_department():
    worth = worth_from(THREE)
    made = contribution("abc", worth, runs="abc")
    assert made == contribution("cba", worth, runs="abc")
    assert {name: round(value, 6) for name, value in made.shapley.items()} == {"a": 0.15, "b": 0.15, "c": 0.0}
    assert made.shares == pytest.approx({"a": 0.5, "b": 0.5, "c": 0.0})
    two = contribution("ac", worth, runs="abc")
    assert two.shares == pytest.approx({"a": 1.0, "c": 0.0})


@pytest.mark.requirement("CT-TRACE")
@pytest.mark.parametrize("runs", ["", "ab"])
def test_a_product_without_provenance_gets_no_shares(runs):
    with pytest.raises(ContributionError, match="provenance"):
        contribution("abc", worth_from(THREE), runs=runs)
    with pytest.raises(ContributionError, match="worth of"):
        contribution("abc", worth_from({"": 0.5}), runs="abc")


def test_beyond_ten_departments_permutations_are_drawn_with_a_stated_seed():
    names = [f"d{number:02d}" for number in range(12)]
    worth = lambda coalition: 0.5 + 0.4 * min(len(coalition), 6) / 6 * ("d00" in coalition)  # noqa: E731
    made = contribution(names, worth, runs=names, seed=7)
    assert made == contribution(names, worth, runs=names, seed=7)
    assert "seed 7" in made.method
    assert max(made.shapley, key=made.shapley.get) == "d00"
    assert sum(made.shares.values()) == pytest.approx(1)


def test_the_command_prints_method_values_and_shares(tmp_path):
    (tmp_path / "worth.json").write_text(json.dumps(THREE))
    words = ["product", "contribution", str(tmp_path / "worth.json")]
    done = CliRunner().invoke(cli.app, [*words, *(x for n in "abc" for x in ("--run", n)), "--json"])
    assert json.loads(done.output)["shares"]["c"] == "0.0"
    assert isinstance(CliRunner().invoke(cli.app, [*words, "--run", "a"]).exception, ContributionError)
