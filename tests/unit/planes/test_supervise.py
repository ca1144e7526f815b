"""The supervisor: restarts what dies, ends what it started, and is alone in its folder."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nodes.supervise import Child, Supervisor, SupervisorError, read_status, stop_supervisor

SLEEP = (sys.executable, "-c", "import time; time.sleep(60)")
OWN_PROCESS = """
import sys
from pathlib import Path
from nodes.supervise import Child, Supervisor
sleep = (sys.executable, "-c", "import time; time.sleep(60)")
Supervisor([Child("one", sleep), Child("two", sleep)], Path(sys.argv[1])).run()
"""


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(claim, timeout_s: float = 10.0) -> None:
    ends_at = time.monotonic() + timeout_s
    while not claim():
        assert time.monotonic() < ends_at
        time.sleep(0.02)


def start_own_process(run_dir: Path) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen([sys.executable, "-c", OWN_PROCESS, str(run_dir)])
    wait_for(lambda: (status := read_status(run_dir)) is not None and status.is_healthy)
    return process


def test_a_second_supervisor_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    first = Supervisor([Child("one", SLEEP)], tmp_path)
    first.start()
    try:
        with pytest.raises(SupervisorError, match="one is running"):
            Supervisor([Child("one", SLEEP)], tmp_path).start()
    finally:
        first.stop()


def test_a_program_that_is_not_there_is_named_and_nothing_is_left_running(tmp_path: Path) -> None:
    supervisor = Supervisor([Child("one", SLEEP), Child("two", ("/nowhere/program",))], tmp_path)
    with pytest.raises(SupervisorError, match="/nowhere/program"):
        supervisor.start()
    assert read_status(tmp_path) is None
    assert not any(child.pid for child in supervisor.status().children)


def test_a_child_killed_outright_is_started_again(tmp_path: Path) -> None:
    supervisor = Supervisor([Child("one", SLEEP)], tmp_path)
    supervisor.start()
    try:
        killed = supervisor.status().children[0].pid
        os.kill(killed, signal.SIGKILL)

        def came_back() -> bool:
            supervisor.check()
            return supervisor.status().children[0].pid not in {0, killed}

        wait_for(came_back)
        child = supervisor.status().children[0]
        assert (child.restarts, child.last_exit) == (1, -signal.SIGKILL)
    finally:
        supervisor.stop()


def test_a_child_that_keeps_failing_is_started_ever_more_slowly(tmp_path: Path) -> None:
    supervisor = Supervisor([Child("one", (sys.executable, "-S", "-c", "raise SystemExit(3)"))], tmp_path)
    supervisor.start()
    try:
        ends_at = time.monotonic() + 1.5
        while time.monotonic() < ends_at:
            supervisor.check()
            time.sleep(0.02)
        child = supervisor.status().children[0]
        assert child.last_exit == 3
        assert 1 <= child.restarts <= 3
    finally:
        supervisor.stop()


def test_what_a_child_writes_is_in_its_log_which_only_the_owner_reads(tmp_path: Path) -> None:
    supervisor = Supervisor([Child("one", (sys.executable, "-S", "-c", "print('hello')"), {"A": "b"})], tmp_path)
    supervisor.start()
    log = tmp_path / "logs" / "one.log"
    wait_for(lambda: log.read_text() == "hello\n")
    supervisor.stop()
    assert log.stat().st_mode & 0o777 == 0o600


def test_sigterm_ends_the_supervisor_and_every_child(tmp_path: Path) -> None:
    process = start_own_process(tmp_path)
    pids = [child.pid for child in read_status(tmp_path).children]
    assert stop_supervisor(tmp_path)
    assert process.wait(10) == 0
    assert not any(map(is_alive, pids))
    assert read_status(tmp_path) is None


def test_a_supervisor_killed_outright_leaves_no_child_and_no_lock_behind(tmp_path: Path) -> None:
    process = start_own_process(tmp_path)
    pids = [child.pid for child in read_status(tmp_path).children]
    process.kill()
    process.wait(10)
    wait_for(lambda: not any(map(is_alive, pids)))
    assert read_status(tmp_path) is None
    assert not stop_supervisor(tmp_path)


def test_the_supervisor_stays_light() -> None:
    code = "import sys, nodes.supervise; print(sorted({m.split('.')[0] for m in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"flwr", "pydantic", "httpx", "cryptography", "pandas", "numpy"} & set(
        json.loads(loaded.replace("'", '"'))
    )
