"""Clocks: what starts them, their limit, who is warned, and what happens when they pass. Pure.

A passed clock never approves anything: it is reported, holds new grants, or ends what had an end.

Source:
    regulations/LIFECYCLE.md, rule 3 and the clock columns of sections 1 to 8.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Literal

from factory.law.limits import CHINA, Passing, day_of, end_of, passing
from factory.law.profile import Profile

Effect = Literal["report", "hold", "opens"]
"""When it has passed: it is reported; new grants on the subject are held; or the next step may be taken."""


@dataclass(frozen=True, slots=True)
class Clock:
    """One kind of clock.

    Attributes:
        name: ``<machine>.<word>``.
        title_zh, title_en: for people.
        starts: act, or event, that starts it.
        limit: dotted key of the profile; empty when the case itself names the day.
        warns: roles told before it passes.
        escalates_to: roles told when it has passed.
        effect: what passing does.
        clauses: requirement ids behind it; the clause of the limit stands in the profile.
    """

    name: str
    title_zh: str
    title_en: str
    starts: str
    limit: str
    warns: tuple[str, ...]
    escalates_to: tuple[str, ...]
    effect: Effect
    clauses: tuple[str, ...]


CLOCKS: Mapping[str, Clock] = {
    clock.name: clock
    for clock in (
        Clock(
            "agreement.publicity",
            "遴选结果公示",
            "publicity of the result",
            "agreement.publicise",
            "agreement.publicity",
            ("agency",),
            ("agency",),
            "opens",
            ("PUB-RESULT", "PUB-OBJECT"),
        ),
        Clock(
            "agreement.filing",
            "协议备案",
            "filing of the agreement",
            "agreement.sign",
            "agreement.filing",
            ("agency",),
            ("data_administration",),
            "report",
            ("AGR-FILE",),
        ),
        Clock(
            "agreement.disclosure",
            "授权信息公开",
            "disclosure of the authorisation",
            "agreement.sign",
            "agreement.disclosure",
            ("agency",),
            ("data_administration",),
            "report",
            ("DISC-AUTH",),
        ),
        Clock(
            "agreement.change_filing",
            "协议变更备案",
            "filing of a change",
            "agreement.change",
            "agreement.change_filing",
            ("agency",),
            ("data_administration",),
            "report",
            ("AGR-CHGFILE",),
        ),
        Clock(
            "request.ruling",
            "用数申请审核",
            "ruling on a data request",
            "request.submit",
            "request.ruling",
            ("agency",),
            ("data_administration",),
            "report",
            ("REQ-CLOCK",),
        ),
        Clock(
            "resource.supply",
            "纳入范围后供数",
            "binding after inclusion",
            "resource.include",
            "supply.deadline",
            ("source_department",),
            ("data_administration",),
            "report",
            ("SUP-DEADLINE",),
        ),
        Clock(
            "ticket.answer",
            "质量反馈答复",
            "decision on reported quality",
            "ticket.file",
            "supply.answer",
            ("source_department",),
            ("data_administration",),
            "report",
            ("Q-FEEDBACK",),
        ),
        Clock(
            "ticket.rectify",
            "质量问题整改",
            "putting right a quality problem",
            "ticket.accept",
            "supply.rectify",
            ("source_department",),
            ("data_administration",),
            "hold",
            ("Q-RECTIFY",),
        ),
        Clock(
            "product.review",
            "产品评估审核",
            "evaluation of a product",
            "product.test",
            "product.review",
            ("agency",),
            ("data_administration",),
            "report",
            ("PROD-REVCLOCK", "PROD-REVIEW"),
        ),
        Clock(
            "registration.first",
            "首次登记申请",
            "application for first registration",
            "product.release",
            "registration.first",
            ("operator",),
            ("agency",),
            "report",
            ("REG-PRODUCT",),
        ),
        Clock(
            "registration.accept",
            "登记受理",
            "acceptance of an application",
            "registration.apply",
            "registration.accept",
            ("registrar",),
            ("agency",),
            "report",
            ("REG-PRODUCT", "NR-10-1"),
        ),
        Clock(
            "registration.form_review",
            "登记形式审核",
            "form review",
            "registration.accept",
            "registration.form_review",
            ("registrar",),
            ("agency",),
            "report",
            ("REG-PRODUCT", "NR-11-1"),
        ),
        Clock(
            "registration.publicity",
            "登记公示",
            "publicity of a registration",
            "registration.publicise",
            "registration.publicity",
            ("registrar",),
            ("agency",),
            "opens",
            ("REG-PRODUCT", "NR-12-1"),
        ),
        Clock(
            "registration.cancel",
            "注销办理",
            "cancellation",
            "registration.ask_cancellation",
            "registration.cancel",
            ("registrar",),
            ("agency",),
            "report",
            ("REG-PRODUCT", "NR-09-7"),
        ),
        Clock(
            "incident.notice",
            "事件首次报告",
            "first notice of an incident",
            "incident.start",
            "incident.notice",
            ("operator",),
            ("data_administration",),
            "report",
            ("INC-REPORT",),
        ),
        Clock(
            "incident.drill",
            "应急演练",
            "incident drill",
            "incident.drill",
            "incident.drill",
            ("operator",),
            ("data_administration",),
            "report",
            ("INC-DRILL",),
        ),
        Clock(
            "standing.rectification",
            "限期整改",
            "rectification by order",
            "standing.close",
            "",
            ("operator",),
            ("agency", "data_administration"),
            "report",
            ("SUSP-CLOSE", "SUSP-REVOKE"),
        ),
        Clock(
            "duty.plan_filing",
            "实施方案备案",
            "filing of a plan",
            "plan.approve",
            "duties.plan_filing",
            ("agency",),
            ("data_administration",),
            "report",
            ("PLAN-FILE",),
        ),
        Clock(
            "duty.operator_report",
            "运营情况报告",
            "operator's report",
            "agreement.enter",
            "duties.operator_report",
            ("operator",),
            ("agency",),
            "report",
            ("REP-OP", "FB-OP"),
        ),
        Clock(
            "duty.usage_report",
            "使用情况报告与披露",
            "report on use and effect",
            "agreement.enter",
            "duties.usage_report",
            ("operator",),
            ("agency",),
            "report",
            ("REP-PERIODIC", "DISC-USE"),
        ),
        Clock(
            "duty.inspection",
            "安全检查",
            "security inspection",
            "agreement.enter",
            "duties.inspection",
            ("data_administration",),
            ("data_administration",),
            "report",
            ("INSPECT",),
        ),
        Clock(
            "duty.assessment",
            "运营评估",
            "assessment of the operator",
            "agreement.enter",
            "duties.assessment",
            ("agency",),
            ("data_administration",),
            "report",
            ("ASSESS",),
        ),
    )
}
"""Every kind of clock, by name."""


@dataclass(frozen=True, slots=True)
class Due:
    """When one clock passes.

    Attributes:
        clock: which.
        since: when it started.
        at: first moment after the limit.
        last_day: last day in China inside it.
        warn_at: when those who are warned are told.
        is_provisional: it reaches a year whose holidays are not decreed yet; count again when they are.
        clauses: requirement ids, and where the limit comes from.
    """

    clock: Clock
    since: datetime
    at: datetime
    last_day: date
    warn_at: datetime
    is_provisional: bool
    clauses: tuple[str, ...]

    def has_passed(self, now: datetime) -> bool:
        """Whether the limit is over."""
        return now >= self.at


def due(clock: Clock, profile: Profile, since: datetime, *, until: date | None = None) -> Due | None:
    """Return when a clock that started at ``since`` passes, or None where the profile asks for none.

    Args:
        clock: which.
        profile: names the limit.
        since: start, aware.
        until: last day that the case itself names, for clocks without a key of the profile.

    Raises:
        ValueError: neither the profile nor the case names a day, or both do.
    """
    if since.tzinfo is None:
        raise ValueError("expected an aware time")
    if bool(clock.limit) == (until is not None):
        raise ValueError(f"expected {clock.name} to end by the {'profile' if clock.limit else 'day of its order'}")
    if until is not None:
        return _due(clock, since, Passing(end_of(until), until, is_provisional=False), clock.clauses)
    limit = profile.limit(clock.limit)
    if limit is None:
        return None
    return _due(clock, since, passing(limit, since), (*clock.clauses, *profile.cited(clock.limit)))


def _due(clock: Clock, since: datetime, end: Passing, clauses: tuple[str, ...]) -> Due:
    return Due(clock, since, end.at, end.last_day, _warn_at(since, end.at), end.is_provisional, clauses)


def _warn_at(since: datetime, at: datetime) -> datetime:
    """Return when four fifths of the time are gone; of more than a day the start of that day in China."""
    moment = since + (at - since) * 4 / 5
    if at - since <= timedelta(days=1):
        return moment
    day = day_of(moment)
    return max(since, datetime(day.year, day.month, day.day, tzinfo=CHINA).astimezone(at.tzinfo))


@dataclass(frozen=True, slots=True)
class Running:
    """A clock that runs for a case.

    Attributes:
        clock: its name.
        subject: kind and id of the case.
        since: start.
        until: last day named by the case, if the profile does not.
    """

    clock: str
    subject: str
    since: datetime
    until: date | None = None


@dataclass(frozen=True, slots=True)
class Notice:
    """What somebody has to be told about a clock.

    Attributes:
        subject: the case.
        stage: ``warning`` before, ``overdue`` after, ``over`` for a period that opens the next step.
        tell: roles.
        holds: new grants on the subject are held.
        due: the clock.
    """

    subject: str
    stage: Literal["warning", "overdue", "over"]
    tell: tuple[str, ...]
    holds: bool
    due: Due


def overdue(cases: Iterable[Running], profile: Profile, now: datetime) -> list[Notice]:
    """Return whom to tell what now, the earliest end first."""
    notices = []
    for case in cases:
        clock = CLOCKS[case.clock]
        end = due(clock, profile, case.since, until=case.until)
        if end is None or now < end.warn_at:
            continue
        if not end.has_passed(now):
            if clock.effect != "opens":
                notices.append(Notice(case.subject, "warning", clock.warns, holds=False, due=end))
        elif clock.effect == "opens":
            notices.append(Notice(case.subject, "over", clock.warns, holds=False, due=end))
        else:
            tell = tuple(dict.fromkeys((*clock.warns, *clock.escalates_to)))
            notices.append(Notice(case.subject, "overdue", tell, holds=clock.effect == "hold", due=end))
    return sorted(notices, key=lambda notice: (notice.due.at, notice.subject))
