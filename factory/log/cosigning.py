"""Asking witnesses for cosignatures: the log's client of c2sp.org/tlog-witness.

Privacy:
    A witness sees sizes and roots, nothing of any statement.
"""

import base64
import http.client
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlsplit

from factory.log.errors import LogError, LogRollbackError, NotWitnessedError, WitnessRefusedError
from factory.log.home import WitnessPlace
from factory.log.tiles import TileReader
from products.errors import ProductError
from products.log import NoteLine, SignedCheckpoint, verify_cosignature

TIMEOUT_S = 5.0
_ANSWER_BYTES_MAX = 16 * 1024


@dataclass(frozen=True, slots=True)
class Cosigned:
    """A checkpoint with the cosignatures of a quorum.

    Attributes:
        note: log signature first, then the witnesses in the order of the settings.
        refusals: witnesses that did not cosign, with the reason.
    """

    note: SignedCheckpoint
    refusals: tuple[tuple[str, str], ...]


def collect(
    note: SignedCheckpoint, reader: TileReader, witnesses: Sequence[WitnessPlace], *, quorum: int, known_size: int
) -> Cosigned:
    """Ask all witnesses at once and return the checkpoint with their lines.

    Args:
        note: checkpoint with the log's line alone.
        reader: tiles of the same tree, for consistency proofs.
        witnesses: whom to ask.
        quorum: how many have to answer.
        known_size: size that the witnesses are believed to have cosigned last.

    Raises:
        NotWitnessedError: fewer than ``quorum`` did.
        LogRollbackError: a witness has cosigned a larger tree of this log.
    """
    # Each witness reads with its own cache: readers are not shared between threads.
    readers = [TileReader(reader.root, reader.size) for _ in witnesses]
    lines: list[NoteLine] = []
    refusals: list[tuple[str, str]] = []
    with ThreadPoolExecutor(max_workers=max(1, len(witnesses))) as pool:
        asked = [
            pool.submit(ask_witness, note, own, place, known_size=known_size)
            for own, place in zip(readers, witnesses, strict=True)
        ]
    for place, answer in zip(witnesses, asked, strict=True):
        try:
            lines.append(answer.result())
        except LogRollbackError:
            raise
        except LogError as error:
            refusals.append((place.key.name, str(error)))
    if len(lines) < quorum:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in refusals)
        raise NotWitnessedError(f"expected {quorum} cosignatures, got {len(lines)}. {reasons}")
    return Cosigned(SignedCheckpoint(note.checkpoint, (*note.lines[:1], *lines)), tuple(refusals))


def ask_witness(note: SignedCheckpoint, reader: TileReader, place: WitnessPlace, *, known_size: int) -> NoteLine:
    """Return one witness's cosignature of ``note``.

    Raises:
        NotWitnessedError: it cannot be reached.
        WitnessRefusedError: it refused, or what it returned does not verify.
        LogRollbackError: it has cosigned a larger tree of this log.
    """
    size, name = note.checkpoint.size, place.key.name
    old = min(known_size, size)
    for _ in range(2):
        status, body = _post(place, request_bytes(old, reader.consistency_path(old, size), note))
        if status != http.client.CONFLICT:
            break
        if not body.strip().isdigit() or len(body) > 20:
            raise WitnessRefusedError(name, status, "expected the size of its tree")
        old = int(body)
        if old > size:
            raise LogRollbackError(
                f"{name} has cosigned {old} entries of {note.checkpoint.origin}, this log has {size}"
            )
    if status != http.client.OK:
        raise WitnessRefusedError(name, status, body[:200].decode("utf-8", "replace").strip())
    return _line_of(place, note, status, body)


def request_bytes(old: int, path: Sequence[bytes], note: SignedCheckpoint) -> bytes:
    """Return the body of an ``add-checkpoint`` request."""
    lines = [f"old {old}", *(base64.b64encode(item).decode() for item in path), "", ""]
    return "\n".join(lines).encode() + SignedCheckpoint(note.checkpoint, note.lines[:1]).to_bytes()


def _line_of(place: WitnessPlace, note: SignedCheckpoint, status: int, body: bytes) -> NoteLine:
    try:
        for text in body.decode("utf-8").splitlines():
            line = NoteLine.from_text(text)
            if (line.name, line.key_id) == (place.key.name, place.key.key_id):
                verify_cosignature(note.checkpoint, line, place.key)
                return line
    except (ProductError, UnicodeDecodeError) as error:
        raise WitnessRefusedError(place.key.name, status, f"its cosignature does not verify ({error})") from error
    raise WitnessRefusedError(place.key.name, status, "expected a cosignature of its known key")


def _post(place: WitnessPlace, body: bytes) -> tuple[int, bytes]:
    url = urlsplit(place.url)
    if url.scheme != "http" or url.hostname is None:
        raise NotWitnessedError(f"expected an address http://host:port of {place.key.name}")
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=TIMEOUT_S)
    try:
        connection.request("POST", f"{url.path}/add-checkpoint", body, {"Content-Type": "text/plain; charset=utf-8"})
        answer = connection.getresponse()
        return answer.status, answer.read(_ANSWER_BYTES_MAX)
    except (OSError, http.client.HTTPException) as error:
        raise NotWitnessedError(f"{place.key.name} cannot be reached at {url.netloc}; is it running?") from error
    finally:
        connection.close()
