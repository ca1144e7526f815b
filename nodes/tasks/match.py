"""Task ``match.voprf``: answer whether a record is in the register without learning which was asked.

One step: the application unit sends blinded inputs and bucket numbers, sealed for this
node; the node answers evaluations, one proof and the buckets, sealed for the application
unit. Each evaluation takes one unit of the grant's query budget before it is made.

Source:
    RFC 9497 (VOPRF mode); tag tables with prefix buckets as in the compromised-credential
    services of Thomas et al., USENIX Security 2019, and Li et al., CCS 2019.

Privacy:
    The department learns that an application unit asked, how many records, and a bucket of
    at least 1 000 of its own records for each, or no bucket when the application unit holds
    the whole table; never the record, nor the answer. The application unit learns one yes or
    no per evaluation, the band of a record it found where bands are agreed, and random-looking tags it cannot
    test without further, counted, evaluations. The operator carries sealed bytes and learns
    their size, hence the number of records. A department that uses a second key for one
    asker is caught by the proof against the key it signed in its answer to the order; one
    that leaves records out of its table is not, just as with any register it keeps.
"""

import hashlib
import logging
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from nodes.contract import canonical, voprf
from nodes.contract.errors import ContractError, MalformedError
from nodes.contract.messages import RefusalCode
from nodes.contract.sealing import SealHeader
from nodes.contract.tasks.match import (
    EVALUATE,
    LABEL_ANSWER,
    LABEL_ASK,
    LABEL_TABLE,
    SUITE,
    TABLE,
    TABLE_PART_BYTES,
    TASK,
    MatchBand,
    MatchField,
    MatchParameters,
)
from nodes.privacy import register as registers
from nodes.privacy.normalise import inputs
from nodes.privacy.oprf import evaluate
from nodes.privacy.register import Register
from nodes.tasks.spec import Outcome, TableView, TaskContext, TaskRefusedError, TaskSession

_log = logging.getLogger(__name__)

REGISTERS = "registers"
"""Folder of the node's home in which tag tables outlive sessions and restarts; sessions' folders do not."""

AT_ONCE_MAX = 20_000
"""Up to this many new records are evaluated while the operator waits; more are prepared beside other work."""


class MatchSession:
    """One open session of private verification at one node."""

    def __init__(self, context: TaskContext, parameters: MatchParameters, register: Register) -> None:
        self._context = context
        self._parameters = parameters
        self._register: Register | None = register
        self._next: dict[str, int] = {}
        self._queries = 0
        self._minute: dict[str, deque[tuple[float, int]]] = {}

    def step(self, sender: str, kind: str, body: Mapping[str, Any], attachments: Sequence[bytes]) -> Outcome:
        """Answer one batch of an application unit, or send a part of the tag table.

        Args:
            sender: an application unit of order and grant.
            kind: ``match.evaluate`` or ``match.table``.
            body: ``{"number": n, "records": r}`` with n above the sender's last one, or ``{"part": i}``.
            attachments: the sealed batch, or none.

        Raises:
            TaskRefusedError: another kind, sender or number, a malformed batch, asked too fast, or no budget left.
        """
        context, register = self._context, self._register
        if register is None:
            raise TaskRefusedError(RefusalCode.TASK_PROTOCOL, "expected an open session")
        if sender not in context.order.clients or sender not in context.grant.clients:
            raise TaskRefusedError(
                RefusalCode.GRANT_PARTIES, "expected an application unit that order and grant name as a client"
            )
        if kind == TABLE:
            return self._part(sender, body, attachments, register)
        if kind != EVALUATE:
            raise TaskRefusedError(RefusalCode.TASK_PROTOCOL, f"expected {EVALUATE} or {TABLE}")
        least, number = self._next.get(sender, 0), body.get("number")
        if set(body) != {"number", "records"} or type(number) is not int or number < least or len(attachments) != 1:
            raise TaskRefusedError(
                RefusalCode.TASK_PROTOCOL, f"expected batch number {least} or above, sealed, as attachment"
            )
        blinded, buckets = self._open(sender, number, attachments[0])
        if body["records"] != len(blinded):
            raise TaskRefusedError(RefusalCode.TASK_PROTOCOL, f"expected a batch of {len(blinded)} records to say so")
        self._slow_down(sender, len(blinded))
        context.charge(len(blinded))
        evaluated, proof = evaluate(register.key, blinded)
        self._next[sender] = number + 1
        self._queries += len(blinded)
        header = canonical.dumps({"evaluated": [element.hex() for element in evaluated], "proof": proof.hex()})
        wanted = [] if buckets is None else buckets if register.bits else buckets[:1]
        tags = b"".join(map(register.bucket, wanted))
        plaintext = len(header).to_bytes(4, "big") + header + tags
        place = SealHeader(context.order.session_id, context.node, sender, LABEL_ANSWER, number)
        body_out = {"number": number, "records": len(blinded), "queries": self._queries}
        return Outcome(body_out, (context.secrets.seal(plaintext, place),))

    def finish(self) -> dict[str, Any]:
        """Forget the key and return how many records were asked."""
        self._register = None
        return {"contributors": 1, "outputs": [], "queries": self._queries, "suite": SUITE}

    def _part(self, sender: str, body: Mapping[str, Any], attachments: Sequence[bytes], register: Register) -> Outcome:
        """Send one part of the tag table, for who would rather not name buckets."""
        part = body.get("part")
        parts = -(-len(register.table) // TABLE_PART_BYTES)
        if set(body) != {"part"} or attachments or type(part) is not int or not 0 <= part < parts:
            raise TaskRefusedError(RefusalCode.TASK_PROTOCOL, f"expected a part below {parts}")
        content = register.table[part * TABLE_PART_BYTES : (part + 1) * TABLE_PART_BYTES]
        place = SealHeader(self._context.order.session_id, self._context.node, sender, LABEL_TABLE, part)
        return Outcome({"part": part, "parts": parts}, (self._context.secrets.seal(content, place),))

    def _slow_down(self, sender: str, count: int) -> None:
        """Refuse more than the agreed number of records within a minute."""
        now, most = self._context.now().timestamp(), self._parameters.minute_max
        asked = self._minute.setdefault(sender, deque())
        while asked and asked[0][0] <= now - 60:
            asked.popleft()
        if sum(number for _, number in asked) + count > most:
            raise TaskRefusedError(
                RefusalCode.TASK_RATE, f"expected at most {most} records a minute; ask again in a minute"
            )
        asked.append((now, count))

    def _open(self, sender: str, number: int, sealed: bytes) -> tuple[list[bytes], list[int] | None]:
        """Unseal a batch and check every part of it; without buckets the asker has the whole table."""
        context, register = self._context, cast(Register, self._register)
        place = SealHeader(context.order.session_id, sender, context.node, LABEL_ASK, number)
        try:
            value = canonical.loads(context.secrets.unseal(sealed, place), size_max=1024 * 1024)
            blinded, buckets = value.get("blinded"), value.get("buckets")
            if set(value) != {"blinded", "buckets"} or not isinstance(blinded, list):
                raise MalformedError("expected blinded elements and buckets")
            if not 1 <= len(blinded) <= self._parameters.batch_max:
                raise MalformedError(f"expected 1 to {self._parameters.batch_max} elements")
            elements = [voprf.require_element(_bytes(text)) for text in blinded]
            indices: list[int] | None = None
            if buckets is not None:
                if not isinstance(buckets, list) or len(buckets) != len(elements):
                    raise MalformedError("expected a bucket for each element, or none for all")
                indices = [index for index in buckets if type(index) is int and 0 <= index < 2**register.bits]
                if len(indices) != len(buckets):
                    raise MalformedError(f"expected buckets below {2**register.bits}")
        except ContractError as error:
            raise TaskRefusedError(RefusalCode.TASK_PROTOCOL, f"the batch does not open or fit: {error}") from None
        if self._queries + len(elements) > self._parameters.queries_max:
            raise TaskRefusedError(
                RefusalCode.GRANT_BUDGET, f"expected at most {self._parameters.queries_max} queries in this session"
            )
        return elements, indices


@dataclass(slots=True)
class _Preparation:
    """A register that is being prepared beside other work."""

    done: int = 0
    of: int = 0
    is_over: threading.Event = field(default_factory=threading.Event)


_running: dict[Path, _Preparation] = {}
_running_lock = threading.Lock()


def prepare(tables: Mapping[str, TableView], parameters: MatchParameters, home: Path) -> Register:
    """Return the register of the asked fields, up to date; a large one is prepared beside other work.

    Args:
        tables: the one granted table.
        parameters: of the order.
        home: the node's home.

    Raises:
        TaskRefusedError: not one table with the asked columns, or the register is still being prepared.
    """
    if len(tables) != 1:
        raise TaskRefusedError(RefusalCode.TASK_PARAMETERS, f"expected one resource, got {len(tables)}")
    table = next(iter(tables.values()))
    asked: list[MatchField | MatchBand] = [*parameters.fields, *([parameters.band] if parameters.band else [])]
    missing = [item.column for item in asked if item.column not in table.columns]
    if missing:
        raise TaskRefusedError(RefusalCode.GRANT_COLUMN, f"expected the order to name the columns {', '.join(missing)}")
    named = canonical.dumps({"fields": [item.model_dump(mode="json") for item in asked]})
    path = home / REGISTERS / hashlib.sha256(table.resource.encode() + b"\x00" + named).hexdigest()[:32]
    with _running_lock:
        running = _running.get(path)
    if running is not None and not running.is_over.is_set():
        raise _preparing(running)
    records, _ = inputs(table.frame(), parameters.fields, parameters.band)
    count = registers.missing(records, path)
    if count <= AT_ONCE_MAX:
        return registers.prepare(records, path)
    running = _Preparation(of=count)
    with _running_lock:
        _running[path] = running
    threading.Thread(target=_prepare_beside, args=(records, path, running), name="register", daemon=True).start()
    raise _preparing(running)


def _prepare_beside(records: Mapping[bytes, int | None], path: Path, running: _Preparation) -> None:
    def progress(done: int, _of: int) -> None:
        running.done = done

    try:
        registers.prepare(records, path, progress=progress)
    except OSError as error:
        _log.error("a register could not be prepared: %s", type(error).__name__)
    finally:
        running.is_over.set()


def _preparing(running: _Preparation) -> TaskRefusedError:
    permille = running.done * 100 // max(1, running.of)
    return TaskRefusedError(
        RefusalCode.RESOURCE_PREPARING, f"the register is being prepared, {permille} % done; send a new order soon"
    )


def start(context: TaskContext) -> tuple[TaskSession, Outcome]:
    """Open the session with the register's tags.

    Returns:
        The session, and as answer to the order the committed public key, the layout and the table's digest.

    Raises:
        TaskRefusedError: not one table with the asked columns, too few rows, a budget not counted in queries,
            or the register is still being prepared.
    """
    parameters = cast(MatchParameters, context.parameters)
    if context.grant.budget.unit != "query":
        raise TaskRefusedError(RefusalCode.GRANT_BUDGET, f"expected a budget counted in queries for {TASK}")
    register = context.prepared
    if not isinstance(register, Register):
        register = prepare(context.tables, parameters, Path(context.state_dir).parents[1])
    if register.records < max(1, context.grant.thresholds.rows_min):
        raise TaskRefusedError(
            RefusalCode.RESOURCE_ROWS, f"expected at least {context.grant.thresholds.rows_min} complete distinct rows"
        )
    body = {
        "public_key": register.key.public.hex(),
        "bits": register.bits,
        "bucket_rows": register.bucket_rows,
        "entry_bytes": register.entry_bytes,
        "version": register.version.hex(),
        "table_sha256": register.table_sha256,
    }
    return MatchSession(context, parameters, register), Outcome(body)


def _bytes(text: object) -> bytes:
    try:
        return bytes.fromhex(text) if isinstance(text, str) else b""
    except ValueError:
        return b""
