"""Open sessions of a node: in memory, one lock each, ended by close, idleness or restart."""

import shutil
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from nodes.agent.parties import HalfRun
from nodes.contract.errors import BadSealError, UnknownActorError
from nodes.contract.grant import Grant
from nodes.contract.messages import Order
from nodes.contract.sealing import SealHeader, seal, unseal
from nodes.contract.signing import Envelope, SigningKey, sign
from nodes.contract.statement import PAYLOAD_TYPE
from nodes.statements import TRANSCRIPT_START, UsedResource
from nodes.tasks.spec import TaskSession, TaskSpec
from nodes.trust_store import TrustStore

REPLIES_KEPT = 4
"""Answers kept per open session and sender, so that a repeated step gets the same bytes."""

_RESERVED_TYPES = (
    PAYLOAD_TYPE,
    "application/vnd.shufang.order.",
    "application/vnd.shufang.step.",
    "application/vnd.shufang.query.",
    "application/vnd.shufang.result.",
    "application/vnd.shufang.refusal.",
    "application/vnd.shufang.party-frame.",
    "application/vnd.shufang.enrolment.",
    "application/vnd.shufang.actors.",
    "application/vnd.shufang.status.",
    "application/vnd.shufang.quality-report.",
)


@dataclass(slots=True)
class OpenSession:
    """One session between its order and its close.

    Attributes:
        order, order_sha256, grant: what opened it.
        spec, task: the running task.
        resources: what it reads, for the statement.
        started_at, used_at: first and last activity.
        first_seq: ledger entry of the accepted order.
        use_number: which use of the grant it is.
        budget_before: units spent when it began.
        sequence: last sequence taken, per sender.
        replies: last answers per request digest, oldest first.
        transcript: running digest.
        lock: held while a step is handled.
        run: for party tasks, the half and its way to the other nodes.
        trail: held while the transcript is extended.
    """

    order: Order
    order_sha256: str
    grant: Grant
    spec: TaskSpec
    task: TaskSession
    resources: tuple[UsedResource, ...]
    started_at: datetime
    used_at: datetime
    first_seq: int
    use_number: int
    budget_before: int
    sequence: dict[str, int] = field(default_factory=dict)
    replies: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    transcript: bytes = TRANSCRIPT_START
    is_closed: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)
    run: HalfRun | None = None
    trail: threading.Lock = field(default_factory=threading.Lock)

    def keep_reply(self, sender: str, request_sha256: str, reply: bytes) -> None:
        """Keep an answer, forgetting the sender's oldest ones."""
        self.replies[request_sha256] = (sender, reply)
        mine = [digest for digest, (who, _) in self.replies.items() if who == sender]
        for digest in mine[:-REPLIES_KEPT]:
            del self.replies[digest]


class Sessions:
    """All open sessions; safe to use from several threads."""

    def __init__(self, state: Path, idle_s: int, *, keep: Collection[str] = ()) -> None:
        """Start with none.

        Args:
            state: folder for sessions' files; leftovers of an earlier run are removed.
            idle_s: after how many idle seconds a session expires.
            keep: sessions that are taken up again; their files stay.
        """
        self._state = state
        self._idle = timedelta(seconds=idle_s)
        self._lock = threading.Lock()
        self._open: dict[str, OpenSession] = {}
        self._opening: dict[str, threading.Lock] = {}
        kept = {_folder(session) for session in keep}
        for leftover in state.glob("*"):
            if leftover.name not in kept:
                shutil.rmtree(leftover, ignore_errors=True)

    def opening_lock(self, session_id: str) -> threading.Lock:
        """Return the lock that is held while a session is being opened."""
        with self._lock:
            if len(self._opening) > 1024:
                self._opening = {name: lock for name, lock in self._opening.items() if lock.locked()}
            return self._opening.setdefault(session_id, threading.Lock())

    def get(self, session_id: str) -> OpenSession | None:
        """Return an open session, or None."""
        with self._lock:
            return self._open.get(session_id)

    def add(self, session: OpenSession) -> None:
        """Make a session known."""
        with self._lock:
            self._open[session.order.session_id] = session

    def remove(self, session_id: str) -> None:
        """Forget a session and delete its files."""
        with self._lock:
            self._open.pop(session_id, None)
        shutil.rmtree(self._state / _folder(session_id), ignore_errors=True)

    def idle(self, now: datetime) -> list[OpenSession]:
        """Return sessions that have been idle too long and are not at work."""
        with self._lock:
            return [s for s in self._open.values() if now - s.used_at > self._idle and not s.lock.locked()]

    def state_dir(self, session_id: str) -> Path:
        """Make and return the folder of one session's files, mode 0700."""
        folder = self._state / _folder(session_id)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder

    def __len__(self) -> int:
        with self._lock:
            return len(self._open)


def _folder(session_id: str) -> str:
    return session_id.replace(":", "_")


@dataclass(frozen=True, slots=True)
class SessionSecrets:
    """What a task may do with the node's keys; a ``nodes.tasks.spec.Secrets``. Its repr shows no key."""

    node: str
    session_id: str
    trust: TrustStore = field(repr=False)
    signing: SigningKey = field(repr=False)
    opening: X25519PrivateKey = field(repr=False)
    now: Callable[[], datetime] = field(repr=False)

    def seal(self, plaintext: bytes, header: SealHeader) -> bytes:
        """Seal for the header's recipient.

        Raises:
            BadSealError: the header is not of this node and session.
            UnknownActorError: the trust data has no such recipient now.
        """
        if header.sender != self.node or header.session_id != self.session_id:
            raise BadSealError("expected a header of this node and session")
        recipient = self.trust.current().latest(header.recipient, self.now())
        if not recipient.sealing_key:
            raise UnknownActorError(f"expected a sealing key of {header.recipient}")
        return seal(plaintext, recipient.sealing_bytes, header)

    def unseal(self, sealed: bytes, header: SealHeader) -> bytes:
        """Open what was sealed for this node in this session.

        Raises:
            BadSealError: it does not open, or the header is not for this node and session.
        """
        if header.recipient != self.node or header.session_id != self.session_id:
            raise BadSealError("expected a header for this node and session")
        return unseal(sealed, self.opening, header)

    def sign(self, payload_type: str, payload: bytes) -> Envelope:
        """Sign as this node; types of messages and statements are the agent's alone.

        Raises:
            ValueError: a reserved payload type.
        """
        if payload_type.startswith(_RESERVED_TYPES):
            raise ValueError("expected a payload type of the task's own")
        return sign(self.signing, payload_type, payload)
