"""Private verification, both halves together, and what each party might try."""

import time
from collections import deque
from dataclasses import replace
from datetime import UTC, datetime

import pandas as pd
import pytest

from factory.client.ask import time_answers
from factory.client.match import DishonestNodeError, Found, Invitation, InvitationError, Matcher, RecordError
from factory.errors import NodeRefusedError
from factory.federation.session import Refusal, Reply, require
from factory.hub.bus import NodeUnreachableError
from nodes.contract import canonical, wire
from nodes.contract.errors import MalformedError
from nodes.contract.grant import Budget
from nodes.contract.messages import Result, Step, encode, parse
from nodes.contract.sealing import SealHeader, seal
from nodes.contract.signing import Envelope, sha256_hex, sign
from nodes.contract.tasks.match import MatchBand, MatchField, MatchParameters, bucket_of, normalise, record_input
from nodes.contract.trust import Actors
from nodes.privacy import evaluating
from nodes.privacy import register as registers
from nodes.privacy.normalise import inputs
from nodes.privacy.oprf import EvaluationKey
from nodes.privacy.register import prepare
from nodes.tasks import match as match_task
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
    records: int = 1,
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
        body={"number": number, "records": records},
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
        canonical.dumps({"blinded": [GOOD]}),
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
    assert _step(setup, good, sequence=2, number=-1).code == "task.protocol"
    assert isinstance(_step(setup, good, sequence=3), Result)
    assert _step(setup, good, sequence=3).code == "session.sequence"
    assert _step(setup, good, sequence=4, number=0).code == "task.protocol"
    assert _step(setup, good, sequence=5, number=1, records=2).code == "task.protocol"
    assert setup.node.budget_left == 1_000_000 - 1


def test_the_operator_cannot_ask() -> None:
    setup = Setup()
    setup.invitation()
    answers = setup.session.step("match.other", {"node-north": {}})
    assert answers["node-north"].code == "grant.parties"
    answer = _step(setup, canonical.dumps({"blinded": [GOOD], "buckets": [0]}), sender="operator", sequence=2)
    assert isinstance(answer, Refusal)
    assert answer.code == "grant.parties"


def test_a_node_that_evaluates_with_another_key_than_it_committed_to_is_caught() -> None:
    setup = Setup()
    matcher = setup.matcher()
    task = setup.node.sessions[setup.session.session_id]
    task._register = replace(task._register, key=EvaluationKey.generate())
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


def test_an_application_unit_comes_back_to_an_open_session_with_another_process() -> None:
    setup = Setup()
    invitation = setup.invitation()
    assert setup.matcher(invitation=invitation).ask([{"name": "王五", "id": "110101199003070011"}] * 5) == (True,) * 5
    assert setup.matcher(invitation=invitation).ask([{"name": "王五", "id": "110101199003070012"}]) == (False,)


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


def records_of(count: int, *, start: int = 0) -> dict[bytes, int | None]:
    return {record_input((f"n{i}", str(i)), FIELDS): None for i in range(start, start + count)}


def entries(register) -> set[bytes]:
    return {
        register.table[at : at + register.entry_bytes] for at in range(0, len(register.table), register.entry_bytes)
    }


def test_key_and_tags_outlive_a_session_and_only_new_rows_are_evaluated(tmp_path, monkeypatch) -> None:
    path = tmp_path / "r" / "one"
    evaluated = []
    real = registers.evaluate_many
    monkeypatch.setattr(
        registers, "evaluate_many", lambda key, data, done: (evaluated.append(len(data)), real(key, data, done=done))[1]
    )
    first = prepare(records_of(20), path)
    again = prepare(records_of(20), path)
    assert (again.key.public, again.table, again.version) == (first.key.public, first.table, first.version)
    assert path.stat().st_mode & 0o777 == 0o600
    changed = prepare(records_of(20, start=1), path)
    assert evaluated == [20, 1]
    assert changed.key.public == first.key.public
    assert changed.version != first.version
    assert len(entries(changed) - entries(first)) == 1
    assert len(entries(first) - entries(changed)) == 1
    assert prepare(records_of(19, start=1), path).records == 19
    assert evaluated == [20, 1]
    assert first.key.secret.hex() not in repr(first)


def test_filling_cannot_be_told_from_records_by_who_compares_versions(tmp_path) -> None:
    """What goes when a record comes is one entry of filling; nothing else changes."""
    few = prepare(records_of(60), tmp_path / "one")
    more = prepare(records_of(64), tmp_path / "one")
    assert (len(entries(few)), len(entries(more))) == (64, 64)
    assert len(entries(few) & entries(more)) == 60
    grown = prepare(records_of(65), tmp_path / "one")
    assert len(entries(grown) & entries(few)) == 60 + 4


def test_a_register_gets_a_new_key_after_its_days(tmp_path) -> None:
    day = 86_400
    first = prepare(records_of(5), tmp_path / "one", now_s=0)
    assert prepare(records_of(5), tmp_path / "one", now_s=registers.KEY_DAYS_MAX * day).key.public == first.key.public
    later = prepare(records_of(5), tmp_path / "one", now_s=registers.KEY_DAYS_MAX * day + 1)
    assert later.key.public != first.key.public
    assert entries(later).isdisjoint(entries(first))


def test_an_altered_or_readable_register_file_is_made_anew(tmp_path) -> None:
    first = prepare(records_of(2), tmp_path / "one")
    stored = bytearray((tmp_path / "one").read_bytes())
    stored[100] ^= 1
    (tmp_path / "one").write_bytes(bytes(stored))
    second = prepare(records_of(2), tmp_path / "one")
    assert second.key.public != first.key.public
    (tmp_path / "one").chmod(0o644)
    assert prepare(records_of(2), tmp_path / "one").key.public != second.key.public


def test_buckets_hold_at_least_a_thousand_records_each_and_have_one_size(tmp_path) -> None:
    assert prepare(records_of(1999), tmp_path / "few").bits == 0
    many = records_of(8100)  # 8 buckets would hold 1 012 on average, and some too few
    register = prepare(many, tmp_path / "many")
    assert register.bits == 2
    counts = [0] * 4
    for data in many:
        counts[bucket_of(data, register.bits)] += 1
    assert min(counts) >= 1000
    assert register.bucket_rows % 64 == 0
    assert [len(register.bucket(index)) for index in range(5)] == [register.bucket_rows * 8] * 4 + [0]


def test_processes_of_their_own_evaluate_what_the_agent_would(tmp_path) -> None:
    key = EvaluationKey.generate()
    data = list(records_of(evaluating.IN_PROCESS_MAX + 1))
    beside = evaluating.evaluate_many(key, data)
    assert len(beside) == len(data) * evaluating.VALUE_BYTES
    for place in (0, 1234, len(data) - 1):
        alone = evaluating.evaluate_many(key, [data[place]])
        assert beside[place * evaluating.VALUE_BYTES : (place + 1) * evaluating.VALUE_BYTES] == alone


def test_a_preparation_that_is_interrupted_goes_on_where_it_was(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(registers, "SAVE_EVERY_S", 0.0)
    monkeypatch.setattr(evaluating, "IN_PROCESS_MAX", 10)
    monkeypatch.setattr(evaluating, "PART", 50)
    seen = []

    def interrupt(done: int, of: int) -> None:
        seen.append((done, of))
        if len(seen) == 3:
            raise OSError("killed")

    with pytest.raises(OSError, match="killed"):
        prepare(records_of(300), tmp_path / "one", progress=interrupt)
    left = registers.missing(records_of(300), tmp_path / "one")
    assert 0 < left < 300
    told = []
    prepare(records_of(300), tmp_path / "one", progress=lambda done, of: told.append(of))
    assert set(told) == {left}
    assert registers.missing(records_of(300), tmp_path / "one") == 0


def test_a_large_register_is_prepared_beside_other_work_and_then_answers(monkeypatch) -> None:
    monkeypatch.setattr(match_task, "AT_ONCE_MAX", 3)
    setup = Setup()
    answer = setup.open()["node-north"]
    assert isinstance(answer, Refusal)
    assert answer.code == "resource.preparing"
    deadline = time.monotonic() + 30
    while isinstance(answer, Refusal) and time.monotonic() < deadline:
        assert answer.code == "resource.preparing"
        time.sleep(0.1)
        answer = setup.open()["node-north"]
    assert isinstance(answer, Reply)


BANDS = MatchParameters(
    fields=(MatchField(column="code"),), band=MatchBand(column="capital", edges=("100", "500.5")), batch_max=10
)
FIRMS = pd.DataFrame(
    {
        "code": ["A", "B", "C", "D", "E", "E", "F", "F"],
        "capital": [99.0, 100.0, 500.5, None, 1.0, 200.0, 7.0, 8.0],
    }
)


def banded_matcher() -> Matcher:
    setup = Setup()
    trial = Trial.of(SPEC, {"node-north": {"res.register": FIRMS}}, clients=("unit-1", "unit-2"), rows_min=1)
    setup.trial, setup.node = trial, trial.nodes["node-north"]
    setup.node.grant = trial.grant = trial.grant.model_copy(
        update={"budget": Budget(unit="query", total=100), "clients": ("unit-1",)}
    )
    setup.session = trial.session(clients=("unit-1",))
    setup.actors = Actors(actors=tuple(party.actor for party in trial.parties.values()))
    require(setup.open(BANDS))
    accepted = dict(setup.session.transcript)["node-north"]
    return setup.matcher(invitation=Invitation(setup.session.order_envelopes["node-north"], accepted))


def test_an_asker_learns_the_band_of_what_it_finds_and_none_of_what_it_does_not() -> None:
    matcher = banded_matcher()
    found = matcher.look_up([{"code": code} for code in "ABCDEFX"])
    assert [answer.match for answer in found] == [True] * 6 + [False]
    assert [answer.band for answer in found] == ["(-∞, 100)", "[100, 500.5)", "[500.5, ∞)", "?", "?", "(-∞, 100)", None]


def test_a_band_stays_covered_without_the_evaluation_and_its_cover_changes_with_the_version(tmp_path) -> None:
    one = {record_input(("a",), (MatchField(column="code"),)): 1}
    first = prepare(one, tmp_path / "one")
    other = prepare(one | {record_input(("b",), (MatchField(column="code"),)): 2}, tmp_path / "one")
    tags = {entry[:8]: entry[8] for entry in entries(first)}
    shared = [(tags[entry[:8]], entry[8]) for entry in entries(other) if entry[:8] in tags]
    assert len(shared) == 63
    covers = set()
    for _ in range(20):
        name = tmp_path / str(len(covers)) / "r"
        covers |= {entry[8] for entry in entries(prepare(one, name))}
    assert len(covers) > 100  # one band, any byte


@pytest.mark.parametrize("edges", [("2", "1"), ("1", "1"), ("x",), ("nan",), ()])
def test_edges_that_do_not_rise_are_no_bands(edges) -> None:
    with pytest.raises(ValueError, match=r"edges|numbers"):
        MatchBand(column="capital", edges=edges)


def test_who_holds_the_whole_table_names_no_bucket_and_gets_the_same_answers() -> None:
    setup = Setup()
    matcher = setup.matcher()
    asked = [{"name": "张三", "id": "11010119900307777X"}, {"name": "张三", "id": "110101199003070011"}]
    by_bucket = matcher.ask(asked)
    table = matcher.take_table()
    before = matcher.bytes_received
    assert matcher.ask(asked) == by_bucket == (True, False)
    assert matcher.bytes_received - before < 4000
    plaintexts = [plain for plain in setup.node.unsealed if b"blinded" in plain]
    assert [canonical.loads(plain)["buckets"] is None for plain in plaintexts] == [False, True]
    sent = matcher.bytes_sent
    assert matcher.take_table(table) == table
    assert matcher.bytes_sent == sent  # the kept one is the one that was committed to


def test_a_table_that_is_not_the_one_committed_to_is_refused() -> None:
    setup = Setup()
    matcher = setup.matcher()
    task = setup.node.sessions[setup.session.session_id]
    task._register = replace(task._register, table=bytes(len(task._register.table)))
    with pytest.raises(DishonestNodeError):
        matcher.take_table()


def test_who_asks_too_fast_is_slowed_down_and_may_go_on_a_minute_later() -> None:
    setup = Setup()
    require(setup.open(PARAMETERS.model_copy(update={"minute_max": 3})))
    accepted = dict(setup.session.transcript)["node-north"]
    matcher = setup.matcher(invitation=Invitation(setup.session.order_envelopes["node-north"], accepted))
    record = {"name": "王五", "id": "110101199003070011"}
    assert matcher.ask([record] * 3) == (True,) * 3
    with pytest.raises(NodeRefusedError) as refused:
        matcher.ask([record])
    assert refused.value.refusal_code == "task.rate"
    assert setup.node.budget_left == 1_000_000 - 3
    task = setup.node.sessions[setup.session.session_id]
    task._minute["unit-1"] = deque((moment - 61, count) for moment, count in task._minute["unit-1"])
    assert matcher.ask([record]) == (True,)


def test_both_sides_sign_how_much_was_asked() -> None:
    setup = Setup()
    receipts = []
    matcher = setup.matcher()
    matcher.keep = receipts.append
    matcher.ask([{"name": "王五", "id": "110101199003070011"}] * 6)
    steps = [parse(Step, receipt.asked.payload) for receipt in receipts]
    results = [parse(Result, receipt.answered.payload) for receipt in receipts]
    assert [step.body["records"] for step in steps] == [4, 2]
    assert [result.body["queries"] for result in results] == [4, 6]
    for receipt, result in zip(receipts, results, strict=True):
        assert result.request_sha256 == receipt.asked.payload_sha256
        receipt.asked.open(setup.trial.parties["unit-1"].key.public, Step.payload_type)
        receipt.answered.open(setup.trial.parties["node-north"].key.public, Result.payload_type)
        assert "王五".encode() not in receipt.asked.payload + receipt.answered.payload


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


class Slow:
    """Answers as a matcher does, and takes longer where the record is known."""

    def __init__(self, extra_s: float) -> None:
        self.extra_s = extra_s

    def look_up(self, records):
        time.sleep(0.002 + self.extra_s * (records[0]["code"] == "yes"))
        return [Found(match=record["code"] == "yes") for record in records]


@pytest.mark.requirement("RECON")
def test_a_department_whose_time_tells_a_hit_is_noticed_from_outside():
    records = [{"code": "yes"}, {"code": "no"}, {"code": "yes"}]
    answers = [Found(match=record["code"] == "yes") for record in records]
    told = time_answers(Slow(0.01), records, answers, rounds=8)
    assert told["timing_auc_micro"] == 1_000_000
    assert told["timing_auc_low_micro"] > 600_000
    assert time_answers(Slow(0.01), records[:1], answers[:1], rounds=8) == {}


def test_times_of_a_real_department_are_compared_without_a_record_in_what_is_told():
    setup = Setup()
    matcher = setup.matcher()
    records = [{"name": "张三", "id": "11010119900307777X"}, {"name": "查无此人", "id": "110101199003070011"}]
    told = time_answers(matcher, records, matcher.look_up(records), rounds=3)
    assert set(told) == {"timing_auc_micro", "timing_auc_low_micro", "timing_auc_high_micro"}
    assert 500_000 <= told["timing_auc_micro"] <= 1_000_000
    assert matcher.queries == 2 + 2 * (3 + 1)  # each is a question like any other
