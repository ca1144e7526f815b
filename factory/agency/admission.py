"""Who may be admitted to the trust data, and how its list changes. Pure.

Separation of duties is decided here, before a key counts anywhere: an operator's
organisation neither reviews nor registers nor holds a node's office of the agency, one
person holds one office, and one key belongs to one actor.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from factory.lifecycle.roles import meeting
from nodes.contract.enrolment import Enrolment
from nodes.contract.parameters import CLOCK_SKEW_S_MAX
from nodes.contract.trust import Actor, Actors, Status, StatusItem

ACTOR_DAYS = 730
"""How long an actor's keys count, in days (as the root that vouches for them)."""

_SKEW = timedelta(seconds=CLOCK_SKEW_S_MAX)


@dataclass(frozen=True, slots=True)
class AdmissionRefusal:
    """Why an actor is not admitted.

    Attributes:
        code: stable reason.
        message: what was expected, what came.
    """

    code: str
    message: str


def admit(
    actors: Actors, enrolment: Enrolment, *, now: datetime, days: int = ACTOR_DAYS, until: datetime | None = None
) -> Actors | AdmissionRefusal:
    """Return the list with a new actor, or with a new key of one that has none which counts; or why not.

    Args:
        actors: the list.
        enrolment: who asks, with its keys.
        now: clock.
        days: how long the keys count.
        until: an earlier end of them, where the actor's part rests on something that ends.
    """
    known = next((actor for actor in actors.actors if actor.id == enrolment.id), None)
    if known is not None:
        # Whose keys are all lost or compromised has none to endorse new ones: it is admitted anew, as itself.
        if current_entry(actors, enrolment.id, now=now) is not None:
            return AdmissionRefusal(
                "admission.id_taken", f"expected a new actor id, {enrolment.id} is listed; for new keys use a rotation"
            )
        if set(enrolment.roles) != set(known.roles) or enrolment.organisation != known.organisation:
            return AdmissionRefusal("admission.changed", "expected the same roles and organisation as before")
    if refusal := _refuse_key_or_roles(actors, enrolment, now=now):
        return refusal
    entry = enrolment.to_actor(not_before=now - _SKEW, not_after=_end(now, days, until))
    return Actors(actors=(entry, *actors.actors) if known else (*actors.actors, entry))


def rotate(
    actors: Actors, enrolment: Enrolment, *, now: datetime, days: int = ACTOR_DAYS, until: datetime | None = None
) -> Actors | AdmissionRefusal:
    """Return the list with new keys of an actor; what the old ones signed before stays valid.

    The caller has checked that the old statement key endorses the bundle. The new entry stands
    first, so that it is taken while both count during the tolerated clock skew.
    """
    current = current_entry(actors, enrolment.id, now=now)
    if current is None:
        return AdmissionRefusal("admission.unknown", f"expected {enrolment.id} in the list, with a key that counts now")
    if set(enrolment.roles) != set(current.roles) or enrolment.organisation != current.organisation:
        return AdmissionRefusal("admission.changed", "expected the same roles and organisation; only keys rotate")
    if refusal := _refuse_key_or_roles(actors, enrolment, now=now):
        return refusal
    entry = enrolment.to_actor(not_before=now - _SKEW, not_after=_end(now, days, until))
    ended = current.model_copy(update={"not_after": min(current.not_after, now + _SKEW)})
    rest = tuple(ended if actor is current else actor for actor in actors.actors)
    return Actors(actors=(entry, *rest))


def remove(actors: Actors, actor_id: str, *, at: datetime) -> Actors | AdmissionRefusal:
    """Return the list in which an actor takes no part from ``at`` on."""
    return _mark(actors, actor_id, "removed_at", at)


def compromise(
    actors: Actors, actor_id: str, *, since: datetime, keyid: str | None = None
) -> Actors | AdmissionRefusal:
    """Return the list in which nothing that an actor signed from ``since`` on counts.

    Args:
        actors: the list.
        actor_id: whose key is in other hands.
        since: time from which its signatures do not count; what was witnessed before stays.
        keyid: of one key alone, as after a rotation; every key of the actor if not given.
    """
    return _mark(actors, actor_id, "compromised_since", since, keyid=keyid)


def current_entry(actors: Actors, actor_id: str, *, now: datetime) -> Actor | None:
    """Return the entry of an actor whose keys count now."""
    return next((a for a in actors.actors if a.id == actor_id and a.is_valid_at(now)), None)


def with_status(status: Status, item: StatusItem) -> Status:
    """Return the status with ``item``, in place of an earlier one of the same subject."""
    return Status(items=(*_others(status.items, item.subject_kind, item.subject), item))


def without_status(status: Status, subject_kind: str, subject: str) -> Status | AdmissionRefusal:
    """Return the status without a suspension; revocations stay for good."""
    item = status.state_of(subject_kind, subject)
    if item is None:
        return AdmissionRefusal("status.unknown", f"expected a suspension of {subject_kind} {subject}, there is none")
    if item.state != "suspended":
        return AdmissionRefusal("status.final", f"expected a suspension, {subject_kind} {subject} is {item.state}")
    return Status(items=_others(status.items, subject_kind, subject))


def _end(now: datetime, days: int, until: datetime | None) -> datetime:
    usual = now + timedelta(days=days)
    return usual if until is None else min(usual, until)


def _others(items: Sequence[StatusItem], subject_kind: str, subject: str) -> tuple[StatusItem, ...]:
    return tuple(i for i in items if (i.subject_kind, i.subject) != (subject_kind, subject))


def _mark(
    actors: Actors, actor_id: str, field: str, moment: datetime, *, keyid: str | None = None
) -> Actors | AdmissionRefusal:
    def is_meant(actor: Actor) -> bool:
        return actor.id == actor_id and keyid in (None, actor.verify_key.keyid)

    if not any(is_meant(actor) for actor in actors.actors):
        key = f" with the key {keyid[:12]}" if keyid else ""
        return AdmissionRefusal("admission.unknown", f"expected {actor_id}{key} in the list of actors")
    marked = []
    for actor in actors.actors:
        earlier = getattr(actor, field)
        if not is_meant(actor) or (earlier is not None and earlier <= moment):
            marked.append(actor)
        else:
            marked.append(actor.model_copy(update={field: moment}))
    return Actors(actors=tuple(marked))


def _refuse_key_or_roles(actors: Actors, enrolment: Enrolment, *, now: datetime) -> AdmissionRefusal | None:
    keys = {actor.statement_spki for actor in actors.actors}
    tls = {actor.tls_spki_sha256 for actor in actors.actors if actor.id != enrolment.id} - {""}
    sealing = {actor.sealing_key for actor in actors.actors if actor.id != enrolment.id} - {""}
    if enrolment.statement_spki in keys or enrolment.tls_spki_sha256 in tls or enrolment.sealing_key in sealing:
        return AdmissionRefusal("admission.key_taken", "expected keys that no actor of the list has, or had")
    here = {
        role
        for actor in actors.actors
        if actor.organisation == enrolment.organisation and actor.is_valid_at(now)
        for role in actor.roles
    } | set(enrolment.roles)
    pair = meeting(here)
    if pair is not None and set(pair) & set(enrolment.roles):
        return AdmissionRefusal(
            "admission.roles_apart",
            f"expected {pair[0]} and {pair[1]} in different organisations, {enrolment.organisation} would hold both",
        )
    return None
