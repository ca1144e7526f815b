"""Acceptance of imports, third parties, the directory of uses, and what a node never gives away."""

import json
import types
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from factory.demo.acts import build_product
from factory.pipelines.imports import InputNotReviewedError, review_input, reviewed_inputs
from factory.pipelines.recipe import parse_recipe
from factory.registry.store import Registry
from factory.use_register import NotInDirectoryError, UseRegister
from nodes.contract.messages import QueryKind
from nodes.contract.signing import sha256_hex
from nodes.contract.trust import Status
from tests import offices, trials
from tests.node_world import CANARY_ID, CANARY_NAME, World
from tests.town import run

NOW = datetime.now(UTC).replace(microsecond=0)
ADDED = '\n[[inputs]]\nname = "divisions"\npath = "divisions.csv"\nreview = "divisions.review"\n'


@pytest.fixture
def agency(tmp_path):
    world = offices.world(tmp_path / "town", now=NOW)
    world.publish()
    return world


def recipe_with_input():
    text = (trials.EXAMPLES / "report.toml").read_text("utf-8")
    place = text.index("[product]")
    return parse_recipe(text[:place] + text[place:] + ADDED)


@pytest.mark.requirement("USE-IMPORT")
def test_a_file_is_imported_only_after_the_agency_reviewed_these_very_bytes(agency, tmp_path):
    recipe, trust = recipe_with_input(), agency.office.trust()
    check = lambda **c: reviewed_inputs(  # noqa: E731
        recipe, tmp_path, **{"actors": trust.actors, "status": trust.status, "now": NOW, **c}
    )
    with pytest.raises(InputNotReviewedError, match="review beside it"):
        check()
    file, review = tmp_path / "divisions.csv", tmp_path / "divisions.review"
    file.write_bytes(b"code,name\n110101,x\n")
    with pytest.raises(InputNotReviewedError, match="review beside it"):
        check()
    made = {"name": "divisions.csv", "official": "王芳", "reason": "公开代码表", "now": NOW}
    with pytest.raises(InputNotReviewedError, match="who reviewed"):
        review_input(agency.office.identity, file.read_bytes(), approve=True, **{**made, "reason": " "})
    for signer, approve, told in (
        (agency.registrars[0], True, "own signature"),
        (agency.office.identity, False, "rejected"),
    ):
        review.write_bytes(review_input(signer, file.read_bytes(), approve=approve, **made))
        with pytest.raises(InputNotReviewedError, match=told):
            check()
    words = (
        "agency",
        "review-input",
        file,
        "--official",
        "王芳",
        "--reason",
        "公开代码表",
        "--out",
        review,
        "--approve",
    )
    from factory import cli

    assert run(cli.app, *words, "--home", agency.office.home, "--json").ok()["approved"] is True
    found = json.loads(check())
    digest = sha256_hex(file.read_bytes())
    assert found == {"inputs": [{"name": "divisions", "sha256": digest, "review_id": f"imp-{digest[:12]}"}]}
    file.write_bytes(b"code,name\n110101,y\n")
    with pytest.raises(InputNotReviewedError, match="these very bytes"):
        check()


def test_a_recipe_without_other_files_has_no_list_of_them(agency, tmp_path):
    recipe = parse_recipe((trials.EXAMPLES / "report.toml").read_text("utf-8"))
    assert (
        reviewed_inputs(recipe, tmp_path, actors=agency.office.trust().actors, status=Status(items=()), now=NOW) == b""
    )


@pytest.mark.requirement("CAT-USEREG")
def test_a_run_without_an_entry_in_the_directory_does_not_start_and_each_use_is_written_down(tmp_path):
    world = World(tmp_path / "node")
    grant = world.grant()
    with Registry.at(tmp_path / "registry.db") as registry:
        # A desk that could open no session: the refusal comes before anything is asked of a node.
        desk = types.SimpleNamespace(registry=registry)
        with pytest.raises(NotInDirectoryError):
            build_product(desk, trials.EXAMPLES / "model.toml", grant, "ab" * 32, ())
        register = UseRegister(registry)
        register.enter(grant, by="operator", now=NOW)
        register.enter(grant, by="operator", now=NOW)
        register.require(grant)
        with pytest.raises(NotInDirectoryError):
            register.require(grant.model_copy(update={"grant_id": "g-other"}))
        assert register.uses() == []
        register.record(grant, session="s-1", by="operator", now=NOW)
        uses = register.uses()
        assert {use["node"] for use in uses} == {"node-east", "node-west", "node-north"}
        assert {(use["run"], use["grant"], use["purpose"], use["resource"]) for use in uses} == {
            ("s-1", "g-1", "p-1", "res.east.clinic")
        }
        assert {use["at"] for use in uses} == {f"{NOW:%Y-%m-%dT%H:%M:%SZ}"}
        assert registry.verify_chain() == 2
    world.books.close()


@pytest.mark.requirement("RAW-NOEXPORT")
def test_nothing_a_node_can_be_asked_returns_rows_and_every_attempt_is_in_its_ledger(tmp_path):
    world = World(tmp_path)
    digest = world.install_grant()
    wanted = {
        "resource": "res.east.clinic",
        "rows": 10,
        "columns": ["name", "id_number"],
        "grant_id": "g-1",
        "session_id": "s",
    }
    undocumented = ("rows.read", "table.export", "file.copy", "debug.shell", "node.dump", "sql", "backup.fetch")
    for kind in (*QueryKind, *undocumented):
        for sender in ("operator", "stranger"):
            before = len(world.books.entries())
            reply = world.agent.handle(world.parcel(world.query(kind, wanted, sender=sender)))
            assert CANARY_NAME.encode() not in reply
            assert CANARY_ID.encode() not in reply
            if kind in undocumented:
                assert world.read(reply)[0].code.value == "request.kind_unknown"
                assert world.books.entries()[-1].kind == "refused"
                assert len(world.books.entries()) == before + 1
    order = world.order(digest)
    assert world.code(order) == ""
    for number, kind in enumerate(("rows.read", "stub.fail"), start=1):
        reply = world.agent.handle(world.parcel(world.step(order, kind, number)))
        assert CANARY_NAME.encode() not in reply
        assert CANARY_ID.encode() not in reply
    wider = world.order(digest, resources=(order.resources[0].model_copy(update={"columns": ("name",)}),))
    assert world.code(wider) == "grant.column"
    last = world.books.entries()[-1]
    assert (last.kind, last.facts["code"]) == ("refused", "grant.column")
    world.books.close()


@pytest.mark.requirement("FB-COLLECT")
def test_feedback_becomes_the_source_department_s_ticket_and_returns_with_its_outcome(tmp_path):
    from tests.requirements.test_serving import PRODUCT, Counter
    from tests.town import Town

    town = Town(tmp_path / "town", names=("east",))
    town.lay("east")
    counter = Counter(tmp_path / "shop")
    key = counter.ready()
    counter.shop.call(key, PRODUCT, "table.csv", scenario="s1")
    said = counter.shop.feedback(key, {"quality": "d07 偏低", "use": "u", "effect": "e"})
    filed = town.node(
        "east", "tickets", "file", "res.east.clinic", "--kind", "feedback", "--from", "bank-yun", "--text", "d07 偏低"
    ).ok()
    decided = town.node("east", "tickets", "decide", filed["id"], "--accept", "--reason", "属实").ok()
    ticket = f"node-east/{filed['id']}"
    counter.shop.answer_feedback(said.id, "已转数源单位", ticket=ticket, outcome=decided["state"], by="operator")
    row = counter.shop.iteration(PRODUCT)[0]
    assert (row["ticket"], row["outcome"], row["state"]) == (ticket, "open", "answered")
    counter.registry.close()
    town.close()


@pytest.mark.requirement("DOWN-ENV")
def test_an_approved_developer_calls_the_product_and_builds_and_reaches_no_resource(tmp_path):
    from tests.requirements.test_serving import PRODUCT, Counter

    counter = Counter(tmp_path)
    counter.offer()
    developer = counter.client("dev-1", kind="developer", declared_on="2026-01-05", owners=("free-ltd",))
    unscreened = lambda: counter.shop.give_key("dev-1", PRODUCT, scenario="s1", use="redevelopment", by="o")  # noqa: E731
    assert counter.refused(unscreened) == "client.unscreened"
    key = counter.key(developer, use="redevelopment")
    counter.shop.accept_terms(key, "t1")
    table = counter.shop.call(key, PRODUCT, "table.csv", scenario="s1").decode()
    index = "band,share\n" + "".join(f"b{n},{len(table) % (n + 2)}\n" for n in range(8))
    assert counter.shop.submit_derived("dev-1", PRODUCT, "table.csv", index.encode())
    reach = lambda name: counter.shop.call(key, name, "clinic.csv", scenario="s1")  # noqa: E731
    assert counter.refused(lambda: reach("res.east.clinic")) == "call.raw_resource"
    assert counter.refused(lambda: reach("risk@2.0.0")) == "call.unknown"
    later = replace(counter.shop, clock=lambda: datetime.now(UTC) + timedelta(minutes=2))
    assert later.call(key, PRODUCT, "table.csv", scenario="s1")
    counter.registry.close()


@pytest.mark.requirement("USE-THIRD")
def test_a_third_party_gets_no_technical_role_before_its_cooperation_was_approved(agency, tmp_path):
    from factory import cli
    from factory.agency.errors import AdmissionRefusedError
    from factory.agency.office import open_office

    agency.add("operator", "operator-ltd", "operator")
    agency.publish()
    third = offices.person(tmp_path, "helper", "third-ltd", "operator", root=agency.office.root())
    enrolment = (third.home / "enrolment.json").read_bytes()
    with pytest.raises(AdmissionRefusedError, match="approved cooperation"):
        agency.office.admit(enrolment)
    assert "helper" not in {actor.id for actor in agency.office.trust().actors.actors}
    words = ("agency", "cooperation", "third-ltd", "--task", "运维", "--official", "王芳", "--home", agency.office.home)
    assert run(cli.app, *words, "--reason", " ").exit_code == 1
    run(cli.app, *words, "--reason", "安全审查通过", "--days", "30", "--json").ok()
    with pytest.raises(AdmissionRefusedError, match="has ended"):
        open_office(agency.office.home, now=NOW + timedelta(days=31)).admit(enrolment)
    record = agency.office.home / "cooperation" / "third-ltd.dsse.json"
    kept = record.read_bytes()
    other = offices.person(tmp_path, "helper-2", "fourth-ltd", "operator", root=agency.office.root())
    record.with_name("fourth-ltd.dsse.json").write_bytes(kept)  # somebody else's record
    with pytest.raises(AdmissionRefusedError):
        agency.office.admit((other.home / "enrolment.json").read_bytes())
    agency.office.admit(enrolment)
    agency.publish()
    actors = agency.office.trust().actors  # what every party holds: the end of the cooperation is in it
    for moment, counts in ((NOW, True), (NOW + timedelta(days=29), True), (NOW + timedelta(days=30, hours=1), False)):
        assert next(actor for actor in actors.actors if actor.id == "helper").is_valid_at(moment) is counts
    own = next(actor for actor in actors.actors if actor.id == "operator")
    assert own.is_valid_at(NOW + timedelta(days=700))  # the operator itself needs no cooperation


@pytest.mark.requirement("USE-THIRD")
def test_a_party_without_admission_or_grant_is_not_added_to_a_run(tmp_path):
    world = World(tmp_path)
    digest = world.install_grant()
    assert world.code(world.order(digest, operator="stranger")) == "request.sender_role"
    assert world.code(world.order(digest, clients=("third",))) == "grant.parties"
    assert world.code(world.order(digest)) == ""
    world.books.close()
