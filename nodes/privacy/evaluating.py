"""Evaluates many inputs of a register in processes of their own, so that the agent stays free.

``python -m nodes.privacy.evaluating`` reads parts of a register, each behind the key, from its standard
input and writes tag and cover key of each record to its standard output, until the input ends. It
opens no file and no connection.

Privacy:
    Key and inputs pass through pipes between processes of one node, never through an argument.
"""

import os
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Self

from nodes.contract.tasks.match import TAG_BYTES, cover_key
from nodes.privacy.oprf import EvaluationKey, evaluate_input

VALUE_BYTES = TAG_BYTES + 16
"""Tag and cover key."""
IN_PROCESS_MAX = 2_000
"""Up to this many are evaluated in the calling process, in about 0.15 s."""
PART = 10_000
"""Inputs a process gets at a time."""
_NICE = 10
_LENGTH = struct.Struct(">I")
_HEAD = struct.Struct(">32sI")  # key, bytes of the part


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
    # One process for each core stays for all parts: starting one costs as much as some thousand records.
    starts = range(0, len(inputs), PART)
    waiting = iter(starts)
    parts: dict[int, bytes] = {}
    failed = threading.Event()

    def work() -> None:
        try:
            with _Child(key) as child:
                for start in waiting:
                    if failed.is_set():
                        return
                    parts[start] = child.evaluate(inputs[start : start + PART])
                    done(start, parts[start])
        except BaseException:
            failed.set()
            raise

    count = min(os.cpu_count() or 1, len(starts))
    with ThreadPoolExecutor(count, thread_name_prefix="evaluating") as pool:
        for running in [pool.submit(work) for _ in range(count)]:
            running.result()
    return b"".join(parts[start] for start in starts)


class _Child:
    """A process that evaluates one part after the other under one key; ended with the block."""

    def __init__(self, key: EvaluationKey) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "nodes.privacy.evaluating"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self._key = key.secret

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()  # it holds nothing that would be lost
        self._process.communicate()

    def evaluate(self, inputs: Sequence[bytes]) -> bytes:
        """Return the values of one part.

        Raises:
            OSError: the process ended.
        """
        items = b"".join(_LENGTH.pack(len(item)) + item for item in inputs)
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise ValueError("expected a process with pipes")
        stdin.write(_HEAD.pack(self._key, len(items)) + items)
        stdin.flush()
        values = stdout.read(len(inputs) * VALUE_BYTES)
        if len(values) != len(inputs) * VALUE_BYTES:
            raise OSError(f"a process that prepares the register ended with {self._process.wait()}")
        return values


def _value(key: EvaluationKey, data: bytes) -> bytes:
    output = evaluate_input(key, data)
    return output[:TAG_BYTES] + cover_key(output)


def _items(part: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(part):
        end = at + _LENGTH.size
        at = end + int.from_bytes(part[at:end], "big")
        yield part[end:at]


def main() -> int:
    """Entry point of ``python -m nodes.privacy.evaluating``."""
    os.nice(_NICE)
    source, out = sys.stdin.buffer, sys.stdout.buffer
    while head := source.read(_HEAD.size):
        secret, size = _HEAD.unpack(head)
        key = EvaluationKey(secret)
        for data in _items(source.read(size)):
            out.write(_value(key, data))
        out.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
