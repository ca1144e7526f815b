"""Alerts of the platform: what stands out among its events and clocks; graded, owned, timed.

An alert is never stored: it follows from the chained events and from the clocks, so none can be
dropped. What is recorded is that somebody owns it, and what was done about it. Unhandled past its
limit it goes to the next owner. Nobody closes an alert that they caused.

Privacy: codes, names of accounts and digests; no value of a row is ever in an event.

Source:
    Requirements MON-ALERT (SD-31-3, SZ-10.5-6, GD-08-3) and USE-ABUSE (JL-运营管理-28, SZ-11.2-9). Limits in
    hours: own choice, the texts say "prompt".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from factory.law.clocks import Notice
from factory.lifecycle.machine import Refusal
from factory.lifecycle.roles import SEES_ALL
from factory.registry.errors import CaseUnknownError
from factory.registry.store import Event
from factory.services.actor import Actor
from factory.services.desk import Desk
from factory.services.running import Clocks
from nodes.contract.alerting import Alert, Rule, Signal, alerts

MONITOR = ("MON-ALERT", "SD-31-3", "SZ-10.5-6", "GD-08-3")
KIND, OWNED, HANDLED = "alert", "alert.own", "alert.close"
OWNERS = ("agency", "data_administration", "supervisor", "security_head")
"""Roles that may own an alert."""

_REFUSED = ".refused"
_DUTIES = "role.foreign"
"""Code under which every refusal of a role is counted, whatever machine gave it."""

_SCOPE = frozenset({"request.scope", "request.form", "request.term", "request.purpose", "catalogue.miss"})
_EVADED = frozenset({"standing.closed", "grant.registrars", "grant.not_ruled", "duties.own_case", "roles.agreement"})

RULES: tuple[Rule, ...] = (
    Rule("evasion", _EVADED, 1, 3600, "critical", "supervisor", "data_administration", 4),
    Rule("out-of-scope", _SCOPE, 1, 3600, "major", "agency", "data_administration", 24),
    Rule("foreign-role", frozenset({_DUTIES}), 3, 3600, "major", "supervisor", "data_administration", 24),
    Rule("enumeration", frozenset({"account.login"}), 5, 900, "critical", "supervisor", "agency", 4),
    Rule("refusals", frozenset(), 10, 600, "major", "agency", "data_administration", 24),
)
"""What makes an alert at the platform; owners are roles."""


@dataclass(frozen=True, slots=True)
class Raised:
    """An alert with who looks after it.

    Attributes:
        alert: what stands out.
        organisation: body whose act made it, empty where it is unknown.
        taken_by: account that owns it, empty as long as its role does.
    """

    alert: Alert
    organisation: str
    taken_by: str = ""

    def to_json(self) -> dict[str, object]:
        """Return what API and commands show."""
        return {**self.alert.to_json(), "organisation": self.organisation, "taken_by": self.taken_by}


class Alerts:
    """Alerts over the registry and the clocks of a platform."""

    def __init__(self, desk: Desk, clocks: Clocks) -> None:
        """Read the events of ``desk`` and the notices of ``clocks``."""
        self._desk = desk
        self._clocks = clocks

    def seen(self, actor: Actor) -> list[Raised]:
        """Return the alerts an actor may see, the gravest first: every one, or those of the actor's own body."""
        found = self._all()
        return found if actor.roles & SEES_ALL else [one for one in found if one.organisation == actor.organisation]

    def own(self, actor: Actor, name: str) -> Raised:
        """Take an alert as a person of the role that owns it.

        Raises:
            CaseUnknownError: no such alert.
            TransitionRefusedError: another role owns it, or it is closed.
        """
        self._require(actor, self._get(actor, name), "own")
        self._desk.record(actor, KIND, name, OWNED, role=self._role(actor))
        return self._get(actor, name)

    def close(self, actor: Actor, name: str, *, outcome: str) -> Raised:
        """Record what was done about an alert.

        Raises:
            CaseUnknownError: no such alert.
            TransitionRefusedError: another role or person owns it, the actor caused it, or nothing is said.
        """
        found = self._get(actor, name)
        self._require(actor, found, "close")
        if not outcome.strip():
            raise self._refuse(actor, name, "close", "alert.outcome", "expected what was done about it")
        if found.taken_by not in {"", actor.id}:
            raise self._refuse(actor, name, "close", "alert.owner", f"{found.taken_by} owns this alert")
        self._desk.record(actor, KIND, name, HANDLED, role=self._role(actor), reason=outcome)
        return self._get(actor, name)

    def _require(self, actor: Actor, found: Raised, act: str) -> None:
        owner = found.alert.owner
        if found.alert.state == "handled":
            raise self._refuse(actor, found.alert.id, act, "alert.state", "this alert is closed")
        if owner not in actor.roles:
            raise self._refuse(actor, found.alert.id, act, "alert.role", f"{owner} owns this alert now")
        if found.alert.actor == actor.id:
            raise self._refuse(actor, found.alert.id, act, "duties.own_case", "expected another person than its cause")

    def _refuse(self, actor: Actor, name: str, act: str, code: str, told: str) -> Exception:
        return self._desk.refuse(actor, KIND, name, act, Refusal(code, told, MONITOR))

    def _role(self, actor: Actor) -> str:
        return min(actor.roles & set(OWNERS), default="none")

    def _get(self, actor: Actor, name: str) -> Raised:
        for one in self.seen(actor):
            if one.alert.id == name:
                return one
        raise CaseUnknownError(f"expected an alert {name[:80]}, there is none; list them to see their names")

    def _all(self) -> list[Raised]:
        events = self._desk.registry.events()
        handled = {str(e.body["case"]): str(e.body["reason"]) for e in events if e.body["act"] == HANDLED}
        taken = {str(e.body["case"]): str(e.body["actor"]) for e in events if e.body["act"] == OWNED}
        bodies = {str(e.seq): str(e.body["organisation"]) for e in events}
        signals = [signal for event in events if (signal := _signal(event)) is not None]
        found = alerts(signals, handled=handled, now=self._desk.clock(), rules=RULES)
        found += [_of_clock(notice, handled) for notice in self._clocks.notices() if notice.stage == "overdue"]
        order = {"critical": 0, "major": 1, "minor": 2}
        found.sort(key=lambda alert: (order[alert.grade], alert.opened_at, alert.id))
        return [Raised(one, bodies.get(one.refs[0], "") if one.refs else "", taken.get(one.id, "")) for one in found]


def _signal(event: Event) -> Signal | None:
    """Return what an event says about somebody, if it records a refusal; refusals on alerts make none."""
    act, at = str(event.body["act"]), datetime.fromisoformat(str(event.body["at"]))
    if not act.endswith(_REFUSED) or event.body["kind"] == KIND:
        return None
    code = str(event.body["reason"]) or act.removesuffix(_REFUSED)
    who = str(event.body["actor"])
    if act == "account.login.refused":
        code, who = "account.login", str(event.body["case"])
    elif code.endswith(".role"):
        code = _DUTIES
    return Signal(at, who, code, str(event.seq))


def _of_clock(notice: Notice, handled: Mapping[str, str]) -> Alert:
    """Return the alert of a clock that has passed; who was to be told last owns it."""
    place = sha256(f"{notice.due.clock.name} {notice.subject} {notice.due.at.isoformat()}".encode()).hexdigest()
    name = f"A-clock-{place[:16]}"
    return Alert(
        id=name,
        rule=f"clock:{notice.due.clock.name}",
        grade="major" if notice.holds else "minor",
        actor=notice.subject,
        owner=next((role for role in reversed(notice.tell) if role in OWNERS), "data_administration"),
        opened_at=notice.due.at,
        due_at=notice.due.at,
        state="handled" if name in handled else "open",
        refs=(),
        outcome=handled.get(name, ""),
    )
