"""Acceptance of the platform's own security: protection grades of nodes, and controls over the data's whole life."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from factory import cli
from factory.agency.errors import AdmissionRefusedError
from factory.agency.interface import make_test, record_interface, take_answer
from factory.agency.protection import record_protection
from factory.law import sources
from factory.law.compliance import Results, matrix, to_json
from factory.law.errors import TableError
from factory.law.pages import page
from factory.law.table import STAGES, load_table, read_stages
from nodes import cli as node_cli
from nodes.contract.enrolment import open_enrolment
from nodes.contract.errors import UnknownActorError
from nodes.contract.interface import InterfaceAnswer, InterfaceTest, verdicts
from nodes.contract.messages import parse
from nodes.contract.signing import sha256_hex, sign
from nodes.contract.statement import PAYLOAD_TYPE, statement
from nodes.enrolment import init_home
from nodes.keys import load_keys
from nodes.settings import NodeSettings
from tests import offices
from tests.node_world import CANARY_ID, CANARY_NAME, write_table
from tests.town import run


@pytest.fixture
def world(tmp_path):
    made = offices.world(tmp_path)
    made.publish()
    return made


def enrolment(world, name, *, passed=True):
    node = offices.person(world.folder, name, f"org-{name}", "node", root=world.office.root())
    bundle = (node.home / "enrolment.json").read_bytes()
    if passed:
        record_interface(world.office.identity, open_enrolment(bundle), answer=b"passed", now=world.office.now())
    return bundle


def record(world, node, **changes):
    said = {
        "grade": 3, "report": b"tested", "tester": "tester", "official": "o", "now": world.office.now(),
        "until": world.office.now() + timedelta(days=30), **changes,
    }  # fmt: skip
    return record_protection(world.office.identity, node, **said)


@pytest.mark.requirement("SEC-MLPS")
def test_a_node_without_grade_and_valid_report_does_not_join(world, tmp_path):
    bundle = enrolment(world, "node-east")
    refused = lambda: pytest.raises(AdmissionRefusedError, match="protection grade and test report")  # noqa: E731
    with refused():
        world.office.admit(bundle)
    now = world.office.now()
    for wrong in ({"grade": 0}, {"grade": 6}, {"report": b""}, {"tester": " "}, {"official": ""}, {"until": now}):
        with pytest.raises(AdmissionRefusedError):
            record(world, "node-east", **wrong)
        with refused():
            world.office.admit(bundle)
    other = record(world, "node-west")
    path = record(world, "node-east")
    good = path.read_bytes()
    path.write_bytes(other.read_bytes())  # the record of another node
    with refused():
        world.office.admit(bundle)
    forged = statement(
        "urn:shufang:predicate:protection-grade/v1", [("node/node-east", "ab" * 32)], {"node": "node-east"}
    )
    path.write_bytes(sign(world.registrars[0].key, PAYLOAD_TYPE, forged).to_bytes())
    with refused():
        world.office.admit(bundle)
    path.write_bytes(good)
    world.at(now + timedelta(days=30))
    with pytest.raises(AdmissionRefusedError, match="lapsed"):
        world.office.admit(bundle)
    world.at(now)
    world.office.admit(bundle)
    world.publish()
    assert world.office.trust().actors.find("node-east", role="node", moment=now)


@pytest.mark.requirement("SEC-MLPS")
def test_a_node_s_part_ends_with_its_report_by_the_signed_list_alone_and_goes_on_with_a_new_one(world):
    now = world.office.now()
    record(world, "node-east")
    world.office.admit(enrolment(world, "node-east"))
    world.publish()
    actors = world.office.trust().actors  # what every party holds; nobody is asked
    assert actors.find("node-east", role="node", moment=now + timedelta(days=30, seconds=-1))
    with pytest.raises(UnknownActorError):
        actors.find("node-east", role="node", moment=now + timedelta(days=30))


@pytest.mark.requirement("SEC-MLPS")
def test_the_command_records_and_refuses_a_report_that_is_not_there(world, tmp_path):
    world.office.identity.home.joinpath("registry.db").unlink(missing_ok=True)
    report = tmp_path / "report.pdf"
    words = ["agency", "protection", "node-east", "node-west", "--report", report, "--tester", "t", "--official", "o"]
    words += ["--home", world.office.home, "--json"]
    assert run(cli.app, *words, "--grade", "3", "--until", "2099-12-31").exit_code == 1
    report.write_bytes(b"tested")
    assert run(cli.app, *words, "--grade", "6", "--until", "2099-12-31").exit_code == 2
    assert run(cli.app, *words, "--grade", "3", "--until", "2020-12-31").exit_code == 1
    assert not (world.office.home / "protection").exists()
    rows = run(cli.app, *words, "--grade", "3", "--until", "2099-12-31").ok()
    assert [row["node"] for row in rows] == ["node-east", "node-west"]
    world.office.admit(enrolment(world, "node-east"))


class SubNode:
    """A city's node before it joins: its home, made by its own command."""

    def __init__(self, world, name):
        self.world, self.name, self.home = world, name, world.folder / name
        self.settings = NodeSettings(self.home, name, f"org-{name}", name, name, planes=("relay",))
        init_home(self.settings, world.office.root(), now=world.office.now())
        record(world, name, until=datetime(2099, 12, 31, tzinfo=UTC))
        (self.home / "tables").mkdir(exist_ok=True)
        write_table(self.home / "tables" / "clinic.csv")

    @property
    def bundle(self):
        return (self.home / "enrolment.json").read_bytes()

    def answer(self, test):
        """Have the node's own command answer."""
        path, out = self.home / "test.json", self.home / "answer.json"
        path.write_bytes(test)
        done = run(node_cli.app, "interface", path, "--out", out, "--home", self.home, "--json")
        return out.read_bytes() if done.exit_code == 0 else done.error

    def signed(self, answer):
        key = load_keys(self.settings.keys).statement
        return sign(key, InterfaceAnswer.payload_type, answer.to_payload()).to_bytes()

    def take(self, data):
        return take_answer(self.world.office.identity, data, open_enrolment(self.bundle), now=self.world.office.now())


@pytest.mark.requirement("PLAT-UNIFIED")
def test_a_sub_node_that_reads_one_message_differently_cannot_join(world):
    node, refused = SubNode(world, "node-city"), lambda **c: pytest.raises(AdmissionRefusedError, **c)
    now = world.office.now()
    with refused(match="interface test"):
        world.office.admit(node.bundle)
    with refused(match="waits"):
        node.take(node.signed(InterfaceAnswer(node="node-city", test_sha256="ab" * 32, verdicts={}, answered_at=now)))
    test = make_test(world.office.identity, "node-city", now=now)
    right = verdicts(parse(InterfaceTest, test))
    assert len({code for code in right.values() if len(code) < 64}) >= 3  # several reasons to refuse
    assert sum(len(code) == 64 for code in right.values()) >= 5
    said = InterfaceAnswer(node="node-city", test_sha256=sha256_hex(test), verdicts=right, answered_at=now)
    name = next(iter(right))
    for wrong in (
        {name: "contract.malformed" if len(right[name]) == 64 else "ab" * 32},
        {"c-more": ""},
    ):
        with refused(match="differently"):
            node.take(node.signed(said.model_copy(update={"verdicts": {**right, **wrong}})))
    with refused(match="differently"):
        node.take(node.signed(said.model_copy(update={"verdicts": {n: v for n, v in right.items() if n != name}})))
    with refused(match="last test"):
        node.take(node.signed(said.model_copy(update={"test_sha256": "ab" * 32})))
    with refused(match="signed with its key"):
        node.take(sign(world.registrars[0].key, InterfaceAnswer.payload_type, said.to_payload()).to_bytes())
    with refused(match="interface test"):
        world.office.admit(node.bundle)
    other = SubNode(world, "node-town")
    assert other.answer(test).code == "node.enrolment"  # the test of another node
    earlier = node.answer(test)
    test = make_test(world.office.identity, "node-city", now=now)
    with refused(match="last test"):
        node.take(earlier)  # of a test that was replaced
    answer = node.answer(test)
    for canary in (b"tables", CANARY_NAME.encode(), CANARY_ID.encode()):
        assert canary not in answer
    node.take(answer)
    with refused(match="waits"):
        node.take(answer)  # once
    world.office.admit(node.bundle)
    world.publish()
    assert world.office.trust().actors.find("node-city", role="node", moment=now)
    ledger = run(node_cli.app, "ledger", "list", "--home", node.home, "--json").ok()
    assert [row["kind"] for row in ledger].count("interface.answered") == 2


@pytest.mark.requirement("PLAT-UNIFIED")
def test_the_commands_test_and_admit_a_sub_node_and_a_key_that_did_not_pass_does_not_join(world, tmp_path):
    node, home = SubNode(world, "node-city"), ("--home", world.office.home, "--json")
    run(cli.app, "agency", "interface-test", "node-city", "--out", tmp_path, *home).ok()
    test = tmp_path / "node-city.interface-test.json"
    answer, file = tmp_path / "answer.json", node.home / "enrolment.json"
    answer.write_bytes(node.answer(test.read_bytes()))
    stranger = offices.person(tmp_path, "node-else", "org-else", "node", root=world.office.root())
    words = ("agency", "admit", stranger.home / "enrolment.json", "--answer", answer, *home)
    assert run(cli.app, *words).error.code == "factory.input"
    assert run(cli.app, "agency", "admit", file, *home).exit_code == 1
    run(cli.app, "agency", "admit", file, "--answer", answer, *home).ok()
    again = offices.person(tmp_path, "node-city", "org-node-city", "node", root=world.office.root())
    with pytest.raises(AdmissionRefusedError, match="interface test"):  # another key of the same name
        world.office.admit((again.home / "enrolment.json").read_bytes())


def built(stages):
    root, table = sources.root(), load_table()
    tests = {"SEC-CYCLE": ("tests/t.py::test_a",)}
    results = Results("2026-03-02T08:00:00+00:00", "s", {"tests/t.py::test_a": "passed"})
    gaps = sources.stage_gaps(root, stages)
    return matrix(table, tests=tests, citing={}, results=results, sources_sha256="s", gaps=gaps)


def of_cycle(found):
    return next(row for row in to_json(found)["rows"] if row["id"] == "SEC-CYCLE")


@pytest.mark.requirement("SEC-CYCLE")
@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_without_a_control_or_its_record_makes_the_matrix_red(stage):
    kept = {s.id: {"zh": s.zh, "en": s.en, "controls": dict(s.controls)} for s in load_table().stages}
    assert of_cycle(built(read_stages(kept)))["status"] == "passing"
    module = next(iter(kept[stage]["controls"]))
    for controls in ({}, {"factory.nowhere": "a"}, {module: "a record that nobody leaves"}):
        found = built(read_stages({**kept, stage: {**kept[stage], "controls": controls}}))
        row = of_cycle(found)
        assert row["status"] == "failing"
        assert stage in row["reason"]
        assert '<span class="mark failing">缺失</span>' in page(found, None)
    without = {name: row for name, row in kept.items() if name != stage}
    assert of_cycle(built(read_stages(without)))["status"] == "failing"
    with pytest.raises(TableError, match="stages"):
        read_stages({**kept, "disposal": kept[stage]})


@pytest.mark.requirement("SEC-CYCLE")
def test_every_stage_has_a_control_and_leaves_a_record():
    done = run(cli.app, "compliance", "--json")
    stages = json.loads(done.output)["stages"]
    assert [stage["id"] for stage in stages] == list(STAGES)
    assert [stage["problem"] for stage in stages] == [""] * 6
    assert all(stage["controls"] for stage in stages)
