"""Every bus keeps the same promises: local, relay and Flower, over real TLS on free ports."""

import threading
import time
from collections.abc import Iterator

import pytest

from factory.hub.bus import NodeBus, NodeUnreachableError
from factory.hub.flower_bus import FlowerBus
from factory.hub.local_bus import LocalBus
from factory.hub.relay_bus import RelayBus
from nodes.contract import wire
from nodes.contract.signing import sign
from nodes.relay_client import serve
from tests.unit.hub.certificates import new_key
from tests.unit.hub.hubs import HubHouse
from tests.unit.hub.relays import RelayHouse

KEY = new_key()
NODES = ("node-east", "node-west", "node-north")


def parcel(text: str, *attachments: bytes) -> bytes:
    return wire.pack(sign(KEY, "application/vnd.shufang.query.v1+json", b'{"text":"%s"}' % text.encode()), attachments)


class Node:
    """Echoes a parcel; what it does with some payloads is part of the tests."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []
        self.released = threading.Event()

    def handle(self, received: bytes) -> bytes:
        envelope, _ = wire.unpack(received)
        self.seen.append(envelope.payload)
        if b"refuse" in envelope.payload:
            return wire.pack(sign(KEY, "application/vnd.shufang.refusal.v1+json", b'{"code":"grant.unknown"}'))
        if b"silent" in envelope.payload:
            self.released.wait(20)
        return received


class Plane:
    """A bus with nodes behind it; ``node-gone`` is known to nobody."""

    def __init__(self, bus: NodeBus, nodes: dict[str, Node]) -> None:
        self.bus = bus
        self.nodes = nodes


@pytest.fixture(scope="module", params=["local", "relay", pytest.param("flower", marks=pytest.mark.slow)])
def plane(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    nodes = {name: Node() for name in NODES}
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "local":
        bus: NodeBus = LocalBus({name: node.handle for name, node in nodes.items()})
        yield Plane(bus, nodes)
        bus.close()
    elif request.param == "relay":
        house, stop = RelayHouse(folder), threading.Event()
        threads = [
            threading.Thread(target=serve, args=(house.settings(name), node.handle, stop), daemon=True)
            for name, node in nodes.items()
        ]
        for thread in threads:
            thread.start()
        bus = RelayBus("operator", house.settings("operator"))
        yield Plane(bus, nodes)
        bus.close()
        stop.set()
        house.stop()
        for thread in threads:
            thread.join(5)
    else:
        hub = HubHouse(folder)
        try:
            for name, node in nodes.items():
                hub.add_node(name, node.handle)
            hub.wait_online()
            bus = FlowerBus(hub.settings, hub.spki_of)
            yield Plane(bus, nodes)
            bus.close()
        finally:
            for node in nodes.values():
                node.released.set()
            hub.close()


class TestEveryBus:
    def test_a_node_nobody_knows_is_unreachable(self, plane: Plane) -> None:
        with pytest.raises(NodeUnreachableError, match="node-gone"):
            plane.bus.ask("node-gone", parcel("a"), timeout_s=0.3)

    def test_a_node_that_does_not_answer_does_not_fail_the_others(self, plane: Plane) -> None:
        sent = {"node-east": parcel("b"), "node-gone": parcel("b")}
        answers = plane.bus.ask_all(sent, timeout_s=3)
        assert answers["node-east"] == sent["node-east"]
        assert isinstance(answers["node-gone"], NodeUnreachableError)

    def test_the_reply_is_what_the_node_answered(self, plane: Plane) -> None:
        sent = parcel("c")
        assert plane.bus.ask("node-east", sent, timeout_s=20) == sent
        assert plane.nodes["node-east"].seen[-1] == b'{"text":"c"}'

    def test_a_refusal_passes_like_any_reply(self, plane: Plane) -> None:
        envelope, _ = wire.unpack(plane.bus.ask("node-west", parcel("refuse"), timeout_s=20))
        assert envelope.payload == b'{"code":"grant.unknown"}'

    def test_a_large_parcel_arrives_whole_and_returns_whole(self, plane: Plane) -> None:
        large = parcel("large", bytes(range(256)) * 40_000)
        assert plane.bus.ask("node-east", large, timeout_s=60) == large

    def test_the_same_bytes_may_be_sent_again(self, plane: Plane) -> None:
        again = parcel("again")
        assert [plane.bus.ask("node-west", again, timeout_s=20) for _ in range(2)] == [again, again]

    def test_all_nodes_are_asked_at_the_same_time(self, plane: Plane) -> None:
        sent = {name: parcel("all-" + name) for name in NODES}
        assert plane.bus.ask_all(sent, timeout_s=30) == sent

    def test_a_silent_node_does_not_keep_another_from_answering(self, plane: Plane) -> None:
        silent = threading.Thread(target=self._ask_silent, args=(plane,))
        silent.start()
        try:
            quick = parcel("quick")
            started = time.monotonic()
            assert plane.bus.ask("node-east", quick, timeout_s=20) == quick
            assert time.monotonic() - started < 5
        finally:
            plane.nodes["node-north"].released.set()
            silent.join(30)
        assert not silent.is_alive()

    @staticmethod
    def _ask_silent(plane: Plane) -> None:
        plane.bus.ask("node-north", parcel("silent"), timeout_s=25)
