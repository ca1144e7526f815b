"""What each table has lost of its privacy budget, over all grants and for good.

Every loss is an entry of the node's hash-chained ledger, written before the noisy figures
leave; what is spent is the sum over those entries, so there is no counter that could be set back. An
anchor file beside the books names the newest such entry: books that do not have it are an older copy,
and nothing private is answered from them.

Privacy:
    Differential privacy composes: losses of one table add up, whoever asked and for whatever. An operator
    of the node that puts back older books and an older anchor together is not detected here; the
    entries' numbers in the statements it signed before show it to everybody else.

Source:
    Dwork and Roth, "The Algorithmic Foundations of Differential Privacy", 2014, theorem 3.16 (composition).
"""

import json
from dataclasses import dataclass
from pathlib import Path

from nodes.books import Books, LedgerEntry
from nodes.errors import BudgetExhaustedError, KeyFileError, LedgerReplacedError, StorageError
from nodes.keys import write_private

SPENT = "privacy.spent"


@dataclass(frozen=True, slots=True)
class PrivacyLedger:
    """The privacy account of every table of this node.

    Attributes:
        books: with the ledger.
        anchor: file that names the newest loss.
        limit_micro: most that one table may lose, in millionths of epsilon.
    """

    books: Books
    anchor: Path
    limit_micro: int

    def spent_micro(self, resource: str) -> int:
        """Return what a table has lost so far.

        Raises:
            BooksError: the ledger was altered, or is an older copy.
        """
        return sum(int(entry.facts["epsilon_micro"]) for entry in self._losses() if entry.facts["resource"] == resource)

    def spend(self, resource: str, *, session: str, grant_sha256: str, epsilon_micro: int) -> int:
        """Write down a loss, durably, and return what is spent then; the same session spends once.

        Raises:
            BudgetExhaustedError: the table has not that much left; nothing is spent.
            BooksError: the ledger was altered, or is an older copy.
            StorageError: the disk refused; nothing may be answered.
        """
        if epsilon_micro < 1:
            raise ValueError("expected a loss above zero")
        with self.books.transaction():
            losses = [entry for entry in self._losses() if entry.facts["resource"] == resource]
            spent = sum(int(entry.facts["epsilon_micro"]) for entry in losses)
            if any(entry.session == session for entry in losses):
                return spent
            if spent + epsilon_micro > self.limit_micro:
                raise BudgetExhaustedError(
                    f"expected a loss of at most {self.limit_micro - spent} millionths of epsilon for {resource}, got "
                    f"{epsilon_micro}: its privacy budget does not come back"
                )
            facts = {
                "resource": resource,
                "grant_sha256": grant_sha256,
                "epsilon_micro": epsilon_micro,
                "after": spent + epsilon_micro,
            }
            entry = self.books.record(SPENT, session=session, facts=facts)
        # Books first: killed in between, the anchor names an earlier entry of the same chain, which still holds.
        self._write_anchor(entry)
        return spent + epsilon_micro

    def _losses(self) -> list[LedgerEntry]:
        self.books.verify_chain()
        entries = self.books.entries()
        losses = [entry for entry in entries if entry.kind == SPENT]
        anchored = self._anchored()
        if anchored is None:
            # One loss may lack its anchor: the node was killed between the two writes.
            if len({entry.session for entry in losses}) > 1:
                raise LedgerReplacedError(f"expected the anchor {self.anchor}; put it back beside its books")
            return losses
        seq, sha256 = anchored
        if seq > len(entries) or entries[seq - 1].sha256 != sha256:
            raise LedgerReplacedError(
                f"expected books with entry {seq} of the anchor {self.anchor}: these are older; put back the newest"
            )
        return losses

    def _anchored(self) -> tuple[int, str] | None:
        try:
            document = json.loads(self.anchor.read_text("utf-8"))
            return int(document["seq"]), str(document["sha256"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise LedgerReplacedError(
                f"expected a readable anchor at {self.anchor} ({type(error).__name__})"
            ) from error

    def _write_anchor(self, entry: LedgerEntry) -> None:
        try:
            part = self.anchor.with_name(f"{self.anchor.name}.part")
            part.unlink(missing_ok=True)
            write_private(part, json.dumps({"seq": entry.seq, "sha256": entry.sha256}).encode())
            part.replace(self.anchor)
        except (OSError, KeyFileError) as error:
            raise StorageError(f"expected to be able to write {self.anchor}") from error
