"""The books: an unbroken chain, whole transactions, nothing lost at a kill."""

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest

from nodes.books import Books
from nodes.errors import BooksError, BudgetExhaustedError, OrderReplayedError, StorageError, UsesExhaustedError
from tests.node_world import NOW


@pytest.fixture
def books(tmp_path):
    made = Books(tmp_path / "books.db", clock=lambda: NOW)
    yield made
    made.close()


def accept(books, number, **changes):
    order = {
        "order_sha256": f"{number:064x}",
        "order_id": f"o-{number}",
        "session": f"s-{number}",
        "operator": "operator",
        "grant_sha256": "aa" * 32,
        "uses_max": 3,
        "budget_total": 2,
        "charge": 0,
        "facts": {},
    }
    return books.accept_order(**{**order, **changes})


@pytest.mark.parametrize(
    "tamper",
    [
        "UPDATE ledger SET kind = 'x' WHERE seq = 2",
        "UPDATE ledger SET facts = '{\"a\":1}' WHERE seq = 1",
        "DELETE FROM ledger WHERE seq = 2",
        "UPDATE ledger SET at = '2020-01-01T00:00:00Z' WHERE seq = 3",
        "UPDATE ledger SET seq = 9 WHERE seq = 3",
        "UPDATE ledger SET previous = sha256 WHERE seq = 2",
    ],
)
def test_a_tampered_ledger_does_not_verify(books, tamper):
    for number in range(3):
        books.record("test", facts={"n": number})
    assert books.verify_chain() == 3
    books._db.execute(tamper)
    with pytest.raises(BooksError):
        books.verify_chain()


def test_uses_stop_at_the_limit(books):
    assert [accept(books, number).use_number for number in (1, 2, 3)] == [1, 2, 3]
    with pytest.raises(UsesExhaustedError):
        accept(books, 4)
    assert books.uses("aa" * 32) == 3


def test_an_order_whose_charge_fails_counts_no_use(books):
    with pytest.raises(BudgetExhaustedError):
        accept(books, 1, charge=3)
    assert (books.uses("aa" * 32), books.spent("aa" * 32), books.verify_chain()) == (0, 0, 0)


@pytest.mark.parametrize(("units", "fits"), [(1, True), (2, True), (3, False)])
def test_the_budget_holds_below_at_and_above(books, units, fits):
    if fits:
        assert books.charge("aa" * 32, "s", units, total=2) == units
    else:
        with pytest.raises(BudgetExhaustedError):
            books.charge("aa" * 32, "s", units, total=2)


def test_names_and_sessions_of_orders_are_taken_for_good(books):
    accept(books, 1)
    with pytest.raises(OrderReplayedError):
        accept(books, 2, order_id="o-1")
    with pytest.raises(OrderReplayedError):
        accept(books, 2, session="s-1")


def test_an_unanswered_order_is_accepted_again_without_another_use(books):
    accept(books, 1)
    assert accept(books, 1).again
    assert books.uses("aa" * 32) == 1
    books.settle_order(f"{1:064x}", "answered")
    with pytest.raises(OrderReplayedError):
        accept(books, 1)


def test_answers_are_kept_with_their_entry_and_forgotten_by_age(books):
    reply = books.answer(
        "answered",
        actor="a",
        session="s",
        request="bb" * 32,
        facts={},
        build=lambda entry: entry.sha256.encode(),
        keep=True,
    )
    assert books.reply_to("bb" * 32) == reply == books.entries()[0].sha256.encode()
    assert books.forget_replies(NOW + timedelta(seconds=1)) == 1
    assert books.reply_to("bb" * 32) is None


def test_an_answer_that_cannot_be_built_leaves_no_entry(books):
    def build(_entry):
        raise ValueError

    with pytest.raises(ValueError):
        books.answer("answered", actor="a", session="s", request="bb" * 32, facts={}, build=build, keep=True)
    assert books.verify_chain() == 0


def test_an_outer_transaction_takes_its_parts_along(books):
    with pytest.raises(RuntimeError), books.transaction():
        books.record("one")
        accept(books, 1)
        raise RuntimeError
    assert (books.verify_chain(), books.uses("aa" * 32)) == (0, 0)


def test_the_file_is_private_and_a_folder_in_its_place_is_told(tmp_path):
    Books(tmp_path / "books.db").close()
    assert (tmp_path / "books.db").stat().st_mode & 0o077 == 0
    (tmp_path / "folder.db").mkdir()
    with pytest.raises(StorageError):
        Books(tmp_path / "folder.db")


def test_two_processes_write_one_chain(tmp_path):
    one, two = Books(tmp_path / "books.db"), Books(tmp_path / "books.db")
    for number in range(10):
        (one if number % 2 else two).record("test", facts={"n": number})
    assert one.verify_chain() == 10
    one.close()
    two.close()


_WRITER = """
import sys
from pathlib import Path
from nodes.books import Books
books = Books(Path(sys.argv[1]))
number = int(sys.argv[2])
while True:
    number += 1
    books.accept_order(order_sha256=f"{number:064x}", order_id=f"o-{number}", session=f"s-{number}", operator="operator",
        grant_sha256="aa" * 32, uses_max=10**9, budget_total=10**9, charge=2, facts={"n": number})
    books.answer("answered", actor="operator", session=f"s-{number}", request=f"{number:064x}", facts={}, build=lambda e: e.sha256.encode(), keep=True)
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
"""


def test_a_kill_at_any_moment_loses_nothing_acknowledged_and_counts_nothing_half(tmp_path):
    path, rng, last = tmp_path / "books.db", random.Random(7), 0
    for _ in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(path), str(last)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]
        )
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(rng.uniform(0.0, 0.15))
        os.kill(process.pid, signal.SIGKILL)
        acknowledged = [int(line) for line in (first + process.stdout.read()).split(b"\n")[:-1] if line]
        process.wait()
        process.stdout.close()
        books = Books(path)
        books.verify_chain()
        uses, spent = books.uses("aa" * 32), books.spent("aa" * 32)
        assert spent == 2 * uses
        assert all(books.reply_to(f"{number:064x}") for number in acknowledged)
        accepted = [entry.facts["n"] for entry in books.entries() if entry.kind == "order.accepted"]
        assert accepted == list(range(1, uses + 1))
        assert acknowledged[-1] <= uses <= acknowledged[-1] + 1
        last = uses
        books.close()
    with contextlib.closing(sqlite3.connect(path)) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)
