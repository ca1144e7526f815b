"""Acceptance where it counts: at a node, of its own accord, with nobody reachable; refused cases first."""

from datetime import timedelta

import pytest

from nodes import grants
from nodes.contract.catalogue import Column
from nodes.contract.messages import ResourceUse
from nodes.errors import GrantError
from nodes.watch import node_alerts
from tests.node_world import NODE, World


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path)
    yield made
    made.books.close()


def offered(world, grant, *signers):
    return grants.check_offer(world.envelopes(grant, signers), node=NODE, trust=world.trust.current(), now=world.now)


@pytest.mark.requirement("REQ-DUAL")
def test_without_both_signatures_of_two_registrars_the_node_runs_nothing(world):
    assert world.code(world.order("ab" * 32)) == "grant.unknown"  # approved by one body: there is no grant yet
    for signers in ((), ("registrar-1",), ("registrar-1", "registrar-1"), ("registrar-1", "agency"), ("operator",) * 2):
        with pytest.raises(GrantError):
            offered(world, world.grant(), *signers)
    assert world.code(world.order("ab" * 32)) == "grant.unknown"
    digest = world.install_grant(approve=False)
    assert world.code(world.order(digest)) == "grant.not_approved"
    other = world.install_grant(world.grant(grant_id="g-2"))
    assert world.code(world.order(other, grant_id="g-2")) == ""


@pytest.mark.requirement("REQ-RULING")
def test_a_run_for_another_scenario_with_the_same_data_is_refused(world):
    digest = world.install_grant()
    for change in ({"scenario": "sc-2"}, {"scenario": "sc-1-extended"}):
        assert world.code(world.order(digest, **change)) == "grant.scenario"
    assert world.books.uses(digest) == 0
    assert world.code(world.order(digest)) == ""
    # A grant of its own for the other scenario does not open the first one.
    other = world.install_grant(world.grant(grant_id="g-2", scenario="sc-2"))
    assert world.code(world.order(other, grant_id="g-2")) == "grant.scenario"
    assert world.code(world.order(other, grant_id="g-2", scenario="sc-2")) == ""


@pytest.mark.requirement("AGR-TERM")
def test_one_second_after_its_end_every_grant_is_refused_with_nobody_reachable(world):
    end = world.now + timedelta(hours=3)
    digests = [world.install_grant(world.grant(grant_id=f"g-{n}", not_after=end)) for n in (1, 2)]
    world.now = end - timedelta(seconds=1)
    assert [world.code(world.order(digest, grant_id=f"g-{n}")) for n, digest in enumerate(digests, 1)] == ["", ""]
    for late in (timedelta(0), timedelta(seconds=1)):
        world.now = end + late
        codes = [world.code(world.order(digest, grant_id=f"g-{n}")) for n, digest in enumerate(digests, 1)]
        assert codes == ["grant.expired"] * 2
    with pytest.raises(GrantError, match="has not ended"):
        offered(world, world.grant(grant_id="g-3", not_after=end), "registrar-1", "registrar-2")


@pytest.mark.requirement("CAT-UNIFIED")
def test_a_run_names_a_catalogued_resource_with_its_version_and_never_a_table_or_a_path(world):
    def parties(name, version=1):
        use = ResourceUse(resource=name, version=version, columns=("age",))
        return tuple(party.model_copy(update={"resources": (use,)}) for party in world.grant().parties)

    (world.home / "tables/loose.csv").write_bytes((world.home / "tables/clinic.csv").read_bytes())
    for number, (name, version) in enumerate(
        [("res.east.loose", 1), ("loose.csv", 1), ("tables/clinic.csv", 1), ("clinic", 1), ("res.east.clinic", 2)]
    ):
        with pytest.raises((GrantError, ValueError)):  # not in this node's catalogue: it is not approved
            world.install_grant(world.grant(grant_id=f"g-x{number}", parties=parties(name, version)))
    assert world.books.entries(limit=1)[0].kind != "order.accepted"
    digest = world.install_grant()
    order = world.order(digest)
    loose = order.resources[0].model_copy(update={"resource": "res.east.loose"})
    assert world.code(world.order(digest, resources=(loose,))) == "grant.resource"
    newer = order.resources[0].model_copy(update={"version": 2})
    assert world.code(world.order(digest, resources=(newer,))) == "grant.resource"
    assert world.code(order) == ""


@pytest.mark.requirement("CAT-DYNAMIC")
def test_a_field_or_resource_that_its_owner_withdrew_is_refused_on_the_next_order(world):
    digest = world.install_grant()
    assert world.code(world.order(digest)) == ""
    kept = tuple(column for column in world.entry.columns if column.name != "score")
    assert len(kept) == len(world.entry.columns) - 1
    before = world.entry
    world.entry = world.entry.model_copy(update={"version": 2, "columns": kept})
    (world.home / "catalogue/clinic.toml").write_text(world.entry.to_toml(), encoding="utf-8")
    assert world.code(world.order(digest)) == "resource.changed"
    world.assess()
    assert world.code(world.order(digest)) == "resource.changed"  # granted on version 1
    world.entry = before
    (world.home / "catalogue/clinic.toml").write_text(before.to_toml(), encoding="utf-8")
    world.assess()
    assert world.code(world.order(digest)) == ""
    world.strike("resource", "res.east.clinic", "suspended")
    assert world.code(world.order(digest)) == "resource.held"


@pytest.mark.requirement("CLS-GRADE")
@pytest.mark.parametrize(("grade", "allowed"), [("general", True), ("important", False), ("core", False), ("", False)])
def test_the_grade_of_one_field_binds_the_whole_run(world, grade, allowed):
    columns = tuple(
        column.model_copy(update={"grade": grade}) if column.name == "score" else column
        for column in world.entry.columns
    )
    assert all(isinstance(column, Column) for column in columns)
    world.entry = world.entry.model_copy(update={"columns": columns})
    (world.home / "catalogue/clinic.toml").write_text(world.entry.to_toml(), encoding="utf-8")
    world.assess()
    try:
        digest = world.install_grant()
    except GrantError:
        assert not allowed
        return
    code = world.code(world.order(digest))
    assert (code == "") == allowed, code


@pytest.mark.requirement("USE-ABUSE")
def test_past_its_budget_a_grant_runs_no_more_and_an_alert_opens(world):
    digest = world.install_grant()
    for _ in range(3):
        order = world.order(digest)
        assert world.code(order) == ""
        world.code(world.step(order, "session.close", 1))
    assert node_alerts(world.books, now=world.now) == []
    assert world.code(world.order(digest)) == "grant.exhausted"
    assert [alert.rule for alert in node_alerts(world.books, now=world.now)] != []
    assert world.books.uses(digest) == 3
