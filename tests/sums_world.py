"""Three departments (or more), an operator and the agency with its key service, in one process, for encrypted sums."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from factory.agency.decrypting import DecryptionRefusedError, DecryptionService
from factory.federation.session import Reply
from factory.federation.sums import Statistics, compute
from nodes.contract import wire
from nodes.contract.grant import Thresholds
from nodes.contract.messages import Query, Result
from nodes.contract.signing import sha256_hex, sign
from nodes.contract.statement import PAYLOAD_TYPE, grant_statement
from nodes.contract.tasks.sums import Category, Measure, SumsParameters
from nodes.contract.trust import Actors, Status, StatusItem
from nodes.tasks.catalogue import tasks
from tests.federation_harness import Member, Trial

SPEC = tasks()["sums.ckks"]
NODES = ("node-east", "node-north", "node-west")
PARAMETERS = SumsParameters(
    measures=(
        Measure(name="by-kind", kind="count", by=("kind",)),
        Measure(name="fines", kind="sum", column="fine", by=("kind",), scale=100, lower=0, upper=10_000_000),
        Measure(name="delay", kind="mean", column="days", by=("kind",), scale=10, squares=True),
        Measure(name="kind-by-size", kind="crosstab", by=("kind", "size")),
    ),
    categories=(
        Category(column="kind", values=("a", "b", "c")),
        Category(column="size", values=("small", "large"), edges=(50,)),
    ),
)


def frame(node: int) -> pd.DataFrame:
    kinds = ["a"] * 20 + ["b"] * (10 + node) + ["c"] * (1 if node == 0 else 0) + ["z"] * 12 + [None] * 2
    rows = len(kinds)
    return pd.DataFrame(
        {
            "kind": kinds,
            "fine": [12.34 + i + node for i in range(rows)],
            "days": [float(i % 7) if i % 9 else float("nan") for i in range(rows)],
            "size": [(i * 37 + node) % 100 for i in range(rows)],
        }
    )


FRAMES = {name: frame(index) for index, name in enumerate(NODES)}


class World:
    """Three departments (or more), an operator, the agency with its key service, a signed grant."""

    def __init__(
        self, tmp_path: Path, *, nodes=NODES, cell_min: int = 5, round_base: int = 5, frames=None, spec=SPEC
    ) -> None:
        frames = frames or {name: FRAMES.get(name, frame(3)) for name in nodes}
        self.trial = Trial.of(spec, {name: {"res.fines": table} for name, table in frames.items()})
        self.registrars = [Member.make(f"registrar-{i}", "registrar") for i in (1, 2)]
        self.home = tmp_path / "agency"
        self.home.mkdir()
        thresholds = Thresholds(
            rows_min=10, contributors_min=3, cell_min=cell_min, round_base=round_base, quality_score_min=0
        )
        self.items: tuple[StatusItem, ...] = ()
        self.clock = datetime.now(UTC)
        self.set_grant(thresholds=thresholds)
        self.service = DecryptionService(
            self.home,
            agency="agency",
            key=self.trial.parties["agency"].key,
            actors=lambda: self.actors,
            status=lambda: Status(items=self.items),
            now=lambda: self.clock,
        )
        self.queries: list[tuple[Query, tuple[bytes, ...]]] = []
        self.change = lambda kind, body, attachments: (body, attachments)

    @property
    def actors(self) -> Actors:
        return Actors(actors=tuple(p.actor for p in [*self.trial.parties.values(), *self.registrars]))

    def set_grant(self, **fields) -> None:
        self.trial.grant = self.trial.grant.model_copy(update=fields)
        for node in self.trial.nodes.values():
            node.grant = self.trial.grant
        self.payload = grant_statement(self.trial.grant, agreement_name="agreement.pdf", agreement_sha256="0" * 64)
        signers = [*self.registrars, *(self.trial.parties[name] for name in self.trial.nodes)]
        self.envelopes = [sign(signer.key, PAYLOAD_TYPE, self.payload) for signer in signers]

    def session(self):
        session = self.trial.session()
        session.grant_sha256 = sha256_hex(self.payload)
        return session

    def query(self, kind: str, body, attachments, *, sender: str = "operator") -> Query:
        return Query(
            query_id=f"q-{len(self.queries)}",
            kind=kind,
            sender=sender,
            recipient="agency",
            body=dict(body),
            attachments_sha256=wire.digests(attachments),
            issued_at=self.clock,
            expires_at=self.clock + timedelta(minutes=5),
        )

    def call(self, kind: str, body, attachments) -> Reply:
        body, attachments = self.change(kind, body, attachments)
        query = self.query(kind, body, attachments)
        self.queries.append((query, tuple(attachments)))
        handler = self.service.handle_decrypt if kind == "he.decrypt" else self.service.handle_public_key
        answer, parts = handler(query, attachments)
        result = Result(
            request_sha256=sha256_hex(query.to_payload()),
            kind=kind,
            sender="agency",
            body=answer,
            attachments_sha256=wire.digests(parts),
            ledger_seq=1,
            ledger_sha256="0" * 64,
            answered_at=self.clock,
        )
        envelope = sign(self.trial.parties["agency"].key, Result.payload_type, result.to_payload())
        return Reply("agency", answer, parts, envelope)

    def compute(self, parameters=PARAMETERS, session=None, **options) -> Statistics:
        return compute(
            session or self.session(),
            parameters,
            self.trial.resources(),
            self.call,
            grant_envelopes=self.envelopes,
            **options,
        )

    def refused(self, change, parameters=PARAMETERS) -> str:
        """Run a session whose request to decrypt somebody changes, and return the refusal's code."""
        self.change = lambda kind, body, parts: (
            change(dict(body), list(parts)) if kind == "he.decrypt" else (body, parts)
        )
        with pytest.raises(DecryptionRefusedError) as error:
            self.compute(parameters)
        assert not (self.home / "openings.db").exists() or not self._answers()
        return error.value.refusal_code

    def _answers(self) -> int:
        import sqlite3

        books = sqlite3.connect(self.home / "openings.db")
        found = books.execute("SELECT count(*) FROM openings WHERE body IS NOT NULL").fetchone()[0]
        books.close()
        return found
