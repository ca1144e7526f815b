"""The agent through its front door: parcels in, parcels out."""

import logging
from datetime import timedelta

import pytest

from nodes.contract import canonical, wire
from nodes.contract.messages import Condition, Order, Refusal, ResourceUse, Result
from nodes.contract.signing import Envelope, sha256_hex, sign
from nodes.contract.statement import NODE_RUN, PAYLOAD_TYPE, read
from tests.node_world import CANARY_ID, CANARY_NAME, NODE, NOW, World, write_table

SECOND = timedelta(seconds=1)


def use(**changes):
    return ResourceUse(resource="res.east.clinic", version=1, columns=("age", "score")).model_copy(update=changes)


ALTERED = {
    "another node's order": ({"node": "node-west"}, "request.recipient"),
    "unknown grant": ({"grant_id": "g-none", "grant_sha256": "0" * 64}, "grant.unknown"),
    "another digest of the grant": ({"grant_sha256": "0" * 64}, "grant.invalid"),
    "another name of the grant": ({"grant_id": "g-2"}, "grant.invalid"),
    "another scenario": ({"scenario": "sc-2"}, "grant.scenario"),
    "another purpose": ({"purpose": "p-2"}, "grant.purpose"),
    "a task the grant does not name": ({"task": "stub.other"}, "grant.task"),
    "a party outside the grant": ({"parties": (NODE, "node-west", "node-south")}, "grant.parties"),
    "without this node": ({"parties": ("node-west", "node-north")}, "grant.parties"),
    "a party twice": ({"parties": (NODE, NODE)}, "grant.parties"),
    "a client outside the grant": ({"clients": ("unit-2",)}, "grant.parties"),
    "too few parties": ({"parties": (NODE,)}, "grant.threshold"),
    "another resource": ({"resources": (use(resource="res.east.other"),)}, "grant.resource"),
    "another version": ({"resources": (use(version=2),)}, "grant.resource"),
    "a resource twice": ({"resources": (use(), use())}, "grant.resource"),
    "an ungranted column": ({"resources": (use(columns=("age", "id_number")),)}, "grant.column"),
    "a column twice": ({"resources": (use(columns=("age", "age")),)}, "grant.column"),
    "a condition on an ungranted column": (
        {"resources": (use(row_filter=(Condition(column="id_number", operator="eq", values=("1",)),)),)},
        "grant.row_filter",
    ),
    "two values in an equality": (
        {"resources": (use(row_filter=(Condition(column="age", operator="eq", values=(1, 2)),)),)},
        "grant.row_filter",
    ),
    "a filter that the grant does not have": (
        {"resources": (use(row_filter=(Condition(column="age", operator="lt", values=(60,)),)),)},
        "grant.row_filter",
    ),
    "unknown parameters": ({"parameters": {"base": 1, "more": 2}}, "task.parameters"),
    "wrong parameters": ({"parameters": {"base": "1"}}, "task.parameters"),
    "a window too long": ({"expires_at": NOW + timedelta(hours=2)}, "request.expired"),
    "a window that ends first": ({"expires_at": NOW - SECOND}, "request.expired"),
    "issued six minutes ahead": (
        {"issued_at": NOW + timedelta(minutes=6), "expires_at": NOW + timedelta(minutes=9)},
        "clock.skew",
    ),
    "issued six minutes behind": ({"issued_at": NOW - timedelta(minutes=6)}, "clock.skew"),
    "expired": (
        {"issued_at": NOW - timedelta(minutes=20), "expires_at": NOW - timedelta(minutes=10)},
        "request.expired",
    ),
    "a task that refuses": ({"parameters": {"base": 13}}, "resource.rows"),
    "a task that fails": ({"parameters": {"base": 14}}, "task.failed"),
}


@pytest.mark.parametrize("name", ALTERED)
def test_an_altered_order_is_refused_with_its_code_and_recorded(world, name):
    changes, code = ALTERED[name]
    digest = world.install_grant()
    order = world.order(digest, **changes)
    assert world.code(order) == code
    assert world.books.entries(limit=1)[0].facts == {"code": code}
    assert world.books.verify_chain() > 0


@pytest.mark.requirement("REQ-GRANT")
def test_a_good_order_runs_closes_and_yields_a_node_run_statement(world):
    digest = world.install_grant()
    order = world.order(digest)
    answer, _ = world.ask(order)
    assert isinstance(answer, Result)
    assert answer.kind == "order.accepted"
    assert answer.body == {"ready": True}
    stepped, parts = world.ask(world.step(order, "stub.add", 1, attachments=(b"abc",)), attachments=(b"abc",))
    assert (stepped.kind, stepped.body["count"], parts) == ("stub.add", 40, (b"cba",))
    closed, parts = world.ask(world.step(order, "session.close", 2))
    envelope = Envelope.from_bytes(parts[0])
    subjects, predicate = read(envelope.open(world.keys.statement.public, PAYLOAD_TYPE), NODE_RUN)
    assert closed.body["statement_sha256"] == envelope.payload_sha256
    assert subjects[0][0] == f"run/{order.session_id}/{NODE}"
    assert subjects[1] == ("model.onnx", "ab" * 32)
    assert predicate["uses"] == {"before": 0, "after": 1}
    assert predicate["budget"] == {"unit": "session", "before": 0, "after": 1}
    assert predicate["grant"] == {"id": "g-1", "sha256": digest}
    assert predicate["contributors"] == 3
    assert predicate["resources"][0]["quality"] == {"report_sha256": "aa" * 32, "score_x100": 9500}
    assert world.code(world.step(order, "stub.add", 3)) == "session.closed"


def test_a_repeated_order_gets_the_same_bytes_and_counts_once(world):
    digest = world.install_grant()
    parcel = world.parcel(world.order(digest))
    first = world.agent.handle(parcel)
    assert world.agent.handle(parcel) == first
    assert world.books.uses(digest) == 1
    world.agent = world.restarted()
    assert world.agent.handle(parcel) == first


def test_a_repeated_step_gets_the_same_bytes_and_is_not_run_again(world):
    order = world.order(world.install_grant())
    world.ask(order)
    parcel = world.parcel(world.step(order, "stub.add", 1))
    assert world.agent.handle(parcel) == world.agent.handle(parcel)
    _, parts = world.ask(world.step(order, "session.close", 2))
    assert canonical.loads(Envelope.from_bytes(parts[0]).payload)["predicate"]["facts"] == {"steps": 1}


@pytest.mark.parametrize(("sequence", "code"), [(1, "request.replayed"), (3, "session.sequence"), (2, "")])
def test_steps_come_once_and_in_order(world, sequence, code):
    order = world.order(world.install_grant())
    world.ask(order)
    assert world.code(world.step(order, "stub.add", 1)) == ""
    assert world.code(world.step(order, "stub.more", sequence)) == code


def test_a_second_order_for_the_same_session_is_a_replay(world):
    digest = world.install_grant()
    order = world.order(digest)
    world.ask(order)
    assert world.code(order.model_copy(update={"order_id": "o-other"})) == "request.replayed"
    assert world.code(order.model_copy(update={"session_id": "s-other"})) == "request.replayed"


def test_the_grant_is_exhausted_after_its_uses(world):
    digest = world.install_grant()
    assert [world.code(world.order(digest)) for _ in range(4)] == ["", "", "", "grant.exhausted"]


def test_the_budget_is_spent_before_the_uses(world):
    digest = world.install_grant(world.grant(budget=world.grant().budget.model_copy(update={"total": 1})))
    assert [world.code(world.order(digest)) for _ in range(2)] == ["", "grant.budget"]


def test_a_task_cannot_charge_more_than_the_budget(world):
    digest = world.install_grant(
        world.grant(budget=world.grant().budget.model_copy(update={"unit": "query", "total": 5}))
    )
    order = world.order(digest)
    world.ask(order)
    assert world.code(world.step(order, "stub.charge", 1, body={"units": 5})) == ""
    assert world.code(world.step(order, "stub.charge", 2, body={"units": 1})) == "grant.budget"
    assert world.books.spent(digest) == 5


@pytest.mark.parametrize(
    ("offset", "code"), [(-SECOND, ""), (timedelta(0), "grant.expired"), (SECOND, "grant.expired")]
)
@pytest.mark.requirement("AGR-TERM")
def test_a_grant_ends_at_its_end(world, offset, code):
    digest = world.install_grant(world.grant(not_after=NOW + timedelta(hours=1)))
    world.now = NOW + timedelta(hours=1) + offset
    assert world.code(world.order(digest)) == code


@pytest.mark.parametrize(("offset", "code"), [(-SECOND, "grant.not_yet"), (timedelta(0), "")])
def test_a_grant_begins_at_its_begin_within_the_tolerated_clock_skew(world, offset, code):
    begin = NOW + timedelta(hours=1)
    digest = world.install_grant(world.grant(not_before=begin))
    world.now = begin - timedelta(minutes=5) + offset
    assert world.code(world.order(digest)) == code


def test_a_pending_grant_does_not_permit(world):
    assert world.code(world.order(world.install_grant(approve=False))) == "grant.not_approved"


def test_a_grant_revoked_by_its_department_stops_an_open_session(world):
    from nodes import grants

    digest = world.install_grant()
    order = world.order(digest)
    world.ask(order)
    grants.revoke(world.books, "g-1", reason="over")
    assert world.code(world.step(order, "stub.add", 1)) == "grant.revoked"
    assert world.code(world.order(digest)) == "grant.revoked"


@pytest.mark.parametrize(
    ("kind", "subject", "code"),
    [
        ("grant", "g-1", "grant.revoked"),
        ("resource", "res.east.clinic", "resource.held"),
        ("actor", "operator", "trust.actor_revoked"),
        ("actor", "node-west", "trust.actor_revoked"),
    ],
)
def test_what_the_agency_strikes_stops_at_once(world, kind, subject, code):
    digest = world.install_grant()
    world.strike(kind, subject)
    assert world.code(world.order(digest)) == code


def test_a_struck_key_stops_at_once(world):
    digest = world.install_grant()
    world.strike("key", world.people["operator"].key.public.keyid)
    assert world.code(world.order(digest)) == "trust.actor_revoked"


def test_a_removed_actor_is_refused(world):
    digest = world.install_grant()
    world.people["operator"].changes = {"removed_at": NOW - SECOND}
    world.trust.update(world.publish(), now=NOW)
    assert world.code(world.order(digest)) == "trust.actor_revoked"


def test_expired_trust_data_refuses_orders_but_takes_an_update(world):
    digest = world.install_grant()
    world.now = NOW + timedelta(days=7)
    assert world.code(world.order(digest)) == "trust.stale"
    files = world.publish(timestamp_days=14)
    query = world.query("trust.update", {"names": list(files)}, attachments=tuple(files.values()))
    assert world.code(query, attachments=tuple(files.values())) == ""
    assert world.code(world.order(digest)) == ""


def test_an_order_altered_in_transit_is_refused(world):
    parcel = bytearray(world.parcel(world.order(world.install_grant())))
    place = parcel.index(b'"payload":"') + 40
    parcel[place] ^= 1
    answer, _ = world.read(world.agent.handle(bytes(parcel)))
    assert answer.code.value in {"request.signature", "request.malformed"}


@pytest.mark.parametrize(
    ("cut", "code"),
    [(b"", "request.malformed"), (b"SFP1", "request.malformed"), (b"SFP1\xff\xff\xff\xff", "request.too_large")],
)
def test_bytes_that_are_no_parcel_are_refused(world, cut, code):
    answer, _ = world.read(world.agent.handle(cut))
    assert answer.code.value == code


def test_a_truncated_parcel_is_refused(world):
    parcel = world.parcel(world.order(world.install_grant()))
    assert world.read(world.agent.handle(parcel[:-1]))[0].code.value == "request.malformed"


def test_the_signature_of_somebody_else_is_refused(world):
    order = world.order(world.install_grant())
    assert world.code(order, signer="stranger") == "request.signature"
    assert world.code(order, signer="unit-1") == "request.signature"


def test_an_unknown_key_is_refused(world):
    order = world.order(world.install_grant())
    del world.people["operator"]
    from tests.node_world import Person

    world.people["operator"] = Person("operator", ("operator",), "org.op")
    assert world.code(order) == "trust.actor_unknown"


def test_another_operator_than_the_grantee_is_refused(world):
    order = world.order(world.install_grant(), operator="stranger")
    assert world.code(order) == "request.sender_role"


def test_a_reviewer_cannot_ask(world):
    assert world.code(world.query("node.describe", sender="reviewer-1")) == "request.sender_role"


def signed_raw(world, payload_type, value):
    return wire.pack(sign(world.people["operator"].key, payload_type, canonical.dumps(value)))


@pytest.mark.parametrize(
    ("payload_type", "change", "code"),
    [
        ("application/vnd.shufang.order.v0+json", {}, "request.version"),
        ("application/vnd.shufang.order.v2+json", {}, "request.version"),
        (Order.payload_type, {"version": 0}, "request.version"),
        (Order.payload_type, {"extra": 1}, "request.malformed"),
        ("application/vnd.shufang.step.v1+json", {}, "request.malformed"),
        ("application/vnd.in-toto+json", {}, "request.kind_unknown"),
    ],
)
def test_a_downgraded_or_relabelled_message_is_refused(world, payload_type, change, code):
    value = {**world.order(world.install_grant()).model_dump(mode="json"), **change}
    assert world.read(world.agent.handle(signed_raw(world, payload_type, value)))[0].code.value == code


def test_substituted_attachments_are_refused(world):
    order = world.order(world.install_grant())
    world.ask(order)
    step = world.step(order, "stub.add", 1, attachments=(b"abc",))
    envelope, _ = wire.unpack(world.parcel(step, attachments=(b"abc",)))
    answer, _ = world.read(world.agent.handle(wire.pack(envelope, (b"abd",))))
    assert answer.code.value == "request.malformed"


def test_a_client_may_only_send_its_steps(world):
    digest = world.install_grant()
    order = world.order(digest, clients=("unit-1",))
    world.ask(order)
    assert world.code(world.step(order, "stub.ask", 1, sender="unit-1")) == ""
    assert world.code(world.step(order, "stub.add", 2, sender="unit-1")) == "policy.not_allowed"
    assert world.code(world.step(order, "session.close", 3, sender="unit-1")) == "policy.not_allowed"
    other = world.order(digest)
    world.ask(other)
    assert world.code(world.step(other, "stub.ask", 1, sender="unit-1")) == "request.sender_role"


def test_a_restart_ends_open_sessions(world):
    order = world.order(world.install_grant())
    world.ask(order)
    world.agent = world.restarted()
    assert world.code(world.step(order, "stub.add", 1)) == "session.unknown"


def test_an_idle_session_expires(world):
    digest = world.install_grant()
    order = world.order(digest)
    world.ask(order)
    world.now += timedelta(seconds=3601)
    world.ask(world.query("node.describe"))
    assert world.code(world.step(order, "stub.add", 1)) == "session.closed"
    assert "session.expired" in [entry.kind for entry in world.books.entries()]


def test_an_order_accepted_before_a_kill_is_answered_without_a_second_use(world):
    digest = world.install_grant(world.grant(uses_max=1))
    order = world.order(digest)
    world.books.accept_order(
        order_sha256=sha256_hex(order.to_payload()),
        order_id=order.order_id,
        session=order.session_id,
        operator="operator",
        grant_sha256=digest,
        uses_max=1,
        budget_total=3,
        charge=1,
        facts={},
    )
    assert world.code(order) == ""
    assert world.books.uses(digest) == 1
    assert world.books.spent(digest) == 1


def test_a_failed_task_ends_its_session(world):
    order = world.order(world.install_grant())
    world.ask(order)
    assert world.code(world.step(order, "stub.fail", 1)) == "task.failed"
    assert world.code(world.step(order, "stub.add", 2)) == "session.closed"


def test_a_refused_step_takes_its_sequence(world):
    order = world.order(world.install_grant())
    world.ask(order)
    assert world.code(world.step(order, "stub.refuse", 1)) == "task.protocol"
    assert world.code(world.step(order, "stub.add", 2)) == ""


def test_a_held_resource_stays_out_until_it_is_put_right(world):
    digest = world.install_grant()
    world.assess(state="held", reason="critical rule")
    assert world.code(world.order(digest)) == "resource.held"
    world.assess()
    assert world.code(world.order(digest)) == ""


@pytest.mark.parametrize(("score", "code"), [(7999, "resource.held"), (8000, ""), (8001, ""), (None, "resource.held")])
def test_the_quality_score_of_the_grant_binds(world, score, code):
    world.assess(score_x100=score)
    assert world.code(world.order(world.install_grant())) == code


def test_a_table_older_than_its_update_frequency_is_stale(world):
    digest = world.install_grant()
    world.assess(fresh_until=NOW)
    assert world.code(world.order(digest)) == "resource.stale"


def test_content_that_changed_after_its_quality_run_is_refused(world):
    digest = world.install_grant()
    write_table(world.home / "tables/clinic.csv", rows=41)
    assert world.code(world.order(digest)) == "resource.changed"


def test_a_missing_table_and_a_changed_schema_are_refused_without_an_address(world):
    digest = world.install_grant()
    table = world.home / "tables/clinic.csv"
    table.write_text(table.read_text().replace("score", "points", 1))
    answer, _ = world.ask(world.order(digest))
    assert answer.code.value == "resource.changed"
    table.unlink()
    answer, _ = world.ask(world.order(digest))
    assert answer.code.value == "resource.missing"
    assert "clinic.csv" not in answer.message


def test_a_resource_without_a_quality_run_is_held_unless_the_department_says_otherwise(tmp_path):
    world = World(tmp_path)
    world.books._db.execute("DELETE FROM resources")
    digest = world.install_grant()
    assert world.code(world.order(digest)) == "resource.held"
    world.agent = world.restarted(quality_required=False)
    assert world.code(world.order(digest)) == ""


def test_a_task_the_department_does_not_allow_is_unknown(world):
    world.agent = world.restarted(tasks=("stub.other",))
    assert world.code(world.order(world.install_grant())) == "task.unknown"


def test_the_stricter_row_minimum_wins(world):
    digest = world.install_grant()
    world.agent = world.restarted(rows_min=41)
    assert world.code(world.order(digest)) == "resource.rows"
    world.agent = world.restarted(rows_min=40)
    assert world.code(world.order(digest)) == ""


def test_the_order_has_the_grant_s_row_filter_and_no_other(world):
    needed = Condition(column="district", operator="in", values=("云东", "云西"))
    granted = use(columns=("age", "score", "district"), row_filter=(needed,))
    grant = world.grant()
    parties = tuple(party.model_copy(update={"resources": (granted,)}) for party in grant.parties)
    digest = world.install_grant(grant.model_copy(update={"parties": parties}))
    assert world.code(world.order(digest)) == "grant.row_filter"
    for values in (("云东", "云北"), ("云东",)):
        other = Condition(column="district", operator="in", values=values)
        assert world.code(world.order(digest, resources=(use(row_filter=(other,)),))) == "grant.row_filter"
    older = Condition(column="age", operator="gt", values=(20,))
    assert world.code(world.order(digest, resources=(use(row_filter=(needed, older)),))) == "grant.row_filter"
    assert world.books.uses(digest) == 0
    assert world.code(world.order(digest, resources=(use(row_filter=(needed,)),))) == ""


def test_too_few_rows_behind_the_grant_s_filter_are_refused(world):
    needed = Condition(column="age", operator="lt", values=(22,))
    granted = use(columns=("age", "score"), row_filter=(needed,))
    grant = world.grant()
    parties = tuple(party.model_copy(update={"resources": (granted,)}) for party in grant.parties)
    digest = world.install_grant(grant.model_copy(update={"parties": parties}))
    assert world.code(world.order(digest, resources=(granted,))) == "resource.rows"


def test_a_foreign_bundle_is_in_the_ledger(world):
    world.agent.foreign_bundle("12" * 32, "not the pinned bundle")
    assert world.books.entries(limit=1)[0].facts["code"] == "bundle.foreign"


def test_a_full_disk_is_a_refusal_that_says_so(world):
    digest = world.install_grant()
    world.books._db.execute("PRAGMA query_only = ON")
    answer, _ = world.ask(world.order(digest))
    assert (answer.code.value, answer.ledger_seq) == ("storage.failed", 0)
    world.books._db.execute("PRAGMA query_only = OFF")
    assert world.books.uses(digest) == 0


def test_no_canary_leaves_in_any_answer_log_or_ledger(world, caplog):
    caplog.set_level(logging.DEBUG)
    digest = world.install_grant()
    replies = []

    def send(message, **options):
        replies.append(world.agent.handle(world.parcel(message, **options)))

    for changes, _ in ALTERED.values():
        send(world.order(digest, **changes))
    order = world.order(digest)
    send(order)
    for number, kind in enumerate(("stub.add", "stub.refuse", "stub.charge", "stub.fail"), 1):
        send(world.step(order, kind, number))
    second = world.order(digest)
    send(second)
    send(world.step(second, "session.close", 1))
    for kind, body in (
        ("node.describe", {}),
        ("resource.statement", {"resource": "res.east.clinic"}),
        ("grant.status", {"grant_id": "g-1"}),
        ("quality.report", {"resource": "res.east.clinic"}),
        ("ledger.extract", {"session_id": order.session_id}),
        ("no.such", {}),
    ):
        send(world.query(kind, body))
    payloads = b"".join(wire.unpack(reply)[0].payload + b"".join(wire.unpack(reply)[1]) for reply in replies)
    ledger = canonical.dumps({"entries": [entry.to_json() for entry in world.books.entries()]})
    for text in (
        payloads,
        ledger,
        caplog.text.encode(),
        (world.home / "books.db").read_bytes(),
        (world.home / "books.db-wal").read_bytes(),
    ):
        assert CANARY_ID.encode() not in text
        assert CANARY_NAME.encode() not in text
        assert b"clinic.csv" not in text
    assert "incident" in caplog.text


def test_every_refusal_is_signed_and_names_its_request(world):
    order = world.order("0" * 64, grant_id="g-none")
    answer, _ = world.ask(order)
    assert isinstance(answer, Refusal)
    assert answer.request_sha256 == sha256_hex(order.to_payload())
    assert answer.ledger_sha256 == world.books.entries(limit=1)[0].sha256
