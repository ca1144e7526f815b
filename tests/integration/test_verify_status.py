"""Standing: what is in force now comes from fresh trust data, and never from the package."""

import dataclasses
from datetime import timedelta
from pathlib import Path

import pytest

from products.verify import Report, verify
from tests import package_fixture as fixture
from tests.package_fixture import NOW, RELEASED


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fixture.write(fixture.honest("model"), tmp_path_factory.mktemp("honest"))


def check(package: Path, fresh: Path | None, **changes: object) -> Report:
    arguments = {"root_sha256": fixture.root_sha256(), "fresh_trust": fresh, "now": NOW} | changes
    return verify(package, **arguments)  # type: ignore[arg-type]


def fresh(tmp_path: Path, trust: fixture.Trust | None = None) -> Path:
    return (trust or fixture.Trust().fresh()).write(tmp_path / "fresh")


def outcome(report: Report, code: str) -> str:
    return next(check.outcome for check in report.checks if check.code == code)


def test_without_fresh_trust_data_the_answer_is_unknown_and_never_valid(package: Path) -> None:
    report = check(package, None)
    assert (report.verdict, report.exit_code) == ("unknown", 3)
    assert outcome(report, "status.trust") == "warning"


def test_without_a_pinned_root_the_answer_is_unknown_even_with_fresh_data(package: Path, tmp_path: Path) -> None:
    report = check(package, fresh(tmp_path), root_sha256=None)
    assert (report.verdict, report.is_root_pinned) == ("unknown", False)
    assert outcome(report, "trust.root") == "warning"


def test_another_pinned_root_makes_the_package_invalid(package: Path, tmp_path: Path) -> None:
    report = check(package, fresh(tmp_path), root_sha256="0" * 64)
    assert [c.code for c in report.failures] == ["trust.root"]
    assert report.exit_code == 1


@pytest.mark.parametrize(
    ("kind", "subject"),
    [
        ("product", "prod.model"),
        ("product", "prod.model@1.0.0"),
        ("grant", "g-1"),
        ("resource", "res.west.clinic"),
        ("resource", "res.west.clinic@1"),
        ("actor", "node-west"),
        ("key", ""),
        ("release", ""),
    ],
)
@pytest.mark.parametrize("state", ["suspended", "revoked", "superseded"])
def test_what_strikes_any_part_taints_the_release(
    package: Path, tmp_path: Path, kind: str, subject: str, state: str
) -> None:
    if kind == "key":
        subject = fixture.key("node-west").public.keyid
    elif kind == "release":
        subject = check(package, None).release_sha256
    report = check(package, fresh(tmp_path, fixture.Trust().struck(kind, subject, state)))
    assert (report.verdict, report.exit_code) == (state, 2)


def test_what_strikes_something_else_leaves_the_release_valid(package: Path, tmp_path: Path) -> None:
    report = check(package, fresh(tmp_path, fixture.Trust().struck("product", "prod.model@0.9.0", "revoked")))
    assert report.verdict == "valid"


def test_a_compromise_that_became_known_later_makes_the_release_invalid(package: Path, tmp_path: Path) -> None:
    trust = fixture.Trust().fresh()
    since = fixture.time_text(RELEASED - timedelta(hours=8))
    trust.actors = [
        fixture.actor_entry(a["id"], compromised_since=since) if a["id"] == "node-east" else a for a in trust.actors
    ]
    report = check(package, fresh(tmp_path, trust))
    assert [c.code for c in report.failures] == ["status.keys"]
    assert report.exit_code == 1


def test_a_compromise_after_the_release_leaves_it_valid(package: Path, tmp_path: Path) -> None:
    trust = fixture.Trust().fresh()
    since = fixture.time_text(RELEASED + timedelta(days=1))
    trust.actors = [
        fixture.actor_entry(a["id"], compromised_since=since) if a["id"] == "node-east" else a for a in trust.actors
    ]
    assert check(package, fresh(tmp_path, trust)).exit_code == 0


def test_trust_data_that_expired_since_is_not_fresh(package: Path, tmp_path: Path) -> None:
    report = check(package, fresh(tmp_path), now=NOW + timedelta(days=8))
    assert (report.verdict, outcome(report, "status.trust")) == ("unknown", "warning")


def test_trust_data_older_than_the_packages_is_not_fresh(tmp_path: Path) -> None:
    draft = fixture.honest("model")
    draft.trust = dataclasses.replace(draft.trust, version=5)
    old = fixture.Trust(version=4, issued=NOW - timedelta(hours=1)).write(tmp_path / "old")
    assert check(fixture.write(draft, tmp_path), old).verdict == "unknown"


def test_trust_data_of_a_forged_root_is_not_fresh(package: Path, tmp_path: Path) -> None:
    forged = dataclasses.replace(fixture.Trust().fresh(), root_name="forger").write(tmp_path / "forged")
    assert check(package, forged).verdict == "unknown"


def test_a_rotated_root_is_followed_from_the_pin(tmp_path: Path) -> None:
    draft = fixture.honest("model")
    draft.trust = dataclasses.replace(draft.trust, root_versions=2)
    package = fixture.write(draft, tmp_path)
    assert check(package, fresh(tmp_path, dataclasses.replace(draft.trust, root_versions=3).fresh())).exit_code == 0


def test_a_product_past_its_term_is_genuine_but_expired(package: Path, tmp_path: Path) -> None:
    later = RELEASED + timedelta(days=400)
    trust = dataclasses.replace(fixture.Trust(), version=2, issued=later - timedelta(hours=1))
    report = check(package, fresh(tmp_path, trust), now=later)
    assert (report.verdict, report.exit_code) == ("expired", 2)


def test_invalid_outweighs_revoked(package: Path, tmp_path: Path) -> None:
    copy = fixture.copy(package, tmp_path / "package")
    (copy / "data/product/model.onnx").write_bytes(b"x")
    report = check(copy, fresh(tmp_path, fixture.Trust().struck("product", "prod.model", "revoked")))
    assert (report.verdict, report.exit_code) == ("invalid", 1)
