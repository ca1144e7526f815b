"""Drafts: a suite from the table itself, for a person to edit.

Types, empty cells, keys, ranges and small code tables are read from the data; identity numbers,
credit codes, mobile numbers and division codes are recognised by name and confirmed by content.
The draft stays at the node: its code tables are values. It says what the table *is*, so a
person must say what it *should be*, above all bounds, tolerances and severities.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from quality import functions
from quality.drift import DRIFT, GROWTH
from quality.drift import ROWS_MIN as DRIFT_ROWS_MIN
from quality.errors import SourceError
from quality.plan import FRESHNESS, MOBILE_REGEX
from quality.projection import WITHHELD
from quality.projection import name as published_name
from quality.sources import BATCH, Source, open_source, quoted
from quality.suite import ColumnType, Rule, Severity, Suite

if TYPE_CHECKING:
    import duckdb

_SAMPLE = 100_000
_CODES_MAX = 20
_SHARE_MIN = 0.9
_CODE_LENGTH_MIN = 6
_KEY_SHARE = 0.99
# Names by which departments call these columns, and what must hold for the content.
_FORMATS: tuple[tuple[str, str, str, str, str], ...] = (
    (
        r"身份证|身份号|公民身份|id_?no|id_?card|idcard|sfz",
        "resident_id",
        "expect_column_values_to_be_valid_resident_ids",
        "公民身份号码有效（GB 11643）",
        "Identity number is valid (GB 11643)",
    ),
    (
        r"信用代码|uscc|xydm|credit_?code",
        "uscc",
        "expect_column_values_to_be_valid_usccs",
        "统一社会信用代码有效（GB 32100）",
        "Credit code is valid (GB 32100)",
    ),
    (
        r"手机|mobile|phone|联系电话",
        "mobile",
        "expect_column_values_to_be_mobile_numbers",
        "手机号码格式合规",
        "Mobile number has the right format",
    ),
    (
        r"区划|division|xzqh",
        "division",
        "expect_column_values_to_be_division_codes",
        "行政区划代码有效（GB/T 2260）",
        "Division code is valid (GB/T 2260)",
    ),
)
_TESTS = {
    "resident_id": "resident_id_valid({c})",
    "uscc": "uscc_valid({c})",
    "mobile": "regexp_matches({c}, '" + MOBILE_REGEX + "')",
    "division": "division_valid({c})",
}
_UPDATED = re.compile(r"更新|变更|updated|modified|gxsj|last_change", re.IGNORECASE)
_BIRTH = re.compile(r"出生|birth|csrq", re.IGNORECASE)
_SEX = re.compile(r"^性别$|^sex$|^gender$|^xb$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Column:
    """What was seen of one column; values of the table, so it stays here."""

    name: str
    type: ColumnType
    filled: float
    distinct: int
    low: Any
    high: Any
    codes: tuple[Any, ...]
    format: str


def suggest(source: Source, *, name: str, update_frequency_days: int = 30) -> Suite:
    """Draft a suite for a table.

    Args:
        source: the table; of a large one the first 100,000 rows are looked at.
        name: of the suite.
        update_frequency_days: promised in the catalogue.

    Raises:
        SourceError: the table cannot be read, is empty, or its header looks like data.
    """
    types = _types(source, name)
    draft = Suite(name, "0.1.0", types, ())
    with open_source(source, draft) as opened:
        connection = opened.connection
        functions.register(connection)
        rows = int(connection.execute(f"SELECT count(*) FROM {BATCH}").fetchall()[0][0])  # noqa: S608 - fixed name
        if rows == 0:
            raise SourceError("source.empty", "expected rows to draft a suite from")
        columns = [_look(connection, column, kind) for column, kind in types.items()]
    return Suite(name, "0.1.0", types, tuple(_numbered(_rules(columns, rows, update_frequency_days))))


def _types(source: Source, name: str) -> dict[str, ColumnType]:
    """Guess the type of every column from its texts."""
    probe = Suite(name, "0.1.0", {}, ())
    with open_source(source, probe) as opened:
        names = opened.columns
    if any(published_name(column) == WITHHELD for column in names):
        raise SourceError("source.header", "expected a header of names, got one that looks like data")
    as_text = Suite(name, "0.1.0", dict.fromkeys(names, "text"), ())
    with open_source(source, as_text) as opened:
        return {column: _type(opened.connection, column) for column in names}


def _type(connection: "duckdb.DuckDBPyConnection", column: str) -> ColumnType:
    c = quoted(column)
    dashed = f"translate({c}, '/年月日', '---')"
    # A leading zero or more than 15 digits: a code, not a number.
    sql = (
        f"SELECT count({c}), count(try_cast({c} AS DOUBLE)),"  # noqa: S608 - quoted name, fixed number
        f" count(*) FILTER (regexp_matches({c}, '^-?[0-9]{{1,15}}$')),"
        f" count(*) FILTER (regexp_matches({c}, '^0[0-9]|^[0-9]{{16,}}')),"
        f" count(*) FILTER (regexp_matches({c}, '^[0-9]{{4}}[-/年]') AND try_cast({dashed} AS DATE) IS NOT NULL),"
        f" min(length({c})), max(length({c}))"
        f" FROM (SELECT {c} FROM {BATCH} LIMIT {_SAMPLE})"
    )
    filled, numbers, integers, codes, dates, shortest, longest = connection.execute(sql).fetchall()[0]
    most = _SHARE_MIN * filled
    if filled and dates >= most:
        return "date"
    numeric = filled and numbers >= most and not codes
    # Digits of one length, six or more, name something: a number of that kind would vary in length.
    if not numeric or (integers == filled and shortest == longest and shortest >= _CODE_LENGTH_MIN):
        return "text"
    return "integer" if integers == numbers else "number"


def _look(connection: "duckdb.DuckDBPyConnection", name: str, kind: ColumnType) -> _Column:
    c = quoted(name)
    relation = f"(SELECT {c} FROM {BATCH} LIMIT {_SAMPLE})"  # noqa: S608 - quoted name, fixed number
    ends = f"min({c}), max({c})" if kind != "text" else f"min(length({c})), max(length({c}))"
    total, filled, distinct, low, high = connection.execute(
        f"SELECT count(*), count({c}), count(DISTINCT {c}), {ends} FROM {relation}"  # noqa: S608 - as above
    ).fetchall()[0]
    codes: tuple[Any, ...] = ()
    if kind in ("text", "integer") and 0 < distinct <= _CODES_MAX and distinct * 10 <= filled:
        found = connection.execute(f"SELECT DISTINCT {c} FROM {relation} WHERE {c} IS NOT NULL ORDER BY 1").fetchall()  # noqa: S608 - as above
        codes = tuple(row[0] for row in found)
    form = _format(connection, name, relation, filled) if kind == "text" and filled else ""
    return _Column(name, kind, filled / total if total else 0.0, distinct, low, high, codes, form)


def _format(connection: "duckdb.DuckDBPyConnection", name: str, relation: str, filled: int) -> str:
    """Return the domain format that the content keeps: nine of ten cells if the name fits too, else nearly all."""
    for pattern, form, *_ in _FORMATS:
        test = _TESTS[form].replace("{c}", quoted(name))
        good = connection.execute(f"SELECT count(*) FILTER ({test}) FROM {relation}").fetchall()[0][0]  # noqa: S608 - as above
        named = re.search(pattern, name, re.IGNORECASE) is not None
        if good >= filled * (_SHARE_MIN if named else 0.99):
            return form
    return ""


def _rules(columns: Sequence[_Column], rows: int, days: int) -> list[Rule]:
    rules = [
        _rule(
            "expect_table_row_count_to_be_between",
            {"min_value": max(1, rows // 2)},
            "0202",
            "critical",
            "记录数达到应有规模",
            "As many records as expected",
        ),
        _rule(GROWTH, {"percent": 50}, "0202", "minor", "记录数较上次交付稳定", "About as many records as before"),
    ]
    for column in columns:
        rules += _column_rules(column, min(rows, _SAMPLE))
    rules += _cross_rules(columns)
    dated = [column for column in columns if column.type == "date" and _UPDATED.search(column.name)]
    kwargs: Mapping[str, Any] = {"days": days}
    kind = "expect_table_delivery_to_be_within_days"
    if dated:
        kind, kwargs = FRESHNESS, {"column": dated[0].name, "days": days}
    rules.append(_rule(kind, kwargs, "0502", "critical", "按承诺频率更新", "Updated as often as promised"))
    return rules


def _column_rules(column: _Column, rows: int) -> list[Rule]:
    name, found = column.name, []
    if column.filled == 1 or column.filled >= _SHARE_MIN:
        kwargs: dict[str, Any] = {"column": name}
        if column.filled < 1:
            kwargs["mostly"] = math.floor(column.filled * 100) / 100
        severity: Severity = "major" if column.filled == 1 else "minor"
        found.append(_rule("expect_column_values_to_not_be_null", kwargs, "0201", severity, "已填写", "Is filled in"))
    if column.type in ("text", "integer") and column.distinct >= _KEY_SHARE * rows and rows > 1:
        kwargs = {"column": name, "mostly": 1 if column.distinct == rows else 0.98}
        found.append(_rule("expect_column_values_to_be_unique", kwargs, "0304", "critical", "不重复", "Occurs once"))
    if column.format:
        _, _, kind, zh, en = next(item for item in _FORMATS if item[1] == column.format)
        found.append(_rule(kind, {"column": name, "mostly": 0.99}, "0301", "major", zh, en))
    elif column.codes:
        kwargs = {"column": name, "value_set": list(column.codes), "mostly": 0.99}
        found.append(
            _rule("expect_column_values_to_be_in_set", kwargs, "0101", "major", "取值在代码表内", "Is a listed code")
        )
    elif column.type == "text" and column.high is not None:
        kwargs = {"column": name, "min_value": 1, "max_value": int(column.high) * 2, "mostly": 0.99}
        found.append(
            _rule(
                "expect_column_value_lengths_to_be_between",
                kwargs,
                "0302",
                "minor",
                "长度合规",
                "Has a plausible length",
            )
        )
    elif column.low is not None:
        found.append(_range(column))
    if column.format == "resident_id":
        kind, zh, en = (
            "expect_resident_id_regions_to_have_existed",
            "号码中的行政区划在出生时或之后有效",
            "Region existed",
        )
        found.append(_rule(kind, {"column": name, "mostly": 0.99}, "0105", "minor", zh, en))
    if column.type == "number" and rows >= DRIFT_ROWS_MIN:
        zh, en = "分布较上次交付稳定（PSI）", "Distribution is stable (PSI)"
        found.append(_rule(DRIFT, {"column": name, "max_psi": 0.25}, "0501", "minor", zh, en))
    return found


def _range(column: _Column) -> Rule:
    if column.type == "date":
        kwargs: dict[str, Any] = {"column": column.name, "min_value": f"{column.low.year}-01-01", "mostly": 0.99}
    else:
        low, high = _outward(float(column.low), up=False), _outward(float(column.high), up=True)
        kwargs = {"column": column.name, "min_value": low, "max_value": high, "mostly": 0.99}
    return _rule(
        "expect_column_values_to_be_between", kwargs, "0104", "major", "在合理范围", "Is within a plausible range"
    )


def _outward(value: float, *, up: bool) -> int:
    """Round away from the data to two digits, so that a bound is not the extreme value of one row."""
    if value == 0:
        return 0
    step = 10 ** max(0, math.floor(math.log10(abs(value))) - 1)
    return int(math.ceil(value / step) * step) if up else int(math.floor(value / step) * step)


def _cross_rules(columns: Sequence[_Column]) -> list[Rule]:
    ids = [column for column in columns if column.format == "resident_id"]
    if not ids:
        return []
    found = []
    births = [column for column in columns if column.type == "date" and _BIRTH.search(column.name)]
    if births:
        kwargs = {"column_A": ids[0].name, "column_B": births[0].name, "mostly": 0.99}
        zh, en = "出生日期与身份号码一致", "Date of birth agrees with the identity number"
        found.append(_rule("expect_birth_dates_to_match_resident_ids", kwargs, "0402", "major", zh, en))
    sexes = [column for column in columns if _SEX.search(column.name) and set(column.codes) <= {"男", "女"}]
    if sexes:
        kwargs = {"column_A": ids[0].name, "column_B": sexes[0].name, "mostly": 0.99}
        zh, en = "性别与身份号码一致", "Sex agrees with the identity number"
        found.append(_rule("expect_sexes_to_match_resident_ids", kwargs, "0402", "major", zh, en))
    return found


def _rule(
    kind: str,
    kwargs: Mapping[str, Any],
    indicator: str,
    severity: Literal["critical", "major", "minor"],
    *titles: str,
) -> Rule:
    zh, en = titles
    return Rule("R", kind, kwargs, indicator, severity, zh, en)


def _numbered(rules: Sequence[Rule]) -> list[Rule]:
    return [
        Rule(f"R-{index:03d}", rule.type, rule.kwargs, rule.indicator, rule.severity, rule.title_zh, rule.title_en)
        for index, rule in enumerate(rules, start=1)
    ]
