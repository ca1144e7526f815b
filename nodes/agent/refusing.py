"""How a refusal travels inside the agent until ``nodes.agent.handle`` signs it, in one place."""

from nodes.contract.messages import RefusalCode
from nodes.policy import Denial


class RefusedError(Exception):
    """The request is refused; carries what the asker may know.

    Attributes:
        refusal: stable reason.
        message: what was expected, what came, what to do next; no row value, no local address.
    """

    code = "node.refused"

    def __init__(self, refusal: RefusalCode, message: str) -> None:
        super().__init__(message)
        self.refusal = refusal
        self.message = message


def require(denial: Denial | None) -> None:
    """Refuse if there is a reason to.

    Raises:
        RefusedError: with the denial's code and message.
    """
    if denial is not None:
        raise RefusedError(denial.code, denial.message)
