"""Second signatures and derived files: each that is there has to be the one that follows from the release."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from factory.release.second import operators_files, sign_second
from products.package import interop, paths
from products.verify import Report, verify
from tests import package_fixture as fixture


def _verify(package: Path) -> Report:
    return verify(package, root_sha256=fixture.root_sha256(), fresh_trust=None, now=fixture.NOW)


def _failed(package: Path) -> set[str]:
    return {check.code for check in _verify(package).failures}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fixture.write(fixture.honest("model"), tmp_path_factory.mktemp("interop"), second=True)


def _layout_of_an_outsider(package: Path) -> None:
    path = package / interop.layout_path("registrar-1")
    payload = json.loads(path.read_bytes())
    import base64

    path.write_bytes(sign_second(fixture.key("outsider"), base64.b64decode(payload["payload"])))


def _layout_that_says_more(package: Path) -> None:
    import base64

    from products import canonical

    path = package / interop.layout_path("registrar-1")
    layout = json.loads(base64.b64decode(json.loads(path.read_bytes())["payload"]))
    layout["steps"][1]["threshold"] = 1
    path.write_bytes(sign_second(fixture.key("registrar-1"), canonical.dumps(layout)))


def _model_signature_of_other_files(package: Path) -> None:
    made = operators_files(fixture.key("operator"), "model", [("data/product/model.onnx", "00" * 32)])
    (package / paths.MODEL_SIGNATURE).write_bytes(made[paths.MODEL_SIGNATURE])


def _another_page(package: Path) -> None:
    (package / paths.CERTIFICATE_PDF).write_bytes(b"%PDF-1.7 another holder\n")


def _page_with_one_registrar(package: Path) -> None:
    (package / interop.certificate_path("registrar-2")).unlink()


def _signatures_without_their_page(package: Path) -> None:
    (package / paths.CERTIFICATE_PDF).unlink()


def _link_of_the_operator_as_reviewer(package: Path) -> None:
    path = interop.link_path(interop.REVIEW_STEP, fixture.key("operator").public.spki)
    first = package / interop.link_path(interop.REVIEW_STEP, fixture.key("reviewer-1").public.spki)
    (package / path).write_bytes(first.read_bytes())


@pytest.mark.parametrize(
    "mutate",
    [
        _layout_of_an_outsider,
        _layout_that_says_more,
        _model_signature_of_other_files,
        _another_page,
        _page_with_one_registrar,
        _signatures_without_their_page,
        _link_of_the_operator_as_reviewer,
    ],
)
def test_a_second_signature_that_does_not_follow_is_found(
    good: Path, tmp_path: Path, mutate: Callable[[Path], None]
) -> None:
    package = fixture.copy(good, tmp_path / "package")
    mutate(package)
    fixture.rebag(package)
    assert _failed(package) == {"interop.signatures"}


def test_an_altered_bundle_is_found(good: Path, tmp_path: Path) -> None:
    package = fixture.copy(good, tmp_path / "package")
    path = package / paths.bundle_path("release", "operator")
    path.write_bytes(path.read_bytes().replace(b'"logIndex":"', b'"logIndex":"1', 1))
    fixture.rebag(package)
    assert _failed(package) == {"interop.bundles"}


def test_a_missing_bundle_is_found(good: Path, tmp_path: Path) -> None:
    package = fixture.copy(good, tmp_path / "package")
    (package / paths.bundle_path("release", "operator")).unlink()
    fixture.rebag(package)
    assert _failed(package) == {"interop.bundles"}


def test_second_signatures_are_no_claim_and_may_be_absent(good: Path, tmp_path: Path) -> None:
    import shutil

    package = fixture.copy(good, tmp_path / "package")
    shutil.rmtree(package / "interop")
    (package / paths.CERTIFICATE_PDF).unlink()
    fixture.rebag(package)
    assert not _verify(package).failures


def test_the_package_with_all_of_them_verifies(good: Path) -> None:
    assert not _verify(good).failures


def test_key_ids_are_those_of_securesystemslib() -> None:
    from cryptography.hazmat.primitives.serialization import load_der_public_key
    from securesystemslib.signer import SSlibKey

    spki = fixture.key("operator").public.spki
    key = SSlibKey.from_crypto(load_der_public_key(spki))
    assert interop.sslib_keyid(spki) == key.keyid
    assert interop.sslib_key(spki) == {"keytype": key.keytype, "scheme": key.scheme, "keyval": key.keyval}
