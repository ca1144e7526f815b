"""Deletion of what an operator kept under an agreement that has ended, each artefact with a signed record.

Logs and the registry stay: they hold names and digests, no raw value, and are kept for their retention.

Source:
    Regulations EXIT-DELETE (JL-运营管理-36, GD-39-10), LOG-RETAIN (JL-运营管理-44, GD-39-11).
"""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from factory.identity import Identity
from nodes.contract.signing import sha256_hex, sign
from nodes.contract.statement import PAYLOAD_TYPE, statement, time_text

KEPT = ("registry.db", "log", "keys", "certs", "trust", "identity.toml", "enrolment.json", "law.toml", "hub", "deleted")
"""What outlives an exit: the chain of events, the transparency log, and the identity that answers for both."""
DELETION = "urn:shufang:predicate:deletion-record/v1"


def artefacts(home: Path) -> Iterator[Path]:
    """Return every file of an operator's home that is deleted at an exit."""
    for path in sorted(home.rglob("*")):
        name = path.relative_to(home).parts[0]
        if path.is_file() and not any(name == kept or name.startswith(f"{kept}-") for kept in KEPT):
            yield path


def delete_kept(identity: Identity, *, agreement: str, now: datetime) -> list[bytes]:
    """Delete what an operator kept and return one signed record per artefact; also written to ``deleted/``.

    The record is on disk before the artefact goes, so that a kill leaves neither unrecorded.
    """
    records = []
    folder = identity.home / "deleted"
    folder.mkdir(mode=0o700, exist_ok=True)
    for path in list(artefacts(identity.home)):
        digest = sha256_hex(path.read_bytes())
        name = path.relative_to(identity.home).as_posix()
        predicate = {"agreement": agreement, "path": name, "deleted_at": time_text(now)}
        envelope = sign(identity.key, PAYLOAD_TYPE, statement(DELETION, [(name, digest)], predicate)).to_bytes()
        (folder / f"{digest}.dsse.json").write_bytes(envelope)
        path.unlink()
        records.append(envelope)
    return records


def remaining(home: Path) -> Iterator[bytes]:
    """Return the content of every file that is still in a home, for the agency's scan."""
    for path in sorted(home.rglob("*")):
        if path.is_file():
            yield path.read_bytes()
