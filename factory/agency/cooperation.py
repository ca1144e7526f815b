"""Third parties in the operator's environment: none gets a technical role before a review approved it (USE-THIRD).

The first body in the role *operator* is the operator itself. Any other body in that role needs the agency's
signed record of an approved cooperation that still runs; it lies in ``cooperation/<organisation>.dsse.json``
of the agency's home. Its keys count no longer than that record.

Source:
    Regulations USE-THIRD (SD-26-9).
"""

from datetime import datetime
from pathlib import Path

from factory.agency.errors import AdmissionRefusedError
from factory.files import write_atomic
from factory.identity import Identity
from nodes.contract.errors import ContractError
from nodes.contract.signing import Envelope, sha256_hex, sign
from nodes.contract.statement import PAYLOAD_TYPE, read, statement, time_text
from nodes.contract.trust import Actors

COOPERATION = "urn:shufang:predicate:cooperation-review/v1"
FOLDER = "cooperation"


def approve_cooperation(
    agency: Identity, organisation: str, *, task: str, official: str, reason: str, until: datetime, now: datetime
) -> Path:
    """Record that a third party may take a technical role, what for, and until when.

    Raises:
        AdmissionRefusedError: no task, no official, no reason, or an end that has passed.
    """
    if not all(text.strip() for text in (organisation, task, official, reason)) or until <= now:
        raise AdmissionRefusedError("expected task, official and reason of the review, and an end that lies ahead")
    said = {
        "organisation": organisation, "task": task, "official": official, "reason": reason,
        "not_after": time_text(until), "reviewed_at": time_text(now),
    }  # fmt: skip
    subject = [(f"organisation/{organisation}", sha256_hex(organisation.encode()))]
    path = agency.home / FOLDER / f"{organisation}.dsse.json"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    write_atomic(path, sign(agency.key, PAYLOAD_TYPE, statement(COOPERATION, subject, said)).to_bytes())
    return path


def require_cooperation(agency: Identity, actors: Actors, organisation: str, *, now: datetime) -> datetime | None:
    """Let a body take the role *operator* if it is the operator, or its cooperation was approved.

    Returns:
        End of the approved cooperation of a third party, beyond which its keys do not count; None for the operator.

    Raises:
        AdmissionRefusedError: another body is the operator, and there is no record, or one that has ended.
    """
    operators = {actor.organisation for actor in actors.actors if "operator" in actor.roles}
    path = agency.home / FOLDER / f"{organisation}.dsse.json"
    if not path.is_file() and (not operators or organisation in operators):
        return None
    try:
        envelope = Envelope.from_bytes(path.read_bytes())
        _, said = read(envelope.open(agency.key.public, PAYLOAD_TYPE), COOPERATION)
        until = datetime.fromisoformat(str(said["not_after"]))
        if said["organisation"] == organisation and until > now:
            return until
    except (OSError, ContractError, KeyError, ValueError) as error:
        raise AdmissionRefusedError(
            f"expected an approved cooperation with {organisation} before it takes a technical role; review it with "
            "`shufang agency cooperation`"
        ) from error
    raise AdmissionRefusedError(f"the approved cooperation with {organisation} has ended; review it again")
