"""Task ``match.voprf``: answer whether a record is in the register without learning which was asked.

One step: the application unit sends blinded inputs and bucket numbers, sealed for this
node; the node answers evaluations, one proof and the buckets, sealed for the application
unit. Each evaluation takes one unit of the grant's query budget before it is made.

Source:
    RFC 9497 (VOPRF mode); tag tables with prefix buckets as in the compromised-credential
    services of Thomas et al., USENIX Security 2019, and Li et al., CCS 2019.

Privacy:
    The department learns that an application unit asked, how many records, and a bucket of
    at least 1 000 of its own records for each; never the record, nor the answer. The
    application unit learns one yes or no per evaluation, and random-looking tags it cannot
    test without further, counted, evaluations. The operator carries sealed bytes and learns
    their size, hence the number of records. A department that uses a second key for one
    asker is caught by the proof against the key it signed in its answer to the order; one
    that leaves records out of its table is not, just as with any register it keeps.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from nodes.contract import canonical, voprf
from nodes.contract.errors import ContractError, MalformedError
from nodes.contract.messages import RefusalCode
from nodes.contract.sealing import SealHeader
from nodes.contract.tasks.match import EVALUATE, LABEL_ANSWER, LABEL_ASK, SUITE, TAG_BYTES, TASK, MatchParameters
from nodes.privacy.normalise import inputs
from nodes.privacy.oprf import evaluate
from nodes.privacy.register import Register, load_or_build
from nodes.tasks.spec import Outcome, TaskContext, TaskRefusedError, TaskSession

REGISTERS = "registers"
"""Folder of the node's home in which tag tables outlive sessions and restarts; sessions' folders do not."""


class MatchSession:
    """One open session of private verification at one node."""

    def __init__(self, context: TaskContext, parameters: MatchParameters, register: Register) -> None:
        self._context = context
        self._parameters = parameters
        self._register: Register | None = register
        self._next: dict[str, int] = {}
        self._queries = 0

    def step(self, sender: str, kind: str, body: Mapping[str, Any], attachments: Sequence[bytes]) -> Outcome:
        """Answer one batch of an application unit.

        Args:
            sender: an application unit of order and grant.
            kind: ``match.evaluate``.
            body: ``{"number": n}``, counting the sender's batches from 0.
            attachments: the sealed batch.

        Raises:
            TaskRefusedError: another kind, sender or number, a malformed batch, or no budget left.
        """
        context, register = self._context, self._register
        if kind != EVALUATE or register is None:
            raise TaskRefusedError(RefusalCode.TASK_PROTOCOL, f"expected {EVALUATE} in an open session")
        if sender not in context.order.clients or sender not in context.grant.clients:
            raise TaskRefusedError(
                RefusalCode.GRANT_PARTIES, "expected an application unit that order and grant name as a client"
            )
        number = self._next.get(sender, 0)
        if set(body) != {"number"} or body["number"] != number or len(attachments) != 1:
            raise TaskRefusedError(RefusalCode.TASK_PROTOCOL, f"expected batch number {number}, sealed, as attachment")
        blinded, buckets = self._open(sender, number, attachments[0])
        context.charge(len(blinded))
        evaluated, proof = evaluate(register.key, blinded)
        self._next[sender] = number + 1
        self._queries += len(blinded)
        header = canonical.dumps({"evaluated": [element.hex() for element in evaluated], "proof": proof.hex()})
        tags = b"".join(register.bucket(bucket) for bucket in (buckets if register.bits else buckets[:1]))
        plaintext = len(header).to_bytes(4, "big") + header + tags
        place = SealHeader(context.order.session_id, context.node, sender, LABEL_ANSWER, number)
        return Outcome({"number": number}, (context.secrets.seal(plaintext, place),))

    def finish(self) -> dict[str, Any]:
        """Forget the key and return how many records were asked."""
        self._register = None
        return {"contributors": 1, "outputs": [], "queries": self._queries, "suite": SUITE}

    def _open(self, sender: str, number: int, sealed: bytes) -> tuple[list[bytes], list[int]]:
        """Unseal a batch and check every part of it."""
        context, register = self._context, cast(Register, self._register)
        place = SealHeader(context.order.session_id, sender, context.node, LABEL_ASK, number)
        try:
            value = canonical.loads(context.secrets.unseal(sealed, place), size_max=64 * 1024)
            blinded, buckets = value.get("blinded"), value.get("buckets")
            if set(value) != {"blinded", "buckets"} or not isinstance(blinded, list) or not isinstance(buckets, list):
                raise MalformedError("expected blinded elements and buckets")
            if not 1 <= len(blinded) <= self._parameters.batch_max or len(blinded) != len(buckets):
                raise MalformedError(f"expected 1 to {self._parameters.batch_max} elements, each with a bucket")
            elements = [voprf.require_element(_bytes(text)) for text in blinded]
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


def start(context: TaskContext) -> tuple[TaskSession, Outcome]:
    """Prepare the register's tags and open the session.

    Returns:
        The session, and as answer to the order the committed public key and the bucket layout.

    Raises:
        TaskRefusedError: not one table with the asked columns, too few rows, or a budget not counted in queries.
    """
    parameters = cast(MatchParameters, context.parameters)
    if context.grant.budget.unit != "query":
        raise TaskRefusedError(RefusalCode.GRANT_BUDGET, f"expected a budget counted in queries for {TASK}")
    if len(context.tables) != 1:
        raise TaskRefusedError(RefusalCode.TASK_PARAMETERS, f"expected one resource, got {len(context.tables)}")
    table = next(iter(context.tables.values()))
    missing = [field.column for field in parameters.fields if field.column not in table.columns]
    if missing:
        raise TaskRefusedError(RefusalCode.GRANT_COLUMN, f"expected the order to name the columns {', '.join(missing)}")
    found, _ = inputs(table.frame(), parameters.fields)
    if len(found) < max(1, context.grant.thresholds.rows_min):
        raise TaskRefusedError(
            RefusalCode.RESOURCE_ROWS, f"expected at least {context.grant.thresholds.rows_min} complete distinct rows"
        )
    fields = canonical.dumps({"fields": [field.model_dump(mode="json") for field in parameters.fields]})
    name = hashlib.sha256(table.resource.encode() + b"\x00" + fields).hexdigest()[:32]
    register = load_or_build(found, Path(context.state_dir).parents[1] / REGISTERS / name)
    body = {
        "public_key": register.key.public.hex(),
        "bits": register.bits,
        "bucket_rows": register.bucket_rows,
        "tag_bytes": TAG_BYTES,
    }
    return MatchSession(context, parameters, register), Outcome(body)


def _bytes(text: object) -> bytes:
    try:
        return bytes.fromhex(text) if isinstance(text, str) else b""
    except ValueError:
        return b""
