"""The evaluation of source departments as a page and a PDF, in the dress of the quality reports."""

from collections.abc import Mapping
from html import escape
from importlib import resources
from typing import Any

from quality.charts import hundredths
from quality.pdf import typeset
from quality.report import Language

_DEDUCTION = ("department", "part", "resource", "reason", "points", "evidence")
_WORDS: dict[str, tuple[str, str]] = {
    "heading": ("数据提供部门供给评价", "Evaluation of source departments"),
    "ranking": ("评价结果", "Result"),
    "rank": ("名次", "Rank"),
    "department": ("部门", "Department"),
    "resources": ("应供资源", "Resources"),
    "score": ("得分", "Score"),
    "state": ("状态", "State"),
    "final": ("可定稿", "final"),
    "provisional": ("待补证据", "evidence missing"),
    "bindings": ("按期绑定", "Bindings"),
    "timeliness": ("更新及时", "Timeliness"),
    "quality": ("数据质量", "Quality"),
    "response": ("整改响应", "Response"),
    "deductions": ("扣分明细与证据", "Deductions and their evidence"),
    "part": ("项目", "Part"),
    "resource": ("数据资源", "Resource"),
    "reason": ("事由", "Reason"),
    "points": ("扣分", "Points"),
    "evidence": ("证据", "Evidence"),
    "none": ("没有扣分。", "No point was taken off."),
    "missing": ("缺少的证据", "Missing evidence"),
    "not_assessed": ("未评估", "not assessed"),
    "note": (
        (
            "全部数字来自各部门节点签名的质量报告（证据为其 SHA-256）或评价计划载明的文件；"
            "权重由数据主管部门在评价计划中确定。"
            "没有可评对象的项目不计分也不按满分计，其余项目按比例折算；证据不全的得分不得定稿。"
        ),
        (
            "Every figure comes from quality reports signed by the departments' nodes (the evidence is their "
            "SHA-256) or from a document that the plan names; the data administration sets the weights in the plan. "
            "A part with nothing to evaluate counts neither as full nor as nothing, the rest is scaled; a score with "
            "missing evidence is not final."
        ),
    ),
}


def html(document: Mapping[str, Any], *, lang: Language = "zh") -> str:
    """Draw an evaluation as a page of its own: no script, no outside fetch."""
    column = 0 if lang == "zh" else 1
    words = {key: pair[column] for key, pair in _WORDS.items()}
    names = [part["name"] for part in document["departments"][0]["parts"]]
    head = "".join(
        f"<th>{text}</th>"
        for text in (
            words["rank"], words["department"], words["resources"], words["score"],
            *(f"{words[name]} {document['weights'][name]}" for name in names), words["state"],
        )
    )  # fmt: skip
    ranking = "".join(
        f"<tr><td>{rank}</td><td>{escape(_title(row, lang))}<br><code>{escape(row['id'])}</code></td>"
        f"<td>{row['resources']}</td><td>{_score(row, words)}</td>"
        + "".join(f"<td>{_points(part, words)}</td>" for part in row["parts"])
        + f"<td>{_chip(row, words)}</td></tr>"
        for rank, row in enumerate(document["departments"], start=1)
    )
    taken = "".join(
        f"<tr><td>{escape(_title(row, lang))}</td><td>{words[part['name']]}</td><td>{escape(item['resource'])}</td>"
        f'<td>{escape(item[lang])}</td><td class="n bad">{_signed(item["points_x100"])}</td>'
        f"<td><code>{escape(_short(item['evidence']))}</code></td></tr>"
        for row, part, item in _deductions(document)
    )
    late = "".join(f"<th>{words[key]}</th>" for key in _DEDUCTION)
    detail = f"<table><tr>{late}</tr>{taken}</table>" if taken else f'<p class="good">{words["none"]}</p>'
    missing = "".join(
        f"<li>{escape(_title(row, lang))} <code>{escape(item['resource'])}</code> {escape(item[lang])}</li>"
        for row in document["departments"]
        for item in row["missing"]
    )
    alert = f'<div class="alert"><h3>{words["missing"]}</h3><ul>{missing}</ul></div>' if missing else ""
    css = resources.files("quality").joinpath("report.css").read_text(encoding="utf-8")
    return (
        f'<!doctype html><html lang="{"zh-CN" if lang == "zh" else "en"}"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{words['heading']} {escape(document['period'])}</title><style>{css}</style></head><body><main>"
        f"<header><h1><small>{escape(document['period'])} · {document['from']} – {document['to']}</small>"
        f"{words['heading']}</h1></header><section>{alert}<h2>{words['ranking']}</h2>"
        f"<table><tr>{head}</tr>{ranking}</table><h2>{words['deductions']}</h2>{detail}</section>"
        f"<footer>{words['note']}</footer></main></body></html>"
    )


def pdf(document: Mapping[str, Any], *, lang: Language = "zh") -> bytes:
    """Set an evaluation as PDF; equal documents give equal bytes.

    Raises:
        ReportError: the extra ``reports`` is not installed.
    """
    column = 0 if lang == "zh" else 1
    words = {key: pair[column] for key, pair in _WORDS.items()}
    names = [part["name"] for part in document["departments"][0]["parts"]]
    return typeset(
        "supply.typ",
        {
            "lang": lang,
            "date": [int(part) for part in document["date"].split("-")],
            "heading": words["heading"],
            "day": f"{document['period']} · {document['from']} – {document['to']}",
            "footer": f"{words['heading']} · {document['period']}",
            "ranking_title": words["ranking"],
            "ranking_head": [words["rank"], words["department"], words["resources"], words["score"],
                             *(f"{words[name]} {document['weights'][name]}" for name in names), words["state"]],
            "ranking": [
                {
                    "rank": str(rank), "title": _title(row, lang), "id": row["id"], "resources": str(row["resources"]),
                    "score": words["not_assessed"] if row["score_x100"] is None else hundredths(row["score_x100"]),
                    "parts": [_points(part, words) for part in row["parts"]],
                    "state": words["final" if row["final"] else "provisional"], "tone": "ok" if row["final"] else "no",
                }
                for rank, row in enumerate(document["departments"], start=1)
            ],
            "missing_title": words["missing"],
            "missing": [
                f"{_title(row, lang)} {item['resource']} {item[lang]}"
                for row in document["departments"] for item in row["missing"]
            ],
            "deductions_title": words["deductions"],
            "deductions_none": words["none"],
            "deductions_head": [words[key] for key in _DEDUCTION],
            "deductions": [
                [_title(row, lang), words[part["name"]], item["resource"], item[lang], _signed(item["points_x100"]),
                 _short(item["evidence"])]
                for row, part, item in _deductions(document)
            ],
            "note": words["note"],
        },
    )  # fmt: skip


def _deductions(document: Mapping[str, Any]) -> list[tuple[Any, Any, Any]]:
    return [
        (row, part, item) for row in document["departments"] for part in row["parts"] for item in part["deductions"]
    ]


def _title(row: Mapping[str, Any], lang: Language) -> str:
    return str(row[f"title_{lang}"] or row["title_zh"] or row["id"])


def _score(row: Mapping[str, Any], words: Mapping[str, str]) -> str:
    value = row["score_x100"]
    if value is None:
        return f'<span class="muted">{words["not_assessed"]}</span>'
    return f"<b>{hundredths(value)}</b>"


def _points(part: Mapping[str, Any], words: Mapping[str, str]) -> str:
    return words["not_assessed"] if part["points_x100"] is None else hundredths(part["points_x100"])


def _signed(points_x100: int) -> str:
    return f"−{hundredths(-points_x100)}"


def _chip(row: Mapping[str, Any], words: Mapping[str, str]) -> str:
    tone, key = ("ok", "final") if row["final"] else ("no", "provisional")
    return f'<span class="chip small {tone}">{words[key]}</span>'


def _short(evidence: str) -> str:
    return f"{evidence[:19]}…" if evidence.startswith("sha256:") else evidence
