"""The pre-release report: ten items, each filled from measurements. Pure.

The operator hands it to the data administration and the source departments before release.
An item without a measurement is empty and refuses; one whose measurement misses its limit
refuses too. Nothing in it is free text alone.

Privacy: scores, counts, dates and digests of signed statements; no value of a row.

Source:
    吉林省公共数据资源授权运营实施细则, operation section, paragraph 5 (JL-运营实施-15 to -25), PREREL-ITEM.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from factory.review.errors import PrereleaseError
from factory.review.finding import Finding
from nodes.contract import canonical
from nodes.contract.canonical import JsonObject
from nodes.contract.grant import Grant
from nodes.contract.signing import sha256_hex
from nodes.contract.statement import NODE_RUN, RESOURCE, read
from products import kinds
from products.errors import MalformedError
from products.forms import Form
from products.package.exports import CROISSANT

ITEMS: Mapping[str, tuple[str, str, str]] = {
    "legality": ("数据合法性", "Legality of data", "JL-运营实施-16"),
    "accuracy": ("准确性", "Accuracy", "JL-运营实施-17"),
    "consistency": ("一致性", "Consistency", "JL-运营实施-18"),
    "conformity": ("规范性", "Conformity", "JL-运营实施-19"),
    "completeness": ("完整性", "Completeness", "JL-运营实施-20"),
    "timeliness": ("时效性", "Timeliness", "JL-运营实施-21"),
    "accessibility": ("可访问性", "Accessibility", "JL-运营实施-22"),
    "circulation_risk": ("流通交易风险性", "Risk of circulation and trading", "JL-运营实施-23"),
    "masking": ("敏感数据脱敏", "Masking of sensitive data", "JL-运营实施-24"),
    "consent": ("特定主体知情同意等", "Informed consent of specific subjects", "JL-运营实施-25"),
}
"""The ten items with their clauses."""

_DIMENSIONS = ("accuracy", "consistency", "conformity", "completeness", "timeliness", "accessibility")
QUALITY_AGE_DAYS_MAX = 366
"""Oldest quality report of a source when the run that used it started, in days (docs/reference/trust.md)."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One measurement behind an item.

    Attributes:
        what_zh, what_en: what was measured.
        value, limit: integers in ``unit``.
        is_ok: whether the limit is kept.
        unit: of both.
        evidence_sha256: digest of the statement, report or finding it was taken from.
        is_most: the limit is the largest value allowed, not the least.
    """

    what_zh: str
    what_en: str
    value: int
    limit: int
    is_ok: bool
    unit: str
    evidence_sha256: str
    is_most: bool = False


@dataclass(frozen=True, slots=True)
class Item:
    """One of the ten items.

    Attributes:
        name: key of ``ITEMS``.
        measures: what fills it.
    """

    name: str
    measures: tuple[Measure, ...]

    @property
    def is_met(self) -> bool:
        """Whether it is filled and every measurement keeps its limit."""
        return bool(self.measures) and all(measure.is_ok for measure in self.measures)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the report is measured from.

    Attributes:
        form: of the product.
        product_files: the deliverable, by path below ``data/product/``.
        metadata_files: documents beside it, by path below ``data/metadata/``.
        grant: the grant it was made under, verified.
        grant_sha256: digest of its payload.
        resources: verified payloads of the resource statements.
        quality_reports: verified report per resource id.
        runs: verified payloads of the node-run statements.
        findings: results of the automated tests.
        now: clock.
    """

    form: Form
    product_files: Mapping[str, bytes]
    metadata_files: Mapping[str, bytes]
    grant: Grant
    grant_sha256: str
    resources: Sequence[bytes]
    quality_reports: Mapping[str, bytes]
    runs: Sequence[bytes]
    findings: Sequence[Finding]
    now: datetime


def measure_items(evidence: Evidence) -> tuple[Item, ...]:
    """Fill the ten items from statements, quality reports and test findings."""
    measures: dict[str, list[Measure]] = {name: [] for name in ITEMS}
    _legality(evidence, measures["legality"])
    _quality(evidence, measures)
    _runs(evidence, measures)
    _product(evidence, measures)
    for finding in evidence.findings:
        target = ["circulation_risk"]
        if finding.test in {"identifiers", "canaries"}:
            target += ["masking", "consent"]
        for name in target:
            measures[name].append(_of_finding(finding))
    return tuple(Item(name, tuple(found)) for name, found in measures.items())


def require_complete(items: Sequence[Item]) -> None:
    """Refuse a report with an empty or missed item.

    Raises:
        PrereleaseError: names the items and what was measured.
    """
    told = []
    by_name = {item.name: item for item in items}
    for name, (title_zh, title_en, clause) in ITEMS.items():
        item = by_name.get(name)
        if item is None or not item.measures:
            told.append(f"{title_en} {title_zh} is empty [PREREL-ITEM, {clause}]")
        elif not item.is_met:
            missed = [m for m in item.measures if not m.is_ok]
            words = "; ".join(f"{m.what_en}: {m.value}, limit {m.limit} {m.unit}" for m in missed[:3])
            told.append(f"{title_en} {title_zh} is not met ({words}) [PREREL-ITEM, {clause}]")
    if told:
        raise PrereleaseError("expected ten items filled from measurements: " + " | ".join(told))


def report_json(items: Sequence[Item], *, product: str, grant_sha256: str, now: datetime) -> bytes:
    """Return the report as canonical JSON, the file ``data/metadata/prerelease.json`` of a product."""
    from nodes.contract.statement import time_text

    value: JsonObject = {
        "version": 1,
        "product": product,
        "grant_sha256": grant_sha256,
        "measured_at": time_text(now),
        "items": [
            {
                "item": item.name,
                "title_zh": ITEMS[item.name][0],
                "title_en": ITEMS[item.name][1],
                "clause": ITEMS[item.name][2],
                "met": item.is_met,
                "measures": [
                    {
                        "what_zh": m.what_zh,
                        "what_en": m.what_en,
                        "value": m.value,
                        "limit": m.limit,
                        "ok": m.is_ok,
                        "unit": m.unit,
                        "evidence_sha256": m.evidence_sha256,
                    }
                    for m in item.measures
                ],
            }
            for item in items
        ],
    }
    return canonical.dumps(value)


def report_html(items: Sequence[Item], *, product: str) -> bytes:
    """Return the report as one page, Chinese first; no script, no outside resource."""
    from html import escape

    parts = []
    for number, item in enumerate(items, start=1):
        title_zh, title_en, clause = ITEMS[item.name]
        met = _mark(item.is_met, "符合 met", "不符合 not met")
        parts.append(
            f"<section><h2>{number}. {title_zh} <small>{title_en} · {clause}</small>{met}</h2><table><thead><tr>"
            "<th>测量内容 measurement<th class=n>测得 value<th class=n>限值 limit<th>单位 unit<th>结论<th>证据 evidence"
            "</tr></thead>"
        )
        parts += [
            f"<tr><td>{escape(m.what_zh)}<br><small>{escape(m.what_en)}</small><td class=n>{_shown(m.value, m.unit)}"
            f"<td class=n>{'≤' if m.is_most else '≥'} {_shown(m.limit, m.unit)}<td>{escape(UNITS.get(m.unit, m.unit))}"
            f"<td>{_mark(m.is_ok, '✓', '✗')}<td><code>{m.evidence_sha256[:12]}</code></tr>"
            for m in item.measures
        ]
        parts.append("</table></section>")
    met_count = sum(item.is_met for item in items)
    head = (
        f"<p><b>{escape(product)}</b> · {met_count}/{len(items)} 项符合 items met · "
        "每项均由测量得出，证据为所依据声明、报告或检测结果的 SHA-256 前十二位。"
        "<small>Every item is filled from measurements; evidence is the start of the SHA-256 of what was measured."
        "</small></p>"
    )
    return (_PAGE_HEAD + head + "".join(parts) + "</main></body></html>\n").encode()


def _mark(is_ok: bool, yes: str, no: str) -> str:
    return f'<span class="{"ok" if is_ok else "bad"}">{yes if is_ok else no}</span>'


def _shown(value: int, unit: str) -> str:
    places = DECIMALS.get(unit.partition(" ")[0], 0)
    return f"{value / 10**places:,.{places}f}"


def _legality(evidence: Evidence, measures: list[Measure]) -> None:
    grant = evidence.grant
    for payload in evidence.resources:
        predicate = read(payload, RESOURCE)[1]
        until = _day(predicate["registration"]["valid_until"])
        days = (until - evidence.now).days if until else -1
        name = predicate["resource"]["id"]
        measures.append(
            Measure(
                f"来源 {name} 登记剩余有效期",
                f"remaining validity of the registration of {name}",
                days,
                1,
                days >= 1 and bool(predicate["registration"]["code"]),
                "days",
                sha256_hex(payload),
            )
        )
    signed = len(grant.registrars) + len(grant.parties)
    measures.append(
        Measure("授权签署方", "bodies that sign the grant", signed, 3, signed >= 3, "signers", evidence.grant_sha256)
    )
    inside = sum(_run_inside_grant(payload, evidence) for payload in evidence.runs)
    measures.append(
        Measure(
            "在授权用途与期限内的运行",
            "runs for the granted purpose within the granted term",
            inside,
            len(evidence.runs),
            bool(evidence.runs) and inside == len(evidence.runs),
            "runs",
            evidence.grant_sha256,
        )
    )


def _quality(evidence: Evidence, measures: Mapping[str, list[Measure]]) -> None:
    for resource, content in sorted(evidence.quality_reports.items()):
        report = canonical.loads(content)
        dimensions = report.get("dimensions")
        for dimension in dimensions if isinstance(dimensions, list) else []:
            if not isinstance(dimension, dict) or dimension.get("name") not in _DIMENSIONS:
                continue
            score, threshold = dimension.get("score_x100"), dimension.get("threshold_x100")
            if not isinstance(score, int) or not isinstance(threshold, int):
                continue  # not assessed by this suite: it fills nothing
            measures[str(dimension["name"])].append(
                Measure(
                    f"来源 {resource} 的{dimension.get('name_zh')}得分",
                    f"score of {resource} in {dimension['name']}",
                    score,
                    threshold,
                    score >= threshold,
                    "hundredths",
                    sha256_hex(content),
                )
            )


def _runs(evidence: Evidence, measures: Mapping[str, list[Measure]]) -> None:
    stated = {}
    for payload in evidence.resources:
        predicate = read(payload, RESOURCE)[1]
        stated[predicate["resource"]["id"]] = (predicate, sha256_hex(payload))
    for payload in evidence.runs:
        run = read(payload, NODE_RUN)[1]
        for used in run["resources"]:
            predicate, digest = stated.get(used["id"], ({}, evidence.grant_sha256))
            same = bool(predicate) and used["quality"]["report_sha256"] == predicate["quality"]["report_sha256"]
            measures["consistency"].append(
                Measure(
                    f"{run['node']} 所用 {used['id']} 与登记声明一致",
                    f"{used['id']} as {run['node']} used it equals the resource statement",
                    int(same),
                    1,
                    same,
                    "of 1",
                    digest,
                )
            )
            assessed = _day(predicate["quality"]["assessed_at"]) if predicate else None
            started = _day(run["started_at"])
            age = (started - assessed).days if assessed and started else QUALITY_AGE_DAYS_MAX + 1
            measures["timeliness"].append(
                Measure(
                    f"{used['id']} 质量评估距运行",
                    f"age of the quality report of {used['id']} at the run",
                    age,
                    QUALITY_AGE_DAYS_MAX,
                    age <= QUALITY_AGE_DAYS_MAX,
                    "days",
                    digest,
                    is_most=True,
                )
            )
            score, least = used["quality"]["score_x100"], evidence.grant.thresholds.quality_score_min
            measures["accuracy"].append(
                Measure(
                    f"{used['id']} 运行时质量总分",
                    f"quality score of {used['id']} at the run",
                    score,
                    least,
                    score >= least,
                    "hundredths",
                    sha256_hex(payload),
                )
            )
    took_part = len({read(payload, NODE_RUN)[1]["node"] for payload in evidence.runs})
    least = min(evidence.grant.thresholds.contributors_min, len(evidence.grant.parties))
    measures["completeness"].append(
        Measure(
            "提供运行声明的部门",
            "departments with a signed run statement",
            took_part,
            least,
            took_part >= least,
            "departments",
            evidence.grant_sha256,
        )
    )


def _product(evidence: Evidence, measures: Mapping[str, list[Measure]]) -> None:
    names = [f"data/product/{name}" for name in evidence.product_files]
    names += [f"data/metadata/{name}" for name in evidence.metadata_files]
    if evidence.form == "dataset":
        names.append(CROISSANT)  # the package makes it from the files that are measured here
    lacking, banned = len(kinds.missing(evidence.form, names)), len(kinds.forbidden(evidence.form, names))
    listing = sha256_hex(
        canonical.dumps({name: sha256_hex(content) for name, content in sorted(evidence.product_files.items())})
    )
    measures["conformity"].append(
        Measure(
            "缺少或禁止的组成部分",
            "parts that are missing or not allowed for this form",
            lacking + banned,
            0,
            lacking + banned == 0,
            "parts",
            listing,
            is_most=True,
        )
    )
    unreadable = 0
    for name, content in evidence.product_files.items():
        path = f"data/product/{name}"
        try:
            if kinds.is_content_checked(path):
                kinds.require_content(path, content)
            unreadable += not content
        except MalformedError:
            unreadable += 1
    measures["accessibility"].append(
        Measure(
            "无法打开的产品文件",
            "product files that cannot be opened",
            unreadable,
            0,
            unreadable == 0,
            "files",
            listing,
            is_most=True,
        )
    )


def _of_finding(finding: Finding) -> Measure:
    return Measure(
        finding.title_zh,
        finding.title_en,
        finding.value,
        finding.limit,
        finding.is_ok,
        finding.unit,
        finding.sha256,
        is_most=True,
    )


def _run_inside_grant(payload: bytes, evidence: Evidence) -> bool:
    run, grant = read(payload, NODE_RUN)[1], evidence.grant
    started, finished = _day(run["started_at"]), _day(run["finished_at"])
    return bool(
        started
        and finished
        and grant.not_before <= started + timedelta(seconds=1)
        and finished < grant.not_after
        and run["purpose"] == grant.purpose
        and run["grant"] == {"id": grant.grant_id, "sha256": evidence.grant_sha256}
    )


def _day(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else None


DECIMALS = {"hundredths": 2, "millionths": 6}
"""Decimal places of a unit that counts parts."""

UNITS = {
    "hundredths": "分 points",
    "days": "天 days",
    "signers": "方 signers",
    "runs": "次 runs",
    "of 1": "—",
    "departments": "个部门 departments",
    "parts": "处 parts",
    "files": "个文件 files",
    "identifiers": "处 identifiers",
    "occurrences": "处 occurrences",
    "cells": "格 cells",
    "millionths of AUC": "AUC",
    "millionths": "比例 share",
    "rows": "行 rows",
    "records": "条 records",
    "groups": "组 groups",
    "domains": "个领域 domains",
}
"""Units as people read them; others are shown as they are."""

_PAGE_HEAD = """<!DOCTYPE html>
<html lang="zh"><head><meta charset="utf-8"><title>发布前评估报告 Pre-release report</title>
<style>body{font:15px/1.6 "Noto Sans CJK SC","PingFang SC","Microsoft YaHei",sans-serif;margin:0;background:#eef1f5;
color:#1b2430}
main{max-width:62em;margin:1.6em auto;padding:2em 2.4em;background:#fff;border-top:5px solid #1d5cbf}
h1{margin:0 0 .4em;font-size:1.7em}h1 small{display:block;font-size:.5em;color:#66707c;font-weight:normal}
h2{font-size:1.05em;margin:1.8em 0 .5em;padding-left:.6em;border-left:4px solid #1d5cbf}
small{color:#66707c;font-weight:normal}table{border-collapse:collapse;width:100%;
table-layout:fixed;font-size:.92em}th:nth-child(n+2){width:7em}th:nth-child(5){width:3em}
th,td{padding:.4em .6em;text-align:left;vertical-align:top;border-bottom:1px solid #e3e7ec}
th{background:#f4f6f9;font-weight:600}.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
.ok{color:#17703f}.bad{color:#b3261e;font-weight:600}h2 .ok,h2 .bad{float:right;font-size:.85em}
@media print{body{background:#fff}main{margin:0;padding:0;border:0}section{break-inside:avoid}}</style></head>
<body><main><h1>发布前评估报告<small>Pre-release report</small></h1>
"""
