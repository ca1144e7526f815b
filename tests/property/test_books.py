"""Laws of the books: budgets never fall, uses never pass their limit, the chain always verifies."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.books import Books
from nodes.contract.messages import Condition
from nodes.errors import BooksError, BudgetExhaustedError
from nodes.policy import same_rows

moves = st.lists(
    st.one_of(
        st.tuples(st.just("order"), st.integers(0, 5), st.integers(0, 3)),
        st.tuples(st.just("charge"), st.integers(0, 4), st.integers(0, 3)),
        st.tuples(st.just("again"), st.integers(0, 5), st.just(0)),
    ),
    max_size=14,
)


@settings(max_examples=25, deadline=None)
@given(moves)
def test_whatever_comes_uses_and_budget_stay_within_their_limits(sequence):
    with tempfile.TemporaryDirectory() as folder:
        books = Books(Path(folder) / "books.db")
        spent = uses = 0
        for kind, number, units in sequence:
            try:
                if kind == "charge":
                    books.charge("aa" * 32, "s", units, total=6)
                else:
                    books.accept_order(
                        order_sha256=f"{number:064x}",
                        order_id=f"o-{number}",
                        session=f"s-{number}",
                        operator="op",
                        grant_sha256="aa" * 32,
                        uses_max=4,
                        budget_total=6,
                        charge=units,
                        facts={},
                    )
            except (BooksError, BudgetExhaustedError):
                pass
            assert spent <= books.spent("aa" * 32) <= 6
            assert uses <= books.uses("aa" * 32) <= 4
            spent, uses = books.spent("aa" * 32), books.uses("aa" * 32)
        books.verify_chain()
        books.close()


conditions = st.builds(
    Condition,
    column=st.sampled_from(["a", "b"]),
    operator=st.sampled_from(["eq", "in", "ge"]),
    values=st.lists(st.integers(0, 3), min_size=1, max_size=1).map(tuple),
)


@given(st.lists(conditions, max_size=4), st.lists(conditions, max_size=3))
def test_only_a_filter_of_the_same_conditions_passes_for_the_granted_one(own, granted):
    assert same_rows(tuple(reversed(granted)), tuple(granted))
    if same_rows(tuple(own), tuple(granted)):
        assert all(own.count(condition) == granted.count(condition) for condition in (*own, *granted))
    assert not same_rows((*granted, *granted[:1], *own[:1]), tuple(granted)) or not (granted or own)
