"""Writing the agency's trust data: a TUF repository that changes in one step.

Two registrars sign every new list of targets, each at home; the agency's online keys sign
snapshot and timestamp. What is published is content-addressed and only ever added; the
timestamp is renamed into place last, so a reader sees the old state or the new one.

    pending/targets.json                 the new list, unsigned
    pending/targets/<name>               the files it lists
    pending/signatures/<keyid>.json      one per registrar
    pending/key-events/                  what the registrars sign with it (factory.agency.key_events)
    metadata/ targets/ root.json         what is published

Source:
    The Update Framework specification 1.0.31, sections 4 and 6; lifetimes: docs/reference/trust.md.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric import ec

from factory.agency.errors import AgencyExistsError, NothingPendingError, RootRefusedError, SignatureMissingError
from factory.files import locked, write_atomic
from factory.trust import TrustInvalidError, read_trust_folder, verify_trust
from nodes.contract.messages import parse
from nodes.contract.trust import Actors, Status

if TYPE_CHECKING:
    from tuf.api.metadata import Metadata, Root, Targets

ROOT_KEYS = 3
ROOT_THRESHOLD = 2
REGISTRARS = 2
LIFETIMES = {
    "root": timedelta(days=730),
    "targets": timedelta(days=180),
    "snapshot": timedelta(days=30),
    "timestamp": timedelta(days=7),
}
"""How long each role's metadata may be relied on (PROVENANCE 3.3)."""


@dataclass(frozen=True, slots=True)
class OnlineKeys:
    """The agency's keys for snapshot and timestamp.

    Attributes:
        snapshot, timestamp: ECDSA P-256.
    """

    snapshot: ec.EllipticCurvePrivateKey
    timestamp: ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class Change:
    """What a pending list changes, for the registrar who decides on it.

    Attributes:
        version: of the pending list.
        expires_at: until when it would count.
        actors_added, actors_changed, actors_removed: actor ids.
        status_added, status_lifted: ``kind subject`` of suspensions and revocations.
        targets_changed: names of targets whose bytes differ from the published ones.
    """

    version: int
    expires_at: datetime
    actors_added: tuple[str, ...]
    actors_changed: tuple[str, ...]
    actors_removed: tuple[str, ...]
    status_added: tuple[str, ...]
    status_lifted: tuple[str, ...]
    targets_changed: tuple[str, ...]


def make_root(
    *,
    root_keys: Sequence[ec.EllipticCurvePrivateKey],
    registrars: Sequence[ec.EllipticCurvePublicKey],
    online: OnlineKeys,
    now: datetime,
) -> bytes:
    """Return ``1.root.json``: who may sign which role, signed by the root keys.

    Raises:
        ValueError: not three distinct root keys, or fewer than two distinct registrars' keys.
    """
    from tuf.api.metadata import Metadata, Root

    root = Root(version=1, expires=_expiry("root", now), consistent_snapshot=True)
    _fill_root(root, [key.public_key() for key in root_keys], registrars, online)
    return _signed(Metadata(root), root_keys)


def next_root(
    current: bytes,
    *,
    root_keys: Sequence[ec.EllipticCurvePrivateKey],
    earlier_root_keys: Sequence[ec.EllipticCurvePrivateKey],
    registrars: Sequence[ec.EllipticCurvePublicKey],
    online: OnlineKeys,
    now: datetime,
) -> bytes:
    """Return the root after ``current``, signed by the old and by the new root keys."""
    from tuf.api.metadata import Metadata, Root

    before: Metadata[Root] = Metadata.from_bytes(current)
    root = Root(version=before.signed.version + 1, expires=_expiry("root", now), consistent_snapshot=True)
    _fill_root(root, [key.public_key() for key in root_keys], registrars, online)
    data = _signed(Metadata(root), [*earlier_root_keys, *root_keys])
    metadata: Metadata[Root] = Metadata.from_bytes(data)
    before.signed.verify_delegate("root", metadata.signed_bytes, metadata.signatures)
    root.verify_delegate("root", metadata.signed_bytes, metadata.signatures)
    return data


def create_repository(folder: Path, root: bytes) -> None:
    """Lay out an empty repository around its first root.

    Raises:
        AgencyExistsError: there is one.
    """
    if (folder / "root.json").exists():
        raise AgencyExistsError(f"expected no trust repository in {folder}")
    for part in ("metadata", "targets"):
        (folder / part).mkdir(mode=0o755, parents=True, exist_ok=True)
    write_atomic(folder / "metadata" / "1.root.json", root)
    write_atomic(folder / "root.json", root)


def current_root(folder: Path) -> bytes:
    """Return the root in force."""
    paths = (folder / "metadata").glob("*.root.json")
    return max(paths, key=lambda path: int(path.name.split(".")[0])).read_bytes()


def require_root_keys(folder: Path, keys: Sequence[ec.EllipticCurvePrivateKey]) -> None:
    """Check, before a new key is made, that enough of the root keys in force are at hand.

    Raises:
        RootRefusedError: fewer than the threshold.
    """
    from securesystemslib.signer import SSlibKey

    named = _current_root(folder).signed.roles["root"].keyids
    have = {SSlibKey.from_crypto(key.public_key()).keyid for key in keys} & set(named)
    if len(have) < ROOT_THRESHOLD:
        raise RootRefusedError(f"expected {ROOT_THRESHOLD} of the root keys in force, got {len(have)}")


def publish_root(folder: Path, root: bytes) -> int:
    """Add the next root, made by ``next_root``, to the repository, and return its version.

    Raises:
        TrustInvalidError: its version does not follow.
    """
    from tuf.api.metadata import Metadata, Root

    metadata: Metadata[Root] = Metadata.from_bytes(root)
    if metadata.signed.version != len(list((folder / "metadata").glob("*.root.json"))) + 1:
        raise TrustInvalidError("expected the root that follows the last published one")
    write_atomic(folder / "metadata" / f"{metadata.signed.version}.root.json", root)
    return metadata.signed.version


def stage(folder: Path, targets: Mapping[str, bytes], *, now: datetime) -> Change:
    """Propose a new list of targets; earlier proposals and their signatures are dropped.

    Args:
        folder: the repository.
        targets: every target by name, all of them.
        now: clock.
    """
    from tuf.api.metadata import Metadata, TargetFile, Targets

    parse(Actors, targets["actors.json"])
    parse(Status, targets["status.json"])
    with locked(folder):
        files = {name: TargetFile.from_data(name, content, ["sha256"]) for name, content in sorted(targets.items())}
        version = _published_version(folder) + 1
        metadata = Metadata(Targets(version=version, expires=_expiry("targets", now), targets=files))
        pending = folder / "pending"
        shutil.rmtree(pending, ignore_errors=True)
        (pending / "targets").mkdir(parents=True)
        (pending / "signatures").mkdir()
        for name, content in targets.items():
            write_atomic(pending / "targets" / name, content)
        write_atomic(pending / "targets.json", metadata.to_bytes())
    return pending_change(folder)


def pending_change(folder: Path) -> Change:
    """Say what the pending list would change.

    Raises:
        NothingPendingError: there is none.
        TrustInvalidError: the files beside it are not the ones it lists.
    """
    metadata, new = _read_pending(folder)
    old = _published_targets(folder)
    actors_old = _by_key(old, "actors.json")
    actors_new = _by_key(new, "actors.json")
    status_old = {f"{i.subject_kind} {i.subject}" for i in parse(Status, old["status.json"]).items} if old else set()
    status_new = {f"{i.subject_kind} {i.subject}" for i in parse(Status, new["status.json"]).items}
    return Change(
        version=metadata.signed.version,
        expires_at=metadata.signed.expires,
        actors_added=tuple(sorted({a for a, _ in actors_new.keys() - actors_old.keys()})),
        actors_changed=tuple(
            sorted({a for a, k in actors_new.keys() & actors_old.keys() if actors_new[a, k] != actors_old[a, k]})
        ),
        actors_removed=tuple(sorted({a for a, _ in actors_old.keys() - actors_new.keys()})),
        status_added=tuple(sorted(status_new - status_old)),
        status_lifted=tuple(sorted(status_old - status_new)),
        targets_changed=tuple(sorted(name for name in new if new[name] != old.get(name))),
    )


def sign_pending(folder: Path, key: ec.EllipticCurvePrivateKey, *, now: datetime) -> Change:
    """Sign the pending list as one registrar, after checking that it follows the published one.

    Raises:
        NothingPendingError: nothing is proposed.
        TrustInvalidError: version or lifetime do not follow, an actor's entry disappears, or the key is no registrar's.
    """
    from securesystemslib.signer import CryptoSigner

    change = pending_change(folder)
    metadata, _ = _read_pending(folder)
    if metadata.signed.version != _published_version(folder) + 1:
        raise TrustInvalidError("expected a list that follows the published one; propose it again")
    if metadata.signed.expires > now + LIFETIMES["targets"] + timedelta(minutes=5):
        raise TrustInvalidError(f"expected a list that lasts at most {LIFETIMES['targets'].days} days")
    if change.actors_removed:
        raise TrustInvalidError("expected every earlier actor in the list; removal is a mark, not a gap")
    signer = CryptoSigner(key)
    if signer.public_key.keyid not in _current_root(folder).signed.roles["targets"].keyids:
        raise TrustInvalidError("expected a registrar's key that the root names")
    signature = metadata.sign(signer)
    write_atomic(
        folder / "pending" / "signatures" / f"{signature.keyid}.json", json.dumps(signature.to_dict()).encode("ascii")
    )
    return change


def publish(folder: Path, online: OnlineKeys, *, now: datetime) -> int:
    """Publish the pending list if both registrars signed it, and return its version.

    Raises:
        NothingPendingError: nothing is proposed.
        SignatureMissingError: fewer than two registrars signed these bytes.
    """
    from securesystemslib.signer import Signature
    from tuf.api.exceptions import UnsignedMetadataError

    with locked(folder):
        metadata, contents = _read_pending(folder)
        for path in sorted((folder / "pending" / "signatures").glob("*.json")):
            signature = Signature.from_dict(json.loads(path.read_bytes()))
            metadata.signatures[signature.keyid] = signature
        root = _current_root(folder)
        try:
            root.signed.verify_delegate("targets", metadata.signed_bytes, metadata.signatures)
        except UnsignedMetadataError as error:
            raise SignatureMissingError(
                f"expected the signatures of {REGISTRARS} registrars on the pending list, "
                f"got {len(metadata.signatures)}; let each registrar sign, then publish again"
            ) from error
        for name, target in metadata.signed.targets.items():
            write_atomic(folder / "targets" / f"{target.hashes['sha256']}.{name}", contents[name])
        write_atomic(folder / "metadata" / f"{metadata.signed.version}.targets.json", metadata.to_bytes())
        _write_snapshot(folder, metadata.signed.version, online, now)
        shutil.rmtree(folder / "pending")
        return metadata.signed.version


def refresh(folder: Path, online: OnlineKeys, *, now: datetime) -> None:
    """Sign a new snapshot and timestamp over the same list, so that readers see it is current.

    Raises:
        NothingPendingError: nothing has been published yet.
    """
    with locked(folder):
        version = _published_version(folder)
        if version == 0:
            raise NothingPendingError("expected published trust data; stage, sign and publish it first")
        _write_snapshot(folder, version, online, now)


def published_targets(folder: Path) -> dict[str, bytes]:
    """Return the published targets by plain name; empty before the first publication."""
    return _published_targets(folder)


def pending_targets(folder: Path) -> tuple[int, dict[str, bytes]]:
    """Return version and targets by plain name of the pending list.

    Raises:
        NothingPendingError: there is none.
        TrustInvalidError: the files beside it are not the ones it lists.
    """
    metadata, contents = _read_pending(folder)
    return metadata.signed.version, contents


def _write_snapshot(folder: Path, targets_version: int, online: OnlineKeys, now: datetime) -> None:
    from tuf.api.metadata import Metadata, MetaFile, Snapshot, Timestamp

    metadata = folder / "metadata"
    version = 1 + max((int(path.name.split(".")[0]) for path in metadata.glob("*.snapshot.json")), default=0)
    link = MetaFile.from_data(targets_version, (metadata / f"{targets_version}.targets.json").read_bytes(), ["sha256"])
    snapshot = Snapshot(version=version, expires=_expiry("snapshot", now), meta={"targets.json": link})
    snapshot_bytes = _signed(Metadata(snapshot), [online.snapshot])
    write_atomic(metadata / f"{version}.snapshot.json", snapshot_bytes)
    timestamp = Timestamp(
        version=version,
        expires=_expiry("timestamp", now),
        snapshot_meta=MetaFile.from_data(version, snapshot_bytes, ["sha256"]),
    )
    timestamp_bytes = _signed(Metadata(timestamp), [online.timestamp])
    candidate = read_candidate(folder, version, targets_version) | {"metadata/timestamp.json": timestamp_bytes}
    verify_trust(candidate, root=(folder / "root.json").read_bytes(), now=now)
    write_atomic(metadata / "timestamp.json", timestamp_bytes)


def read_candidate(folder: Path, snapshot_version: int, targets_version: int) -> dict[str, bytes]:
    """Return the files of one state of the repository but its timestamp, to check before it is published."""
    from tuf.api.metadata import Metadata, Targets

    names = [f"metadata/{path.name}" for path in (folder / "metadata").glob("*.root.json")]
    names += [f"metadata/{snapshot_version}.snapshot.json", f"metadata/{targets_version}.targets.json"]
    targets: Metadata[Targets] = Metadata.from_bytes((folder / names[-1]).read_bytes())
    names += [f"targets/{target.hashes['sha256']}.{name}" for name, target in targets.signed.targets.items()]
    return {name: (folder / name).read_bytes() for name in names}


def _fill_root(
    root: "Root",
    root_keys: Sequence[ec.EllipticCurvePublicKey],
    registrars: Sequence[ec.EllipticCurvePublicKey],
    online: OnlineKeys,
) -> None:
    from securesystemslib.signer import SSlibKey
    from tuf.api.metadata import Key

    wanted: dict[str, tuple[Sequence[ec.EllipticCurvePublicKey], int, int]] = {
        "root": (root_keys, ROOT_KEYS, ROOT_THRESHOLD),
        "targets": (registrars, REGISTRARS, REGISTRARS),
        "snapshot": ([online.snapshot.public_key()], 1, 1),
        "timestamp": ([online.timestamp.public_key()], 1, 1),
    }
    for role, (publics, count_min, threshold) in wanted.items():
        keys: list[Key] = [SSlibKey.from_crypto(public) for public in publics]
        if len({key.keyid for key in keys}) != len(keys) or len(keys) < count_min:
            raise ValueError(f"expected at least {count_min} distinct keys of {role}, got {len(keys)}")
        for key in keys:
            root.add_key(key, role)
        root.roles[role].threshold = threshold


def _signed(metadata: "Metadata[Any]", keys: Sequence[ec.EllipticCurvePrivateKey]) -> bytes:
    from securesystemslib.signer import CryptoSigner

    for key in keys:
        metadata.sign(CryptoSigner(key), append=True)
    return metadata.to_bytes()


def _expiry(role: str, now: datetime) -> datetime:
    return (now + LIFETIMES[role]).replace(microsecond=0)


def _current_root(folder: Path) -> "Metadata[Root]":
    from tuf.api.metadata import Metadata, Root

    paths = sorted((folder / "metadata").glob("*.root.json"), key=lambda path: int(path.name.split(".")[0]))
    metadata: Metadata[Root] = Metadata.from_bytes(paths[-1].read_bytes())
    return metadata


def _published_version(folder: Path) -> int:
    from tuf.api.metadata import Metadata, Snapshot, Timestamp

    path = folder / "metadata" / "timestamp.json"
    if not path.is_file():
        return 0
    timestamp: Metadata[Timestamp] = Metadata.from_bytes(path.read_bytes())
    name = f"{timestamp.signed.snapshot_meta.version}.snapshot.json"
    snapshot: Metadata[Snapshot] = Metadata.from_bytes((folder / "metadata" / name).read_bytes())
    return snapshot.signed.meta["targets.json"].version


def _published_targets(folder: Path) -> dict[str, bytes]:
    if not (folder / "metadata" / "timestamp.json").is_file():
        return {}
    files = read_trust_folder(folder)
    return {name.split(".", 1)[1]: content for name, content in files.items() if name.startswith("targets/")}


def _read_pending(folder: Path) -> "tuple[Metadata[Targets], dict[str, bytes]]":
    from tuf.api.exceptions import RepositoryError
    from tuf.api.metadata import Metadata, Targets

    path = folder / "pending" / "targets.json"
    if not path.is_file():
        raise NothingPendingError(f"expected a proposed list of targets in {folder / 'pending'}; propose one first")
    metadata: Metadata[Targets] = Metadata.from_bytes(path.read_bytes())
    contents = {}
    for name, target in metadata.signed.targets.items():
        contents[name] = (folder / "pending" / "targets" / name).read_bytes()
        try:
            target.verify_length_and_hashes(contents[name])
        except RepositoryError as error:
            raise TrustInvalidError(f"expected the bytes of {name} that the pending list names") from error
    return metadata, contents


def _by_key(targets: Mapping[str, bytes], name: str) -> dict[tuple[str, str], object]:
    if name not in targets:
        return {}
    return {(actor.id, actor.statement_spki): actor for actor in parse(Actors, targets[name]).actors}
