"""The trial's bus: bytes are counted, and a process that has ended is known at once."""

import subprocess
import sys
import threading
import time

import pytest

from factory.hub.bus import NodeUnreachableError
from factory.trial.bus import TrialBus


class Echo:
    """Answers with the parcel twice; never, for a node called ``silent``."""

    def __init__(self):
        self.closed = threading.Event()

    def ask(self, node, parcel, *, timeout_s):
        if node == "silent":
            self.closed.wait(timeout_s)
            raise NodeUnreachableError("no answer")
        if node == "broken":
            raise ValueError("broken")
        return parcel * 2

    def ask_all(self, parcels, *, timeout_s):
        raise NotImplementedError

    def close(self):
        self.closed.set()


@pytest.fixture
def counted():
    return []


@pytest.fixture
def bus(counted):
    ended = subprocess.Popen([sys.executable, "-S", "-c", ""])
    ended.wait()
    made = TrialBus("operator", Echo(), {"silent": ended}, lambda party, sent: counted.append((party, sent)))
    yield made
    made.close()


def test_a_node_whose_process_has_ended_does_not_hold_up_the_others(bus):
    began = time.monotonic()
    answers = bus.ask_all({"silent": b"1", "east": b"22"}, timeout_s=30)
    assert time.monotonic() - began < 5
    assert isinstance(answers["silent"], NodeUnreachableError)
    assert answers["east"] == b"2222"


def test_asking_an_ended_node_alone_raises(bus):
    with pytest.raises(NodeUnreachableError, match="silent has ended"):
        bus.ask("silent", b"1", timeout_s=30)


def test_an_error_of_the_bus_below_is_not_taken_for_silence(bus):
    with pytest.raises(ValueError, match="broken"):
        bus.ask("broken", b"1", timeout_s=5)


def test_what_each_side_sends_is_counted(bus, counted):
    assert bus.ask("east", b"22", timeout_s=5) == b"2222"
    assert counted == [("operator", 2), ("east", 4)]
