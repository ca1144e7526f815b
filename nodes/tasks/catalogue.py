"""The tasks this node knows, by name. An order for anything else is refused."""

from nodes.tasks.spec import TaskSpec


def tasks() -> dict[str, TaskSpec]:
    """Return the task catalogue; heavy libraries load when a task starts, not here."""
    return {}
