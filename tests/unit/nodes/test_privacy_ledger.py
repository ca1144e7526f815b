"""The privacy ledger: losses add up over grants, survive kill -9, and cannot be set back unseen."""

import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from nodes.books import Books
from nodes.errors import BooksError, BudgetExhaustedError, LedgerReplacedError
from nodes.privacy_ledger import PrivacyLedger

ROOT = Path(__file__).resolve().parents[3]
GRANT, OTHER = "aa" * 32, "bb" * 32


def ledger(folder: Path, limit_micro: int = 1_000_000) -> PrivacyLedger:
    return PrivacyLedger(Books(folder / "books.db"), folder / "privacy.anchor", limit_micro)


def spend(found: PrivacyLedger, session: str, micro: int, *, resource: str = "res.a", grant: str = GRANT) -> int:
    return found.spend(resource, session=session, grant_sha256=grant, epsilon_micro=micro)


def test_losses_of_a_table_add_up_over_grants_and_end_at_the_limit(tmp_path: Path) -> None:
    found = ledger(tmp_path)
    assert spend(found, "s-1", 600_000) == 600_000
    assert spend(found, "s-2", 400_000, grant=OTHER) == 1_000_000
    with pytest.raises(BudgetExhaustedError, match="at most 0 millionths"):
        spend(found, "s-3", 1)
    assert found.spent_micro("res.a") == 1_000_000
    assert spend(found, "s-3", 1_000_000, resource="res.b") == 1_000_000


def test_a_session_is_counted_once_and_a_loss_of_nothing_is_a_mistake(tmp_path: Path) -> None:
    found = ledger(tmp_path)
    assert spend(found, "s-1", 300_000) == spend(found, "s-1", 300_000) == 300_000
    with pytest.raises(ValueError, match="above zero"):
        spend(found, "s-2", 0)


def test_an_older_copy_of_the_books_is_seen(tmp_path: Path) -> None:
    found = ledger(tmp_path)
    spend(found, "s-1", 300_000)
    found.books.close()
    shutil.copy(tmp_path / "books.db", tmp_path / "old.db")
    found = ledger(tmp_path)
    spend(found, "s-2", 300_000)
    found.books.close()
    for extra in ("books.db-wal", "books.db-shm"):
        (tmp_path / extra).unlink(missing_ok=True)
    shutil.copy(tmp_path / "old.db", tmp_path / "books.db")
    restored = ledger(tmp_path)
    with pytest.raises(LedgerReplacedError, match="older"):
        spend(restored, "s-3", 1)
    with pytest.raises(LedgerReplacedError):
        restored.spent_micro("res.a")


def test_a_lost_anchor_and_an_unreadable_one_stop_the_account(tmp_path: Path) -> None:
    found = ledger(tmp_path)
    spend(found, "s-1", 1)
    spend(found, "s-2", 1)
    (tmp_path / "privacy.anchor").write_text("{", "utf-8")
    with pytest.raises(LedgerReplacedError, match="readable"):
        spend(found, "s-3", 1)
    (tmp_path / "privacy.anchor").unlink()
    with pytest.raises(LedgerReplacedError, match="anchor"):
        spend(found, "s-3", 1)


def test_an_altered_loss_breaks_the_chain(tmp_path: Path) -> None:
    found = ledger(tmp_path)
    spend(found, "s-1", 900_000)
    database = sqlite3.connect(tmp_path / "books.db")
    database.execute("UPDATE ledger SET facts = replace(facts, '900000', '100000')")
    database.commit()
    database.close()
    with pytest.raises(BooksError, match="unbroken"):
        spend(found, "s-2", 100_000)


_SPENDER = """
import sys
from pathlib import Path
from nodes.books import Books
from nodes.privacy_ledger import PrivacyLedger
folder = Path(sys.argv[1])
found = PrivacyLedger(Books(folder / "books.db"), folder / "privacy.anchor", 10**12)
for number in range(10**6):
    spent = found.spend("res.a", session=f"s-{sys.argv[2]}-{number}", grant_sha256="aa" * 32, epsilon_micro=7)
    print(spent, flush=True)
"""


def test_no_acknowledged_loss_is_missing_after_kill_9(tmp_path: Path) -> None:
    acknowledged = 0
    for turn in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", _SPENDER, str(tmp_path), str(turn)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        for _ in range(5 + turn):
            acknowledged = int(process.stdout.readline())
        process.kill()
        rest = process.communicate()[0].split("\n")
        acknowledged = max([acknowledged, *(int(line) for line in rest[:-1] if line)])
    after = ledger(tmp_path, 10**12)
    assert acknowledged <= after.spent_micro("res.a") <= acknowledged + 7
    assert after.spent_micro("res.a") % 7 == 0
    assert spend(after, "s-last", 7) == after.spent_micro("res.a")
