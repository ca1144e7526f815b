"""The bundle is the pinned one and holds no code."""

import hashlib
import io
import zipfile

import pytest

from factory.hub.bundle import contract_bundle
from nodes.contract.parameters import BUNDLE_SHA256


@pytest.mark.requirement("PC-TOOLS")
def test_the_bundle_has_the_pinned_digest() -> None:
    assert hashlib.sha256(contract_bundle()).hexdigest() == BUNDLE_SHA256


def test_the_bundle_holds_a_description_and_no_code() -> None:
    assert zipfile.ZipFile(io.BytesIO(contract_bundle())).namelist() == ["pyproject.toml", ".info/CONTENT"]
