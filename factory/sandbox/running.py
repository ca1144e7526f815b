"""One run in a sandbox: a work area that lives as long as the run, a confined process, and a signed deletion record.

    sandbox/work/<run>/in/     the granted inputs, to read
    sandbox/work/<run>/area/   all that the code may write; ``out/`` in it is what it wants to keep
    sandbox/held/<sandbox>/    what ``out/`` held, by digest, until somebody decides
    sandbox/deleted/<run>      the signed record of every file that was in the work area

Privacy:
    The code sees the granted inputs and nothing else of the machine; its prints are a file of the work area.
    What it wrote is held unseen. The record of a run holds digests, counts and attempted paths.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from factory.deletion import DELETION
from factory.files import write_atomic
from factory.identity import Identity
from factory.sandbox import launch
from factory.sandbox.errors import SandboxInputError, SandboxUnusableError
from nodes.contract.signing import sha256_hex, sign
from nodes.contract.statement import PAYLOAD_TYPE, statement, time_text

ATTEMPTS_MAX = 100
"""Most attempts that one run puts into the log."""
OUT_BYTES_MAX, OUT_FILES_MAX = 64 * 2**20, 100
"""Most that a run may leave in ``out/``."""
_LIBRARIES = ("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/etc/ld.so.cache", "/usr/share/zoneinfo")


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a run may use.

    Attributes:
        wall_s, cpu_s: seconds.
        memory_bytes, file_bytes: address space, and largest file.
    """

    wall_s: int = 600
    cpu_s: int = 600
    memory_bytes: int = 4 * 2**30
    file_bytes: int = OUT_BYTES_MAX


@dataclass(frozen=True, slots=True)
class Ran:
    """What a run did.

    Attributes:
        exit_code: of the script; negative: ended by that signal.
        attempts: what was tried and refused, as the interpreter saw it, each ``event target``.
        held: digest per name of what it wrote into ``out/``.
        deletion: signed record of every file that was in the work area.
    """

    exit_code: int
    attempts: tuple[str, ...]
    held: Mapping[str, str]
    deletion: bytes


def run_confined(
    identity: Identity,
    run: str,
    script: bytes,
    inputs: Mapping[str, bytes],
    *,
    sandbox: str,
    now: datetime,
    bounds: Bounds | None = None,
) -> Ran:
    """Run a script over its inputs, keep what it wrote into ``out/`` as held, delete the rest and sign for it.

    Args:
        identity: the operator's home.
        run: name of the run.
        script: Python source.
        inputs: content by name.
        sandbox: name of the sandbox.
        now: clock.
        bounds: what the run may use.

    Raises:
        SandboxUnusableError: this machine cannot confine; nothing was run.
        SandboxInputError: the run left more than it may, or something that is no plain file; all of it was deleted.
    """
    place = identity.home / "sandbox" / "work" / run
    area, given = place / "area", place / "in"
    for folder in (given, area / "out"):
        folder.mkdir(mode=0o700, parents=True)
    try:
        for name, content in inputs.items():
            (given / name).write_bytes(content)
        (area / "script.py").write_bytes(script)
        exit_code, attempts = _confined(area, given, bounds or Bounds())
        _reopen(place)
        held = _hold(area / "out", identity.home / "sandbox" / "held" / sandbox)
    finally:
        deletion = remove(identity, place, run=run, now=now)
    return Ran(exit_code, attempts, held, deletion)


def remove(identity: Identity, place: Path, *, run: str, now: datetime) -> bytes:
    """Delete a work area and return the signed record of what was in it; also written to ``sandbox/deleted/``.

    The record is on disk before the files go, so that a kill leaves none unrecorded.
    """
    _reopen(place)
    files = [path for path in sorted(place.rglob("*")) if path.is_file() and not path.is_symlink()]
    subjects = [(path.relative_to(place).as_posix(), sha256_hex(path.read_bytes())) for path in files]
    said = {"run": run, "deleted_at": time_text(now), "files": len(files)}
    record = statement(DELETION, subjects or [("nothing", sha256_hex(b""))], said)
    envelope = sign(identity.key, PAYLOAD_TYPE, record).to_bytes()
    folder = identity.home / "sandbox" / "deleted"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomic(folder / f"{run}.dsse.json", envelope)
    shutil.rmtree(place)
    return envelope


def left_over(identity: Identity) -> list[Path]:
    """Return work areas that a kill left behind."""
    folder = identity.home / "sandbox" / "work"
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _confined(area: Path, given: Path, bounds: Bounds) -> tuple[int, tuple[str, ...]]:
    inside, outside = os.pipe()
    told = {
        "read": _readable(), "inputs": str(given), "work": str(area), "script": str(area / "script.py"),
        "report": outside,
        "limits": {
            "cpu_s": bounds.cpu_s, "memory_bytes": bounds.memory_bytes, "file_bytes": bounds.file_bytes,
        },
    }  # fmt: skip
    command = [sys.executable, "-I", "-B", launch.__file__, json.dumps(told)]
    environment = {
        "SANDBOX_INPUTS": str(given), "SANDBOX_OUT": str(area / "out"), "HOME": str(area), "TMPDIR": str(area),
        "LANG": "C.UTF-8",
    }  # fmt: skip
    with os.fdopen(inside, "rb", buffering=0) as reading, (area / "prints.txt").open("wb") as prints:
        os.set_blocking(inside, False)
        process = subprocess.Popen(
            command, env=environment, cwd=area, pass_fds=[outside], start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=prints, stderr=prints,
        )  # fmt: skip
        os.close(outside)
        try:
            process.wait(bounds.wall_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        lines = (reading.read() or b"").splitlines()
    attempts = tuple(_attempt(line) for line in lines[:ATTEMPTS_MAX])
    if process.returncode == launch.UNUSABLE and attempts and attempts[0].startswith("unusable"):
        raise SandboxUnusableError(
            f"expected a machine that can confine code ({attempts[0]}); it takes Linux 6.2 or newer with landlock and "
            "seccomp on x86_64 or aarch64"
        )
    return process.returncode, attempts


def _reopen(place: Path) -> None:
    """Take back rights that the code took from its own folders and files; links are left alone."""
    for folder, folders, files in os.walk(place):
        for name in folders:
            (Path(folder) / name).chmod(0o700)
        for name in files:
            path = Path(folder) / name
            if not path.is_symlink():
                path.chmod(0o600)


def _readable() -> list[str]:
    paths = {sys.prefix, sys.base_prefix, sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), *_LIBRARIES}
    return sorted({os.path.realpath(path) for path in paths})


def _attempt(line: bytes) -> str:
    with contextlib.suppress(ValueError, TypeError, KeyError):
        told = json.loads(line)
        return f"{str(told['what'])[:40]} {str(told['target'])[:200]}".strip()
    return "unreadable"


def _hold(out: Path, folder: Path) -> dict[str, str]:
    """Move what a run wrote to where it waits; plain files alone."""
    found = sorted(out.rglob("*"))
    files = [path for path in found if path.is_file() and not path.is_symlink()]
    if len(files) != len(found) or len(files) > OUT_FILES_MAX:
        raise SandboxInputError(f"expected at most {OUT_FILES_MAX} plain files in out/, without folders or links")
    if sum(path.stat().st_size for path in files) > OUT_BYTES_MAX:
        raise SandboxInputError(f"expected at most {OUT_BYTES_MAX} bytes in out/")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    held = {}
    for path in files:
        content = path.read_bytes()
        held[path.name] = sha256_hex(content)
        write_atomic(folder / held[path.name], content, mode=0o600)
    return held
