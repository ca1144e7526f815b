"""Key events: what happened to a key, as statements that both registrars sign and the log keeps.

Nobody draws them up: they follow from the difference between the published list of actors and
the pending one, so a registrar who signs the list signs them too, and none can be left out.
The list says what counts now; the events say, for good, when it was decided and by whom.

    trust/pending/key-events/<n>.<registrar>.dsse.json     while the list waits
    key-events/<list version>/<n>.<registrar>.dsse.json    once it is published
    key-events/<list version>/<n>.<registrar>.tlog-proof   once it is in the log

Source:
    PROVENANCE 3.2 (key-event: add, rotate, retire, compromise) and 3.3.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from factory.agency.errors import SignatureMissingError
from factory.files import write_atomic
from factory.log.log import Log, submissions
from factory.trust import TrustInvalidError
from nodes.contract.errors import ContractError
from nodes.contract.signing import Envelope, SigningKey, sign
from nodes.contract.statement import KEY_EVENT, PAYLOAD_TYPE, read, statement, time_text
from nodes.contract.trust import Actor, Actors

Event = Literal["add", "rotate", "retire", "compromise"]
FOLDER = "key-events"


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One published event.

    Attributes:
        version: of the list of targets that carries it.
        number: position among the events of this list, from 1.
        event: what happened.
        actor: whose key.
        keyid: SHA-256 of its SubjectPublicKeyInfo, hex.
        at: time from which it counts, as statements write times.
        signers: registrars whose envelopes are here.
        is_logged: every envelope has its proof.
    """

    version: int
    number: int
    event: str
    actor: str
    keyid: str
    at: str
    signers: tuple[str, ...]
    is_logged: bool


def derive(before: Actors, after: Actors, *, version: int) -> list[bytes]:
    """Return the payload of every event between two lists of actors, in one order.

    Args:
        before: the published list.
        after: the list that is to follow.
        version: of the list of targets that carries ``after``.

    Raises:
        TrustInvalidError: a key that is listed would change in anything but its end, a mark would be
            taken back or put later, or a key would leave the list.
    """
    old = {actor.statement_spki: actor for actor in before.actors}
    new = {actor.statement_spki: actor for actor in after.actors}
    gone = sorted(old[key].id for key in old.keys() - new.keys())
    if gone:
        raise TrustInvalidError(f"expected every earlier key in the list, {gone[0]} is gone; an end is a mark, no gap")
    return [
        statement(
            KEY_EVENT,
            [(f"key/{actor.id}", actor.verify_key.keyid)],
            {
                "event": event,
                "actor": actor.id,
                "organisation": actor.organisation,
                "roles": list(actor.roles),
                "at": at,
                "valid_from": time_text(actor.not_before),
                "valid_to": time_text(actor.not_after),
                "successor": successor,
                "list_version": version,
            },
        )
        for key, actor in sorted(new.items(), key=lambda item: (item[1].id, item[0]))
        for event, at, successor in _events(old.get(key), actor, [a for k, a in new.items() if k not in old])
    ]


def _events(before: Actor | None, after: Actor, added: list[Actor]) -> Iterator[tuple[Event, str, str]]:
    """Yield event, time from which it counts, and key id of the successor or an empty text."""
    if before is None:
        yield "add", time_text(after.not_before), ""
    else:
        ends = ("not_after", "removed_at", "compromised_since")
        if before.model_copy(update={name: getattr(after, name) for name in ends}) != after:
            raise TrustInvalidError(
                f"expected the key of {after.id} to change in its end alone; other keys are a rotation"
            )
        if after.not_after > before.not_after:
            raise TrustInvalidError(f"expected no longer term of the same key of {after.id}; rotate it")
        if after.not_after != before.not_after:
            successor = next((a.verify_key.keyid for a in added if a.id == after.id), "")
            yield "rotate" if successor else "retire", time_text(after.not_after), successor
        _require_earlier(before, after)
    marks: tuple[tuple[Event, str], ...] = (("retire", "removed_at"), ("compromise", "compromised_since"))
    for event, name in marks:
        moment = getattr(after, name)
        if moment is not None and (before is None or getattr(before, name) != moment):
            yield event, time_text(moment), ""


def _require_earlier(before: Actor, after: Actor) -> None:
    for name in ("removed_at", "compromised_since"):
        was, will = getattr(before, name), getattr(after, name)
        if was is not None and (will is None or will > was):
            raise TrustInvalidError(f"expected the mark {name} of {after.id} to stay, or to reach further back")


def sign_events(folder: Path, registrar: str, key: SigningKey, payloads: list[bytes]) -> None:
    """Sign events as one registrar into the pending folder."""
    for number, payload in enumerate(payloads, start=1):
        write_atomic(_path(folder, number, registrar), sign(key, PAYLOAD_TYPE, payload).to_bytes())


def keep_events(pending: Path, folder: Path, payloads: list[bytes], actors: Actors, *, signers_min: int) -> None:
    """Check that every event has its registrars and copy it to where it is kept.

    Raises:
        SignatureMissingError: fewer registrars than needed signed an event.
    """
    for number, payload in enumerate(payloads, start=1):
        signed = {}
        for actor in actors.actors:
            path = _path(pending, number, actor.id)
            if "registrar" in actor.roles and path.is_file() and _opens(path.read_bytes(), actor, payload):
                signed[actor.id] = path.read_bytes()
        if len(signed) < signers_min:
            raise SignatureMissingError(
                f"expected {signers_min} registrars on every key event of the pending list, got {len(signed)}; "
                "let each registrar sign, then publish again"
            )
        for registrar, envelope in signed.items():
            write_atomic(_path(folder, number, registrar), envelope)


def store_events(agency: Path, actors: Actors, log: Log) -> int:
    """Append every event that is not in the log yet, and return how many envelopes were appended.

    Raises:
        LogError: not appended, or not witnessed by a quorum; call again.
    """
    waiting = [path for path in _envelopes(agency) if not _proof(path).is_file()]
    if waiting:
        logged = log.publish(submissions([path.read_bytes() for path in waiting], actors))
        for path, entry in zip(waiting, logged, strict=True):
            write_atomic(_proof(path), entry.proof)
    return len(waiting)


def read_events(agency: Path) -> list[StoredEvent]:
    """Return every published event, oldest list first."""
    found: dict[tuple[int, int], list[Path]] = {}
    for path in _envelopes(agency):
        found.setdefault((int(path.parent.name), int(path.name.partition(".")[0])), []).append(path)
    rows = []
    for (version, number), paths in sorted(found.items()):
        subjects, said = read(Envelope.from_bytes(paths[0].read_bytes()).payload, KEY_EVENT)
        signers = tuple(path.name.partition(".")[2].removesuffix(".dsse.json") for path in paths)
        is_logged = all(_proof(path).is_file() for path in paths)
        event = (str(said["event"]), str(said["actor"]), subjects[0][1], str(said["at"]))
        rows.append(StoredEvent(version, number, *event, signers, is_logged))
    return rows


def _envelopes(agency: Path) -> list[Path]:
    paths = (agency / FOLDER).glob("*/*.dsse.json")
    return sorted(paths, key=lambda path: (int(path.parent.name), int(path.name.partition(".")[0]), path.name))


def _path(folder: Path, number: int, registrar: str) -> Path:
    return folder / f"{number}.{registrar}.dsse.json"


def _proof(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(".dsse.json") + ".tlog-proof")


def _opens(data: bytes, actor: Actor, payload: bytes) -> bool:
    try:
        return Envelope.from_bytes(data).open(actor.verify_key, PAYLOAD_TYPE) == payload
    except ContractError:
        return False
