"""Alerts: what stands out among the things a node, the agency or the gateway has recorded. Pure.

An alert is never stored: it follows from the records, which are chained, so none can be dropped. What
is stored is that a person handled it. Unhandled past its limit it goes to the next owner.

Source:
    Regulations MON-ALERT (SD-31-3, SZ-10.5-6, GD-08-3), USE-ABUSE (JL-运营管理-28, SZ-11.2-9), MON-LEAK
    (JL-运营管理-14). Limits in hours: own choice, the texts say "prompt".
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

Level = Literal["minor", "major", "critical"]


@dataclass(frozen=True, slots=True)
class Signal:
    """One record that may stand out.

    Attributes:
        at: when.
        actor: who caused it.
        code: refusal code, or kind of the record.
        ref: its place or digest in the records.
    """

    at: datetime
    actor: str
    code: str
    ref: str


@dataclass(frozen=True, slots=True)
class Rule:
    """What makes an alert.

    Attributes:
        name: of the rule.
        codes: codes it counts; empty counts every refusal.
        count: how many of one actor,
        window_s: within how many seconds.
        grade: how grave.
        owner: who handles it.
        next_owner: to whom it goes when nobody has.
        limit_h: hours for that.
    """

    name: str
    codes: frozenset[str]
    count: int
    window_s: int
    grade: Level
    owner: str
    next_owner: str
    limit_h: int


_SCOPE = frozenset(
    {
        "grant.column", "grant.resource", "grant.row_filter", "grant.purpose", "grant.scenario", "grant.parties",
        "grant.task", "grant.expired", "grant.not_yet", "grant.revoked", "personal.basis", "resource.consent",
        "resource.attribute", "resource.grade", "request.sender_role",
    }
)  # fmt: skip
_TAMPERED = frozenset({"request.signature", "egress.found", "chain.broken", "artefact.altered", "leak.traced"})

RULES: tuple[Rule, ...] = (
    Rule("tampering", _TAMPERED, 1, 3600, "critical", "security-officer", "data-administration", 4),
    Rule("out-of-scope", _SCOPE, 1, 3600, "major", "data-officer", "agency", 24),
    Rule(
        "over-use", frozenset({"grant.exhausted", "grant.budget", "call.rate", "call.quota"}), 1, 3600, "major",
        "data-officer", "agency", 24,
    ),
    Rule("enumeration", frozenset({"call.enumeration"}), 1, 3600, "critical", "security-officer", "agency", 4),
    Rule(
        "foreign-purpose", frozenset({"call.purpose", "call.client_type"}), 1, 3600, "major", "operator", "agency", 24
    ),
    Rule("quality", frozenset({"quality.below"}), 1, 3600, "major", "operator", "agency", 24),
    Rule("refusals", frozenset(), 3, 60, "major", "security-officer", "agency", 24),
)  # fmt: skip

VOLUME_FACTOR = 3
"""A day's uses that are this many times the mean of the days before stand out."""
VOLUME_MIN = 10
"""Fewer uses in a day than this never do."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert.

    Attributes:
        id: stable, from rule and first record.
        rule: its name.
        grade: how grave.
        actor: who caused it.
        owner: who has to handle it now.
        opened_at: time of the record that made it.
        due_at: until when.
        state: ``open``, ``escalated`` or ``handled``.
        refs: the records.
        outcome: what was done, once handled.
    """

    id: str
    rule: str
    grade: Level
    actor: str
    owner: str
    opened_at: datetime
    due_at: datetime
    state: Literal["open", "escalated", "handled"]
    refs: tuple[str, ...]
    outcome: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return what commands print."""
        return {
            "id": self.id, "rule": self.rule, "grade": self.grade, "actor": self.actor, "owner": self.owner,
            "opened_at": f"{self.opened_at:%Y-%m-%dT%H:%M:%SZ}", "due_at": f"{self.due_at:%Y-%m-%dT%H:%M:%SZ}",
            "state": self.state, "records": list(self.refs), "outcome": self.outcome,
        }  # fmt: skip


@dataclass(slots=True)
class _Open:
    rule: Rule
    actor: str
    signals: list[Signal] = field(default_factory=list)


def alerts(
    signals: Iterable[Signal], *, handled: Mapping[str, str], now: datetime, rules: Sequence[Rule] = RULES
) -> list[Alert]:
    """Return the alerts that follow from the records, the gravest first.

    Args:
        signals: refusals and findings, oldest first.
        handled: outcome by alert id.
        now: clock.
        rules: what stands out.
    """
    found: list[Alert] = []
    recent: dict[tuple[str, str], _Open] = {}
    for signal in signals:
        for rule in rules:
            if rule.codes and signal.code not in rule.codes:
                continue
            window = timedelta(seconds=rule.window_s)
            key = (rule.name, signal.actor)
            current = recent.get(key)
            is_alert = current is not None and len(current.signals) >= rule.count
            if current is None or (is_alert and signal.at - current.signals[-1].at > window):
                current = recent[key] = _Open(rule, signal.actor)
                is_alert = False
            if not is_alert:
                current.signals = [one for one in current.signals if signal.at - one.at <= window]
            current.signals.append(signal)
            if len(current.signals) == rule.count:
                found.append(_alert(current, handled, now))
            elif is_alert:
                last = next(place for place, item in enumerate(found) if item.id == _name(current))
                found[last] = _alert(current, handled, now)
    order = {"critical": 0, "major": 1, "minor": 2}
    return sorted(found, key=lambda item: (order[item.grade], item.opened_at, item.id))


def volume_alerts(
    uses: Sequence[tuple[datetime, str, str]], *, handled: Mapping[str, str], now: datetime
) -> list[Alert]:
    """Return an alert per actor whose uses of the last day are far above its days before.

    Args:
        uses: time, actor and record of each accepted use, oldest first.
        handled: outcome by alert id.
        now: clock.
    """
    day = timedelta(days=1)
    found = []
    for actor in sorted({actor for _, actor, _ in uses}):
        mine = [(at, ref) for at, by, ref in uses if by == actor]
        today = [(at, ref) for at, ref in mine if now - at <= day]
        before = [at for at, _ in mine if day < now - at <= 15 * day]
        days = max(1, min(14, ((now - mine[0][0]) // day)))
        if len(today) >= VOLUME_MIN and len(today) * days > VOLUME_FACTOR * max(1, len(before)):
            rule = Rule("volume", frozenset(), 1, 86_400, "minor", "data-officer", "agency", 48)
            found.append(_alert(_Open(rule, actor, [Signal(at, actor, "use", ref) for at, ref in today]), handled, now))
    return found


def _name(current: _Open) -> str:
    return f"A-{current.rule.name}-{current.signals[0].ref[:24]}"


def _alert(current: _Open, handled: Mapping[str, str], now: datetime) -> Alert:
    rule, signals = current.rule, current.signals
    opened = signals[rule.count - 1].at
    due, name = opened + timedelta(hours=rule.limit_h), _name(current)
    is_late = now > due
    state: Literal["open", "escalated", "handled"] = "escalated" if is_late else "open"
    if name in handled:
        state = "handled"
    return Alert(
        id=name, rule=rule.name, grade=rule.grade, actor=current.actor,
        owner=rule.next_owner if state == "escalated" else rule.owner, opened_at=opened, due_at=due, state=state,
        refs=tuple(signal.ref for signal in signals), outcome=handled.get(name, ""),
    )  # fmt: skip
