"""Many submitters, one writer: statements wait shortly so that they share a checkpoint.

A batch is written when 256 statements wait, or 2 seconds after its first came, whichever is
sooner. A submitter's future resolves only when its statement is durable.

Source:
    Bounds: PROVENANCE 3.4, batches of at most 256 or 2 s.
"""

import queue
import threading
import time
from concurrent.futures import Future
from types import TracebackType
from typing import Self

from factory.log.log import BATCH_MAX, Log, Submission, entry_of

DELAY_S_MAX = 2.0


class Batcher:
    """Collects submissions for a log that is open for writing. Use as a context manager."""

    def __init__(self, log: Log, *, size_max: int = BATCH_MAX, delay_s_max: float = DELAY_S_MAX) -> None:
        if not 1 <= size_max <= BATCH_MAX:
            raise ValueError(f"expected batches of 1 to {BATCH_MAX} statements")
        self._log = log
        self._size_max = size_max
        self._delay_s_max = delay_s_max
        self._waiting: queue.Queue[tuple[bytes, Future[int]] | None] = queue.Queue(maxsize=4 * BATCH_MAX)
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="log-batcher")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._closed = True
            self._waiting.put(None)
        self._thread.join()

    def submit(self, submission: Submission) -> "Future[int]":
        """Hand in a statement; the future gives its index once it is durable.

        Blocks while four full batches wait.

        Raises:
            LogEntryError: not an envelope that its key signed.
            ValueError: the batcher is closed.
        """
        entry = entry_of(submission)
        future: Future[int] = Future()
        with self._lock:
            if self._closed:
                raise ValueError("expected an open batcher")
            self._waiting.put((entry, future))
        return future

    def _run(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch, ended = self._collect(first)
            futures = [future for _, future in batch]
            try:
                indices = self._log.append_entries([entry for entry, _ in batch])
            except Exception as error:  # noqa: BLE001 - handed to every submitter, nothing is swallowed
                for future in futures:
                    future.set_exception(error)
            else:
                for future, index in zip(futures, indices, strict=True):
                    future.set_result(index)
            if ended:
                return

    def _collect(self, first: tuple[bytes, "Future[int]"]) -> tuple[list[tuple[bytes, "Future[int]"]], bool]:
        """Return the batch that begins with ``first``, and whether the batcher was closed."""
        batch, until = [first], time.monotonic() + self._delay_s_max
        while len(batch) < self._size_max:
            try:
                item = self._waiting.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                return batch, False
            if item is None:
                return batch, True
            batch.append(item)
        return batch, False
