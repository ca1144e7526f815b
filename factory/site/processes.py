"""Small things that starting and awaiting our own processes needs."""

import os
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from factory.errors import FactoryError


class ProcessFailedError(FactoryError):
    """A command of ours ended with an error, or a process did not come up in time."""

    code = "site.process"


def run_module(module: str, *arguments: str, timeout_s: float = 120.0, accept: tuple[int, ...] = (0,)) -> str:
    """Run one of our commands in its own process and return what it printed.

    Args:
        module: as after ``python -m``.
        arguments: of the command; never a secret.
        timeout_s: longest run.
        accept: exit codes that are results; 1 is a negative verdict.

    Raises:
        ProcessFailedError: it ended with another code; the message holds its last lines.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", module, *arguments],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            encoding="utf-8",
            errors="replace",
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        raise ProcessFailedError(
            f"expected {module} {' '.join(arguments[:2])} to end within {timeout_s:g} s; is the machine busy? "
            "run it again"
        ) from None
    if done.returncode not in accept:
        tail = "\n".join((done.stderr or done.stdout).strip().splitlines()[-6:])
        raise ProcessFailedError(f"{module} {' '.join(arguments[:3])} ended with {done.returncode}: {tail}")
    return done.stdout


def run_modules(commands: Sequence[tuple[str, ...]], *, timeout_s: float = 120.0) -> list[str]:
    """Run several commands at the same time and return what each printed, in order.

    Raises:
        ProcessFailedError: one of them failed; the others have ended too.
    """
    from concurrent.futures import ThreadPoolExecutor

    if not commands:
        return []
    with ThreadPoolExecutor(max_workers=min(len(commands), 2 * (os.cpu_count() or 2))) as pool:
        futures = [pool.submit(run_module, command[0], *command[1:], timeout_s=timeout_s) for command in commands]
        return [future.result() for future in futures]


def start_module(module: str, *arguments: str, log: Path) -> "subprocess.Popen[bytes]":
    """Start one of our services; its output goes to ``log``. Whoever starts it ends it, by its pid."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )


def end_process(process: "subprocess.Popen[bytes]", *, timeout_s: float = 8.0) -> None:
    """End a process we started: SIGTERM, then SIGKILL."""
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_until(what: str, is_ready: Callable[[], bool], *, timeout_s: float = 30.0, every_s: float = 0.05) -> None:
    """Wait until ``is_ready`` says so.

    Raises:
        ProcessFailedError: it did not in time.
    """
    deadline = time.monotonic() + timeout_s
    while not is_ready():
        if time.monotonic() > deadline:
            raise ProcessFailedError(f"expected {what} within {timeout_s:g} s; look into its log")
        time.sleep(every_s)


def free_port() -> int:
    """Return a port on the loopback that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def quoted(path: Path) -> str:
    """Return a path as it is typed into a shell."""
    return shlex.quote(str(path))
