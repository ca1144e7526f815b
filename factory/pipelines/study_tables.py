"""Statistics that are more than a table, in the form of a table for pages and files."""

from collections.abc import Mapping, Sequence
from typing import Any

from factory.pipelines.charts import Kind
from factory.pipelines.pages import Cell, Table
from factory.pipelines.recipe import PresentationSection

_Form = tuple[Sequence[tuple[str, tuple[Cell, ...]]], tuple[str, ...], Kind]
"""Rows with their titles, column titles, and what is drawn."""
_NOTHING: _Form = ((), (), "none")
_CONSTANT = "常数项 constant"


def study_table(study: Mapping[str, Any], shown: PresentationSection) -> Table:
    """Return one of the agency's studies in the form of a page.

    Args:
        study: see ``factory.agency.studies``.
        shown: its titles, unit and labels.
    """
    rows, columns, chart = _FORMS[study["kind"]](study, shown) if study["rows"] else _NOTHING
    count = "" if study["count"] is None else f"；约 {study['count']:,} 行"
    count_en = "" if study["count"] is None else f"; about {study['count']:,} rows"
    extras = _extras(study)
    return Table(
        name=study["name"],
        title_zh=shown.title_zh,
        title_en=shown.title_en,
        unit_zh=shown.unit_zh,
        unit_en=shown.unit_en,
        row_titles=tuple(title for title, _ in rows),
        column_titles=columns,
        cells=tuple(cells for _, cells in rows),
        chart=chart,
        error_zh=f"{study['error']['zh']}{count}{extras}" if study["rows"] else "",
        error_en=f"{study['error']['en']}{count_en}{extras.replace('；', '; ')}" if study["rows"] else "",
        withheld=study["reason"],
    )


def _extras(study: Mapping[str, Any]) -> str:
    found = "" if "r_squared" not in study else f"；R² = {study['r_squared']}"
    return found + ("" if "dof" not in study else f"；df ≈ {study['dof']:,}")


def _label(text: str, shown: PresentationSection) -> str:
    return shown.labels.get(text, text)


def _quantiles(study: Mapping[str, Any], shown: PresentationSection) -> _Form:
    def name(permille: int) -> str:
        return {250: "下四分位 P25", 500: "中位数 P50", 750: "上四分位 P75"}.get(permille, f"P{permille / 10:g}")

    rows = [(name(row["permille"]), (Cell(row["value"], row["reason"]),)) for row in study["rows"]]
    return rows, (f"{shown.unit_zh} {shown.unit_en}".strip() or "值 value",), "none"


def _correlations(study: Mapping[str, Any], shown: PresentationSection) -> _Form:
    names = list(dict.fromkeys(name for row in study["rows"] for name in (row["first"], row["second"])))
    found = {frozenset((row["first"], row["second"])): row["value"] for row in study["rows"]}
    rows = [
        (
            _label(one, shown),
            tuple(Cell("1" if one == other else found[frozenset((one, other))]) for other in names),
        )
        for one in names
    ]
    return rows, tuple(_label(name, shown) for name in names), "none"


def _term(row: Mapping[str, Any], shown: PresentationSection) -> str:
    if not row["column"]:
        return _CONSTANT
    column = _label(row["column"], shown)
    return column if not row["value"] else f"{column}：{_label(row['value'], shown)}"


def _linear(study: Mapping[str, Any], shown: PresentationSection) -> _Form:
    rows = [(_term(row, shown), (Cell(row["estimate"]), Cell(row["standard_error"]))) for row in study["rows"]]
    return rows, ("系数 coefficient", "标准误 standard error"), "none"


def _logistic(study: Mapping[str, Any], shown: PresentationSection) -> _Form:
    names = ("odds_ratio", "odds_low", "odds_high", "estimate", "standard_error")
    terms = [row for row in study["rows"] if row["column"]]
    rows = [(_term(row, shown), tuple(Cell(row[name]) for name in names)) for row in terms]
    heads = ("优势比 odds ratio", "95% 下限 low", "95% 上限 high", "系数 coefficient", "标准误 s.e.")
    return rows, heads, "intervals"


def _top(study: Mapping[str, Any], shown: PresentationSection) -> _Form:
    rows = [
        (f"{place}. {_label(row['value'], shown)}", (Cell(str(row["count"])),))
        for place, row in enumerate(study["rows"], start=1)
    ]
    return rows, (f"{shown.unit_zh} {shown.unit_en}".strip() or "件数 count",), "bars"


_FORMS = {
    "quantiles": _quantiles,
    "correlation": _correlations,
    "linear": _linear,
    "logistic": _logistic,
    "top": _top,
}
