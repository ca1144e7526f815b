"""Operator half of ``linear.vertical.score``: ask all nodes of a model and add their masked parts.

Privacy: this side sees the joint score of each entity it asks for, and no part of it.
"""

from collections.abc import Mapping, Sequence

from factory.federation.parties import run_parties
from factory.federation.secagg import NodeReplyError
from factory.federation.session import Session
from nodes.contract.messages import ResourceUse
from nodes.contract.tasks.vertical_score import TASK, VerticalScoreParameters, combine


def score(
    session: Session, parameters: VerticalScoreParameters, resources: Mapping[str, Sequence[ResourceUse]]
) -> tuple[float, ...]:
    """Return the score of each entity, in logits for a logistic model.

    Args:
        session: not yet open, under a grant for ``linear.vertical.score``.
        parameters: which model, which entities.
        resources: per node the table it looks the entities up in.

    Raises:
        NodeRefusedError: a node refused.
        NodeReplyError: a part that is not what the protocol asks for.
    """
    results = run_parties(session, TASK, parameters.model_dump(mode="json"), resources)
    parts = [part for result in results.values() for part in result.attachments]
    try:
        return combine(parts, len(parameters.entities))
    except ValueError as error:
        raise NodeReplyError(str(error)) from error
