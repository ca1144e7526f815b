"""Feedback on a released product: to the departments its data came from, and their outcome back.

The package says which resources a product was made from and which node signed for each; every one of
these gets a ticket at its node, under a reference that the operator draws. The record of a feedback is
written before anything is sent, so that after a failure the rest is sent under the same reference and no
department files it twice.

Privacy: the text may quote a row. It goes sealed by the parcels to departments that own the rows; the
operator keeps its digest alone.

Source:
    Regulations Q-FEEDBACK (JN-16-2, JL-运营管理-53, GD-14-1).
"""

import json
import secrets
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from factory.errors import FactoryError, NodeRefusedError
from nodes.contract.messages import QueryKind
from nodes.contract.signing import sha256_hex
from nodes.contract.statement import time_text
from products.lineage import four_answers
from products.package import paths

TEXT_MAX = 2_000
_UNSETTLED = frozenset({"", "filed", "open"})


class FeedbackError(FactoryError):
    """Feedback that cannot be filed, or that nobody has filed."""

    code = "feedback.refused"


class Asks(Protocol):
    """Asks a node one question and MUST return its verified answer, or raise a ``FactoryError``."""

    def ask(self, node: str, kind: str, body: dict[str, Any] | None = None) -> Any:
        """Ask."""


def file_feedback(
    folder: Path, packages: Path, product: str, *, party: str, text: str, now: datetime
) -> dict[str, Any]:
    """Write the record of a feedback: one line for every resource the product was made from; nothing is sent yet.

    Args:
        folder: the operator's records.
        packages: released packages.
        product: ``id@version`` or registration code.
        party: who uses the product and found something wrong.
        text: what is wrong.
        now: the operator's clock.

    Raises:
        FeedbackError: no such released product, nobody's name, no text or one too long.
    """
    if not party.strip() or not text.strip() or len(text) > TEXT_MAX:
        raise FeedbackError(f"expected who found it and what is wrong, in at most {TEXT_MAX} characters")
    answers = _released(packages, product)
    reference = f"fb-{secrets.token_hex(12)}"
    record = {
        "id": reference,
        "product": answers["product"],
        "party": party.strip(),
        "filed_at": time_text(now),
        "text_sha256": sha256_hex(text.encode()),
        "tickets": [
            {"resource": row["resource"].rpartition("@")[0], "node": row["holder"], "ticket": "", "state": "",
             "due_on": "", "overdue": False, "closed_report": ""}
            for row in answers["whence"]
        ],
    }  # fmt: skip
    _write(folder, record)
    return record


def send_feedback(folder: Path, record: Mapping[str, Any], text: str, *, desk: Asks) -> dict[str, Any]:
    """Take a feedback to every node that has no ticket of it yet, and write what they answer.

    A node that cannot be reached or refuses keeps no other from it; its line says why under ``problem``.
    """
    if sha256_hex(text.encode()) != record["text_sha256"]:
        raise FeedbackError("expected the text that was filed; file another feedback for another text")

    def ask(row: Mapping[str, Any]) -> Mapping[str, Any]:
        body = {"resource": row["resource"], "product": record["product"], "party": record["party"],
                "reference": record["id"], "text": text}  # fmt: skip
        answer: Mapping[str, Any] = desk.ask(row["node"], QueryKind.QUALITY_FEEDBACK, body).body
        return {key: str(answer[key]) for key in ("ticket", "state", "due_on")}

    return _each(folder, record, ask, wanted=lambda row: not row["ticket"])


def outcome(folder: Path, reference: str, *, desk: Asks) -> dict[str, Any]:
    """Ask every department how a feedback stands, and write it down for whoever filed it.

    Raises:
        FeedbackError: no feedback of this name.
    """

    def ask(row: Mapping[str, Any]) -> Mapping[str, Any]:
        found = desk.ask(row["node"], QueryKind.QUALITY_TICKET, {"reference": reference}).body["tickets"]
        mine = next((item for item in found if item["resource"] == row["resource"]), None)
        if mine is None:
            raise FeedbackError(f"expected a ticket at {row['node']}; send it again with `shufang feedback file`")
        return {key: mine[key] for key in ("ticket", "state", "severity", "due_on", "overdue", "closed_report")}

    return _each(folder, read_feedback(folder, reference), ask, wanted=lambda row: row["state"] in _UNSETTLED)


def read_feedback(folder: Path, reference: str) -> dict[str, Any]:
    """Return one record.

    Raises:
        FeedbackError: no feedback of this name.
    """
    try:
        return dict(json.loads((folder / f"{Path(reference).name}.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        raise FeedbackError(f"expected a feedback that was filed, {reference} is none") from None


def list_feedback(folder: Path) -> list[dict[str, Any]]:
    """Return all records, oldest first."""
    found = [read_feedback(folder, path.stem) for path in folder.glob("fb-*.json")]
    return sorted(found, key=lambda record: (record["filed_at"], record["id"]))


def _each(
    folder: Path,
    record: Mapping[str, Any],
    ask: Callable[[Mapping[str, Any]], Mapping[str, Any]],
    *,
    wanted: Callable[[Mapping[str, Any]], bool],
) -> dict[str, Any]:
    rows = []
    for row in record["tickets"]:
        kept = {key: value for key, value in row.items() if key != "problem"}
        if wanted(row):
            try:
                kept |= ask(row)
            except NodeRefusedError as error:
                kept["problem"] = str(error)
            except FactoryError as error:
                kept["problem"] = f"{error.code}: {error}"
        rows.append(kept)
    done = {**record, "tickets": rows}
    _write(folder, done)
    return done


def _released(packages: Path, product: str) -> dict[str, Any]:
    for path in sorted(packages.glob(f"*/{paths.CERTIFICATE_JSON}")):
        answers = four_answers(path.parent.parent)
        if product in {answers["product"], answers["registration"]}:
            return answers
    raise FeedbackError(f"expected a released product, {product} is none; see `shufang product list`")


def _write(folder: Path, record: Mapping[str, Any]) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{record['id']}.json"
    part = path.with_suffix(".part")
    part.write_text(json.dumps(record, ensure_ascii=False, indent=1), encoding="utf-8")
    part.replace(path)
