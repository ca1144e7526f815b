"""The tasks this node knows, by name. An order for anything else is refused."""

from nodes.contract.tasks.linear import LinearParameters
from nodes.contract.tasks.match import EVALUATE, MatchParameters
from nodes.contract.tasks.sums import SumsParameters
from nodes.tasks.spec import Outcome, TaskContext, TaskSession, TaskSpec


def tasks() -> dict[str, TaskSpec]:
    """Return the task catalogue; heavy libraries load when a task starts, not here."""
    specs = (
        TaskSpec("linear.secagg", LinearParameters, _linear),
        TaskSpec("sums.ckks", SumsParameters, _sums),
        TaskSpec("match.voprf", MatchParameters, _match, frozenset({EVALUATE})),
    )
    return {spec.name: spec for spec in specs}


def _linear(context: TaskContext) -> tuple[TaskSession, Outcome]:
    from nodes.tasks import linear

    return linear.start(context)


def _sums(context: TaskContext) -> tuple[TaskSession, Outcome]:
    from nodes.tasks import sums

    return sums.start(context)


def _match(context: TaskContext) -> tuple[TaskSession, Outcome]:
    from nodes.tasks import match

    return match.start(context)
