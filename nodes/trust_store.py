"""Trust data at the node: a TUF repository verified from a pinned root, kept in ``trust/``.

The files are the agency's (root, timestamp, snapshot, targets metadata and the targets); who
brought them does not matter. Every start verifies the whole chain again from ``pinned-root.json``,
which was handed over out of band. An update must verify from the root in force, must not be
older in any role, and must not be expired; it replaces the folder in one rename. What is in
force stays readable after it expired, so that the node can still name who asks, but then
``expires_at`` is past and the policy refuses orders.

Source:
    The Update Framework specification 1.0.34, section 5 (client workflow), with python-tuf's
    metadata classes for parsing, thresholds and signatures.
"""

import base64
import os
import shutil
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp
from tuf.api.serialization import DeserializationError

from nodes.contract.errors import ContractError, UnknownActorError
from nodes.contract.messages import parse
from nodes.contract.trust import Actor, Actors, Status
from nodes.errors import StorageError, TrustError, TrustRollbackError

PINNED_ROOT = "pinned-root.json"
ROOTS_MAX = 256
ACTORS, STATUS, RELEASE_POLICY, CA_CERTIFICATE = "actors.json", "status.json", "release-policy.json", "ca.crt"


@dataclass(frozen=True)
class TrustData:
    """A verified state of the trust repository.

    Attributes:
        actors: who is who.
        status: what is suspended or revoked.
        targets: content of every verified target by name.
        versions: version per role (root, timestamp, snapshot, targets).
        expires_at: earliest expiry of the four roles.
        root: verified root metadata in force.
        files: the files this state was read from, by base name.
    """

    actors: Actors
    status: Status
    targets: Mapping[str, bytes]
    versions: Mapping[str, int]
    expires_at: datetime
    root: Metadata[Root]
    files: Mapping[str, bytes]

    @cached_property
    def by_keyid(self) -> Mapping[str, tuple[Actor, ...]]:
        """Actors by the key id of their statement key."""
        found: dict[str, list[Actor]] = {}
        for actor in self.actors.actors:
            found.setdefault(actor.verify_key.keyid, []).append(actor)
        return {keyid: tuple(actors) for keyid, actors in found.items()}

    def latest(self, actor_id: str, moment: datetime) -> Actor:
        """Return the entry of ``actor_id`` that is valid at ``moment``, whatever its role.

        Raises:
            UnknownActorError: none.
        """
        for actor in self.actors.actors:
            if actor.id == actor_id and actor.is_valid_at(moment):
                return actor
        raise UnknownActorError(f"expected {actor_id} in the trust data, with a key that counts now")


def verify_repository(files: Mapping[str, bytes], pinned_root: bytes) -> TrustData:
    """Verify a set of trust files from a root that is already trusted. Expiry is reported, not enforced.

    Args:
        files: content by name; folders in the names do not count, targets may carry a
            ``<sha256>.`` prefix as in consistent snapshots.
        pinned_root: bytes of the trusted root metadata.

    Raises:
        TrustError: a missing file, a signature threshold not met, a wrong version, length or digest.
    """
    flat = {name.rsplit("/", 1)[-1]: content for name, content in files.items()}
    try:
        root: Metadata[Root] = Metadata[Root].from_bytes(pinned_root)
        root.verify_delegate(Root.type, root)
        for _ in range(ROOTS_MAX):
            newer = flat.get(f"{root.signed.version + 1}.root.json")
            if newer is None:
                break
            candidate: Metadata[Root] = Metadata[Root].from_bytes(newer)
            root.verify_delegate(Root.type, candidate)
            candidate.verify_delegate(Root.type, candidate)
            if candidate.signed.version != root.signed.version + 1:
                raise TrustError(f"expected version {root.signed.version + 1} of the root metadata")
            root = candidate
        timestamp: Metadata[Timestamp] = Metadata[Timestamp].from_bytes(_take(flat, "timestamp.json"))
        root.verify_delegate(Timestamp.type, timestamp)
        meta = timestamp.signed.snapshot_meta
        snapshot_bytes = _take(flat, f"{meta.version}.snapshot.json", "snapshot.json")
        meta.verify_length_and_hashes(snapshot_bytes)
        snapshot: Metadata[Snapshot] = Metadata[Snapshot].from_bytes(snapshot_bytes)
        root.verify_delegate(Snapshot.type, snapshot)
        _same_version("snapshot", snapshot.signed.version, meta.version)
        meta = snapshot.signed.meta["targets.json"]
        targets_bytes = _take(flat, f"{meta.version}.targets.json", "targets.json")
        meta.verify_length_and_hashes(targets_bytes)
        targets: Metadata[Targets] = Metadata[Targets].from_bytes(targets_bytes)
        root.verify_delegate(Targets.type, targets)
        _same_version("targets", targets.signed.version, meta.version)
        content: dict[str, bytes] = {}
        for path, target in targets.signed.targets.items():
            name = path.rsplit("/", 1)[-1]
            content[path] = _take(flat, f"{target.hashes.get('sha256', '')}.{name}", name)
            target.verify_length_and_hashes(content[path])
    except (RepositoryError, DeserializationError, KeyError, ValueError) as error:
        raise TrustError(f"expected trust files that verify from the pinned root ({type(error).__name__})") from error
    try:
        actors = parse(Actors, _take(content, ACTORS))
        status = parse(Status, _take(content, STATUS))
        for actor in actors.actors:
            _ = actor.verify_key
    except ContractError as error:
        raise TrustError(f"expected readable {ACTORS} and {STATUS} in the trust data: {error}") from error
    signed = (root.signed, timestamp.signed, snapshot.signed, targets.signed)
    # Whoever brings trust files may put others beside them; only what was read is kept.
    read: list[tuple[str, ...]] = [(f"{number}.root.json",) for number in range(1, root.signed.version + 1)]
    read += [("timestamp.json",), (f"{timestamp.signed.snapshot_meta.version}.snapshot.json", "snapshot.json")]
    read += [(f"{snapshot.signed.meta['targets.json'].version}.targets.json", "targets.json")]
    for path, target in targets.signed.targets.items():
        name = path.rsplit("/", 1)[-1]
        read.append((f"{target.hashes.get('sha256', '')}.{name}", name))
    kept = {name: flat[name] for names in read for name in [n for n in names if n in flat][:1]}
    return TrustData(
        actors=actors,
        status=status,
        targets=content,
        versions={item.type: item.version for item in signed},
        expires_at=min(item.expires for item in signed),
        root=root,
        files=kept,
    )


class TrustStore:
    """The trust data of one node on disk; safe to use from several threads."""

    def __init__(self, folder: Path) -> None:
        """Open the store; nothing is read until ``current`` is asked for."""
        self._folder = folder
        self._lock = threading.Lock()
        self._current: TrustData | None = None
        self._stamp = 0

    def current(self) -> TrustData:
        """Return the verified trust data in force; re-read when another process replaced the files.

        Raises:
            TrustError: no pinned root, no trust data yet, or files that do not verify.
        """
        with self._lock:
            return self._load()

    def update(self, files: Mapping[str, bytes], *, now: datetime) -> TrustData:
        """Verify newer trust files and put them in force.

        Args:
            files: content by name, see ``verify_repository``.
            now: the node's clock; expired metadata is refused.

        Raises:
            TrustError: it does not verify, or it is expired.
            TrustRollbackError: a role is older than what is in force.
            StorageError: the disk refused it; what was in force stays.
        """
        with self._lock:
            pinned = self._pinned()
            try:
                before: TrustData | None = self._load()
            except TrustError:
                before = None
            merged = dict(before.files) if before else {}
            merged = {name: content for name, content in merged.items() if name.endswith(".root.json")}
            merged |= {name.rsplit("/", 1)[-1]: content for name, content in files.items()}
            fresh = verify_repository(merged, pinned)
            if before is not None:
                _require_not_older(before, fresh)
            if fresh.expires_at <= now:
                raise TrustError("expected trust data that has not expired; ask the agency for newer files")
            self._replace(fresh)
            self._current = fresh
            return fresh

    def _load(self) -> TrustData:
        folder, old = self._folder / "repository", self._folder / "repository.old"
        if old.exists() and not folder.exists():
            old.rename(folder)  # a kill between the two renames of an update
        try:
            stamp = folder.stat().st_mtime_ns
        except FileNotFoundError as error:
            raise TrustError(
                "expected trust data of the agency; install its answer with `shufang-node admit-response FILE`"
            ) from error
        if self._current is None or stamp != self._stamp:
            files = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}
            self._current = verify_repository(files, self._pinned())
            self._stamp = stamp
        return self._current

    def _pinned(self) -> bytes:
        try:
            return (self._folder / PINNED_ROOT).read_bytes()
        except OSError as error:
            raise TrustError(f"expected the agency's root metadata in {self._folder / PINNED_ROOT}") from error

    def _replace(self, fresh: TrustData) -> None:
        target, new, old = (self._folder / name for name in ("repository", "repository.new", "repository.old"))
        wanted = {f"{number}.root.json" for number in range(1, fresh.root.signed.version + 1)}
        try:
            for stale in (new, old):
                shutil.rmtree(stale, ignore_errors=True)
            new.mkdir(parents=True)
            for name, content in fresh.files.items():
                if name in wanted or not name.endswith(".root.json"):
                    _write(new / name, content)
            if target.exists():
                target.rename(old)
            new.rename(target)
            shutil.rmtree(old, ignore_errors=True)
            self._stamp = target.stat().st_mtime_ns
        except OSError as error:
            if old.exists() and not target.exists():
                old.rename(target)
            raise StorageError(
                f"expected to be able to write trust data to {self._folder} ({error.strerror})"
            ) from error


def pin_root(folder: Path, root_bytes: bytes) -> None:
    """Keep the agency's root metadata that was handed over out of band.

    Raises:
        TrustError: not root metadata signed by its own threshold.
    """
    try:
        root: Metadata[Root] = Metadata[Root].from_bytes(root_bytes)
        root.verify_delegate(Root.type, root)
    except (RepositoryError, DeserializationError, ValueError) as error:
        raise TrustError("expected the agency's root metadata (1.root.json), signed by its own keys") from error
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / PINNED_ROOT, root_bytes)


def sealing_key_of(actor: Actor) -> bytes:
    """Return the 32 bytes of an actor's sealing key."""
    return base64.b64decode(actor.sealing_key, validate=True)


def _require_not_older(before: TrustData, fresh: TrustData) -> None:
    # A root that replaces the keys of timestamp or snapshot ends their history (specification 5.3.11).
    replaced = {
        role
        for role in (Timestamp.type, Snapshot.type)
        if before.root.signed.roles[role].keyids != fresh.root.signed.roles[role].keyids
    }
    for role, version in before.versions.items():
        if replaced and role in (Timestamp.type, Snapshot.type):
            continue
        if fresh.versions[role] < version:
            raise TrustRollbackError(
                f"expected {role} metadata of version {version} or later, got {fresh.versions[role]}"
            )
        if (
            role == Timestamp.type
            and fresh.versions[role] == version
            and before.files["timestamp.json"] != fresh.files["timestamp.json"]
        ):
            raise TrustRollbackError(f"expected one timestamp metadata of version {version}, got another one")


def _take(files: Mapping[str, bytes], *names: str) -> bytes:
    for name in names:
        if name in files:
            return files[name]
    raise TrustError(f"expected {names[-1]} among the trust files")


def _same_version(role: str, got: int, expected: int) -> None:
    if got != expected:
        raise TrustError(f"expected version {expected} of the {role} metadata, got {got}")


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
