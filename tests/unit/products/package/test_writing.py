"""Writing a package: all or nothing, and the same bytes again."""

from pathlib import Path

import pytest

from products.errors import IncompleteError, MalformedError, PackageExistsError, UntrustedError
from products.package.payload import build_payload
from products.package.writing import write_package
from tests import package_fixture as fixture


def _leftovers(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.name != "trust-repository")


def test_a_release_is_never_overwritten(tmp_path: Path) -> None:
    package = fixture.write(fixture.honest(), tmp_path)
    draft = fixture.honest()
    with pytest.raises(PackageExistsError):
        write_package(
            package, payload=draft.payload, signed=[], quality_reports={}, trust_dir=tmp_path / "trust-repository"
        )


def test_a_release_of_other_files_is_not_written(tmp_path: Path) -> None:
    draft = fixture.honest()
    draft.release["manifest"] = dict.fromkeys(draft.release["manifest"], "0" * 64)
    with pytest.raises(IncompleteError, match="exactly the files"):
        fixture.write(draft, tmp_path)
    assert _leftovers(tmp_path) == []


def test_without_a_release_statement_nothing_is_written(tmp_path: Path) -> None:
    draft = fixture.honest()
    draft.release_signers = []
    with pytest.raises(IncompleteError, match="one release"):
        fixture.write(draft, tmp_path)
    assert _leftovers(tmp_path) == []


def test_without_trust_data_nothing_is_written(tmp_path: Path) -> None:
    draft = fixture.honest()
    (tmp_path / "empty").mkdir()
    with pytest.raises(UntrustedError):
        write_package(
            tmp_path / "package",
            payload=draft.payload,
            signed=fixture.sign_all(draft),
            quality_reports=draft.quality,
            trust_dir=tmp_path / "empty",
        )
    assert not (tmp_path / "package").exists()


def test_a_file_that_changed_after_it_was_digested_stops_the_package(tmp_path: Path) -> None:
    source = tmp_path / "model.onnx"
    source.write_bytes(b"\x08 model")
    draft = fixture.honest()
    draft.payload = build_payload(
        fixture.description("model"), product_files={"model.onnx": source}, metadata_files={"model_card.md": b"#\n"}
    )
    draft.release["manifest"] = draft.payload.manifest_digests
    source.write_bytes(b"\x08 other")
    with pytest.raises(IncompleteError, match="changed after"):
        fixture.write(draft, tmp_path)
    assert _leftovers(tmp_path) == ["model.onnx"]


def test_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    draft = fixture.honest()
    signed, trust = fixture.sign_all(draft), draft.trust.write(tmp_path / "trust")
    for name in ("one", "two"):
        write_package(
            tmp_path / name, payload=draft.payload, signed=signed, quality_reports=draft.quality, trust_dir=trust
        )
    one, two = (
        {p.relative_to(tmp_path / n): p.read_bytes() for p in (tmp_path / n).rglob("*") if p.is_file()}
        for n in ("one", "two")
    )
    assert one == two


def test_the_summary_counts_what_is_there(tmp_path: Path) -> None:
    draft = fixture.honest()
    summary = write_package(
        tmp_path / "package",
        payload=draft.payload,
        signed=fixture.sign_all(draft),
        quality_reports=draft.quality,
        trust_dir=draft.trust.write(tmp_path / "trust"),
    )
    files = [p for p in (tmp_path / "package").rglob("*") if p.is_file()]
    assert summary.files == len(files)
    assert summary.size_bytes == sum(p.stat().st_size for p in files)


@pytest.mark.parametrize("name", ["../model.onnx", "/model.onnx", "a\\b.onnx"])
def test_a_path_that_leaves_the_package_is_refused(name: str) -> None:
    with pytest.raises(MalformedError):
        build_payload(
            fixture.description("model"),
            product_files={"model.onnx": b"x", name: b"x"},
            metadata_files={"model_card.md": b"#"},
        )


def test_a_model_without_its_card_is_refused() -> None:
    with pytest.raises(IncompleteError, match="model card"):
        build_payload(fixture.description("model"), product_files={"model.onnx": b"x"}, metadata_files={})
