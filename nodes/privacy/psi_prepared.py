"""Which of few items a node with many has: the many are turned into tags once, and kept at both nodes.

The holder of many evaluates a pseudorandom function on each of its items, keeps the tags, and hands them over, sorted,
to an asker that does not have them yet. From then on a comparison costs one oblivious evaluation per item of the asker.
When the holder's table changes only new items are evaluated.

Source:
    Jarecki and Liu, "Fast Secure Computation of Set Intersection", SCN 2010; evaluation as in RFC 9497, mode OPRF,
    ristretto255-SHA512; preparing one side as in Kiss et al., "Private Set Intersection for Unequal Set Sizes with
    Mobile Applications", PoPETs 2017, section 3.

Privacy:
    Semi-honest parties. The asker learns which of its items the holder has, the size of the holder's set, and, since
    the key stays while the table changes a little, how many tags came and went since its last copy. The holder sees
    uniform elements, hence how many there are, and is told the count of common items. An asker can have any item
    evaluated that it names, not only those of its table; grant and order bound how many.
    The key is drawn anew when more than half of the items are new.
"""

import hashlib
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nodes.contract import voprf
from nodes.contract.group import rbcl
from nodes.contract.messages import RefusalCode
from nodes.contract.voprf import ELEMENT_BYTES, OPRF_MODE
from nodes.privacy.oprf import EvaluationKey, evaluate_input
from nodes.privacy.ot import exactly
from nodes.privacy.psi_kkrt import SIZE_MAX, Items
from nodes.tasks.party import Channel
from nodes.tasks.spec import TaskRefusedError

TAG_BYTES = 12
"""2**27 items against 2**27 others meet by chance with probability below 2**-42."""

ASKED_MAX = 2**20
_NAME_BYTES = 16
_MAGIC = b"SFPSI1"
_HEAD = struct.Struct(">6s32s32sQ")
_HELLO, _WANTED, _TAGS = "psip.hello", "psip.wanted", "psip.tags"
_BLINDED, _EVALUATED = "psip.blinded", "psip.evaluated"


@dataclass(frozen=True, slots=True, repr=False)
class Prepared:
    """The holder's side, computed. Its repr shows nothing.

    Attributes:
        key: of the function.
        token: of the table's state this was made from, 32 bytes.
        names: shape ``(n, 16)``: digests of the items under a key derived from ``key``, to know them again.
        tags: shape ``(n, 12)``, one per item; both in the order of the tags' bytes.
    """

    key: EvaluationKey
    token: bytes
    names: NDArray[np.uint8]
    tags: NDArray[np.uint8]

    def __repr__(self) -> str:
        return "Prepared()"


def prepare(items: Items, token: bytes, before: Prepared | None) -> Prepared:
    """Compute what is not computed yet; about 0.07 ms of processor time per new item."""
    from nodes.privacy import kernels

    def names_under(key: EvaluationKey) -> NDArray[np.uint8]:
        salt = hashlib.sha256(b"shufang/v1/psi-prepared" + key.secret).digest()
        digests = kernels.digest_items(items.data, items.offsets, salt)[:, :2]
        return np.ascontiguousarray(digests).view(np.uint8).reshape(-1, _NAME_BYTES)

    known = np.full(len(items), -1, np.int64)
    key = before.key if before is not None else EvaluationKey.generate()
    names = names_under(key)
    if before is not None:
        known = kernels.find(names, before.names)
        if int((known < 0).sum()) * 2 > len(items):
            key, known = EvaluationKey.generate(), np.full(len(items), -1, np.int64)
            names = names_under(key)
    tags = np.empty((len(items), TAG_BYTES), np.uint8)
    if before is not None:
        tags[known >= 0] = before.tags[known[known >= 0]]
    data, offsets = items.data.tobytes(), items.offsets.tolist()
    for row in np.flatnonzero(known < 0).tolist():
        value = evaluate_input(key, data[offsets[row] : offsets[row + 1]], mode=OPRF_MODE)
        tags[row] = np.frombuffer(value, np.uint8, TAG_BYTES)
    # In the order of the tags' bytes, so that nothing tells which item each belongs to.
    order = np.argsort(tags.view(f"V{TAG_BYTES}").ravel())
    return Prepared(key, token, names[order], tags[order])


def load(path: Path) -> Prepared | None:
    """Return what ``store`` wrote, or None."""
    try:
        data = path.read_bytes()
        magic, secret, token, count = _HEAD.unpack_from(data)
        if magic != _MAGIC or len(data) != _HEAD.size + count * (_NAME_BYTES + TAG_BYTES):
            return None
    except (OSError, struct.error):
        return None
    names = np.frombuffer(data, np.uint8, count * _NAME_BYTES, _HEAD.size).reshape(-1, _NAME_BYTES)
    tags = np.frombuffer(data, np.uint8, count * TAG_BYTES, _HEAD.size + count * _NAME_BYTES).reshape(-1, TAG_BYTES)
    return Prepared(EvaluationKey(secret), token, names, tags)


def store(path: Path, prepared: Prepared) -> None:
    """Write with mode 0600, whole or not at all; the folder is made with mode 0700."""
    head = _HEAD.pack(_MAGIC, prepared.key.secret, prepared.token, len(prepared.tags))
    write_private(path, head + prepared.names.tobytes() + prepared.tags.tobytes())


def write_private(path: Path, data: bytes) -> None:
    """Write a file of this node alone."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    draft = path.with_suffix(".draft")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
    draft.replace(path)


def answer(channel: Channel, key: EvaluationKey, tags: bytes) -> int:
    """Be the holder; return how many items were asked.

    Args:
        channel: to an asker that runs ``ask``.
        key: of the tags.
        tags: sorted, 12 bytes each.

    Raises:
        TaskRefusedError, BadElementError: the peer broke the protocol.
    """
    channel.send(_HELLO, hashlib.sha256(tags).digest() + (len(tags) // TAG_BYTES).to_bytes(8, "big"))
    if exactly(channel, _WANTED, 1) == b"\x01":
        channel.send(_TAGS, tags)
    data = channel.receive(_BLINDED, size_max=ASKED_MAX * ELEMENT_BYTES)
    blinded = _elements(data)
    if not blinded:
        raise TaskRefusedError(RefusalCode.TASK_PROTOCOL, f"expected 1 to {ASKED_MAX} elements")
    channel.send(_EVALUATED, b"".join(voprf.multiply(key.secret, element) for element in blinded))
    return len(blinded)


def ask(channel: Channel, items: Items, copy: Path) -> NDArray[np.bool_]:
    """Learn which of ``items`` the holder has.

    Args:
        channel: to a holder that runs ``answer``.
        items: own items, each once, at most ``ASKED_MAX``.
        copy: file of this node for the holder's tags.

    Returns:
        Shape ``(n,)``: whether the holder has the item.

    Raises:
        TaskRefusedError, BadElementError: too many items, or the peer broke the protocol.
    """
    if not 1 <= len(items) <= ASKED_MAX:
        raise TaskRefusedError(RefusalCode.RESOURCE_ROWS, f"expected 1 to {ASKED_MAX} items; use mode intersection")
    hello = exactly(channel, _HELLO, 40)
    version, count = hello[:32], int.from_bytes(hello[32:], "big")
    if not 1 <= count <= SIZE_MAX:
        raise TaskRefusedError(RefusalCode.TASK_PROTOCOL, f"expected a set of 1 to {SIZE_MAX} items")
    tags = _copied(copy, version, count)
    channel.send(_WANTED, b"\x01" if tags is None else b"\x00")
    if tags is None:
        data = exactly(channel, _TAGS, count * TAG_BYTES)
        if hashlib.sha256(data).digest() != version:
            raise TaskRefusedError(RefusalCode.TASK_PROTOCOL, "expected the tags that the holder announced")
        write_private(copy, version + data)
        tags = np.frombuffer(data, f"V{TAG_BYTES}")
    inputs = _inputs(items)
    secrets_ = [bytes(rbcl.crypto_core_ristretto255_scalar_random()) for _ in inputs]
    blinded = [
        voprf.multiply(secret, voprf.hash_to_group(data, mode=OPRF_MODE))
        for secret, data in zip(secrets_, inputs, strict=True)
    ]
    channel.send(_BLINDED, b"".join(blinded))
    evaluated = _elements(exactly(channel, _EVALUATED, len(inputs) * ELEMENT_BYTES))
    values = []
    for secret, data, element in zip(secrets_, inputs, evaluated, strict=True):
        back = bytes(rbcl.crypto_core_ristretto255_scalar_invert(secret))
        values.append(voprf.output(data, voprf.multiply(back, element))[:TAG_BYTES])
    return _among(values, tags)


def _copied(copy: Path, version: bytes, count: int) -> NDArray[np.void] | None:
    """Return the kept tags if they are of this version; the file is only looked into where needed."""
    try:
        with copy.open("rb") as file:
            if file.read(32) != version or copy.stat().st_size != 32 + count * TAG_BYTES:
                return None
        return np.memmap(copy, f"V{TAG_BYTES}", "r", 32)
    except OSError:
        return None


def _among(values: Sequence[bytes], tags: NDArray[np.void]) -> NDArray[np.bool_]:
    """Return which values are among sorted tags."""
    found = np.zeros(len(values), np.bool_)
    for row, value in enumerate(values):
        low, high = 0, len(tags)
        while low < high:
            middle = (low + high) // 2
            if tags[middle].tobytes() < value:
                low = middle + 1
            else:
                high = middle
        found[row] = low < len(tags) and tags[low].tobytes() == value
    return found


def _inputs(items: Items) -> list[bytes]:
    data, offsets = items.data.tobytes(), items.offsets.tolist()
    return [data[start:end] for start, end in pairwise(offsets)]


def _elements(data: bytes) -> list[bytes]:
    if len(data) % ELEMENT_BYTES:
        raise TaskRefusedError(RefusalCode.TASK_PROTOCOL, "expected whole elements")
    return [voprf.require_element(data[start : start + ELEMENT_BYTES]) for start in range(0, len(data), ELEMENT_BYTES)]
