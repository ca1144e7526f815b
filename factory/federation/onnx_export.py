"""A trained regression as ONNX, deterministic to the byte, and the way back.

The graph imputes, standardises and scores: ``features`` float64 ``[rows, features]``, NaN
where missing → ``probability`` float64 ``[rows, 1]`` and ``label`` int64 ``[rows, 1]``.
Only operators of the standard set; no custom code, never pickle. Anybody can rebuild the
file from ``model.json``, for which the nodes vouch, and compare the bytes.

Privacy: the file holds what ``model.json`` holds and nothing else: per feature a mean, a
scale and a weight, each computed over all contributing nodes.
"""

import json
from typing import TYPE_CHECKING, Any

from factory.errors import FactoryError

if TYPE_CHECKING:
    import onnx

OPSET = 17
"""Operator set of the graph: the newest that older runtimes (ONNX Runtime 1.12) still read."""

IR_VERSION = 8
"""File format that goes with it (ONNX 1.12)."""


class BadModelDocumentError(FactoryError):
    """The bytes are not a ``model.json`` of a logistic regression."""

    code = "federation.bad_model_document"


def export(document: bytes) -> bytes:
    """Return the ONNX file of a ``model.json``; equal documents give equal bytes.

    Raises:
        BadModelDocumentError: not such a document.
    """
    try:
        value = json.loads(document)
        if value["version"] != 1 or value["kind"] != "logistic-regression" or not value["features"]:
            raise BadModelDocumentError("expected version 1 of a logistic regression")
        features = value["features"]
        columns = {key: [float.fromhex(item[key]) for item in features] for key in ("mean", "scale", "weight")}
        zeros = [bool(item["zero_is_missing"]) for item in features]
        names = [str(item["name"]) for item in features]
        model = _build(names, columns, zeros, float.fromhex(value["intercept"]))
        return bytes(model.SerializeToString(deterministic=True))
    except (KeyError, TypeError, ValueError) as error:
        raise BadModelDocumentError("expected model.json as the nodes vouch for it") from error


def _build(names: list[str], columns: dict[str, list[float]], zeros: list[bool], intercept: float) -> "onnx.ModelProto":
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    width = len(names)

    def constant(name: str, values: Any, dtype: Any, shape: tuple[int, ...]) -> Any:
        return numpy_helper.from_array(np.array(values, dtype=dtype).reshape(shape), name)

    initializers = [
        constant("mean", columns["mean"], np.float64, (1, width)),
        constant("scale", columns["scale"], np.float64, (1, width)),
        constant("weight", columns["weight"], np.float64, (width, 1)),
        constant("intercept", intercept, np.float64, (1,)),
        constant("zero_is_missing", zeros, np.bool_, (1, width)),
        constant("zero", 0.0, np.float64, ()),
        constant("half", 0.5, np.float64, ()),
    ]
    nodes = [
        helper.make_node("IsNaN", ["features"], ["is_nan"]),
        helper.make_node("Equal", ["features", "zero"], ["is_zero"]),
        helper.make_node("And", ["is_zero", "zero_is_missing"], ["is_unrecorded"]),
        helper.make_node("Or", ["is_nan", "is_unrecorded"], ["is_missing"]),
        helper.make_node("Where", ["is_missing", "mean", "features"], ["imputed"]),
        helper.make_node("Sub", ["imputed", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "scale"], ["standardised"]),
        helper.make_node("Gemm", ["standardised", "weight", "intercept"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["probability"]),
        helper.make_node("GreaterOrEqual", ["probability", "half"], ["is_positive"]),
        helper.make_node("Cast", ["is_positive"], ["label"], to=TensorProto.INT64),
    ]
    graph = helper.make_graph(
        nodes,
        "logistic_regression",
        [helper.make_tensor_value_info("features", TensorProto.DOUBLE, ["rows", width])],
        [
            helper.make_tensor_value_info("probability", TensorProto.DOUBLE, ["rows", 1]),
            helper.make_tensor_value_info("label", TensorProto.INT64, ["rows", 1]),
        ],
        initializers,
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="shufang"
    )
    entry = model.metadata_props.add()
    entry.key, entry.value = "features", json.dumps(names, ensure_ascii=False)
    return model
