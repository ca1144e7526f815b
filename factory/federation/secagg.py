"""The operator half of secure aggregation: carry keys and shares, add masked vectors, open sums.

One ``SecureSums`` serves one session. It keeps the session going when nodes drop out: a
node that does not answer is left out of the running sum, its masks are removed with the
shares the others hold, and it stays out of later sums. ``nodes.contract.masking`` says
what both halves agree on.

Privacy: what arrives here of one node is its public keys, sealed shares that this side
cannot open, masked vectors that are uniform modulo 2**64, and shares that open exactly one
agreed sum. The operator learns the sum over the contributors, and who contributed.

Source:
    Bonawitz et al., "Practical Secure Aggregation for Privacy-Preserving Machine
    Learning", CCS 2017, figure 4.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from factory.errors import FactoryError, NodeRefusedError
from factory.federation.session import Answer, Reply, Session
from factory.hub.bus import NodeUnreachableError
from nodes.contract import masking
from nodes.contract.errors import ContractError
from nodes.contract.masking import KEY_BYTES, SEED_BYTES, Advertisement, RingVector
from nodes.contract.messages import Refusal, RefusalCode
from nodes.contract.signing import Envelope, sha256_hex

_BLOCK_BYTES = 16

_GONE = frozenset(
    {
        RefusalCode.SESSION_UNKNOWN,
        RefusalCode.SESSION_CLOSED,
        RefusalCode.SESSION_SEQUENCE,
        RefusalCode.TASK_FAILED,
        RefusalCode.STORAGE,
        RefusalCode.TRUST_STALE,
    }
)
"""Refusals that mean the node cannot go on, as an outage does; any other one is the operator's mistake."""


class TooFewNodesError(FactoryError):
    """Fewer nodes are left than the threshold of the session; nothing can be summed any more."""

    code = "federation.too_few_nodes"


class NodeReplyError(FactoryError):
    """A node's signed reply is not what the protocol asks for."""

    code = "federation.node_reply"


@dataclass(frozen=True, slots=True)
class OpenedSum:
    """One opened total.

    Attributes:
        number: of the sum in its session.
        values: signed integers, one per entry.
        contributors: nodes whose vectors are in it.
        dropped: nodes that were lost in this sum.
    """

    number: int
    values: tuple[int, ...]
    contributors: tuple[str, ...]
    dropped: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Evidence:
    """What opens one sum; with it every node checks the total for itself."""

    number: int
    masked: tuple[bytes, ...]
    seeds: Mapping[str, bytes]
    keys: Mapping[str, bytes]

    @property
    def body(self) -> dict[str, Any]:
        return {
            "keys": {node: key.hex() for node, key in self.keys.items()},
            "seeds": {node: seed.hex() for node, seed in self.seeds.items()},
            "sum": self.number,
        }


@dataclass(slots=True)
class SecureSums:
    """Sums over the nodes of one open session.

    Attributes:
        session: open at every node that takes part.
        active: nodes still in, sorted.
        dropped: nodes lost so far, with the stage at which they were.
    """

    session: Session
    active: tuple[str, ...] = ()
    dropped: dict[str, str] = field(default_factory=dict)
    _threshold: int = 0
    _roster: dict[str, Advertisement] = field(default_factory=dict)
    _roster_sha256: str = ""
    _number: int = 0
    _evidence: _Evidence | None = None

    def setup(self, opened: Mapping[str, Answer]) -> None:
        """Hand everybody's keys to everybody, then everybody's sealed shares.

        Args:
            opened: answers to the order; a node's advertisement is its only attachment.

        Raises:
            TooFewNodesError: fewer nodes than the threshold are left.
            NodeRefusedError: a node refused what the protocol asks.
            NodeReplyError: a reply that is not what the protocol asks for.
        """
        parties = tuple(sorted(opened))
        self._threshold = masking.threshold(len(parties), self.session.grant.thresholds.contributors_min)
        envelopes = self._advertised(self.present(opened, "order"))
        if len(envelopes) >= self._threshold:
            self._roster_sha256 = masking.roster_sha256(envelopes)
        roster = self._require_enough(sorted(envelopes))
        parts = [envelopes[node].to_bytes() for node in roster]
        shared = self.present(
            self.session.step("secagg.keys", {node: {} for node in roster}, dict.fromkeys(roster, parts)), "keys"
        )
        holders = self._require_enough(sorted(shared))
        sealed: dict[str, dict[str, bytes]] = {node: {} for node in roster}
        for sender, reply in shared.items():
            recipients = [node for node in roster if node != sender]
            if len(reply.attachments) != len(recipients):
                raise NodeReplyError(f"expected {len(recipients)} sealed shares of {sender}")
            for recipient, message in zip(recipients, reply.attachments, strict=True):
                sealed[recipient][sender] = message
        received = self.session.step(
            "secagg.shares",
            {node: {"holders": list(holders)} for node in holders},
            {node: [sealed[node][peer] for peer in holders if peer != node] for node in holders},
        )
        self.active = self._require_enough(sorted(self.present(received, "shares")))

    def sum(self, kind: str, question_sha256: str, *, length: int) -> OpenedSum:
        """Ask every active node for a masked vector, agree on who answered, and open the total.

        The evidence of the sum before goes along, so that every node opens it for itself.

        Args:
            kind: step of the task that answers with a masked vector.
            question_sha256: digest of what the nodes are asked; each works it out on its own, and
                masks of nodes that come to another one do not cancel.
            length: entries of the vector.

        Returns:
            The total over the nodes that answered.

        Raises:
            TooFewNodesError: fewer nodes than the threshold are left.
            NodeRefusedError: a node refused what it was asked.
            NodeReplyError: a reply that is not what the protocol asks for.

        Privacy:
            Only the total over at least the threshold of nodes becomes known.
        """
        number, active = self._number, self.active
        self._number += 1
        evidence = self._evidence
        body: dict[str, Any] = {"active": list(active), "sum": number, "previous": evidence.body if evidence else None}
        parts = evidence.masked if evidence else ()
        replies = self.present(self.session.step(kind, dict.fromkeys(active, body), dict.fromkeys(active, parts)), kind)
        survivors = self._require_enough(sorted(replies))
        masked = {node: _vector(node, replies[node], length) for node in survivors}
        seeds, keys = self._open(number, active, replies, survivors)
        where = masking.context(self.session.session_id, self._roster_sha256, number, active, question_sha256)
        try:
            total = masking.open_total(
                masked, seeds, keys, advertisements=self._roster, sum_number=number, sum_context=where
            )
        except (ContractError, ValueError) as error:
            raise NodeReplyError(f"expected shares that rebuild what the nodes advertised: {error}") from error
        self._evidence = _Evidence(number, tuple(replies[node].attachments[0] for node in survivors), seeds, keys)
        return OpenedSum(
            number=number,
            values=tuple(masking.from_ring(total)),
            contributors=survivors,
            dropped=tuple(sorted(set(active) - set(survivors))),
        )

    def _open(
        self, number: int, active: tuple[str, ...], replies: Mapping[str, Reply], survivors: tuple[str, ...]
    ) -> tuple[dict[str, bytes], dict[str, bytes]]:
        listed = {node: sha256_hex(replies[node].attachments[0]) for node in survivors}
        body = {"sum": number, "survivors": listed}
        confirmed = self.present(self.session.step("secagg.confirm", dict.fromkeys(survivors, body)), "confirm")
        self._require_enough(sorted(confirmed))
        parts = tuple(reply.attachments[0] for reply in confirmed.values() if len(reply.attachments) == 1)
        asked = {node: {"sum": number} for node in confirmed}
        opened = self.present(self.session.step("secagg.unmask", asked, dict.fromkeys(confirmed, parts)), "unmask")
        self.active = self._require_enough(sorted(opened))
        seeds = {node: self._rebuild(opened, "seeds", node, SEED_BYTES) for node in survivors}
        lost = sorted(set(active) - set(survivors))
        return seeds, {node: self._rebuild(opened, "keys", node, KEY_BYTES) for node in lost}

    def _rebuild(self, opened: Mapping[str, Reply], kind: str, node: str, size: int) -> bytes:
        places = {name: place for place, name in enumerate(sorted(self._roster), start=1)}
        shares = {}
        for holder in sorted(opened)[: self._threshold]:
            try:
                share = bytes.fromhex(opened[holder].body[kind][node])
            except (KeyError, TypeError, ValueError) as error:
                raise NodeReplyError(f"expected a share for {node} in the answer of {holder}") from error
            if len(share) != size:
                raise NodeReplyError(f"expected {size} bytes of share for {node} from {holder}")
            shares[places[holder]] = share
        return combine(shares, size)

    def _advertised(self, replies: Mapping[str, Reply]) -> dict[str, Envelope]:
        envelopes = {}
        for node, reply in replies.items():
            try:
                (part,) = reply.attachments
                envelopes[node] = Envelope.from_bytes(part)
                self._roster[node] = masking.open_signed(Advertisement, envelopes[node], self.session.keys[node])
            except (ContractError, ValueError) as error:
                raise NodeReplyError(f"expected the signed keys of {node} as the only attachment") from error
        return envelopes

    def present(self, answers: Mapping[str, Answer], stage: str) -> dict[str, Reply]:
        """Return the replies of the nodes that are still there; note the others as dropped at ``stage``.

        Raises:
            NodeRefusedError: a node refused what it was asked.
        """
        replies = {}
        for node, answer in sorted(answers.items()):
            if isinstance(answer, NodeUnreachableError) or (isinstance(answer, Refusal) and answer.code in _GONE):
                self.dropped[node] = stage
            elif isinstance(answer, Refusal):
                raise NodeRefusedError(node, answer.code, answer.message)
            else:
                replies[node] = answer
        return replies

    def _require_enough(self, nodes: Sequence[str]) -> tuple[str, ...]:
        if len(nodes) < self._threshold:
            raise TooFewNodesError(
                f"expected at least {self._threshold} nodes, {len(nodes)} are left: "
                "see which node is down (shufang status), then start a new session"
            )
        return tuple(nodes)


def _vector(node: str, reply: Reply, length: int) -> RingVector:
    try:
        (part,) = reply.attachments
        return masking.from_bytes(part, length)
    except (ContractError, ValueError) as error:
        raise NodeReplyError(f"expected one masked vector of {length} entries from {node}") from error


def combine(shares: Mapping[int, bytes], size: int) -> bytes:
    """Rebuild a secret of ``size`` bytes from shares by place, counted from 1; undoes ``shamir.split``.

    Source:
        Shamir, "How to share a secret", CACM 22(11), 1979.
    """
    from Crypto.Protocol.SecretSharing import Shamir

    return b"".join(
        Shamir.combine([(place, share[at : at + _BLOCK_BYTES]) for place, share in shares.items()], ssss=False)
        for at in range(0, size, _BLOCK_BYTES)
    )
