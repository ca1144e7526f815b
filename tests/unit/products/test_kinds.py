"""What a product of each form must and must not hold."""

import pytest

from products import kinds
from products.errors import MalformedError
from products.forms import FORMS


def test_every_form_needs_something() -> None:
    for form in FORMS:
        assert kinds.missing(form, ["data/metadata/dcat.jsonld"]) != [], form


def test_a_model_without_its_card_is_incomplete() -> None:
    assert [n.title_en for n in kinds.missing("model", ["data/product/model.onnx"])] == ["model card"]


@pytest.mark.parametrize("name", ["model.pkl", "a.PICKLE", "a.joblib", "run.sh", "x.so", "weights.npy"])
def test_executable_content_is_named(name: str) -> None:
    assert kinds.forbidden("model", [f"data/product/{name}"]) == [f"data/product/{name}"]


def test_a_component_may_hold_programs_but_no_pickled_object() -> None:
    assert kinds.forbidden("component", ["data/product/component.py", "data/product/x.pkl"]) == ["data/product/x.pkl"]


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b'{"openapi":"2.0","paths":{}}', b'{"openapi":"3.1.0"}', b"\xff", b"[" * 10**5]
)
def test_an_interface_document_has_to_be_openapi_3(content: bytes) -> None:
    with pytest.raises(MalformedError):
        kinds.require_content("data/product/openapi.json", content)
