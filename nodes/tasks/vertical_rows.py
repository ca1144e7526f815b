"""The joint rows of a vertical session: which of this node's rows, in which order.

``equal``: the parties' tables are about the same entities, as after an earlier join. The label
party draws a key, everybody sorts its rows by the keyed hash of their identifiers, and digests of
the whole sorted list are compared.

Privacy:
    ``equal`` shows each party one digest of all identifiers of another, under a key of this
    session: whether the sets are the same, and nothing if they are not.
"""

import hashlib
import hmac
import secrets

import numpy as np
from numpy.typing import NDArray

from nodes.contract.messages import RefusalCode
from nodes.contract.tasks.vertical_linear import VerticalLinearParameters
from nodes.tasks.party import Party
from nodes.tasks.spec import TableView, TaskRefusedError

_KEY_BYTES = 32
_SAME, _OTHER = b"same", b"other"


def lead_order(party: Party, view: TableView, parameters: VerticalLinearParameters) -> NDArray[np.int64]:
    """Return the joint order at the label party; places in its own table, shape ``(rows,)``.

    Raises:
        TaskRefusedError: an identifier twice or missing, or another party has other identifiers.
    """
    key = secrets.token_bytes(_KEY_BYTES)
    rows, digest = _sorted(view, parameters.key, key)
    channels = [party.channel(name) for name in parameters.holders]
    for channel in channels:
        channel.send("order-key", key)
    same = [hmac.compare_digest(channel.receive("order-digest", size_max=64), digest) for channel in channels]
    for channel in channels:
        channel.send("order-verdict", _SAME if all(same) else _OTHER)
    if not all(same):
        raise _unequal()
    return rows


def follow_order(party: Party, view: TableView, parameters: VerticalLinearParameters) -> NDArray[np.int64]:
    """Return the joint order at a feature holder; see ``lead_order``."""
    channel = party.channel(parameters.label_party)
    key = channel.receive("order-key", size_max=_KEY_BYTES)
    rows, digest = _sorted(view, parameters.key, key)
    channel.send("order-digest", digest)
    if channel.receive("order-verdict", size_max=64) != _SAME:
        raise _unequal()
    return rows


def _sorted(view: TableView, column: str, key: bytes) -> tuple[NDArray[np.int64], bytes]:
    identifiers = [_text(value) for value in view.frame()[column].tolist()]
    if "" in identifiers or len(set(identifiers)) != len(identifiers):
        raise TaskRefusedError(
            RefusalCode.RESOURCE_ROWS, f"expected every row to have a {column} of its own; filter the rows in the order"
        )
    tags = [hmac.digest(key, text.encode("utf-8"), "sha256") for text in identifiers]
    order = sorted(range(len(tags)), key=tags.__getitem__)
    digest = hashlib.sha256(b"".join(tags[place] for place in order)).digest()
    return np.array(order, dtype=np.int64), digest


def _text(value: object) -> str:
    if value is None or value != value:  # noqa: PLR0124  NaN is the one value that differs from itself
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def _unequal() -> TaskRefusedError:
    return TaskRefusedError(
        RefusalCode.RESOURCE_ROWS,
        'expected the same identifiers at all parties; join the tables first, or order rows = "psi"',
    )
