r"""Statements this node makes: what it holds (data-resource) and what it did (node-run).

The transcript digest of a session is a chain over its messages at this node, in order:
``t = SHA-256("shufang/v1/transcript\n")``, then for each request and its answer
``t = SHA-256(t + request payload digest + answer payload digest)``, digests as raw bytes.

Privacy: names, digests, keyed commitments and a banded row count; no exact row count, no value.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from nodes.books import ResourceRecord
from nodes.catalogue_entries import CatalogueEntry
from nodes.contract.grant import Grant
from nodes.contract.messages import Order
from nodes.contract.statement import NODE_RUN, RESOURCE, statement, time_text
from nodes.use_rules import Basis

CODE_VERSION = "0.1.0"
TRANSCRIPT_START = hashlib.sha256(b"shufang/v1/transcript\n").digest()


def extend_transcript(transcript: bytes, request_sha256: str, answer_sha256: str) -> bytes:
    """Return the transcript digest after one more request and its answer."""
    return hashlib.sha256(transcript + bytes.fromhex(request_sha256) + bytes.fromhex(answer_sha256)).digest()


@dataclass(frozen=True, slots=True)
class UsedResource:
    """One resource of a run as the statement names it.

    Attributes:
        entry: the catalogue entry.
        columns: columns the order named.
        row_filter: conditions of the order as JSON.
        commitment: keyed commitment to the table's content.
        record: its quality state, or None where the department requires none.
        basis: line of the register of personal information under which it was read, if any was needed.
    """

    entry: CatalogueEntry
    columns: tuple[str, ...]
    row_filter: list[dict[str, Any]]
    commitment: str
    record: ResourceRecord | None
    basis: Basis | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the resource as JSON of the statement."""
        score = self.record.score_x100 if self.record and self.record.score_x100 is not None else 0
        return {
            "id": self.entry.id,
            "version": self.entry.version,
            "columns": list(self.columns),
            "row_filter": self.row_filter,
            "commitment": self.commitment,
            "quality": {"report_sha256": self.record.report_sha256 if self.record else "0" * 64, "score_x100": score},
        }


@dataclass(frozen=True, slots=True)
class RunAccount:
    """What the books say of one session.

    Attributes:
        uses_before, uses_after: uses of the grant.
        budget_before, budget_after: units of its budget.
        first_seq, last_seq, last_sha256: the session's entries in the ledger.
        transcript_sha256: digest of its messages.
        started_at, finished_at: when.
    """

    uses_before: int
    uses_after: int
    budget_before: int
    budget_after: int
    first_seq: int
    last_seq: int
    last_sha256: str
    transcript_sha256: str
    started_at: datetime
    finished_at: datetime


def run_statement(
    order: Order,
    order_sha256: str,
    grant: Grant,
    *,
    resources: Sequence[UsedResource],
    account: RunAccount,
    facts: Mapping[str, Any],
) -> bytes:
    """Return the node-run statement of a closed session.

    Args:
        order: the order that opened it.
        order_sha256: digest of its payload.
        grant: the grant it ran under.
        resources: what was read.
        account: what the books say.
        facts: what the task's ``finish`` returned: ``contributors``, ``outputs`` and its own facts.
    """
    outputs = [(str(item["name"]), str(item["sha256"])) for item in facts.get("outputs", ())]
    predicate = {
        "node": order.node,
        "session": order.session_id,
        "task": order.task,
        "scenario": order.scenario,
        "purpose": order.purpose,
        "grant": {"id": order.grant_id, "sha256": order.grant_sha256},
        "order": {"id": order.order_id, "sha256": order_sha256},
        "resources": [resource.to_json() for resource in resources],
        "uses": {"before": account.uses_before, "after": account.uses_after},
        "budget": {"unit": grant.budget.unit, "before": account.budget_before, "after": account.budget_after},
        "ledger": {"first_seq": account.first_seq, "last_seq": account.last_seq, "last_sha256": account.last_sha256},
        "contributors": int(facts.get("contributors", 0)),
        "facts": {name: value for name, value in facts.items() if name not in {"contributors", "outputs"}},
        "code": {"version": CODE_VERSION, "tree_sha256": code_tree_sha256()},
        "started_at": time_text(account.started_at),
        "finished_at": time_text(account.finished_at),
    }
    return statement(
        NODE_RUN, [(f"run/{order.session_id}/{order.node}", account.transcript_sha256), *outputs], predicate
    )


def resource_statement(
    entry: CatalogueEntry,
    record: ResourceRecord,
    *,
    holder: str,
    organisation: str,
    rows_band: int,
    commitment: str,
    stated_at: datetime,
) -> bytes:
    """Return the data-resource statement of a resource with its quality."""
    predicate = {
        "resource": {
            "id": entry.id,
            "version": entry.version,
            "name_zh": entry.name_zh,
            "name_en": entry.name_en,
            "holder": holder,
            "organisation": organisation,
            "class": entry.data_class,
            "grade": entry.grade,
            "update_frequency": f"P{entry.update_frequency_days}D",
            "operation_attribute": entry.operation_attribute,
            "rows_band": rows_band,
            "columns": [{"name": column.name, "type": column.type} for column in entry.columns],
            "schema_sha256": entry.schema_sha256,
            "commitment": {"alg": "hmac-sha256", "value": commitment},
        },
        "registration": {
            "platform": entry.registration_platform,
            "code": entry.registration_code,
            "valid_until": entry.registration_valid_until,
        },
        "quality": {
            "report_sha256": record.report_sha256,
            "score_x100": record.score_x100 if record.score_x100 is not None else 0,
            "grade": record.grade,
            "assessed_at": time_text(record.assessed_at) if record.assessed_at else "",
            "suite_sha256": record.suite_sha256,
        },
        "stated_at": time_text(stated_at),
    }
    return statement(RESOURCE, [(f"resource/{entry.id}@{entry.version}", entry.digest_hex)], predicate)


@cache
def code_tree_sha256() -> str:
    """Return the digest over names and contents of the installed ``nodes`` and ``quality`` packages."""
    import quality

    tree = hashlib.sha256()
    roots = [Path(__file__).parent]
    if quality.__file__ is not None:
        roots.append(Path(quality.__file__).parent)
    for root in roots:
        for path in sorted(root.rglob("*.py")):
            name = f"{root.name}/{path.relative_to(root).as_posix()}"
            tree.update(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {name}\n".encode())
    return tree.hexdigest()
