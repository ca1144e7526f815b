"""The quality evaluation of periods (质量评价): a score per resource and department, its six dimensions, the trend.

Pure. The data administration names periods and resources in a plan; signed reports alone are counted. A period's
score of a resource is the mean of its reports in that period; one without a report in it is *not evaluated*, never
full marks, and its department's mean leaves it out. The method is part of the document and of its page.

Source:
    Requirement Q-EVAL (SD-08-4, GD-34-2). Dimensions of GB/T 36344-2018.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from html import escape
from importlib import resources as package_files
from itertools import pairwise
from typing import Any

from quality.charts import hundredths
from quality.errors import ReportError
from quality.indicators import DIMENSIONS
from quality.portfolio import Signed
from quality.report import Language

SCHEMA = "shufang.quality-periods/1"
_CHINA = timezone(timedelta(hours=8), "Asia/Shanghai")
_NAMES = tuple(dimension.name for dimension in DIMENSIONS)


@dataclass(frozen=True, slots=True)
class Period:
    """One period.

    Attributes:
        name: for people.
        first, last: its days in China, both inclusive.
    """

    name: str
    first: date
    last: date


@dataclass(frozen=True, slots=True)
class PeriodPlan:
    """What is evaluated.

    Attributes:
        periods: in their sequence, apart from each other.
        resources: department per catalogue id.
    """

    periods: tuple[Period, ...]
    resources: Mapping[str, str]


def parse_periods(text: str) -> PeriodPlan:
    """Read a plan, TOML: ``[[periods]]`` with name, from and to; ``[[resources]]`` with id and department.

    Raises:
        ReportError: a field is missing or wrong, periods overlap, or a resource is named twice.
    """
    try:
        document = tomllib.loads(text)
        periods = tuple(Period(str(row["name"]), row["from"], row["to"]) for row in document["periods"])
        rows = [(str(row["id"]), str(row["department"])) for row in document["resources"]]
        days = [day for period in periods for day in (period.first, period.last)]
        is_fine = all(type(day) is date for day in days) and days == sorted(days)
        is_apart = all(one.last < two.first for one, two in pairwise(periods))
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise ReportError(
            "expected [[periods]] with name, from and to (days as 2026-01-31), and [[resources]] with id and "
            f"department ({error})"
        ) from None
    if not is_fine or not is_apart or not periods or not rows or len(dict(rows)) != len(rows):
        raise ReportError("expected periods in their sequence that do not overlap, and each resource once")
    return PeriodPlan(periods, dict(rows))


def evaluate(plan: PeriodPlan, signed: Sequence[Signed]) -> dict[str, Any]:
    """Score every resource and department of a plan in every period.

    Args:
        plan: periods and resources.
        signed: verified reports; those of other days, resources or departments are left out.

    Returns:
        JSON: ``method``, and per resource and department one row per period with ``score_x100`` (hundredths, None:
        not evaluated), ``dimensions`` (the same per dimension), ``change_x100`` against the period before (None
        when one of both was not evaluated) and ``evidence`` (digests of the reports).
    """
    counted = [item for item in signed if plan.resources.get(str(item.report["resource"]["id"])) == item.department]
    resources: list[dict[str, Any]] = [
        {"id": name, "department": department, "periods": _rows(plan, [i for i in counted if _id(i) == name])}
        for name, department in plan.resources.items()
    ]
    departments = []
    for name in sorted(set(plan.resources.values())):
        mine = [row for row in resources if row["department"] == name]
        periods: list[dict[str, Any]] = []
        for number, period in enumerate(plan.periods):
            scores = [row["periods"][number]["score_x100"] for row in mine]
            found = [score for score in scores if score is not None]
            score = _mean(found)
            row = {"period": period.name, "score_x100": score, "evaluated": len(found), "resources": len(mine)}
            periods.append({**row, "change_x100": _change(periods, score)})
        departments.append({"id": name, "periods": periods})
    return {
        "schema": SCHEMA,
        "periods": [
            {"name": p.name, "from": p.first.isoformat(), "to": p.last.isoformat()} for p in plan.periods
        ],
        "method": _method(counted),
        "resources": resources,
        "departments": departments,
    }  # fmt: skip


def html(document: Mapping[str, Any], *, lang: Language = "zh") -> str:
    """Draw an evaluation as a page of its own: no script, no outside fetch."""
    column = 0 if lang == "zh" else 1
    word = {key: pair[column] for key, pair in _WORDS.items()}
    titles = [f"<th>{escape(period['name'])}</th>" for period in document["periods"]]
    tables = "".join(
        f"<h2>{word[kind]}</h2><table><tr><th>{word[kind]}</th>{''.join(titles)}</tr>"
        + "".join(
            f"<tr><td><code>{escape(row['id'])}</code></td>"
            + "".join(f"<td>{_cell(period, word)}</td>" for period in row["periods"])
            + "</tr>"
            for row in document[kind]
        )
        + "</table>"
        for kind in ("departments", "resources")
    )
    method = document["method"]
    weights = "；".join(
        f"{escape(d['title_zh'] if lang == 'zh' else d['name'])} {d['weight']}" for d in method["dimensions"]
    )
    css = package_files.files("quality").joinpath("report.css").read_text(encoding="utf-8")
    return (
        f'<!doctype html><html lang="{"zh-CN" if lang == "zh" else "en"}"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{word['heading']}</title><style>{css}</style></head><body><main><header><h1>{word['heading']}</h1>"
        f"</header><section>{tables}<h2>{word['method']}</h2><p>{escape(method[lang])}</p>"
        f"<p>{word['weights']} {weights}</p></section></main></body></html>"
    )


def _rows(plan: PeriodPlan, items: Sequence[Signed]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for period in plan.periods:
        mine = [item for item in items if period.first <= _day(item) <= period.last]
        score = _mean([i.report["score"]["total_x100"] for i in mine if i.report["score"]["total_x100"] is not None])
        dimensions = {
            name: _mean([value for i in mine if (value := _dimension(i, name)) is not None]) for name in _NAMES
        }
        rows.append(
            {
                "period": period.name, "state": "not_evaluated" if score is None else "evaluated", "score_x100": score,
                "dimensions": dimensions, "change_x100": _change(rows, score),
                "evidence": sorted(item.sha256 for item in mine),
            }
        )  # fmt: skip
    return rows


def _change(before: Sequence[Mapping[str, Any]], score: int | None) -> int | None:
    last = before[-1]["score_x100"] if before else None
    return None if score is None or last is None else score - int(last)


def _mean(values: Sequence[int]) -> int | None:
    return sum(values) // len(values) if values else None


def _dimension(item: Signed, name: str) -> int | None:
    for row in item.report["dimensions"]:
        if row["name"] == name:
            return None if row["score_x100"] is None else int(row["score_x100"])
    return None


def _id(item: Signed) -> str:
    return str(item.report["resource"]["id"])


def _day(item: Signed) -> date:
    return datetime.fromisoformat(str(item.report["assessed_at"])).astimezone(_CHINA).date()


def _method(counted: Sequence[Signed]) -> dict[str, Any]:
    """Return the published method: how a score comes about, and the weights that the reports were made with."""
    latest = max(counted, key=lambda item: str(item.report["assessed_at"]), default=None)
    weights = {row["name"]: row.get("weight") for row in latest.report["dimensions"]} if latest else {}
    return {
        "zh": (
            "依据 GB/T 36344-2018 六个维度逐条规则检查，规则按严重程度加权得出维度得分，维度按权重得出总分（百分制）；"
            "周期得分为该周期内各次签名报告的平均，部门得分为其已评价资源的平均；周期内没有检查的资源列为未评价，不计分。"
        ),
        "en": (
            "Rules of the six dimensions of GB/T 36344-2018 are checked; weighted by severity they give the "
            "dimensions, these by their weights the total out of 100. A period's score is the mean of the signed "
            "reports in it, a department's the mean of its evaluated resources; one without a check in it has none."
        ),
        "dimensions": [{"name": d.name, "title_zh": d.zh, "weight": weights.get(d.name)} for d in DIMENSIONS],
    }


def _cell(row: Mapping[str, Any], word: Mapping[str, str]) -> str:
    if row["score_x100"] is None:
        return f'<span class="muted">{word["not_evaluated"]}</span>'
    change = row["change_x100"]
    moved = "" if change is None else f" <small>{'+' if change >= 0 else '−'}{hundredths(abs(change))}</small>"
    return f"<b>{hundredths(row['score_x100'])}</b>{moved}"


_WORDS: dict[str, tuple[str, str]] = {
    "heading": ("公共数据质量评价", "Quality evaluation by period"),
    "departments": ("部门", "Departments"),
    "resources": ("数据资源", "Resources"),
    "method": ("监测评价方法", "Method"),
    "weights": ("维度权重：", "Weights:"),
    "not_evaluated": ("未评价", "not evaluated"),
}
