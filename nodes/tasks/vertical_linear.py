"""Start of ``linear.vertical`` at a node: which half runs here, and what is refused before anything is said.

Privacy: see the two halves, ``nodes.tasks.vertical_label`` and ``nodes.tasks.vertical_feature``.
"""

from nodes.contract.messages import RefusalCode
from nodes.contract.tasks.vertical_linear import VerticalLinearParameters
from nodes.tasks import vertical_feature, vertical_label
from nodes.tasks.party import start_party
from nodes.tasks.spec import Outcome, TaskContext, TaskRefusedError, TaskSession


def start(context: TaskContext) -> tuple[TaskSession, Outcome]:
    """Open a session.

    Raises:
        TaskRefusedError: other parties than the parameters name, not one table, or a column missing.
    """
    parameters = context.parameters
    if not isinstance(parameters, VerticalLinearParameters):
        raise TaskRefusedError(RefusalCode.TASK_PARAMETERS, "expected parameters of linear.vertical")
    if set(parameters.features) != set(context.order.parties):
        raise TaskRefusedError(RefusalCode.TASK_PARAMETERS, "expected features of exactly the parties of the order")
    if len(context.tables) != 1:
        raise TaskRefusedError(RefusalCode.TASK_PARAMETERS, f"expected one table, got {len(context.tables)}")
    (view,) = context.tables.values()
    missing = sorted(set(parameters.columns_of(context.node)) - set(view.columns))
    if missing:
        raise TaskRefusedError(RefusalCode.GRANT_COLUMN, f"expected the order to name the columns {', '.join(missing)}")
    half = vertical_label.run if context.node == parameters.label_party else vertical_feature.run
    return start_party(context, half)
