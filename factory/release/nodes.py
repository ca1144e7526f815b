"""What the operator asks of nodes around a release: grants, statements, reports and signatures.

Privacy:
    Queries read no row. What comes back is signed by the node: catalogue facts, vetted
    quality aggregates, signatures on joint statements. Product files go to the nodes, so
    that each searches them for values of its own rows before it signs.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from factory.agency.client import Asked, ask_query
from factory.errors import NodeRefusedError
from factory.federation.session import Reply
from factory.hub.bus import NodeBus
from factory.release.errors import EvidenceMissingError
from nodes.contract.messages import QueryKind, Refusal
from nodes.contract.signing import Envelope, SigningKey, VerifyKey, sha256_hex
from nodes.contract.statement import PAYLOAD_TYPE, RESOURCE, read

T = TypeVar("T")
QUALITY_REPORT_TYPE = "application/vnd.shufang.quality-report.v1+json"


@dataclass(frozen=True, slots=True)
class NodeDesk:
    """Asks nodes over any bus.

    Attributes:
        bus: carries parcels.
        operator: our actor id.
        key: our statement key.
        keys: statement key per node, from trust data.
        timeout_s: longest wait for an answer.
        now: clock.
    """

    bus: NodeBus
    operator: str
    key: SigningKey
    keys: Mapping[str, VerifyKey]
    timeout_s: float = 120.0
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))

    def ask(self, node: str, kind: str, body: dict[str, Any] | None = None, attachments: Sequence[bytes] = ()) -> Reply:
        """Ask one node and return its verified answer.

        Raises:
            NodeRefusedError: it refuses.
            NodeUnreachableError: it does not answer.
        """
        asked = Asked(self.operator, node, kind, body or {}, tuple(attachments))
        answer = ask_query(
            self.bus, self.key, asked, answerer_key=self.keys[node], timeout_s=self.timeout_s, now=self.now()
        )
        if isinstance(answer, Refusal):
            raise NodeRefusedError(node, answer.code, answer.message)
        return answer

    def each(self, nodes: Sequence[str], act: Callable[[str], T]) -> dict[str, T]:
        """Do ``act`` for every node at the same time and return what came of it, in the order of ``nodes``.

        Raises:
            NodeRefusedError, NodeUnreachableError: of the first node that failed, once all have ended.
        """
        if not nodes:
            return {}
        with ThreadPoolExecutor(max_workers=min(len(nodes), 16)) as pool:
            futures = {node: pool.submit(act, node) for node in nodes}
        return {node: future.result() for node, future in futures.items()}

    def update_trust(self, nodes: Sequence[str], files: Mapping[str, bytes]) -> None:
        """Bring newer trust data to nodes; each verifies it from its own pin."""
        names = sorted(files)
        parts = [files[name] for name in names]
        self.each(nodes, lambda node: self.ask(node, QueryKind.TRUST_UPDATE, {"names": names}, parts))

    def offer_grant(self, nodes: Sequence[str], envelopes: Sequence[Envelope]) -> dict[str, str]:
        """Offer a grant to its departments and return its state at each."""
        attachments = [envelope.to_bytes() for envelope in envelopes]
        return self.each(
            nodes, lambda node: str(self.ask(node, QueryKind.GRANT_OFFER, attachments=attachments).body["state"])
        )

    def grant_signatures(self, nodes: Sequence[str], grant_sha256: str) -> dict[str, bytes]:
        """Return the departments' envelopes of a grant, verified, for those that have approved."""
        found = {}
        body = {"grant_sha256": grant_sha256}
        replies = self.each(nodes, lambda node: self.ask(node, QueryKind.GRANT_STATUS, body))
        for node, reply in replies.items():
            for data in reply.attachments:
                envelope = Envelope.from_bytes(data)
                envelope.open(self.keys[node], PAYLOAD_TYPE)
                if envelope.payload_sha256 != grant_sha256:
                    raise EvidenceMissingError(f"expected {node}'s signature on this grant")
                found[node] = data
        return found

    def resource_statement(self, node: str, resource: str) -> bytes:
        """Return the node's signed statement of a resource, verified."""
        data = _only(self.ask(node, QueryKind.RESOURCE_STATEMENT, {"resource": resource}), node)
        _, predicate = read(Envelope.from_bytes(data).open(self.keys[node], PAYLOAD_TYPE), RESOURCE)
        if predicate["resource"]["id"] != resource or predicate["resource"]["holder"] != node:
            raise EvidenceMissingError(f"expected {node}'s own statement of {resource}")
        return data

    def quality_report(self, node: str, resource: str, report_sha256: str) -> bytes:
        """Return the quality report that a resource statement names, verified."""
        data = _only(self.ask(node, QueryKind.QUALITY_REPORT, {"resource": resource}), node)
        report = Envelope.from_bytes(data).open(self.keys[node], QUALITY_REPORT_TYPE)
        if sha256_hex(report) != report_sha256:
            raise EvidenceMissingError(f"expected the quality report that the statement of {resource} names")
        return report

    def sm2_signatures(self, node: str, envelopes: Sequence[bytes]) -> list[bytes]:
        """Return the node's SM2 envelopes beside statements that it has signed, in the same order.

        Raises:
            NodeRefusedError: it has no SM2 key, or one of the statements is not its own.
        """
        reply = self.ask(node, QueryKind.SM2_SIGN, attachments=envelopes)
        if len(reply.attachments) != len(envelopes):
            raise EvidenceMissingError(f"expected {len(envelopes)} SM2 signatures of {node}")
        return list(reply.attachments)

    def countersign(
        self,
        node: str,
        *,
        grant_sha256: str,
        sessions: Sequence[str],
        statements: Mapping[str, bytes],
        files: Mapping[str, bytes],
    ) -> dict[str, bytes]:
        """Have a node check and sign joint statements, and return its envelopes by predicate type.

        Args:
            node: who signs.
            grant_sha256: the grant of the runs.
            sessions: the sessions the statements are about.
            statements: payload by predicate type.
            files: product files by path in the package, for the node to search.

        Raises:
            NodeRefusedError: something in them is not what the node knows.
        """
        names = sorted(files)
        body = {
            "grant_sha256": grant_sha256,
            "sessions": list(sessions),
            "statements": list(statements),
            "files": names,
        }
        reply = self.ask(node, QueryKind.COUNTERSIGN, body, [*statements.values(), *(files[name] for name in names)])
        if len(reply.attachments) != len(statements):
            raise EvidenceMissingError(f"expected {len(statements)} signatures of {node}, got {len(reply.attachments)}")
        signed = {}
        for (predicate_type, payload), data in zip(statements.items(), reply.attachments, strict=True):
            if Envelope.from_bytes(data).open(self.keys[node], PAYLOAD_TYPE) != payload:
                raise EvidenceMissingError(f"expected {node}'s signature on exactly these bytes")
            signed[predicate_type] = data
        return signed


def _only(reply: Reply, node: str) -> bytes:
    if len(reply.attachments) != 1:
        raise EvidenceMissingError(f"expected one signed statement of {node}, got {len(reply.attachments)}")
    return reply.attachments[0]
