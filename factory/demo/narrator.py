"""Tells what the main job does, step by step: Chinese first, English second, with times."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


class Narrator:
    """Prints numbered steps with their duration; a moving line on a terminal, plain lines elsewhere."""

    def __init__(self, *, out: TextIO | None = None, quiet: bool = False) -> None:
        self._out = out or sys.stdout
        self._quiet = quiet
        self._number = 0
        self._started = time.monotonic()
        self._live = self._out.isatty()
        self._open = ""
        self.timings: list[tuple[str, float]] = []

    @contextmanager
    def step(self, zh: str, en: str) -> Iterator[None]:
        """Announce a step, run it, and say how long it took."""
        self._number += 1
        head = f"[{self._number:2d}] {zh} · {en}"
        self._open = head
        self._write(f"{head} …" if self._live else f"{head}\n", keep=True)
        begun = time.monotonic()
        try:
            yield
        except BaseException:
            self._write("\n" if self._live else "", keep=True)
            raise
        took = time.monotonic() - begun
        self.timings.append((en, took))
        self._write(f"\r\033[K{head}  {took:.1f} s\n" if self._live else f"     {took:.1f} s\n", keep=True)
        self._open = ""

    def progress(self, text: str) -> None:
        """Show how far the open step is; only on a terminal, so that logs stay short."""
        if self._live and self._open:
            self._write(f"\r\033[K{self._open} … {text}"[:200], keep=True)

    def line(self, zh: str, en: str = "") -> None:
        """Say one fact below the open step."""
        text = f"     {zh}" + (f" · {en}" if en else "")
        self._write(f"\r\033[K{text}\n" if self._live else f"{text}\n", keep=True)
        if self._live and self._open:
            self._write(f"{self._open} …", keep=True)

    def plain(self, text: str = "") -> None:
        """Print a line as it is."""
        self._write(f"{text}\n", keep=True)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def _write(self, text: str, *, keep: bool) -> None:
        if keep and not self._quiet:
            self._out.write(text)
            self._out.flush()
