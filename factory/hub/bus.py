"""The one way the operator reaches a node, whatever plane carries it."""

from collections.abc import Mapping
from typing import Protocol

from factory.errors import FactoryError


class NodeUnreachableError(FactoryError):
    """No answer from the node within the time."""

    code = "hub.node_unreachable"
    retryable = True


class NodeBus(Protocol):
    """Carries one parcel to a node and its answer back. Implementations: local, Flower, relay.

    A bus MUST deliver a parcel at least once or raise; the node answers a repeated parcel
    with the same reply, so ``ask`` may be retried with the same bytes. Nothing about the
    content is trusted: replies are verified by the caller.
    """

    def ask(self, node: str, parcel: bytes, *, timeout_s: float) -> bytes:
        """Send ``parcel`` to ``node`` and return the reply parcel.

        Raises:
            NodeUnreachableError: no reply within ``timeout_s``.
        """
        ...

    def ask_all(self, parcels: Mapping[str, bytes], *, timeout_s: float) -> dict[str, bytes | NodeUnreachableError]:
        """Send one parcel to each node at the same time; a node that does not answer yields its error."""
        ...

    def close(self) -> None:
        """Release connections; open sessions at nodes expire on their own."""
        ...
