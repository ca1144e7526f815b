"""The report as a page: what a supervisor reads, made from the report JSON and nothing else.

One file: no script, no outside fetch, a content security policy that forbids both; Chinese first
or English; equal JSON gives equal bytes. Failures stand before everything that went well.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from functools import cache
from html import escape
from importlib import resources
from typing import Any, Literal, TypeAlias

from quality.charts import bar, hundredths, radar, trend
from quality.projection import check_report
from quality.words import GRADE, ORIGIN, REASON, SEVERITY, STATE, STATUS, TEXT

Language: TypeAlias = Literal["zh", "en"]

_CHINA = timezone(timedelta(hours=8), "Asia/Shanghai")
_SEVERITY_RANK = {"critical": 0, "major": 1, "minor": 2}
_STATUS_RANK = {"fail": 0, "error": 1, "not_assessed": 3, "pass": 2}


def html(
    report: Mapping[str, Any],
    *,
    lang: Language = "zh",
    sha256: str = "",
    signature: Mapping[str, str] | None = None,
) -> str:
    """Draw a report.

    Args:
        report: JSON of ``quality.projection.report_json``.
        lang: language of the page.
        sha256: digest of the canonical bytes, printed at the foot.
        signature: ``keyid`` and ``sig`` of the envelope around them.

    Raises:
        ReportError: the JSON is of another schema.
    """
    check_report(report)
    return _Page(report, lang, sha256, signature).html()


class _Page:
    """One page in one language."""

    def __init__(
        self, report: Mapping[str, Any], lang: Language, sha256: str, signature: Mapping[str, str] | None
    ) -> None:
        self._report = report
        self._signature = signature
        self._lang: Language = lang
        self._zh = lang == "zh"
        self._sha256 = sha256

    def html(self) -> str:
        report = self._report
        title = self._of(report["resource"], "title") or report["resource"]["id"]
        held = report["score"]["verdict"] == "held"
        body = "".join(
            (
                self._header(title),
                f'<section class="{"held" if held else "fine"}">{self._top()}{self._alerts()}</section>',
                f"<section>{self._failed()}{self._orders()}{self._updates()}{self._drift()}{self._unassessed()}{self._passed()}",
                f"{self._matrix()}{self._indicators()}</section>",
                self._footer(),
            )
        )
        return (
            f'<!doctype html><html lang="{"zh-CN" if self._zh else "en"}"><head><meta charset="utf-8">'
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
            '<meta name="viewport" content="width=device-width,initial-scale=1">'
            f"<title>{escape(title)} · {self._t('heading')}</title><style>{_css()}</style></head>"
            f"<body><main>{body}</main></body></html>"
        )

    def _t(self, key: str) -> str:
        return TEXT[key][0 if self._zh else 1]

    def _pick(self, table: Mapping[str, tuple[str, str]], key: str) -> str:
        return table[key][0 if self._zh else 1] if key in table else escape(key)

    def _of(self, item: Mapping[str, Any], key: str) -> str:
        return str(item.get(f"{key}_{'zh' if self._zh else 'en'}") or item.get(f"{key}_zh") or "")

    def _header(self, title: str) -> str:
        report = self._report
        table, suite = report["table"], report["suite"]
        rows = self._t("not_assessed") if table["rows"] is None else f"{table['rows']:,}"
        encoding = f" · {table['encoding'].upper()}" if table["encoding"] else ""
        facts = (
            ("resource", f"<code>{escape(report['resource']['id'])}</code> {escape(report['resource']['version'])}"),
            ("owner", escape(report["resource"]["owner"]) or "—"),
            ("node", f"<code>{escape(report['node']) or '—'}</code>"),
            ("table", f"{rows} × {table['columns']} · {escape(table['kind'].upper())}{encoding}"),
            ("assessed", moment(report["assessed_at"], self._lang)),
            ("delivered", moment(report["delivered_at"], self._lang)),
            ("suite", f"{escape(suite['version'])} · {suite['rules']} · <code>{escape(suite['sha256'][:12])}…</code>"),
            ("engine", " · ".join(f"{escape(key)} {escape(value)}" for key, value in sorted(report["engine"].items()))),
        )
        cells = "".join(f"<div><dt>{self._t(key)}</dt><dd>{value}</dd></div>" for key, value in facts)
        heading = f"<h1><small>{self._t('heading')}</small>{escape(title)}</h1>"
        return f'<header>{heading}<dl class="facts">{cells}</dl></header>'

    def _top(self) -> str:
        report = self._report
        score, dimensions = report["score"], report["dimensions"]
        total = "—" if score["total_x100"] is None else hundredths(score["total_x100"])
        chip = "ok" if score["verdict"] == "pass" else "no"
        points = [item["score_x100"] for item in report["history"] if item["score_x100"] is not None]
        # One delivery is no trend.
        drawn = trend(points, report["profile"]["score_min_x100"], self._t("trend")) if len(points) > 1 else ""
        picture = radar(
            [self._of(item, "name") for item in dimensions],
            [item["score_x100"] for item in dimensions],
            [item["previous_x100"] for item in dimensions],
            self._t("dimension"),
        )
        return (
            f'<div class="top"><div>{picture}<p class="note">{self._t("radar_note")}</p></div><div>'
            f'<div class="total"><div><span class="muted">{self._t("score")}</span><br><b>{total}</b></div>'
            f'<div><span class="grade">{self._pick(GRADE, score["grade"])}</span><br>'
            f'<span class="chip {chip}">{self._t(score["verdict"])}</span>{self._cap()}</div>{drawn}</div>'
            f"{self._dimension_table(dimensions)}</div></div>"
        )

    def _cap(self) -> str:
        """Say why the grade is worse than the score."""
        critical = any(hold["code"] == "rule.critical" for hold in self._report["score"]["holds"])
        return f'<br><span class="note">{self._t("capped")}</span>' if critical else ""

    def _dimension_table(self, dimensions: Sequence[Mapping[str, Any]]) -> str:
        rows = []
        for item in dimensions:
            value, label = item["score_x100"], escape(self._of(item, "name"))
            if value is None:
                middle = f'<td class="n muted">—</td><td class="muted">{self._t("not_assessed")}</td>'
            else:
                tone = "bad" if item["verdict"] == "fail" else ""
                middle = (
                    f'<td class="n {tone}">{hundredths(value)}</td><td>{bar(value, item["threshold_x100"], label)}</td>'
                )
            rows.append(
                f'<tr><td class="w">{label}</td><td class="n">{item["weight"]}</td>{middle}'
                f'<td class="n muted">{hundredths(item["threshold_x100"])}</td>'
                f'<td class="n">{_change(value, item["previous_x100"])}</td></tr>'
            )
        return (
            f'<table style="margin-top:14px"><tr><th>{self._t("dimension")}</th><th class="n">{self._t("weight")}</th>'
            f'<th class="n">{self._t("points")}</th><th></th><th class="n">{self._t("threshold")}</th>'
            f'<th class="n">{self._t("change")}</th></tr>{"".join(rows)}</table>'
        )

    def _alerts(self) -> str:
        report, out = self._report, []
        titles = {rule["id"]: self._rule_title(rule) for rule in report["rules"]}
        names = {item["name"]: self._of(item, "name") for item in report["dimensions"]}
        if report["score"]["holds"]:
            items = []
            for hold in report["score"]["holds"]:
                about = titles.get(hold["about"]) or names.get(hold["about"]) or ""
                code = f" <code>{escape(hold['about'])}</code>" if hold["about"] in titles else ""
                items.append(f"<li>{escape(self._of(hold, 'text'))}{code} {escape(about)}</li>")
            out.append(f'<div class="alert"><h3>{self._t("why")}</h3><ul>{"".join(items)}</ul></div>')
        if report["findings"]:
            items = [f"<li>{escape(self._of(item, 'text'))}</li>" for item in report["findings"]]
            out.append(f'<div class="alert"><h3>{self._t("findings")}</h3><ul>{"".join(items)}</ul></div>')
        return "".join(out)

    def _rule_title(self, rule: Mapping[str, Any]) -> str:
        title = self._of(rule, "title")
        return str(rule["type"]) if title in ("", "withheld") else title

    def _failed(self) -> str:
        rules = self._sorted(("fail", "error"))
        if not rules:
            return f'<h2>{self._t("failed")}</h2><p class="good">{self._t("all_failed_none")}</p>'
        return f'<h2>{self._t("failed")}<span class="n">{len(rules)}</span></h2>{self._rule_table(rules)}'

    def _passed(self) -> str:
        rules = self._sorted(("pass",))
        if not rules:
            return ""
        return f'<h2>{self._t("passed")}<span class="n">{len(rules)}</span></h2>{self._rule_table(rules)}'

    def _sorted(self, statuses: Sequence[str]) -> list[Mapping[str, Any]]:
        chosen = [rule for rule in self._report["rules"] if rule["status"] in statuses]
        return sorted(chosen, key=lambda rule: (_SEVERITY_RANK.get(rule["severity"], 9), -(rule["rate_micro"] or 0)))

    def _rule_table(self, rules: Sequence[Mapping[str, Any]]) -> str:
        head = "".join(
            f"<th{kind}>{self._t(key)}</th>"
            for key, kind in (
                ("id", ""),
                ("columns", ""),
                ("rule", ""),
                ("severity", ""),
                ("checked", ' class="n"'),
                ("failing", ' class="n"'),
                ("rate", ' class="n"'),
                ("allowed", ' class="n"'),
                ("result", ""),
                ("change", ' class="n"'),
            )
        )
        return (
            f'<div class="wide"><table><tr>{head}</tr>{"".join(self._rule_row(rule) for rule in rules)}</table></div>'
        )

    def _rule_row(self, rule: Mapping[str, Any]) -> str:
        checked, failing, rate, allowed = figures(rule, "zh" if self._zh else "en")
        tone = {"pass": "ok", "fail": "no"}.get(rule["status"], "na")
        severity = {"critical": "critical", "major": "major"}.get(rule["severity"], "na")
        return (
            f'<tr><td class="w"><code>{escape(rule["id"])}</code></td>'
            f"<td><code>{escape(' × '.join(rule['columns']))}</code></td>"
            f"<td>{escape(self._rule_title(rule))}{self._why(rule)}</td>"
            f'<td class="w"><span class="chip small {severity}">{self._pick(SEVERITY, rule["severity"])}</span></td>'
            f'<td class="n">{checked}</td><td class="n">{escape(failing)}</td>'
            f'<td class="n">{rate}</td><td class="n">{escape(allowed)}</td>'
            f'<td class="w"><span class="chip small {tone}">{self._pick(STATUS, rule["status"])}</span></td>'
            f'<td class="n">{_rate_change(rule)}</td></tr>'
        )

    def _why(self, rule: Mapping[str, Any]) -> str:
        """Say why a rule could not be run."""
        if rule["status"] != "error":
            return ""
        return f'<br><span class="note">{self._pick(REASON, rule["reason"])}</span>'

    def _orders(self) -> str:
        orders = self._report.get("orders", [])
        if not orders:
            return ""
        titles = {rule["id"]: self._rule_title(rule) for rule in self._report["rules"]}
        rows = []
        for order in orders:
            state = "overdue" if order["overdue"] else order["state"]
            tone = {"overdue": "no", "closed": "ok"}.get(state, "na")
            about = f"<code>{escape(order['rule'])}</code> {escape(titles.get(order['rule'], ''))}"
            rows.append(
                f'<tr><td class="w"><code>{escape(order["id"])}</code></td>'
                f"<td>{self._pick(ORIGIN, order['kind'])}</td><td>{about if order['rule'] else '—'}</td>"
                f"<td>{self._pick(SEVERITY, order['severity'])}</td>"
                f'<td class="n">{escape(order["opened_on"])}</td>'
                f'<td class="n">{escape(order["due_on"])}{"*" if order["provisional"] else ""}</td>'
                f'<td class="w"><span class="chip small {tone}">{self._pick(STATE, state)}</span></td></tr>'
            )
        keys = ("order", "origin", "rule", "severity", "opened_on", "due_on", "state")
        numeric = {"opened_on": ' class="n"', "due_on": ' class="n"'}
        head = "".join(f"<th{numeric.get(key, '')}>{self._t(key)}</th>" for key in keys)
        return (
            f'<h2>{self._t("orders")}<span class="n">{len(orders)}</span></h2>'
            f'<table><tr>{head}</tr>{"".join(rows)}</table><p class="note">{self._t("order_note")}</p>'
        )

    def _unassessed(self) -> str:
        rules = self._sorted(("not_assessed",))
        if not rules:
            return ""
        rows = "".join(
            f'<tr><td class="w"><code>{escape(rule["id"])}</code></td>'
            f"<td><code>{escape(' × '.join(rule['columns']))}</code></td>"
            f"<td>{escape(self._rule_title(rule))}</td><td>{self._pick(SEVERITY, rule['severity'])}</td>"
            f"<td>{self._pick(REASON, rule['reason'])}</td></tr>"
            for rule in rules
        )
        head = "".join(f"<th>{self._t(key)}</th>" for key in ("id", "columns", "rule", "severity", "reason"))
        return (
            f'<h2>{self._t("unassessed")}<span class="n">{len(rules)}</span></h2><table><tr>{head}</tr>{rows}</table>'
        )

    def _updates(self) -> str:
        rules = [rule for rule in self._report["rules"] if "lag_days" in rule]
        if not rules:
            return ""
        rows = "".join(
            f'<tr><td>{escape(self._rule_title(rule))}</td><td class="n">{rule["promised_days"]}</td>'
            f'<td class="n {"bad" if rule["status"] == "fail" else "good"}">{rule["lag_days"]}</td></tr>'
            for rule in rules
        )
        return (
            f'<h2>{self._t("update")}</h2><table><tr><th>{self._t("rule")}</th><th class="n">{self._t("promised")}</th>'
            f'<th class="n">{self._t("actual")}</th></tr>{rows}</table>'
        )

    def _drift(self) -> str:
        rules = [rule for rule in self._report["rules"] if "psi_x100" in rule]
        if not rules:
            return ""
        rows = "".join(
            f"<tr><td><code>{escape(' × '.join(rule['columns']))}</code></td>"
            f'<td class="n {"bad" if rule["status"] == "fail" else "good"}">{hundredths(rule["psi_x100"])}</td>'
            f'<td class="n">≤ {hundredths(rule["psi_max_x100"])}</td></tr>'
            for rule in rules
        )
        return (
            f"<h2>{self._t('drift')}</h2><table><tr><th>{self._t('drift_column')}</th>"
            f'<th class="n">{self._t("drift_now")}</th><th class="n">{self._t("allowed")}</th></tr>{rows}</table>'
        )

    def _matrix(self) -> str:
        cells, used = matrix(self._report)
        if not cells:
            return ""
        head = "".join(f'<th style="text-align:center">{escape(self._of(item, "name"))}</th>' for item in used)
        rows = "".join(
            f"<tr><td><code>{escape(column)}</code></td>"
            + "".join(_heat(row.get(item["name"])) for item in used)
            + "</tr>"
            for column, row in cells.items()
        )
        first = f"<tr><th>{self._t('columns')}</th>{head}</tr>"
        return f'<h2>{self._t("matrix")}</h2><table class="heat">{first}{rows}</table>'

    def _indicators(self) -> str:
        rows = []
        for item in self._report["indicators"]:
            ratio = (
                f'<span class="muted">{self._t("not_assessed")}</span>'
                if item["x_micro"] is None
                else f"{item['numerator']:,} / {item['denominator']:,}"
            )
            share = "—" if item["x_micro"] is None else _percent(item["x_micro"])
            rows.append(
                f"<tr><td><code>{escape(item['code'])}</code> {escape(self._of(item, 'name'))}</td>"
                f'<td class="n">{ratio}</td><td class="n">{share}</td></tr>'
            )
        half = (len(rows) + 1) // 2
        tables = "".join(f"<table>{''.join(part)}</table>" for part in (rows[:half], rows[half:]))
        return f'<h2>{self._t("indicators")}</h2><div class="two">{tables}</div>'

    def _footer(self) -> str:
        report = self._report
        cell, base = report["disclosure"]["cell_min"], report["disclosure"]["round_base"]
        move = report["disclosure"].get("move_min", 1)
        weights = "，" if self._zh else ", "
        severities = weights.join(
            f"{self._pick(SEVERITY, key)} {value}"
            for key, value in sorted(report["profile"]["severity_weights"].items())
        )
        grades = weights.join(
            f"{self._pick(GRADE, item['grade'])} ≥ {hundredths(item['from_x100'])}"
            for item in report["profile"]["grades"]
        )
        least = hundredths(report["profile"]["score_min_x100"])
        if self._zh:
            method = (
                f"本报告只含汇总数：1 至 {cell - 1} 的计数显示为「&lt;{cell}」并按 {cell} 计分，其余计数取整到 {base}，"
                f"全表变动不足 {move} 行时沿用上次数字；"
                "不含任何原始取值、取值范围与样例。规则得分 = 1 − 问题数/检查数；"
                f"维度得分按级别加权（{severities}）；等级：{grades}；"
                f"综合得分低于 {least}、任一维度低于门限或关键规则不通过即暂停使用；未评估不等于满分。"
            )
        else:
            method = (
                f"Aggregates only: a count from 1 to {cell - 1} is shown as &lt;{cell} and scored as {cell}, "
                f"others are rounded to {base} and stay as they were while fewer than {move} rows of the table "
                "changed; no value, bound or sample of the table is in this report. "
                f"Rule score = 1 − failing/checked; dimensions are weighted by severity ({severities}); "
                f"grades: {grades}; a total below {least}, a dimension below its threshold or a failed critical rule "
                "holds the resource; not assessed is not a full score."
            )
        digest = f"<br>{self._t('digest')} <code>{escape(self._sha256)}</code>" if self._sha256 else ""
        signed = signature_text(report, self._signature, "zh" if self._zh else "en")
        block = f"<h2>{self._t('signature')}</h2><p>{escape(signed)}{digest}</p>"
        return f"<section>{block}</section><footer>{method}</footer>"


def signature_text(report: Mapping[str, Any], signature: Mapping[str, str] | None, lang: Language) -> str:
    """Return the line that says who signed the report."""
    column = 0 if lang == "zh" else 1
    if signature is None:
        return TEXT["unsigned"][column]
    return TEXT["signed_by"][column].format(
        node=report["node"] or "—", keyid=f"{signature['keyid'][:16]}…", sig=f"{signature['sig'][:24]}…"
    )


def figures(rule: Mapping[str, Any], lang: Language) -> tuple[str, str, str, str]:
    """Return what a rule's row shows as checked, failing, rate and allowed."""
    days = " 天" if lang == "zh" else " d"
    if "lag_days" in rule:
        return "—", f"{rule['lag_days']}{days}", "—", f"≤ {rule['promised_days']}{days}"
    if "psi_x100" in rule:
        return "—", f"PSI {hundredths(rule['psi_x100'])}", "—", f"≤ {hundredths(rule['psi_max_x100'])}"
    if rule["unit"] != "rows":
        return "—", "—", "—", "—"
    failing = f"<{rule['failing_below']}" if rule["failing_below"] else _count(rule["failing"])
    return _count(rule["checked"]), failing, _percent(rule["rate_micro"]), _percent(rule["allowed_micro"])


@cache
def _css() -> str:
    return resources.files("quality").joinpath("report.css").read_text(encoding="utf-8")


def moment(text: str | None, lang: Language) -> str:
    """Return a time as a reader in China reads it."""
    if not text:
        return "—"
    local = datetime.fromisoformat(text).astimezone(_CHINA)
    return f"{local:%Y-%m-%d %H:%M} {'北京时间' if lang == 'zh' else 'UTC+8'}"


def _count(value: int | None) -> str:
    return "—" if value is None else f"{value:,}"


def _percent(micro: int | None) -> str:
    return "—" if micro is None else f"{micro // 10_000}.{micro // 10 % 1_000:03d}%"


def _change(now: int | None, before: int | None) -> str:
    if now is None or before is None:
        return '<span class="muted">—</span>'
    if now == before:
        return '<span class="muted">0</span>'
    tone, arrow = ("good", "▲ ") if now > before else ("bad", "▼ ")
    return f'<span class="{tone}">{arrow}{hundredths(abs(now - before))}</span>'


def _rate_change(rule: Mapping[str, Any]) -> str:
    now, before = rule["rate_micro"], rule["previous_rate_micro"]
    if now is None or before is None or rule["unit"] != "rows":
        return '<span class="muted">—</span>'
    if now == before:
        return '<span class="muted">0</span>'
    tone, arrow = ("bad", "▲ ") if now > before else ("good", "▼ ")
    return f'<span class="{tone}">{arrow}{_percent(abs(now - before))}</span>'


def matrix(report: Mapping[str, Any]) -> tuple[dict[str, dict[str, int]], list[Mapping[str, Any]]]:
    """Return the lowest rule score in hundredths per column and dimension, and the dimensions that have one."""
    cells: dict[str, dict[str, int]] = {}
    for rule in report["rules"]:
        if rule["score_x100"] is None or rule["unit"] != "rows":
            continue
        for column in rule["columns"]:
            row = cells.setdefault(column, {})
            row[rule["dimension"]] = min(rule["score_x100"], row.get(rule["dimension"], 10_000))
    return cells, [item for item in report["dimensions"] if any(item["name"] in row for row in cells.values())]


def heat(score: int | None) -> str:
    """Return the colour of a cell of the matrix."""
    if score is None:
        return "#ffffff"
    return "#dff1e7" if score >= 9_900 else "#edf6e3" if score >= 9_500 else "#fdf0d5" if score >= 9_000 else "#fadedb"


def _heat(score: int | None) -> str:
    if score is None:
        return '<td class="c muted">·</td>'
    return f'<td class="c" style="background:{heat(score)}">{hundredths(score)}</td>'
