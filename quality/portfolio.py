"""The portfolio: all departments on one page, ranked, with what is held and what is overdue; from reports alone.

Pure. The caller has verified each report's signature and says who signed it. Of each resource the
latest report counts. A department's score is the mean of its assessed resources; one without any is
ranked last and shown as not assessed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from html import escape
from importlib import resources as package_files
from typing import Any

from quality.charts import bar, hundredths
from quality.pdf import counted, typeset
from quality.projection import check_report
from quality.report import Language, moment
from quality.words import GRADE, ORIGIN, SEVERITY, TEXT

SCHEMA = "shufang.quality-portfolio/1"
_NUMERIC = {"rank", "resources", "held", "open", "overdue", "days", "due", "assessed"}
_FIVE = (
    ".score{display:flex;gap:10px;align-items:center}.score .bar{margin:0}"
    ".facts.five{grid-template-columns:repeat(5,1fr)}.facts.five b{font-size:24px}"
)


@dataclass(frozen=True, slots=True)
class Signed:
    """One verified report and the department whose node signed it."""

    report: Mapping[str, Any]
    sha256: str
    department: str
    title_zh: str
    title_en: str


def portfolio(signed: Sequence[Signed], *, today: date) -> dict[str, Any]:
    """Bring reports together.

    Args:
        signed: reports of this schema, in any sequence; superseded ones are left out.
        today: against which orders are overdue.

    Raises:
        ReportError: one is of another schema.
    """
    latest: dict[tuple[str, str], Signed] = {}
    for item in signed:
        check_report(item.report)
        key = (item.department, str(item.report["resource"]["id"]))
        if key not in latest or latest[key].report["assessed_at"] < item.report["assessed_at"]:
            latest[key] = item
    rows = [_resource(item, today) for _, item in sorted(latest.items())]
    departments = [_department(name, rows) for name in sorted({row["department"] for row in rows})]
    departments.sort(key=lambda row: (row["score_x100"] is None, -(row["score_x100"] or 0), row["overdue"], row["id"]))
    for rank, row in enumerate(departments, start=1):
        row["rank"] = None if row["score_x100"] is None else rank
    overdue = [
        {**order, "resource": row["id"], "department": row["department"], "title_zh": row["title_zh"],
         "title_en": row["title_en"], "department_zh": row["department_zh"], "department_en": row["department_en"],
         "days_overdue": (today - date.fromisoformat(order["due_on"])).days}
        for row in rows for order in row["orders"] if order["overdue"]
    ]  # fmt: skip
    return {
        "schema": SCHEMA,
        "date": today.isoformat(),
        "departments": departments,
        "resources": sorted(rows, key=lambda row: (row["verdict"] == "pass", row["score_x100"] or 0, row["id"])),
        "overdue": sorted(overdue, key=lambda order: (order["due_on"], order["department"], order["id"])),
    }


def html(document: Mapping[str, Any], *, lang: Language = "zh") -> str:
    """Draw a portfolio as a page of its own: no script, no outside fetch."""
    zh = lang == "zh"
    column = 0 if zh else 1

    def t(key: str) -> str:
        return _WORDS[key][column]

    def table(keys: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
        kinds = ["n" if key in _NUMERIC else "" for key in keys]
        head = "".join(f'<th class="{kind}">{t(key)}</th>' for key, kind in zip(keys, kinds, strict=True))
        body = "".join(
            "<tr>" + "".join(f'<td class="{kind}">{cell}</td>' for cell, kind in zip(row, kinds, strict=True)) + "</tr>"
            for row in rows
        )
        return f"<table><tr>{head}</tr>{body}</table>"

    def score(row: Mapping[str, Any]) -> str:
        value = row["score_x100"]
        if value is None:
            return f'<span class="muted">{TEXT["not_assessed"][column]}</span>'
        return f'<div class="score"><b>{hundredths(value)}</b>{bar(value, row["threshold_x100"], row["id"])}</div>'

    def title(row: Mapping[str, Any]) -> str:
        return escape(_of(row, "title", lang) or str(row["id"]))

    departments, held = document["departments"], [r for r in document["resources"] if r["verdict"] != "pass"]
    numbers = (
        ("departments", len(departments)), ("resources", len(document["resources"])), ("held", len(held)),
        ("open", sum(row["open"] for row in departments)), ("overdue", len(document["overdue"])),
    )  # fmt: skip
    facts = "".join(f"<div><dt>{t(key)}</dt><dd><b>{value}</b></dd></div>" for key, value in numbers)
    ranking = table(
        ("rank", "department", "resources", "score", "held", "open", "overdue"),
        [
            (str(row["rank"] or "—"), f"{title(row)}<br><code>{escape(row['id'])}</code>", str(row["resources"]),
             score(row), _alarm(row["held"]), str(row["open"]), _alarm(row["overdue"]))
            for row in departments
        ],
    )  # fmt: skip
    late = table(
        ("order", "department", "resource", "rule", "severity", "origin", "due", "days"),
        [
            (f"<code>{escape(order['id'])}</code>", escape(_of(order, "department", lang)), title(order),
             f"<code>{escape(order['rule']) or '—'}</code>", SEVERITY[order["severity"]][column],
             ORIGIN[order["kind"]][column], f'<span class="bad">{escape(order["due_on"])}</span>',
             str(order["days_overdue"]))
            for order in document["overdue"]
        ],
    )  # fmt: skip
    listed = table(
        ("resource", "department", "score", "grade", "verdict", "assessed", "digest"),
        [
            (f"{title(row)}<br><code>{escape(row['id'])}</code>", escape(_of(row, "department", lang)), score(row),
             GRADE[row["grade"]][column] if row["grade"] in GRADE else escape(row["grade"]),
             _chip(row["verdict"], TEXT[row["verdict"]][column]),
             _day(row["assessed_at"]), f"<code>{escape(row['sha256'][:12])}…</code>")
            for row in document["resources"]
        ],
    )  # fmt: skip
    none_late = f'<p class="good">{t("none_late")}</p>'
    return (
        f'<!doctype html><html lang="{"zh-CN" if zh else "en"}"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><title>{t("heading")}</title>'
        f"<style>{_css()}{_FIVE}</style></head>"
        f"<body><main><header><h1><small>{escape(document['date'])}</small>{t('heading')}</h1>"
        f'<dl class="facts five">{facts}</dl></header><section><h2>{t("ranking")}</h2>{ranking}'
        f'<h2>{t("late")}<span class="n">{len(document["overdue"])}</span></h2>'
        f"{late if document['overdue'] else none_late}"
        f"<h2>{t('all')}</h2>{listed}</section><footer>{t('note')}</footer></main></body></html>"
    )


def pdf(document: Mapping[str, Any], *, lang: Language = "zh") -> bytes:
    """Set a portfolio as PDF; equal documents give equal bytes.

    Raises:
        ReportError: the extra ``reports`` is not installed.
    """
    column = 0 if lang == "zh" else 1

    def t(*keys: str) -> list[str]:
        return [_WORDS[key][column] if key else "" for key in keys]

    departments, overdue = document["departments"], document["overdue"]
    held = sum(row["verdict"] != "pass" for row in document["resources"])
    numbers = (
        ("departments", len(departments), False), ("resources", len(document["resources"]), False),
        ("held", held, held > 0), ("open", sum(row["open"] for row in departments), False),
        ("overdue", len(overdue), bool(overdue)),
    )  # fmt: skip
    return typeset(
        "portfolio.typ",
        {
            "lang": lang,
            "date": [int(part) for part in document["date"].split("-")],
            "day": document["date"],
            "heading": t("heading")[0],
            "footer": f"{t('heading')[0]} · {document['date']}",
            "numbers": [{"label": t(key)[0], "value": str(value), "alarm": alarm} for key, value, alarm in numbers],
            "ranking_title": t("ranking")[0],
            "ranking_head": t("rank", "department", "resources", "score", "", "held", "open", "overdue"),
            "ranking": [
                {
                    "rank": str(row["rank"] or "—"), "title": _of(row, "title", lang) or row["id"], "id": row["id"],
                    "resources": str(row["resources"]), "held": str(row["held"]), "open": str(row["open"]),
                    "overdue": str(row["overdue"]), **_gauge(row, column),
                }
                for row in departments
            ],
            "late_title": counted(t("late")[0], len(overdue), lang),
            "late_none": t("none_late")[0],
            "late_head": t("order", "department", "resource", "rule", "severity", "origin", "due", "days"),
            "late": [
                {
                    "id": order["id"], "department": _of(order, "department", lang), "title": _of(order, "title", lang),
                    "rule": order["rule"] or "—", "severity": SEVERITY[order["severity"]][column],
                    "origin": ORIGIN[order["kind"]][column], "due_on": order["due_on"],
                    "days": str(order["days_overdue"]),
                }
                for order in overdue
            ],
            "all_title": t("all")[0],
            "all_head": t("resource", "department", "score", "", "grade", "verdict", "assessed", "digest"),
            "all": [
                {
                    "title": _of(row, "title", lang) or row["id"], "id": row["id"],
                    "department": _of(row, "department", lang),
                    "grade": GRADE[row["grade"]][column] if row["grade"] in GRADE else row["grade"],
                    "verdict": TEXT[row["verdict"]][column], "verdict_tone": "ok" if row["verdict"] == "pass" else "no",
                    "assessed": _day(row["assessed_at"]), "sha256": f"{row['sha256'][:12]}…", **_gauge(row, column),
                }
                for row in document["resources"]
            ],
            "note": t("note")[0],
        },
    )  # fmt: skip


def _day(text: str) -> str:
    """Return the day of a time in China."""
    return moment(text, "zh")[:10]


def _gauge(row: Mapping[str, Any], column: int) -> dict[str, Any]:
    value = row["score_x100"]
    if value is None:
        return {"score": TEXT["not_assessed"][column], "percent": None, "tone": "na"}
    tone = "ok" if value >= row["threshold_x100"] else "no"
    return {"score": hundredths(value), "percent": value / 100, "tone": tone}


def _of(row: Mapping[str, Any], key: str, lang: Language) -> str:
    """Return a text of a row in the language, else in Chinese, else what it is named by."""
    return str(row.get(f"{key}_{lang}") or row.get(f"{key}_zh") or row.get(key) or "")


def _resource(item: Signed, today: date) -> dict[str, Any]:
    report = item.report
    orders = [
        {**order, "overdue": order["state"] in {"filed", "open"} and order["kind"] != "dispute"
         and date.fromisoformat(order["due_on"]) < today}
        for order in report.get("orders", [])
    ]  # fmt: skip
    return {
        "id": report["resource"]["id"],
        "title_zh": report["resource"]["title_zh"],
        "title_en": report["resource"]["title_en"],
        "department": item.department,
        "department_zh": item.title_zh,
        "department_en": item.title_en,
        "score_x100": report["score"]["total_x100"],
        "threshold_x100": report["profile"]["score_min_x100"],
        "grade": report["score"]["grade"],
        "verdict": report["score"]["verdict"],
        "assessed_at": report["assessed_at"],
        "sha256": item.sha256,
        "orders": orders,
    }


def _department(name: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    mine = [row for row in rows if row["department"] == name]
    scores = [row["score_x100"] for row in mine if row["score_x100"] is not None]
    orders = [order for row in mine for order in row["orders"]]
    return {
        "id": name,
        "title_zh": mine[0]["department_zh"],
        "title_en": mine[0]["department_en"],
        "resources": len(mine),
        "score_x100": sum(scores) // len(scores) if scores else None,
        "threshold_x100": max(row["threshold_x100"] for row in mine),
        "held": sum(row["verdict"] != "pass" for row in mine),
        "open": sum(order["state"] in {"filed", "open"} for order in orders),
        "overdue": sum(order["overdue"] for order in orders),
    }


def _chip(verdict: str, text: str) -> str:
    return f'<span class="chip small {"ok" if verdict == "pass" else "no"}">{text}</span>'


def _alarm(count: int) -> str:
    return f'<span class="bad">{count}</span>' if count else "0"


@cache
def _css() -> str:
    return package_files.files("quality").joinpath("report.css").read_text(encoding="utf-8")


_WORDS: dict[str, tuple[str, str]] = {
    "heading": ("公共数据质量总览", "Quality of public data: all departments"),
    "departments": ("部门", "Departments"),
    "resources": ("数据资源", "Resources"),
    "held": ("暂停", "Held"),
    "open": ("未办结工单", "Open orders"),
    "overdue": ("逾期", "Overdue"),
    "ranking": ("部门排名", "Ranking of departments"),
    "rank": ("名次", "Rank"),
    "department": ("部门", "Department"),
    "score": ("得分", "Score"),
    "late": ("逾期整改清单", "Overdue orders"),
    "none_late": ("没有逾期的整改单。", "No order is overdue."),
    "all": ("全部数据资源（问题在前）", "All resources, held ones first"),
    "order": ("单号", "Order"),
    "resource": ("数据资源", "Resource"),
    "rule": ("规则", "Rule"),
    "severity": ("级别", "Severity"),
    "origin": ("来源", "Origin"),
    "due": ("期限", "Due"),
    "days": ("逾期天数", "Days overdue"),
    "grade": ("等级", "Grade"),
    "verdict": ("结论", "Verdict"),
    "assessed": ("评估日", "Assessed"),
    "digest": ("报告摘要", "Report digest"),
    "note": (
        "全部数字来自各部门节点签名的质量报告，签名已逐份验证；部门得分为其已评估资源得分的平均，名次按得分排列。",
        (
            "Every figure comes from reports signed by the departments' nodes, each signature verified; a department's "
            "score is the mean of its assessed resources, and ranks go by it."
        ),
    ),
}
