"""The projection: the one function through which anything of a run may leave the node.

An allow-list. The report is built field by field from published counts (``quality.suppression``),
fixed texts (``quality.findings``), names of columns and the titles that a person gave the rules.
Never in it: values, bounds and value sets of rules, messages, samples, exact counts of rows. Names
and titles that look like data (a run of six digits, of eight digits and letters, an e-mail address)
are refused as such: a table without a header would otherwise publish its first row.

No floats: scores are hundredths, rates millionths; so the JSON can be signed as it is.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias

from quality.errors import ReportError
from quality.findings import FINDINGS, HOLDS
from quality.indicators import DIMENSIONS, INDICATORS
from quality.run import Assessment, RuleResult, scored
from quality.scoring import rule_score_x100
from quality.suppression import CELL_MIN, MOVE_MIN, ROUND_BASE, ROWS_MIN, rounded

SCHEMA = "shufang.quality-report/1"
PAYLOAD_TYPE = "application/vnd.shufang.quality-report.v1+json"
HISTORY_MAX = 10
Report: TypeAlias = dict[str, Any]

_LOOKS_LIKE_DATA = re.compile(r"[0-9０-９]{6,}|(?=[0-9A-Za-z]*[0-9][0-9A-Za-z]*[0-9])[0-9A-Za-z]{12,}|@|1[3-9][0-9]{9}")
_NAME_MAX = 64
_TITLE_MAX = 120
WITHHELD = "withheld"
_SHAPE: Mapping[str, frozenset[str]] = {
    "resource": frozenset({"id", "version", "title_zh", "title_en", "owner"}),
    "suite": frozenset({"name", "version", "sha256", "rules"}),
    "table": frozenset({"kind", "encoding", "rows", "columns"}),
    "disclosure": frozenset({"cell_min", "round_base", "rows_min"}),
    "profile": frozenset({"severity_weights", "score_min_x100", "grades"}),
    "score": frozenset({"total_x100", "grade", "verdict", "holds", "previous_x100"}),
    "dimensions": frozenset({"name", "weight", "threshold_x100", "score_x100", "verdict", "previous_x100"}),
    "indicators": frozenset({"code", "numerator", "denominator", "x_micro"}),
    "rules": frozenset({"id", "type", "columns", "severity", "status", "checked", "failing", "rate_micro", "unit"}),
    "findings": frozenset({"code", "text_zh", "text_en"}),
    "history": frozenset({"assessed_at", "score_x100"}),
}


def report_json(
    assessment: Assessment,
    *,
    resource: str = "",
    version: str = "",
    title_zh: str = "",
    title_en: str = "",
    owner: str = "",
    node: str = "",
) -> Report:
    """Return the report of a run: JSON without floats, ready for canonical bytes and a signature.

    Args:
        assessment: the run.
        resource: catalogue id; the suite's name if not given.
        version: of the catalogue entry.
        title_zh: of the resource.
        title_en: of the resource.
        owner: the department.
        node: actor id of the node that will sign.

    Privacy:
        Whoever reads the report learns the number of rows to the nearest 5, per rule how many
        elements were checked and failed (to the nearest 5, 1 to 4 as "<5") and whether the rule
        holds; the lag of the latest date in days; per watched column how far its distribution
        moved, to the hundredth. A rule whose author puts a value into its arguments learns one bit
        about it, so suites are reviewed. While fewer than 5 rows of the table have changed, counts
        are published as they were last shown; the verdict of a rule and a lag are exact.
    """
    small = 0 < assessment.rows < ROWS_MIN
    previous = _previous(assessment.previous)
    before = {str(item["id"]): item for item in previous.get("rules", [])}
    score = assessment.score
    history = _history(previous)
    history.append({"assessed_at": _time(assessment.assessed_at), "score_x100": score.total_x100})
    return {
        "schema": SCHEMA,
        "resource": {
            "id": name(resource or assessment.suite.name),
            "version": name(version),
            "title_zh": _title(title_zh),
            "title_en": _title(title_en),
            "owner": _title(owner),
        },
        "node": name(node),
        "assessed_at": _time(assessment.assessed_at),
        "delivered_at": _time(assessment.delivered_at) if assessment.delivered_at else None,
        "suite": {
            "name": name(assessment.suite.name),
            "version": assessment.suite.version,
            "sha256": assessment.suite.sha256,
            "rules": len(assessment.suite.rules),
        },
        "engine": dict(assessment.engine),
        "table": {
            "kind": assessment.kind,
            "encoding": assessment.encoding,
            "rows": None if small else rounded(assessment.rows_shown),
            "columns": assessment.columns,
        },
        "disclosure": {
            "cell_min": CELL_MIN,
            "round_base": ROUND_BASE,
            "rows_min": ROWS_MIN,
            "move_min": MOVE_MIN,
        },
        "profile": _profile(assessment),
        "score": {
            "total_x100": score.total_x100,
            "grade": score.grade,
            "verdict": score.verdict,
            "holds": [_hold(hold.code, hold.about) for hold in score.holds],
            "previous_x100": _integer(previous.get("score", {}).get("total_x100")),
        },
        "dimensions": _dimensions(assessment, previous),
        "indicators": [
            {
                "code": item.code,
                "name_zh": INDICATORS[item.code].zh,
                "name_en": INDICATORS[item.code].en,
                "numerator": item.numerator,
                "denominator": item.denominator,
                "x_micro": item.x_micro,
            }
            for item in score.indicators
        ],
        "rules": [_rule(result, before.get(result.rule.id, {})) for result in assessment.rules],
        "findings": [
            {"code": code, "text_zh": FINDINGS[code].zh, "text_en": FINDINGS[code].en} for code in assessment.findings
        ],
        "history": history[-HISTORY_MAX:],
    }


def with_orders(report: Mapping[str, Any], orders: Sequence[Mapping[str, Any]], *, bound_on: str = "") -> Report:
    """Return a report with the rectification orders of its resource.

    Args:
        report: of this schema.
        orders: of each ``id``, ``kind``, ``rule``, ``severity``, ``state``, ``overdue``, ``opened_on``, ``due_on``,
            ``provisional``; whatever else they hold is left out.
        bound_on: day on which the resource was first bound to its table, or empty.

    Raises:
        ReportError: an order has something else in these fields than an order has, or the day is none.
    """
    check_report(report)
    kept: list[Report] = []
    for order in orders:
        row = {key: order.get(key) for key in _ORDER}
        fits = all(
            isinstance(row[key], bool) if kind is None else _fits(kind, row[key]) for key, kind in _ORDER.items()
        )
        if not fits:
            raise ReportError("expected an order of rectification, a field is not as it should be")
        kept.append(row)
    if bound_on and not _DAY.fullmatch(bound_on):
        raise ReportError("expected the day of binding as a day")
    return {**report, "orders": kept, "bound_on": bound_on}


_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_ORDER: Mapping[str, re.Pattern[str] | None] = {
    "id": re.compile(r"T-\d{4,8}"),
    "kind": re.compile(r"rectification|feedback|objection|dispute"),
    "rule": re.compile(r"|[A-Z][A-Z0-9_-]{0,15}"),
    "severity": re.compile(r"critical|major|minor"),
    "state": re.compile(r"filed|open|rejected|closed"),
    "overdue": None,
    "opened_on": _DAY,
    "due_on": _DAY,
    "provisional": None,
}


def _fits(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def name(text: str) -> str:
    """Return a name if it looks like one, ``withheld`` if it looks like data."""
    return text if len(text) <= _NAME_MAX and not _LOOKS_LIKE_DATA.search(text) else WITHHELD


def _title(text: str) -> str:
    return text if len(text) <= _TITLE_MAX and not _LOOKS_LIKE_DATA.search(text) else WITHHELD


def _rule(result: RuleResult, before: Mapping[str, Any]) -> Report:
    rule, counts = result.rule, result.published
    known = scored(result)
    assessed = known.status in ("pass", "fail")
    rate = counts.failing * 1_000_000 // counts.checked if assessed else None
    out: Report = {
        "id": rule.id,
        "type": rule.type,
        "columns": [name(column) for column in rule.columns],
        "title_zh": _title(rule.title_zh),
        "title_en": _title(rule.title_en),
        "dimension": rule.dimension,
        "indicator": rule.indicator,
        "severity": rule.severity,
        "nulls": rule.nulls,
        "unit": "figures" if result.aggregate else "rows",
        "status": known.status,
        "reason": result.reason or ("" if assessed or known.status == "error" else "too_few_rows"),
        "checked": counts.checked if assessed else None,
        "failing": None if not assessed or counts.small else counts.failing,
        "failing_below": CELL_MIN if assessed and counts.small else None,
        "rate_micro": None if counts.small else rate,
        "allowed_micro": rule.allowed_micro,
        "score_x100": rule_score_x100(known),
        "previous_rate_micro": _integer(before.get("rate_micro")),
    }
    if result.lag_days is not None:
        out["lag_days"] = result.lag_days
        out["promised_days"] = int(rule.kwargs["days"])
    if result.psi is not None:
        out["psi_x100"] = round(result.psi * 100)
        out["psi_max_x100"] = int(float(rule.kwargs["max_psi"]) * 100)
    return out


def _profile(assessment: Assessment) -> Report:
    profile = assessment.profile
    return {
        "name": name(profile.name),
        "version": name(profile.version),
        "severity_weights": dict(profile.severity_weights),
        "score_min_x100": profile.score_min_x100,
        "grades": [{"grade": grade, "from_x100": low} for grade, low in profile.grades],
        "critical_cap": profile.critical_cap,
    }


def _dimensions(assessment: Assessment, previous: Mapping[str, Any]) -> list[Report]:
    before = {str(item["name"]): item for item in previous.get("dimensions", [])}
    titles = {dimension.name: dimension for dimension in DIMENSIONS}
    return [
        {
            "name": item.name,
            "name_zh": titles[item.name].zh,
            "name_en": titles[item.name].en,
            "weight": item.weight,
            "threshold_x100": item.threshold_x100,
            "score_x100": item.score_x100,
            "verdict": item.verdict,
            "previous_x100": _integer(before.get(item.name, {}).get("score_x100")),
        }
        for item in assessment.score.dimensions
    ]


def _hold(code: str, about: str) -> Report:
    return {"code": code, "about": about, "text_zh": HOLDS[code].zh, "text_en": HOLDS[code].en}


def check_report(report: object) -> None:
    """Check that a value has the shape of a report of this schema.

    Raises:
        ReportError: it has not; a report that was altered by hand is not one.
    """
    if not isinstance(report, Mapping) or report.get("schema") != SCHEMA:
        raise ReportError(f"expected a report of schema {SCHEMA}")
    for key, inner in _SHAPE.items():
        value = report.get(key)
        parts = value if isinstance(value, list) else [value]
        if any(not isinstance(part, Mapping) or not inner <= set(part) for part in parts):
            raise ReportError(f"expected a whole report of schema {SCHEMA}, {key} is not as it should be")


def _previous(previous: Mapping[str, Any] | None) -> Mapping[str, Any]:
    if previous is None:
        return {}
    check_report(previous)
    return previous


def _history(previous: Mapping[str, Any]) -> list[Report]:
    """Return the earlier points of the trend; taken apart and rebuilt, since the file was given from outside."""
    points: list[Report] = []
    for item in previous.get("history", []):
        moment = datetime.fromisoformat(str(item["assessed_at"]))
        points.append({"assessed_at": _time(moment), "score_x100": _integer(item.get("score_x100"))})
    return points


def _integer(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
