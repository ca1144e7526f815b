"""The log's home: its settings, keys and the folders of its yearly shards.

``log.toml`` names the operator and the witnesses; ``keys/<year>.pem`` signs the shard of that
year; ``<year>/`` is public (checkpoint and tiles); ``state/<year>/`` is the writer's own.
A shard is prepared before its year begins, so that the agency can put its key into the log
policy in time.
"""

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from factory.log.errors import LogMissingError
from factory.log.files import DurableFiles
from factory.log.keys import NoteSigner, make_key, read_key
from products.errors import ProductError
from products.log import COSIGNATURE_TYPE, EMPTY_ROOT, SIGNATURE_TYPE, Checkpoint, NoteKey, SignedCheckpoint
from products.log import sign_checkpoint as sign_line

SETTINGS_FILE = "log.toml"
_OPERATOR = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


@dataclass(frozen=True, slots=True)
class WitnessPlace:
    """A witness and where to reach it.

    Attributes:
        key: its public key.
        address: ``http://127.0.0.1:<port>``, or the path of a file that holds such a line
            (a witness writes its port there when it starts).
    """

    key: NoteKey
    address: str

    @property
    def url(self) -> str:
        """The address, read from the file if it is one.

        Raises:
            LogMissingError: the file is not there.
        """
        if self.address.startswith("http://"):
            return self.address
        try:
            return Path(self.address).read_text(encoding="ascii").strip()
        except OSError as error:
            raise LogMissingError(f"expected {self.key.name} to have written its address; start the witness") from error


@dataclass(frozen=True, slots=True)
class LogSettings:
    """What ``log.toml`` says.

    Attributes:
        operator: middle part of the origin, ``log.<operator>/<year>``.
        quorum: how many of the witnesses have to cosign; 0 only while there are none.
        witnesses: whom to ask.
    """

    operator: str
    quorum: int
    witnesses: tuple[WitnessPlace, ...]

    def __post_init__(self) -> None:
        if not _OPERATOR.fullmatch(self.operator):
            raise ValueError("expected an operator's name of small letters, digits, dots and dashes")
        count = len(self.witnesses)
        if not min(1, count) <= self.quorum <= count:
            raise ValueError(f"expected a quorum within the {count} witnesses, got {self.quorum}")
        if len({place.key.public for place in self.witnesses}) != count:
            raise ValueError("expected each witness once")

    def origin(self, year: int) -> str:
        """Return the identity of the shard of ``year``."""
        return f"log.{self.operator}/{year}"


@dataclass(frozen=True, slots=True)
class LogHome:
    """A log's folder and its settings."""

    folder: Path
    settings: LogSettings

    @classmethod
    def create(
        cls, folder: Path, *, operator: str, witnesses: Sequence[WitnessPlace] = (), quorum: int | None = None
    ) -> "LogHome":
        """Make a new log home without shards.

        Args:
            folder: where; made if it is missing.
            operator: name of the operator.
            witnesses: whom to ask.
            quorum: how many of them; a majority unless given.

        Raises:
            ValueError: there is a log already, or the settings are wrong.
        """
        count = len(witnesses)
        settings = LogSettings(
            operator, (count // 2 + 1 if count else 0) if quorum is None else quorum, tuple(witnesses)
        )
        path = folder / SETTINGS_FILE
        if path.exists():
            raise ValueError(f"{path} exists already; this folder is a log")
        home = cls(folder, settings)
        home.write_settings()
        return home

    @classmethod
    def read(cls, folder: Path) -> "LogHome":
        """Read an existing home.

        Raises:
            LogMissingError: there is none, or its settings are wrong.
        """
        path = folder / SETTINGS_FILE
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
            places = tuple(
                WitnessPlace(NoteKey.from_vkey(item["vkey"]), item["address"]) for item in table.get("witness", [])
            )
            return cls(folder, LogSettings(table["operator"], table["quorum"], places))
        except OSError as error:
            raise LogMissingError(f"expected a log at {folder}; make one with: shufang log init") from error
        except (ValueError, KeyError, TypeError, ProductError) as error:
            raise LogMissingError(f"expected operator, quorum and witnesses in {path}: {error}") from error

    def with_witnesses(self, witnesses: Sequence[WitnessPlace], quorum: int) -> "LogHome":
        """Return the home with other witnesses, and write its settings."""
        home = LogHome(self.folder, LogSettings(self.settings.operator, quorum, tuple(witnesses)))
        home.write_settings()
        return home

    def write_settings(self) -> None:
        """Write ``log.toml``."""
        lines = [f'operator = "{self.settings.operator}"', f"quorum = {self.settings.quorum}"]
        for place in self.settings.witnesses:
            lines += ["", "[[witness]]", f'vkey = "{place.key.vkey}"', f"address = {_toml_text(place.address)}"]
        DurableFiles().replace(self.folder / SETTINGS_FILE, ("\n".join(lines) + "\n").encode())

    def years(self) -> list[int]:
        """Return the years that have a shard, in order."""
        keys = self.folder / "keys"
        return sorted(int(path.stem) for path in keys.glob("*.pem") if path.stem.isdigit()) if keys.is_dir() else []

    def prepare(self, year: int, *, files: DurableFiles | None = None, passphrase_file: Path | None = None) -> NoteKey:
        """Make the key and the empty tree of ``year``, unless they exist, and return the public key.

        Safe to repeat after a crash. Tell the agency the ``vkey`` for its log policy. The key is encrypted
        at rest where a passphrase is named, now or for an earlier year.
        """
        disk = files or DurableFiles()
        path = self.folder / "keys" / f"{year}.pem"
        origin = self.settings.origin(year)
        signer = read_key(path, origin) if path.exists() else make_key(path, origin, passphrase_file=passphrase_file)
        key = NoteKey(origin, SIGNATURE_TYPE, signer.public)
        signed = self.signed_path(year)
        disk.replace(self.shard(year) / "vkey", f"{key.vkey}\n".encode())
        if not signed.exists():
            head = Checkpoint(origin, 0, EMPTY_ROOT)
            disk.replace(signed, SignedCheckpoint(head, (sign_line(head, signer.private),)).to_bytes())
        return key

    def signer(self, year: int) -> NoteSigner:
        """Return the key of a shard.

        Raises:
            LogKeyError: it is missing or open to others.
        """
        return read_key(self.folder / "keys" / f"{year}.pem", self.settings.origin(year))

    def key(self, year: int) -> NoteKey:
        """Return the public key of a shard, from its public folder.

        Raises:
            LogMissingError: the shard is not prepared, or the file is no key of it.
        """
        try:
            key = NoteKey.from_vkey((self.shard(year) / "vkey").read_text(encoding="utf-8").strip())
        except (OSError, ProductError) as error:
            raise LogMissingError(f"expected the key of {self.settings.origin(year)} in {self.shard(year)}") from error
        if key.name != self.settings.origin(year) or key.kind != SIGNATURE_TYPE:
            raise LogMissingError(f"expected the key of {self.settings.origin(year)}, got one of {key.name}")
        return key

    def shard(self, year: int) -> Path:
        """Return the public folder of a shard."""
        return self.folder / str(year)

    def state(self, year: int) -> Path:
        """Return the writer's own folder of a shard."""
        return self.folder / "state" / str(year)

    def signed_path(self, year: int) -> Path:
        """Return the file of the last signed checkpoint of a shard."""
        return self.state(year) / "signed"

    def policy_text(self) -> bytes:
        """Return the log policy that this home's settings mean, for the agency to sign.

        Raises:
            ValueError: no shard is prepared, or there are no witnesses.
        """
        keys = [self.key(year) for year in self.years()]
        return policy_text(keys, [place.key for place in self.settings.witnesses], self.settings.quorum)


def policy_text(logs: Sequence[NoteKey], witnesses: Sequence[NoteKey], quorum: int) -> bytes:
    """Return a C2SP log policy: these logs, and ``quorum`` of these witnesses.

    Raises:
        ValueError: no log, no witness, or a quorum outside their number.
    """
    if not logs or not 1 <= quorum <= len(witnesses):
        raise ValueError(f"expected a log, witnesses, and a quorum from 1 to {len(witnesses)}")
    lines = [f"log {key.vkey}" for key in logs]
    lines += [f"witness w{number} {key.vkey}" for number, key in enumerate(witnesses, start=1)]
    members = " ".join(f"w{number}" for number in range(1, len(witnesses) + 1))
    lines += [f"group witnesses {quorum} {members}", "quorum witnesses"]
    return ("\n".join(lines) + "\n").encode()


def witness_key(vkey: str) -> NoteKey:
    """Parse the verifier key of a witness.

    Raises:
        ValueError: a key of another type.
    """
    key = NoteKey.from_vkey(vkey)
    if key.kind != COSIGNATURE_TYPE:
        raise ValueError("expected the key of a witness (type 0x04)")
    return key


def year_of(moment: datetime) -> int:
    """Return the shard's year: that of ``moment`` in UTC."""
    return moment.astimezone(UTC).year


def _toml_text(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
