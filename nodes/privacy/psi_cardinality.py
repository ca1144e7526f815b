"""How many items two nodes share, without either learning which.

The asker sends its blinded items; the other node multiplies them by its key and returns them shuffled, with shuffled
tags of its own items under the same key; the asker takes its blinding off and counts tags that agree.

Source:
    De Cristofaro, Gasti and Tsudik, "Fast and Private Computation of Cardinality of Set Intersection and Union",
    CANS 2012, figure 1, over ristretto255 with the hashing of RFC 9497.

Privacy:
    Semi-honest parties. The asker learns the count and the size of the other set; the shuffles are all that keeps which
    from it, so both draw them from the system's generator. The other node sees uniform elements, hence the
    size of the asker's set, and is told the count, against which it holds its own minimum. About 0.1 ms of
    processor time per item and side: for sets up to some hundred thousand.
"""

import hashlib
import os

import numpy as np

from nodes.contract import voprf
from nodes.contract.group import rbcl
from nodes.contract.messages import RefusalCode
from nodes.contract.voprf import ELEMENT_BYTES
from nodes.privacy.ot import exactly
from nodes.privacy.psi_kkrt import Items
from nodes.tasks.party import Channel
from nodes.tasks.spec import TaskRefusedError

SIZE_MAX = 2**22
TAG_BYTES = 16
_SIZE, _BLINDED, _SHUFFLED, _TAGS = "psica.size", "psica.blinded", "psica.shuffled", "psica.tags"


def ask_count(channel: Channel, items: Items) -> int:
    """Learn how many of ``items`` the peer has too; the peer runs ``answer_count``.

    Raises:
        TaskRefusedError, BadElementError: the peer broke the protocol.
    """
    theirs = _sizes(channel, len(items))
    secret = bytes(rbcl.crypto_core_ristretto255_scalar_random())
    channel.send(_BLINDED, b"".join(voprf.multiply(secret, element) for element in _hashed(items)))
    back = bytes(rbcl.crypto_core_ristretto255_scalar_invert(secret))
    images = exactly(channel, _SHUFFLED, len(items) * ELEMENT_BYTES)
    data = exactly(channel, _TAGS, theirs * TAG_BYTES)
    tags = {data[start : start + TAG_BYTES] for start in range(0, len(data), TAG_BYTES)}
    if len(tags) != theirs:
        raise TaskRefusedError(RefusalCode.TASK_PROTOCOL, "expected each tag once")
    return sum(_tag(voprf.multiply(back, element)) in tags for element in _elements(images))


def answer_count(channel: Channel, items: Items) -> int:
    """Let the peer learn how many of its items occur in ``items``; return the size of its set.

    Raises:
        TaskRefusedError, BadElementError: the peer broke the protocol.
    """
    theirs = _sizes(channel, len(items))
    secret = bytes(rbcl.crypto_core_ristretto255_scalar_random())
    blinded = _elements(exactly(channel, _BLINDED, theirs * ELEMENT_BYTES))
    if len(set(blinded)) != len(blinded):
        raise TaskRefusedError(RefusalCode.TASK_PROTOCOL, "expected each element once")
    # Sorting images shuffles them: their order says nothing of the order they came in.
    channel.send(_SHUFFLED, b"".join(sorted(voprf.multiply(secret, element) for element in blinded)))
    channel.send(_TAGS, b"".join(sorted(_tag(voprf.multiply(secret, element)) for element in _hashed(items))))
    return theirs


def _sizes(channel: Channel, size: int) -> int:
    if not 1 <= size <= SIZE_MAX:
        raise TaskRefusedError(RefusalCode.RESOURCE_ROWS, f"expected 1 to {SIZE_MAX} items")
    channel.send(_SIZE, size.to_bytes(8, "big"))
    theirs = int.from_bytes(exactly(channel, _SIZE, 8), "big")
    if not 1 <= theirs <= SIZE_MAX:
        raise TaskRefusedError(RefusalCode.TASK_PROTOCOL, f"expected a set of 1 to {SIZE_MAX} items")
    return theirs


def _hashed(items: Items) -> list[bytes]:
    data, offsets = items.data.tobytes(), items.offsets.tolist()
    order = np.argsort(np.frombuffer(os.urandom(8 * len(items)), np.uint64)).tolist()
    return [voprf.hash_to_group(data[offsets[row] : offsets[row + 1]]) for row in order]


def _elements(data: bytes) -> list[bytes]:
    return [voprf.require_element(data[start : start + ELEMENT_BYTES]) for start in range(0, len(data), ELEMENT_BYTES)]


def _tag(element: bytes) -> bytes:
    return hashlib.sha256(b"shufang/v1/psica" + element).digest()[:TAG_BYTES]
