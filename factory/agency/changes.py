"""Suspension, revocation, supersession and reinstatement as signed, logged statements.

A status change is a statement that two registrars sign (and a reviewer, to reinstate);
``status.json`` is its compacted view. Whoever signs the change signs the list of targets that
follows from it, and nothing else; the agency stores the statement in the log first and
publishes then.

    changes/<id>/statement.json             payload
    changes/<id>/<actor>.dsse.json          signatures
    changes/<id>/<actor>.tlog-proof         their places in the log

Source:
    PROVENANCE 3.2 and 3.6.
"""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, get_args

from factory.agency import admission, trust_repository
from factory.agency.errors import AdmissionRefusedError, NothingPendingError, SignatureMissingError
from factory.agency.office import Office
from factory.files import write_atomic
from factory.identity import Identity
from factory.log.log import Log, submissions
from factory.trust import TrustInvalidError
from nodes.contract import canonical
from nodes.contract.errors import ContractError
from nodes.contract.messages import parse
from nodes.contract.signing import Envelope, sha256_hex, sign
from nodes.contract.statement import PAYLOAD_TYPE, STATUS_CHANGE, read, statement, time_text
from nodes.contract.trust import Actors, Status, StatusItem

State = Literal["suspended", "revoked", "superseded", "reinstated"]
FOLDER = "changes"


@dataclass(frozen=True, slots=True)
class StatusChange:
    """One change.

    Attributes:
        id: name of its folder, from the digest of its payload.
        payload: the statement.
        subject_kind, subject: what it strikes, as in ``status.json``.
        state: what it becomes.
        since: from when.
        reason: why.
    """

    id: str
    payload: bytes
    subject_kind: str
    subject: str
    state: State
    since: datetime
    reason: str

    def applied_to(self, status: Status) -> Status:
        """Return the compacted view after this change.

        Raises:
            AdmissionRefusedError: there is nothing to reinstate, or it was revoked for good.
        """
        if self.state == "reinstated":
            changed = admission.without_status(status, self.subject_kind, self.subject)
            if isinstance(changed, admission.AdmissionRefusal):
                raise AdmissionRefusedError(changed.message)
            return changed
        item = status.state_of(self.subject_kind, self.subject)
        if item is not None and item.state == "revoked":
            raise AdmissionRefusedError(f"{self.subject_kind} {self.subject} is revoked; that is for good")
        values = {
            "subject_kind": self.subject_kind,
            "subject": self.subject,
            "state": self.state,
            "since": time_text(self.since),
            "reason": self.reason,
        }
        return admission.with_status(status, StatusItem.model_validate(values))


def propose(
    registrar: Identity,
    agency: Path,
    *,
    kind: str,
    subject: str,
    state: str,
    reason: str,
    decision: bytes = b"",
    now: datetime,
) -> StatusChange:
    """Draw up a change and sign it as the first registrar.

    Args:
        registrar: who proposes, from the own home.
        agency: the agency's home.
        kind: ``release``, ``product``, ``grant``, ``resource``, ``key`` or ``actor``.
        subject: name or digest of it.
        state: what it becomes.
        reason: why.
        decision: the document that decided it, if there is one; its digest is stated.
        now: from when the change counts.

    Raises:
        AdmissionRefusedError: no such state, no reason, or nothing to reinstate.
        TrustInvalidError: another proposal waits, or this is no registrar.
    """
    if state not in get_args(State) or not reason.strip():
        raise AdmissionRefusedError(f"expected a reason and a state among {', '.join(get_args(State))}")
    if (agency / "trust" / "pending" / "targets.json").is_file():
        raise TrustInvalidError("expected no other proposal; let it be signed and published first")
    predicate = {
        "subject_kind": kind,
        "subject": subject,
        "state": state,
        "since": time_text(now),
        "reason": reason,
        "decision_sha256": sha256_hex(decision) if decision else "",
    }
    subject_sha256 = sha256_hex(canonical.dumps({"kind": kind, "subject": subject}))
    change = _parse(statement(STATUS_CHANGE, [(f"{kind}/{subject}", subject_sha256)], predicate))
    targets = trust_repository.published_targets(agency / "trust")
    status = change.applied_to(parse(Status, targets["status.json"]))
    _require_role(registrar, agency, "registrar", now)
    trust_repository.stage(agency / "trust", {**targets, "status.json": status.to_payload()}, now=now)
    folder = agency / FOLDER / change.id
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "statement.json", change.payload)
    sign_change(registrar, agency, change.id, now=now)
    return change


def sign_change(signer: Identity, agency: Path, change_id: str, *, now: datetime) -> StatusChange:
    """Sign a change as a registrar, or as a reviewer where something is reinstated.

    Raises:
        TrustInvalidError: the pending list is not what follows from the change alone.
        NothingPendingError: no such change, or nothing pending.
        AdmissionRefusedError: the signer has no say in it.
    """
    change = read_change(agency, change_id)
    if "reviewer" in signer.roles and change.state == "reinstated":
        _require_role(signer, agency, "reviewer", now)
    else:
        _require_role(signer, agency, "registrar", now)
        published = trust_repository.published_targets(agency / "trust")
        expected = change.applied_to(parse(Status, published["status.json"])).to_payload()
        proposed = agency / "trust" / "pending" / "targets"
        names = {path.name for path in proposed.iterdir()} if proposed.is_dir() else set()
        others = [name for name in names | set(published) if name != "status.json"]
        if names != set(published) or any((proposed / name).read_bytes() != published[name] for name in others):
            raise TrustInvalidError("expected a pending list that differs in status.json alone")
        if (proposed / "status.json").read_bytes() != expected:
            raise TrustInvalidError("expected the status that follows from the change")
        trust_repository.sign_pending(agency / "trust", signer.trust_key, now=now)
    envelope = sign(signer.key, PAYLOAD_TYPE, change.payload).to_bytes()
    write_atomic(agency / FOLDER / change.id / f"{signer.id}.dsse.json", envelope)
    return change


def publish_change(office: Office, change_id: str, *, log: Log | None = None) -> int:
    """Store the change in the log, publish the status that follows, and return its version.

    Args:
        office: the agency.
        change_id: of the change.
        log: the transparency log; without it the envelopes wait in the change's folder.

    Raises:
        SignatureMissingError: two registrars have not signed, or nobody of the reviewers to reinstate.
    """
    change, folder = read_change(office.home, change_id), office.home / FOLDER / change_id
    actors = _actors(office.home)
    signed = signatures(office.home, change, now=office.now())
    by_role = {role: [name for name, roles in signed.items() if role in roles] for role in ("registrar", "reviewer")}
    if len(by_role["registrar"]) < trust_repository.REGISTRARS:
        raise SignatureMissingError(f"expected two registrars on {change_id}, got {len(by_role['registrar'])}")
    if change.state == "reinstated" and not by_role["reviewer"]:
        raise SignatureMissingError(f"expected a reviewer on {change_id} too: it reinstates {change.subject}")
    if log is not None:
        names = sorted(signed)
        envelopes = [(folder / f"{name}.dsse.json").read_bytes() for name in names]
        for name, logged in zip(names, log.publish(submissions(envelopes, actors)), strict=True):
            write_atomic(folder / f"{name}.tlog-proof", logged.proof)
    return office.publish()


def read_change(agency: Path, change_id: str) -> StatusChange:
    """Return a change.

    Raises:
        NothingPendingError: no such change.
    """
    path = agency / FOLDER / change_id / "statement.json"
    if "/" in change_id or not path.is_file():
        raise NothingPendingError(f"expected a change {change_id[:40]} in {agency / FOLDER}")
    change = _parse(path.read_bytes())
    if change.id != change_id:
        raise NothingPendingError(f"expected the change {change_id}; its statement was altered")
    return change


def read_changes(agency: Path) -> list[StatusChange]:
    """Return every change in the order of their times."""
    found = [read_change(agency, path.parent.name) for path in (agency / FOLDER).glob("*/statement.json")]
    return sorted(found, key=lambda change: (change.since, change.id))


def signatures(agency: Path, change: StatusChange, *, now: datetime) -> dict[str, tuple[str, ...]]:
    """Return the roles of every actor whose signature on the change verifies."""
    found: dict[str, tuple[str, ...]] = {}
    for path in sorted((agency / FOLDER / change.id).glob("*.dsse.json")):
        for actor in _actors(agency).actors:
            if not actor.is_valid_at(now) or path.name != f"{actor.id}.dsse.json":
                continue
            try:
                payload = Envelope.from_bytes(path.read_bytes()).open(actor.verify_key, PAYLOAD_TYPE)
            except ContractError:
                continue
            if payload == change.payload:
                found[actor.id] = actor.roles
    return found


def _parse(payload: bytes) -> StatusChange:
    _, said = read(payload, STATUS_CHANGE)
    return StatusChange(
        id=f"chg-{sha256_hex(payload)[:16]}",
        payload=payload,
        subject_kind=str(said["subject_kind"]),
        subject=str(said["subject"]),
        state=_state(said["state"]),
        since=datetime.fromisoformat(str(said["since"])),
        reason=str(said["reason"]),
    )


def _state(value: Any) -> State:
    for state in get_args(State):
        if value == state:
            found: State = state
            return found
    raise AdmissionRefusedError(f"expected a state among {', '.join(get_args(State))}")


def _actors(agency: Path) -> Actors:
    return parse(Actors, trust_repository.published_targets(agency / "trust")["actors.json"])


def _require_role(signer: Identity, agency: Path, role: Literal["registrar", "reviewer"], now: datetime) -> None:
    entry = _actors(agency).find(signer.id, role=role, moment=now)
    if entry.verify_key != signer.key.public:
        raise AdmissionRefusedError(f"expected the key that the trust data has for {signer.id}")
