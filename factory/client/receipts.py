"""Checks receipts of verifications: both signatures, and that the numbers add up.

Anybody with the trust data can do it; a receipt names no record and no answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from factory.client.match import Receipt
from nodes.contract.errors import ContractError, MalformedError
from nodes.contract.messages import Result, Step, parse
from nodes.contract.tasks.match import EVALUATE
from nodes.contract.trust import Actors


@dataclass(slots=True)
class Summary:
    """What the receipts say.

    Attributes:
        by_session: session, node, client, batches and records.
        wrong: why receipts do not hold.
    """

    by_session: list[dict[str, Any]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def check(receipts: Sequence[Receipt], actors: Actors) -> Summary:
    """Check receipts in the order in which they were given.

    Args:
        receipts: of one application unit.
        actors: the agency's list.
    """
    summary, sessions = Summary(), {}  # type: Summary, dict[str, dict[str, Any]]
    for number, receipt in enumerate(receipts, start=1):
        try:
            step, result = _read(receipt, actors)
        except ContractError as error:
            summary.wrong.append(f"receipt {number}: {error}")
            continue
        row = sessions.setdefault(
            step.session_id,
            {"session": step.session_id, "node": step.recipient, "client": step.sender, "batches": 0, "records": 0},
        )
        row["batches"] += 1
        row["records"] += step.body["records"]
        # The node's running number counts all askers of the session, so it is never below what this one asked.
        if result.body.get("queries", 0) < row["records"]:
            summary.wrong.append(f"receipt {number}: the node counts fewer records than were asked")
    summary.by_session = list(sessions.values())
    return summary


def _read(receipt: Receipt, actors: Actors) -> tuple[Step, Result]:
    step = parse(Step, receipt.asked.payload)
    client = actors.find(step.sender, role="application_unit", moment=step.issued_at)
    receipt.asked.open(client.verify_key, Step.payload_type)
    result = parse(Result, receipt.answered.payload)
    node = actors.find(step.recipient, role="node", moment=result.answered_at)
    receipt.answered.open(node.verify_key, Result.payload_type)
    if result.request_sha256 != receipt.asked.payload_sha256 or step.kind != EVALUATE:
        raise MalformedError("expected the answer to this very question")
    if type(step.body.get("records")) is not int or result.body.get("records") != step.body["records"]:
        raise MalformedError("expected both to name the same number of records")
    return step, result
