"""Writing a package: all or nothing, the same bytes from the same input.

The writer adds no claim of its own: it copies what was signed, derives the bag's tag files and
the certificate from it, and puts the finished folder in place with one rename.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from products import certificate, statements
from products.dsse import Envelope
from products.errors import IncompleteError, PackageExistsError
from products.forms import GRANT, RELEASE, RESOURCE
from products.log import LogProof
from products.package import bag, interop, paths
from products.package.payload import Payload
from products.package.reading import read_trust
from products.repository import ACTORS, RELEASE_POLICY
from products.statements import Grant, Release, Resource
from products.trust import Actors, ReleasePolicy, read_target


@dataclass(frozen=True, slots=True)
class SignedStatement:
    """One envelope of the package with its log proof.

    Attributes:
        name: name of the statement, as the release statement lists it; ``release`` for itself.
        actor: actor id of the signer.
        envelope: canonical bytes of the DSSE envelope.
        proof: bytes of the tlog-proof of this envelope.
    """

    name: str
    actor: str
    envelope: bytes
    proof: bytes


@dataclass(frozen=True, slots=True)
class PackageSummary:
    """What was written.

    Attributes:
        path: the package folder.
        release_sha256: digest of the release statement's payload, the name of this release.
        files: number of files.
        size_bytes: sum of their sizes.
        overhead_bytes: bytes outside ``data/``.
    """

    path: Path
    release_sha256: str
    files: int
    size_bytes: int
    overhead_bytes: int


def write_package(
    dest: Path,
    *,
    payload: Payload,
    signed: Sequence[SignedStatement],
    quality_reports: Mapping[str, bytes],
    trust_dir: Path,
    second: Mapping[str, bytes] | None = None,
    previous: Sequence[SignedStatement] = (),
) -> PackageSummary:
    """Write the package of a release.

    Args:
        dest: folder to make; its parent exists.
        payload: what was signed, from ``build_payload``.
        signed: every envelope: resources, grant, runs, build, privacy, reviews, release.
        quality_reports: the report that each resource statement names, by resource id.
        trust_dir: the agency's published trust repository.
        second: signatures for tools of others, by path below ``interop/`` (products.package.interop).
        previous: the registrars' envelopes of the version before, if the release names one.

    Returns:
        A summary; the folder is complete and on disk.

    Raises:
        PackageExistsError: ``dest`` is there already.
        IncompleteError: no release statement, or its subjects are not the payload.
        ProductError: an envelope, proof or trust file that does not parse.
    """
    if dest.exists():
        raise PackageExistsError(f"expected a new folder, {dest} exists; a release is never overwritten")
    earlier = dict(
        pair
        for item in previous
        for pair in zip(paths.previous_paths(item.actor), (item.envelope, item.proof), strict=True)
    )
    tags = _tag_files(payload, signed, quality_reports, trust_dir, {**(second or {}), **earlier})
    dest.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{dest.name}.", suffix=".partial", dir=dest.parent))
    try:
        for path, content in {**payload.contents, **tags.files}.items():
            expected = payload.facts[path].sha256 if path in payload.facts else None
            _write(partial / path, content, expected)
        _sync_folders(partial)
        partial.chmod(0o755)
        partial.rename(dest)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    _sync_folder(dest.parent)
    overhead = sum(map(len, tags.files.values()))
    return PackageSummary(
        path=dest,
        release_sha256=tags.release_sha256,
        files=len(payload.contents) + len(tags.files),
        size_bytes=overhead + sum(facts.size for facts in payload.facts.values()),
        overhead_bytes=overhead,
    )


@dataclass(frozen=True, slots=True)
class _Tags:
    files: dict[str, bytes]
    release_sha256: str


def _tag_files(
    payload: Payload,
    signed: Sequence[SignedStatement],
    quality_reports: Mapping[str, bytes],
    trust_dir: Path,
    second: Mapping[str, bytes],
) -> _Tags:
    trust = read_trust(trust_dir)
    files: dict[str, bytes] = {f"trust/{name}": data for name, data in trust.items()} | dict(second)
    listed = next(data for name, data in trust.items() if name.endswith(f".{ACTORS}"))
    actors = read_target(Actors, ACTORS, listed).by_keyid()
    _require_second(trust, signed, second)
    for item in signed:
        files[paths.envelope_path(item.name, item.actor)] = item.envelope
        files[paths.proof_path(item.name, item.actor)] = item.proof
        envelope, proof = Envelope.from_bytes(item.envelope), LogProof.from_bytes(item.proof)
        if envelope.keyid in actors:  # a signer nobody knows is found by the verifier
            bundle = interop.sigstore_bundle(envelope, actors[envelope.keyid].spki, proof)
            files[paths.bundle_path(item.name, item.actor)] = bundle
    files |= {paths.quality_path(resource): report for resource, report in quality_reports.items()}
    facts = certificate_facts(signed)
    release = facts.release
    if release.manifest.model_dump() != payload.manifest_digests:
        raise IncompleteError("expected a release statement over exactly the files of the payload")
    files[paths.CERTIFICATE_JSON] = certificate.certificate_json(facts)
    files[paths.CERTIFICATE_HTML] = certificate.certificate_html(facts)
    files |= bag.tag_files(release, payload.facts)
    files[paths.TAGMANIFEST] = bag.manifest({path: hashlib.sha256(data).hexdigest() for path, data in files.items()})
    for path in files:
        paths.require_path(path)
    return _Tags(files, facts.release_sha256)


def _require_second(trust: Mapping[str, bytes], signed: Sequence[SignedStatement], second: Mapping[str, bytes]) -> None:
    """Refuse to write a package without SM2 signatures where the agency's policy asks for them."""
    data = next(content for name, content in trust.items() if name.endswith(f".{RELEASE_POLICY}"))
    policy = read_target(ReleasePolicy, RELEASE_POLICY, data)
    stems = [f"{item.name}.{item.actor}" for item in signed]
    missing = [stem for stem in stems if paths.sm2_path(stem) not in second]
    if policy.profile == "gm" and missing:
        raise IncompleteError(
            f"expected an SM2 signature beside each of {len(stems)} envelopes under the profile gm, missing: "
            f"{', '.join(missing[:5])}; their signers need an SM2 key: `--gm` at `identity init`, `shufang-node init`"
        )


def certificate_facts(signed: Sequence[SignedStatement]) -> certificate.CertificateFacts:
    """Return what the certificate says, from the envelopes of a release.

    Raises:
        IncompleteError: not one release among them, or not the grant that it names.
        ProductError: an envelope or proof that does not parse.
    """
    read = [(item, Envelope.from_bytes(item.envelope)) for item in signed]
    by_digest = {envelope.payload_sha256: statements.read(envelope.payload) for _, envelope in read}
    releases = {digest: item for digest, item in by_digest.items() if item.predicate_type == RELEASE}
    if len(releases) != 1:
        raise IncompleteError(f"expected one release statement, got {len(releases)}")
    ((release_sha256, statement),) = releases.items()
    release = cast(Release, statement.predicate)
    grant = by_digest.get(release.grant.sha256)
    if grant is None or grant.predicate_type != GRANT:
        raise IncompleteError("expected the grant that the release names")
    places = []
    for item, envelope in read:
        if envelope.payload_sha256 == release_sha256:
            proof = LogProof.from_bytes(item.proof)
            places.append(certificate.LogPlace(item.actor, proof.note.checkpoint.origin, proof.index))
    return certificate.CertificateFacts(
        release=release,
        release_sha256=release_sha256,
        grant=cast(Grant, grant.predicate),
        resources=[cast(Resource, s.predicate) for s in by_digest.values() if s.predicate_type == RESOURCE],
        places=places,
    )


def _write(location: Path, content: bytes | Path, expected_sha256: str | None) -> None:
    digest = hashlib.sha256()
    location.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(location, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    with os.fdopen(descriptor, "wb") as stream:
        for chunk in bag.chunks_of(content):
            stream.write(chunk)
            digest.update(chunk)
        stream.flush()
        os.fsync(stream.fileno())
    if expected_sha256 not in (None, digest.hexdigest()):
        raise IncompleteError(f"{location.name} changed after the payload was digested")


def _sync_folders(folder: Path) -> None:
    for current, _, _ in os.walk(folder, topdown=False):
        _sync_folder(Path(current))


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
