"""The four questions are answered from the package alone."""

from pathlib import Path

import pytest

from products.lineage import find_package, four_answers
from tests import package_fixture as fixture


def test_a_code_that_no_package_bears_is_not_found(tmp_path: Path) -> None:
    fixture.write(fixture.honest(), tmp_path)
    assert find_package(tmp_path, "SF-2026-MD-00000099-XX") is None


@pytest.mark.requirement("PROV-SOURCE")
def test_whence_whither_who_did_what_and_who_answers(tmp_path: Path) -> None:
    draft = fixture.honest()
    package = fixture.write(draft, tmp_path)
    assert find_package(tmp_path, draft.release["registration"]["code"]) == package
    found = four_answers(package)
    assert [row["registration"] for row in found["whence"]] == ["REG-node-east", "REG-node-north", "REG-node-west"]
    assert found["whither"]["scenario"] == "普惠信贷"
    assert {"statement": "release", "signer": "registrar-2"}.items() <= found["who_did_what"][-1].items()
    assert [row["actor"] for row in found["who_answers"]] == [
        "node-east",
        "node-north",
        "node-west",
        "operator",
        "registrar-1",
        "registrar-2",
    ]
