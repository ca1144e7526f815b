"""Other data in a build: only files that the agency has reviewed, by digest (USE-IMPORT, SD-26-8).

A recipe names each with its path and the agency's signed review. What was used stands in the product as
``inputs.json`` with the review's id, so that provenance names it.
"""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

from factory.errors import FactoryError
from factory.identity import Identity
from factory.pipelines.recipe import Recipe
from nodes.contract import canonical
from nodes.contract.errors import ContractError
from nodes.contract.signing import Envelope, sha256_hex, sign
from nodes.contract.statement import PAYLOAD_TYPE, read, statement, time_text
from nodes.contract.trust import Actors, Status

IMPORT_REVIEW = "urn:shufang:predicate:import-review/v1"
INPUTS = "inputs.json"


class InputNotReviewedError(FactoryError):
    """A file of the recipe has no review of the agency, or one that does not permit it."""

    code: ClassVar[str] = "pipeline.input_not_reviewed"


def review_input(
    agency: Identity, content: bytes, *, name: str, approve: bool, official: str, reason: str, now: datetime
) -> bytes:
    """Return the agency's signed review of a file.

    Raises:
        InputNotReviewedError: no official or no reason.
    """
    if not official.strip() or not reason.strip():
        raise InputNotReviewedError("expected who reviewed the file, and why it may or may not be used")
    digest = sha256_hex(content)
    said = {
        "name": name, "outcome": "approved" if approve else "rejected", "official": official, "reason": reason,
        "review_id": f"imp-{digest[:12]}", "reviewed_at": time_text(now),
    }  # fmt: skip
    return sign(agency.key, PAYLOAD_TYPE, statement(IMPORT_REVIEW, [(name, digest)], said)).to_bytes()


def reviewed_inputs(recipe: Recipe, folder: Path, *, actors: Actors, status: Status, now: datetime) -> bytes:
    """Check every file a recipe adds and return ``inputs.json``; empty bytes without any.

    Args:
        recipe: with its inputs.
        folder: from which their paths count.
        actors: who is who.
        status: who is struck.
        now: clock.

    Raises:
        InputNotReviewedError: a file that is missing or unreviewed, a review of other bytes, a rejection, or a
            review that is not the agency's.
    """
    rows: list[Mapping[str, Any]] = []
    for item in recipe.inputs:
        try:
            content, review = (folder / item.path).read_bytes(), (folder / item.review).read_bytes()
        except OSError as error:
            raise InputNotReviewedError(f"expected {item.path} with the agency's review beside it") from error
        review_id = require_reviewed(item.name, content, review, actors=actors, status=status, now=now)
        rows.append({"name": item.name, "sha256": sha256_hex(content), "review_id": review_id})
    return canonical.dumps({"inputs": [dict(row) for row in rows]}) if rows else b""


def require_reviewed(name: str, content: bytes, review: bytes, *, actors: Actors, status: Status, now: datetime) -> str:
    """Return the id of the agency's review that approved these very bytes.

    Raises:
        InputNotReviewedError: it is of other bytes, a rejection, or not the agency's.
    """
    said = _opened(review, sha256_hex(content), actors=actors, status=status, now=now)
    if said["outcome"] != "approved":
        raise InputNotReviewedError(f"the agency has rejected {name}: {said['reason']}")
    return str(said["review_id"])


def _opened(review: bytes, digest: str, *, actors: Actors, status: Status, now: datetime) -> dict[str, Any]:
    try:
        envelope = Envelope.from_bytes(review)
        for actor in actors.actors:
            if actor.verify_key.keyid != envelope.keyid or "agency" not in actor.roles or not actor.is_valid_at(now):
                continue
            if status.state_of("actor", actor.id) is not None:
                break
            subjects, said = read(envelope.open(actor.verify_key, PAYLOAD_TYPE), IMPORT_REVIEW)
            if subjects[0][1] != digest:
                raise InputNotReviewedError("expected a review of these very bytes; the file changed after it")
            return said
    except ContractError as error:
        raise InputNotReviewedError(f"expected the agency's signed review: {error}") from error
    raise InputNotReviewedError("expected the agency's own signature on the review")
