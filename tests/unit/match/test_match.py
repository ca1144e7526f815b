"""Private verification, both halves together, and what each party might try."""

from datetime import UTC, datetime

import pandas as pd
import pytest

from factory.client.match import DishonestNodeError, Invitation, InvitationError, Matcher, RecordError
from factory.errors import NodeRefusedError
from factory.federation.session import Refusal, Reply, require
from factory.hub.bus import NodeUnreachableError
from nodes.contract import canonical, wire
from nodes.contract.errors import MalformedError
from nodes.contract.grant import Budget
from nodes.contract.messages import Result, Step, encode, parse
from nodes.contract.sealing import SealHeader, seal
from nodes.contract.signing import Envelope, sha256_hex, sign
from nodes.contract.tasks.match import MatchField, MatchParameters, bucket_of, normalise, record_input
from nodes.contract.trust import Actors
from nodes.privacy.normalise import inputs
from nodes.privacy.oprf import EvaluationKey
from nodes.privacy.register import build, load_or_build
from nodes.tasks.catalogue import tasks
from nodes.tasks.spec import TaskRefusedError
from tests.federation_harness import Trial

SPEC = tasks()["match.voprf"]
FIELDS = (
    MatchField(column="name", rules=("width", "trim", "name_dots")),
    MatchField(column="id", rules=("trim", "id18", "upper")),
)
PARAMETERS = MatchParameters(fields=FIELDS, batch_max=4, queries_max=20)
REGISTER = pd.DataFrame(
    {
        "name": ["张三", "李四", "阿依古丽·买买提", "王五", None],
        "id": [
            "11010119900307777X",
            "110101900307123",
            "650102198501010012",
            "110101199003070011",
            "110101199003070022",
        ],
    }
)


class Setup:
    """One department, one operator, one application unit, one open session."""

    def __init__(self, *, unit: str = "query", clients: tuple[str, ...] = ("unit-1",), rows_min: int = 1) -> None:
        self.trial = Trial.of(
            SPEC, {"node-north": {"res.register": REGISTER}}, clients=("unit-1", "unit-2"), rows_min=rows_min
        )
        grant = self.trial.grant.model_copy(update={"budget": Budget(unit=unit, total=100), "clients": ("unit-1",)})
        self.trial.grant = grant
        self.node = self.trial.nodes["node-north"]
        self.node.grant = grant
        self.session = self.trial.session(clients=clients)
        self.actors = Actors(actors=tuple(party.actor for party in self.trial.parties.values()))

    def open(self, parameters: MatchParameters = PARAMETERS):
        return self.session.open(SPEC.name, parameters.model_dump(mode="json"), self.trial.resources())

    def invitation(self) -> Invitation:
        require(self.open())
        accepted = dict(self.session.transcript)["node-north"]
        return Invitation(self.session.order_envelopes["node-north"], accepted)

    def matcher(self, client: str = "unit-1", invitation: Invitation | None = None, bus=None) -> Matcher:
        party = self.trial.parties[client]
        return Matcher(
            client=client,
            key=party.key,
            sealing_key=party.sealing,
            actors=self.actors,
            bus=bus or self.trial.bus,
            invitation=invitation or self.invitation(),
        )


class Altering:
    """A bus whose answers, or requests, somebody changes on the way."""

    def __init__(self, bus, change) -> None:
        self.bus, self.change = bus, change

    def ask(self, node: str, parcel: bytes, *, timeout_s: float) -> bytes:
        return self.change(self.bus.ask(node, parcel, timeout_s=timeout_s))


def test_a_client_that_the_grant_does_not_name_is_refused() -> None:
    setup = Setup(clients=("unit-1", "unit-2"))
    with pytest.raises(NodeRefusedError) as refused:
        setup.matcher("unit-2").ask([{"name": "张三", "id": "11010119900307777X"}])
    assert refused.value.refusal_code == "grant.parties"


def test_a_client_that_the_order_does_not_name_cannot_join() -> None:
    setup = Setup()
    with pytest.raises(InvitationError):
        setup.matcher("unit-2")


def test_an_acceptance_of_another_order_or_by_another_signer_cannot_be_joined() -> None:
    setup = Setup()
    good = setup.invitation()
    other = Setup().invitation()
    payload = canonical.loads(good.accepted.payload)
    payload["body"]["public_key"] = EvaluationKey.generate().public.hex()
    forged = sign(setup.trial.parties["operator"].key, Result.payload_type, canonical.dumps(payload))
    for accepted in (other.accepted, forged):
        with pytest.raises(InvitationError):
            setup.matcher(invitation=Invitation(good.order, accepted))
    altered = Envelope(
        good.order.payload_type,
        good.order.payload.replace(b'"batch_max":4', b'"batch_max":5'),
        good.order.keyid,
        good.order.signature,
    )
    with pytest.raises(InvitationError):
        setup.matcher(invitation=Invitation(altered, good.accepted))
    assert Invitation.from_bytes(good.to_bytes()) == good


@pytest.mark.parametrize(
    ("bits", "rows"), [(1, 64), (1, 999), (20, 0), (21, 4096), (24, 1024), (-1, 1024), (True, 1024)]
)
def test_an_asker_does_not_join_a_layout_that_would_single_out_what_it_asks(bits: int, rows: int) -> None:
    setup = Setup()
    good = setup.invitation()
    payload = canonical.loads(good.accepted.payload)
    payload["body"] |= {"bits": bits, "bucket_rows": rows}
    signed = sign(setup.trial.parties["node-north"].key, Result.payload_type, canonical.dumps(payload))
    with pytest.raises(InvitationError):
        setup.matcher(invitation=Invitation(good.order, signed))


def test_an_asker_joins_buckets_of_at_least_a_thousand() -> None:
    setup = Setup()
    good = setup.invitation()
    payload = canonical.loads(good.accepted.payload)
    payload["body"] |= {"bits": 20, "bucket_rows": 1000}
    signed = sign(setup.trial.parties["node-north"].key, Result.payload_type, canonical.dumps(payload))
    assert setup.matcher(invitation=Invitation(good.order, signed)).node == "node-north"


def test_the_budget_ends_the_asking() -> None:
    setup = Setup()
    matcher = setup.matcher()
    setup.node.budget_left = 5
    assert matcher.ask([{"name": "王五", "id": "110101199003070011"}] * 4) == (True,) * 4
    with pytest.raises(NodeRefusedError) as refused:
        matcher.ask([{"name": "王五", "id": "110101199003070011"}] * 2)
    assert refused.value.refusal_code == "grant.budget"
    assert matcher.ask([{"name": "王五", "id": "110101199003070011"}]) == (True,)
    with pytest.raises(NodeRefusedError):
        matcher.ask([{"name": "王五", "id": "110101199003070011"}])


def test_the_limit_of_the_session_ends_the_asking() -> None:
    setup = Setup()
    require(setup.open(PARAMETERS.model_copy(update={"queries_max": 2})))
    accepted = dict(setup.session.transcript)["node-north"]
    matcher = setup.matcher(invitation=Invitation(setup.session.order_envelopes["node-north"], accepted))
    assert matcher.ask([{"name": "王五", "id": "110101199003070011"}] * 2) == (True, True)
    with pytest.raises(NodeRefusedError):
        matcher.ask([{"name": "王五", "id": "110101199003070011"}])


def test_a_grant_whose_budget_does_not_count_queries_is_refused() -> None:
    answer = Setup(unit="session").open()["node-north"]
    assert isinstance(answer, Refusal)
    assert answer.code == "grant.budget"


def test_a_register_below_the_fewest_rows_is_refused() -> None:
    assert isinstance(Setup(rows_min=4).open()["node-north"], Reply)
    answer = Setup(rows_min=5).open()["node-north"]
    assert isinstance(answer, Refusal)
    assert answer.code == "resource.rows"


def _step(
    setup: Setup,
    plaintext: bytes,
    *,
    number: int = 0,
    label: str = "match.ask",
    sequence: int = 1,
    sender: str = "unit-1",
):
    node, client = setup.trial.parties["node-north"], setup.trial.parties[sender]
    sealed = seal(
        plaintext, node.actor.sealing_bytes, SealHeader(setup.session.session_id, sender, "node-north", label, number)
    )
    step = Step(
        session_id=setup.session.session_id,
        order_sha256=setup.session.order_envelopes["node-north"].payload_sha256,
        sequence=sequence,
        kind="match.evaluate",
        sender=sender,
        recipient="node-north",
        body={"number": number},
        attachments_sha256=(sha256_hex(sealed),),
        issued_at=datetime.now(UTC),
    )
    envelope, _ = wire.unpack(setup.trial.bus.ask("node-north", encode(step, client.key, (sealed,)), timeout_s=1))
    return parse(Result if envelope.payload_type == Result.payload_type else Refusal, envelope.payload)


GOOD = "863f330cc1a1259ed5a5998a23acfd37fb4351a793a5b3c090b642ddc439b945"


@pytest.mark.parametrize(
    "plaintext",
    [
        canonical.dumps({"blinded": ["00" * 32], "buckets": [0]}),
        canonical.dumps({"blinded": ["zz"], "buckets": [0]}),
        canonical.dumps({"blinded": [GOOD], "buckets": [1]}),
        canonical.dumps({"blinded": [GOOD], "buckets": [True]}),
        canonical.dumps({"blinded": [GOOD], "buckets": []}),
        canonical.dumps({"blinded": [], "buckets": []}),
        canonical.dumps({"blinded": [GOOD] * 5, "buckets": [0] * 5}),
        b"{}",
        b"",
    ],
)
def test_a_malformed_batch_is_refused_and_costs_nothing(plaintext: bytes) -> None:
    setup = Setup()
    setup.invitation()
    answer = _step(setup, plaintext)
    assert isinstance(answer, Refusal)
    assert answer.code == "task.protocol"
    assert setup.node.budget_left == 1_000_000


def test_a_batch_sealed_for_another_place_or_sent_again_is_refused() -> None:
    setup = Setup()
    setup.invitation()
    good = canonical.dumps({"blinded": [GOOD], "buckets": [0]})
    assert _step(setup, good, label="match.other").code == "task.protocol"
    assert _step(setup, good, sequence=2, number=1).code == "task.protocol"
    assert isinstance(_step(setup, good, sequence=3), Result)
    assert _step(setup, good, sequence=3).code == "session.sequence"
    assert _step(setup, good, sequence=4, number=0).code == "task.protocol"
    assert setup.node.budget_left == 1_000_000 - 1


def test_the_operator_cannot_ask() -> None:
    setup = Setup()
    setup.invitation()
    answers = setup.session.step("match.other", {"node-north": {}})
    assert answers["node-north"].code == "task.protocol"
    answer = _step(setup, canonical.dumps({"blinded": [GOOD], "buckets": [0]}), sender="operator", sequence=2)
    assert isinstance(answer, Refusal)
    assert answer.code == "grant.parties"


def test_a_node_that_evaluates_with_another_key_than_it_committed_to_is_caught() -> None:
    setup = Setup()
    matcher = setup.matcher()
    task = setup.node.sessions[setup.session.session_id]
    task._register = build([b"x"], EvaluationKey.generate())
    with pytest.raises(DishonestNodeError):
        matcher.ask([{"name": "王五", "id": "110101199003070011"}])


def test_a_lost_answer_is_delivered_again_before_the_next_step() -> None:
    setup = Setup()
    lost = [True]

    class Losing(Altering):
        def ask(self, node: str, parcel: bytes, *, timeout_s: float) -> bytes:
            if lost:
                lost.pop()
                raise NodeUnreachableError("no answer")
            return super().ask(node, parcel, timeout_s=timeout_s)

    matcher = setup.matcher(bus=Losing(setup.trial.bus, lambda parcel: parcel))
    with pytest.raises(NodeUnreachableError):
        matcher.ask([{"name": "王五", "id": "110101199003070011"}])
    assert matcher.ask([{"name": "王五", "id": "110101199003070011"}]) == (True,)


def test_the_asker_learns_yes_or_no_after_the_rules_of_the_order() -> None:
    setup = Setup()
    matcher = setup.matcher()
    asked = [
        {"name": " 张三", "id": "11010119900307777x "},
        {"name": "李四", "id": "110101199003071233"},
        {"name": "阿依古丽•买买提", "id": "650102198501010012"},
        {"name": "张三", "id": "110101199003070011"},
        {"name": "李四", "id": "110101900307123"},
    ]
    id18 = normalise("110101900307123", ("id18",))
    assert matcher.ask(asked) == (True, asked[1]["id"] == id18, True, False, True)
    closed = require(setup.session.close())["node-north"]
    assert closed.body == {"contributors": 1, "outputs": [], "queries": 5, "suite": "voprf-ristretto255-sha512-v1"}


def test_no_value_leaves_either_side_and_nothing_prints_one() -> None:
    setup = Setup()
    matcher = setup.matcher()
    sent = []
    ask = setup.trial.bus.ask
    setup.trial.bus.ask = lambda node, parcel, timeout_s: (sent.append(parcel), ask(node, parcel, timeout_s=timeout_s))[
        1
    ]
    assert matcher.ask([{"name": "张三", "id": "11010119900307777X"}]) == (True,)
    with pytest.raises(RecordError) as refused:
        matcher.ask([{"name": "张三", "id": " "}])
    everything = b"".join(sent + setup.node.sent) + repr((matcher, refused.value, refused.getrepr())).encode()
    for canary in ("张三", "11010119900307777"):
        assert canary.encode() not in b"".join(sent + setup.node.sent)
        assert canary not in repr(matcher) + str(refused.value)
    assert everything


def test_a_record_without_a_declared_field_is_refused_before_anything_is_sent() -> None:
    setup = Setup()
    matcher = setup.matcher()
    with pytest.raises(RecordError):
        matcher.ask([{"name": "张三"}])
    assert setup.node.budget_left == 1_000_000


def test_key_and_tags_outlive_a_session_and_change_with_the_register(tmp_path) -> None:
    data = [record_input((f"n{i}", str(i)), FIELDS) for i in range(20)]
    first = load_or_build(data, tmp_path / "r" / "one")
    again = load_or_build(data, tmp_path / "r" / "one")
    assert (again.key.public, again.tags) == (first.key.public, first.tags)
    assert (tmp_path / "r" / "one").stat().st_mode & 0o777 == 0o600
    changed = load_or_build(data[:-1], tmp_path / "r" / "one")
    assert changed.key.public != first.key.public
    (tmp_path / "r" / "one").chmod(0o644)
    assert load_or_build(data[:-1], tmp_path / "r" / "one").key.public != changed.key.public
    assert first.key.secret.hex() not in repr(first)


def test_an_altered_register_file_is_made_anew(tmp_path) -> None:
    first = load_or_build([b"a", b"b"], tmp_path / "one")
    stored = bytearray((tmp_path / "one").read_bytes())
    stored[100] ^= 1
    (tmp_path / "one").write_bytes(bytes(stored))
    assert load_or_build([b"a", b"b"], tmp_path / "one").key.public != first.key.public


def test_buckets_hold_at_least_a_thousand_records_each_and_have_one_size() -> None:
    few, many = [b"%d" % i for i in range(1999)], [b"%d" % i for i in range(8100)]
    assert build(few, EvaluationKey.generate()).bits == 0
    register = build(many, EvaluationKey.generate())  # 8 buckets would hold 1 012 on average, and some too few
    assert register.bits == 2
    counts = [0] * 4
    for data in many:
        counts[bucket_of(data, register.bits)] += 1
    assert min(counts) >= 1000
    assert register.bucket_rows % 64 == 0
    assert [len(register.bucket(index)) for index in range(5)] == [register.bucket_rows * 16] * 4 + [0]


def test_rows_with_an_empty_field_are_left_out() -> None:
    found, skipped = inputs(REGISTER, FIELDS)
    assert (len(found), skipped) == (4, 1)


@pytest.mark.parametrize(
    ("rules", "value", "expected"),
    [
        (("trim",), "\u3000 abc\u200b ", "abc"),
        (("spaces",), " a b\u3000c", "abc"),
        (("width",), "ＡＢ１２（有限）", "AB12(有限)"),
        (("upper",), "91110108ma0x", "91110108MA0X"),
        (("lower",), "AbC", "abc"),
        (("brackets",), "北京（集团）【总】", "北京(集团)(总)"),
        (("id18",), "110105491231002", "11010519491231002X"),
        (("id18",), "11010519491231002X", "11010519491231002X"),
        (("name_dots",), "买买提•艾力．江", "买买提·艾力·江"),
    ],
)
def test_the_rules_do_what_they_say(rules, value: str, expected: str) -> None:
    assert normalise(value, rules) == expected


def test_fields_cannot_run_into_each_other() -> None:
    assert record_input(("ab", "c"), FIELDS) != record_input(("a", "bc"), FIELDS)
    with pytest.raises(MalformedError):
        record_input(("a",), FIELDS)
    with pytest.raises(MalformedError):
        record_input(("a" * 5000, "b"), FIELDS)


def test_the_order_of_missing_columns_is_named() -> None:
    setup = Setup()
    answer = setup.session.open(SPEC.name, PARAMETERS.model_dump(mode="json"), setup.trial.resources(["name"]))[
        "node-north"
    ]
    assert isinstance(answer, Refusal)
    assert answer.code == "grant.column"
    assert TaskRefusedError("x", "y").code == "x"
