"""The main job, run once under a wire tap; the deployment it leaves, started again; and the same on open tables.

It runs in circumstances that are worse than a user's: without HOME, under LANG=C and LC_ALL=POSIX,
from a folder that cannot be written, without privileges even when root runs the tests, and with
temporary files in a folder of its own, so that what it leaves can be seen.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from tests.tap.recordings import Recording, recordings

ROOT = Path(__file__).parents[2]
TAP = ROOT / "tests" / "tap"
OPEN_DATA = ROOT.parent / "shared" / "data"
JOB_S = 1200
"""Longest run of the main job; two cores take one to three minutes."""


@dataclass
class Surroundings:
    """Where a run happens, and how its commands are started."""

    base: Path
    temporary: Path = field(init=False)
    tap: Path = field(init=False)
    elsewhere: Path = field(init=False)

    def __post_init__(self) -> None:
        self.temporary, self.tap, self.elsewhere = (self.base / name for name in ("tmp", "tap", "elsewhere"))
        for folder in (self.temporary, self.tap, self.elsewhere):
            folder.mkdir()
        self.elsewhere.chmod(0o555)

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables of a command."""
        left_out = ("HOME", "LANG", "LC_CTYPE", "PYTHONUTF8", "PYTHONIOENCODING", "SHUFANG_ROOT", "SHUFANG_NODE_HOME")
        kept = {name: value for name, value in os.environ.items() if name not in left_out}
        return {
            **kept,
            "LANG": "C",
            "LC_ALL": "POSIX",
            "TMPDIR": str(self.temporary),
            "PYTHONPATH": os.pathsep.join((str(TAP), str(ROOT))),  # this checkout, wherever the environment points
            "SHUFANG_TEST_TAP": str(self.tap),
        }

    def run(
        self, program: str, *words: str | Path, timeout_s: float = JOB_S, **changed: str
    ) -> "subprocess.CompletedProcess[str]":
        """Run one of our commands to its end, from a folder that cannot be written."""
        return subprocess.run(
            [*unprivileged(), str(Path(sys.executable).parent / program), *map(str, words)],
            cwd=self.elsewhere,
            env={**self.environment, **changed},
            capture_output=True,
            encoding="utf-8",
            stdin=subprocess.DEVNULL,
            timeout=timeout_s,
            check=False,
        )

    def json(self, program: str, *words: str | Path) -> Any:
        """Run one of our commands, which must succeed, and return the last line of its JSON."""
        done = self.run(program, *words, "--json")
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout)


@dataclass
class MainJob(Surroundings):
    """A finished run of the main job."""

    data: Path | None = None
    done: "subprocess.CompletedProcess[str]" = field(init=False)
    seen: list[Recording] = field(init=False)
    """What the processes of the run did; those started later are not in it."""
    survivors: list[Recording] = field(init=False)
    """Processes that were there when the command had ended."""
    left_over: list[str] = field(init=False)
    """What was in the folder of temporary files when the command had ended."""

    @property
    def out(self) -> Path:
        """Where everything went."""
        return self.base / "out"

    def go(self) -> None:
        """Run it."""
        options = ("--data", self.data) if self.data else ()
        self.done = self.run("shufang", "demo", "--out", self.out, *options)
        self.seen = recordings(self.tap)
        self.survivors = [recording for recording in self.seen if is_running(recording)]
        self.left_over = sorted(path.name for path in self.temporary.iterdir())

    @cached_property
    def summary(self) -> dict[str, Any]:
        """``demo.json``."""
        found: dict[str, Any] = json.loads((self.out / "demo.json").read_text("utf-8"))
        return found

    @property
    def packages(self) -> dict[str, Path]:
        """Package per form."""
        return {form: Path(path) for form, path in self.summary["packages"].items()}

    @property
    def root_sha256(self) -> str:
        """The pin that verifies the packages."""
        return (self.out / "trust-root.sha256").read_text().strip()

    @property
    def node_homes(self) -> list[Path]:
        """Homes of the nodes."""
        return sorted((self.out / "nodes").iterdir())

    @cached_property
    def planted(self) -> set[str]:
        """The values that were planted to be looked for."""
        files = (self.out / "planted").glob("*.json")
        return {text for path in files for texts in json.loads(path.read_text("utf-8")).values() for text in texts}

    @property
    def hub_port(self) -> int:
        """The hub's public port."""
        return int(self._hub()["hub"]["port"])

    @property
    def relay_port(self) -> int:
        """The relay's port."""
        return int(self._hub()["relay"]["port"])

    def _hub(self) -> dict[str, Any]:
        import tomllib

        return tomllib.loads((self.out / "operator" / "hub" / "hub.toml").read_text("utf-8"))


def unprivileged() -> list[str]:
    """Return what takes the privileges of root away, when root runs the tests."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        return []
    return ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]


def end_left_over(job: MainJob) -> None:
    """End what a failed run left; each by its own process id."""
    for recording in recordings(job.tap):
        if is_running(recording):
            os.kill(recording.pid, signal.SIGKILL)


def is_running(recording: Recording) -> bool:
    """Tell whether this very process still runs (its number may have gone to another)."""
    try:
        words = (Path("/proc") / str(recording.pid) / "cmdline").read_bytes().decode("utf-8", "surrogateescape")
    except OSError:
        return False
    return bool(recording.words) and tuple(words.rstrip("\0").split("\0"))[1:] == recording.words[1:]


def _job(base: Path, data: Path | None = None) -> Iterator[MainJob]:
    job = MainJob(base, data)
    try:
        job.go()
        yield job
    finally:
        end_left_over(job)


@pytest.fixture(scope="session")
def main_job(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MainJob]:
    """The main job on the built-in tables."""
    yield from _job(tmp_path_factory.mktemp("job"))


@pytest.fixture(scope="session")
def open_job(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MainJob]:
    """The main job on open tables; skipped where they are not."""
    if not OPEN_DATA.is_dir():
        pytest.skip(f"there are no open tables in {OPEN_DATA.name}/ beside the repository")
    yield from _job(tmp_path_factory.mktemp("open"), OPEN_DATA)
