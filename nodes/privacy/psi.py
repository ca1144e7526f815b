"""Joining tables of several nodes row by row, for training: everybody ends with the same rows in the same random order.

One node *leads*: it compares its keys with every other node's in turn (``psi_kkrt``), keeps those that all have,
shuffles them, and tells each node the order by names that only this session's key gives them.

Source:
    ``nodes.privacy.psi_kkrt``; the shuffle is Fisher and Yates' with words of the system's generator.

Privacy:
    Semi-honest parties. Every node learns which of its rows all nodes have, and nothing of the others' rows; the order
    of rows tells nothing of the leader's table. The leader also learns, for every other node, which of its own rows
    that node has. All learn the sizes of the sets that were compared with theirs. Fewer common rows than the minimum
    end the session at every node before an order is told; that it was fewer is learned then, by the leader the number.
"""

import os

import numpy as np
from numpy.typing import NDArray

from nodes.contract.messages import RefusalCode
from nodes.privacy import kernels
from nodes.privacy.keys import KeyedRows
from nodes.privacy.psi_kkrt import SIZE_MAX, receive_intersection, send_intersection
from nodes.tasks.party import Party
from nodes.tasks.spec import TaskRefusedError

_ORDER = "psi.order"
_NAME_BYTES = 16


def lead(party: Party, keyed: KeyedRows, *, minimum: int) -> NDArray[np.int64]:
    """Compare with every peer and set the common order.

    Args:
        party: this node; every peer runs ``follow``.
        keyed: own rows by key.
        minimum: fewest common rows.

    Returns:
        Row positions in the own table, shape ``(common,)``.

    Raises:
        TaskRefusedError: fewer common rows than the minimum, or a peer broke the protocol.
    """
    common = np.ones(len(keyed.items), np.bool_)
    names = {}
    for peer in party.peers:
        compared = receive_intersection(party.channel(peer), keyed.items)
        names[peer] = compared.names
        common &= compared.shared
    chosen = np.flatnonzero(common)
    require_minimum(len(chosen), minimum)
    order = chosen[_permutation(len(chosen))]
    for peer in party.peers:
        party.channel(peer).send(_ORDER, np.ascontiguousarray(names[peer][order]).tobytes())
    return keyed.rows[order]


def follow(party: Party, leader: str, keyed: KeyedRows, *, minimum: int) -> NDArray[np.int64]:
    """Let the leader compare, and take the order it sets.

    Raises:
        TaskRefusedError: fewer common rows than the minimum, names that are not of this node's rows or are
            repeated, or another breach of the protocol.
    """
    channel = party.channel(leader)
    compared = send_intersection(channel, keyed.items)
    data = channel.receive(_ORDER, size_max=_NAME_BYTES * min(compared.theirs, len(keyed.items), SIZE_MAX))
    if len(data) % _NAME_BYTES:
        raise TaskRefusedError(RefusalCode.TASK_PROTOCOL, "expected whole names in the order of rows")
    require_minimum(len(data) // _NAME_BYTES, minimum)
    wanted = np.frombuffer(data, np.uint8).reshape(-1, _NAME_BYTES)
    found = kernels.find(wanted, compared.names.view(np.uint8).reshape(-1, _NAME_BYTES))
    if bool((found < 0).any()) or len(np.unique(found)) != len(found):
        raise TaskRefusedError(RefusalCode.TASK_PROTOCOL, "expected names of this node's rows, each once")
    return keyed.rows[found]


def require_minimum(common: int, minimum: int) -> None:
    """Stop when too few rows are common.

    Raises:
        TaskRefusedError: fewer than ``minimum``; the number is not told.
    """
    if common < max(1, minimum):
        raise TaskRefusedError(
            RefusalCode.RESOURCE_ROWS, f"expected at least {max(1, minimum)} common rows; agree on wider filters"
        )


def _permutation(count: int) -> NDArray[np.int64]:
    drawn = np.arange(count, dtype=np.int64).view(np.uint8).reshape(count, 8).copy()
    kernels.shuffle(drawn, np.frombuffer(os.urandom(8 * count), np.uint64))
    return drawn.view(np.int64).ravel()
