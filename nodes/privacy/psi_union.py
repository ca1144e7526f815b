"""One list of names for all rows of two nodes, in which neither can tell which of its rows the other has too.

Every row gets a name that both nodes' keys go into: equal keys get equal names. Each node learns the names of its own
rows, and those of the other's rows that are not its own; both end with the same list, in the order of the names. Where
a name is not of its own row a node puts a dummy. Training over such a list needs a weight per row that stays encrypted.

Source:
    Buddhavarapu et al., "Private Matching for Compute", ePrint 2020/599, section 3 (Private-ID), over ristretto255 with
    the hashing of RFC 9497. The set difference is named under one more blind of its finder, taken off afterwards.

Privacy:
    Semi-honest parties, decisional Diffie-Hellman in ristretto255. Both learn the sizes of both sets and of their
    intersection, and nothing of which rows are in it: a node compares the images of its own rows only after the
    other has shuffled them, and what it names afterwards are the other's rows that it does not have. About a third of a
    millisecond of processor time per row and side: for tables of up to some ten thousand rows.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nodes.contract import voprf
from nodes.contract.group import rbcl
from nodes.contract.messages import RefusalCode
from nodes.contract.voprf import ELEMENT_BYTES
from nodes.privacy.keys import KeyedRows
from nodes.privacy.ot import exactly
from nodes.privacy.psi_kkrt import Items
from nodes.tasks.party import Channel
from nodes.tasks.spec import TaskRefusedError

SIZE_MAX = 2**20
DUMMY = -1
_SIZE, _OWN, _NAMED, _MIXED = "psiu.size", "psiu.own", "psiu.named", "psiu.mixed"
_FOREIGN, _FINISHED = "psiu.foreign", "psiu.finished"


@dataclass(frozen=True, slots=True)
class Union:
    """The common list as one node sees it.

    Attributes:
        rows: per name, in the order of the names, the position of the own row with it, or ``DUMMY``.
        common: how many rows both have.
    """

    rows: NDArray[np.int64]
    common: int


def join_union(channel: Channel, keyed: KeyedRows) -> Union:
    """Make the list; the peer runs the same.

    Raises:
        TaskRefusedError, BadElementError: the peer broke the protocol.
    """
    theirs = _sizes(channel, len(keyed.items))
    key, name_key, blind = (bytes(rbcl.crypto_core_ristretto255_scalar_random()) for _ in range(3))
    order = np.argsort(np.frombuffer(os.urandom(8 * len(keyed.items)), np.uint64))
    channel.send(_OWN, b"".join(_raised(key, _hashed(keyed.items, order))))
    other = _elements(exactly(channel, _OWN, theirs * ELEMENT_BYTES))
    if len(set(other)) != theirs:
        raise TaskRefusedError(RefusalCode.TASK_PROTOCOL, "expected each element once")
    images = _raised(key, other)  # of the peer's rows, in an order that only the peer knows
    channel.send(_NAMED, b"".join(_raised(name_key, images)))
    channel.send(_MIXED, b"".join(sorted(images)))
    names = _raised(name_key, _elements(exactly(channel, _NAMED, len(keyed.items) * ELEMENT_BYTES)))
    own_images = set(_elements(exactly(channel, _MIXED, len(keyed.items) * ELEMENT_BYTES)))
    foreign = [image for image in images if image not in own_images]
    channel.send(_FOREIGN, b"".join(_raised(blind, _raised(name_key, foreign))))
    data = channel.receive(_FOREIGN, size_max=len(keyed.items) * ELEMENT_BYTES)
    channel.send(_FINISHED, b"".join(_raised(name_key, _elements(data))))
    back = bytes(rbcl.crypto_core_ristretto255_scalar_invert(blind))
    strange = _raised(back, _elements(exactly(channel, _FINISHED, len(foreign) * ELEMENT_BYTES)))
    placed = {name: int(keyed.rows[row]) for name, row in zip(names, order.tolist(), strict=True)}
    if len(placed) != len(keyed.items) or not placed.keys().isdisjoint(strange) or len(set(strange)) != len(strange):
        raise TaskRefusedError(RefusalCode.TASK_PROTOCOL, "expected a name for every row, each once")
    common = theirs - len(foreign)
    if len(data) != (len(keyed.items) - common) * ELEMENT_BYTES:
        raise TaskRefusedError(RefusalCode.TASK_PROTOCOL, "expected the peer to find as many common rows")
    listed = sorted([*placed, *strange])
    return Union(np.array([placed.get(name, DUMMY) for name in listed], np.int64), common)


def _sizes(channel: Channel, size: int) -> int:
    if not 1 <= size <= SIZE_MAX:
        raise TaskRefusedError(RefusalCode.RESOURCE_ROWS, f"expected 1 to {SIZE_MAX} rows")
    channel.send(_SIZE, size.to_bytes(8, "big"))
    theirs = int.from_bytes(exactly(channel, _SIZE, 8), "big")
    if not 1 <= theirs <= SIZE_MAX:
        raise TaskRefusedError(RefusalCode.TASK_PROTOCOL, f"expected a set of 1 to {SIZE_MAX} rows")
    return theirs


def _hashed(items: Items, order: NDArray[np.int64]) -> list[bytes]:
    data, offsets = items.data.tobytes(), items.offsets.tolist()
    return [voprf.hash_to_group(data[offsets[row] : offsets[row + 1]]) for row in order.tolist()]


def _raised(scalar: bytes, elements: Iterable[bytes]) -> list[bytes]:
    return [voprf.multiply(scalar, element) for element in elements]


def _elements(data: bytes) -> list[bytes]:
    if len(data) % ELEMENT_BYTES:
        raise TaskRefusedError(RefusalCode.TASK_PROTOCOL, "expected whole elements")
    return [voprf.require_element(data[start : start + ELEMENT_BYTES]) for start in range(0, len(data), ELEMENT_BYTES)]
