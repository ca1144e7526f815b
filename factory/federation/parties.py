"""A session in which nodes talk to each other: the operator opens it, watches it, and closes it.

Privacy: the operator sees states, counts of steps and bytes, and the outcome that each half hands it. What the
nodes say to each other goes past it, sealed for them.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from factory.errors import NodeRefusedError
from factory.federation.session import Answer, Reply, Session, require
from factory.hub.bus import NodeUnreachableError
from nodes.contract.messages import Refusal, RefusalCode, ResourceUse
from nodes.contract.parties import WATCH
from nodes.contract.signing import Envelope

WATCH_S = 5.0
"""How long one question for news waits at a node, in seconds."""

AWAY_MAX = 60
"""How many questions in a row a node may leave without an answer."""

AWAY_S = 1.0
"""Pause before a node that did not answer is asked again, in seconds."""

OnProgress = Callable[[Mapping[str, Mapping[str, Any]]], None]
"""Told what each node says of its half: state, step, epoch, progress, bytes_sent, bytes_received."""


@dataclass(frozen=True, slots=True)
class PartyResult:
    """What one node's half ended with.

    Attributes:
        opened: body of the answer to the order.
        body, attachments: outcome for the operator.
        bytes_sent: what the node sent to other nodes.
        statement: its signed node-run statement.
    """

    opened: Mapping[str, Any]
    body: Mapping[str, Any]
    attachments: tuple[bytes, ...]
    bytes_sent: int
    statement: Envelope


def run_parties(
    session: Session,
    task: str,
    parameters: Mapping[str, Any],
    resources: Mapping[str, Sequence[ResourceUse]],
    *,
    on_progress: OnProgress = lambda _: None,
) -> dict[str, PartyResult]:
    """Run a party task to its end at every node.

    Args:
        session: not yet open; the relay must know it with all its nodes.
        task: name in the nodes' task catalogue.
        parameters: equal for all nodes; they compare.
        resources: per node, what it shall read.
        on_progress: told of news.

    Returns:
        The result of every node, all of one and the same attempt.

    Raises:
        NodeRefusedError: a node refused, or its half ended with a code; the session is closed everywhere.
        NodeUnreachableError: a node stayed away; the session is closed at the others.
    """
    try:
        opened = require(session.open(task, parameters, resources))
        ended = _watch(session, on_progress)
    except BaseException:
        _close(session)
        raise
    statements = require(_close(session))
    return {
        node: PartyResult(
            opened=opened[node].body,
            body=reply.body["outcome"],
            attachments=reply.attachments,
            bytes_sent=int(reply.body["bytes_sent"]),
            statement=Envelope.from_bytes(statements[node].attachments[0]),
        )
        for node, reply in ended.items()
    }


def _watch(session: Session, on_progress: OnProgress) -> dict[str, Reply]:
    latest: dict[str, Reply] = {}
    away: dict[str, int] = dict.fromkeys(session.nodes, 0)
    while True:
        waiting = [node for node in session.nodes if not _is_done(latest, node)]
        if not waiting:
            return latest
        asked = {node: {"wait_ms": int(WATCH_S * 1000)} for node in waiting if not away[node]}
        answers = session.step(WATCH, asked) if asked else {}
        lost = [node for node in waiting if away[node]]
        if lost:
            time.sleep(AWAY_S)
            answers |= session.repeat(lost)
        for node, answer in answers.items():
            away[node] = _away(answer, away[node])
            if isinstance(answer, Reply):
                latest[node] = answer
        on_progress({node: reply.body for node, reply in latest.items()})
        _require_alive(latest)


def _is_done(latest: Mapping[str, Reply], node: str) -> bool:
    epochs = {reply.body["epoch"] for reply in latest.values()}
    return node in latest and latest[node].body["state"] == "finished" and latest[node].body["epoch"] == max(epochs)


def _away(answer: Answer, before: int) -> int:
    if isinstance(answer, Refusal):
        raise NodeRefusedError(answer.sender, answer.code, answer.message)
    if isinstance(answer, NodeUnreachableError):
        if before + 1 >= AWAY_MAX:
            raise answer
        return before + 1
    return 0


def _require_alive(latest: Mapping[str, Reply]) -> None:
    failed = {node: reply.body for node, reply in latest.items() if reply.body["state"] == "failed"}
    if not failed:
        return
    # The node that said no tells why; the others only that somebody did.
    node = next((node for node, body in failed.items() if body["code"] != RefusalCode.PARTY_ENDED), next(iter(failed)))
    raise NodeRefusedError(node, RefusalCode(failed[node]["code"]), str(failed[node]["message"]))


def _close(session: Session) -> dict[str, Answer]:
    return session.close() if session.nodes else {}
