"""The node's half of a composite index: its own domain, added under encryption; then how much hangs on it.

Privacy:
    As ``nodes.tasks.sums``; the operator learns the published composite and, of this domain,
    its share of the weight and rounded figures of sensitivity. Any department can subtract its own
    domain from the composite and sees the weighted sum of the others, of which there are at
    least two.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from nodes.contract import canonical
from nodes.contract.errors import MalformedError
from nodes.contract.messages import RefusalCode
from nodes.contract.tasks.index import ENTITIES_MIN, SENSITIVITY, WEIGHT_UNITS, IndexParameters
from nodes.contract.tasks.sums import RELEASE, ciphertexts
from nodes.privacy import scoring
from nodes.tasks.spec import Outcome, TaskContext, TaskRefusedError, TaskSession
from nodes.tasks.sums import SumsSession, check_parties, granted_frame


class IndexSession(SumsSession):
    """A session of encrypted sums that ends with this domain's sensitivity."""

    def __init__(
        self, context: TaskContext, parameters: IndexParameters, scores: "scoring.Numbers", weight: float
    ) -> None:
        super().__init__(context, parameters, scoring.vector(scores, weight, parameters))
        self._index = parameters
        self._scores: scoring.Numbers | None = scores
        self._weight = weight
        self._published: bytes | None = None

    def step(self, sender: str, kind: str, body: Mapping[str, Any], attachments: Sequence[bytes]) -> Outcome:
        """Do one step; see ``nodes.contract.tasks.index``."""
        if kind == SENSITIVITY and sender == self._context.order.operator:
            return self._sensitivity(body, attachments)
        outcome = super().step(sender, kind, body, attachments)
        if kind == RELEASE:
            self._published = attachments[1]
        return outcome

    def finish(self) -> dict[str, Any]:
        """Forget the scores, too."""
        self._scores = None
        return super().finish()

    def _sensitivity(self, body: Mapping[str, Any], attachments: Sequence[bytes]) -> Outcome:
        import numpy as np

        if body or attachments or self._published is None or self._scores is None:
            raise TaskRefusedError(RefusalCode.TASK_PROTOCOL, "expected the sensitivity once, after the release")
        scores, self._scores = self._scores, None
        document: Any = canonical.loads(self._published, size_max=len(self._published))
        rows, domains = document["rows"], len(document["domains"])
        whole = [row["score_x100"] if row["domains"] == domains else None for row in rows]
        composite = np.array([np.nan if value is None else value / 100 for value in whole])
        total = document["weight_total"] / WEIGHT_UNITS
        if int((~np.isnan(composite)).sum()) < ENTITIES_MIN or total - self._weight <= 0:
            return Outcome({"withheld": True})
        found = scoring.sensitivity(scores, self._weight, composite, total, self._index)
        return Outcome({"withheld": False, **found})


def start(context: TaskContext) -> tuple[TaskSession, Outcome]:
    """Score this node's domain and open the session.

    Raises:
        TaskRefusedError: no domain of this node, not one table with its columns, too few rows or parties, or values
            that are missing and may not be.
    """
    parameters = cast(IndexParameters, context.parameters)
    domain = parameters.domain_of(context.node)
    if domain is None:
        raise TaskRefusedError(RefusalCode.TASK_PARAMETERS, "expected a domain of this node")
    if set(context.order.parties) != {item.node for item in parameters.domains}:
        raise TaskRefusedError(RefusalCode.TASK_PARAMETERS, "expected one domain per party of the order")
    check_parties(context)
    frame = granted_frame(context, parameters.columns_of(context.node))
    try:
        scores = scoring.domain_scores(frame, domain, parameters)
        session = IndexSession(context, parameters, scores, scoring.domain_weight(scores, domain, parameters))
    except (ValueError, MalformedError) as error:
        raise TaskRefusedError(RefusalCode.TASK_PARAMETERS, str(error)) from None
    facts = {"ciphertexts": ciphertexts(len(parameters.vector_parts)), "parameters_sha256": parameters.sha256}
    return session, Outcome(facts)
