"""Statistics that are more than a table, against numpy and scikit-learn on the pooled rows."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from sklearn.linear_model import LinearRegression, LogisticRegression

from factory.agency.tables import protected_tables
from nodes.contract.grant import Thresholds
from nodes.contract.tasks.studies import Study, Variable
from nodes.contract.tasks.sums import Category, Measure, SumsParameters
from nodes.privacy.counting import vector

EXACT = Thresholds(rows_min=1, contributors_min=3, cell_min=5, round_base=1, quality_score_min=0)
CATEGORIES = (
    Category(column="kind", values=("a", "b", "c")),
    Category(column="sex", values=("f", "m")),
    Category(column="ill", values=("no", "yes")),
    Category(column="day", period="month", values=("2024-01", "2024-02", "2024-03")),
)
ROWS = (Measure(name="rows", kind="count"),)
X, Y, Z = (Variable(column=name, lower=-50_000, upper=150_000, scale=1_000) for name in ("x", "y", "z"))


def pooled(rows: int = 3000, seed: int = 5) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    x, z = rng.normal(40, 12, rows), rng.gamma(4, 5, rows)
    y = 3 + 0.7 * x - 0.4 * z + rng.normal(0, 6, rows)
    kind, sex = rng.choice(["a", "b", "c", "d"], rows, p=[0.4, 0.3, 0.25, 0.05]), rng.choice(["f", "m"], rows)
    chance = 1 / (1 + np.exp(-(-0.6 + 0.8 * (kind == "b") - 0.5 * (kind == "c") + 0.4 * (sex == "m"))))
    ill = np.where(rng.random(rows) < chance, "yes", "no")
    day = rng.choice(["2024-01-05", "2024/02/09", "2024-03-31", "2024-04-01"], rows)
    frame = pd.DataFrame({"x": x, "y": y, "z": z, "kind": kind, "sex": sex, "ill": ill, "day": day})
    frame.loc[rng.choice(rows, rows // 50, replace=False), "x"] = np.nan
    return frame


FRAME = pooled()


def run(study: Study, frame: pd.DataFrame = FRAME, *, rules: str = "bundesbank", measures=ROWS) -> dict:
    """The study over five unequal departments."""
    parameters = SumsParameters(rules=rules, departments=5, measures=measures, studies=(study,), categories=CATEGORIES)
    cuts = [0, len(frame) // 10, len(frame) // 3, len(frame) // 2, len(frame) * 9 // 10, len(frame)]
    parts = [vector(frame.iloc[a:b], parameters) for a, b in pairwise(cuts)]
    values = [sum(column) for column in zip(*parts, strict=True)]
    (found,) = protected_tables(parameters, values, EXACT).document["studies"]
    return found


def test_quantiles_are_within_half_a_bin_of_the_pooled_ones() -> None:
    found = run(Study(name="q", kind="quantiles", variables=(X,), permille=(50, 250, 500, 750, 990), bins=1000))
    values = FRAME["x"].dropna()
    for row in found["rows"]:
        expected = np.quantile(values, row["permille"] / 1000, method="inverted_cdf")
        assert abs(float(row["value"]) - expected) <= 0.1 + 1e-9, row
    assert "0.1" in found["error"]["en"]


def test_a_quantile_with_too_few_rows_on_one_side_is_not_published() -> None:
    found = run(Study(name="q", kind="quantiles", variables=(X,), permille=(50, 500, 950)), FRAME.head(60))
    assert [(row["state"], row["reason"]) for row in found["rows"]] == [
        ("suppressed", "tail"),
        ("published", ""),
        ("suppressed", "tail"),
    ]
    assert found["rows"][0]["value"] is None


def test_correlations_equal_the_pooled_ones() -> None:
    found = run(Study(name="c", kind="correlation", variables=(X, Y, Z)))
    expected = FRAME[["x", "y", "z"]].dropna().corr()
    assert len(found["rows"]) == 3
    for row in found["rows"]:
        assert abs(float(row["value"]) - expected.loc[row["first"], row["second"]]) < 5e-4


def test_linear_regression_equals_the_pooled_one() -> None:
    found = run(Study(name="l", kind="linear", variables=(Y, X, Z)))
    complete = FRAME[["y", "x", "z"]].dropna()
    fitted = LinearRegression().fit(complete[["x", "z"]], complete["y"])
    expected = {"": fitted.intercept_, "x": fitted.coef_[0], "z": fitted.coef_[1]}
    design = np.column_stack([np.ones(len(complete)), complete[["x", "z"]]])
    residual = complete["y"] - fitted.predict(complete[["x", "z"]])
    variance = float(residual @ residual) / (len(complete) - 3)
    errors = dict(zip(("", "x", "z"), np.sqrt(np.diag(np.linalg.inv(design.T @ design)) * variance), strict=True))
    for row in found["rows"]:
        assert float(row["estimate"]) == pytest.approx(expected[row["column"]], rel=1e-3)
        assert float(row["standard_error"]) == pytest.approx(errors[row["column"]], rel=1e-3)
    assert float(found["r_squared"]) == pytest.approx(fitted.score(complete[["x", "z"]], complete["y"]), rel=1e-3)
    assert (found["count"], found["dof"]) == (len(complete), len(complete) - 3)


def test_logistic_regression_equals_the_pooled_one() -> None:
    found = run(Study(name="g", kind="logistic", by=("kind", "sex"), label="ill", positive="yes"))
    complete = FRAME[FRAME["kind"] != "d"]
    design = np.column_stack([complete["kind"] == "b", complete["kind"] == "c", complete["sex"] == "m"]).astype(float)
    fitted = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(design, complete["ill"] == "yes")
    expected = [fitted.intercept_[0], *fitted.coef_[0]]
    assert [(row["column"], row["value"]) for row in found["rows"]] == [
        ("", ""),
        ("kind", "b"),
        ("kind", "c"),
        ("sex", "m"),
    ]
    for row, value in zip(found["rows"], expected, strict=True):
        assert float(row["estimate"]) == pytest.approx(value, rel=1e-3, abs=1e-4)
        assert float(row["odds_ratio"]) == pytest.approx(np.exp(value), rel=1e-3)
        assert float(row["odds_low"]) < float(row["odds_ratio"]) < float(row["odds_high"])


def test_the_largest_groups_are_ranked_without_the_rest_and_without_small_ones() -> None:
    found = run(Study(name="t", kind="top", by=("kind",), count=2))
    counts = FRAME["kind"].value_counts()
    assert found["rows"] == [{"value": "a", "count": counts["a"]}, {"value": "b", "count": counts["b"]}]
    small = pd.DataFrame({column: FRAME[column] for column in FRAME}).assign(kind=["a"] * 2996 + ["b"] * 4)
    assert [row["value"] for row in run(Study(name="t", kind="top", by=("kind",), count=3), small)["rows"]] == ["a"]


def test_a_series_over_time_counts_dates_by_month() -> None:
    parameters = SumsParameters(
        rules="bundesbank", measures=(Measure(name="m", kind="count", by=("day",)),), categories=CATEGORIES[3:]
    )
    (table,) = protected_tables(parameters, vector(FRAME, parameters), EXACT).document["tables"]
    days = FRAME["day"].str.replace("/", "-").str[:7].value_counts()
    assert {cell["at"][0]: cell["value"] for cell in table["cells"]} == {
        "2024-01": days["2024-01"],
        "2024-02": days["2024-02"],
        "2024-03": days["2024-03"],
        "other": days["2024-04"],
        "*": len(FRAME),
    }


@pytest.mark.parametrize(
    ("study", "frame", "reason"),
    [
        (Study(name="l", kind="linear", variables=(Y, X, Z)), FRAME.dropna().head(12), "dof"),
        (Study(name="c", kind="correlation", variables=(X, Y)), FRAME.dropna().head(11), "dof"),
        (Study(name="c", kind="correlation", variables=(X, Y)), FRAME.dropna().head(4), "threshold"),
        (Study(name="l", kind="linear", variables=(Y, X, Z)), FRAME.assign(z=FRAME["x"]), "collinear"),
        (Study(name="c", kind="correlation", variables=(X, Y)), FRAME.assign(y=1.0), "collinear"),
        (
            Study(name="g", kind="logistic", by=("sex",), label="ill", positive="yes"),
            FRAME.assign(ill=np.where(FRAME["sex"] == "m", "yes", "no")),
            "separation",
        ),
        (Study(name="g", kind="logistic", by=("sex",), label="ill", positive="yes"), FRAME.head(12), "threshold"),
    ],
)
def test_a_model_without_enough_behind_it_is_withheld_and_says_why(study: Study, frame, reason: str) -> None:
    found = run(study, frame)
    assert (found["state"], found["reason"], found["rows"], found["count"]) == ("suppressed", reason, [], None)


@pytest.mark.parametrize(
    "build",
    [
        lambda: Study(name="q", kind="quantiles", variables=(X,), permille=(0, 500)),
        lambda: Study(name="q", kind="quantiles", variables=(X,), permille=(1000,)),
        lambda: Study(name="q", kind="quantiles", variables=(X,)),
        lambda: Study(name="q", kind="quantiles", variables=(X, Y), permille=(500,)),
        lambda: Study(name="c", kind="correlation", variables=(X, X)),
        lambda: Study(name="c", kind="correlation", variables=(X, Y), by=("kind",)),
        lambda: Study(name="g", kind="logistic", by=("kind",)),
        lambda: Study(name="g", kind="logistic", by=("ill",), label="ill", positive="yes"),
        lambda: Study(name="t", kind="top", by=("kind", "sex")),
        lambda: Variable(column="x", lower=1, upper=1),
        lambda: run(Study(name="g", kind="logistic", by=("sex",), label="ill", positive="maybe")),
        lambda: run(Study(name="t", kind="top", by=("unknown",))),
        lambda: run(Study(name="rows", kind="top", by=("kind",))),
        lambda: Category(column="d", period="month", values=("2024-13",)),
        lambda: Category(column="d", period="year", values=("2025", "2024")),
    ],
)
def test_studies_that_make_no_sense_are_refused(build) -> None:
    with pytest.raises(ValidationError):
        build()
