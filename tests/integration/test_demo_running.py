"""The deployment of the main job, started again: what is shipped to its nodes, who is killed, who listens."""

import hashlib
import io
import os
import signal
import threading
import time
import zipfile
from pathlib import Path

import psutil
import pytest

from factory.hub.bundle import contract_bundle
from factory.hub.flower_bus import FlowerRun, HubControl
from factory.hub.superlink import HubSettings
from factory.release.nodes import NodeDesk
from factory.site.founding import open_site
from factory.site.operator import OperatorDesk
from nodes.contract.parameters import PARCEL_MESSAGE_TYPE
from nodes.flower_runtime import to_record
from nodes.supervise import read_status
from tests.integration.test_demo_run import secrets_of

pytestmark = [pytest.mark.xdist_group("demo"), pytest.mark.slow]
MARK = Path("/tmp/shipped-code-ran-in-the-main-job")


@pytest.fixture(scope="module")
def site(main_job):
    main_job.json("shufang", "up", "--home", main_job.out)
    yield open_site(main_job.out)
    assert main_job.json("shufang", "down", "--home", main_job.out) == {"stopped": True}
    assert main_job.run("shufang", "status", "--home", main_job.out, timeout_s=60).returncode == 1


@pytest.fixture
def desk(site):
    with OperatorDesk(site) as opened:
        yield opened


def pid_of(folder: Path, name: str) -> int:
    return await_value(
        lambda: next((c.pid for c in (read_status(folder) or EMPTY).children if c.name == name and c.pid), None),
        what=f"{name} running",
    )


class EMPTY:
    children = ()


def await_value(ask, *, what: str, seconds: float = 60.0):
    ends_at = time.monotonic() + seconds
    while (found := ask()) is None:
        assert time.monotonic() < ends_at, f"expected {what} within {seconds} s"
        time.sleep(0.1)
    return found


def describe_all(nodes: NodeDesk, site) -> dict[str, list[str]]:
    return {
        d.node: sorted(entry["id"] for entry in nodes.ask(d.node, "node.describe").body["resources"])
        for d in site.departments
    }


def over_relay(desk: OperatorDesk) -> NodeDesk:
    return NodeDesk(desk.relay, desk.identity.id, desk.identity.key, desk.keys())


def bundle_with_code() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(contract_bundle())) as original, zipfile.ZipFile(buffer, "w") as altered:
        project = original.read("pyproject.toml").replace(b"contract:none", b"contract:app")
        altered.writestr("pyproject.toml", project)
        altered.writestr("contract.py", f"open({str(MARK)!r}, 'w').close()\napp = None\n")
        altered.writestr(".info/CONTENT", original.read(".info/CONTENT"))
    return buffer.getvalue()


def ledger(main_job, node: str, kind: str) -> list[dict]:
    entries = main_job.json(
        "shufang-node", "ledger", "list", "--last", "100000", "--home", main_job.out / "nodes" / node
    )
    return [entry for entry in entries if entry["kind"] == kind]


def test_a_bundle_with_code_is_refused_by_every_node_and_is_in_its_ledger(main_job, site, desk):
    settings = HubSettings.read(site.hub_settings)
    bundle = bundle_with_code()
    digest = hashlib.sha256(bundle).hexdigest()
    with HubControl(settings) as control:
        numbers = [node.number for node in control.nodes()]
    assert len(numbers) == len(site.departments)
    run = FlowerRun(settings, bundle=bundle, digest_hex=digest)
    try:
        sent = [run.send(n, to_record(b"x"), message_type=PARCEL_MESSAGE_TYPE, ttl_s=60) for n in numbers]
        replies: dict = {}
        await_value(
            lambda: replies.update(run.replies(set(sent) - set(replies), timeout_s=5)) or len(replies) == 3 or None,
            what="an answer of every node",
        )
    finally:
        run.close()
    assert [(reply.code, reply.reason) for reply in replies.values()] == [(6, "refused")] * 3
    for department in site.departments:
        assert digest in str(ledger(main_job, department.node, "bundle.foreign")[-1]["facts"])
    assert not MARK.exists()
    assert len(describe_all(desk.nodes(), site)) == 3


@pytest.mark.parametrize("name", ["agent", "supernode"])
def test_a_killed_process_of_a_node_comes_back_and_answers_on_both_planes(site, desk, name):
    before = describe_all(desk.nodes(), site)
    run = site.node(site.departments[1]) / "run"
    killed = pid_of(run, name)
    os.kill(killed, signal.SIGKILL)
    assert describe_all(desk.nodes(), site) == before
    assert describe_all(over_relay(desk), site) == before
    assert pid_of(run, name) != killed


def test_a_node_whose_supervisor_is_killed_comes_back_whole(site, desk):
    before = describe_all(desk.nodes(), site)
    department = site.departments[0]
    run = site.node(department) / "run"
    old = {name: pid_of(run, name) for name in ("agent", "supernode")}
    os.kill(pid_of(site.run, department.node), signal.SIGKILL)
    await_value(lambda: None if any(map(psutil.pid_exists, old.values())) else True, what="the end of its children")
    assert describe_all(desk.nodes(), site) == before
    assert describe_all(over_relay(desk), site) == before


def test_a_relay_that_is_killed_while_it_is_asked_answers_afterwards(site, desk):
    before = describe_all(over_relay(desk), site)
    killed = pid_of(site.run, "relay")
    timer = threading.Timer(0.05, os.kill, (killed, signal.SIGKILL))
    timer.start()
    asked = 0
    while timer.is_alive() or asked < 2:
        assert describe_all(over_relay(desk), site) == before
        asked += 1
    assert pid_of(site.run, "relay") != killed


def test_a_bus_that_was_open_when_the_hub_was_killed_carries_on(site, desk):
    """The hub comes back on another private port."""
    before = describe_all(desk.nodes(), site)
    killed, ports = pid_of(site.run, "hub"), HubSettings.read(site.hub_settings).ports()
    os.kill(killed, signal.SIGKILL)
    assert describe_all(desk.nodes(), site) == before
    assert pid_of(site.run, "hub") != killed
    assert HubSettings.read(site.hub_settings).ports() != ports


@pytest.mark.parametrize("delay_s", [0.1, 0.15, 0.2])
def test_a_node_that_is_asked_while_the_hub_is_killed_answers_in_the_end(site, desk, delay_s):
    """Also when half of the message had reached the hub."""
    before = describe_all(desk.nodes(), site)
    timer = threading.Timer(delay_s, os.kill, (pid_of(site.run, "hub"), signal.SIGKILL))
    timer.start()
    assert describe_all(desk.nodes(), site) == before
    timer.join()


def test_the_agency_answers_after_it_was_killed(main_job, site, desk):
    killed = pid_of(site.run, "agency")
    os.kill(killed, signal.SIGKILL)
    grant_id = f"req-{probe_scenario(main_job)}"
    assert len(desk.agency().fetch_grant(grant_id)) >= 2
    assert pid_of(site.run, "agency") != killed


def probe_scenario(main_job) -> str:
    import tomllib

    text = (main_job.out / "operator" / "requests" / "model.toml").read_text("utf-8")
    return str(tomllib.loads(text)["scenario"])


def test_nothing_listens_off_the_loopback_and_no_environment_holds_a_secret(main_job, site):
    supervisor = psutil.Process(read_status(site.run).pid)
    processes = [supervisor, *supervisor.children(recursive=True)]
    assert len(processes) == 1 + 4 + 3 * len(site.departments)
    listening = set()
    for process in processes:
        for connection in process.net_connections("inet"):
            assert connection.laddr.ip in {"127.0.0.1", "::1"}
            assert not connection.raddr or connection.raddr.ip in {"127.0.0.1", "::1"}
            if connection.status == psutil.CONN_LISTEN:
                listening.add(connection.laddr.port)
    assert {main_job.hub_port, main_job.relay_port} <= listening
    words = "\n".join(f"{' '.join(p.cmdline())} {p.environ()}" for p in processes)
    assert "SHUFANG_TEST_TAP" in words
    for path, forms in secrets_of(main_job.out):
        assert [form for form in forms if form in words] == [], path


def test_every_ledger_still_verifies_after_all_that(main_job, site, desk):
    assert len(describe_all(desk.nodes(), site)) == 3
    for home in main_job.node_homes:
        assert main_job.json("shufang-node", "ledger", "verify", "--home", home)["valid"]


def test_a_node_opens_no_port_but_its_runner_on_the_loopback(site):
    for department in site.departments:
        supervisor = psutil.Process(pid_of(site.run, department.node))
        ports = [
            connection.laddr.port
            for process in [supervisor, *supervisor.children(recursive=True)]
            for connection in process.net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        ]
        assert ports == [int((site.node(department) / "flower" / "runner.port").read_text())]
