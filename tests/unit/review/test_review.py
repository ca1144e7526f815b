"""The review: who may not sign, what is not signed, and when it is complete."""

from datetime import timedelta

import pytest

from factory.review.errors import BundleError, NotPermittedError
from factory.review.review import POINTS, collect_reviews, return_product, sign_review, write_bundle
from factory.trust import load_trust
from tests import offices
from tests.offices import NOW

EVIDENCE = {"tests.json": b"{}", "grant.json": b"[]"}


@pytest.fixture
def world(tmp_path):
    world = offices.world(tmp_path)
    world.add("operator", "operator-ltd", "operator")
    world.add("reviewer-1", "university", "reviewer")
    world.add("reviewer-2", "association", "reviewer")
    world.add("reviewer-3", "university", "reviewer")
    world.publish()
    world.install()
    return world


def lay(world, **changes):
    fields = {
        "product": "prod.risk@1.0.0",
        "operator": "operator",
        "nodes": (),
        "grant_sha256": "ab" * 32,
        "payload": {"data/product/model.onnx": b"model", "data/ro-crate-metadata.json": b"{}"},
        "evidence": EVIDENCE,
        "points": dict.fromkeys(POINTS, ("tests.json", "grant.json")),
    }
    folder = world.folder / "bundle"
    write_bundle(folder, **{**fields, **changes})
    return folder


def sign(world, folder, name, **changes):
    reviewer = world.others[name]
    return sign_review(folder, reviewer, load_trust(reviewer.trust_path, now=NOW), now=NOW, **changes)


def trust(world):
    return world.office.trust()


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.requirement("PROD-ITEM")
def test_a_point_without_evidence_makes_no_bundle(world, point):
    points = {**dict.fromkeys(POINTS, ("tests.json",)), point: ()}
    with pytest.raises(BundleError, match=point):
        lay(world, points=points)


@pytest.mark.requirement("PROD-REVIEW")
def test_the_operator_does_not_review_its_own_product(world):
    folder = lay(world)
    with pytest.raises(NotPermittedError, match="reviewer in the trust data"):
        sign(world, folder, "operator")


@pytest.mark.requirement("PROD-REVIEW")
def test_a_body_that_supplied_rows_does_not_review(world):
    folder = lay(world, nodes=("reviewer-2",))
    with pytest.raises(NotPermittedError, match="GD-26-1"):
        sign(world, folder, "reviewer-2")


def test_one_reviewer_twice_is_refused(world):
    folder = lay(world)
    sign(world, folder, "reviewer-1")
    with pytest.raises(NotPermittedError, match="another person"):
        sign(world, folder, "reviewer-1")
    with pytest.raises(NotPermittedError, match="got 1 of 1"):
        collect_reviews(folder, trust(world), now=NOW)


def test_a_second_person_of_the_same_organisation_is_refused(world):
    folder = lay(world)
    sign(world, folder, "reviewer-1")
    with pytest.raises(NotPermittedError, match="another organisation"):
        sign(world, folder, "reviewer-3")


def test_a_copied_review_under_another_name_counts_once(world):
    folder = lay(world)
    (folder / "reviewer-2.dsse.json").write_bytes(sign(world, folder, "reviewer-1"))
    with pytest.raises(NotPermittedError, match="got 1"):
        collect_reviews(folder, trust(world), now=NOW)


@pytest.mark.parametrize("path", ["data/product/model.onnx", "evidence/tests.json", "bundle.json"])
def test_an_altered_file_is_not_reviewed(world, path):
    folder = lay(world)
    (folder / path).write_bytes((folder / path).read_bytes()[:-1] + b"!")
    with pytest.raises(BundleError):
        sign(world, folder, "reviewer-1")


def test_an_added_file_is_not_reviewed(world):
    folder = lay(world)
    (folder / "data" / "product" / "extra.txt").write_bytes(b"x")
    with pytest.raises(BundleError, match="exactly the files"):
        sign(world, folder, "reviewer-1")


def test_a_review_of_other_evidence_does_not_count(world):
    folder = lay(world)
    other = sign(world, folder, "reviewer-1")
    folder.rename(folder.with_name("first"))
    folder = lay(world, evidence={**EVIDENCE, "tests.json": b'{"failed":0}'})
    (folder / "reviewer-1.dsse.json").write_bytes(other)
    sign(world, folder, "reviewer-2")
    with pytest.raises(NotPermittedError, match="got 1"):
        collect_reviews(folder, trust(world), now=NOW)


@pytest.mark.requirement("PROD-ITEM")
def test_a_returned_product_is_not_released(world):
    folder = lay(world)
    sign(world, folder, "reviewer-1")
    reviewer = world.others["reviewer-2"]
    with pytest.raises(NotPermittedError, match="reason"):
        return_product(folder, reviewer, trust(world), reason=" ", now=NOW)
    return_product(folder, reviewer, trust(world), reason="purpose unclear", now=NOW)
    with pytest.raises(NotPermittedError, match="reviewer-2 returned"):
        collect_reviews(folder, trust(world), now=NOW)


def test_an_expired_reviewer_does_not_review(world):
    folder = lay(world)
    late = NOW + timedelta(days=731)
    with pytest.raises(NotPermittedError):
        sign_review(folder, world.others["reviewer-1"], trust(world), now=late)


@pytest.mark.requirement("PROD-ITEM", "PROD-REVIEW")
def test_two_reviewers_of_two_organisations_complete_the_review(world):
    folder = lay(world)
    sign(world, folder, "reviewer-1")
    sign(world, folder, "reviewer-2", notes={"SHUFANG_OTHER_POINTS": "watch drift"})
    assert sorted(collect_reviews(folder, trust(world), now=NOW)) == ["reviewer-1", "reviewer-2"]
