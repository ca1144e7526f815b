"""Feedback on a product: a ticket at every department its data came from, and the outcome back."""

from datetime import timedelta

import pytest

from factory.errors import NodeRefusedError
from factory.hub.bus import NodeUnreachableError
from factory.release.feedback import FeedbackError, file_feedback, list_feedback, outcome, read_feedback, send_feedback
from nodes import tickets
from nodes.contract.messages import Refusal
from tests import package_fixture as fixture
from tests.node_world import CANARY_NAME, NODE, NOW, World

TEXT = f"{CANARY_NAME} 的地址缺失"


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path / "node")
    yield made
    made.books.close()


class Desk:
    """Asks the agent of one real node; the other departments are as they are told to be."""

    def __init__(self, world):
        self.world, self.asked, self.away = world, [], {"node-west", "node-north"}

    def ask(self, node, kind, body=None):
        self.asked.append((node, str(kind)))
        if node in self.away or node != NODE:
            raise NodeUnreachableError(f"expected an answer of {node}")
        answer, _ = self.world.ask(self.world.query(str(kind), body))
        if isinstance(answer, Refusal):
            raise NodeRefusedError(node, answer.code, answer.message)
        return answer


def product_of(tmp_path):
    from products.lineage import four_answers

    return four_answers(fixture.write(fixture.honest(), tmp_path / "packages"))


@pytest.mark.requirement("Q-FEEDBACK")
@pytest.mark.parametrize(
    ("product", "party", "text"),
    [("nothing@1", "org.bank", "x"), (None, " ", "x"), (None, "org.bank", " "), (None, "org.bank", "x" * 2_001)],
)
def test_feedback_on_an_unknown_product_or_without_a_name_or_text_is_refused(tmp_path, product, party, text):
    known = product_of(tmp_path)["product"]
    with pytest.raises(FeedbackError):
        file_feedback(tmp_path / "f", tmp_path / "packages", product or known, party=party, text=text, now=NOW)
    assert not (tmp_path / "f").exists()


@pytest.mark.requirement("Q-FEEDBACK")
def test_each_department_of_the_product_gets_one_ticket_and_one_that_is_away_gets_it_later(tmp_path, world):
    found = product_of(tmp_path)
    folder, desk = tmp_path / "feedback", Desk(world)
    for name in (found["registration"], found["product"]):
        record = file_feedback(folder, tmp_path / "packages", name, party="org.bank", text=TEXT, now=NOW)
    assert [(row["resource"], row["node"]) for row in record["tickets"]] == [
        ("res.east.clinic", "node-east"),
        ("res.north.clinic", "node-north"),
        ("res.west.clinic", "node-west"),
    ]
    done = send_feedback(folder, record, TEXT, desk=desk)
    assert [row["ticket"] for row in done["tickets"]] == ["T-0001", "", ""]
    assert ["problem" in row for row in done["tickets"]] == [False, True, True]
    again = send_feedback(folder, done, TEXT, desk=desk)
    assert [row["ticket"] for row in again["tickets"]] == ["T-0001", "", ""]
    (ticket,) = tickets.read(world.books)
    assert (ticket.kind, ticket.state, ticket.party) == ("feedback", "filed", "org.bank via operator")
    with pytest.raises(FeedbackError, match="text"):
        send_feedback(folder, record, "another", desk=desk)


@pytest.mark.requirement("Q-FEEDBACK")
def test_the_outcome_comes_back_from_acceptance_to_the_run_that_puts_it_right(tmp_path, world):
    folder, desk = tmp_path / "feedback", Desk(world)
    product = product_of(tmp_path)["product"]
    record = file_feedback(folder, tmp_path / "packages", product, party="org.bank", text=TEXT, now=NOW)
    send_feedback(folder, record, TEXT, desk=desk)

    def east():
        return outcome(folder, record["id"], desk=desk)["tickets"][0]

    assert (east()["state"], east()["overdue"]) == ("filed", False)
    tickets.decide(world.books, world.home / "tickets", "T-0001", accept=True, reason="属实", now=world.now)
    assert (east()["state"], east()["severity"]) == ("open", "major")
    world.now = world.now + timedelta(days=20)
    assert east()["overdue"] is True
    changes = tickets.after_run(
        tickets.read(world.books), "res.east.clinic", [], passed=True, today=tickets.day_of(world.now)
    )
    tickets.record_changes(world.books, changes, report_sha256="ab" * 32)
    assert (east()["state"], east()["closed_report"], east()["overdue"]) == ("closed", "ab" * 32, False)
    desk.asked.clear()
    outcome(folder, record["id"], desk=desk)
    assert {node for node, _ in desk.asked} == {"node-north", "node-west"}


def test_the_text_is_at_the_department_alone_and_in_no_record_or_ledger(tmp_path, world):
    folder = tmp_path / "feedback"
    product = product_of(tmp_path)["product"]
    record = file_feedback(folder, tmp_path / "packages", product, party="org.bank", text=TEXT, now=NOW)
    send_feedback(folder, record, TEXT, desk=Desk(world))
    assert all(CANARY_NAME not in path.read_text("utf-8") for path in folder.iterdir())
    assert CANARY_NAME not in str([entry.to_json() for entry in world.books.entries()])
    assert any(CANARY_NAME in path.read_text("utf-8") for path in (world.home / "tickets").iterdir())


def test_records_are_listed_and_an_unknown_one_is_refused(tmp_path):
    product = product_of(tmp_path)["product"]
    record = file_feedback(tmp_path / "f", tmp_path / "packages", product, party="org.bank", text="x", now=NOW)
    assert list_feedback(tmp_path / "f") == [record]
    for name in ("fb-none", "../../etc/passwd"):
        with pytest.raises(FeedbackError):
            read_feedback(tmp_path / "f", name)


@pytest.mark.parametrize(
    "change",
    [
        {"resource": "res.east.none"},
        {"party": " "},
        {"party": 7},
        {"text": ""},
        {"text": "x" * 2_001},
        {"reference": ""},
    ],
)
def test_a_node_refuses_feedback_that_is_not_one(world, change):
    body = {"resource": "res.east.clinic", "product": "p@1", "party": "org.bank", "reference": "fb-1", "text": "x"}
    assert world.code(world.query("quality.feedback", {**body, **change})) == "request.malformed"
    assert tickets.read(world.books) == []


def test_another_reference_tells_nothing(world):
    body = {"resource": "res.east.clinic", "product": "p@1", "party": "org.bank", "reference": "fb-1", "text": "x"}
    assert world.code(world.query("quality.feedback", body)) == ""
    answer, _ = world.ask(world.query("quality.ticket", {"reference": "fb-2"}))
    assert answer.body == {"tickets": []}
