"""The half of a protocol at this node: runs it, and moves its messages to and from the other nodes.

One ``HalfRun`` per session of a party task. Its half runs in one thread; one more per peer takes
messages off a bounded queue, cuts, seals, signs, records and posts them. What comes in is checked
by ``admit`` before the agent records and acknowledges it, and handed over by ``deliver``.

An *epoch* is one attempt to run the halves together. It begins with a ``hello`` to every peer that
names the last completed step; with everybody's hello the halves start after the earliest of these.
A node that was restarted, or that hears a hello of a later epoch, begins the later one. A step may
be completed only when all peers have completed the one before, so two kept states suffice.

Privacy: contents are sealed for the one peer. The ledger holds labels' count and digests, logs hold codes.
"""

import json
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from nodes.agent.refusing import RefusedError
from nodes.books import Books
from nodes.contract import canonical, messages, wire
from nodes.contract.errors import BadSealError, ContractError
from nodes.contract.messages import Order, Refusal, RefusalCode, Result
from nodes.contract.parties import ABORT, HELLO, PARTS, REACHED, PartyFrame, agreement_sha256
from nodes.contract.signing import SigningKey, VerifyKey, sha256_hex
from nodes.errors import PeerAwayError
from nodes.tasks.party import Content, Finished, Party
from nodes.tasks.spec import Outcome, Secrets, TaskRefusedError

_log = logging.getLogger("shufang.node")

Post = Callable[[str, str, bytes, float], bytes]
"""Carry a parcel: session, recipient, parcel, seconds to try; returns the reply or raises ``PeerAwayError``."""

_AGAIN = frozenset({RefusalCode.PARTY_FULL, RefusalCode.SESSION_UNKNOWN, RefusalCode.STORAGE})
"""Refusals after which the same frame is posted again: no room, not there yet, disk full."""

_HELLO_TRIES = 60
"""How often a frame of an earlier epoch is offered while the hello of the later one is on its way: about a minute."""

_POST_S = 60.0
_PAUSE_S = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_CONTROL = (HELLO, REACHED, ABORT)


class _NextEpochError(Exception):
    """A later epoch has begun; the half is run again."""


class _EndedError(Exception):
    """The session has ended; the half stops."""


@dataclass(frozen=True, slots=True)
class Journal:
    """What of a session is on disk: the epoch in the books, states and outcome in its folder.

    Attributes:
        books: of the node.
        session: id.
        folder: the session's own, mode 0700.
    """

    books: Books
    session: str
    folder: Path

    def epoch(self) -> int:
        """Return the last epoch this node took part in; 0 before the first."""
        return self.books.party_epoch(self.session)

    def begin(self, epoch: int) -> None:
        """Note that an epoch begins, before anybody hears of it."""
        self.books.begin_epoch(self.session, epoch)
        (self.folder / "outcome").unlink(missing_ok=True)

    def states(self) -> dict[int, bytes]:
        """Return the kept states by step."""
        return {
            int(path.name.removeprefix("step-")): path.read_bytes()
            for path in self.folder.glob("step-*")
            if path.name.removeprefix("step-").isdigit()
        }

    def keep(self, step: int, state: bytes) -> None:
        """Keep the state after ``step`` and the one before it."""
        _write(self.folder / f"step-{step}", state)
        for number in self.states():
            if number not in {step, step - 1}:
                (self.folder / f"step-{number}").unlink(missing_ok=True)

    def forget_after(self, step: int) -> None:
        """Drop states of later steps: they are done again, with other random numbers."""
        for number in self.states():
            if number > step:
                (self.folder / f"step-{number}").unlink(missing_ok=True)

    def keep_outcome(self, finished: Finished) -> None:
        """Keep what the half ended with."""
        head = canonical.dumps(
            {"body": finished.body, "facts": finished.facts, "sizes": [len(part) for part in finished.attachments]}
        )
        _write(self.folder / "outcome", len(head).to_bytes(8, "big") + head + b"".join(finished.attachments))

    def outcome(self) -> Finished | None:
        """Return what the half ended with, if it did."""
        try:
            data = (self.folder / "outcome").read_bytes()
        except FileNotFoundError:
            return None
        size = int.from_bytes(data[:8], "big")
        head = json.loads(data[8 : 8 + size])
        parts, offset = [], 8 + size
        for length in head["sizes"]:
            parts.append(data[offset : offset + length])
            offset += length
        return Finished(head["facts"], head["body"], tuple(parts))


@dataclass(slots=True)
class _Lane:
    """What stands between this node and one peer, in this epoch."""

    peer: str
    out: deque[tuple[int, str, Content]] = field(default_factory=deque)
    out_bytes: int = 0
    sent: int = 0
    inbox: deque[tuple[str, bytes]] = field(default_factory=deque)
    inbox_bytes: int = 0
    partial: list[bytes] = field(default_factory=list)
    partial_label: str = ""
    wanted_bytes: int = 0
    taken: int = 0
    taken_digest: str = ""
    reply: bytes = b""
    hello: int | None = None
    reached: int = 0
    heard_at: float = field(default_factory=time.monotonic)
    admitting: threading.Lock = field(default_factory=threading.Lock)


class HalfRun:
    """Runs this node's half of one session; a ``nodes.tasks.party.PartyRun`` and what ``Party`` builds on."""

    def __init__(
        self,
        order: Order,
        *,
        node: str,
        journal: Journal,
        secrets: Secrets,
        key: SigningKey,
        peer_keys: Mapping[str, VerifyKey],
        post: Post,
        now: Callable[[], datetime],
        exchanged: Callable[[str, str], None],
        incident: Callable[[BaseException], str],
    ) -> None:
        """Prepare; nothing runs before ``begin``.

        Args:
            order: the accepted order.
            node: own actor id.
            journal: what outlives this process.
            secrets: seals and unseals.
            key: signs frames.
            peer_keys: statement key per peer, checks receipts.
            post: carries parcels.
            now: the node's clock.
            exchanged: told digests of a frame sent and of its answer, for ledger and transcript.
            incident: writes down an exception of the half and returns the sentence that may leave.
        """
        self.order = order
        self.node = node
        self.peers = tuple(party for party in order.parties if party != node)
        self.agreement = agreement_sha256(order)
        self._journal = journal
        self._secrets = secrets
        self._key = key
        self._peer_keys = dict(peer_keys)
        self._post = post
        self._now = now
        self._exchanged = exchanged
        self._incident = incident
        self._half: Callable[[Party], Finished] | None = None
        self._changed = threading.Condition()
        self._lanes = {peer: _Lane(peer) for peer in self.peers}
        self._epoch = 0
        self._completed = 0
        self._state = "waiting"
        self._code: RefusalCode | None = None
        self._message = ""
        self._finished: Finished | None = None
        self._progress: dict[str, int | str] = {}
        self._news = 0
        self._told = 0
        self.bytes_sent = 0
        self.bytes_received = 0

    # The agent's side

    def set_half(self, half: Callable[[Party], Finished]) -> None:
        """See ``PartyRun.set_half``."""
        self._half = half

    def begin(self) -> None:
        """Start, or take the session up again after a restart of this node."""
        if self._half is None:
            raise ValueError("expected a half; the task calls start_party")
        outcome = self._journal.outcome()
        with self._changed:
            if outcome is not None:
                self._epoch, self._finished, self._state = self._journal.epoch(), outcome, "finished"
                self._completed = max(self._journal.states(), default=0)
                return
            self._enter(self._journal.epoch() + 1)
        self._start_threads()

    def admit(self, frame: PartyFrame, digest: str, attachments: Sequence[bytes]) -> bytes | None:
        """Check one frame; the caller holds ``lock_of`` its sender.

        Returns:
            The opened content, or None if this very frame was taken before: then ``last_reply`` answers it.

        Raises:
            RefusedError: the frame is not one that may come now. A peer that breaks the protocol under its own
                signature ends the session; what the network may have repeated does not.
        """
        lane = self._lanes.get(frame.sender)
        if lane is None:
            raise RefusedError(RefusalCode.SENDER_ROLE, "expected a party of this session")
        taken, taken_digest, ahead = self._where(lane, frame)
        if frame.label == ABORT and frame.last and len(attachments[0]) <= 4096:
            return self._opened(frame, attachments[0])  # whatever else is on its way: nothing follows it
        if frame.sequence <= taken:
            if digest == taken_digest:
                return None
            raise RefusedError(RefusalCode.REPLAYED, f"expected frame {taken + 1}, {frame.sequence} was already taken")
        is_control = frame.label in _CONTROL
        if frame.sequence != taken + 1 or ((frame.label == HELLO) != (frame.sequence == 1)):
            raise self._broken(frame, RefusalCode.SESSION_SEQUENCE, f"expected frame {taken + 1}")
        if is_control and not frame.last:
            raise self._broken(frame, RefusalCode.TASK_PROTOCOL, "expected a control frame in one part")
        if lane.partial and frame.label != lane.partial_label and not ahead:
            raise self._broken(frame, RefusalCode.TASK_PROTOCOL, "expected the rest of the message before")
        if len(attachments[0]) > PARTS.chunk_bytes + 1024:
            raise self._broken(frame, RefusalCode.TOO_LARGE, f"expected frames of at most {PARTS.chunk_bytes} bytes")
        if not is_control:
            self._await_room(lane, len(attachments[0]))
        return self._opened(frame, attachments[0])

    def lock_of(self, peer: str) -> threading.Lock:
        """Return the lock under which frames of ``peer`` are admitted and delivered one by one.

        Raises:
            RefusedError: not a peer.
        """
        lane = self._lanes.get(peer)
        if lane is None:
            raise RefusedError(RefusalCode.SENDER_ROLE, "expected a party of this session")
        return lane.admitting

    def last_reply(self, peer: str) -> bytes:
        """Return the answer to the last frame taken from ``peer``."""
        return self._lanes[peer].reply

    def deliver(self, frame: PartyFrame, digest: str, content: bytes, reply: bytes) -> None:
        """Hand over a frame that was admitted and is in the ledger, and keep its answer."""
        with self._changed:
            if frame.epoch < self._epoch or self._state in {"failed", "ended"}:
                return  # overtaken by a later epoch, or by the end
            if frame.epoch > self._epoch and frame.label == HELLO:
                self._enter(frame.epoch)
                self._start_threads()
            lane = self._lanes[frame.sender]
            lane.taken, lane.taken_digest, lane.reply = frame.sequence, digest, reply
            lane.heard_at = time.monotonic()
            self.bytes_received += len(content)
            if frame.label in _CONTROL:
                self._control(lane, frame.label, content)
            else:
                lane.partial_label = frame.label
                lane.partial.append(content)
                lane.inbox_bytes += len(content)
                if frame.last:
                    lane.inbox.append((frame.label, b"".join(lane.partial)))
                    lane.partial.clear()
            self._changed.notify_all()

    def watch(self, wait_s: float) -> Outcome:
        """See ``PartyRun.watch``."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._state in {"finished", "failed", "ended"} or self._news != self._told, wait_s
            )
            self._told = self._news
            body: dict[str, Any] = {
                "bytes_received": self.bytes_received,
                "bytes_sent": self.bytes_sent,
                "epoch": self._epoch,
                "progress": dict(self._progress),
                "state": self._state,
                "step": self._completed,
            }
            if self._state == "failed" and self._code is not None:
                body |= {"code": self._code.value, "message": self._message}
            if self._finished is None or self._state != "finished":
                return Outcome(body)
            return Outcome(body | {"outcome": self._finished.body}, self._finished.attachments)

    def end(self) -> dict[str, Any]:
        """See ``PartyRun.end``."""
        with self._changed:
            finished, before = self._finished, self._state
            self._state = "failed" if before == "failed" else "ended"
            self._changed.notify_all()
        facts: dict[str, Any] = {"contributors": 0, "outputs": []}
        if before == "finished" and finished is not None:
            facts |= finished.facts
        else:
            facts["ended"] = self._code.value if self._code is not None else before
        return facts | {"epochs": self._epoch, "party_bytes_sent": self.bytes_sent}

    def fail(self, code: RefusalCode, message: str, *, tell: bool = True) -> None:
        """End the session here with a code, and tell the peers."""
        with self._changed:
            if self._state in {"failed", "ended"}:
                return
            self._state, self._code, self._message, self._finished = "failed", code, message[:500], None
            self._changed.notify_all()
        _log.info("session %s ended: %s", self.order.session_id, code.value)
        if tell:
            for peer in self.peers:
                threading.Thread(target=self._abort, args=(peer, code), name=f"party-abort-{peer}", daemon=True).start()

    # The half's side

    @property
    def resumed(self) -> tuple[int, bytes] | None:
        """See ``Party.resumed``."""
        return (self._completed, self._journal.states()[self._completed]) if self._completed else None

    def send(self, peer: str, label: str, data: Content, epoch: int) -> None:
        """Queue a message; see ``Channel.send``."""
        lane = self._lanes[peer]
        with self._changed:
            self._wait(lambda: lane.out_bytes < PARTS.inbox_bytes_max, epoch, lane)
            lane.out.append((epoch, label, data))
            lane.out_bytes += len(data)
            self._changed.notify_all()

    def receive(self, peer: str, label: str, size_max: int, epoch: int) -> bytes:
        """Take the next message; see ``Channel.receive``."""
        lane = self._lanes[peer]
        with self._changed:
            lane.wanted_bytes = size_max
            self._changed.notify_all()
            try:
                self._wait(lambda: bool(lane.inbox) or lane.inbox_bytes > size_max + PARTS.chunk_bytes, epoch, lane)
            finally:
                lane.wanted_bytes = 0
            if not lane.inbox or len(lane.inbox[0][1]) > size_max:
                raise TaskRefusedError(
                    RefusalCode.TOO_LARGE, f"expected at most {size_max} bytes of {label} from {peer}"
                )
            found, data = lane.inbox.popleft()
            lane.inbox_bytes -= len(data)
            self._changed.notify_all()
        if found != label:
            raise TaskRefusedError(RefusalCode.TASK_PROTOCOL, f"expected {label} from {peer}, got another message")
        return data

    def checkpoint(self, step: int, state: bytes, epoch: int) -> None:
        """Complete a step; see ``Party.checkpoint``."""
        with self._changed:
            if step != self._completed + 1:
                raise ValueError(f"expected step {self._completed + 1}")
            for lane in self._lanes.values():
                self._wait(lambda lane=lane: lane.reached >= step - 1, epoch, lane)  # type: ignore[misc]
            self._journal.keep(step, state)
            self._completed = step
            self._news += 1
            self._changed.notify_all()
        for peer in self.peers:
            self.send(peer, REACHED, canonical.dumps({"step": step}), epoch)

    def progress(self, facts: Mapping[str, int | str]) -> None:
        """See ``Party.progress``."""
        with self._changed:
            self._progress |= facts
            self._news += 1
            self._changed.notify_all()

    # Threads

    def _enter(self, epoch: int) -> None:
        """Begin an epoch: note it, forget what came before. The lock is held."""
        if epoch > PARTS.epochs_max:
            self.fail(RefusalCode.PARTY_GONE, f"expected at most {PARTS.epochs_max - 1} restarts of parties")
            return
        self._journal.begin(epoch)
        self._epoch = epoch
        for lane in self._lanes.values():
            lane.out.clear()
            lane.inbox.clear()
            lane.partial.clear()
            lane.out_bytes = lane.inbox_bytes = lane.sent = lane.taken = lane.reached = 0
            lane.taken_digest, lane.reply, lane.hello = "", b"", None
            lane.heard_at = time.monotonic()
        self._completed = max(self._journal.states(), default=0)
        self._finished = None
        self._progress = {}
        self._news += 1
        hello = canonical.dumps({"completed": self._completed})
        for lane in self._lanes.values():
            lane.out.append((epoch, HELLO, hello))
            lane.out_bytes += len(hello)
        self._state = "running"
        self._changed.notify_all()

    def _start_threads(self) -> None:
        """Every epoch has threads of its own; those of earlier ones stop by themselves."""
        epoch = self._epoch
        name = self.order.session_id
        threading.Thread(target=self._run, args=(epoch,), name=f"half-{name}", daemon=True).start()
        for lane in self._lanes.values():
            threading.Thread(
                target=self._pump, args=(lane, epoch), name=f"party-{name}-{lane.peer}", daemon=True
            ).start()

    def _run(self, epoch: int) -> None:
        half = self._half
        if half is None:
            return
        try:
            with self._changed:
                for lane in self._lanes.values():
                    self._wait(lambda lane=lane: lane.hello is not None, epoch, lane)  # type: ignore[misc]
                least = min([self._completed, *(lane.hello or 0 for lane in self._lanes.values())])
                self._go_back(least)
            finished = half(_View(self, epoch))
            with self._changed:
                for lane in self._lanes.values():
                    self._wait(lambda lane=lane: not lane.out_bytes, epoch, lane)  # type: ignore[misc]
                self._journal.keep_outcome(finished)
                self._finished, self._state = finished, "finished"
                self._changed.notify_all()
        except (_NextEpochError, _EndedError):
            return
        except TaskRefusedError as refused:
            self._fail_in(epoch, RefusalCode(refused.code), str(refused))
        except ContractError as error:
            self._fail_in(epoch, RefusalCode.TASK_PROTOCOL, str(error))
        except Exception as error:  # noqa: BLE001  a half's text may quote a row: only a reference leaves
            self._fail_in(epoch, RefusalCode.TASK_FAILED, self._incident(error))

    def _go_back(self, step: int) -> None:
        """Forget what was done after ``step``; the lock is held."""
        self._journal.forget_after(step)
        if step and step not in self._journal.states():
            raise TaskRefusedError(RefusalCode.PARTY_GONE, f"expected a state after step {step} to go on from")
        for lane in self._lanes.values():
            lane.reached = max(lane.reached, step)
        self._completed = step

    def _fail_in(self, epoch: int, code: RefusalCode, message: str) -> None:
        with self._changed:
            current = self._epoch == epoch
        if current:
            self.fail(code, message)

    def _pump(self, lane: _Lane, epoch: int) -> None:
        """Post what is queued for one peer, frame by frame."""
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: bool(lane.out) or not self._is_on(epoch))
                    if not self._is_on(epoch):
                        return
                    _, label, data = lane.out[0]
                view = memoryview(data).cast("B") if len(data) else memoryview(b"")
                starts = range(0, max(1, len(view)), PARTS.chunk_bytes)
                for start in starts:
                    part = view[start : start + PARTS.chunk_bytes]
                    self._post_frame(lane, epoch, label, bytes(part), last=start == starts[-1])
                with self._changed:
                    if not self._is_on(epoch):
                        return
                    lane.out.popleft()
                    lane.out_bytes -= len(data)
                    self._changed.notify_all()
        except (_NextEpochError, _EndedError):
            return
        except RefusedError as refused:
            self._fail_in(epoch, refused.refusal, refused.message)
        except Exception as error:  # noqa: BLE001  the session ends with a reference, whatever it was
            self._fail_in(epoch, RefusalCode.TASK_FAILED, self._incident(error))

    def _post_frame(self, lane: _Lane, epoch: int, label: str, content: bytes, *, last: bool) -> None:
        with self._changed:
            lane.sent += 1
            sequence = lane.sent
        parcel, digest = self._frame(lane.peer, epoch, sequence, label, content, last=last)
        tries, give_up = 0, time.monotonic() + PARTS.silent_s_max
        while True:
            with self._changed:
                self._require(epoch)
            try:
                reply = self._post(self.order.session_id, lane.peer, parcel, _POST_S)
                answer, answer_sha256 = self._answer(reply, lane.peer, digest)
            except (PeerAwayError, ContractError) as error:
                # Also what is not the peer's word: the network's, which cannot end a session.
                if time.monotonic() > give_up:
                    raise RefusedError(RefusalCode.PARTY_GONE, f"no answer from {lane.peer}") from error
                answer = None
            if isinstance(answer, Result):
                break
            if isinstance(answer, Refusal) and answer.code is RefusalCode.REPLAYED and tries < _HELLO_TRIES:
                pass  # the peer is in a later epoch, and its hello is on its way; then this frame is dropped
            elif isinstance(answer, Refusal) and answer.code not in _AGAIN:
                raise RefusedError(
                    RefusalCode.PARTY_ENDED, f"{lane.peer} refused a frame ({answer.code.value}): {answer.message}"
                )
            if time.monotonic() > give_up:
                raise RefusedError(RefusalCode.PARTY_GONE, f"{lane.peer} takes no frames")
            time.sleep(_PAUSE_S[min(tries, len(_PAUSE_S) - 1)])
            tries += 1
        with self._changed:
            lane.heard_at = time.monotonic()
            self.bytes_sent += len(parcel)
        self._exchanged(digest, answer_sha256)

    def _frame(
        self, peer: str, epoch: int, sequence: int, label: str, content: bytes, *, last: bool
    ) -> tuple[bytes, str]:
        frame = PartyFrame(
            session_id=self.order.session_id,
            agreement_sha256=self.agreement,
            epoch=epoch,
            sequence=sequence,
            label=label,
            last=last,
            sender=self.node,
            recipient=peer,
            attachments_sha256=("0" * 64,),
            issued_at=self._now(),
        )
        sealed = self._secrets.seal(content, frame.seal_header())
        frame = frame.model_copy(update={"attachments_sha256": wire.digests((sealed,))})
        return messages.encode(frame, self._key, (sealed,)), sha256_hex(frame.to_payload())

    def _answer(self, reply: bytes, peer: str, digest: str) -> tuple[Result | Refusal, str]:
        envelope, attachments = wire.unpack(reply)
        model: type[Result | Refusal] = Refusal if envelope.payload_type == Refusal.payload_type else Result
        answer = messages.decode(model, envelope, attachments, self._peer_keys[peer])
        if answer.sender != peer or answer.request_sha256 != digest:
            raise BadSealError(f"expected the answer of {peer} to this very frame")
        return answer, envelope.payload_sha256

    def _abort(self, peer: str, code: RefusalCode) -> None:
        with self._changed:
            lane, epoch = self._lanes[peer], max(1, self._epoch)
            first = lane.sent + 1
        # The peer may or may not have taken the frame before; one of the two numbers is next.
        for sequence in (first, max(1, first - 1)):
            with suppress(PeerAwayError, ContractError):
                parcel, digest = self._frame(
                    peer, epoch, sequence, ABORT, canonical.dumps({"code": code.value}), last=True
                )
                answer, _ = self._answer(self._post(self.order.session_id, peer, parcel, 10.0), peer, digest)
                if isinstance(answer, Result):
                    return

    # Small things

    def _where(self, lane: _Lane, frame: PartyFrame) -> tuple[int, str, bool]:
        """Return what was taken last in the frame's epoch, and whether that epoch is still to begin here."""
        if frame.agreement_sha256 != self.agreement:
            self.fail(RefusalCode.PARTY_AGREEMENT, f"{frame.sender} was told something else than this node")
            raise RefusedError(
                RefusalCode.PARTY_AGREEMENT,
                "expected the same task, grant, parties and parameters at every party; send all the same order",
            )
        with self._changed:
            if self._state == "failed":
                raise RefusedError(RefusalCode.SESSION_CLOSED, "this session has ended at this node; open a new one")
            if frame.epoch < self._epoch:
                raise RefusedError(RefusalCode.REPLAYED, f"expected epoch {self._epoch}, got {frame.epoch}")
            ahead = frame.epoch > self._epoch
            return (0, "", True) if ahead else (lane.taken, lane.taken_digest, False)

    def _opened(self, frame: PartyFrame, sealed: bytes) -> bytes:
        try:
            return self._secrets.unseal(sealed, frame.seal_header())
        except BadSealError as error:
            raise self._broken(frame, RefusalCode.TASK_PROTOCOL, str(error)) from error

    def _control(self, lane: _Lane, label: str, content: bytes) -> None:
        """Take a control message; the lock is held."""
        try:
            body = canonical.loads(content, size_max=4096)
        except ContractError:
            body = {}
        number = body.get("completed" if label == HELLO else "step")
        if label == ABORT:
            code = str(body.get("code", ""))[:96]
            self.fail(RefusalCode.PARTY_ENDED, f"{lane.peer} has ended the session ({code})", tell=False)
        elif type(number) is not int or number < 0:
            self.fail(RefusalCode.TASK_PROTOCOL, f"expected the number of a step from {lane.peer}")
        elif label == HELLO:
            lane.hello = number
        else:
            lane.reached = max(lane.reached, number)

    def _broken(self, frame: PartyFrame, code: RefusalCode, message: str) -> RefusedError:
        self.fail(code, f"{frame.sender} broke the protocol: {message}")
        return RefusedError(code, message)

    def _await_room(self, lane: _Lane, size: int) -> None:
        def has_room() -> bool:
            allowed = max(PARTS.inbox_bytes_max, lane.wanted_bytes + 2 * PARTS.chunk_bytes)
            return lane.inbox_bytes + size <= allowed or self._state in {"failed", "ended"}

        with self._changed:
            if not self._changed.wait_for(has_room, PARTS.room_s):
                raise RefusedError(RefusalCode.PARTY_FULL, "this node has not used what came before; repeat the frame")

    def _is_on(self, epoch: int) -> bool:
        return self._epoch == epoch and self._state in {"running", "finished"}

    def _require(self, epoch: int) -> None:
        if self._state in {"failed", "ended"}:
            raise _EndedError
        if self._epoch != epoch:
            raise _NextEpochError

    def _wait(self, claim: Callable[[], bool], epoch: int, lane: _Lane) -> None:
        """Wait for ``claim`` with the lock held; stop when the epoch or the session is over, or the peer is silent."""
        self._require(epoch)
        while not claim():
            self._changed.wait(1.0)
            self._require(epoch)
            if time.monotonic() - lane.heard_at > PARTS.silent_s_max:
                raise TaskRefusedError(RefusalCode.PARTY_GONE, f"nothing from {lane.peer} for {PARTS.silent_s_max} s")


@dataclass(frozen=True, slots=True)
class _Way:
    """A ``Channel`` of one epoch."""

    run: HalfRun
    peer: str
    epoch: int

    def send(self, label: str, data: Content) -> None:
        if label in _CONTROL:
            raise ValueError("expected a label of the task's own")
        self.run.send(self.peer, label, data, self.epoch)

    def receive(self, label: str, *, size_max: int) -> bytes:
        return self.run.receive(self.peer, label, size_max, self.epoch)


@dataclass(frozen=True, slots=True)
class _View:
    """A ``Party`` of one epoch: what is left of an earlier epoch's half cannot speak in a later one."""

    run: HalfRun
    epoch: int

    @property
    def node(self) -> str:
        return self.run.node

    @property
    def peers(self) -> tuple[str, ...]:
        return self.run.peers

    @property
    def resumed(self) -> tuple[int, bytes] | None:
        return self.run.resumed

    def channel(self, peer: str) -> _Way:
        if peer not in self.run.peers:
            raise ValueError(f"expected a peer out of {', '.join(self.run.peers)}")
        return _Way(self.run, peer, self.epoch)

    def checkpoint(self, step: int, state: bytes) -> None:
        self.run.checkpoint(step, state, self.epoch)

    def progress(self, **facts: int | str) -> None:
        self.run.progress(facts)


def _write(path: Path, data: bytes) -> None:
    """Write a file whole, readable by this user alone, and on disk when this returns."""
    draft = path.with_name(path.name + ".draft")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
