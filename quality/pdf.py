"""The report as PDF: the same JSON, charts and words as the page, set by Typst.

Typst and its font are the extra ``reports``. System fonts are ignored and the document's date is
the assessment's, so equal JSON gives equal bytes on every machine. Tagged PDF/A-2a.
"""

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from quality.charts import hundredths, radar, trend
from quality.errors import ReportError
from quality.indicators import INDICATORS
from quality.projection import check_report
from quality.report import Language, figures, heat, matrix, moment, signature_text
from quality.words import GRADE, ORIGIN, REASON, SEVERITY, STATE, STATUS, TEXT

_FONT = "Noto Sans CJK SC"


def pdf(
    report: Mapping[str, Any],
    *,
    lang: Language = "zh",
    sha256: str = "",
    signature: Mapping[str, str] | None = None,
) -> bytes:
    """Set a report.

    Args:
        report: JSON of ``quality.projection.report_json``.
        lang: language of the document.
        sha256: digest of the canonical bytes, printed at the end.
        signature: ``keyid`` and ``sig`` of the envelope around them.

    Raises:
        ReportError: the JSON is of another schema, or the extra ``reports`` is not installed.
    """
    check_report(report)
    return typeset("report.typ", _View(report, lang, sha256, signature).document())


def typeset(template: str, document: Mapping[str, Any]) -> bytes:
    """Set a template of this package with a document as its data.

    Raises:
        ReportError: the extra ``reports`` is not installed.
    """
    try:
        import manimgx_fonts_cjk
        import typst
    except ImportError:
        raise ReportError("expected Typst and its font for PDF; install them: pip install 'shufang[reports]'") from None
    source = resources.files("quality").joinpath(template).read_bytes()
    compile_document: Any = typst.compile  # its stub asks for one type where the library takes several
    done: bytes = compile_document(
        source,
        format="pdf",
        font_paths=[str(Path(str(manimgx_fonts_cjk.__file__)).parent)],
        ignore_system_fonts=True,
        sys_inputs={"report": json.dumps(document, ensure_ascii=False, sort_keys=True)},
        pdf_standards="a-2a",
    )
    return done


def counted(title: str, count: int, lang: Language) -> str:
    """Return a heading with how many follow."""
    return f"{title}（{count}）" if lang == "zh" else f"{title} ({count})"


def picture(svg: str) -> str:
    """Return a chart with the font that the document has."""
    return svg.replace("<svg ", f'<svg font-family="{_FONT}" font-weight="500" ', 1)


class _View:
    """What the template shows, as texts of one language."""

    def __init__(
        self, report: Mapping[str, Any], lang: Language, sha256: str, signature: Mapping[str, str] | None
    ) -> None:
        self._signature = signature
        self._report, self._lang, self._sha256 = report, lang, sha256
        self._column = 0 if lang == "zh" else 1

    def document(self) -> dict[str, Any]:
        report, score = self._report, self._report["score"]
        title = self._of(report["resource"], "title") or report["resource"]["id"]
        points = [item["score_x100"] for item in report["history"] if item["score_x100"] is not None]
        target = report["profile"]["score_min_x100"]
        rules = {status: self._rules(status) for status in (("fail", "error"), ("pass",), ("not_assessed",))}
        return {
            "lang": self._lang,
            "date": [int(part) for part in report["assessed_at"][:10].split("-")],
            "title": title,
            "heading": self._t("heading"),
            "footer": f"{self._t('heading')} · {title}",
            "facts": self._facts(),
            "radar": picture(self._radar()),
            "radar_alt": self._t("dimension"),
            "radar_note": self._t("radar_note"),
            "trend": picture(trend(points, target, self._t("trend"))) if len(points) > 1 else "",
            "trend_alt": self._t("trend"),
            "total": "—" if score["total_x100"] is None else hundredths(score["total_x100"]),
            "grade": self._pick(GRADE, score["grade"]),
            "verdict": self._t(score["verdict"]),
            "held": score["verdict"] == "held",
            "dimension_head": [self._t(key) for key in ("dimension", "weight", "points")]
            + ["", self._t("threshold"), self._t("change")],
            "dimensions": [self._dimension(item) for item in report["dimensions"]],
            "alerts": self._alerts(),
            "rule_head": [
                self._t(key)
                for key in ("id", "columns", "rule", "severity", "checked", "failing", "rate", "allowed", "result")
            ],
            "failed_title": counted(self._t("failed"), len(rules["fail", "error"]), self._lang),
            "failed_none": self._t("all_failed_none"),
            "failed": rules["fail", "error"],
            "passed_title": counted(self._t("passed"), len(rules["pass",]), self._lang),
            "passed": rules["pass",],
            "unassessed_title": counted(self._t("unassessed"), len(rules["not_assessed",]), self._lang),
            "unassessed_head": [self._t(key) for key in ("id", "columns", "rule", "severity", "reason")],
            "unassessed": rules["not_assessed",],
            "orders_title": counted(self._t("orders"), len(report.get("orders", [])), self._lang),
            "order_head": [
                self._t(key) for key in ("order", "origin", "rule", "severity", "opened_on", "due_on", "state")
            ],
            "order_note": self._t("order_note"),
            "orders": [self._order(item) for item in report.get("orders", [])],
            "indicators_title": self._t("indicators"),
            "indicators": [self._indicator(item) for item in report["indicators"]],
            "method": self._t("method").format(
                cell=report["disclosure"]["cell_min"],
                below=report["disclosure"]["cell_min"] - 1,
                base=report["disclosure"]["round_base"],
                move=report["disclosure"].get("move_min", 1),
                least=hundredths(target),
            ),
            "digest_label": self._t("digest"),
            "digest": self._sha256 or "—",
            "signature_title": self._t("signature"),
            "signature": signature_text(report, self._signature, self._lang),
            "updates_title": self._t("update"),
            "updates_head": [self._t("rule"), self._t("promised"), self._t("actual")],
            "updates": self._updates(),
            "drift_title": self._t("drift"),
            "drift_head": [self._t("drift_column"), self._t("drift_now"), self._t("allowed")],
            "drift": self._drift(),
            "matrix_title": self._t("matrix"),
            **self._matrix(),
        }

    def _t(self, key: str) -> str:
        return TEXT[key][self._column]

    def _pick(self, table: Mapping[str, tuple[str, str]], key: str) -> str:
        return table[key][self._column] if key in table else key

    def _of(self, item: Mapping[str, Any], key: str) -> str:
        return str(item.get(f"{key}_{self._lang}") or item.get(f"{key}_zh") or "")

    def _facts(self) -> list[list[str]]:
        report = self._report
        table, suite = report["table"], report["suite"]
        rows = self._t("not_assessed") if table["rows"] is None else f"{table['rows']:,}"
        engine = " · ".join(f"{key} {value}" for key, value in sorted(report["engine"].items()))
        facts = (
            ("resource", f"{report['resource']['id']} {report['resource']['version']}"),
            ("owner", report["resource"]["owner"] or "—"),
            ("node", report["node"] or "—"),
            ("table", f"{rows} × {table['columns']} · {table['kind'].upper()}"),
            ("assessed", moment(report["assessed_at"], self._lang)),
            ("delivered", moment(report["delivered_at"], self._lang)),
            ("suite", f"{suite['version']} · {suite['rules']} · {suite['sha256'][:12]}…"),
            ("engine", engine),
        )
        return [[self._t(key), value] for key, value in facts]

    def _radar(self) -> str:
        dimensions = self._report["dimensions"]
        return radar(
            [self._of(item, "name") for item in dimensions],
            [item["score_x100"] for item in dimensions],
            [item["previous_x100"] for item in dimensions],
            self._t("dimension"),
        )

    def _dimension(self, item: Mapping[str, Any]) -> dict[str, Any]:
        value, before = item["score_x100"], item["previous_x100"]
        change = (
            "—" if value is None or before is None else f"{'+' if value > before else ''}{hundredths(value - before)}"
        )
        return {
            "name": self._of(item, "name"),
            "weight": str(item["weight"]),
            "score": self._t("not_assessed") if value is None else hundredths(value),
            "percent": None if value is None else value / 100,
            "tone": "no" if item["verdict"] == "fail" else "ok",
            "threshold": hundredths(item["threshold_x100"]),
            "change": change,
        }

    def _alerts(self) -> list[dict[str, Any]]:
        report = self._report
        titles = {rule["id"]: f"{rule['id']} {self._title(rule)}" for rule in report["rules"]}
        titles |= {item["name"]: self._of(item, "name") for item in report["dimensions"]}
        holds = [f"{self._of(hold, 'text')} {titles.get(hold['about'], '')}" for hold in report["score"]["holds"]]
        found = [self._of(item, "text") for item in report["findings"]]
        pairs = (("why", holds), ("findings", found))
        return [{"title": self._t(key), "items": items} for key, items in pairs if items]

    def _title(self, rule: Mapping[str, Any]) -> str:
        title = self._of(rule, "title")
        return str(rule["type"]) if title in {"", "withheld"} else title

    def _rules(self, statuses: Sequence[str]) -> list[dict[str, str]]:
        rank = {"critical": 0, "major": 1, "minor": 2}
        chosen = [rule for rule in self._report["rules"] if rule["status"] in statuses]
        ordered = sorted(chosen, key=lambda rule: (rank.get(rule["severity"], 9), -(rule["rate_micro"] or 0)))
        return [self._rule(rule) for rule in ordered]

    def _rule(self, rule: Mapping[str, Any]) -> dict[str, str]:
        checked, failing, rate, allowed = figures(rule, self._lang)
        return {
            "id": rule["id"],
            "columns": " × ".join(rule["columns"]) or "—",
            "title": self._title(rule)
            + (f"（{self._pick(REASON, rule['reason'])}）" if rule["status"] == "error" else ""),
            "severity": self._pick(SEVERITY, rule["severity"]),
            "checked": checked,
            "failing": failing,
            "rate": rate,
            "allowed": allowed,
            "status": self._pick(STATUS, rule["status"]),
            "tone": {"pass": "ok", "fail": "no"}.get(rule["status"], "na"),
            "reason": self._pick(REASON, rule["reason"]),
        }

    def _order(self, order: Mapping[str, Any]) -> dict[str, str]:
        titles = {rule["id"]: self._title(rule) for rule in self._report["rules"]}
        state = "overdue" if order["overdue"] else order["state"]
        return {
            "id": order["id"],
            "origin": self._pick(ORIGIN, order["kind"]),
            "about": f"{order['rule']} {titles.get(order['rule'], '')}".strip() or "—",
            "severity": self._pick(SEVERITY, order["severity"]),
            "opened_on": order["opened_on"],
            "due_on": order["due_on"] + ("*" if order["provisional"] else ""),
            "state": self._pick(STATE, state),
            "tone": {"overdue": "no", "closed": "ok"}.get(state, "na"),
        }

    def _updates(self) -> list[dict[str, str]]:
        return [
            {
                "title": self._title(rule),
                "promised": str(rule["promised_days"]),
                "actual": str(rule["lag_days"]),
                "tone": "no" if rule["status"] == "fail" else "ok",
            }
            for rule in self._report["rules"]
            if "lag_days" in rule
        ]

    def _drift(self) -> list[dict[str, str]]:
        return [
            {
                "column": " × ".join(rule["columns"]),
                "psi": hundredths(rule["psi_x100"]),
                "most": f"≤ {hundredths(rule['psi_max_x100'])}",
                "tone": "no" if rule["status"] == "fail" else "ok",
            }
            for rule in self._report["rules"]
            if "psi_x100" in rule
        ]

    def _matrix(self) -> dict[str, Any]:
        cells, used = matrix(self._report)
        return {
            "matrix_head": [self._t("columns"), *(self._of(item, "name") for item in used)],
            "matrix": [
                {
                    "column": column,
                    "cells": [
                        {"text": "·" if score is None else hundredths(score), "colour": heat(score)}
                        for score in (row.get(item["name"]) for item in used)
                    ],
                }
                for column, row in cells.items()
            ],
        }

    def _indicator(self, item: Mapping[str, Any]) -> dict[str, Any]:
        known, assessed = INDICATORS[item["code"]], item["x_micro"] is not None
        return {
            "name": f"{item['code']} {known.zh if self._lang == 'zh' else known.en}",
            "ratio": f"{item['numerator']:,} / {item['denominator']:,}" if assessed else self._t("not_assessed"),
            "share": _percent(item["x_micro"]) if assessed else "—",
            "assessed": assessed,
        }


def _percent(micro: int | None) -> str:
    return "—" if micro is None else f"{micro // 10_000}.{micro // 10 % 1_000:03d}%"
