"""Insiders: correctly signed, logged and witnessed, and wrong in substance; each lie has its rule.

``INSIDERS`` is the published table: what the signers did, and the rule that catches it.
"""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from products import registration_code
from products.fields import time_text
from products.forms import NODE_RUN, PRIVACY
from products.package import bag
from products.package.payload import Payload, build_payload
from products.verify import Report, verify
from tests import package_fixture as fixture
from tests.package_fixture import NODES, RELEASED, Draft, Earlier, Stmt

Lie = Callable[[Draft], object]


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fixture.Trust().fresh().write(tmp_path_factory.mktemp("fresh") / "trust")


def check(package: Path, fresh: Path | None) -> Report:
    return verify(package, root_sha256=fixture.root_sha256(), fresh_trust=fresh, now=fixture.NOW)


def without(*names: str) -> Lie:
    return lambda d: [d.statements.pop(name) for name in names]


def signers(name: str, *actors: str) -> Lie:
    return lambda d: setattr(d.statements[name], "signers", list(actors))


def release_signers(*actors: str) -> Lie:
    return lambda d: setattr(d, "release_signers", list(actors))


def actor(name: str, **changes: object) -> Lie:
    def act(d: Draft) -> None:
        d.trust.actors = [fixture.actor_entry(a["id"], **changes) if a["id"] == name else a for a in d.trust.actors]

    return act


def run(**changes: object) -> Lie:
    return lambda d: d.run("node-east").update(changes)


def used(**changes: object) -> Lie:
    return lambda d: d.run("node-east")["resources"][0].update(changes)


def release(**changes: object) -> Lie:
    return lambda d: d.release.update(changes)


def at(**delta: float) -> str:
    return time_text(RELEASED + timedelta(**delta))


def both(*lies: Lie) -> Lie:
    return lambda d: [lie(d) for lie in lies]


def other_artefact(d: Draft) -> None:
    """The release is of an older model than the build: the payload was swapped after review."""
    d.payload = build_payload(
        fixture.description("model"), product_files={"model.onnx": b"older"}, metadata_files={"model_card.md": b"#\n"}
    )
    d.release["manifest"] = d.payload.manifest_digests


def lower_quality(d: Draft) -> None:
    for value in (d.resource("node-east")["quality"], d.run("node-east")["resources"][0]["quality"]):
        value["score_x100"] = 8999


def pickle_inside(d: Draft) -> None:
    files = {"model.onnx": b"\x08", "extra.txt": b"x"}
    payload = build_payload(fixture.description("model"), product_files=files, metadata_files={"model_card.md": b"#\n"})
    contents = {k.replace("extra.txt", "extra.pkl"): v for k, v in payload.contents.items()}
    d.payload = type(payload)(contents, {k.replace("extra.txt", "extra.pkl"): v for k, v in payload.facts.items()})
    d.release["manifest"] = d.payload.manifest_digests


def second_grant(d: Draft) -> None:
    grant = fixture.honest("model").statements["grant"]
    grant.predicate["grant_id"] = "g-2"
    d.statements["grant-2"] = grant


def registrar_early(items: list[tuple[str, str]]) -> list[tuple[str, str]]:
    early = ("release", "registrar-1")
    return [early, *(item for item in items if item != early)]


def foreign_run(d: Draft) -> None:
    d.statements["run-extra"] = Stmt(
        NODE_RUN, [("run/s-1/node-east", "0" * 64)], dict(d.run("node-east")), ["node-east"]
    )


def other_operator(d: Draft) -> None:
    d.trust.actors.append(fixture.actor_entry("operator-2"))
    d.release_signers.append("operator-2")


def report_says(**changes: object) -> Lie:
    """A department states another score than its own report, digest and all."""

    def act(d: Draft) -> None:
        report = fixture.quality_report("node-east", **changes)  # type: ignore[arg-type]
        d.quality["res.east.clinic"] = report
        for value in (d.resource("node-east")["quality"], d.run("node-east")["resources"][0]["quality"]):
            value["report_sha256"] = fixture.sha256(report)

    return act


def metadata_says(path: str, old: str, new: str) -> Lie:
    """Everybody signs metadata that claims something else than the statements."""

    def act(d: Draft) -> None:
        content = d.payload.contents[path]
        assert isinstance(content, bytes)
        assert old.encode() in content
        contents = {**d.payload.contents, path: content.replace(old.encode(), new.encode())}
        facts = {name: bag.facts_of(bag.chunks_of(item), sm3=True) for name, item in contents.items()}
        d.payload = Payload(contents, facts)
        d.release["manifest"] = d.payload.manifest_digests
        for name in ("review-reviewer-1", "review-reviewer-2"):
            d.statements[name].subjects = d.payload.subjects

    return act


def earlier(**changes: object) -> Lie:
    return lambda d: setattr(d, "earlier", Earlier(**changes))  # type: ignore[arg-type]


def stray_previous(d: Draft) -> None:
    d.earlier = Earlier()
    whole = d.earlier.signed

    def unnamed() -> tuple[None, object]:
        return None, whole()[1]

    d.earlier.signed = unnamed  # type: ignore[assignment,method-assign]


INSIDERS: dict[str, tuple[Lie, str]] = {
    "unreviewed": (without("review-reviewer-1", "review-reviewer-2"), "release.required"),
    "one reviewer only": (without("review-reviewer-2"), "release.signers"),
    "one reviewer of two titles": (
        lambda d: d.statements["review-reviewer-2"].predicate.update(verifier={"id": "reviewer-1"}),
        "release.signers",
    ),
    "reviewers of one organisation": (actor("reviewer-2", organisation="org-university"), "release.signers"),
    "reviewer of the operator's organisation": (actor("reviewer-1", organisation="org-operator"), "release.signers"),
    "reviewer of a department": (actor("reviewer-1", organisation="org-east"), "release.signers"),
    "self-reviewed by the operator": (signers("review-reviewer-1", "operator"), "release.signers"),
    "a point of the review left out": (
        lambda d: d.statements["review-reviewer-1"].predicate["properties"].pop(),
        "rule.review",
    ),
    "reviewed another set of files": (lambda d: d.statements["review-reviewer-1"].subjects.pop(), "rule.review"),
    "reviewed before the run": (
        lambda d: d.statements["review-reviewer-1"].predicate.update(timeCreated=at(days=-3)),
        "rule.window",
    ),
    "expired grant": (lambda d: d.grant.update(not_after=at(hours=-6)), "rule.window"),
    "grant not yet begun": (lambda d: d.grant.update(not_before=at(hours=-1)), "rule.window"),
    "wrong purpose": (run(purpose="marketing"), "rule.purpose"),
    "wrong scenario": (run(scenario="sc.other"), "rule.purpose"),
    "ungranted task": (run(task="linear.plain"), "rule.purpose"),
    "another form than granted": (lambda d: d.grant.update(product_form="report"), "rule.purpose"),
    "run under another grant": (run(grant={"id": "g-0", "sha256": "0" * 64}), "rule.purpose"),
    "extra column": (used(columns=["age", "sex", "chol", "zip"]), "rule.resources"),
    "row filter dropped": (used(row_filter=[]), "rule.resources"),
    "ungranted resource version": (used(version=2), "rule.resources"),
    "resource without a statement": (without("resource-node-east"), "rule.resources"),
    "another data set than stated": (used(commitment="0" * 64), "rule.resources"),
    "overspent budget": (run(budget={"unit": "session", "before": 10, "after": 11}), "rule.budget"),
    "budget in another unit": (run(budget={"unit": "query", "before": 2, "after": 3}), "rule.budget"),
    "budget that runs backwards": (run(budget={"unit": "session", "before": 3, "after": 2}), "rule.budget"),
    "over-used grant": (run(uses={"before": 5, "after": 6}), "rule.budget"),
    "a use that was not counted": (run(uses={"before": 1, "after": 1}), "rule.budget"),
    "privacy account below the ledgers": (
        lambda d: d.statements["privacy"].predicate.update(consumed=0),
        "rule.privacy",
    ),
    "privacy account of other ledgers": (
        lambda d: d.statements["privacy"].predicate["ledgers"].pop(),
        "rule.privacy",
    ),
    "cells smaller than granted": (
        lambda d: d.statements["privacy"].predicate["disclosure"].update(cell_min=1),
        "rule.privacy",
    ),
    "no privacy account": (without("privacy"), "release.required"),
    "stale quality": (
        lambda d: d.resource("node-east")["quality"].update(assessed_at=at(days=-400)),
        "rule.quality",
    ),
    "quality below the grant": (lower_quality, "rule.quality"),
    "quality improved in the run": (used(quality={"report_sha256": "0" * 64, "score_x100": 9999}), "rule.quality"),
    "another quality report": (lambda d: d.quality.update({"res.east.clinic": b"{}"}), "rule.quality"),
    "quality report missing": (lambda d: d.quality.pop("res.east.clinic"), "rule.quality"),
    "missing node statement": (without("run-node-east"), "rule.participants"),
    "participant left out": (release(participants=list(NODES[:2])), "rule.participants"),
    "one run stated twice": (foreign_run, "rule.participants"),
    "too few contributors": (run(contributors=2), "rule.participants"),
    "run signed by another node": (signers("run-node-east", "node-west"), "release.signers"),
    "resource signed by another node": (signers("resource-node-east", "node-west"), "release.signers"),
    "grant without the department": (
        signers("grant", "registrar-1", "registrar-2", "node-east", "node-west"),
        "release.signers",
    ),
    "grant by one registrar": (signers("grant", "registrar-1", *NODES), "release.signers"),
    "grant signed by a stranger too": (
        signers("grant", "registrar-1", "registrar-2", *NODES, "outsider"),
        "release.signers",
    ),
    "two grants": (second_grant, "rule.purpose"),
    "build without a node": (signers("build", "operator", "node-east", "node-west"), "release.signers"),
    "build that hides a source": (lambda d: setattr(d, "unnamed_sources", ("resource-node-east",)), "rule.build"),
    "build of other sessions": (
        lambda d: d.statements["build"].predicate["buildDefinition"]["internalParameters"].update(sessions=["s-9"]),
        "rule.build",
    ),
    "swapped artefact of an older version": (other_artefact, "rule.build"),
    "release by one registrar": (release_signers("operator", *NODES, "registrar-1"), "rule.registrars"),
    "release without the operator": (release_signers(*NODES, "registrar-1", "registrar-2"), "release.signers"),
    "release without a node": (
        release_signers("operator", "node-east", "node-west", "registrar-1", "registrar-2"),
        "release.signers",
    ),
    "registrar signed first": (lambda d: setattr(d, "log_order", registrar_early), "rule.registrars"),
    "statement not listed": (lambda d: setattr(d, "unlisted", ("privacy",)), "release.attestations"),
    "listed statement left out": (
        lambda d: setattr(d, "drop_after", tuple(f"privacy.{node}" for node in NODES)),
        "release.attestations",
    ),
    "listed under another type": (
        lambda d: d.release.update(
            attestations=[{"name": "run-node-east", "predicate_type": PRIVACY, "sha256": "0" * 64}]
        ),
        "release.attestations",
    ),
    "back-dated": (lambda d: setattr(d, "witnessed", RELEASED + timedelta(days=8)), "rule.window"),
    "dated ahead": (lambda d: setattr(d, "witnessed", RELEASED - timedelta(minutes=10)), "rule.window"),
    "another policy": (
        lambda d: d.release["policy"].update(sha256="0" * 64),
        "release.policy",
    ),
    "revoked key": (actor("node-east", removed_at=at(days=-1)), "key.window"),
    "compromised key": (actor("node-east", compromised_since=at(hours=-1)), "key.window"),
    "expired key": (actor("registrar-1", not_after=at(hours=-1)), "key.window"),
    "unknown signer": (
        lambda d: setattr(d.trust, "actors", [a for a in d.trust.actors if a["id"] != "node-east"]),
        "signature.actor",
    ),
    "cancelled resource registration": (
        lambda d: d.resource("node-east")["registration"].update(valid_until=at(days=-1)),
        "rule.registration",
    ),
    "resource registration that ended the day before": (
        lambda d: d.resource("node-east")["registration"].update(valid_until=at(days=-1)[:10]),
        "rule.registration",
    ),
    "resource without a registration": (
        lambda d: d.resource("node-east")["registration"].update(platform="", code="", valid_until=""),
        "rule.registration",
    ),
    "registration code with a typing error": (
        lambda d: d.release["registration"].update(code="SF-2026-MD-00000071-N7"),
        "rule.registration",
    ),
    "registration code of another form": (
        lambda d: d.release["registration"].update(code=registration_code.make(2026, "report", 17)),
        "rule.registration",
    ),
    "registration beyond three years": (
        lambda d: d.release["registration"].update(valid_until=at(days=1200)),
        "rule.registration",
    ),
    "evidence kept too briefly": (release(retain_until=at(days=400)), "rule.registration"),
    "pickled object in a model": (pickle_inside, "rule.form"),
    "log of another key": (lambda d: setattr(d, "log_key", "rogue-log"), "log.witness"),
    "one colluding witness": (lambda d: setattr(d, "witnesses", ("supervisor",)), "log.witness"),
    "trust data that had expired": (
        lambda d: setattr(d.trust, "issued", RELEASED - timedelta(days=8)),
        "trust.current",
    ),
    "targets signed by one registrar": (lambda d: setattr(d.trust, "target_signers", ("targets-1",)), "trust.metadata"),
    "another operator beside the grant's": (other_operator, "rule.purpose"),
    "score above that of the own report": (report_says(score=9000), "rule.quality"),
    "report of a resource that was held": (report_says(verdict="held"), "rule.quality"),
    "released while the grant was suspended": (
        lambda d: setattr(d.trust, "status", d.trust.struck("grant", "g-1", "suspended").status),
        "release.standing",
    ),
    "validity beyond the grant": (lambda d: d.grant.update(not_after=at(days=30)), "rule.registration"),
    "validity before the release": (
        lambda d: d.release["validity"].update(not_before=at(days=-30)),
        "rule.registration",
    ),
    "metadata that names another grant": (
        metadata_says("data/metadata/dcat.jsonld", "urn:shufang:grant:g-1", "urn:shufang:grant:g-9"),
        "metadata.derived",
    ),
    "metadata that widens the purpose": (
        metadata_says("data/metadata/dcat.jsonld", "credit-risk", "any-purpose"),
        "metadata.derived",
    ),
    "provenance that hides a source": (
        metadata_says("data/metadata/prov.ttl", "resource/res.west.clinic/1", "resource/res.other.clinic/1"),
        "metadata.derived",
    ),
    "bill of materials with another registration": (
        metadata_says("data/metadata/mlbom.cdx.json", "REG-node-west", "REG-node-none"),
        "metadata.derived",
    ),
    "a version before that nobody released": (
        lambda d: d.release["product"].update(previous={"version": "0.9.0", "sha256": "0" * 64}),
        "rule.previous",
    ),
    "a version before of another digest": (
        earlier(named={"version": "0.9.0", "sha256": "0" * 64}),
        "rule.previous",
    ),
    "a version before of another number": (earlier(named_version="0.8.0"), "rule.previous"),
    "a version before of another product": (earlier(product={"id": "prod.other", "version": "0.9.0"}), "rule.previous"),
    "a version before by one registrar": (earlier(signers=("registrar-1",)), "rule.previous"),
    "a version before by the operator": (earlier(signers=("registrar-1", "operator")), "rule.previous"),
    "a version before that is not in the log": (earlier(unlogged=True), "rule.previous"),
    "a version before with one witness": (earlier(witnesses=("supervisor",)), "rule.previous"),
    "a version before that came later": (earlier(released_at=RELEASED + timedelta(hours=1)), "rule.previous"),
    "a version before that no release names": (stray_previous, "rule.previous"),
    "form without a policy": (
        lambda d: setattr(
            d.trust, "policy", d.trust.policy.model_copy(update={"forms": {"report": d.trust.policy.forms["report"]}})
        ),
        "release.required",
    ),
}


@pytest.mark.parametrize("name", INSIDERS)
def test_the_rule_catches_the_insider(name: str, fresh: Path, tmp_path: Path) -> None:
    lie, code = INSIDERS[name]
    draft = fixture.honest("model")
    lie(draft)
    report = check(fixture.write(draft, tmp_path), fresh)
    assert report.exit_code == 1
    assert code in {c.code for c in report.failures}, [(c.code, c.evidence) for c in report.failures]


def test_a_later_version_with_its_earlier_release_is_valid(fresh: Path, tmp_path: Path) -> None:
    draft = fixture.honest("model")
    draft.earlier = Earlier()
    report = check(fixture.write(draft, tmp_path), fresh)
    assert [(c.code, c.evidence) for c in report.failures] == []
    assert next(c.evidence for c in report.checks if c.code == "rule.previous") == "0.9.0"


def test_a_resource_may_state_its_term_as_a_day(fresh: Path, tmp_path: Path) -> None:
    draft = fixture.honest("model")
    draft.resource("node-east")["registration"]["valid_until"] = at(days=0)[:10]
    assert check(fixture.write(draft, tmp_path), fresh).exit_code == 0


def test_a_signature_before_the_compromise_counts(fresh: Path, tmp_path: Path) -> None:
    draft = fixture.honest("model")
    actor("node-east", compromised_since=time_text(RELEASED + timedelta(hours=1)))(draft)
    assert check(fixture.write(draft, tmp_path), fresh).exit_code == 0


SHAPED = (
    "expired grant",
    "grant not yet begun",
    "wrong purpose",
    "wrong scenario",
    "ungranted task",
    "another form than granted",
    "extra column",
    "ungranted resource version",
    "resource without a statement",
    "another data set than stated",
    "overspent budget",
    "budget that runs backwards",
    "over-used grant",
    "a use that was not counted",
    "quality below the grant",
    "quality improved in the run",
    "missing node statement",
    "participant left out",
    "too few contributors",
    "reviewers of one organisation",
    "reviewer of the operator's organisation",
    "reviewer of a department",
    "self-reviewed by the operator",
    "release by one registrar",
    "registrar signed first",
    "another operator beside the grant's",
    "cancelled resource registration",
    "validity beyond the grant",
)
"""Insiders whom the agency's shapes catch as well, in an engine that others wrote."""


@pytest.mark.parametrize("name", SHAPED)
def test_the_second_engine_catches_the_insider_too(name: str, fresh: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyshacl")
    draft = fixture.honest("model")
    INSIDERS[name][0](draft)
    package = fixture.write(draft, tmp_path)
    report = verify(package, root_sha256=fixture.root_sha256(), fresh_trust=fresh, now=fixture.NOW, with_shapes=True)
    assert {INSIDERS[name][1], "rule.shapes"} <= {c.code for c in report.failures}


def test_the_second_engine_agrees_that_the_honest_package_is_valid(fresh: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyshacl")
    package = fixture.write(fixture.honest("model"), tmp_path)
    report = verify(package, root_sha256=fixture.root_sha256(), fresh_trust=fresh, now=fixture.NOW, with_shapes=True)
    assert (report.verdict, [c.evidence for c in report.failures]) == ("valid", [])


@pytest.mark.parametrize(
    "line",
    [
        'sf:X sh:sparql [ sh:select "SELECT $this WHERE { SERVICE <http://127.0.0.1:1/> { ?a ?b ?c } }" ] .',
        "<urn:x> <http://www.w3.org/2002/07/owl#imports> <http://127.0.0.1:1/> .",
    ],
)
def test_shapes_that_reach_outside_are_refused(line: str, tmp_path: Path) -> None:
    draft = fixture.honest("model")
    draft.trust.shapes += line.encode()
    fresh = draft.trust.fresh().write(tmp_path / "fresh")
    package = fixture.write(draft, tmp_path / "p")
    report = verify(package, root_sha256=fixture.root_sha256(), fresh_trust=fresh, now=fixture.NOW, with_shapes=True)
    assert [c.code for c in report.failures] == ["rule.shapes"]


def test_shapes_do_not_run_under_a_root_that_is_not_pinned(fresh: Path, tmp_path: Path) -> None:
    package = fixture.write(fixture.honest("model"), tmp_path)
    report = verify(package, root_sha256=None, fresh_trust=fresh, now=fixture.NOW, with_shapes=True)
    assert (report.verdict, next(c.outcome for c in report.checks if c.code == "rule.shapes")) == ("unknown", "warning")
