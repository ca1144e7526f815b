"""Reading the agency's TUF repository: from a pinned first root to the targets inside.

Everything is checked on bytes in memory: no network, no cache. ``open_repository`` checks
signatures, thresholds, digests and versions; ``TrustData.require_current`` checks expiry at a time
that the caller has found (the witnessed time for a package, now for fresh trust data).

Source:
    The Update Framework specification 1.0.31, section 5; ``docs/reference/trust.md``.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, MetaFile, Root, Signed, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.serialization import DeserializationError
from tuf.api.serialization.json import JSONSerializer

from products import canonical
from products.errors import MalformedError, UntrustedError
from products.limits import LIMITS
from products.log import TlogPolicy
from products.trust import Actors, ReleasePolicy, Status, read_target

ACTORS = "actors.json"
STATUS = "status.json"
RELEASE_POLICY = "release-policy.json"
TLOG_POLICY = "tlog-policy.txt"
POLICY_SHAPES = "policy-shapes.ttl"
TARGETS = (ACTORS, STATUS, RELEASE_POLICY, TLOG_POLICY)
"""Targets that a package carries, with ``policy-shapes.ttl`` where there is one; a live repository may have more."""

ROOT_NAME = re.compile(r"metadata/([1-9][0-9]{0,3})\.root\.json")
TIMESTAMP = "metadata/timestamp.json"
# Reading hex leniently would give one signature several spellings: capitals, and spaces between digits.
_HEX = re.compile(r"[0-9a-f]+")
_S = TypeVar("_S", Root, Timestamp, Snapshot, Targets)


@dataclass(frozen=True, slots=True)
class TrustData:
    """What a repository says, its signatures checked.

    Attributes:
        root_sha256: digest of ``1.root.json``, where everything starts.
        versions: version by role.
        expires: expiry by role.
        files: paths of the repository that were used, relative to its folder.
        actors, status, release_policy, tlog_policy: the targets.
        policy_shapes: shapes for a second engine, or None.
        release_policy_sha256: digest of the policy's file.
    """

    root_sha256: str
    versions: Mapping[str, int]
    expires: Mapping[str, datetime]
    files: frozenset[str]
    actors: Actors
    status: Status
    release_policy: ReleasePolicy
    release_policy_sha256: str
    tlog_policy: TlogPolicy
    policy_shapes: bytes | None = None

    def require_current(self, moment: datetime) -> None:
        """Check that no role had expired at ``moment``.

        Raises:
            UntrustedError: one had.
        """
        late = sorted(role for role, end in self.expires.items() if moment >= end)
        if late:
            ends = ", ".join(f"{role} {self.expires[role]:%Y-%m-%dT%H:%M:%SZ}" for role in late)
            raise UntrustedError(f"expected trust metadata that is current at {moment:%Y-%m-%dT%H:%M:%SZ}: {ends}")


def needed_files(files: Mapping[str, bytes]) -> list[str]:
    """Return the paths that ``open_repository`` will use, as far as the given metadata names them.

    For a caller that loads a live repository step by step; nothing is believed here.

    Raises:
        MalformedError: metadata that does not parse.
    """
    wanted = [TIMESTAMP]
    if TIMESTAMP in files:
        meta = _parse(files[TIMESTAMP], Timestamp).signed.snapshot_meta
        wanted.append(snapshot := f"metadata/{meta.version}.snapshot.json")
        if snapshot in files:
            targets_meta = _targets_meta(_parse(files[snapshot], Snapshot).signed)
            wanted.append(targets := f"metadata/{targets_meta.version}.targets.json")
            if targets in files:
                signed = _parse(files[targets], Targets).signed
                wanted += [target_path(name, _sha256_of(_target(signed, name))) for name in _carried(signed)]
    return wanted


def _carried(targets: Targets) -> tuple[str, ...]:
    return (*TARGETS, POLICY_SHAPES) if POLICY_SHAPES in targets.targets else TARGETS


def target_path(name: str, sha256: str) -> str:
    """Return where a target stands in the repository."""
    return f"targets/{sha256}.{name}"


def open_repository(files: Mapping[str, bytes], *, root_sha256: str) -> TrustData:
    """Check a repository from the pinned root down and read its targets.

    Args:
        files: bytes by path relative to the repository's folder.
        root_sha256: digest of ``1.root.json``, known from elsewhere.

    Raises:
        UntrustedError: another first root, a gap or a signature that does not hold.
        MalformedError: metadata or targets in another form or spelling.
    """
    root, used = _walk_roots(files, root_sha256)
    timestamp = _trusted(_take(files, TIMESTAMP, used), Timestamp, root)
    snapshot_name = f"metadata/{timestamp.snapshot_meta.version}.snapshot.json"
    snapshot_bytes = _take(files, snapshot_name, used)
    _require_meta(timestamp.snapshot_meta, snapshot_bytes, "snapshot")
    snapshot = _trusted(snapshot_bytes, Snapshot, root)
    targets_meta = _targets_meta(snapshot)
    targets_bytes = _take(files, f"metadata/{targets_meta.version}.targets.json", used)
    _require_meta(targets_meta, targets_bytes, "targets")
    targets = _trusted(targets_bytes, Targets, root)
    if snapshot.version != timestamp.snapshot_meta.version or targets.version != targets_meta.version:
        raise UntrustedError("expected metadata of the versions that timestamp and snapshot name")
    if targets.delegations is not None:
        raise UntrustedError("expected targets without delegations")
    content = {name: _target_bytes(files, targets, name, used) for name in _carried(targets)}
    roles: dict[str, Signed] = {"root": root, "timestamp": timestamp, "snapshot": snapshot, "targets": targets}
    return TrustData(
        root_sha256=root_sha256,
        versions={name: signed.version for name, signed in roles.items()},
        expires={name: signed.expires for name, signed in roles.items()},
        files=frozenset(used),
        actors=read_target(Actors, ACTORS, content[ACTORS]),
        status=read_target(Status, STATUS, content[STATUS]),
        release_policy=read_target(ReleasePolicy, RELEASE_POLICY, content[RELEASE_POLICY]),
        release_policy_sha256=hashlib.sha256(content[RELEASE_POLICY]).hexdigest(),
        tlog_policy=TlogPolicy.from_bytes(content[TLOG_POLICY]),
        policy_shapes=content.get(POLICY_SHAPES),
    )


def _walk_roots(files: Mapping[str, bytes], root_sha256: str) -> tuple[Root, set[str]]:
    versions = sorted(int(match[1]) for name in files if (match := ROOT_NAME.fullmatch(name)))
    if not versions or versions != list(range(1, len(versions) + 1)) or len(versions) > LIMITS.root_versions_max:
        raise UntrustedError("expected root metadata from version 1 on, without gaps")
    used = {f"metadata/{version}.root.json" for version in versions}
    if hashlib.sha256(files["metadata/1.root.json"]).hexdigest() != root_sha256:
        raise UntrustedError(f"expected a first root with the pinned digest {root_sha256[:16]}…, got another one")
    current: Root | None = None
    for version in versions:
        metadata = _parse(files[f"metadata/{version}.root.json"], Root)
        root = metadata.signed
        if root.version != version:
            raise UntrustedError(f"expected version {version} in {version}.root.json")
        old = current or root
        _require_signatures(metadata, (old, root))
        _verify(old, "root", metadata)
        _verify(root, "root", metadata)
        current = root
    if current is None:  # pragma: no cover  versions is not empty
        raise UntrustedError("expected root metadata")
    return current, used


def _trusted(data: bytes, kind: type[_S], root: Root) -> _S:
    metadata = _parse(data, kind)
    _require_signatures(metadata, (root,))
    _verify(root, kind.type, metadata)
    return metadata.signed


def _parse(data: bytes, kind: type[_S]) -> Metadata[_S]:
    canonical.parse(data, size_max=LIMITS.metadata_bytes_max)  # duplicate keys, floats, huge numbers
    try:
        metadata = Metadata[_S].from_bytes(data)
        spellings = [metadata.to_bytes(JSONSerializer(compact=compact)) for compact in (False, True)]
    except (DeserializationError, RepositoryError, ValueError, RecursionError) as error:
        raise MalformedError(f"expected TUF metadata of type {kind.type}") from error
    except Exception as error:
        # python-tuf parses foreign bytes with plain dict access; whatever it trips over is a refusal here.
        raise MalformedError(f"expected TUF metadata of type {kind.type}, got {type(error).__name__}") from error
    if not isinstance(metadata.signed, kind):
        raise MalformedError(f"expected TUF metadata of type {kind.type}")
    if data not in spellings or not all(_HEX.fullmatch(s.signature) for s in metadata.signatures.values()):
        raise MalformedError(f"expected {kind.type} metadata in the spelling of python-tuf")
    return metadata


def _verify(delegator: Root, role: str, metadata: Metadata[_S]) -> None:
    try:
        delegator.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
    except (RepositoryError, ValueError) as error:
        threshold = delegator.roles[role].threshold
        raise UntrustedError(f"expected {threshold} valid signatures on {role} metadata") from error


def _require_signatures(metadata: Metadata[_S], roots: Iterable[Root]) -> None:
    """Refuse a signature that nobody would check: an unknown key, or one that does not verify."""
    role = metadata.signed.type
    keys = {keyid: root.keys[keyid] for root in roots for keyid in root.roles[role].keyids if keyid in root.keys}
    for keyid, signature in metadata.signatures.items():
        try:
            keys[keyid].verify_signature(signature, metadata.signed_bytes)
        except Exception as error:  # securesystemslib: several unrelated types, none of which is a success
            raise UntrustedError(f"a signature on {role} metadata is of an unknown key or does not verify") from error


def _targets_meta(snapshot: Snapshot) -> MetaFile:
    if set(snapshot.meta) != {"targets.json"}:
        raise MalformedError("expected a snapshot of targets.json alone")
    return snapshot.meta["targets.json"]


def _require_meta(meta: MetaFile, data: bytes, role: str) -> None:
    if meta.length != len(data) or (meta.hashes or {}).get("sha256") != hashlib.sha256(data).hexdigest():
        raise UntrustedError(f"expected {role} metadata with the length and SHA-256 that its parent names")


def _target(targets: Targets, name: str) -> TargetFile:
    if name not in targets.targets:
        raise UntrustedError(f"expected the target {name}")
    return targets.targets[name]


def _sha256_of(target: TargetFile) -> str:
    digest = target.hashes.get("sha256", "")
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise MalformedError("expected a SHA-256 digest of each target")
    return digest


def _target_bytes(files: Mapping[str, bytes], targets: Targets, name: str, used: set[str]) -> bytes:
    target = _target(targets, name)
    data = _take(files, target_path(name, _sha256_of(target)), used)
    if len(data) != target.length or hashlib.sha256(data).hexdigest() != _sha256_of(target):
        raise UntrustedError(f"expected the target {name} with the length and SHA-256 that the metadata names")
    return data


def _take(files: Mapping[str, bytes], name: str, used: set[str]) -> bytes:
    if name not in files:
        raise UntrustedError(f"expected {name} in the trust repository")
    used.add(name)
    return files[name]
