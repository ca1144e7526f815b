"""Paths in a package mean the same file on every system."""

import pytest

from products.errors import MalformedError
from products.package import paths


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "../x", "data/../x", "data//x", "data/./x", "data/x ", "data/x.", "a\\b", "c:x", "data/con", "data/NUL.txt",
     "data/a\nb", "data/%41", "data/e\u0301", "data/\u200bx", "data/\u202ex", "data/" + "x" * 300, "/".join("a" * 20), "data/\udc80"],
)  # fmt: skip
def test_a_path_that_some_system_reads_otherwise_is_refused(path: str) -> None:
    with pytest.raises(MalformedError):
        paths.require_path(path)


@pytest.mark.parametrize(
    "path", ["data/product/model.onnx", "data/数据/表.csv", "attestations/release.node-east.dsse.json"]
)
def test_a_plain_path_is_accepted(path: str) -> None:
    paths.require_path(path)


def test_case_and_compatibility_forms_fold_together() -> None:
    assert paths.folded("Model.ONNX") == paths.folded("model.onnx") == paths.folded("ｍodel.onnx")
