"""A hostile operator, hub, relay or second department against real objects: who refuses, and with which code.

Each table is attack → code. What other pages of the suite hold is not repeated: altered bytes of packages
(``test_verify_tampered``, ``test_verify_insiders``), a dishonest operator inside secure aggregation
(``unit/secagg``, ``unit/linear``), the key service (``unit/sums``), the hub's doors and foreign bundles
(``test_planes``), witnesses (``unit/log``). ``docs/explanation/security.md`` lists them by promise.
"""

import base64
import bz2
import gzip
import http.client
import io
import json
import socket
import ssl
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest

from factory.errors import NodeRefusedError
from factory.federation import linear
from factory.federation.session import read_answer
from nodes.contract import messages, wire
from nodes.contract.errors import ContractError
from nodes.contract.frames import RelayRefusedError
from nodes.contract.grant import Grant
from nodes.contract.messages import Condition, Order, Refusal, ResourceUse, Result, Step
from nodes.contract.signing import Envelope, sign
from nodes.contract.statement import BUILD, PAYLOAD_TYPE, PRIVACY, RELEASE
from nodes.contract.tasks.linear import LinearParameters, SplitColumn
from nodes.countersign import STRIKES_MAX
from nodes.errors import TrustError, TrustRollbackError
from nodes.relay_client import RelayClient, RelayListener
from nodes.tasks.catalogue import tasks
from tests.federation_harness import Trial
from tests.node_world import CANARY_ID, CANARY_NAME, NODE, NOW, Person, World, stub_tasks
from tests.unit.hub.relays import RelayHouse
from tests.unit.nodes.test_queries import Joint

DISTRICT = Condition(column="district", operator="in", values=("云东", "云西"))
GRANTED = ResourceUse(
    resource="res.east.clinic", version=1, columns=("age", "score", "district"), row_filter=(DISTRICT,)
)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.books.close()


def use(**changes: object) -> ResourceUse:
    return GRANTED.model_copy(update={"columns": ("age", "score"), **changes})


def granted(world: World, **changes: object) -> str:
    grant = world.grant(**changes)
    parties = tuple(party.model_copy(update={"resources": (GRANTED,)}) for party in grant.parties)
    return world.install_grant(grant.model_copy(update={"parties": parties}))


def filtered(*conditions: Condition) -> dict[str, object]:
    return {"resources": (use(row_filter=conditions),)}


def district(operator: str, *values: str) -> Condition:
    return Condition(column="district", operator=operator, values=values)


WIDENED: dict[str, tuple[dict[str, object], str]] = {
    "a column more": ({"resources": (use(columns=("age", "id_number")),)}, "grant.column"),
    "the row filter dropped": (filtered(), "grant.row_filter"),
    "a value more in the row filter": (filtered(district("in", "云东", "云西", "云北")), "grant.row_filter"),
    "the row filter negated": (filtered(district("ne", "云东")), "grant.row_filter"),
    "the row filter narrowed to one value": (filtered(district("eq", "云东")), "grant.row_filter"),
    "a condition that leaves one row out": (
        filtered(DISTRICT, Condition(column="age", operator="ne", values=(36,))),
        "grant.row_filter",
    ),
    "a party more": ({"parties": (NODE, "node-west", "node-north", "node-south")}, "grant.parties"),
    "the operator as a party": ({"parties": (NODE, "node-west", "operator")}, "grant.parties"),
    "a client more": ({"clients": ("unit-1", "stranger")}, "grant.parties"),
    "this node as a client": ({"clients": (NODE,)}, "grant.parties"),
    "another purpose": ({"purpose": "p-2"}, "grant.purpose"),
    "another scenario": ({"scenario": "sc-2"}, "grant.scenario"),
    "another task": ({"task": "stub.other"}, "grant.task"),
    "a later version": ({"resources": (use(version=2),)}, "grant.resource"),
    "thresholds as parameters": ({"parameters": {"base": 1, "rows_min": 1}}, "task.parameters"),
    "too few parties": ({"parties": (NODE,)}, "grant.threshold"),
    "back-dated": (
        {"issued_at": NOW - timedelta(hours=3), "expires_at": NOW - timedelta(hours=2, minutes=30)},
        "request.expired",
    ),
    "back-dated inside a window that is open": ({"issued_at": NOW - timedelta(minutes=6)}, "clock.skew"),
    "post-dated": (
        {"issued_at": NOW + timedelta(minutes=6), "expires_at": NOW + timedelta(minutes=50)},
        "clock.skew",
    ),
    "valid for a day": ({"expires_at": NOW + timedelta(days=1)}, "request.expired"),
    "for another node": ({"node": "node-west"}, "request.recipient"),
    "in another operator's name": ({"operator": "stranger"}, "request.sender_role"),
}


@pytest.mark.parametrize("attack", WIDENED)
def test_a_widened_or_misdated_order_is_refused_costs_no_use_and_is_in_the_ledger(world: World, attack: str) -> None:
    changes, code = WIDENED[attack]
    digest = granted(world)
    order = world.order(digest, resources=(use(),)).model_copy(update=changes)
    assert world.code(order) == code
    assert world.books.uses(digest) == 0
    assert world.books.entries(limit=1)[0].facts == {"code": code}


def resigned(world: World, order: Order, change: Callable[[Envelope], Envelope]) -> bytes:
    envelope, parts = wire.unpack(world.parcel(order))
    return wire.pack(change(envelope), parts)


def _typed(payload_type: str) -> Callable[[World, Order], bytes]:
    return lambda world, order: wire.pack(sign(world.people["operator"].key, payload_type, order.to_payload()))


TRANSIT: dict[str, tuple[Callable[[World, Order], bytes], str]] = {
    "altered": (
        lambda w, o: resigned(
            w, o, lambda e: Envelope(e.payload_type, e.payload.replace(b"p-1", b"p-2"), e.keyid, e.signature)
        ),
        "request.signature",
    ),
    "signed by the second department": (lambda w, o: w.parcel(o, signer="node-west"), "request.signature"),
    "signed by another operator": (lambda w, o: w.parcel(o, signer="stranger"), "request.signature"),
    "the key id of the operator over another's signature": (
        lambda w, o: resigned(
            w,
            o,
            lambda e: Envelope(
                e.payload_type,
                e.payload,
                e.keyid,
                sign(w.people["stranger"].key, e.payload_type, e.payload).signature,
            ),
        ),
        "request.signature",
    ),
    "truncated": (lambda w, o: w.parcel(o)[:-40], "request.malformed"),
    "with bytes behind it": (lambda w, o: w.parcel(o) + b"\0", "request.malformed"),
    "with an attachment it does not list": (
        lambda w, o: wire.pack(wire.unpack(w.parcel(o))[0], (b"more",)),
        "request.malformed",
    ),
    "relabelled as a step": (_typed(Step.payload_type), "request.malformed"),
    "relabelled as a statement": (_typed(PAYLOAD_TYPE), "request.kind_unknown"),
    "downgraded": (_typed("application/vnd.shufang.order.v0+json"), "request.version"),
    "an answer of a department sent back as a request": (
        lambda w, o: wire.unpack(w.agent.handle(w.parcel(o))) and w.agent.handle(w.parcel(o)),
        "request.kind_unknown",
    ),
}


@pytest.mark.parametrize("attack", TRANSIT)
def test_an_order_tampered_with_on_its_way_is_refused(world: World, attack: str) -> None:
    make, code = TRANSIT[attack]
    answer, _ = world.read(world.agent.handle(make(world, world.order(world.install_grant()))))
    assert isinstance(answer, Refusal)
    assert answer.code.value == code


def test_a_replayed_order_runs_once_and_its_names_are_never_taken_again(world: World) -> None:
    digest = world.install_grant()
    order = world.order(digest)
    parcel = world.parcel(order)
    assert world.agent.handle(parcel) == world.agent.handle(parcel)
    assert world.books.uses(digest) == 1
    for changes in ({"session_id": "s-other"}, {"order_id": "o-other"}, {"parameters": {"base": 2}}):
        assert world.code(order.model_copy(update=changes)) == "request.replayed"
    world.books.forget_replies(NOW + timedelta(days=9))
    world.agent = world.restarted()
    assert world.code(order) == "request.replayed"  # its answer is forgotten, that it was taken is not
    assert world.books.uses(digest) == 1


def test_steps_replayed_reordered_or_moved_to_another_session_are_refused(world: World) -> None:
    digest = world.install_grant()
    first, second = world.order(digest), world.order(digest)
    assert world.code(first) == world.code(second) == ""
    assert world.code(world.step(first, "stub.ask", 2)) == "session.sequence"
    assert world.code(world.step(first, "stub.ask", 1)) == ""
    again = world.step(first, "stub.ask", 1, body={"other": 1})
    assert world.code(again) == "request.replayed"
    moved = world.step(first, "stub.ask", 1).model_copy(update={"session_id": second.session_id})
    assert world.code(moved) == "session.unknown"
    for sender, code in (("unit-1", "request.sender_role"), ("node-west", "request.sender_role")):
        assert world.code(world.step(second, "stub.ask", 1, sender=sender)) == code


# Grants


def offer(world: World, envelopes: tuple[bytes, ...]) -> str:
    return world.code(world.query("grant.offer", attachments=envelopes), attachments=envelopes)


def _removed(world: World) -> tuple[bytes, ...]:
    world.people["registrar-2"].changes = {"removed_at": NOW - timedelta(hours=1)}
    world.trust.update(world.publish(), now=world.now)
    return world.envelopes(world.grant(issued_at=NOW - timedelta(days=5), not_before=NOW - timedelta(days=5)))


def _compromised(world: World) -> tuple[bytes, ...]:
    world.people["registrar-2"].changes = {"compromised_since": NOW - timedelta(days=2)}
    world.trust.update(world.publish(), now=world.now)
    return world.envelopes(world.grant())


def _struck(world: World) -> tuple[bytes, ...]:
    world.strike("key", world.people["registrar-2"].key.public.keyid)
    return world.envelopes(world.grant())


def _swapped(world: World) -> tuple[bytes, ...]:
    one, two = world.envelopes(world.grant())
    wide = Envelope.from_bytes(world.envelopes(world.grant(uses_max=99))[0])
    return one, Envelope(wide.payload_type, wide.payload, wide.keyid, Envelope.from_bytes(two).signature).to_bytes()


def _without(world: World, node: str) -> Grant:
    return world.grant(parties=tuple(party for party in world.grant().parties if party.node != node))


GRANTS: dict[str, Callable[[World], tuple[bytes, ...]]] = {
    "one registrar": lambda w: w.envelopes(w.grant(), ("registrar-1",)),
    "one registrar twice": lambda w: w.envelopes(w.grant(), ("registrar-1", "registrar-1")),
    "the operator instead of a registrar": lambda w: w.envelopes(w.grant(), ("registrar-1", "operator")),
    "the operator alone": lambda w: w.envelopes(w.grant(), ("operator",)),
    "the operator named as a registrar": lambda w: w.envelopes(
        w.grant(registrars=("registrar-1", "operator")), ("registrar-1", "operator")
    ),
    "a department instead of a registrar": lambda w: w.envelopes(w.grant(), ("registrar-1", "node-west")),
    "ended": lambda w: w.envelopes(w.grant(not_after=NOW)),
    "for other departments": lambda w: w.envelopes(_without(w, NODE)),
    "for an operator nobody admitted": lambda w: w.envelopes(w.grant(operator="operator-9")),
    "back-dated by a registrar who was removed": _removed,
    "by a registrar whose key is compromised": _compromised,
    "by a registrar whose key is struck": _struck,
    "the signature of one grant under another": _swapped,
    "no signature at all": lambda w: (w.envelopes(w.grant())[0][:-9],),
}


@pytest.mark.parametrize("attack", GRANTS)
@pytest.mark.requirement("REQ-GRANT")
def test_a_grant_that_two_registrars_did_not_sign_for_this_node_is_refused(world: World, attack: str) -> None:
    assert offer(world, GRANTS[attack](world)) == "grant.invalid"
    assert world.books.grants() == []


@pytest.mark.requirement("REQ-GRANT")
def test_orders_under_grants_that_are_not_in_force_are_refused(world: World) -> None:
    pending = world.install_grant(approve=False)
    assert world.code(world.order(pending)) == "grant.not_approved"
    assert world.code(world.order("0" * 64)) == "grant.invalid"
    assert world.code(world.order("0" * 64, grant_id="g-9")) == "grant.unknown"
    other = world.install_grant(world.grant(grant_id="g-2", not_before=NOW + timedelta(hours=1)))
    assert world.code(world.order(other, grant_id="g-2")) == "grant.not_yet"
    assert world.code(world.order(other)) == "grant.invalid"
    third = world.install_grant(world.grant(grant_id="g-3"))
    world.strike("grant", third)
    assert world.code(world.order(third, grant_id="g-3")) == "grant.revoked"


def test_the_struck_one_of_two_keys_in_force_does_not_sign(world: World) -> None:
    digest = world.install_grant()
    old = world.people["operator"]
    new = Person("operator", ("operator",), "org.op")
    world.people = {"operator": new, "operator-old": old, **{n: p for n, p in world.people.items() if n != "operator"}}
    world.strike("key", old.key.public.keyid)
    assert world.code(world.order(digest), signer="operator-old") == "trust.actor_revoked"
    assert world.code(world.order(digest), signer="operator") == ""


# Differencing


def test_two_sessions_of_one_grant_read_the_same_rows_with_the_same_parameters(world: World) -> None:
    digest = granted(world, tasks=("stub.sum", "stub.other"))
    order = world.order(digest, resources=(use(),), task="stub.other")
    assert world.code(order) == ""
    other = world.order(digest, resources=(use(),), task="stub.other", parameters={"base": 2})
    assert world.code(other) == "grant.exhausted"
    assert world.books.uses(digest) == 1
    assert world.code(world.order(digest, resources=(use(),), task="stub.other")) == ""
    assert world.code(world.order(digest, resources=(use(),))) == ""  # another task opens another figure


def linear_order(world: World, **changes: object) -> Order:
    return world.order("0" * 64, task="linear.secagg", **changes)


def linear_parameters(**changes: object) -> LinearParameters:
    base = {"features": ("age",), "label": Condition(column="score", operator="ge", values=(20,))}
    return LinearParameters(**(base | changes))


@pytest.mark.parametrize(
    ("changes", "order"),
    [
        ({"test_permille": 251}, {}),
        ({"seed": 1}, {}),
        ({"label": Condition(column="score", operator="ge", values=(21,))}, {}),
        ({"split": SplitColumn(column="district", test_value="云东")}, {}),
        ({"zero_is_missing": ("age",)}, {}),
        ({}, {"parties": (NODE, "node-west")}),
    ],
)
def test_what_moves_a_row_or_a_department_in_or_out_of_a_training_needs_a_grant_of_its_own(world, changes, order):
    spec = tasks()["linear.secagg"]
    first = spec.selection_sha256(linear_order(world), linear_parameters())
    assert spec.selection_sha256(linear_order(world, **order), linear_parameters(**changes)) != first
    tuned = linear_parameters(rounds=3, l2_micro=5, features=("age", "dose"))
    assert spec.selection_sha256(linear_order(world), tuned) == first


def test_order_of_parties_and_conditions_makes_no_second_selection(world: World) -> None:
    spec = stub_tasks()["stub.other"]
    parameters = spec.parameters(base=1)
    one = world.order("0" * 64, parties=(NODE, "node-west"))
    two = world.order("0" * 64, parties=("node-west", NODE))
    assert spec.selection_sha256(one, parameters) == spec.selection_sha256(two, parameters)


def test_a_training_whose_split_or_label_singles_out_a_row_is_refused() -> None:
    frame = pd.DataFrame(
        {"age": range(40), "ill": [0, 1] * 20, "rare": [1] + [0] * 39, "group": ["one"] + ["many"] * 39}
    )
    spec = tasks()["linear.secagg"]
    tables = {node: {"res.x": frame} for node in ("node-a", "node-b", "node-c")}
    base = {"features": ("age",), "label": Condition(column="ill", operator="eq", values=(1,)), "rounds": 1}
    rare = {"label": Condition(column="rare", operator="eq", values=(1,))}
    for changes in ({"split": SplitColumn(column="group", test_value="one")}, rare):
        trial = Trial.of(spec, tables, cell_min=4)
        with pytest.raises(NodeRefusedError, match=r"resource\.rows"):
            linear.train(trial.session(), trial.resources(), LinearParameters(**(base | changes)))
    trial = Trial.of(spec, tables, cell_min=4)
    linear.train(trial.session(), trial.resources(), LinearParameters(**base))


# Statements


@pytest.fixture
def joint(world: World) -> Joint:
    return Joint(world)


def _zipped(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("rows.csv", content)
    return buffer.getvalue()


def _full_width(text: str) -> str:
    return "".join(chr(ord(character) + 0xFEE0) if character.isdigit() else character for character in text)


NAME, ID = CANARY_NAME.encode(), CANARY_ID.encode()
ESCAPED = json.dumps(CANARY_NAME)
HIDDEN: dict[str, bytes] = {
    "as it is": b"id\n" + ID,
    "full-width digits": _full_width(CANARY_ID).encode(),
    "UTF-16 little endian": CANARY_NAME.encode("utf-16-le"),
    "UTF-16 big endian": CANARY_NAME.encode("utf-16-be"),
    "UTF-16 at an odd place": b"\x01" + CANARY_ID.encode("utf-16-be"),
    "UTF-32": CANARY_ID.encode("utf-32-be"),
    "GB18030": CANARY_NAME.encode("gb18030"),
    "JSON escapes": ESCAPED.encode(),
    "JSON escapes under a key that stands twice": f'{{"a": {ESCAPED}, "a": 1}}'.encode(),
    "JSON inside JSON": json.dumps({"inner": json.dumps({"name": CANARY_NAME})}).encode(),
    "escaped digits": "".join(f"\\u{ord(c):04x}" for c in CANARY_ID).encode(),
    "bytes in a repr": repr(NAME).encode(),
    "HTML entities": "".join(f"&#{ord(c)};" for c in CANARY_NAME).encode(),
    "HTML tags between the characters": "".join(f"<i>{c}</i>" for c in CANARY_NAME).encode(),
    "percent signs": "".join(f"%{byte:02X}" for byte in NAME).encode(),
    "characters that do not show": "\u200b".join(CANARY_ID).encode(),
    "long dashes": f"{CANARY_ID[:6]}\u2014{CANARY_ID[6:]}".encode(),
    "base64": base64.b64encode(b"x," + ID),
    "base64 for addresses, of text": base64.urlsafe_b64encode(NAME).rstrip(b"="),
    "base64 in lines": base64.encodebytes(b"harmless words " * 9 + ID),
    "base64 of base64": base64.b64encode(base64.b64encode(ID)),
    "base64 of gzip": base64.b64encode(gzip.compress(ID)),
    "hexadecimal": b'{"v": "' + NAME.hex().encode() + b'"}',
    "gzip": gzip.compress(NAME),
    "bzip2": bz2.compress(ID),
    "an archive": _zipped(ID),
    "a compressed stream of a document": b"%PDF-1.7\n1 0 obj\nstream\n" + zlib.compress(ID) + b"\nendstream",
}


@pytest.mark.parametrize("way", HIDDEN)
@pytest.mark.requirement("RAW-MARKET", "RAW-NOTRADE")
def test_a_node_does_not_sign_for_a_file_with_a_value_of_its_rows_however_it_is_written(world, joint, way):
    joint.files = {"data/product/tables.json": HIDDEN[way]}
    answer, parts = joint.ask()
    assert isinstance(answer, Refusal)
    assert answer.code.value == "policy.not_allowed"
    assert "res.east.clinic" in answer.message
    assert not parts


@pytest.mark.requirement("RAW-MARKET", "RAW-NOTRADE")
def test_files_that_hold_nothing_of_ours_are_signed_in_each_of_these_ways(joint: Joint) -> None:
    for content in (
        gzip.compress(b"a"),
        _zipped(b"a"),
        base64.b64encode(bytes(range(256))),
        b"\x00\xff" * 99,
        b"%zz &x;",
    ):
        joint.files = {"data/product/tables.json": content}
        assert isinstance(joint.ask()[0], Result)


def test_signing_is_no_oracle_for_who_is_in_the_table(world: World, joint: Joint) -> None:
    assert joint.ask(files={**joint.files, "guess.txt": ID}, sessions=["s-none"])[0].code.value == "policy.not_allowed"
    assert world.books.strikes(joint.grant_sha256) == 0  # nothing is searched before the rest is in order
    for number in range(STRIKES_MAX):
        joint.files = {"data/product/tables.json": ID + b" %d" % number}
        assert "found some of res.east.clinic column id_number" in joint.ask()[0].message
    joint.files = {"data/product/tables.json": b"110101190001011234"}
    answer, _ = joint.ask()
    assert answer.code.value == "policy.not_allowed"
    assert f"at most {STRIKES_MAX} searches" in answer.message
    assert [e.kind for e in world.books.entries()].count("egress.found") == STRIKES_MAX


def change(tree: dict, path: tuple[str, ...], value: object) -> None:
    for key in path[:-1]:
        tree = tree[key]
    tree[path[-1]] = value


UNTRUE: dict[str, tuple[str, tuple[str, ...], object]] = {
    "rounding to multiples of nothing": ("privacy", ("disclosure", "round_base"), 0),
    "rounding below zero": ("privacy", ("disclosure", "round_base"), -5),
    "smaller cells": ("privacy", ("disclosure", "cell_min"), 1),
    "a budget not spent": ("privacy", ("ledgers",), [{"node": NODE, "before": 0, "after": 0}]),
    "two lines for one node": (
        "privacy",
        ("ledgers",),
        [{"node": NODE, "before": 0, "after": 1}, {"node": NODE, "before": 0, "after": 0}],
    ),
    "another session": ("build", ("buildDefinition", "internalParameters", "sessions"), ["s-other"]),
    "a department outside the grant": (
        "build",
        ("buildDefinition", "internalParameters", "parties"),
        [NODE, "node-south"],
    ),
    "without this node": ("release", ("participants",), ["operator", "node-west"]),
    "without the run": ("release", ("attestations",), []),
    "another form": ("release", ("product", "form"), "dataset"),
}


@pytest.mark.parametrize("lie", UNTRUE)
def test_a_joint_statement_that_is_not_true_is_not_signed(world: World, joint: Joint, lie: str) -> None:
    name, path, value = UNTRUE[lie]
    change(getattr(joint, name), path, value)
    answer, parts = joint.ask([({"build": BUILD, "privacy": PRIVACY, "release": RELEASE}[name], getattr(joint, name))])
    assert isinstance(answer, Refusal)
    assert answer.code.value == "policy.not_allowed"
    assert not parts
    assert world.books.entries(limit=1)[0].kind == "refused"


# Trust data


def test_trust_data_rolled_back_frozen_or_mixed_is_refused_and_what_was_in_force_stays(world: World) -> None:
    first, second = world.publish(), world.publish(extra={"more.json": b"{}"})
    world.trust.update(second, now=NOW)
    attacks = {
        "rolled back": (first, NOW, TrustRollbackError),
        "frozen": (world.publish(timestamp_days=1), NOW + timedelta(days=2), TrustError),
        "an old list under the new metadata": (
            second | {name: data for name, data in first.items() if name.startswith("targets/")},
            NOW,
            None,
        ),
        "an old snapshot under a new timestamp": (
            {
                name: (first if "snapshot" in name else second).get(name, b"")
                for name in {*first, *second}
                if not name.endswith(f"{world.agency.version - 1}.snapshot.json")
            },
            NOW,
            TrustError,
        ),
        "one signature where two are needed": (world.publish(signers=("t1",)), NOW, TrustError),
        "another agency's": (World(world.home / "other").publish(version=99), NOW, TrustError),
    }
    before = world.trust.current()
    for name, (files, moment, error) in attacks.items():
        if error is None:
            world.trust.update(files, now=moment)  # old targets beside the named ones count for nothing
        else:
            with pytest.raises(error):
                world.trust.update(files, now=moment)
        assert world.trust.current().versions == before.versions, name
        assert world.trust.current().actors == before.actors, name


def test_what_the_metadata_do_not_name_is_not_kept(world: World) -> None:
    files = world.publish() | {"targets/junk.bin": b"x" * 1000, "metadata/77.root.json": b"{}", "..": b"y"}
    world.trust.update(files, now=NOW)
    kept = {path.name for path in (world.settings.trust / "repository").iterdir()}
    assert not kept & {"junk.bin", "77.root.json"}
    assert set(world.trust.current().files) == kept


# Answers of somebody else


def test_an_answer_forged_by_another_department_or_meant_for_another_question_is_refused(world: World) -> None:
    digest = world.install_grant()
    order = world.order(digest)
    reply = world.agent.handle(world.parcel(order))
    own = world.keys.statement.public
    assert not isinstance(read_answer(reply, order, sender=NODE, key=own), Refusal)
    envelope, parts = wire.unpack(reply)
    result = messages.parse(Result, envelope.payload)
    forged = messages.encode(result, world.people["node-west"].key, parts)
    other = world.order(digest)
    attacks = {
        "signed by another department": (forged, order),
        "meant for another question": (reply, other),
        "in another's name": (
            messages.encode(result.model_copy(update={"sender": "node-west"}), world.keys.statement, parts),
            order,
        ),
        "with other attachments": (wire.pack(envelope, (*parts, b"more")), order),
        "altered": (
            wire.pack(
                Envelope(
                    envelope.payload_type,
                    envelope.payload.replace(b"true", b"null"),
                    envelope.keyid,
                    envelope.signature,
                )
            ),
            order,
        ),
    }
    for name, (parcel, question) in attacks.items():
        with pytest.raises(ContractError):
            read_answer(parcel, question, sender=NODE, key=own)
            pytest.fail(name)


# Relay


@pytest.fixture
def house(tmp_path: Path) -> Iterator[RelayHouse]:
    relay_house = RelayHouse(tmp_path, head_read_s=0.5, connections_max=6)
    yield relay_house
    relay_house.stop()


def call(house: RelayHouse, name: str, method: str, path: str, body: bytes | None = None) -> int:
    identity = house.identities[name]
    context = ssl.create_default_context(cafile=str(house.authority.ca_path))
    context.load_cert_chain(identity.cert_path, identity.key_path)
    connection = http.client.HTTPSConnection("127.0.0.1", house.port, context=context, timeout=5)
    try:
        connection.request(method, path, body=body)
        return connection.getresponse().status
    finally:
        connection.close()


SESSION = "/v1/sessions/s-1"
ASK = f"{SESSION}/asks/node-east/c/1"

RELAY: dict[str, tuple[str, str, str, bytes | None, int]] = {
    "taking a session over": ("agency", "PUT", SESSION, b'{"parties": ["agency"], "ttl_s": 60}', 403),
    "joining a session": (
        "node-north",
        "PUT",
        SESSION,
        b'{"parties": ["node-north", "node-east"], "ttl_s": 60}',
        403,
    ),
    "ending a session of others": ("node-east", "DELETE", SESSION, None, 403),
    "asking in a session of others": ("node-north", "POST", ASK, b"spoofed", 403),
    "reading the reply to another asker": ("node-west", "GET", ASK, None, 404),
    "replying in another's place": ("node-west", "POST", f"{SESSION}/replies/operator/c/1", b"forged", 404),
    "replying from outside": ("node-north", "POST", f"{SESSION}/replies/operator/c/1", b"forged", 403),
    "other bytes under a number that is taken": ("operator", "POST", ASK, b"second", 409),
    "a name with a path in it": ("operator", "GET", "/v1/sessions/s-1/asks/..%2f..%2fx/c/1", None, 404),
}


@pytest.mark.parametrize("attack", RELAY)
def test_a_stranger_to_an_exchange_neither_reads_nor_writes_in_it(house: RelayHouse, attack: str) -> None:
    with RelayClient(house.settings("operator")) as operator:
        operator.put_session("s-1", {"operator", "node-east", "node-west"}, 60)
    assert call(house, "operator", "POST", ASK, b"for node-east alone") == 202
    name, method, path, body, status = RELAY[attack]
    assert call(house, name, method, path, body) == status
    for other in ("node-west", "node-north"):
        listener = RelayListener(house.settings(other))
        assert listener.fetch((), wait_s=0.05) == []
        listener.close()
    listener = RelayListener(house.settings("node-east"))
    assert [frame.body for frame in listener.fetch((), wait_s=1)] == [b"for node-east alone"]
    listener.close()


def test_who_was_removed_while_waiting_is_handed_nothing(house: RelayHouse) -> None:
    listener = RelayListener(house.settings("node-west"))
    refused: list[int] = []

    def wait() -> None:
        try:
            refused.append(len(listener.fetch((), wait_s=5)))
        except RelayRefusedError as error:
            refused.append(error.status)

    waiting = threading.Thread(target=wait)
    waiting.start()
    time.sleep(0.3)
    house.write_actors("operator", "node-east", "agency")
    time.sleep(1.1)
    with RelayClient(house.settings("operator")) as operator:
        operator.put_session("s-2", {"operator", "node-west"}, 60)
    assert call(house, "operator", "POST", "/v1/sessions/s-2/asks/node-west/c/1", b"late") == 202
    waiting.join(10)
    listener.close()
    assert refused == [403]


def _connected(house: RelayHouse, name: str) -> ssl.SSLSocket:
    identity = house.identities[name]
    context = ssl.create_default_context(cafile=str(house.authority.ca_path))
    context.load_cert_chain(identity.cert_path, identity.key_path)
    raw = socket.create_connection(("127.0.0.1", house.port), timeout=5)
    return context.wrap_socket(raw, server_hostname="127.0.0.1")


def _is_ended(connection: ssl.SSLSocket) -> bool:
    try:
        return connection.recv(1) == b""
    except (ConnectionError, ssl.SSLError):
        return True


@pytest.mark.parametrize("said", [b"", b"G", b"GET /v1/health HTTP/1.1\r\nhost: x\r\nx-slow: "])
def test_a_connection_that_never_says_what_it_wants_is_ended(house: RelayHouse, said: bytes) -> None:
    connection = _connected(house, "unit-1")
    connection.sendall(said)
    started = time.monotonic()
    assert _is_ended(connection)
    assert time.monotonic() - started < 4
    connection.close()


def test_one_certificate_cannot_hold_all_connections(house: RelayHouse) -> None:
    held = [_connected(house, "unit-1") for _ in range(9)]
    with RelayClient(house.settings("node-east")) as east:
        east.health()
    assert all(map(_is_ended, held))
    for connection in held:
        connection.close()


def test_a_body_longer_than_announced_is_not_taken(house: RelayHouse) -> None:
    connection = _connected(house, "operator")
    connection.sendall(
        b"PUT /v1/sessions/s-3 HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n"
        b"40\r\n" + b'{"parties": ["operator"], "ttl_s": 60}'.ljust(64) + b"\r\n0\r\n\r\n"
    )
    status = connection.recv(64)
    connection.close()
    assert b" 201 " not in status


# Floods


def test_a_flood_of_refused_orders_costs_a_line_each_and_spends_nothing(world: World) -> None:
    digest = world.install_grant()
    before = world.books.entries(limit=1)[0].seq
    for _ in range(50):
        assert world.code(world.order(digest, purpose="p-2")) == "grant.purpose"
    added = world.books.entries()[before:]
    assert len(added) == 50
    assert all(len(json.dumps(entry.to_json())) < 600 for entry in added)
    assert (world.books.uses(digest), world.books.spent(digest), len(world.agent.sessions)) == (0, 0, 0)


def test_open_sessions_are_bounded_by_the_uses_of_the_grant(world: World) -> None:
    digest = world.install_grant()
    codes = [world.code(world.order(digest)) for _ in range(6)]
    assert codes == ["", "", "", "grant.exhausted", "grant.exhausted", "grant.exhausted"]
    assert len(world.agent.sessions) == 3
