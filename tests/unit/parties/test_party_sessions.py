"""Halves of a protocol over real agents: order, size, replay, restart and refusal of what passes between nodes."""

import threading

import pandas as pd
import pytest
from pydantic import BaseModel, ConfigDict

from factory.errors import NodeRefusedError
from factory.federation.parties import run_parties
from nodes.contract import messages, wire
from nodes.contract.messages import Refusal, Result
from nodes.contract.parties import PARTS, PartyFrame
from nodes.contract.signing import Envelope, sha256_hex
from nodes.contract.statement import NODE_RUN, read
from nodes.tasks.party import Finished, Party, start_party
from nodes.tasks.spec import TaskContext, TaskRefusedError, TaskSpec
from tests.party_world import PartyWorld

SECRET = "金丝雀不外传的内容"


class Talk(BaseModel):
    """Parameters of the talk."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    asker: str
    rounds: int = 3
    size: int = 10
    size_max: int = 10_000_000
    wrong_label: bool = False


class Stage:
    """The two halves of a talk, and what a test may do to them while they run."""

    def __init__(self) -> None:
        self.at_round: dict[int, threading.Event] = {}
        self.go_on = threading.Event()
        self.go_on.set()
        self.runs: list[tuple[str, int]] = []

    def asker(self, party: Party, context: TaskContext) -> Finished:
        talk = context.parameters
        done, total = self.start_of(party)
        for number in range(done + 1, talk.rounds + 1):
            for peer in party.peers:
                party.channel(peer).send("question", f"{SECRET}{number}".encode() + bytes(talk.size))
                total += len(party.channel(peer).receive("answer", size_max=talk.size_max))
            party.progress(round=number)
            party.checkpoint(number, total.to_bytes(8, "big"))
        return Finished({"contributors": len(party.peers) + 1, "outputs": []}, {"total": total}, (b"part",))

    def answerer(self, party: Party, context: TaskContext) -> Finished:
        talk = context.parameters
        channel = party.channel(talk.asker)
        done, total = self.start_of(party)
        for number in range(done + 1, talk.rounds + 1):
            data = channel.receive("question", size_max=talk.size_max)
            if number in self.at_round:
                self.at_round[number].set()
                self.go_on.wait(20)
            total += len(data)
            channel.send("reply" if talk.wrong_label else "answer", data + data)
            party.checkpoint(number, total.to_bytes(8, "big"))
        return Finished({"contributors": 2, "outputs": []}, {"total": total})

    def start_of(self, party: Party) -> tuple[int, int]:
        step, state = party.resumed or (0, bytes(8))
        self.runs.append((party.node, step))
        return step, int.from_bytes(state, "big")

    def spec(self) -> TaskSpec:
        def start(context: TaskContext):
            return start_party(
                context, self.asker if context.node == context.parameters.asker else self.answerer, {"ready": True}
            )

        return TaskSpec("talk", Talk, start, party=True)


def frame_of(parcel: bytes) -> PartyFrame:
    return messages.parse(PartyFrame, wire.unpack(parcel)[0].payload)


def make(tmp_path, nodes=("node-a", "node-b")) -> tuple[PartyWorld, Stage]:
    stage = Stage()
    table = pd.DataFrame({"id": [f"k{n}" for n in range(30)]})
    return PartyWorld(tmp_path, dict.fromkeys(nodes, table), {"talk": stage.spec()}), stage


@pytest.fixture
def both(tmp_path):
    made, stage = make(tmp_path)
    yield made, stage
    made.close()


def test_halves_talk_and_each_node_states_its_part(both):
    world, _ = both
    heard = []
    found = run_parties(world.session(), "talk", {"asker": "node-a"}, world.resources(), on_progress=heard.append)
    assert found["node-a"].body == {"total": 2 * found["node-b"].body["total"]}
    assert found["node-a"].attachments == (b"part",)
    statements = [read(result.statement.payload, NODE_RUN) for result in found.values()]
    assert [predicate["contributors"] for _, predicate in statements] == [2, 2]
    assert heard[-1]["node-a"]["progress"] == {"round": 3}
    assert all(agent.books.verify_chain() > 10 for agent in world.agents.values())


def test_what_passes_between_nodes_is_unreadable_on_the_way(both):
    world, _ = both
    run_parties(world.session(), "talk", {"asker": "node-a"}, world.resources())
    assert not any(SECRET.encode() in parcel for _, _, parcel in world.seen)


def test_long_messages_are_cut_and_joined(both):
    world, _ = both
    size = 2 * PARTS.chunk_bytes + 5
    found = run_parties(
        world.session(),
        "talk",
        {"asker": "node-a", "size": size, "rounds": 1, "size_max": 30_000_000},
        world.resources(),
    )
    assert found["node-b"].body["total"] == size + len(f"{SECRET}1".encode())


def test_three_parties_talk(tmp_path):
    world, _ = make(tmp_path, ("node-a", "node-b", "node-c"))
    found = run_parties(world.session(), "talk", {"asker": "node-a"}, world.resources())
    assert found["node-a"].body["total"] == 2 * (found["node-b"].body["total"] + found["node-c"].body["total"])
    world.close()


def test_repeated_and_delayed_parcels_change_nothing(both):
    world, _ = both
    kept: list[bytes] = []

    def through(sender, recipient, parcel, on):
        on(parcel)
        for old in kept[-3:]:
            if frame_of(old).recipient == recipient:
                on(old)
        kept.append(parcel)
        return on(parcel)

    world.through = through
    found = run_parties(world.session(), "talk", {"asker": "node-a"}, world.resources())
    assert found["node-a"].body["total"] == 2 * found["node-b"].body["total"]


def test_an_old_frame_is_refused_as_replayed_and_the_session_goes_on(both):
    world, _ = both
    codes: list[str] = []
    first: dict[str, bytes] = {}

    def through(sender, recipient, parcel, on):
        reply = on(parcel)
        first.setdefault(recipient, parcel)
        if frame_of(parcel).sequence > 2:
            answer = wire.unpack(on(first[recipient]))[0]
            if answer.payload_type == Refusal.payload_type:
                codes.append(messages.parse(Refusal, answer.payload).code)
        return reply

    world.through = through
    run_parties(world.session(), "talk", {"asker": "node-a"}, world.resources())
    assert set(codes) == {"request.replayed"}


def altered(parcel: bytes, key, **changes) -> bytes:
    envelope, attachments = wire.unpack(parcel)
    frame = messages.parse(PartyFrame, envelope.payload).model_copy(update=changes)
    return messages.encode(frame, key, attachments)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"label": "other"}, "task.protocol"),
        ({"last": False}, "task.protocol"),
        ({"sequence": 9}, "session.sequence"),
        ({"agreement_sha256": "ab" * 32}, "party.agreement"),
    ],
)
def test_a_party_that_breaks_the_protocol_is_refused_and_the_session_ends_everywhere(both, changes, code):
    world, _ = both

    def through(sender, recipient, parcel, on):
        frame = frame_of(parcel)
        if sender == "node-a" and frame.label == "question":
            return on(altered(parcel, world.people["node-a"].key, **changes))
        return on(parcel)

    world.through = through
    with pytest.raises(NodeRefusedError) as refused:
        run_parties(world.session(), "talk", {"asker": "node-a"}, world.resources())
    assert refused.value.refusal_code == code
    assert all(len(agent.sessions) == 0 for agent in world.agents.values())
    assert all(agent.books.party_sessions() == [] for agent in world.agents.values())


def test_altered_bytes_are_refused_and_the_true_ones_taken(both):
    world, _ = both
    refused: list[str] = []

    def through(sender, recipient, parcel, on):
        answer = wire.unpack(on(parcel[:-1] + bytes([parcel[-1] ^ 1])))[0]
        refused.append(messages.parse(Refusal, answer.payload).code)
        return on(parcel)

    world.through = through
    run_parties(world.session(), "talk", {"asker": "node-a"}, world.resources())
    assert set(refused) == {"request.malformed"}


def test_a_forged_receipt_is_not_believed(both):
    world, _ = both
    lost: list[bytes] = []

    def through(sender, recipient, parcel, on):
        if frame_of(parcel).label == "question" and not lost:
            lost.append(parcel)
            forger = world.people["operator"].key
            receipt = Result(
                request_sha256=sha256_hex(wire.unpack(parcel)[0].payload), kind="party.frame", sender=recipient,
                body={}, ledger_seq=1, ledger_sha256="00" * 32, answered_at=frame_of(parcel).issued_at,
            )  # fmt: skip
            return messages.encode(receipt, forger)
        return on(parcel)

    world.through = through
    found = run_parties(world.session(), "talk", {"asker": "node-a"}, world.resources())
    assert lost
    assert found["node-b"].body["total"] > 0


def test_a_message_longer_than_the_half_allows_ends_the_session(both):
    world, _ = both
    with pytest.raises(NodeRefusedError) as refused:
        run_parties(world.session(), "talk", {"asker": "node-a", "size": 5000, "size_max": 4000}, world.resources())
    assert refused.value.refusal_code == "request.too_large"


def test_another_label_than_expected_ends_the_session(both):
    world, _ = both
    with pytest.raises(NodeRefusedError) as refused:
        run_parties(world.session(), "talk", {"asker": "node-a", "wrong_label": True}, world.resources())
    assert (refused.value.node, refused.value.refusal_code) == ("node-a", "task.protocol")


def test_parties_that_were_told_different_things_refuse_each_other(both):
    world, _ = both
    first, second = world.session(), world.session()
    second.session_id = first.session_id
    both_nodes = world.resources()
    for one, node, rounds in ((first, "node-a", 3), (second, "node-b", 4)):
        order = {name: uses for name, uses in both_nodes.items() if name == node}
        _open_for(one, order, {"asker": "node-a", "rounds": rounds}, tuple(both_nodes))
    answers = []
    for one, node in ((first, "node-a"), (second, "node-b")):
        for _ in range(20):
            body = one.step("party.watch", {node: {"wait_ms": 500}})[node].body
            if body["state"] == "failed":
                answers.append(body["code"])
                break
    assert "party.agreement" in answers
    assert len(answers) == 2


def _open_for(session, resources, parameters, parties) -> None:
    """Open at one node with an order that names all parties, as an operator could who tells each its own story."""
    from datetime import timedelta

    from nodes.contract.messages import Order, encode
    from tests.node_world import NOW

    (node,) = resources
    order = Order(
        order_id=f"{session.session_id}.{node}", session_id=session.session_id, grant_id="g-1",
        grant_sha256=session.grant_sha256, task="talk", scenario="sc-1", purpose="p-1", operator="operator", node=node,
        parties=parties, resources=resources[node], parameters=parameters, issued_at=NOW,
        expires_at=NOW + timedelta(minutes=5),
    )  # fmt: skip
    session.orders.ask(node, encode(order, session.key), timeout_s=20)
    session._order_sha256[node] = sha256_hex(order.to_payload())
    session._sequence[node] = 0


@pytest.mark.parametrize("victim", ["node-a", "node-b"])
def test_a_party_that_dies_and_returns_resumes_after_the_last_common_step(both, victim):
    world, stage = both
    stage.at_round[3] = threading.Event()
    stage.go_on.clear()
    found: dict = {}

    def drive() -> None:
        found.update(run_parties(world.session(), "talk", {"asker": "node-a", "rounds": 4}, world.resources()))

    driver = threading.Thread(target=drive)
    driver.start()
    assert stage.at_round[3].wait(20)
    world.kill(victim)
    del stage.at_round[3]
    stage.go_on.set()
    world.start(victim)
    driver.join(40)
    assert found["node-a"].body["total"] == 2 * found["node-b"].body["total"]
    again = stage.runs[2:]
    assert {node for node, _ in again} == {"node-a", "node-b"}
    assert {step for _, step in again} == {2}
    _, predicate = read(found["node-a"].statement.payload, NODE_RUN)
    assert predicate["facts"]["epochs"] == 2
    assert len(list((world.homes[victim][0].state).glob("*"))) == 0


def test_a_frame_of_an_earlier_epoch_is_refused(both):
    world, stage = both
    stage.at_round[2] = threading.Event()
    stage.go_on.clear()
    driver = threading.Thread(
        target=lambda: run_parties(world.session(), "talk", {"asker": "node-a"}, world.resources()), daemon=True
    )
    driver.start()
    assert stage.at_round[2].wait(20)
    old = [parcel for sender, _, parcel in world.seen if sender == "node-a"][-1]
    world.kill("node-a")
    del stage.at_round[2]
    world.start("node-a")
    for _ in range(200):
        if world.agents["node-b"].books.party_epoch(frame_of(old).session_id) == 2:
            break
        threading.Event().wait(0.05)
    answer = wire.unpack(world.agents["node-b"].handle(old))[0]
    assert messages.parse(Refusal, answer.payload).code == "request.replayed"
    stage.go_on.set()
    driver.join(30)


def test_a_revoked_grant_stops_the_frames_and_both_halves(both):
    world, stage = both
    stage.at_round[2] = threading.Event()
    stage.go_on.clear()
    caught: list[NodeRefusedError] = []

    def drive() -> None:
        try:
            run_parties(world.session(), "talk", {"asker": "node-a", "rounds": 50}, world.resources())
        except NodeRefusedError as error:
            caught.append(error)

    driver = threading.Thread(target=drive)
    driver.start()
    assert stage.at_round[2].wait(20)
    world.agents["node-a"].books.decide_grant(world.grant_sha256, "revoked", own=None, reason="test")
    stage.go_on.set()
    driver.join(30)
    assert [error.refusal_code for error in caught] == ["grant.revoked"]


def test_a_stranger_in_the_trust_data_cannot_speak_in_a_session(tmp_path):
    world, stage = make(tmp_path, ("node-a", "node-b", "node-c"))
    stage.at_round[1] = threading.Event()
    stage.go_on.clear()
    driver = threading.Thread(
        target=lambda: run_parties(world.session(), "talk", {"asker": "node-a"}, world.resources("node-a", "node-b")),
        daemon=True,
    )
    driver.start()
    assert stage.at_round[1].wait(20)
    parcel = next(parcel for sender, _, parcel in world.seen if sender == "node-a")
    forged = altered(parcel, world.people["node-c"].key, sender="node-c")
    answer = wire.unpack(world.agents["node-b"].handle(forged))[0]
    assert messages.parse(Refusal, answer.payload).code == "request.sender_role"
    stage.go_on.set()
    driver.join(30)
    world.close()


def test_a_failing_half_tells_a_reference_and_no_text(both, tmp_path):
    world, stage = both

    def broken(party: Party, context: TaskContext) -> Finished:
        raise RuntimeError(SECRET)

    stage.answerer = broken
    with pytest.raises(NodeRefusedError) as refused:
        run_parties(world.session(), "talk", {"asker": "node-a"}, world.resources())
    assert refused.value.refusal_code == "task.failed"
    assert SECRET not in str(refused.value)


def test_a_half_may_refuse_with_a_code(both):
    world, stage = both

    def unwilling(party: Party, context: TaskContext) -> Finished:
        raise TaskRefusedError("resource.rows", "expected more rows")

    stage.answerer = unwilling
    with pytest.raises(NodeRefusedError) as refused:
        run_parties(world.session(), "talk", {"asker": "node-a"}, world.resources())
    assert (refused.value.node, refused.value.refusal_code) == ("node-b", "resource.rows")


def test_the_outcome_survives_a_restart_before_the_close(both):
    world, _ = both
    session = world.session()
    session.open("talk", {"asker": "node-a"}, world.resources())
    for _ in range(40):
        answers = session.step("party.watch", {node: {"wait_ms": 500} for node in world.nodes})
        if {answer.body["state"] for answer in answers.values()} == {"finished"}:
            break
    world.kill("node-b")
    world.start("node-b")
    after = session.step("party.watch", {"node-b": {"wait_ms": 0}})["node-b"]
    assert (after.body["state"], after.body["outcome"]) == ("finished", answers["node-b"].body["outcome"])
    closed = session.close()
    assert all(Envelope.from_bytes(reply.attachments[0]) for reply in closed.values())


def test_a_frame_on_its_way_while_the_peer_returns_does_not_end_the_session(both):
    world, stage = both
    stage.at_round[3] = threading.Event()
    stage.go_on.clear()
    refused = threading.Event()
    found: dict = {}

    def through(sender, recipient, parcel, on):
        frame = frame_of(parcel)
        if sender == "node-a" and frame.label == "party.hello" and frame.epoch == 2:
            assert refused.wait(20)  # the hello is slower than the other's frame of the epoch before
        reply = on(parcel)
        answer = wire.unpack(reply)[0]
        if sender == "node-b" and frame.epoch == 1 and answer.payload_type == Refusal.payload_type:
            refused.set()
        return reply

    world.through = through
    driver = threading.Thread(
        target=lambda: found.update(
            run_parties(world.session(), "talk", {"asker": "node-a", "rounds": 4}, world.resources())
        )
    )
    driver.start()
    assert stage.at_round[3].wait(20)
    world.kill("node-a")
    world.start("node-a")
    del stage.at_round[3]
    stage.go_on.set()
    driver.join(40)
    assert found["node-a"].body["total"] == 2 * found["node-b"].body["total"]
