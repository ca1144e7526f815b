"""The relay over real TLS: who gets in, what is refused, and how all go on after a restart."""

import dataclasses
import http.client
import json
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from factory.hub.bus import NodeUnreachableError
from factory.hub.relay import RelaySettings, RelayStartError
from factory.hub.relay_bus import RelayBus
from nodes.contract import wire
from nodes.contract.frames import RelayRefusedError
from nodes.contract.messages import Step, encode
from nodes.contract.parameters import LIMITS
from nodes.contract.signing import sign
from nodes.relay_client import RelayClient, RelayListener, serve
from tests.unit.hub.certificates import NOW, Authority, new_key
from tests.unit.hub.relays import RelayHouse

KEY = new_key()
QUERY = wire.pack(sign(KEY, "application/vnd.shufang.query.v1+json", b"{}"))


def step(session: str, sender: str, recipient: str, sequence: int = 1) -> bytes:
    return encode(
        Step(
            session_id=session,
            order_sha256="0" * 64,
            sequence=sequence,
            kind="echo",
            sender=sender,
            recipient=recipient,
            body={},
            issued_at=NOW,
        ),
        KEY,
    )


@pytest.fixture
def house(tmp_path: Path) -> Iterator[RelayHouse]:
    relay_house = RelayHouse(tmp_path)
    yield relay_house
    relay_house.stop()


@contextmanager
def node(house: RelayHouse, name: str, handler=lambda parcel: parcel) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=serve, args=(house.settings(name), handler, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)
        assert not thread.is_alive()


@contextmanager
def bus(house: RelayHouse, name: str = "operator") -> Iterator[RelayBus]:
    relay_bus = RelayBus(name, house.settings(name))
    try:
        yield relay_bus
    finally:
        relay_bus.close()


@pytest.mark.requirement("PC-CHANNEL")
def test_what_is_not_tls_or_has_no_certificate_is_refused_and_written_down(
    house: RelayHouse, caplog: pytest.LogCaptureFixture
) -> None:
    plain = http.client.HTTPConnection("127.0.0.1", house.port, timeout=5)
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        plain.request("GET", "/v1/health")
        plain.getresponse()
    plain.close()
    context = ssl.create_default_context(cafile=str(house.authority.ca_path))
    bare = http.client.HTTPSConnection("127.0.0.1", house.port, context=context, timeout=5)
    with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
        bare.request("GET", "/v1/health")
        bare.getresponse()
    bare.close()
    with RelayClient(house.settings("operator")) as client:
        client.health()
    told = [record.message for record in caplog.records if record.name == "factory.hub.relay"]
    assert [message.partition(": ")[0] for message in told] == ["refused a connection"] * 2
    assert len(set(told)) == 2


@pytest.mark.requirement("PC-CHANNEL")
def test_a_caller_without_certificate_is_not_let_in(house: RelayHouse) -> None:
    context = ssl.create_default_context(cafile=str(house.authority.ca_path))
    connection = http.client.HTTPSConnection("127.0.0.1", house.port, context=context, timeout=5)
    with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
        connection.request("GET", "/v1/health")
        connection.getresponse()
    connection.close()


@pytest.mark.requirement("PC-CHANNEL")
def test_a_certificate_of_another_authority_is_not_let_in(house: RelayHouse, tmp_path: Path) -> None:
    foreign = Authority(tmp_path / "foreign").issue("operator")
    settings = dataclasses.replace(house.settings("operator"), cert_path=foreign.cert_path, key_path=foreign.key_path)
    with RelayClient(settings) as client, pytest.raises(httpx.HTTPError):
        client.health()


@pytest.mark.requirement("PC-CHANNEL")
def test_a_relay_of_another_authority_is_not_trusted(house: RelayHouse, tmp_path: Path) -> None:
    settings = dataclasses.replace(house.settings("operator"), ca_path=Authority(tmp_path / "foreign").ca_path)
    with RelayClient(settings) as client, pytest.raises(httpx.ConnectError):
        client.health()


def test_a_key_the_agency_does_not_list_is_refused(house: RelayHouse) -> None:
    stranger = house.authority.issue("stranger")
    settings = dataclasses.replace(house.settings("operator"), cert_path=stranger.cert_path, key_path=stranger.key_path)
    with RelayClient(settings) as client, pytest.raises(RelayRefusedError) as refused:
        client.health()
    assert refused.value.status == 403


def test_an_actor_that_was_removed_is_refused_while_others_go_on(house: RelayHouse) -> None:
    with RelayClient(house.settings("node-west")) as west, RelayClient(house.settings("node-east")) as east:
        west.health()
        house.write_actors("operator", "node-east", "node-north", "agency", "unit-1")
        time.sleep(1.1)
        east.health()
        with pytest.raises(RelayRefusedError) as refused:
            west.health()
    assert refused.value.status == 403


@pytest.mark.parametrize("name", ["unit-1", "node-east"])
def test_only_an_operator_opens_sessions(house: RelayHouse, name: str) -> None:
    with RelayClient(house.settings(name)) as client, pytest.raises(RelayRefusedError) as refused:
        client.put_session("s-1", {name, "node-west"}, 60)
    assert refused.value.status == 403


def test_an_application_unit_may_open_a_control_session_with_the_agency_alone(house: RelayHouse) -> None:
    with RelayClient(house.settings("unit-1")) as client:
        client.put_session("control.unit-1.agency", {"unit-1", "agency"}, 60)
        with pytest.raises(RelayRefusedError) as refused:
            client.put_session("control.unit-1.node-east", {"unit-1", "node-east"}, 60)
    assert refused.value.status == 403


def test_a_frame_over_the_limit_is_refused_before_it_is_sent(house: RelayHouse) -> None:
    with RelayClient(house.settings("operator")) as client, pytest.raises(RelayRefusedError) as refused:
        client.exchange("s-1", "node-east", "c", 1, bytes(LIMITS.frame_bytes_max + 1), deadline=time.monotonic() + 1)
    assert refused.value.status == 413


def test_a_request_that_announces_too_much_is_refused_without_reading_it(house: RelayHouse) -> None:
    identity = house.identities["operator"]
    context = ssl.create_default_context(cafile=str(house.authority.ca_path))
    context.load_cert_chain(identity.cert_path, identity.key_path)
    connection = http.client.HTTPSConnection("127.0.0.1", house.port, context=context, timeout=5)
    connection.putrequest("POST", "/v1/sessions/s-1/asks/node-east/c/1")
    connection.putheader("Content-Length", str(LIMITS.frame_bytes_max + 1))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/sessions/s-1/asks/node-east/c/0"),
        ("POST", "/v1/sessions/s-1/asks/node-east/c/x"),
        ("GET", "/v1/frames?busy=x"),
        ("GET", "/v1/frames?wait_s=soon"),
        ("POST", "/v1/sessions/S%201/asks/node-east/c/1"),
    ],
)
def test_malformed_requests_are_refused(house: RelayHouse, method: str, path: str) -> None:
    with RelayClient(house.settings("operator")) as client:
        assert client._http.request(method, path, content=b"x" if method == "POST" else None).status_code == 400


def test_a_relay_without_its_list_of_actors_does_not_start(tmp_path: Path) -> None:
    settings = tmp_path / "relay.toml"
    settings.write_text("[relay]\nport = 0\n")
    with pytest.raises(RelayStartError, match=r"relay\.toml"):
        RelaySettings.read(settings)


def test_a_restart_of_the_relay_costs_time_and_nothing_else(house: RelayHouse) -> None:
    answers: list[bytes] = []
    with node(house, "node-east"), bus(house) as operator:
        assert operator.ask("node-east", QUERY, timeout_s=5) == QUERY
        house.stop()
        asking = threading.Thread(target=lambda: answers.append(operator.ask("node-east", QUERY, timeout_s=20)))
        asking.start()
        time.sleep(0.3)
        house.start()
        asking.join(20)
    assert answers == [QUERY]


def test_a_parcel_taken_by_a_node_that_died_is_handed_to_its_successor(house: RelayHouse) -> None:
    answers: list[bytes] = []
    dying = RelayListener(house.settings("node-east"))
    with bus(house) as operator:
        asking = threading.Thread(target=lambda: answers.append(operator.ask("node-east", QUERY, timeout_s=20)))
        asking.start()
        assert [frame.body for frame in dying.fetch((), wait_s=5)] == [QUERY]
        dying.close()
        with node(house, "node-east"):
            asking.join(20)
    assert answers == [QUERY]


def test_an_asker_that_restarted_starts_afresh(house: RelayHouse) -> None:
    with node(house, "node-east"):
        for _ in range(2):
            with bus(house) as operator:
                assert operator.ask("node-east", QUERY, timeout_s=5) == QUERY


def test_steps_of_one_session_are_handled_one_after_the_other(house: RelayHouse) -> None:
    inside, most, lock = [0], [0], threading.Lock()

    def handler(parcel: bytes) -> bytes:
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        time.sleep(0.02)
        with lock:
            inside[0] -= 1
        return parcel

    with node(house, "node-east", handler), bus(house) as operator:
        threads = [
            threading.Thread(
                target=operator.ask,
                args=("node-east", step("s-1", "operator", "node-east", n)),
                kwargs={"timeout_s": 10},
            )
            for n in range(1, 9)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(15)
    assert most == [1]


def test_a_session_that_hangs_does_not_block_another(house: RelayHouse) -> None:
    hang = threading.Event()

    def handler(parcel: bytes) -> bytes:
        if b"s-slow" in wire.unpack(parcel)[0].payload:
            hang.wait(20)
        return parcel

    with node(house, "node-east", handler), bus(house) as operator:
        slow = threading.Thread(
            target=operator.ask, args=("node-east", step("s-slow", "operator", "node-east")), kwargs={"timeout_s": 20}
        )
        slow.start()
        time.sleep(0.1)
        started = time.monotonic()
        for number in range(1, 6):
            operator.ask("node-east", step("s-quick", "operator", "node-east", number), timeout_s=5)
        assert time.monotonic() - started < 2
        hang.set()
        slow.join(20)


def test_an_application_unit_asks_in_a_session_the_operator_opened_even_after_a_restart(house: RelayHouse) -> None:
    asked = step("s-1", "unit-1", "node-east")
    with node(house, "node-east"), bus(house) as operator, bus(house, "unit-1") as unit:
        with pytest.raises(NodeUnreachableError):
            unit.ask("node-east", asked, timeout_s=0.5)
        operator.open_session("s-1", {"node-east", "unit-1"})
        assert unit.ask("node-east", asked, timeout_s=5) == asked
        house.stop()
        house.start()
        assert unit.ask("node-east", asked, timeout_s=20) == asked
        operator.close_session("s-1")
        with pytest.raises(NodeUnreachableError, match="410"):
            unit.ask("node-east", asked, timeout_s=2)


def test_a_node_that_is_away_does_not_fill_the_relay(house: RelayHouse) -> None:
    with bus(house) as operator:
        for _ in range(5):
            with pytest.raises(NodeUnreachableError):
                operator.ask("node-north", QUERY, timeout_s=0.05)
        listener = RelayListener(house.settings("node-north"))
        assert listener.fetch((), wait_s=0.05) == []
        listener.close()


def test_an_idle_upload_blocks_nobody(house: RelayHouse) -> None:
    identity = house.identities["unit-1"]
    context = ssl.create_default_context(cafile=str(house.authority.ca_path))
    context.load_cert_chain(identity.cert_path, identity.key_path)
    connection = http.client.HTTPSConnection("127.0.0.1", house.port, context=context, timeout=5)
    connection.putrequest("PUT", "/v1/sessions/control.unit-1.agency")
    connection.putheader("Content-Length", "1000")
    connection.endheaders()
    connection.send(json.dumps({"parties": []}).encode())
    with node(house, "node-east"), bus(house) as operator:
        assert operator.ask("node-east", QUERY, timeout_s=5) == QUERY
    connection.close()


def test_the_client_does_not_follow_proxies_of_the_environment(
    house: RelayHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    with RelayClient(house.settings("operator")) as client:
        assert client.health()


def test_the_relay_as_a_process_names_its_port_ends_on_sigterm_and_refuses_a_taken_port(
    house: RelayHouse, tmp_path: Path
) -> None:
    server = house.authority.issue("relay-2", server=True)

    def settings(port: int) -> Path:
        path = tmp_path / f"relay-{port}.toml"
        path.write_text(
            f'[relay]\nport = {port}\ncert_path = "{server.cert_path}"\nkey_path = "{server.key_path}"\n'
            'ca_path = "ca.crt"\nactors_path = "actors.json"\nport_path = "relay.port"\n'
        )
        return path

    taken = subprocess.run(
        [sys.executable, "-m", "factory.hub.relay", "--settings", str(settings(house.port))],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert taken.returncode == 1
    assert taken.stderr.splitlines()[-1].startswith("hub.relay_start: expected a usable certificate and a free port")
    process = subprocess.Popen(
        [sys.executable, "-m", "factory.hub.relay", "--settings", str(settings(0))], stderr=subprocess.DEVNULL
    )
    try:
        ends_at = time.monotonic() + 20
        while not (tmp_path / "relay.port").exists():
            assert time.monotonic() < ends_at
            time.sleep(0.05)
        port = int((tmp_path / "relay.port").read_text())
        with RelayClient(dataclasses.replace(house.settings("operator"), url=f"https://127.0.0.1:{port}")) as client:
            assert client.health()
            rss_kb = int(
                next(
                    line
                    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines()
                    if line.startswith("VmRSS")
                ).split()[1]
            )
            assert rss_kb < 90_000
    finally:
        process.terminate()
        assert process.wait(10) == 0
