"""ONNX and model card of a trained regression."""

import json

import numpy as np
import pytest

from factory.federation import linear, model_card, onnx_export
from nodes.contract.grant import Thresholds
from nodes.contract.messages import Condition
from nodes.contract.tasks.linear import LinearParameters, model_document

PARAMETERS = LinearParameters(
    features=("age", "dose"), label=Condition(column="ill", operator="gt", values=(0,)), zero_is_missing=("dose",)
)
DOCUMENT = model_document(PARAMETERS, means=(50.0, 6.0), scales=(10.0, 4.0), weights=(0.8, -1.2), intercept=0.25)


def model(**changes) -> linear.LinearModel:
    values = {
        "parameters": PARAMETERS,
        "means": (50.0, 6.0),
        "scales": (10.0, 4.0),
        "weights": (0.8, -1.2),
        "intercept": 0.25,
        "metrics": {"train_rows": 427, "auc_test_micro": 812_345, "membership_auc_micro": 503_000},
        "baselines": {
            "node-east": {
                "withheld": False,
                "alone_auc_x100": 78,
                "federated_auc_x100": 81,
                "alone_accuracy_x100": 71,
                "federated_accuracy_x100": 74,
            },
            "node-west": {"withheld": True},
        },
        "rounds": (linear.Round(2, ("node-east", "node-west"), 12),),
        "parties": ("node-east", "node-north", "node-west"),
        "dropped": {"node-north": "linear.train"},
        "document": DOCUMENT,
        "vouched": ("node-east", "node-west"),
    }
    return linear.LinearModel(**(values | changes))


def thresholds(**changes) -> Thresholds:
    values = {"rows_min": 1, "contributors_min": 2, "cell_min": 10, "round_base": 5, "quality_score_min": 0}
    return Thresholds(**(values | changes))


def facts(**changes):
    return model_card.card(
        model(), name_zh="门诊风险模型", name_en="Clinic risk", purpose="research", thresholds=thresholds(**changes)
    )


@pytest.mark.parametrize("document", [b"", b"[]", b"{}", DOCUMENT.replace(b'"version":1', b'"version":2')])
def test_another_document_does_not_become_onnx(document):
    with pytest.raises(onnx_export.BadModelDocumentError):
        onnx_export.export(document)


def test_equal_documents_give_equal_onnx_bytes():
    assert onnx_export.export(DOCUMENT) == onnx_export.export(DOCUMENT)


def test_the_onnx_checker_accepts_the_file():
    import onnx

    onnx.checker.check_model(onnx.load_from_string(onnx_export.export(DOCUMENT)), full_check=True)


def test_onnx_runtime_scores_as_the_formula_does_and_fills_in_what_is_missing():
    import onnxruntime

    session = onnxruntime.InferenceSession(onnx_export.export(DOCUMENT), providers=["CPUExecutionProvider"])
    rows = np.array([[60.0, 2.0], [np.nan, 10.0], [50.0, 0.0], [35.0, np.nan]])
    probability, label = session.run(None, {"features": rows})
    logits = 0.25 + np.array([0.8 * 1 + 1.2 * 1, -1.2 * 1, 0.0, 0.8 * -1.5])
    assert np.allclose(probability[:, 0], 1 / (1 + np.exp(-logits)), atol=1e-12)
    assert label[:, 0].tolist() == [1, 0, 1, 0]


def test_the_card_is_canonical_json_with_rounded_counts():
    card = json.loads(model_card.to_json(facts()))
    assert card["training"]["rows"] == 425
    assert "train_rows" not in card["metrics"]


def test_a_count_below_the_minimum_is_left_out():
    assert facts(cell_min=428)["training"]["rows"] is None
    assert facts(cell_min=427)["training"]["rows"] == 425


def test_the_card_reads_in_chinese_first_and_shows_every_fact():
    text = model_card.to_markdown(facts())
    assert text.startswith("# 模型卡：门诊风险模型")
    assert text.index("# 模型卡") < text.index("# Model card: Clinic risk")
    for part in (
        "`ill > 0`",
        "0.8123",
        "| node-east | 0.78 | 0.81 | 0.71 | 0.74 |",
        "未提供",
        "node-north (linear.train)",
    ):
        assert part in text
