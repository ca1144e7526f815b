"""Step 9: what is in force now, from fresh trust data only.

The embedded trust data says who was who at the release; whether anything was suspended or
revoked since, only fresh data can say. Without it the answer is *unknown*, never *valid*.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from products.errors import UntrustedError
from products.repository import TrustData
from products.trust import Status
from products.verification.checks import CheckList
from products.verification.facts import Facts


@dataclass(frozen=True, slots=True)
class Standing:
    """What step 9 found.

    Attributes:
        is_known: fresh trust data was at hand.
        state: ``valid``, ``suspended``, ``revoked``, ``superseded`` or ``expired``.
    """

    is_known: bool
    state: str


def require_fresh(fresh: TrustData, embedded: TrustData, now: datetime) -> None:
    """Accept trust data as fresh: same root, not older than the package's, not expired.

    Raises:
        UntrustedError: it is not.
    """
    if fresh.root_sha256 != embedded.root_sha256:
        raise UntrustedError("expected fresh trust data of the same root as the package's")
    older = sorted(role for role, version in fresh.versions.items() if version < embedded.versions[role])
    if older:
        raise UntrustedError(f"the fresh trust data is older than the package's: {', '.join(older)}")
    fresh.require_current(now)


def check_standing(facts: Facts, fresh: TrustData | None, now: datetime, checks: CheckList) -> Standing:
    """Apply the fresh status and list of actors, and the product's own term."""
    ends = min(facts.release.validity.not_after, facts.release.registration.valid_until)
    state = "valid"
    if now >= ends:
        state = "expired"
        checks.failed("status.term", [f"the product's term ended {ends:%Y-%m-%dT%H:%M:%SZ}"])
    else:
        checks.passed("status.term", f"until {ends:%Y-%m-%dT%H:%M:%SZ}")
    if fresh is None:
        checks.warned("status.force", "unknown: no fresh trust data")
        checks.warned("status.keys", "unknown: no fresh trust data")
        return Standing(is_known=False, state=state)
    checks.found(
        "status.keys", list(_key_problems(facts, fresh)), f"list of actors, version {fresh.versions['targets']}"
    )
    found = list(struck(facts, fresh.status))
    checks.found("status.force", [text for _, text in found], f"{len(fresh.status.items)} entries in the status list")
    order = ("revoked", "superseded", "suspended")
    states = {item_state for item_state, _ in found}
    return Standing(is_known=True, state=next((name for name in order if name in states), state))


def _key_problems(facts: Facts, fresh: TrustData) -> Iterator[str]:
    """A key counts at the witnessed time; a compromise that became known later reaches back to its time."""
    actors = fresh.actors.by_keyid()
    for item in facts.signed:
        actor = actors.get(item.envelope.keyid)
        if actor is None or actor.id != item.actor.id:
            yield f"{item.path}: the key of {item.actor.id} is no longer in the agency's list"
        elif not actor.is_valid_at(item.at):
            yield f"{item.path}: the key of {actor.id} did not count at {item.at:%Y-%m-%dT%H:%M:%SZ}"


def struck(facts: Facts, status: Status) -> Iterator[tuple[str, str]]:
    """Yield state and text of every entry of a status list that strikes the release or what it rests on."""
    subjects = _subjects(facts)
    for item in status.items:
        if item.subject in subjects[item.subject_kind]:
            since = f"{item.since:%Y-%m-%dT%H:%M:%SZ}"
            yield item.state, f"{item.subject_kind} {item.subject} {item.state} since {since}: {item.reason[:200]}"


def _subjects(facts: Facts) -> Mapping[str, set[str]]:
    product = facts.release.product
    return {
        "release": {facts.release_joint.sha256},
        "product": {product.id, f"{product.id}@{product.version}"},
        "grant": {facts.release.grant.id},
        "resource": {name for r, v in facts.resources for name in (r, f"{r}@{v}")},
        "key": {item.envelope.keyid for item in facts.signed},
        "actor": {item.actor.id for item in facts.signed},
    }
