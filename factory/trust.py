"""Reading the agency's trust data: from the pinned root to actors, status and policies.

The same chain as every other reader of the repository: root versions from the pin on, each
signed by the old and the new threshold; timestamp, snapshot and targets by the root's
keys; hashes and lengths downwards. Nothing is older than what was accepted before, and
nothing is expired.

TrustError
├── TrustMissingError     no trust data, or a file of it is not there
├── TrustInvalidError     a signature, hash, length or version does not fit
├── TrustRollbackError    older than what this home has accepted
└── TrustExpiredError     too old to rely on
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from factory.errors import FactoryError
from factory.files import locked, write_atomic
from nodes.contract.messages import parse
from nodes.contract.signing import sha256_hex
from nodes.contract.trust import Actors, Status

if TYPE_CHECKING:
    from tuf.api.metadata import Metadata, Root, T

ROOT_VERSIONS_MAX = 256
"""Longest chain of roots that is walked."""


class TrustError(FactoryError):
    """Root of the errors of trust data."""

    code: ClassVar[str] = "trust_data.error"


class TrustMissingError(TrustError):
    """There is no trust data, or a file of it is missing."""

    code = "trust_data.missing"


class TrustInvalidError(TrustError):
    """A signature, hash, length, version or name of the trust data does not fit."""

    code = "trust_data.invalid"


class TrustRollbackError(TrustError):
    """The trust data is older than what was accepted before."""

    code = "trust_data.rollback"


class TrustExpiredError(TrustError):
    """The trust data is too old to rely on; fetch newer."""

    code = "trust_data.expired"
    retryable = True


@dataclass(frozen=True, slots=True)
class Trust:
    """Verified trust data.

    Attributes:
        actors: who is who.
        status: what is suspended or revoked.
        targets: every target by plain name.
        versions: version per role.
        expires_at: until when it may be relied on.
        files: the files that prove it, by name in the repository.
    """

    actors: Actors
    status: Status
    targets: Mapping[str, bytes]
    versions: Mapping[str, int]
    expires_at: datetime
    files: Mapping[str, bytes]

    def target(self, name: str) -> bytes:
        """Return the bytes of one target.

        Raises:
            TrustMissingError: the agency publishes no such target.
        """
        if name not in self.targets:
            raise TrustMissingError(f"expected a target {name} in the trust data")
        return self.targets[name]


def load_trust(folder: Path, *, now: datetime, root: bytes | None = None) -> Trust:
    """Read and verify the trust data in ``folder``.

    Args:
        folder: with ``metadata/`` and ``targets/``; and ``root.json``, the pinned first root.
        now: clock against which expiry is judged.
        root: the pinned first root, where ``folder`` holds none.

    Raises:
        TrustError: missing, invalid or expired.
    """
    pinned = root if root is not None else _read(folder / "root.json")
    return verify_trust(read_trust_folder(folder), root=pinned, now=now)


def read_trust_folder(folder: Path) -> dict[str, bytes]:
    """Return the current files of a trust repository by name; nothing is verified.

    Superseded snapshots, targets and target files are left out.

    Raises:
        TrustMissingError: no timestamp, or a file it leads to is missing.
        TrustInvalidError: metadata that cannot be read.
    """
    from tuf.api.metadata import Snapshot, Targets, Timestamp

    files: dict[str, bytes] = {}

    def take(name: str) -> bytes:
        files[name] = _read(folder / name)
        return files[name]

    timestamp = _parse(take("metadata/timestamp.json"), Timestamp)
    snapshot = _parse(take(f"metadata/{timestamp.signed.snapshot_meta.version}.snapshot.json"), Snapshot)
    targets = _parse(take(f"metadata/{snapshot.signed.meta['targets.json'].version}.targets.json"), Targets)
    for name, target in targets.signed.targets.items():
        take(f"targets/{target.hashes['sha256']}.{name}")
    version = 1
    while (folder / f"metadata/{version}.root.json").is_file() and version <= ROOT_VERSIONS_MAX:
        take(f"metadata/{version}.root.json")
        version += 1
    return files


def verify_trust(files: Mapping[str, bytes], *, root: bytes, now: datetime) -> Trust:
    """Verify trust files from the pinned root down.

    Raises:
        TrustInvalidError: a link of the chain does not hold.
        TrustExpiredError: a link has expired at ``now``.
    """
    from securesystemslib.exceptions import StorageError
    from tuf.api.exceptions import RepositoryError
    from tuf.api.metadata import Snapshot, Targets, Timestamp

    try:
        current = _root_chain(files, root)
        timestamp = _parse(_take(files, "metadata/timestamp.json"), Timestamp)
        current.signed.verify_delegate("timestamp", timestamp.signed_bytes, timestamp.signatures)
        link = timestamp.signed.snapshot_meta
        snapshot_bytes = _take(files, f"metadata/{link.version}.snapshot.json")
        link.verify_length_and_hashes(snapshot_bytes)
        snapshot = _parse(snapshot_bytes, Snapshot)
        current.signed.verify_delegate("snapshot", snapshot.signed_bytes, snapshot.signatures)
        meta = snapshot.signed.meta["targets.json"]
        targets_bytes = _take(files, f"metadata/{meta.version}.targets.json")
        meta.verify_length_and_hashes(targets_bytes)
        targets = _parse(targets_bytes, Targets)
        current.signed.verify_delegate("targets", targets.signed_bytes, targets.signatures)
        if snapshot.signed.version != link.version or targets.signed.version != meta.version:
            raise TrustInvalidError("expected the versions that timestamp and snapshot name")
        contents = {}
        for name, target in targets.signed.targets.items():
            content = _take(files, f"targets/{target.hashes['sha256']}.{name}")
            target.verify_length_and_hashes(content)
            contents[name] = content
    except (RepositoryError, StorageError, KeyError, ValueError) as error:
        raise TrustInvalidError(
            f"expected trust data signed from the pinned root down ({type(error).__name__})"
        ) from error
    signed = (current.signed, timestamp.signed, snapshot.signed, targets.signed)
    for part in signed:
        if part.is_expired(now):
            raise TrustExpiredError(
                f"expected fresh trust data; {part.type}.json expired at {part.expires:%Y-%m-%dT%H:%MZ}"
            )
    return Trust(
        actors=parse(Actors, _take(contents, "actors.json")),
        status=parse(Status, _take(contents, "status.json")),
        targets=contents,
        versions={part.type: part.version for part in signed},
        expires_at=min(part.expires for part in signed),
        files=dict(files),
    )


def write_trust_folder(folder: Path, files: Mapping[str, bytes], *, now: datetime) -> Trust:
    """Verify trust files and, if they are not older than those in ``folder``, put them there.

    The timestamp is written last, so a reader sees the old state or the new one.

    Raises:
        TrustError: they do not verify, have expired, or are older than those here.
    """
    pinned = _read(folder / "root.json")
    trust = verify_trust(files, root=pinned, now=now)
    with locked(folder):
        _refuse_rollback(folder, trust)
        for part in ("metadata", "targets"):
            (folder / part).mkdir(mode=0o755, exist_ok=True)
        for name in sorted(files, key=lambda name: name == "metadata/timestamp.json"):
            path = folder / name
            if not path.is_file() or path.read_bytes() != files[name]:
                write_atomic(path, files[name])
    return trust


def _refuse_rollback(folder: Path, trust: Trust) -> None:
    from tuf.api.metadata import Root, Snapshot, Timestamp

    if not (folder / "metadata" / "timestamp.json").is_file():
        return
    here = read_trust_folder(folder)
    timestamp = _parse(here["metadata/timestamp.json"], Timestamp)
    snapshot_name = next(name for name in here if name.endswith(".snapshot.json"))
    snapshot = _parse(here[snapshot_name], Snapshot)
    roots = [_parse(data, Root) for name, data in here.items() if name.endswith(".root.json")]
    before = {
        "timestamp": timestamp.signed.version,
        "snapshot": snapshot.signed.version,
        "targets": snapshot.signed.meta["targets.json"].version,
        "root": max(root.signed.version for root in roots),
    }
    older = [role for role, version in before.items() if trust.versions[role] < version]
    if older:
        raise TrustRollbackError(f"expected trust data not older than what is here; older: {', '.join(older)}")


def _root_chain(files: Mapping[str, bytes], pinned: bytes) -> "Metadata[Root]":
    from tuf.api.metadata import Root

    first = files.get("metadata/1.root.json", pinned)
    if sha256_hex(first) != sha256_hex(pinned):
        raise TrustInvalidError("expected the first root to be the pinned one")
    current = _parse(pinned, Root)
    current.signed.verify_delegate("root", current.signed_bytes, current.signatures)
    for version in range(2, ROOT_VERSIONS_MAX):
        data = files.get(f"metadata/{version}.root.json")
        if data is None:
            break
        following = _parse(data, Root)
        current.signed.verify_delegate("root", following.signed_bytes, following.signatures)
        following.signed.verify_delegate("root", following.signed_bytes, following.signatures)
        if following.signed.version != version:
            raise TrustInvalidError(f"expected version {version} in {version}.root.json")
        current = following
    return current


def _parse(data: bytes, kind: "type[T]") -> "Metadata[T]":
    from tuf.api.metadata import Metadata
    from tuf.api.serialization import DeserializationError

    try:
        metadata: Metadata[T] = Metadata.from_bytes(data)
    except DeserializationError as error:
        raise TrustInvalidError(f"expected TUF metadata of type {kind.type}") from error
    if not isinstance(metadata.signed, kind):
        raise TrustInvalidError(f"expected TUF metadata of type {kind.type}")
    return metadata


def _take(files: Mapping[str, bytes], name: str) -> bytes:
    if name not in files:
        raise TrustInvalidError(f"expected {name} among the trust files")
    return files[name]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise TrustMissingError(f"expected {path}; fetch trust data from the agency first") from None
