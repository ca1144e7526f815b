"""The second opinion notices what a review would have let through, and agrees where nothing leaks."""

import numpy as np
import pytest

from factory.federation import onnx_export
from factory.review.finding import Finding
from nodes.contract.messages import Condition
from nodes.contract.tasks.linear import LinearParameters, model_document
from nodes.tasks import linear_rows
from tests.audit import compare

needs_tools = pytest.mark.skipif(not compare.PYTHON.exists(), reason="no .venv-audit; make audit makes it")


def published(**states):
    cells = [{"at": [label], "state": state} for label, state in states.items()]
    return {"tables": [{"name": "t", "by": ["a"], "cells": cells}]}


def opinion(primary, secondary=(), widths=(20,)):
    return {"t": {"primary": primary, "secondary": list(secondary), "widths": list(widths), "unsafe": 0}}


def findings(ratio, high):
    ratios = {"estimate_micro": ratio, "low_micro": 500_000, "high_micro": high}
    return {
        name: Finding(name, "", "", ratio, 700_000, True, "", ratios)
        for name in ("membership_ratio", "membership_inference")
    }


def test_a_small_cell_that_is_published_is_a_leak():
    found = compare.compare_tables(published(x="published", y="published"), opinion([["x"]]), 10)
    assert [one.is_leak for one in found] == [True]
    assert compare.compare_tables(published(x="suppressed", y="published"), opinion([["x"]]), 10) == []


def test_another_pattern_of_secondary_suppression_is_a_difference_with_its_reason():
    (one,) = compare.compare_tables(published(x="suppressed", y="suppressed"), opinion([["x"]]), 10)
    assert not one.is_leak
    assert "linked tables" in one.reason


@pytest.mark.parametrize(("area", "leak"), [(0.52, False), (0.72, True)])
def test_an_attack_that_finds_more_than_the_interval_of_ours_and_the_limit_is_a_leak(area, leak):
    told = {"auc": area, "spread": 0.01, "attack": "rf"}
    (one,) = compare.compare_model(findings(560_000, 640_000), told)
    assert one.is_leak is leak


@pytest.mark.parametrize(("found", "differences", "leaks"), [(1.0, 0, 0), (1.2, 1, 1), (0.8, 1, 0)])
def test_noise_that_is_weaker_than_its_epsilon_is_a_leak(found, differences, leaks):
    told = compare.compare_budgets({"1000000": found})
    assert (len(told), sum(one.is_leak for one in told)) == (differences, leaks)


def overfit(folder):
    rng = np.random.default_rng(3)
    values, positive = rng.normal(size=(120, 40)), rng.random(120) < 0.5
    member = np.arange(120) < 60
    means, scales, weights = linear_rows.fit_alone(values[member], positive[member], penalty=1e-6)
    parameters = LinearParameters(
        features=tuple(f"f{n}" for n in range(40)), label=Condition(column="y", operator="eq", values=(1,))
    )
    document = model_document(parameters, means=means, scales=scales, weights=weights[1:], intercept=weights[0])
    path = folder / "model.onnx"
    path.write_bytes(onnx_export.export(document))
    return {"path": str(path), "values": values.tolist(), "label": positive.tolist(), "member": member.tolist()}


@needs_tools
@pytest.mark.slow
def test_the_tools_see_a_planted_leak_of_every_kind(tmp_path):
    labels = ["x"] * 3 + ["y"] * 40 + ["z"] * 30
    answer = compare.ask(
        {
            "tables": [{"name": "t", "by": ["a"], "cell_min": 10, "rows": {"a": labels}}],
            "model": overfit(tmp_path),
            "budgets": [{"name": "1000000", "scales": [2.0, 2.0]}, {"name": "500000", "scales": [1.0]}],
        }
    )
    assert answer["pytauargus"]["t"]["primary"] == [["x"]]
    assert answer["adversarial-robustness-toolbox"]["auc"] > 0.7
    assert answer["dp-accounting"]["1000000"] == pytest.approx(1.0, abs=1e-3)
    leaks = compare.compare_budgets(answer["dp-accounting"])
    assert [one.is_leak for one in leaks] == [True]
