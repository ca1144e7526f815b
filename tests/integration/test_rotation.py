"""A node's keys are rotated and a node is removed while the others keep working; everything is real."""

import json
import time
from pathlib import Path

import pytest

from factory.hub.bus import NodeUnreachableError
from factory.site.founding import found_site, publish
from factory.site.layout import Site
from factory.site.operator import OperatorDesk
from factory.site.processes import run_module
from factory.site.stack import start_stack, stop_stack
from factory.site.trust import take_trust
from nodes.supervise import stop_supervisor

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("stack")]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    made = Site(tmp_path_factory.mktemp("rotation") / "site")
    found_site(made)
    start_stack(made)
    yield made
    stop_stack(made)


def describe(desk, node):
    return desk.nodes().ask(node, "node.describe").body["node"]


def until(act, *, timeout_s=60.0):
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return act()
        except NodeUnreachableError:
            if time.monotonic() > deadline:
                raise


def test_a_node_changes_its_keys_while_the_others_answer(site: Site, tmp_path: Path) -> None:
    east, west = site.departments[0], site.departments[1]
    home = str(site.node(east))
    with OperatorDesk(site) as desk:
        before = desk.keys()[east.node]
        assert describe(desk, east.node) == east.node
    answer = json.loads(run_module("nodes.cli", "keys", "rotate", "--home", home, "--json"))
    run_module("factory.cli", "agency", "rotate", answer["enrolment"], "--home", str(site.agency))
    publish(site)
    with OperatorDesk(site) as desk:
        assert east.node in take_trust(desk).registered
        assert describe(desk, west.node) == west.node
    run_module("factory.cli", "agency", "response", east.node, "--home", str(site.agency), "--out", str(tmp_path))
    run_module("nodes.cli", "admit-response", str(tmp_path / f"{east.node}.answer.json"), "--home", home)
    assert stop_supervisor(site.node(east) / "run")  # the deployment's supervisor starts it again, with the new keys
    with OperatorDesk(site) as desk:
        assert desk.keys()[east.node] != before
        assert until(lambda: describe(desk, east.node)) == east.node
        assert describe(desk, west.node) == west.node


def test_a_removed_node_is_cut_off_while_the_others_answer(site: Site) -> None:
    north, west = site.departments[2], site.departments[1]
    with OperatorDesk(site) as desk:
        assert describe(desk, north.node) == north.node
    run_module("factory.cli", "agency", "remove", north.node, "--home", str(site.agency))
    publish(site)
    time.sleep(1.1)  # trust data counts by the second
    with OperatorDesk(site) as desk:
        assert take_trust(desk).unregistered >= 1
        with pytest.raises(NodeUnreachableError):
            desk.flower.ask(north.node, b"anything", timeout_s=15.0)
    with OperatorDesk(site) as desk:
        known = desk.keys()
        assert north.node not in known
        assert describe(desk, west.node) == west.node
