"""Acceptance of what a node never does: hand out rows, or serve another than the grantee."""

import inspect
import itertools

import pytest

from nodes.agent.queries import QueryKind
from nodes.contract import wire
from nodes.errors import BooksError
from nodes.tasks.catalogue import tasks
from nodes.watch import node_alerts
from tests.node_world import CANARY_ID, CANARY_NAME, World

RESOURCE = "res.east.clinic"
UNDOCUMENTED = (
    "table.read", "rows", "resource.rows", "resource.export", "export", "dump", "sql", "select", "file.get", "file.copy",
    "backup", "debug", "shell", "ledger.export", "table.sample", "resource.sample", "node.exec", "tables",
)  # fmt: skip
WANTED = {
    "resource": RESOURCE, "rows": "*", "columns": ["name", "id_number"], "limit": 10, "path": "tables/clinic.csv",
    "sql": "select * from clinic", "session_id": "s-1", "grant_id": "g-1", "format": "csv",
}  # fmt: skip


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path)
    yield made
    made.books.close()


@pytest.mark.requirement("RAW-NOEXPORT")
def test_no_endpoint_of_a_node_hands_out_rows_and_each_attempt_is_in_its_ledger(world):
    world.install_grant()
    kinds = [value for name, value in vars(QueryKind).items() if name.isupper()]
    assert len(kinds) >= 8  # every documented one
    for kind, body in itertools.product((*kinds, *UNDOCUMENTED), (WANTED, {"resource": RESOURCE})):
        before = world.books.entries(limit=1)[0].seq
        reply = world.agent.handle(world.parcel(world.query(kind, body)))
        envelope, attachments = wire.unpack(reply)
        for part in (envelope.payload, *attachments):
            assert CANARY_ID.encode() not in part, kind
            assert CANARY_NAME.encode() not in part, kind
        if kind in UNDOCUMENTED:
            assert envelope.payload_type.endswith("refusal.v1+json"), kind
            assert world.books.entries(limit=1)[0].seq > before, kind


@pytest.mark.requirement("RAW-NOEXPORT")
def test_no_installed_task_is_one_that_reads_out_rows(world):
    digest = world.install_grant()
    for name in ("rows", "table.export", "sql", "copy", "python", "shell"):
        assert name not in tasks()
        before = world.books.entries(limit=1)[0].seq
        assert world.code(world.order(digest, task=name)) != ""
        assert world.books.entries(limit=1)[0].seq > before


@pytest.mark.requirement("OP-NOSUB")
def test_another_operator_is_refused_under_the_grant_and_an_alert_opens(world):
    digest = world.install_grant()
    assert world.code(world.order(digest)) == ""
    assert node_alerts(world.books, now=world.now) == []
    assert world.code(world.order(digest, operator="stranger")) == "request.sender_role"
    alert = node_alerts(world.books, now=world.now)[0]
    assert (alert.rule, alert.actor) == ("out-of-scope", "stranger")
    assert world.code(world.order(digest), signer="stranger") != ""
    assert world.books.uses(digest) == 1


@pytest.mark.requirement("OP-NOSUB")
def test_nothing_reassigns_a_grant(world):
    from factory.lifecycle.request import TRANSITIONS
    from nodes.agent import queries

    assert {arrow.act for arrow in TRANSITIONS} & {"transfer", "reassign", "assign", "sublicense"} == set()
    assert [name for name, _ in inspect.getmembers(queries, inspect.isfunction) if "assign" in name] == []
    digest = world.install_grant()
    taken = world.grant().model_copy(update={"operator": "stranger"})
    with pytest.raises(BooksError):
        world.install_grant(taken)  # another grant under the name of this one
    assert world.code(world.order(digest, operator="stranger")) == "request.sender_role"
