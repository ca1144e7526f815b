"""Second signatures with SM2: optional, never unchecked, and required under the profile gm."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nodes.contract import gm
from nodes.contract.signing import Envelope
from products.errors import IncompleteError
from products.package import paths
from products.verify import Report, verify
from tests import package_fixture as fixture

pytest.importorskip("gmalg")
VICTIM = paths.sm2_path("run-node-east.node-east")


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    trust = fixture.with_sm2(fixture.honest("model")).trust.fresh()
    return trust.write(tmp_path_factory.mktemp("fresh") / "trust")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fixture.write(fixture.with_sm2(fixture.honest("model")), tmp_path_factory.mktemp("gm"), second=True)


def check(package: Path, fresh: Path, **more: str) -> Report:
    return verify(package, root_sha256=fixture.root_sha256(), fresh_trust=fresh, now=fixture.NOW, **more)  # type: ignore[arg-type]


def failed(report: Report) -> set[str]:
    return {c.code for c in report.failures}


def of_another_key(path: Path) -> None:
    envelope = Envelope.from_bytes(path.read_bytes())
    path.write_bytes(gm.countersign(fixture.sm2_key("node-west"), envelope))


def of_another_statement(path: Path) -> None:
    path.write_bytes((path.parent / "run-node-west.node-west.sm2.dsse.json").read_bytes())


def other_bytes_signed(path: Path) -> None:
    value = json.loads(path.read_bytes())
    other = json.loads((path.parent / "privacy.node-east.sm2.dsse.json").read_bytes())
    value["signatures"] = other["signatures"]
    path.write_bytes(json.dumps(value, separators=(",", ":"), sort_keys=True).encode())


def claimed_key(path: Path) -> None:
    """Signed by another key under the id of the right one."""
    envelope = Envelope.from_bytes(path.read_bytes())
    forged = Envelope.from_bytes(gm.countersign(fixture.sm2_key("node-west"), envelope))
    path.write_bytes(Envelope(forged.payload_type, forged.payload, envelope.keyid, forged.signature).to_bytes())


@pytest.mark.parametrize(
    "tamper",
    [Path.unlink, of_another_key, of_another_statement, other_bytes_signed, claimed_key],
    ids=lambda f: f.__name__,
)
def test_an_absent_or_wrong_second_signature_is_refused(
    package: Path, fresh: Path, tmp_path: Path, tamper: Callable[[Path], object]
) -> None:
    copy = fixture.copy(package, tmp_path / "package")
    tamper(copy / VICTIM)
    fixture.rebag(copy)
    assert failed(check(copy, fresh)) == {"signature.sm2"}


def test_a_signer_without_a_listed_sm2_key_is_refused(tmp_path: Path) -> None:
    draft = fixture.with_sm2(fixture.honest("model"))
    for actor in draft.trust.actors:
        actor["sm2_spki"] = "" if actor["id"] == "registrar-1" else actor["sm2_spki"]
    fresh = draft.trust.fresh().write(tmp_path / "fresh")
    assert failed(check(fixture.write(draft, tmp_path / "p"), fresh)) == {"signature.sm2"}


def test_a_wrong_one_is_refused_where_none_is_required(tmp_path: Path, fresh: Path) -> None:
    package = fixture.write(fixture.with_sm2(fixture.honest("model"), policy=False), tmp_path)
    assert failed(check(package, fresh)) == set()
    of_another_key(package / VICTIM)
    fixture.rebag(package)
    assert failed(check(package, fresh)) == {"signature.sm2"}


def test_the_writer_refuses_to_release_without_them(tmp_path: Path) -> None:
    draft = fixture.with_sm2(fixture.honest("model"))
    draft.sm2 = False
    with pytest.raises(IncompleteError, match="SM2"):
        fixture.write(draft, tmp_path)
    assert not (tmp_path / "package").exists()


def test_the_verifier_may_ask_for_them_whatever_the_policy_says(tmp_path: Path, fresh: Path) -> None:
    package = fixture.write(fixture.honest("model"), tmp_path)
    assert check(package, fresh).verdict == "valid"
    assert failed(check(package, fresh, profile="gm")) == {"signature.sm2"}


def test_without_the_extra_the_answer_is_unknown_and_never_valid(
    package: Path, fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gmalg", None)
    report = check(package, fresh)
    assert (report.verdict, failed(report)) == ("unknown", set())


def test_a_package_under_the_profile_gm_is_valid(package: Path, fresh: Path) -> None:
    report = check(package, fresh, profile="gm")
    assert (report.verdict, failed(report)) == ("valid", set())
    count = len(list((package / "attestations").glob("*.dsse.json")))
    assert next(c.evidence for c in report.checks if c.code == "signature.sm2") == f"{count} signatures"
