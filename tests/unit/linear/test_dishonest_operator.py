"""What an operator may ask of the node half of ``linear.secagg``, and what it refuses."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.federation.secagg import SecureSums
from nodes.contract.messages import Condition, Refusal
from nodes.contract.tasks.descent import Descent
from nodes.contract.tasks.linear import LinearParameters
from nodes.tasks.catalogue import tasks
from nodes.tasks.spec import TaskRefusedError
from tests.federation_harness import Trial

SPEC = tasks()["linear.secagg"]
NODES = ("node-east", "node-north", "node-west")
PARAMETERS = LinearParameters(
    features=("age",), label=Condition(column="ill", operator="eq", values=(1,)), rounds=2, tolerance_micro=0
)


def table(seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    age = rng.normal(50, 10, 60)
    return pd.DataFrame({"age": age, "ill": (rng.random(60) < 1 / (1 + np.exp(-(age - 50) / 10))).astype(int)})


class Operator:
    """The operator half, held at any stage."""

    def __init__(self) -> None:
        self.trial = Trial.of(SPEC, {node: {"res.x": table(place)} for place, node in enumerate(NODES)})
        self.session = self.trial.session()
        self.sums = SecureSums(self.session)
        self.sums.setup(self.session.open("linear.secagg", PARAMETERS.model_dump(mode="json"), self.trial.resources()))
        self.descent = Descent(PARAMETERS)

    def advance(self, sums: int) -> "Operator":
        for _ in range(sums):
            opened = self.sums.sum(self.descent.expected, self.descent.question_sha256(), length=self.descent.length)
            self.descent.take(opened.values)
        return self

    def ask(self, kind: str, body=None, parts=()) -> Refusal | object:
        return self.session.step(kind, {NODES[0]: body or {}}, {NODES[0]: tuple(parts)})[NODES[0]]

    def ask_sum(self, kind: str, previous, parts=()) -> Refusal | object:
        body = {"active": list(NODES), "sum": self.sums._number, "previous": previous}
        return self.ask(kind, body, parts)

    @property
    def evidence(self):
        return self.sums._evidence

    @property
    def task_session(self):
        return self.trial.nodes[NODES[0]].sessions[self.session.session_id]


def assert_refused(answer, match: str, code: str = "task.protocol") -> None:
    assert isinstance(answer, Refusal)
    assert answer.code == code
    assert match in answer.message


@pytest.mark.parametrize("kind", ["linear.gram", "linear.train", "linear.score"])
def test_a_sum_out_of_turn_is_refused(kind):
    assert_refused(Operator().ask_sum(kind, None), "expected linear.means")


def test_scoring_before_the_training_ended_is_refused():
    operator = Operator().advance(3)
    answer = operator.ask_sum("linear.score", operator.evidence.body, operator.evidence.masked)
    assert_refused(answer, "expected linear.train")


def test_the_same_sum_again_after_it_was_opened_is_refused():
    operator = Operator().advance(1)
    answer = operator.ask_sum("linear.means", operator.evidence.body, operator.evidence.masked)
    assert_refused(answer, "expected linear.gram")


def test_going_on_without_the_evidence_of_the_last_sum_is_refused():
    assert_refused(Operator().advance(1).ask_sum("linear.gram", None), "evidence of the sum before")


def test_evidence_with_an_altered_masked_vector_is_refused():
    operator = Operator().advance(1)
    first, *others = operator.evidence.masked
    altered = bytes([first[0] ^ 1]) + first[1:]
    answer = operator.ask_sum("linear.gram", operator.evidence.body, [altered, *others])
    assert_refused(answer, "masked vectors that the survivors confirmed")


def test_evidence_with_another_seed_is_refused():
    operator = Operator().advance(1)
    body = operator.evidence.body
    body["seeds"][NODES[1]] = "00" * 16
    answer = operator.ask_sum("linear.gram", body, operator.evidence.masked)
    assert_refused(answer, "seed that node-north committed to")


def test_evidence_of_an_earlier_sum_is_refused():
    operator = Operator().advance(1)
    old = operator.evidence
    operator.advance(1)
    assert_refused(operator.ask_sum("linear.train", old.body, old.masked), "evidence of sum 1")


def test_evidence_that_claims_a_drop_out_is_refused():
    operator = Operator().advance(1)
    body = operator.evidence.body
    body["keys"][NODES[2]] = "11" * 32
    assert_refused(operator.ask_sum("linear.gram", body, operator.evidence.masked), "key of each node that dropped")


def test_a_model_that_was_not_scored_is_not_vouched_for():
    assert_refused(Operator().advance(4).ask("linear.accept", {}, [b"{}"]), "after its scores were opened")


def test_another_model_than_the_one_trained_is_not_vouched_for():
    operator = Operator().advance(5)
    document = json.loads(operator.descent.model_document())
    document["features"][0]["weight"] = (9.0).hex()
    from nodes.contract import canonical

    assert_refused(operator.ask("linear.accept", {}, [canonical.dumps(document)]), "weights that were scored")


def test_own_metrics_are_given_once_and_only_after_scoring():
    assert_refused(Operator().advance(4).ask("linear.compare"), "after the scores")
    operator = Operator().advance(5)
    assert not isinstance(operator.ask("linear.compare"), Refusal)
    assert_refused(operator.ask("linear.compare"), "one comparison")


def test_a_sum_after_the_model_was_scored_is_refused():
    operator = Operator().advance(5)
    answer = operator.ask_sum("linear.score", operator.evidence.body, operator.evidence.masked)
    assert_refused(answer, "no further sum: the model was scored")


def test_a_step_from_somebody_else_is_refused():
    with pytest.raises(TaskRefusedError, match="operator of the order") as caught:
        Operator().task_session.step("unit-1", "linear.means", {}, ())
    assert caught.value.code == "request.sender_role"


def test_an_unknown_step_is_refused():
    assert_refused(Operator().ask("linear.rows"), "a step of linear.secagg", "request.kind_unknown")


KINDS = (
    "secagg.keys",
    "secagg.shares",
    "secagg.confirm",
    "secagg.unmask",
    "linear.means",
    "linear.gram",
    "linear.compare",
    "linear.accept",
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "node-east", "node-x", "zz", "ab" * 32]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from((*NODES, "node-x")), inner, max_size=3),
    max_leaves=6,
)
bodies = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("sum", "active", "previous", "survivors", "holders"), json_values)
)


def test_no_body_however_odd_gets_anything_but_a_refusal():
    fresh, begun = Operator(), Operator().advance(1)
    begun.ask_sum("linear.gram", begun.evidence.body, begun.evidence.masked)

    @settings(max_examples=150, deadline=None)
    @given(st.sampled_from([fresh, begun]), st.sampled_from(KINDS), bodies, st.lists(st.binary(max_size=8), max_size=3))
    def check(operator, kind, body, parts):
        with pytest.raises(TaskRefusedError):
            operator.task_session.step("operator", kind, body, parts)

    check()
