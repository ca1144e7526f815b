"""The log's only writer: appends signed statements and publishes checkpoints.

Order of every batch: entry bundles and tiles, durable; then the checkpoint is signed and
recorded in the writer's own folder, durable; then it is published by one rename. What was
signed is therefore always on disk before anyone can see it, and a writer that dies at any
point finds on opening either the tree before or the tree after, never a third.

Source:
    c2sp.org/tlog-tiles, c2sp.org/tlog-checkpoint.
"""

import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from types import TracebackType
from typing import Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from factory.log.cosigning import Cosigned, collect
from factory.log.errors import (
    LogBusyError,
    LogCorruptError,
    LogDiskError,
    LogEntryError,
    LogFrozenError,
    LogMissingError,
    LogRollbackError,
)
from factory.log.files import DurableFiles
from factory.log.home import LogHome, year_of
from factory.log.index import LeafIndex
from factory.log.keys import NoteSigner
from factory.log.shard import Shard
from factory.log.tiles import ENTRY_BYTES_MAX, TILE_WIDTH, RightEdge, TileReader, leftovers
from nodes.contract.errors import ContractError
from nodes.contract.signing import Envelope, pae, sha256_hex
from nodes.contract.trust import Actors
from products.errors import ProductError
from products.log import Checkpoint, SignedCheckpoint, leaf_bytes, leaf_hash, sign_checkpoint, verify_consistency

BATCH_MAX = TILE_WIDTH


@dataclass(frozen=True, slots=True)
class Submission:
    """A statement to be logged.

    Attributes:
        envelope: bytes of a DSSE envelope with one signature.
        spki: DER public key of its signer.
    """

    envelope: bytes
    spki: bytes


@dataclass(frozen=True, slots=True)
class Logged:
    """A statement that is in the log, with its proof.

    Attributes:
        origin: the shard that holds it.
        index: where.
        proof: bytes of the tlog-proof.
    """

    origin: str
    index: int
    proof: bytes


class Log:
    """The writer of one shard. Open with ``Log.open``, as a context manager."""

    def __init__(self, shard: Shard, signer: NoteSigner, files: DurableFiles, lock: int) -> None:
        self.shard = shard
        self._signer = signer
        self._files = files
        self._lock = lock
        self._index = LeafIndex(shard.home.state(shard.year) / "index.db")
        self._signed: SignedCheckpoint
        self._edge: RightEdge
        self._reader: TileReader
        self._needs_recovery = True
        try:
            self._recover()
        except BaseException:
            self._index.close()
            raise

    @classmethod
    def open(cls, home: LogHome, *, now: datetime, files: DurableFiles | None = None, wait_s: float = 0.0) -> Self:
        """Open the shard of the current year for writing.

        The shards of earlier years are frozen first.

        Args:
            home: the log.
            now: decides the year.
            files: operations on the disk.
            wait_s: how long to wait for another writer to finish.

        Raises:
            LogMissingError: the shard of this year is not prepared.
            LogFrozenError: a later shard was already opened.
            LogBusyError: another process writes the log.
            LogCorruptError: files contradict the signed checkpoint.
            LogRollbackError: the tree on disk is smaller than the signed one.
        """
        disk = files or DurableFiles()
        year = year_of(now)
        if year not in home.years():
            raise LogMissingError(f"the shard of {year} is not prepared; do it with: shufang log init --year {year}")
        until = time.monotonic() + wait_s
        for earlier in [other for other in home.years() if other < year]:
            _freeze(home, earlier, disk, until)
        lock = _lock(home, year, until)
        if (home.state(year) / "frozen").exists():
            os.close(lock)
            raise LogFrozenError(f"the shard of {year} is frozen; check the clock")
        return cls._locked(home, year, disk, lock)

    @property
    def origin(self) -> str:
        """Identity of the shard."""
        return self._signed.checkpoint.origin

    @property
    def checkpoint(self) -> Checkpoint:
        """The latest signed tree head."""
        return self._signed.checkpoint

    def append(self, submissions: Sequence[Submission]) -> list[int]:
        """Log statements; on return they are durable and under a published checkpoint.

        A statement that the log has already keeps its place.

        Returns:
            The index of each, in the order given.

        Raises:
            LogEntryError: an envelope that its key did not sign; nothing is appended then.
            LogDiskError: the disk refused; statements of this call may be missing.
            LogRollbackError: signing was refused.
        """
        return self.append_entries([entry_of(submission) for submission in submissions])

    def append_entries(self, entries: Sequence[bytes]) -> list[int]:
        """Log entries in leaf form; see ``append``."""
        if any(len(entry) > ENTRY_BYTES_MAX for entry in entries):
            raise LogEntryError(f"expected entries of at most {ENTRY_BYTES_MAX} bytes")
        if self._needs_recovery:
            self._recover()
        leaves = [leaf_hash(entry) for entry in entries]
        fresh: dict[bytes, bytes] = {}
        for leaf, entry in zip(leaves, entries, strict=True):
            if leaf not in fresh and self._index.position(leaf) is None:
                fresh[leaf] = entry
        for batch in _batches(list(fresh.items())):
            self._append_batch([entry for _, entry in batch], [leaf for leaf, _ in batch])
        return [self._position(leaf) for leaf in leaves]

    def cosign(self) -> Cosigned:
        """Ask the witnesses to cosign the latest checkpoint, and keep it once a quorum has.

        Raises:
            NotWitnessedError: fewer than the quorum did.
            LogRollbackError: a witness has cosigned a larger tree of this log.
        """
        if self._needs_recovery:
            self._recover()
        return cosign(self.shard, files=self._files)

    def prove(self, index: int) -> bytes:
        """Return the tlog-proof of an entry; see ``Shard.prove``."""
        return self.shard.prove(index, reader=self._reader)

    def publish(self, submissions: Sequence[Submission]) -> list[Logged]:
        """Append, have the checkpoint witnessed, and prove each statement.

        Raises:
            LogError: as ``append``, ``cosign`` and ``prove``. After ``NotWitnessedError`` the
                statements are in the log; call again when the witnesses answer.
        """
        indices = self.append(submissions)
        if self.shard.home.settings.witnesses:
            self.cosign()
        return [Logged(self.origin, index, self.prove(index)) for index in indices]

    def close(self) -> None:
        """Give up the lock."""
        self._index.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @classmethod
    def _locked(cls, home: LogHome, year: int, files: DurableFiles, lock: int) -> Self:
        try:
            return cls(Shard(home, year), home.signer(year), files, lock)
        except BaseException:
            os.close(lock)
            raise

    def _append_batch(self, entries: Sequence[bytes], leaves: Sequence[bytes]) -> None:
        edge, changed = self._edge.append(entries)
        root = self.shard.home.shard(self.shard.year)
        self._needs_recovery = True
        try:
            self._files.replace_all({root / path: data for path, data in changed.items()})
            reader = TileReader(root, edge.size)
            self._sign(edge, reader)
            self._files.replace(root / "checkpoint", self._signed.to_bytes())
            if edge.size // TILE_WIDTH > self._edge.size // TILE_WIDTH:
                self._files.remove_all(leftovers(root, edge.size))
        except OSError as error:
            raise LogDiskError(f"the log cannot be written ({error.strerror}); free the disk and repeat") from error
        self._index.extend(self._edge.size, leaves)
        self._edge, self._reader = edge, reader
        self._needs_recovery = False

    def _sign(self, edge: RightEdge, reader: TileReader) -> None:
        """Sign the tree of ``edge`` and record it, unless it does not extend what was signed."""
        old = self._signed.checkpoint
        try:
            path = reader.consistency_path(old.size, edge.size)
            verify_consistency(old.size, old.root, edge.size, edge.root, path)
        except (ProductError, ValueError) as error:
            raise LogRollbackError(
                f"refused to sign a tree of {edge.size} entries: it does not extend the signed tree of {old.size}"
            ) from error
        head = Checkpoint(old.origin, edge.size, edge.root)
        note = SignedCheckpoint(head, (sign_checkpoint(head, self._signer.private),))
        self._files.replace(self.shard.home.signed_path(self.shard.year), note.to_bytes())
        self._signed = note

    def _recover(self) -> None:
        """Take up the last signed tree: check it, publish it if that was missed, clear leftovers."""
        root = self.shard.home.shard(self.shard.year)
        self._signed = _read_signed(self.shard)
        size = self._signed.checkpoint.size
        self._reader = TileReader(root, size)
        self._edge = RightEdge.read(self._reader)
        if self._edge.root != self._signed.checkpoint.root:
            raise LogCorruptError(f"the tiles of {self.origin} do not lead to its signed checkpoint of {size} entries")
        try:
            published = self.shard.checkpoint().checkpoint
        except LogMissingError:
            published = None
        if published is not None and published.size > size:
            raise LogRollbackError(
                f"{self.origin} has published {published.size} entries, but its own record ends at {size}; "
                "restore the state folder of that time"
            )
        try:
            if published != self._signed.checkpoint:
                self._files.replace(root / "checkpoint", self._signed.to_bytes())
            self._files.remove_all(leftovers(root, size))
        except OSError as error:
            raise LogDiskError(f"the log cannot be written ({error.strerror}); free the disk and repeat") from error
        self._index.catch_up(self._reader)
        self._needs_recovery = False

    def _position(self, leaf: bytes) -> int:
        position = self._index.position(leaf)
        if position is None:
            raise LogCorruptError("the index of the log lacks an entry that was just written")
        return position


def cosign(shard: Shard, *, files: DurableFiles | None = None) -> Cosigned:
    """Ask the witnesses to cosign what the shard signed last; also for a frozen shard.

    Raises:
        NotWitnessedError: fewer than the quorum did.
        LogRollbackError: a witness has cosigned a larger tree of this log.
        LogDiskError: the answer cannot be stored.
    """
    disk = files or DurableFiles()
    note = _read_signed(shard)
    try:
        before = shard.witnessed().checkpoint.size
    except LogMissingError:
        before = 0
    home = shard.home
    cosigned = collect(
        note,
        shard.reader(note.checkpoint.size),
        home.settings.witnesses,
        quorum=home.settings.quorum,
        known_size=before,
    )
    try:
        disk.replace(home.state(shard.year) / "witnessed", cosigned.note.to_bytes())
        disk.replace(home.shard(shard.year) / "checkpoint", cosigned.note.to_bytes())
    except OSError as error:
        raise LogDiskError(f"the log cannot be written ({error.strerror}); free the disk and repeat") from error
    return cosigned


def submissions(envelopes: Sequence[bytes], actors: Actors) -> list[Submission]:
    """Return envelopes with the public keys of their signers, found among the agency's actors.

    Raises:
        LogEntryError: not an envelope, or of a key the agency does not list.
    """
    spki_of = {sha256_hex(actor.verify_key.spki): actor.verify_key.spki for actor in actors.actors}
    found = []
    for data in envelopes:
        try:
            keyid = Envelope.from_bytes(data).keyid
        except ContractError as error:
            raise LogEntryError(f"expected a signed envelope: {error}") from error
        if keyid not in spki_of:
            raise LogEntryError(f"expected a signer that the agency lists, got the key {keyid[:12]}")
        found.append(Submission(data, spki_of[keyid]))
    return found


def entry_of(submission: Submission) -> bytes:
    """Return the entry of a submission after checking its signature.

    Raises:
        LogEntryError: not an envelope, or not signed by the key given with it.

    Privacy:
        The entry holds the digest of the statement, its signature and the public key.
    """
    try:
        envelope = Envelope.from_bytes(submission.envelope)
    except ContractError as error:
        raise LogEntryError(f"expected a signed envelope: {error}") from error
    if envelope.keyid != sha256_hex(submission.spki):
        raise LogEntryError("expected the key that the envelope names, got another key")
    message = pae(envelope.payload_type, envelope.payload)
    try:
        _public_key(submission.spki).verify(envelope.signature, message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as error:
        raise LogEntryError(f"the signature of key {envelope.keyid[:12]} does not verify") from error
    return leaf_bytes(message, envelope.signature, submission.spki)


@lru_cache(maxsize=256)
def _public_key(spki: bytes) -> ec.EllipticCurvePublicKey:
    try:
        key = serialization.load_der_public_key(spki)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise LogEntryError("expected a DER SubjectPublicKeyInfo") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise LogEntryError("expected an ECDSA P-256 key")
    return key


def _batches(items: list[tuple[bytes, bytes]]) -> Iterator[list[tuple[bytes, bytes]]]:
    for at in range(0, len(items), BATCH_MAX):
        yield items[at : at + BATCH_MAX]


def _read_signed(shard: Shard) -> SignedCheckpoint:
    """Return the writer's record of the last checkpoint it signed, verified."""
    path = shard.home.signed_path(shard.year)
    try:
        note = SignedCheckpoint.from_bytes(path.read_bytes())
        if note.checkpoint.origin != shard.key.name or len(note.lines) != 1:
            raise LogCorruptError(f"{path} is no checkpoint of this shard")
        shard.key.verify(note.lines[0].signature, note.checkpoint.body)
    except FileNotFoundError as error:
        raise LogMissingError(f"expected the record of the last signed checkpoint at {path}") from error
    except ProductError as error:
        raise LogCorruptError(f"{path} is no checkpoint that this log signed: {error}") from error
    return note


def _lock(home: LogHome, year: int, until: float) -> int:
    folder = home.state(year)
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() >= until:
                os.close(descriptor)
                raise LogBusyError(
                    f"another process writes {home.settings.origin(year)}; wait for it to end"
                ) from error
            time.sleep(0.02)
        else:
            return descriptor


def _freeze(home: LogHome, year: int, files: DurableFiles, until: float) -> None:
    """Close a shard of a past year for good; its final checkpoint is already published."""
    marker = home.state(year) / "frozen"
    if marker.exists():
        return
    # Opening publishes what a crash may have left signed and unpublished.
    with Log._locked(home, year, files, _lock(home, year, until)):  # noqa: SLF001 - same module
        files.replace(marker, b"")
