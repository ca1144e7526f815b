"""Confines its own process for good, then runs one script in it. A program of its own that imports nothing of ours.

    python -I launch.py '{"read": [...], "work": "...", "script": "...", "report": 3, ...}'

Once confined, the kernel refuses: every file but the interpreter's, the granted inputs (to read) and the work
area; every socket, also one in the file system; every new process or program; looking into other processes. No
right comes back, since privileges are dropped and can never be regained.

What the interpreter sees of such attempts is written to ``report``, one JSON line each, for the log. That is a
courtesy of the interpreter and can be evaded by native code; the refusal cannot.

Source:
    Linux, Documentation/userspace-api/landlock.rst, seccomp_filter.rst and no_new_privs.rst; capset(2).
"""

import ctypes
import json
import os
import platform
import resource
import runpy
import struct
import sys
from typing import Any

UNUSABLE = 70
"""Exit code when this machine cannot confine; nothing of the script has run."""

_libc = ctypes.CDLL(None, use_errno=True)
_NO_NEW_PRIVS, _SECCOMP, _FILTER = 38, 22, 2
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_EPERM, _ENOSYS = 1, 38
_CLONE_THREAD = 0x00010000
_X32 = 0x40000000
# Sockets, processes and programs, and what reaches into other processes or the kernel: numbers per machine.
_DENIED = {
    "x86_64": (41, 57, 58, 59, 62, 101, 200, 248, 249, 250, 298, 310, 311, 321, 322, 323, 424, 425),
    "aarch64": (198, 117, 129, 130, 217, 218, 219, 221, 241, 270, 271, 280, 281, 282, 424, 425),
}
_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_CLONE = {"x86_64": 56, "aarch64": 220}
_CLONE3 = 435
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_READ_FILE, _READ_DIR, _EXECUTE, _WRITE_FILE = 1 << 2, 1 << 3, 1 << 0, 1 << 1
_OF_FILES = _READ_FILE | _EXECUTE | _WRITE_FILE | (1 << 14)


_CALLS = frozenset(
    (
        "socket.__new__", "socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo", "os.system",
        "subprocess.Popen", "os.fork", "os.exec", "os.posix_spawn", "os.kill",
    )
)  # fmt: skip


class Unusable(Exception):  # noqa: N818  never leaves this program
    """The kernel does not offer what confinement needs."""


def confine(read: list[str], inputs: str, work: str) -> None:
    """Give up every right but to read what is listed and to write into the work area."""
    _drop_capabilities()
    if _libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise Unusable("no_new_privs")
    _restrict_files(read, inputs, work)
    _restrict_calls()


def _drop_capabilities() -> None:
    header = struct.pack("Ii", 0x20080522, 0)
    if _libc.capset(header, bytes(24)) != 0:
        raise Unusable("capset")


def _restrict_files(read: list[str], inputs: str, work: str) -> None:
    abi = _libc.syscall(_CREATE_RULESET, None, 0, 1)
    if abi < 3:
        raise Unusable(f"landlock ABI 3, got {abi}")
    every = (1 << (15 if abi < 5 else 16)) - 1
    attributes = struct.pack("QQQ", every, 3 if abi >= 4 else 0, 3 if abi >= 6 else 0)
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    rules = _libc.syscall(_CREATE_RULESET, attributes, size, 0)
    if rules < 0:
        raise Unusable("landlock ruleset")
    for path in read:
        _allow(rules, path, _READ_FILE | _READ_DIR | _EXECUTE)
    for path in ("/dev/null", "/dev/zero", "/dev/urandom"):
        _allow(rules, path, _READ_FILE | _WRITE_FILE)
    _allow(rules, inputs, _READ_FILE | _READ_DIR)
    _allow(rules, work, every & ~_EXECUTE)
    if _libc.syscall(_RESTRICT_SELF, rules, 0) != 0:
        raise Unusable("landlock")
    os.close(rules)


def _allow(rules: int, path: str, rights: int) -> None:
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        kept = rights if os.path.isdir(path) else rights & _OF_FILES  # noqa: PTH112  pathlib is not loaded here
        if _libc.syscall(_ADD_RULE, rules, 1, struct.pack("=Qi", kept, handle), 0) != 0:
            raise Unusable(f"landlock rule for {path}")
    finally:
        os.close(handle)


def _restrict_calls() -> None:
    machine = platform.machine()
    if machine not in _DENIED:
        raise Unusable(f"x86_64 or aarch64, got {machine}")
    load, equal, above, any_bit, give = 0x20, 0x15, 0x35, 0x45, 0x06
    program: list[tuple[int, int, int, int]] = [
        (load, 0, 0, 4), (equal, 1, 0, _ARCH[machine]), (give, 0, 0, _KILL),
        (load, 0, 0, 0), (above, 0, 1, _X32), (give, 0, 0, _ERRNO | _EPERM),
    ]  # fmt: skip
    for number in _DENIED[machine]:
        program += [(equal, 0, 1, number), (give, 0, 0, _ERRNO | _EPERM)]
    program += [(equal, 0, 1, _CLONE3), (give, 0, 0, _ERRNO | _ENOSYS)]  # the C library falls back to clone
    # clone makes threads alone: its flags are the first argument, at offset 16.
    program += [(equal, 0, 3, _CLONE[machine]), (load, 0, 0, 16), (any_bit, 1, 0, _CLONE_THREAD)]
    program += [(give, 0, 0, _ERRNO | _EPERM), (give, 0, 0, _ALLOW)]
    code = b"".join(struct.pack("HBBI", *line) for line in program)
    buffer = ctypes.create_string_buffer(code)
    filters = struct.pack("HxxxxxxQ", len(program), ctypes.addressof(buffer))
    if _libc.prctl(_SECCOMP, _FILTER, filters, 0, 0) != 0:
        raise Unusable("seccomp")


def limit(limits: dict[str, int]) -> None:
    """Bound processor time (s), memory, file size (bytes) and open files; no core files."""
    bounds = {
        resource.RLIMIT_CPU: limits["cpu_s"], resource.RLIMIT_AS: limits["memory_bytes"],
        resource.RLIMIT_FSIZE: limits["file_bytes"], resource.RLIMIT_NOFILE: 256, resource.RLIMIT_CORE: 0,
    }  # fmt: skip
    for what, most in bounds.items():
        hard = resource.getrlimit(what)[1]
        resource.setrlimit(what, (most, most) if hard == resource.RLIM_INFINITY else (min(most, hard),) * 2)


def report_attempts(descriptor: int, readable: list[str], work: str) -> None:
    """Write a line for whatever the interpreter sees tried outside of what is allowed."""
    own = (os.path.realpath(work),)
    both = (*(os.path.realpath(path) for path in readable), *own)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in {"open", "os.listdir", "os.scandir"}:
            _tell_path(descriptor, event, arguments, own if _writes(event, arguments) else both)
        elif event in _CALLS:
            target = arguments[1] if event.startswith(("socket.connect", "socket.bind", "socket.sendto")) else ""
            _tell(descriptor, event, str(arguments[0] if event == "socket.getaddrinfo" else target))

    sys.addaudithook(hook)


def _writes(event: str, arguments: tuple[Any, ...]) -> bool:
    flags = arguments[2] if event == "open" and isinstance(arguments[2], int) else 0
    return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def _tell_path(descriptor: int, event: str, arguments: tuple[Any, ...], allowed: tuple[str, ...]) -> None:
    if not isinstance(arguments[0], str | bytes):
        return
    path = os.path.realpath(os.fsdecode(arguments[0]))
    if not path.startswith("/dev/") and not any(path == root or path.startswith(root + "/") for root in allowed):
        _tell(descriptor, event, path)


def _tell(descriptor: int, what: str, target: str) -> None:
    line = json.dumps({"what": what, "target": target[:200]}).encode() + b"\n"
    try:
        os.write(descriptor, line)
    except OSError:
        return  # the reader has enough


def main() -> None:
    """Confine, then run the script."""
    told = json.loads(sys.argv[1])
    limit(told["limits"])
    os.chdir(told["work"])
    try:
        confine(told["read"], told["inputs"], told["work"])
    except Unusable as error:
        os.write(told["report"], json.dumps({"what": "unusable", "target": str(error)}).encode() + b"\n")
        sys.exit(UNUSABLE)
    report_attempts(told["report"], [*told["read"], told["inputs"]], told["work"])
    sys.argv = [told["script"]]
    runpy.run_path(told["script"], run_name="__main__")


if __name__ == "__main__":
    main()
