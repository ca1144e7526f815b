"""The evaluation of source departments: bindings, timeliness, quality and response, from signed reports alone.

Pure. The data administration says in a plan which resources each department was to supply and since when,
and how many points each part is worth; the regulation names no number, so there is no default. Every point
that is taken away names its evidence: the signed report, or the document that the plan names. A part with
nothing to evaluate drops out and the rest is scaled; a department with missing evidence has no final score.

Source:
    Regulations Q-SUPPLYEVAL (GD-38-2: regular evaluation of source departments, used in the management
    of government IT projects), SUP-DEADLINE (GD-12-1: bound within 20 working days of inclusion).
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from fractions import Fraction
from typing import Any

from factory.errors import FactoryError
from nodes.contract.working_days import add_working_days
from quality.portfolio import Signed

SCHEMA = "shufang.supply-evaluation/1"
PARTS = ("bindings", "timeliness", "quality", "response")
_CHINA = timezone(timedelta(hours=8), "Asia/Shanghai")


class SupplyPlanError(FactoryError):
    """A plan that does not say what the evaluation needs."""

    code = "report.supply_plan"


class EvidenceMissingError(FactoryError):
    """A score that cannot be final, since evidence is missing."""

    code = "report.supply_evidence"


@dataclass(frozen=True, slots=True)
class Due:
    """One resource that a department was to supply.

    Attributes:
        resource: catalogue id.
        department: organisation id.
        included_on: day on which it was taken into the scope of authorised operation.
        evidence: document that shows it was never bound; empty: its reports are the evidence.
    """

    resource: str
    department: str
    included_on: date
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is evaluated and how it counts.

    Attributes:
        period: its name.
        first, last: days of the period, both inclusive; reports of other days are left out.
        binding_days: working days from inclusion to binding.
        weights: points per part, 100 together.
        dues: the resources.
    """

    period: str
    first: date
    last: date
    binding_days: int
    weights: Mapping[str, int]
    dues: tuple[Due, ...]


def parse_plan(text: str) -> Plan:
    """Read a plan, TOML.

    Raises:
        SupplyPlanError: a field is missing, unknown or wrong; the message names it.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SupplyPlanError(f"expected TOML in the plan: {error}") from None
    known = {"period", "from", "to", "binding_days", "weights", "resources"}
    wrong = sorted(set(document) ^ known)
    if wrong:
        raise SupplyPlanError(f"expected exactly {', '.join(sorted(known))} in the plan; look at {', '.join(wrong)}")
    weights = document["weights"]
    whole = isinstance(weights, dict) and all(type(value) is int and value >= 0 for value in weights.values())
    if not whole or set(weights) != set(PARTS) or sum(weights.values()) != 100:
        raise SupplyPlanError(f"expected whole points for {', '.join(PARTS)} in [weights], 100 together")
    try:
        dues = tuple(
            Due(str(row["id"]), str(row["department"]), _day(row["included_on"]), str(row.get("evidence", "")))
            for row in document["resources"]
        )
        plan = Plan(
            str(document["period"]), _day(document["from"]), _day(document["to"]), int(document["binding_days"]),
            weights, dues,
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise SupplyPlanError(
            "expected days as 2026-01-31, whole binding_days, and id, department and included_on of each resource "
            f"({error})"
        ) from None
    if not dues or len({due.resource for due in dues}) != len(dues) or plan.first > plan.last or plan.binding_days < 1:
        raise SupplyPlanError("expected each resource once, a period that ends after it begins, binding_days above 0")
    return plan


def evaluate(plan: Plan, signed: Sequence[Signed], *, today: date) -> dict[str, Any]:
    """Score every department of a plan.

    Args:
        plan: what is evaluated.
        signed: verified reports; those of other days and of resources outside the plan are left out.
        today: against which a resource that was never bound is late.

    Returns:
        JSON: per department ``score_x100`` (of 100 points in hundredths, ``None`` when nothing could be evaluated),
        ``final``, ``missing`` and per part ``points_x100`` and every deduction with its evidence.
    """
    reports: dict[tuple[str, str], list[Signed]] = {}
    for item in signed:
        day = datetime.fromisoformat(item.report["assessed_at"]).astimezone(_CHINA).date()
        if plan.first <= day <= plan.last:
            reports.setdefault((item.department, str(item.report["resource"]["id"])), []).append(item)
    for items in reports.values():
        items.sort(key=lambda item: str(item.report["assessed_at"]))
    titles = {item.department: (item.title_zh, item.title_en) for item in signed}
    rows = [
        _department(name, plan, reports, titles.get(name, ("", "")), today)
        for name in sorted({due.department for due in plan.dues})
    ]
    rows.sort(key=lambda row: (row["score_x100"] is None, -(row["score_x100"] or 0), row["id"]))
    return {
        "schema": SCHEMA,
        "period": plan.period,
        "from": plan.first.isoformat(),
        "to": plan.last.isoformat(),
        "date": today.isoformat(),
        "binding_days": plan.binding_days,
        "weights": dict(plan.weights),
        "final": all(row["final"] for row in rows),
        "departments": rows,
    }


def require_final(document: Mapping[str, Any]) -> None:
    """Check that an evaluation can be final.

    Raises:
        EvidenceMissingError: evidence is missing, and which.
    """
    missing = [f"{row['id']} {item['resource']}: {item['en']}" for row in document["departments"]
               for item in row["missing"]]  # fmt: skip
    if missing:
        raise EvidenceMissingError(
            f"expected evidence for every score before it is final; missing: {'; '.join(missing[:5])}. Have the "
            "departments export their reports, or name in the plan the document that shows a resource was not bound"
        )


def _department(
    name: str,
    plan: Plan,
    reports: Mapping[tuple[str, str], Sequence[Signed]],
    titles: tuple[str, str],
    today: date,
) -> dict[str, Any]:
    dues = [due for due in plan.dues if due.department == name]
    missing: list[dict[str, str]] = []
    parts = [
        _bindings(dues, plan, reports, missing, today),
        _mean("timeliness", dues, plan, reports, _timeliness),
        _mean("quality", dues, plan, reports, _total),
        _response(dues, plan, reports),
    ]
    assessed = [part for part in parts if part["points_x100"] is not None]
    weights = sum(part["weight"] for part in assessed)
    earned = sum(part["points_x100"] for part in assessed)
    return {
        "id": name,
        "title_zh": titles[0],
        "title_en": titles[1],
        "resources": len(dues),
        "score_x100": earned * 100 // weights if weights else None,
        "final": not missing,
        "parts": parts,
        "missing": missing,
    }


def _bindings(
    dues: Sequence[Due],
    plan: Plan,
    reports: Mapping[tuple[str, str], Sequence[Signed]],
    missing: list[dict[str, str]],
    today: date,
) -> dict[str, Any]:
    deductions, counted = [], 0
    for due in dues:
        items, (limit, _) = (
            reports.get((due.department, due.resource), ()),
            add_working_days(due.included_on, plan.binding_days),
        )
        bound_on = str(items[-1].report.get("bound_on") or "") if items else ""
        if not items and due.evidence:
            counted += 1
            if today > limit:
                deductions.append(_deduction(due.resource, 1, f"应于 {limit} 前绑定，至今未绑定",
                                             f"due by {limit}, not bound", due.evidence))  # fmt: skip
            continue
        if not bound_on:
            zh, en = ("期内没有签名报告", "no signed report of the period") if not items else (
                "报告未载明绑定日", "its report names no day of binding")  # fmt: skip
            missing.append({"resource": due.resource, "zh": zh, "en": en})
            continue
        counted += 1
        if date.fromisoformat(bound_on) > limit:
            deductions.append(_deduction(due.resource, 1, f"应于 {limit} 前绑定，实为 {bound_on}",
                                         f"due by {limit}, bound on {bound_on}", _evidence(items[-1])))  # fmt: skip
    return _part("bindings", plan, counted, deductions)


def _mean(
    name: str,
    dues: Sequence[Due],
    plan: Plan,
    reports: Mapping[tuple[str, str], Sequence[Signed]],
    score: Any,  # report -> hundredths or None
) -> dict[str, Any]:
    """Take off what is missing to full marks, by the mean of a resource's reports in the period."""
    deductions, counted = [], 0
    for due in dues:
        items = [item for item in reports.get((due.department, due.resource), ()) if score(item.report) is not None]
        if not items:
            continue
        counted += 1
        mean = Fraction(sum(score(item.report) for item in items), len(items))
        if mean < 10_000:
            shown = f"{int(mean) // 100}.{int(mean) % 100:02d}"
            deductions.append(_deduction(due.resource, 1 - mean / 10_000, f"期内平均 {shown}（{len(items)} 份报告）",
                                         f"mean {shown} of {len(items)} reports", _evidence(items[-1])))  # fmt: skip
    return _part(name, plan, counted, deductions)


def _response(dues: Sequence[Due], plan: Plan, reports: Mapping[tuple[str, str], Sequence[Signed]]) -> dict[str, Any]:
    """Take off an equal share for every order that was not put right by its day."""
    orders: dict[str, tuple[str, Mapping[str, Any], Signed, bool]] = {}
    for due in dues:
        for item in reports.get((due.department, due.resource), ()):
            day = datetime.fromisoformat(item.report["assessed_at"]).astimezone(_CHINA).date()
            for order in item.report.get("orders", []):
                if order["kind"] == "dispute":
                    continue
                # The latest report of the period speaks: what it shows settled or open is so on its day.
                late = day > date.fromisoformat(order["due_on"])
                orders[f"{due.resource} {order['id']}"] = (due.resource, order, item, late)
    deductions = [
        _deduction(resource, 1, f"{order['id']} 应于 {order['due_on']} 前办结，逾期",
                   f"{order['id']} due {order['due_on']}, late", _evidence(item))
        for resource, order, item, late in orders.values() if late
    ]  # fmt: skip
    return _part("response", plan, len(orders), deductions)


def _part(name: str, plan: Plan, counted: int, deductions: list[dict[str, Any]]) -> dict[str, Any]:
    """Turn shares of one element into points; the part is not assessed when there is no element."""
    weight = plan.weights[name]
    points = None
    if counted:
        taken = sum((item["share"] for item in deductions), Fraction(0)) / counted
        points = int((1 - taken) * weight * 100)
    rows = [
        {**{key: value for key, value in item.items() if key != "share"},
         "points_x100": -int(item["share"] * weight * 100 / counted)}
        for item in deductions if int(item["share"] * weight * 100 / counted)
    ]  # fmt: skip
    return {"name": name, "weight": weight, "counted": counted, "points_x100": points, "deductions": rows}


def _deduction(resource: str, share: Fraction | int, zh: str, en: str, evidence: str) -> dict[str, Any]:
    return {"resource": resource, "share": Fraction(share), "zh": zh, "en": en, "evidence": evidence}


def _evidence(item: Signed) -> str:
    return f"sha256:{item.sha256}"


def _total(report: Mapping[str, Any]) -> int | None:
    value = report["score"]["total_x100"]
    return value if isinstance(value, int) else None


def _timeliness(report: Mapping[str, Any]) -> int | None:
    found = next((item["score_x100"] for item in report["dimensions"] if item["name"] == "timeliness"), None)
    return found if isinstance(found, int) else None


def _day(value: object) -> date:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    return date.fromisoformat(str(value))
