"""The review by two persons of two other organisations: six points, each with its evidence.

The operator lays a *bundle*: the product's files, what they were tested with, and per point
the evidence. A reviewer opens it at home, recomputes every digest, and signs (or returns
the product to *building* with the reason). Nobody of the operator, of a department of the
grant, or of the first reviewer's organisation counts.

    bundle.json                    product, grant, organisations, evidence per point
    data/…                         the payload exactly as it will be packed
    evidence/<name>                what the points rest on
    <reviewer>.dsse.json           one verification summary per reviewer
    <reviewer>.returned.json       or the reason why not

Privacy: a reviewer sees the product, test findings and signed statements; no row, and no
node's intermediate value.

Source:
    广东省 第二十六条 (GD-26-1 to -8), PROD-REVIEW, PROD-ITEM; in-toto SVR predicate v0.2.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from factory.files import write_atomic
from factory.identity import Identity
from factory.release.second import sign_second, write_own_sm2
from factory.review.errors import BundleError, NotPermittedError
from factory.trust import Trust
from nodes.contract import canonical
from nodes.contract.errors import ContractError
from nodes.contract.messages import Name, Part
from nodes.contract.signing import Envelope, sha256_hex, sign
from nodes.contract.statement import PAYLOAD_TYPE, REVIEW, read, statement, time_text
from products.package import paths
from products.package.interop import review_link

POINTS: Mapping[str, tuple[str, str, str]] = {
    "SHUFANG_PURPOSE_AND_SCOPE": ("符合申请用途和使用范围", "within the purpose and scope asked for", "GD-26-3"),
    "SHUFANG_SOURCES_STATED": ("注明数据来源及其合规性", "sources and their compliance are stated", "GD-26-4"),
    "SHUFANG_NO_EXPOSURE": ("无原始数据、敏感数据直接暴露", "no raw or sensitive data exposed", "GD-26-5"),
    "SHUFANG_NO_LEAK_OR_ABUSE": (
        "无个人信息和商业秘密泄露、滥用风险",
        "no leak or abuse of personal data or secrets",
        "GD-26-6",
    ),
    "SHUFANG_CROSS_BORDER": ("数据出境情况已核", "transfer abroad examined", "GD-26-7"),
    "SHUFANG_OTHER_POINTS": ("其他安全与合规风险已核", "other risks examined", "GD-26-8"),
}
"""The six points; each name is a property of the signed summary."""

REVIEWERS = 2


class Bundle(Part):
    """What ``bundle.json`` says.

    Attributes:
        product: id and version.
        operator: actor id of who made it.
        nodes: departments whose rows went in.
        grant_sha256: digest of the grant.
        subjects: SHA-256 by path of every file below ``data/``.
        evidence: SHA-256 by name of every evidence file.
        points: names of evidence files by point.
    """

    version: int = 1
    product: str
    operator: Name
    nodes: tuple[Name, ...]
    grant_sha256: str
    subjects: dict[str, str]
    evidence: dict[str, str]
    points: dict[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Returned:
    """A review that sends the product back to *building*.

    Attributes:
        reviewer: who.
        reason: why.
    """

    reviewer: str
    reason: str


def write_bundle(
    folder: Path,
    *,
    product: str,
    operator: str,
    nodes: Sequence[str],
    grant_sha256: str,
    payload: Mapping[str, bytes | Path],
    evidence: Mapping[str, bytes],
    points: Mapping[str, Sequence[str]],
) -> Bundle:
    """Lay a bundle for the reviewers.

    Args:
        folder: new folder.
        product: id and version, ``id@version``.
        operator: actor id.
        nodes: actor ids of the departments.
        grant_sha256: digest of the grant.
        payload: every file below ``data/`` by path, as it will be packed.
        evidence: test findings, pre-release report, grant, statements by short name.
        points: names of evidence by point of ``POINTS``.

    Raises:
        BundleError: a point without evidence, or evidence that is not there.
    """
    for point in POINTS:
        names = points.get(point, ())
        missing = [name for name in names if name not in evidence]
        if not names or missing:
            raise BundleError(
                f"expected evidence for {point} [PROD-ITEM, {POINTS[point][2]}]; missing: {missing or 'all'}"
            )
    if folder.exists():
        raise BundleError(f"expected a new folder for the bundle, {folder} exists")
    contents: dict[str, bytes] = {
        path: item if isinstance(item, bytes) else item.read_bytes() for path, item in payload.items()
    }
    for path in contents:
        paths.require_path(path)
        if not path.startswith(paths.DATA):
            raise BundleError("expected files below data/ as payload of the bundle")
    bundle = Bundle.model_validate(
        {
            "product": product,
            "operator": operator,
            "nodes": tuple(nodes),
            "grant_sha256": grant_sha256,
            "subjects": {path: sha256_hex(content) for path, content in sorted(contents.items())},
            "evidence": {name: sha256_hex(content) for name, content in sorted(evidence.items())},
            "points": {point: tuple(points[point]) for point in POINTS},
        }
    )
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    for path, content in {**contents, **{f"evidence/{name}": item for name, item in evidence.items()}}.items():
        (partial / path).parent.mkdir(parents=True, exist_ok=True)
        write_atomic(partial / path, content)
    write_atomic(partial / "bundle.json", canonical.dumps(bundle.model_dump(mode="json")))
    partial.rename(folder)
    return bundle


def read_bundle(folder: Path) -> Bundle:
    """Read a bundle and recompute every digest in it.

    Raises:
        BundleError: a file is missing, added or altered, or a point lacks evidence.
    """
    try:
        value = canonical.loads((folder / "bundle.json").read_bytes())
        bundle = Bundle.model_validate(value, strict=False)
    except (OSError, ValueError, ContractError) as error:
        raise BundleError(f"expected a review bundle in {folder}") from error
    for prefix, digests in (("", bundle.subjects), ("evidence/", bundle.evidence)):
        for name, digest in digests.items():
            path = folder / f"{prefix}{name}"
            paths.require_path(f"{prefix}{name}")
            if path.is_symlink() or not path.is_file() or sha256_hex(path.read_bytes()) != digest:
                raise BundleError(f"expected {prefix}{name} as the bundle names it; it is missing or was altered")
    present = {f.relative_to(folder).as_posix() for f in (folder / "data").rglob("*") if not f.is_dir()}
    if present != set(bundle.subjects):
        raise BundleError("expected exactly the files that the bundle names below data/")
    for point in POINTS:
        names = bundle.points.get(point, ())
        if not names or any(name not in bundle.evidence for name in names):
            raise BundleError(f"expected evidence for {point} [PROD-ITEM, {POINTS[point][2]}]")
    return bundle


def sign_review(
    folder: Path, reviewer: Identity, trust: Trust, *, notes: Mapping[str, str] | None = None, now: datetime
) -> bytes:
    """Sign the review of a bundle as one reviewer, from the reviewer's own home.

    Args:
        folder: the bundle.
        reviewer: who reviews.
        trust: verified trust data of the reviewer's home.
        notes: a remark per point; without one the result reads ``conforms``.
        now: clock.

    Returns:
        The envelope, also written into the bundle.

    Raises:
        NotPermittedError: the reviewer belongs to the operator, a department or an organisation that has signed.
        BundleError: the bundle is not what it names.
    """
    bundle = read_bundle(folder)
    check_independence(bundle, reviewer.id, trust, now=now)
    for other in signed_reviews(folder, bundle, trust, now=now):
        if other == reviewer.id:
            raise NotPermittedError(f"{reviewer.id} has reviewed this product; the second review needs another person")
        if _organisation(trust, other) == _organisation(trust, reviewer.id):
            raise NotPermittedError(f"{other} of the same organisation has reviewed; expected another organisation")
    remarks = dict(notes or {})
    predicate: dict[str, Any] = {
        "verifier": {"id": reviewer.id},
        "timeCreated": time_text(now),
        "properties": list(POINTS),
        "findings": [
            {
                "point": point,
                "result": remarks.get(point, "conforms"),
                "evidence_sha256": point_evidence(bundle, point),
            }
            for point in POINTS
        ],
    }
    payload = statement(REVIEW, sorted(bundle.subjects.items()), predicate)
    envelope = sign(reviewer.key, PAYLOAD_TYPE, payload).to_bytes()
    link = review_link(sorted(bundle.subjects.items()))
    write_atomic(folder / f"{reviewer.id}.link", sign_second(reviewer.key, link))
    write_own_sm2(folder, reviewer, trust, {f"review-{reviewer.id}.{reviewer.id}": envelope})
    write_atomic(folder / f"{reviewer.id}.dsse.json", envelope)
    return envelope


def return_product(folder: Path, reviewer: Identity, trust: Trust, *, reason: str, now: datetime) -> Returned:
    """Refuse the product as one reviewer; it goes back to *building* with the reason.

    Raises:
        NotPermittedError: no reason, or the reviewer is not independent.
    """
    bundle = read_bundle(folder)
    check_independence(bundle, reviewer.id, trust, now=now)
    if not reason.strip():
        raise NotPermittedError("expected the reason for returning the product")
    content = canonical.dumps(
        {"reviewer": reviewer.id, "reason": reason, "at": time_text(now), "product": bundle.product}
    )
    envelope = sign(reviewer.key, "application/vnd.shufang.review-returned.v1+json", content)
    write_atomic(folder / f"{reviewer.id}.returned.json", envelope.to_bytes())
    return Returned(reviewer.id, reason)


def collect_reviews(folder: Path, trust: Trust, *, now: datetime) -> dict[str, bytes]:
    """Return the verified reviews by reviewer, once there are two of two organisations.

    Raises:
        NotPermittedError: somebody returned the product, or a second independent review is missing.
        BundleError: the bundle is not what it names.
    """
    bundle = read_bundle(folder)
    returned = sorted(path.name.split(".")[0] for path in folder.glob("*.returned.json"))
    if returned:
        raise NotPermittedError(f"{', '.join(returned)} returned the product; build again and lay a new bundle")
    reviews = signed_reviews(folder, bundle, trust, now=now)
    organisations = {_organisation(trust, name) for name in reviews}
    if len(reviews) < REVIEWERS or len(organisations) < REVIEWERS:
        raise NotPermittedError(
            f"expected reviews by {REVIEWERS} persons of {REVIEWERS} organisations, got {len(reviews)} of "
            f"{len(organisations)} [PROD-REVIEW, GD-26-1]"
        )
    return reviews


def signed_reviews(folder: Path, bundle: Bundle, trust: Trust, *, now: datetime) -> dict[str, bytes]:
    """Return the reviews in a bundle that verify: right person, right files, all six points."""
    reviews = {}
    for path in sorted(folder.glob("*.dsse.json")):
        data = path.read_bytes()
        try:
            envelope = Envelope.from_bytes(data)
            actor = next(a for a in trust.actors.actors if a.verify_key.keyid == envelope.keyid and a.is_valid_at(now))
            subjects, predicate = read(envelope.open(actor.verify_key, PAYLOAD_TYPE), REVIEW)
            check_independence(bundle, actor.id, trust, now=now)
        except (ContractError, StopIteration, NotPermittedError):
            continue
        points = [(f["point"], f["evidence_sha256"]) for f in predicate["findings"]]
        if (
            dict(subjects) == bundle.subjects
            and predicate["verifier"] == {"id": actor.id}
            and points == [(point, point_evidence(bundle, point)) for point in POINTS]
        ):
            reviews[actor.id] = data
    return reviews


def check_independence(bundle: Bundle, reviewer: str, trust: Trust, *, now: datetime) -> None:
    """Refuse a reviewer who made the product, supplied rows for it, or belongs to a body that did.

    Raises:
        NotPermittedError: names the rule.
    """
    actor = next((a for a in trust.actors.actors if a.id == reviewer and a.is_valid_at(now)), None)
    if actor is None or "reviewer" not in actor.roles:
        raise NotPermittedError(f"expected {reviewer} as a reviewer in the trust data [PROD-REVIEW]")
    involved = {bundle.operator, *bundle.nodes}
    bodies = {a.organisation for a in trust.actors.actors if a.id in involved}
    if reviewer in involved or actor.organisation in bodies:
        raise NotPermittedError(
            f"{reviewer} belongs to {actor.organisation}, which made the product or supplied rows for it "
            "[PROD-REVIEW, GD-26-1]"
        )


def point_evidence(bundle: Bundle, point: str) -> str:
    """Return the digest over the evidence of one point, as the summary names it."""
    return sha256_hex(canonical.dumps({name: bundle.evidence[name] for name in bundle.points[point]}))


def _organisation(trust: Trust, actor_id: str) -> str:
    return next(a.organisation for a in trust.actors.actors if a.id == actor_id)
