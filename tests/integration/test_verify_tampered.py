"""Tampering: whatever a stranger changes in a finished package, the verifier names it.

``MUTANTS`` is the published table: what was done to the package, and the rule that catches it. Every
mutant is *re-bagged*: the forger has made the tag manifest fit again, so that the checksum alone
never decides.
"""

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from products.package import paths
from products.verify import Report, verify
from tests import package_fixture as fixture

Mutant = Callable[[Path], object]


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fixture.write(fixture.honest("model"), tmp_path_factory.mktemp("honest"))


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fixture.Trust().fresh().write(tmp_path_factory.mktemp("fresh") / "trust")


@pytest.fixture
def package(honest: Path, tmp_path: Path) -> Path:
    return fixture.copy(honest, tmp_path / "package")


def check(package: Path, fresh: Path) -> Report:
    return verify(package, root_sha256=fixture.root_sha256(), fresh_trust=fresh, now=fixture.NOW)


def replace(path: str, old: bytes, new: bytes) -> Mutant:
    def act(package: Path) -> None:
        data = (package / path).read_bytes()
        assert old in data
        (package / path).write_bytes(data.replace(old, new, 1))

    return act


def append(path: str, tail: bytes) -> Mutant:
    return lambda package: (package / path).write_bytes((package / path).read_bytes() + tail)


def write(path: str, data: bytes) -> Mutant:
    def act(package: Path) -> None:
        (package / path).parent.mkdir(parents=True, exist_ok=True)
        (package / path).write_bytes(data)

    return act


def remove(*names: str) -> Mutant:
    return lambda package: [(package / name).unlink() for name in names]


def move(old: str, new: str) -> Mutant:
    return lambda package: (package / old).rename(package / new)


def swap(first: str, second: str) -> Mutant:
    def act(package: Path) -> None:
        one, two = (package / first).read_bytes(), (package / second).read_bytes()
        (package / first).write_bytes(two)
        (package / second).write_bytes(one)

    return act


def reserialise(path: str) -> Mutant:
    return lambda package: (package / path).write_text(json.dumps(json.loads((package / path).read_bytes()), indent=1))


def upper_signature(path: str) -> Mutant:
    """The same bytes of signature in another spelling: hex in capitals."""

    def act(package: Path) -> None:
        value = json.loads((package / path).read_bytes())
        value["signatures"][0]["sig"] = value["signatures"][0]["sig"].upper()
        (package / path).write_text(json.dumps(value, separators=(",", ":"), sort_keys=True))

    return act


def duplicate_key(path: str) -> Mutant:
    return replace(path, b'{"payload":', b'{"payload":"","payload":')


def second_signature(path: str) -> Mutant:
    def act(package: Path) -> None:
        value = json.loads((package / path).read_bytes())
        value["signatures"] *= 2
        (package / path).write_text(json.dumps(value, separators=(",", ":"), sort_keys=True))

    return act


def fewer_lines(path: str, keep: int) -> Mutant:
    """Keep the first ``keep`` signature lines of every proof's checkpoint."""

    def act(package: Path) -> None:
        for proof in (package / "log").glob(path):
            head, lines = proof.read_bytes().rsplit(b"\n\n", 1)
            proof.write_bytes(head + b"\n\n" + b"\n".join(lines.split(b"\n")[:keep]) + b"\n")

    return act


def other_root(package: Path) -> None:
    """A forger's whole repository under a root of its own."""
    shutil.rmtree(package / "trust")
    folder = fixture.Trust(root_name="forger", issued=fixture.RELEASED).write(package.parent / "forged")
    (folder / "targets").rename(folder / "all-targets")
    (folder / "targets").mkdir()
    for item in (folder / "all-targets").iterdir():
        if not item.name.endswith("ca.crt"):
            item.rename(folder / "targets" / item.name)
    shutil.rmtree(folder / "all-targets")
    folder.rename(package / "trust")


REVIEW = "attestations/review-reviewer-1.reviewer-1.dsse.json"
RELEASE = "attestations/release.registrar-2.dsse.json"
PROOF = "log/release.registrar-2.tlog-proof"

MUTANTS: dict[str, tuple[Mutant, str]] = {
    "another model": (write("data/product/model.onnx", b"\x08\x0a another model"), "release.files"),
    "an altered model card": (append("data/metadata/model_card.md", b" "), "release.files"),
    "an altered RO-Crate": (replace(paths.CRATE, b"1.0.0", b"1.0.1"), "release.files"),
    "a file added to the payload": (write("data/product/extra.txt", b"x"), "release.files"),
    "a file removed from the payload": (remove("data/metadata/model_card.md"), "release.files"),
    "a file renamed in the payload": (move("data/product/model.onnx", "data/product/model2.onnx"), "release.files"),
    "bagit.txt in other words": (replace("bagit.txt", b"1.0", b"0.9"), "bag.tags"),
    "trailing whitespace in bag-info.txt": (append("bag-info.txt", b" "), "bag.tags"),
    "another source in bag-info.txt": (append("bag-info.txt", b"Source-Organization: other\n"), "bag.tags"),
    "manifest in upper case": (replace("manifest-sha256.txt", b"a", b"A"), "bag.tags"),
    "another SM3 manifest": (replace("manifest-sm3.txt", b"0", b"1"), "bag.tags"),
    "no SM3 manifest": (remove("manifest-sm3.txt"), "package.layout"),
    "an unknown file at the root": (write("readme.txt", b"hello"), "package.layout"),
    "an unknown file beside the proofs": (write("log/more.txt", b"x"), "package.layout"),
    "a certificate that claims another name": (
        replace(paths.CERTIFICATE_JSON, b"Risk model", b"Best model"),
        "certificate.derived",
    ),
    "a certificate page with another code": (
        replace(paths.CERTIFICATE_HTML, b"00000017", b"00000018"),
        "certificate.derived",
    ),
    "an envelope in another spelling": (reserialise(REVIEW), "package.statements"),
    "an envelope with a duplicate key": (duplicate_key(REVIEW), "package.statements"),
    "an envelope with two signatures": (second_signature(REVIEW), "package.statements"),
    "a signature of another statement": (swap(REVIEW, REVIEW.replace("reviewer-1", "reviewer-2")), "log.inclusion"),
    "an altered payload": (replace(RELEASE, b'"payload":"ey', b'"payload":"fy'), "signature.valid"),
    "no review at all": (
        remove(
            *(f"attestations/review-reviewer-{n}.reviewer-{n}.dsse.json" for n in (1, 2)),
            *(f"log/review-reviewer-{n}.reviewer-{n}.tlog-proof" for n in (1, 2)),
        ),
        "release.attestations",
    ),
    "a missing proof": (remove(PROOF), "log.inclusion"),
    "another index in a proof": (replace(PROOF, b"index 30", b"index 29"), "log.inclusion"),
    "proofs of two entries swapped": (swap(PROOF, PROOF.replace("registrar-2", "registrar-1")), "log.inclusion"),
    "a proof with extra data": (replace(PROOF, b"index", b"extra aGk=\nindex"), "log.inclusion"),
    "a proof with a comment line": (append(PROOF, "— nobody.example AAAAAAAA\n".encode()), "log.witness"),
    "one witness only": (fewer_lines("*", 2), "log.witness"),
    "no witness": (fewer_lines("*", 1), "log.witness"),
    "another checkpoint": (replace(PROOF, b"example/2026\n31\n", b"example/2026\n32\n"), "log.witness"),
    "another trust repository": (other_root, "trust.root"),
    "an altered list of actors": (
        lambda p: replace(
            str(next((p / "trust/targets").glob("*actors.json")).relative_to(p)), b"org-agency", b"org-agencY"
        )(p),
        "trust.metadata",
    ),
    "a signature of the root in capitals": (upper_signature("trust/metadata/timestamp.json"), "trust.metadata"),
    "a space inside a signature of the timestamp": (
        replace("trust/metadata/timestamp.json", b'"sig":"', b'"sig":" '),
        "trust.metadata",
    ),
    "an altered timestamp": (replace("trust/metadata/timestamp.json", b"2026-11-25", b"2027-11-25"), "trust.metadata"),
    "whitespace in the timestamp": (append("trust/metadata/timestamp.json", b"\n"), "trust.metadata"),
    "no snapshot": (remove("trust/metadata/1.snapshot.json"), "trust.metadata"),
    "a gap in the roots": (write("trust/metadata/3.root.json", b"{}"), "trust.metadata"),
    "an unnamed trust target": (write("trust/targets/more.json", b"{}"), "trust.metadata"),
    "a symbolic link": (lambda p: (p / "data/product/link").symlink_to("model.onnx"), "package.tree"),
    "an empty folder": (lambda p: (p / "data/empty").mkdir(), "package.tree"),
    "a name that differs by case": (write("data/product/MODEL.onnx", b"x"), "package.tree"),
    "a name that is not in normal form C": (write("data/product/e\u0301.txt", b"x"), "package.tree"),
    "a name with an invisible character": (write("data/product/model\u202e.txt", b"x"), "package.tree"),
}


@pytest.mark.requirement("PROV-TRACE")
def test_the_honest_package_is_valid(honest: Path, fresh: Path) -> None:
    report = check(honest, fresh)
    assert [c.code for c in report.checks if c.outcome != "ok"] == ["rule.shapes"]  # done where --shapes is passed
    assert (report.verdict, report.exit_code) == ("valid", 0)


@pytest.mark.parametrize("form", ["report", "verification"])
def test_honest_packages_of_other_forms_are_valid(form: str, fresh: Path, tmp_path: Path) -> None:
    assert check(fixture.write(fixture.honest(form), tmp_path), fresh).exit_code == 0


@pytest.mark.parametrize("name", MUTANTS)
@pytest.mark.requirement("PROV-TRACE")
def test_the_rule_catches_the_tampered_package(name: str, package: Path, fresh: Path) -> None:
    act, code = MUTANTS[name]
    act(package)
    if not (package / "data/product/link").is_symlink() and not (package / "data/empty").is_dir():
        fixture.rebag(package)
    report = check(package, fresh)
    assert report.exit_code == 1
    assert code in {c.code for c in report.failures}, [(c.code, c.evidence) for c in report.failures]


def test_a_flipped_byte_in_any_file_is_found_and_named(package: Path, fresh: Path) -> None:
    for file, restore in _flips(package, positions=1):
        report = check(package, fresh)
        assert report.exit_code == 1, file
        if file != paths.TAGMANIFEST:
            assert any(file in c.evidence for c in report.failures), file
        restore()


@pytest.mark.slow
def test_no_byte_outside_the_payload_is_free_even_for_a_forger_who_bags_again(package: Path, fresh: Path) -> None:
    for file, restore in _flips(package, positions=12):
        fixture.rebag(package)
        if file != paths.TAGMANIFEST:
            assert check(package, fresh).exit_code == 1, file
        restore()


def _flips(package: Path, *, positions: int) -> Iterator[tuple[str, Callable[[], None]]]:
    rng = random.Random(20261120)
    tag_manifest = (package / paths.TAGMANIFEST).read_bytes()
    for file in sorted(p for p in package.rglob("*") if p.is_file()):
        data = file.read_bytes()
        for position in {
            *((0, len(data) - 1) if positions > 1 else ()),
            *(rng.randrange(len(data)) for _ in range(positions)),
        }:
            altered = bytearray(data)
            altered[position] ^= 1 << rng.randrange(8)
            file.write_bytes(altered)

            def restore(file: Path = file, data: bytes = data) -> None:
                file.write_bytes(data)
                (package / paths.TAGMANIFEST).write_bytes(tag_manifest)

            yield str(file.relative_to(package)), restore


def test_a_fifo_does_not_hang_the_verifier(package: Path, fresh: Path) -> None:
    import os

    os.mkfifo(package / "data/product/pipe")
    assert [c.code for c in check(package, fresh).failures] == ["package.tree"]


def test_file_modes_do_not_matter(package: Path, fresh: Path) -> None:
    for file in package.rglob("*"):
        if file.is_file():
            file.chmod(0o600)
    assert check(package, fresh).exit_code == 0


def test_something_that_is_no_package_is_invalid(tmp_path: Path, fresh: Path) -> None:
    (tmp_path / "note.txt").write_text("hello")
    assert check(tmp_path, fresh).verdict == "invalid"


def test_deeply_nested_json_is_refused_and_not_a_crash(package: Path, fresh: Path) -> None:
    (package / REVIEW).write_bytes(b'{"a":' * 200_000)
    fixture.rebag(package)
    assert "package.statements" in {c.code for c in check(package, fresh).failures}
