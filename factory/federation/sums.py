"""The operator's half of encrypted sums: have committed, collect, have co-signed, add, have opened.

Privacy:
    The operator holds ciphertexts it cannot read and, at the end, tables that the agency
    has protected. It cannot have a single ciphertext opened: the agency opens only digests
    that every contributor has signed as the sum of all.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from factory.errors import FactoryError
from factory.federation.session import Reply, Session, require
from nodes.contract import canonical
from nodes.contract.ckks import Scheme
from nodes.contract.messages import ResourceUse
from nodes.contract.signing import Envelope
from nodes.contract.tasks.index import IndexParameters
from nodes.contract.tasks.sums import (
    ATTEST,
    CONTRIBUTORS_MIN,
    ENCRYPT,
    RELEASE,
    REVEAL,
    SumsParameters,
    ciphertexts,
)

AgencyCall = Callable[[str, Mapping[str, Any], tuple[bytes, ...]], Reply]
"""Sends a query (kind, body, attachments) to the agency's service and returns its verified reply, or raises."""

Progress = Callable[[str, int, int], None]
"""Told (stage, done, of)."""

TABLES = "tables.json"


class TooFewContributorsError(FactoryError):
    """Fewer nodes contributed than a sum needs that may be opened."""

    code: ClassVar[str] = "sums.too_few_contributors"
    retryable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Statistics:
    """Protected tables and the evidence for them.

    Attributes:
        document: what the agency published, see ``factory.agency.tables`` and ``factory.agency.index``.
        tables_bytes: the bytes the agency signed; publish exactly these.
        facts: body of the agency's answer: session, digests, thresholds, number of suppressed cells.
        contributors: nodes whose data is in the sum.
        missing: nodes that were asked and gave nothing.
        agency_result: the agency's signed answer.
        attestations: each contributor's signed word for the sum.
        sums: the encrypted sums that were opened.
    """

    document: dict[str, Any]
    tables_bytes: bytes
    facts: dict[str, Any]
    contributors: tuple[str, ...]
    missing: tuple[str, ...]
    agency_result: Envelope
    attestations: tuple[Envelope, ...]
    sums: tuple[bytes, ...]

    @property
    def tables(self) -> tuple[dict[str, Any], ...]:
        """The tables of a report."""
        return tuple(self.document["tables"])


def compute(
    session: Session,
    spec: SumsParameters | IndexParameters,
    resources: Mapping[str, Sequence[ResourceUse]],
    agency_call: AgencyCall,
    *,
    grant_envelopes: Sequence[Envelope],
    tables_name: str = TABLES,
    progress: Progress | None = None,
) -> Statistics:
    """Run one session of encrypted sums; the caller closes it with ``session.close()``.

    A node that refuses or is away before it has committed to its ciphertexts is left out, if
    enough others remain. After that all contributors must answer: a sum without one of them
    needs a new session.

    Args:
        session: not yet opened.
        spec: the tables.
        resources: per node, what it shall read: one resource with the columns of ``spec``.
        agency_call: reaches the agency's key service.
        grant_envelopes: the signed grant: of the registrars and of every node.
        tables_name: file name under which nodes record the tables as their output.
        progress: told of each stage.

    Raises:
        TooFewContributorsError: too few nodes contributed.
        NodeRefusedError: a contributor, or the agency, refused.
        NodeUnreachableError: a contributor does not answer any more.
    """
    tell = progress or _silent
    tell("open", 0, 5)
    opened = session.open(spec.task, spec.model_dump(mode="json"), resources)
    willing = sorted(node for node, answer in opened.items() if isinstance(answer, Reply))
    _enough(session, willing)
    tell("encrypt", 1, 5)
    key = agency_call("he.public_key", {"session_id": session.session_id}, ())
    answers = session.step(ENCRYPT, {node: {} for node in willing}, dict.fromkeys(willing, key.attachments))
    given = {node: answer for node, answer in sorted(answers.items()) if isinstance(answer, Reply)}
    _enough(session, list(given))
    tell("attest", 2, 5)
    contributors = list(given)
    committed = tuple(reply.envelope.to_bytes() for reply in given.values())
    bodies: dict[str, dict[str, Any]] = {node: {"contributors": contributors} for node in contributors}
    revealed = require(session.step(REVEAL, bodies, dict.fromkeys(contributors, committed)))
    sealed = [revealed[node].attachments for node in contributors]
    parts = tuple(part for own in sealed for part in own)
    attested = require(session.step(ATTEST, {node: {} for node in contributors}, dict.fromkeys(contributors, parts)))
    tell("decrypt", 3, 5)
    scheme = Scheme(spec.parameter_set)
    sums = tuple(scheme.add([own[place] for own in sealed]) for place in range(ciphertexts(len(spec.vector_parts))))
    attestations = tuple(attested[node].attachments[0] for node in contributors)
    body = {
        "session_id": session.session_id,
        "parameters": spec.model_dump(mode="json"),
        "contributors": contributors,
        "grants": len(grant_envelopes),
    }
    envelopes = tuple(envelope.to_bytes() for envelope in grant_envelopes)
    answer = agency_call("he.decrypt", body, (*envelopes, *attestations, *sums))
    tables_bytes = answer.attachments[0]
    tell("release", 4, 5)
    released = (answer.envelope.to_bytes(), tables_bytes)
    require(
        session.step(RELEASE, {n: {"name": tables_name} for n in contributors}, dict.fromkeys(contributors, released))
    )
    tell("done", 5, 5)
    value: dict[str, Any] = dict(canonical.loads(tables_bytes, size_max=len(tables_bytes)))
    return Statistics(
        document=value,
        tables_bytes=tables_bytes,
        facts=answer.body,
        contributors=tuple(contributors),
        missing=tuple(sorted(set(resources) - set(contributors))),
        agency_result=answer.envelope,
        attestations=tuple(Envelope.from_bytes(part) for part in attestations),
        sums=sums,
    )


def _silent(_stage: str, _done: int, _of: int) -> None:
    """Tell nobody."""


def _enough(session: Session, nodes: Sequence[str]) -> None:
    fewest = max(CONTRIBUTORS_MIN, session.grant.thresholds.contributors_min)
    if len(nodes) < fewest:
        raise TooFewContributorsError(
            f"expected at least {fewest} nodes to contribute, got {len(nodes)}; try again later"
        )
