"""Reading a shard: its checkpoints, where an entry stands, and the proof of it.

Needs no lock: checkpoint and tiles change only by whole files, and a tree once signed keeps
its tiles.
"""

from dataclasses import dataclass

from factory.log.errors import LogCorruptError, LogMissingError, NotWitnessedError
from factory.log.home import LogHome
from factory.log.index import read_position
from factory.log.tiles import TileReader
from nodes.contract.signing import Envelope, pae
from products.errors import ProductError
from products.log import LogProof, NoteKey, SignedCheckpoint, leaf_bytes, verify_inclusion


@dataclass(frozen=True, slots=True)
class Shard:
    """One year of a log, read only.

    Attributes:
        home: the log.
        year: which shard.
    """

    home: LogHome
    year: int

    @property
    def key(self) -> NoteKey:
        """The public key of the shard."""
        return self.home.key(self.year)

    def checkpoint(self) -> SignedCheckpoint:
        """Return the latest published checkpoint.

        Raises:
            LogMissingError: nothing was published yet.
            LogCorruptError: the file is no checkpoint of this shard.
        """
        return self._read("checkpoint", published=True)

    def witnessed(self) -> SignedCheckpoint:
        """Return the latest checkpoint that the quorum cosigned.

        Raises:
            LogMissingError: there is none yet.
            LogCorruptError: the file is no checkpoint of this shard.
        """
        return self._read("witnessed", published=False)

    def reader(self, size: int) -> TileReader:
        """Return a reader of the tree of ``size`` entries."""
        return TileReader(self.home.shard(self.year), size)

    def find(self, leaf: bytes) -> int | None:
        """Return the index of the entry with this Merkle leaf hash, if the log has it."""
        return read_position(self.home.state(self.year) / "index.db", leaf)

    def prove(self, index: int, *, reader: TileReader | None = None) -> bytes:
        """Return the tlog-proof of an entry, with the checkpoint and its cosignatures.

        Args:
            index: the entry.
            reader: reader to use again, so that its tiles stay in memory.

        Raises:
            NotWitnessedError: no witnessed checkpoint holds the entry yet.
            LogCorruptError: the tiles do not lead to the checkpoint.
        """
        try:
            note = self.witnessed() if self.home.settings.witnesses else self.checkpoint()
        except LogMissingError as error:
            raise NotWitnessedError("no checkpoint was witnessed yet; ask the witnesses to cosign") from error
        size = note.checkpoint.size
        if not 0 <= index < size:
            raise NotWitnessedError(f"expected an index below {size}, the size of the witnessed tree, got {index}")
        tiles = reader if reader is not None and reader.size >= size else self.reader(size)
        path = tuple(tiles.inclusion_path(index, size))
        try:
            verify_inclusion(index, size, tiles.hash_at(0, index), path, note.checkpoint.root)
        except ProductError as error:
            raise LogCorruptError(f"the tiles do not lead entry {index} to the witnessed root") from error
        return LogProof(index, path, note).to_bytes()

    def _read(self, name: str, *, published: bool) -> SignedCheckpoint:
        folder = self.home.shard(self.year) if published else self.home.state(self.year)
        try:
            note = SignedCheckpoint.from_bytes((folder / name).read_bytes())
        except FileNotFoundError as error:
            raise LogMissingError(f"expected the file {name} of {self.home.settings.origin(self.year)}") from error
        except ProductError as error:
            raise LogCorruptError(f"the file {name} is no checkpoint: {error}") from error
        if note.checkpoint.origin != self.home.settings.origin(self.year):
            raise LogCorruptError(f"the file {name} is a checkpoint of another log")
        return note


def envelope_leaf(envelope: Envelope, spki: bytes) -> bytes:
    """Return the log entry of an envelope signed by the key ``spki`` (DER).

    Privacy:
        The entry holds digests, the signature and the public key; not the payload.
    """
    return leaf_bytes(pae(envelope.payload_type, envelope.payload), envelope.signature, spki)
