"""The decision: may this order run at this node, now, under this grant? Pure.

Everything the decision depends on comes in as values; the answer is a ``Permit`` or a ``Denial``
with a stable code. The signatures of order and grant are checked before (``nodes.agent``,
``nodes.grants``); whether enough rows pass the filter is decided after the table was counted
(``decide_rows``).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from nodes.contract.errors import UnknownActorError
from nodes.contract.grant import Grant
from nodes.contract.messages import Condition, Order, RefusalCode, ResourceUse
from nodes.contract.parameters import CLOCK_SKEW_S_MAX, ORDER_AGE_S_MAX
from nodes.contract.trust import Actors, Role, Status
from nodes.use_rules import UseFacts, denials

_SKEW = timedelta(seconds=CLOCK_SKEW_S_MAX)


@dataclass(frozen=True, slots=True)
class ResourceFacts:
    """What the node knows of one of its resources.

    Attributes:
        version: of the catalogue entry.
        columns: of the catalogue entry.
        state: ``active``, or why not: ``held`` by quality, ``stale``, ``changed`` since it was bound or
            assessed, ``missing`` file, ``unread`` (bytes that are no such table).
        reason: one sentence for a state that is not active.
        score_x100: of the last quality report in hundredths, or None without one.
        fresh_until: until when its content counts as up to date, or None.
        use: what the law asks of it: attribute, grade, consents, bases; None where it was not asked for.
    """

    version: int
    columns: tuple[str, ...]
    state: Literal["active", "held", "stale", "changed", "missing", "unread"]
    reason: str = ""
    score_x100: int | None = None
    fresh_until: datetime | None = None
    use: UseFacts | None = None


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What the node knows when it decides.

    Attributes:
        node: its actor id.
        tasks: tasks that are installed and that its department allows.
        rows_min: the department's own fewest rows.
        quality_required: whether a resource without a passed quality run is held.
        resources: its resources by id.
        grant_state: the department's decision on the grant.
        grant_sha256: digest of the grant's payload in the books.
        uses: uses of the grant counted so far.
        spent: units of the grant's budget spent so far.
        actors, status: trust data.
        trust_expires_at: when the trust data expires.
    """

    node: str
    tasks: frozenset[str]
    rows_min: int
    quality_required: bool
    resources: Mapping[str, ResourceFacts]
    grant_state: Literal["pending", "approved", "rejected", "revoked"]
    grant_sha256: str
    uses: int
    spent: int
    actors: Actors
    status: Status
    trust_expires_at: datetime


@dataclass(frozen=True, slots=True)
class Permit:
    """The order may run.

    Attributes:
        order, grant: what was decided on.
        rows_min: fewest rows that must pass the filter of each resource.
        charge: units of the budget to charge when the order is accepted.
        skew_s: measured difference of the sender's clock in seconds; positive is ahead.
    """

    order: Order
    grant: Grant
    rows_min: int
    charge: int
    skew_s: int


@dataclass(frozen=True, slots=True)
class Denial:
    """Why not.

    Attributes:
        code: stable reason.
        message: what was expected, what came, what to do next.
    """

    code: RefusalCode
    message: str


def decide(order: Order, grant: Grant, *, facts: NodeFacts, now: datetime) -> Permit | Denial:
    """Decide on one order; the first rule that it breaks names the refusal.

    Args:
        order: verified order of the operator.
        grant: the grant it names, as it stands in the books.
        facts: what the node knows.
        now: the node's clock.
    """
    for rule in (_time, _trust, _grant, _scope, _parties, _resources, _limits):
        denial = next(rule(order, grant, facts, now), None)
        if denial is not None:
            return denial
    return Permit(
        order=order,
        grant=grant,
        rows_min=max(grant.thresholds.rows_min, facts.rows_min),
        charge=1 if grant.budget.unit == "session" else 0,
        skew_s=round((order.issued_at - now).total_seconds()),
    )


def decide_rows(permit: Permit, resource: str, rows: int) -> Denial | None:
    """Decide whether enough rows of a resource pass the filter. The count itself is not told."""
    if rows < permit.rows_min:
        return Denial(
            RefusalCode.RESOURCE_ROWS,
            f"expected at least {permit.rows_min} rows of {resource} behind the grant's filter; request a wider one",
        )
    return None


def decide_step(
    grant: Grant,
    *,
    grant_sha256: str,
    status: Status,
    trust_expires_at: datetime,
    grant_state: str,
    now: datetime,
) -> Denial | None:
    """Decide whether an open session may go on: the grant must still be in force at every step."""
    if now >= trust_expires_at:
        return _stale(trust_expires_at)
    return next(_in_force(grant, grant_sha256, status, grant_state, now), None)


def clock_denial(issued_at: datetime, expires_at: datetime | None, *, now: datetime, late_s_max: int) -> Denial | None:
    """Compare a sender's clock with ours.

    Args:
        issued_at: when the sender says it made the message.
        expires_at: until when it is meant, or None.
        now: the node's clock.
        late_s_max: how many seconds old it may be, on top of nothing else.
    """
    skew_s = round((issued_at - now).total_seconds())
    if expires_at is not None and now > expires_at + _SKEW:
        late = round((now - expires_at).total_seconds())
        return Denial(
            RefusalCode.EXPIRED, f"expected a message still in its window, it ended {late} s ago; send a new one"
        )
    if skew_s > CLOCK_SKEW_S_MAX or -skew_s > late_s_max:
        direction = "ahead of" if skew_s > 0 else "behind"
        return Denial(
            RefusalCode.CLOCK_SKEW,
            f"expected clocks within {CLOCK_SKEW_S_MAX} s, the message's is {abs(skew_s)} s {direction} this node's; "
            "set the clocks right and send a new one",
        )
    return None


def same_rows(filters: tuple[Condition, ...], granted: tuple[Condition, ...]) -> bool:
    """Whether two row filters hold the same conditions, in whatever order.

    A narrower filter is not the grant's either: two sums over filters that differ by one row give
    that row away, and so does asking which filters pass the row minimum.
    """
    return sorted(map(_condition_key, filters)) == sorted(map(_condition_key, granted))


def _condition_key(condition: Condition) -> str:
    return condition.model_dump_json()


def _time(order: Order, _grant: Grant, _facts: NodeFacts, now: datetime) -> Iterator[Denial]:
    if order.expires_at <= order.issued_at or order.expires_at - order.issued_at > timedelta(seconds=ORDER_AGE_S_MAX):
        yield Denial(RefusalCode.EXPIRED, f"expected a window of at most {ORDER_AGE_S_MAX} s that ends after it begins")
    denial = clock_denial(order.issued_at, order.expires_at, now=now, late_s_max=CLOCK_SKEW_S_MAX)
    if denial is not None:
        yield denial


def _trust(order: Order, _grant: Grant, facts: NodeFacts, now: datetime) -> Iterator[Denial]:
    if order.node != facts.node:
        yield Denial(RefusalCode.RECIPIENT, f"expected an order for {facts.node}, got one for another node")
    if now >= facts.trust_expires_at:
        yield _stale(facts.trust_expires_at)


def _grant(order: Order, grant: Grant, facts: NodeFacts, now: datetime) -> Iterator[Denial]:
    if order.grant_id != grant.grant_id or order.grant_sha256 != facts.grant_sha256:
        yield Denial(RefusalCode.GRANT_INVALID, "expected the name and digest of one grant in this node's books")
    if order.operator != grant.operator:
        yield Denial(RefusalCode.SENDER_ROLE, f"expected the grantee {grant.operator} as the order's operator")
    yield from _in_force(grant, facts.grant_sha256, facts.status, facts.grant_state, now)


def _in_force(grant: Grant, grant_sha256: str, status: Status, state: str, now: datetime) -> Iterator[Denial]:
    if state == "revoked":
        yield Denial(RefusalCode.GRANT_REVOKED, "the department has revoked this grant; submit a new data request")
    if state != "approved":
        yield Denial(
            RefusalCode.GRANT_NOT_APPROVED,
            f"expected a grant that the department approved, it is {state}; its officer decides on it",
        )
    for subject in (grant.grant_id, grant_sha256):
        struck = status.state_of("grant", subject)
        if struck is not None:
            yield Denial(RefusalCode.GRANT_REVOKED, f"the agency has {struck.state} this grant; ask the agency")
    if now + _SKEW < grant.not_before:
        yield Denial(RefusalCode.GRANT_NOT_YET, f"expected to be asked from {grant.not_before:%Y-%m-%dT%H:%M:%SZ} on")
    if now >= grant.not_after:
        yield Denial(
            RefusalCode.GRANT_EXPIRED,
            f"the grant ended at {grant.not_after:%Y-%m-%dT%H:%M:%SZ}; submit a new data request",
        )


def _scope(order: Order, grant: Grant, facts: NodeFacts, _now: datetime) -> Iterator[Denial]:
    if order.scenario != grant.scenario:
        yield Denial(RefusalCode.GRANT_SCENARIO, f"expected scenario {grant.scenario} of the grant, got another one")
    if order.purpose != grant.purpose:
        yield Denial(RefusalCode.GRANT_PURPOSE, f"expected purpose {grant.purpose} of the grant, got another one")
    if order.task not in grant.tasks:
        yield Denial(
            RefusalCode.GRANT_TASK, f"expected a task of the grant ({', '.join(grant.tasks)}), got another one"
        )
    if order.task not in facts.tasks:
        yield Denial(RefusalCode.TASK_UNKNOWN, "expected a task that is installed and allowed at this node")


def _parties(order: Order, grant: Grant, facts: NodeFacts, now: datetime) -> Iterator[Denial]:
    granted = {party.node for party in grant.parties}
    if facts.node not in order.parties or len(set(order.parties)) != len(order.parties):
        yield Denial(
            RefusalCode.GRANT_PARTIES, "expected this node, and each node once, among the parties of the order"
        )
    if not set(order.parties) <= granted:
        yield Denial(RefusalCode.GRANT_PARTIES, "expected only parties of the grant")
    if not set(order.clients) <= set(grant.clients) or len(set(order.clients)) != len(order.clients):
        yield Denial(RefusalCode.GRANT_PARTIES, "expected only clients of the grant, each once")
    roles: list[tuple[str, Role]] = [(party, "node") for party in order.parties]
    roles += [(client, "application_unit") for client in order.clients]
    for actor_id, role in roles:
        denial = actor_denial(facts.actors, facts.status, actor_id, role, now)
        if denial is not None:
            yield denial


def actor_denial(actors: Actors, status: Status, actor_id: str, role: Role, now: datetime) -> Denial | None:
    """Return why an actor does not count in a role now, or None."""
    struck = status.state_of("actor", actor_id)
    if struck is not None:
        return Denial(RefusalCode.ACTOR_REVOKED, f"the agency has {struck.state} {actor_id}")
    try:
        actor = actors.find(actor_id, role=role, moment=now)
    except UnknownActorError:
        if any(a.id == actor_id and (a.removed_at or a.compromised_since) is not None for a in actors.actors):
            return Denial(RefusalCode.ACTOR_REVOKED, f"the agency has removed {actor_id}, or its key is compromised")
        return Denial(RefusalCode.ACTOR_UNKNOWN, f"expected {actor_id} as {role} in the trust data; update it")
    struck = status.state_of("key", actor.verify_key.keyid)
    if struck is not None:
        return Denial(RefusalCode.ACTOR_REVOKED, f"the agency has {struck.state} the key of {actor_id}")
    return None


def _resources(order: Order, grant: Grant, facts: NodeFacts, now: datetime) -> Iterator[Denial]:
    party = grant.party(facts.node)
    if party is None:
        yield Denial(RefusalCode.GRANT_PARTIES, f"expected {facts.node} among the parties of the grant")
        return
    names = [use.resource for use in order.resources]
    if len(set(names)) != len(names):
        yield Denial(RefusalCode.GRANT_RESOURCE, "expected each resource once in the order")
    for use in order.resources:
        granted = next((g for g in party.resources if (g.resource, g.version) == (use.resource, use.version)), None)
        if granted is None:
            yield Denial(
                RefusalCode.GRANT_RESOURCE, f"expected a resource of the grant in its version, got {use.resource}"
            )
            return
        yield from _within(use, granted)
        yield from _usable(use, grant, facts, now)
        known = facts.resources.get(use.resource)
        if known is not None and known.use is not None:
            rules = denials(
                use, known.use, purpose=order.purpose, tasks=(order.task,), limits=grant.thresholds, now=now
            )
            yield from (Denial(code, message) for code, message in rules)


def _within(use: ResourceUse, granted: ResourceUse) -> Iterator[Denial]:
    extra = [name for name in use.columns if name not in granted.columns]
    if extra:
        yield Denial(
            RefusalCode.GRANT_COLUMN,
            f"expected only granted columns of {use.resource}, {', '.join(extra[:5])[:300]} is not; request it first",
        )
    if len(set(use.columns)) != len(use.columns):
        yield Denial(RefusalCode.GRANT_COLUMN, f"expected each column of {use.resource} once")
    if not same_rows(use.row_filter, granted.row_filter):
        yield Denial(
            RefusalCode.GRANT_ROW_FILTER,
            f"expected exactly the grant's conditions on the rows of {use.resource}; other rows need another grant",
        )
    if any(condition.operator != "in" and len(condition.values) != 1 for condition in use.row_filter):
        yield Denial(RefusalCode.GRANT_ROW_FILTER, "expected one value in each condition that is not `in`")


def _usable(use: ResourceUse, grant: Grant, facts: NodeFacts, now: datetime) -> Iterator[Denial]:
    struck = facts.status.state_of("resource", use.resource)
    if struck is not None:
        yield Denial(RefusalCode.RESOURCE_HELD, f"the agency has {struck.state} {use.resource}; ask the agency")
    known = facts.resources.get(use.resource)
    if known is None:
        yield Denial(
            RefusalCode.RESOURCE_MISSING, f"expected {use.resource} in this node's catalogue; its officer binds it"
        )
        return
    if known.version != use.version or not set(use.columns) <= set(known.columns):
        yield Denial(
            RefusalCode.RESOURCE_CHANGED,
            f"expected version {known.version} of {use.resource} and its columns; the grant is for another version",
        )
    if any(condition.column not in known.columns for condition in use.row_filter):
        yield Denial(RefusalCode.RESOURCE_CHANGED, f"expected conditions on columns that {use.resource} has")
    codes = {
        "held": RefusalCode.RESOURCE_HELD,
        "stale": RefusalCode.RESOURCE_STALE,
        "changed": RefusalCode.RESOURCE_CHANGED,
        "missing": RefusalCode.RESOURCE_MISSING,
        "unread": RefusalCode.RESOURCE_MISSING,
    }
    if known.state in codes:
        yield Denial(codes[known.state], known.reason or f"{use.resource} is {known.state}; its officer puts it right")
    if known.fresh_until is not None and now >= known.fresh_until:
        yield Denial(
            RefusalCode.RESOURCE_STALE,
            f"{use.resource} is older than its update frequency allows; update it, run quality again",
        )
    minimum = grant.thresholds.quality_score_min
    if facts.quality_required and (known.score_x100 is None or known.score_x100 < minimum):
        score = "none" if known.score_x100 is None else f"{known.score_x100 // 100}.{known.score_x100 % 100:02d}"
        yield Denial(
            RefusalCode.RESOURCE_HELD,
            f"expected a quality score from {minimum // 100}.{minimum % 100:02d} on, {use.resource} has {score}",
        )


def _limits(_order: Order, grant: Grant, facts: NodeFacts, _now: datetime) -> Iterator[Denial]:
    if len(set(_order.parties)) < grant.thresholds.contributors_min:
        yield Denial(
            RefusalCode.GRANT_THRESHOLD, f"expected at least {grant.thresholds.contributors_min} parties in a session"
        )
    if facts.uses >= grant.uses_max:
        yield Denial(
            RefusalCode.GRANT_EXHAUSTED, f"all {grant.uses_max} uses of the grant are taken; submit a new request"
        )
    if facts.spent >= grant.budget.total:
        yield Denial(RefusalCode.GRANT_BUDGET, "the budget of the grant is spent; submit a new data request")


def _stale(expires_at: datetime) -> Denial:
    return Denial(
        RefusalCode.TRUST_STALE,
        f"this node's trust data expired at {expires_at:%Y-%m-%dT%H:%M:%SZ}; its officer brings newer",
    )
