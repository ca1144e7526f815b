"""A witness: cosigns checkpoints of logs it watches, as long as they only grow.

``python -m factory.log.witness --home DIR`` serves ``POST /add-checkpoint`` on a free port of
127.0.0.1 and writes its address to ``DIR/address``. It has its own key and its own store, and
refuses rollback and forks; a signed contradiction is kept as evidence.

Deviation: c2sp.org/tlog-witness answers 409 to another root of the same size. Here every fork
is 422, since a client takes 409 as an invitation to try again with another size.

Privacy:
    A witness sees sizes and roots, nothing of any statement.

Source:
    c2sp.org/tlog-witness, c2sp.org/tlog-cosignature (Ed25519).
"""

import argparse
import base64
import binascii
import hashlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FrameType
from typing import ClassVar

from factory.log.errors import LogError, LogMissingError
from factory.log.files import DurableFiles
from factory.log.keys import NoteSigner, make_key, read_key
from factory.log.witness_store import Evidence, Held, WitnessStore, checked
from products.errors import MalformedError, ProductError
from products.log import COSIGNATURE_TYPE, HASH_SIZE, NoteKey, SignedCheckpoint, cosign_checkpoint, verify_consistency

REQUEST_BYTES_MAX = 64 * 1024
PROOF_LINES_MAX = 63
_REQUEST_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class AddCheckpoint:
    """A parsed request.

    Attributes:
        old: size that the proof starts from.
        path: consistency proof, hashes of 32 bytes.
        note: the submitted checkpoint, not yet believed.
    """

    old: int
    path: tuple[bytes, ...]
    note: SignedCheckpoint

    @classmethod
    def from_bytes(cls, body: bytes) -> "AddCheckpoint":
        """Parse a request body.

        Raises:
            MalformedError: another form.
            TooLargeError: too many signature lines.
        """
        head, blank, note = body.partition(b"\n\n")
        lines = head.split(b"\n")
        size = lines[0].removeprefix(b"old ")
        if not blank or size == lines[0] or not size.isdigit() or len(size) > 16 or str(int(size)).encode() != size:
            raise MalformedError("expected a line with the old size, proof lines, an empty line and a checkpoint")
        if len(lines) - 1 > PROOF_LINES_MAX:
            raise MalformedError(f"expected at most {PROOF_LINES_MAX} proof lines")
        try:
            path = tuple(base64.b64decode(line, validate=True) for line in lines[1:])
        except binascii.Error as error:
            raise MalformedError("expected proof lines in base64") from error
        if any(len(item) != HASH_SIZE for item in path):
            raise MalformedError(f"expected proof hashes of {HASH_SIZE} bytes")
        return cls(int(size), path, SignedCheckpoint.from_bytes(note))


@dataclass(frozen=True, slots=True)
class Answer:
    """What the witness answers.

    Attributes:
        status: HTTP status.
        text: body.
        misbehaviour: kind of evidence to keep; empty for none.
    """

    status: HTTPStatus
    text: str = ""
    misbehaviour: str = ""


def judge(request: AddCheckpoint, held: Held | None) -> Answer:
    """Decide on a request whose log signature was verified; 200 means: cosign.

    Args:
        request: what was asked.
        held: what the witness cosigned last for this log.
    """
    head = request.note.checkpoint
    size = held.checkpoint.size if held else 0
    if request.old > head.size:
        kind = "rollback" if held and head.size < size and request.old == size else ""
        return Answer(HTTPStatus.BAD_REQUEST, "the old size is larger than the checkpoint\n", kind)
    if request.old != size:
        return Answer(HTTPStatus.CONFLICT, f"{size}\n")
    if held and head.size == size:
        if head.root != held.checkpoint.root:
            return Answer(HTTPStatus.UNPROCESSABLE_ENTITY, "another tree of the same size was cosigned\n", "fork")
        return Answer(HTTPStatus.OK)
    root = held.checkpoint.root if held else hashlib.sha256(b"").digest()
    try:
        verify_consistency(size, root, head.size, head.root, request.path)
    except ProductError:
        kind = "unproven" if held else ""
        return Answer(HTTPStatus.UNPROCESSABLE_ENTITY, "the tree does not extend the one that was cosigned\n", kind)
    return Answer(HTTPStatus.OK)


class Witness:
    """Key and store of a witness, and what it does with a request."""

    def __init__(self, signer: NoteSigner, store: WitnessStore) -> None:
        self._signer = signer
        self.store = store

    @property
    def key(self) -> NoteKey:
        """The public key, for log policies."""
        return NoteKey(self._signer.name, COSIGNATURE_TYPE, self._signer.public)

    def add_checkpoint(self, body: bytes, *, now_s: int) -> Answer:
        """Answer one request.

        Args:
            body: as received.
            now_s: seconds since 1970-01-01 UTC.
        """
        try:
            request = AddCheckpoint.from_bytes(body)
        except ProductError as error:
            return Answer(HTTPStatus.BAD_REQUEST, f"{error}\n")
        origin = request.note.checkpoint.origin
        with self.store.exclusive():
            keys = self.store.keys_of(origin)
            if not keys:
                return Answer(HTTPStatus.NOT_FOUND, "this log is not watched here\n")
            note = checked(request.note, keys)
            if note is None:
                return Answer(HTTPStatus.FORBIDDEN, "no signature of a known key of this log\n")
            held = self.store.held(origin)
            answer = judge(request, held)
            if answer.misbehaviour and held:
                kept = Evidence(origin, answer.misbehaviour, now_s, body, held.note)
                self.store.keep(kept, sha256=hashlib.sha256(body).digest())
            if answer.status != HTTPStatus.OK:
                return answer
            # A clock that was set back must not make a later tree look older.
            time_s = max(now_s, held.time_s if held else 0)
            self.store.record(note, time_s=time_s)
        line = cosign_checkpoint(note.checkpoint, self._signer.name, self._signer.private, time_s=time_s)
        return Answer(HTTPStatus.OK, line.text)


def create_home(folder: Path, *, name: str, passphrase_file: Path | None = None) -> NoteKey:
    """Make a witness's home and key, encrypted if a passphrase is named; return the public key.

    Raises:
        LogKeyError: there is a key already.
        ValueError: the name has spaces or plus signs.
    """
    signer = make_key(folder / "keys" / "witness.pem", name, passphrase_file=passphrase_file)
    key = NoteKey(name, COSIGNATURE_TYPE, signer.public)
    DurableFiles().replace(folder / "vkey", f"{key.vkey}\n".encode())
    return key


def open_home(folder: Path) -> Witness:
    """Open a witness's home.

    Raises:
        LogMissingError: there is none.
        LogKeyError: its key is missing or open to others.
    """
    try:
        key = NoteKey.from_vkey((folder / "vkey").read_text(encoding="utf-8").strip())
    except (OSError, ProductError) as error:
        raise LogMissingError(f"expected a witness at {folder}; make one with: shufang log witness-init") from error
    signer = read_key(folder / "keys" / "witness.pem", key.name)
    return Witness(signer, WitnessStore(folder / "witness.db"))


class WitnessServer(ThreadingHTTPServer):
    """The witness on a free port of the loopback."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, witness: Witness, *, clock: Callable[[], float] = time.time, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.witness = witness
        self.clock = clock

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout: ClassVar[float] = _REQUEST_TIMEOUT_S
    server: WitnessServer

    def do_POST(self) -> None:
        """Serve ``/add-checkpoint``."""
        if self.path != "/add-checkpoint":
            self._answer(Answer(HTTPStatus.NOT_FOUND, "expected /add-checkpoint\n"))
            return
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit() or int(length[:9]) > REQUEST_BYTES_MAX or len(length) > 8:
            self.close_connection = True
            self._answer(Answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "expected a short body with its length\n"))
            return
        body = self.rfile.read(int(length))
        self._answer(self.server.witness.add_checkpoint(body, now_s=int(self.server.clock())))

    def do_GET(self) -> None:
        """Serve the public key at ``/vkey``."""
        if self.path == "/vkey":
            self._answer(Answer(HTTPStatus.OK, f"{self.server.witness.key.vkey}\n"))
        else:
            self._answer(Answer(HTTPStatus.NOT_FOUND, "expected /vkey\n"))

    def _answer(self, answer: Answer) -> None:
        body = answer.text.encode()
        kind = "text/x.tlog.size" if answer.status == HTTPStatus.CONFLICT else "text/plain; charset=utf-8"
        self.send_response(answer.status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - name of the base class
        """Stay silent; decisions are in the store."""


def serve(folder: Path, *, port: int = 0) -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit code."""
    witness = open_home(folder)
    with WitnessServer(witness, port=port) as server:
        DurableFiles().replace(folder / "address", f"{server.url}\n".encode())

        def stop(_signal: int, _frame: FrameType | None) -> None:
            threading.Thread(target=server.shutdown).start()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        sys.stdout.write(f"{witness.key.name} {server.url}\n")
        sys.stdout.flush()
        server.serve_forever(poll_interval=0.2)
    witness.store.close()
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the witness from the command line. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m factory.log.witness", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--home", type=Path, required=True, help="folder of the witness")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; a free one unless given")
    options = parser.parse_args(arguments)
    try:
        return serve(options.home, port=options.port)
    except (LogError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
