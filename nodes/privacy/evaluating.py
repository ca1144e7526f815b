"""Evaluates many inputs of a register in processes of their own, so that the agent stays free.

``python -m nodes.privacy.evaluating`` reads a key and inputs from its standard input and
writes tag and cover key of each to its standard output. It opens no file and no connection.

Privacy:
    Key and inputs pass through pipes between processes of one node, never through an argument.
"""

import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO

from nodes.contract.tasks.match import TAG_BYTES, cover_key
from nodes.privacy.oprf import EvaluationKey, evaluate_input

VALUE_BYTES = TAG_BYTES + 16
"""Tag and cover key."""
IN_PROCESS_MAX = 2_000
"""Up to this many are evaluated in the calling process, in about 0.15 s."""
PART = 20_000
_NICE = 10


def evaluate_many(
    key: EvaluationKey, inputs: Sequence[bytes], *, done: Callable[[int, bytes], None] = lambda _start, _values: None
) -> bytes:
    """Return the values of all inputs, ``VALUE_BYTES`` each, in their order.

    Args:
        key: of the register.
        inputs: what records became.
        done: told (position of the first, values) of every finished part, from several threads.

    Raises:
        OSError: a process could not be started, or ended early.
    """
    if len(inputs) <= IN_PROCESS_MAX:
        values = b"".join(map(lambda data: _value(key, data), inputs))  # noqa: C417
        done(0, values)
        return values
    starts = range(0, len(inputs), PART)
    parts: dict[int, bytes] = {}

    def one(start: int) -> None:
        parts[start] = _in_child(key, inputs[start : start + PART])
        done(start, parts[start])

    with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="evaluating") as pool:
        for _ in pool.map(one, starts):
            pass
    return b"".join(parts[start] for start in starts)


def _in_child(key: EvaluationKey, inputs: Sequence[bytes]) -> bytes:
    data = b"".join((key.secret, *(struct.pack(">I", len(item)) + item for item in inputs)))
    child = subprocess.run(
        [sys.executable, "-P", "-m", "nodes.privacy.evaluating"], input=data, capture_output=True, check=False
    )
    if child.returncode or len(child.stdout) != len(inputs) * VALUE_BYTES:
        raise OSError(f"a process that prepares the register ended with {child.returncode}")
    return child.stdout


def _value(key: EvaluationKey, data: bytes) -> bytes:
    output = evaluate_input(key, data)
    return output[:TAG_BYTES] + cover_key(output)


def _items(stream: BinaryIO) -> Iterator[bytes]:
    while head := stream.read(4):
        yield stream.read(struct.unpack(">I", head)[0])


def main() -> int:
    """Entry point of ``python -m nodes.privacy.evaluating``."""
    os.nice(_NICE)
    key = EvaluationKey(sys.stdin.buffer.read(32))
    out = sys.stdout.buffer
    for data in _items(sys.stdin.buffer):
        out.write(_value(key, data))
    return 0


if __name__ == "__main__":
    sys.exit(main())
