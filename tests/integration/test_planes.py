"""The Flower plane as real processes: foreign code, a closed front door, and what survives a kill."""

import hashlib
import io
import signal
import ssl
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from factory.hub.bundle import contract_bundle
from factory.hub.bus import NodeUnreachableError
from factory.hub.flower_bus import FlowerBus, FlowerRun, HubControl
from nodes.contract.parameters import BUNDLE_SHA256, PARCEL_MESSAGE_TYPE
from nodes.flower_runtime import to_record
from tests.unit.hub.certificates import hub_key
from tests.unit.hub.hubs import HubHouse, wait_for

pytestmark = pytest.mark.slow


class Handler:
    """Echoes; keeps what reached it."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []
        self.hold = threading.Event()
        self.hold.set()

    def __call__(self, parcel: bytes) -> bytes:
        if parcel == b"fail":
            raise ValueError("canary-310101199001011237")
        self.seen.append(parcel)
        self.hold.wait(30)
        return parcel


@pytest.fixture(scope="module")
def handler() -> Handler:
    return Handler()


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, handler: Handler) -> Iterator[HubHouse]:
    house = HubHouse(tmp_path_factory.mktemp("hub"))
    try:
        house.add_node("node-east", handler)
        house.wait_online()
        yield house
    finally:
        house.close()


@pytest.fixture
def bus(hub: HubHouse) -> Iterator[FlowerBus]:
    flower_bus = FlowerBus(hub.settings, hub.spki_of)
    yield flower_bus
    flower_bus.close()


def number_of(hub: HubHouse) -> int:
    with HubControl(hub.settings) as control:
        return next(node.number for node in control.nodes() if node.spki == hub.spki_of["node-east"])


def first_reply(run: FlowerRun, message_id: str) -> object:
    replies: dict[str, object] = {}

    def came() -> bool:
        replies.update(run.replies([message_id], timeout_s=5))
        return bool(replies)

    wait_for(came, what="a reply")
    return replies[message_id]


def with_code() -> bytes:
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(contract_bundle())) as original,
        zipfile.ZipFile(buffer, "w") as altered,
    ):
        altered.writestr("pyproject.toml", original.read("pyproject.toml"))
        altered.writestr("contract.py", "open('/tmp/shipped-code-ran', 'w').close()\n")
        altered.writestr(".info/CONTENT", original.read(".info/CONTENT"))
    return buffer.getvalue()


@pytest.mark.requirement("PC-TOOLS")
def test_a_run_with_other_code_reaches_no_handler_and_is_reported(hub: HubHouse, handler: Handler) -> None:
    bundle = with_code()
    digest = hashlib.sha256(bundle).hexdigest()
    before = len(handler.seen)
    run = FlowerRun(hub.settings, bundle=bundle, digest_hex=digest)
    number = number_of(hub)
    reply = first_reply(run, run.send(number, to_record(b"x"), message_type=PARCEL_MESSAGE_TYPE, ttl_s=30))
    run.close()
    assert (reply.code, reply.reason) == (6, "refused")
    assert ("node-east", digest, "the bundle is not the contract's") in hub.foreign
    assert len(handler.seen) == before
    assert not Path("/tmp/shipped-code-ran").exists()


def test_a_message_of_another_type_or_content_is_refused_and_reported(hub: HubHouse, handler: Handler) -> None:
    from flwr.app import ConfigRecord, RecordDict

    before = len(handler.seen)
    run = FlowerRun(hub.settings, bundle=contract_bundle(), digest_hex=BUNDLE_SHA256)
    number = number_of(hub)
    other_type = run.send(number, to_record(b"x"), message_type="query.other", ttl_s=30)
    other_content = run.send(
        number, RecordDict({"config": ConfigRecord({"a": 1})}), message_type=PARCEL_MESSAGE_TYPE, ttl_s=30
    )
    assert first_reply(run, other_type).code == 6
    assert first_reply(run, other_content).code == 6
    run.close()
    reasons = [reason for _, _, reason in hub.foreign]
    assert "the message type is not the contract's" in reasons
    assert "the message holds no parcel (contract.malformed)" in reasons
    assert len(handler.seen) == before


def test_a_handler_that_fails_tells_the_hub_a_number_and_nothing_else(hub: HubHouse, caplog) -> None:
    run = FlowerRun(hub.settings, bundle=contract_bundle(), digest_hex=BUNDLE_SHA256)
    sent = run.send(number_of(hub), to_record(b"fail"), message_type=PARCEL_MESSAGE_TYPE, ttl_s=30)
    reply = first_reply(run, sent)
    run.close()
    assert reply.code == 2
    assert len(reply.reason) == len("reference 01234567")
    assert "canary" not in caplog.text


def test_the_public_door_opens_to_nothing_but_the_fleet_interface(hub: HubHouse) -> None:
    with httpx.Client(
        base_url=f"https://127.0.0.1:{hub.public}",
        verify=ssl.create_default_context(cafile=str(hub.authority.ca_path)),
        trust_env=False,
    ) as client:
        assert client.get("/health").status_code == 200
        for path in (
            "/v1/control/start-run",
            "/v1/control/list-nodes",
            "/v1/runtime/acquire-task",
            "/v1/fleet/register-node",
            "/v1/fleet/unregister-node",
            "/v1/fleet/../control/start-run",
            "/v1/fleet/%2e%2e/control/start-run",
            "/docs",
        ):
            assert client.post(path, content=b"").status_code == 404, path


def test_the_private_door_asks_for_credentials(hub: HubHouse) -> None:
    from flwr.supercore.protobuf.constants import PROTOBUF_MEDIA_TYPE

    with httpx.Client(
        base_url=f"https://127.0.0.1:{hub.private}",
        verify=ssl.create_default_context(cafile=str(hub.authority.ca_path)),
        trust_env=False,
    ) as client:
        headers = {"content-type": PROTOBUF_MEDIA_TYPE, "accept": PROTOBUF_MEDIA_TYPE}
        for path in ("/v1/control/start-run", "/v1/control/list-nodes", "/v1/runtime/acquire-task"):
            assert client.post(path, content=b"", headers=headers).status_code == 401, path


def test_a_node_whose_key_the_operator_did_not_register_is_not_found(hub: HubHouse, tmp_path: Path) -> None:
    import base64

    stranger = base64.b64decode(hub_key(tmp_path / "stranger.pem"))
    bus = FlowerBus(hub.settings, {"node-west": stranger})
    with pytest.raises(NodeUnreachableError, match="no node with its key"):
        bus.ask("node-west", b"a", timeout_s=1.5)
    bus.close()


def test_registering_twice_is_harmless_and_an_unregistered_node_is_gone(hub: HubHouse, tmp_path: Path) -> None:
    import base64

    spki = base64.b64decode(hub_key(tmp_path / "other.pem"))
    control = HubControl(hub.settings)
    assert control.register("other", spki) == control.register("other", spki)
    control.unregister(spki)
    assert spki not in {node.spki for node in control.nodes()}
    control.close()


def test_every_process_connects_to_the_loopback_alone(hub: HubHouse, bus: FlowerBus) -> None:
    assert bus.ask("node-east", b"look", timeout_s=30) == b"look"
    for process in hub.processes.values():
        for table in ("tcp", "tcp6", "udp", "udp6"):
            sockets = {link.readlink().name for link in Path(f"/proc/{process.pid}/fd").iterdir() if link.is_symlink()}
            for line in Path(f"/proc/{process.pid}/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if f"socket:[{fields[9]}]" in sockets:
                    for address in fields[1:3]:
                        assert address.split(":")[0] in {"0100007F", "00000000"}, (table, line)
                        assert not (address is fields[1] and address.startswith("00000000"))


def test_a_supernode_killed_outright_and_started_again_answers_within_seconds(hub: HubHouse, bus: FlowerBus) -> None:
    assert bus.ask("node-east", b"before", timeout_s=30) == b"before"
    settings_arguments = hub.processes["node-east"].args[1:]
    hub.processes["node-east"].send_signal(signal.SIGKILL)
    hub.processes["node-east"].wait(5)
    hub.start("node-east", *settings_arguments)
    started = time.monotonic()
    assert bus.ask("node-east", b"after", timeout_s=60) == b"after"
    assert time.monotonic() - started < 45


def test_a_hub_killed_outright_and_started_again_loses_nothing(hub: HubHouse, bus: FlowerBus) -> None:
    assert bus.ask("node-east", b"one", timeout_s=30) == b"one"
    hub.processes["hub"].send_signal(signal.SIGKILL)
    hub.processes["hub"].wait(5)
    hub.restart_hub()
    assert bus.ask("node-east", b"two", timeout_s=60) == b"two"
