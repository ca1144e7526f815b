"""Acceptance of the platform's own security: protection grades of nodes, and controls over the data's whole life."""

import json
from datetime import timedelta

import pytest

from factory import cli
from factory.agency.errors import AdmissionRefusedError
from factory.agency.protection import record_protection
from factory.law import sources
from factory.law.compliance import Results, matrix, to_json
from factory.law.errors import TableError
from factory.law.pages import page
from factory.law.table import STAGES, load_table, read_stages
from nodes.contract.errors import UnknownActorError
from nodes.contract.signing import sign
from nodes.contract.statement import PAYLOAD_TYPE, statement
from tests import offices
from tests.town import run


@pytest.fixture
def world(tmp_path):
    made = offices.world(tmp_path)
    made.publish()
    return made


def enrolment(world, name):
    node = offices.person(world.folder, name, f"org-{name}", "node", root=world.office.root())
    return (node.home / "enrolment.json").read_bytes()


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
