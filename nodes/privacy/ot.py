"""Oblivious transfer of seeds: the sender ends with two per transfer, the receiver with the one it chose.

Source:
    Chou and Orlandi, "The Simplest Protocol for Oblivious Transfer", LATINCRYPT 2015, section 3, over
    ristretto255 (RFC 9496), against semi-honest parties. The key of a transfer is hashed with its number and
    both public elements, as there.

Privacy:
    The sender sees elements that are uniform whatever the receiver chose; the receiver learns one seed of each
    pair, the other one is as hard as computational Diffie-Hellman.
"""

import hashlib
import os

import numpy as np
from numpy.typing import NDArray

from nodes.contract import voprf
from nodes.contract.group import rbcl
from nodes.contract.voprf import ELEMENT_BYTES
from nodes.tasks.party import Channel

SEED_BYTES = 16
_POINT, _CHOSEN = "ot.point", "ot.chosen"


def send_seeds(channel: Channel, count: int) -> list[tuple[bytes, bytes]]:
    """Be the sender of ``count`` transfers of random seeds.

    Returns:
        Both seeds of every transfer.

    Raises:
        BadElementError: the peer sent bytes that are no group elements.
        TaskRefusedError: the peer sent another length.
    """
    secret = bytes(rbcl.crypto_core_ristretto255_scalar_random())
    public = bytes(rbcl.crypto_scalarmult_ristretto255_base(secret))
    own = voprf.multiply(secret, public)
    channel.send(_POINT, public)
    data = exactly(channel, _CHOSEN, count * ELEMENT_BYTES)
    seeds = []
    for number in range(count):
        element = voprf.require_element(data[number * ELEMENT_BYTES : (number + 1) * ELEMENT_BYTES])
        shared = voprf.multiply(secret, element)
        other = bytes(rbcl.crypto_core_ristretto255_sub(shared, own))
        seeds.append((_seed(number, public, element, shared), _seed(number, public, element, other)))
    return seeds


def receive_seeds(channel: Channel, choices: NDArray[np.uint8]) -> list[bytes]:
    """Be the receiver.

    Args:
        channel: to the sender.
        choices: 0 or 1 per transfer.

    Returns:
        The chosen seed of every transfer.

    Raises:
        BadElementError: the peer sent bytes that are no group element.
    """
    public = voprf.require_element(exactly(channel, _POINT, ELEMENT_BYTES))
    chosen, seeds = [], []
    for number, choice in enumerate(choices.tolist()):
        secret = bytes(rbcl.crypto_core_ristretto255_scalar_random())
        element = bytes(rbcl.crypto_scalarmult_ristretto255_base(secret))
        if choice:
            element = bytes(rbcl.crypto_core_ristretto255_add(element, public))
        chosen.append(element)
        seeds.append(_seed(number, public, element, voprf.multiply(secret, public)))
    channel.send(_CHOSEN, b"".join(chosen))
    return seeds


def random_choices(count: int) -> NDArray[np.uint8]:
    """Return ``count`` random bits."""
    return np.unpackbits(np.frombuffer(os.urandom(-(-count // 8)), np.uint8), bitorder="little")[:count]


def exactly(channel: Channel, label: str, size: int) -> bytes:
    """Receive a message of exactly ``size`` bytes.

    Raises:
        TaskRefusedError: longer or shorter.
    """
    from nodes.contract.messages import RefusalCode
    from nodes.tasks.spec import TaskRefusedError

    data = channel.receive(label, size_max=size)
    if len(data) != size:
        raise TaskRefusedError(RefusalCode.TASK_PROTOCOL, f"expected {size} bytes of {label}, got {len(data)}")
    return data


def _seed(number: int, public: bytes, element: bytes, shared: bytes) -> bytes:
    digest = hashlib.sha256(b"shufang/v1/ot" + number.to_bytes(4, "big") + public + element + shared)
    return digest.digest()[:SEED_BYTES]
