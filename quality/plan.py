"""Plans: which SQL measures answer a rule, so that one scan answers a whole suite.

Pure. A plan maps the *metrics* an expectation declares in Great Expectations to SQL over
``batch``; Great Expectations itself then judges the metrics. A rule that has no plan (another
expectation, an argument we do not know, a regular expression whose meaning differs between
RE2 and Python) is run by Great Expectations on pandas: slower, never skipped.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

from quality.sources import BAD, BATCH, literal, quoted
from quality.suite import ColumnType, Rule

FRESHNESS = "expect_column_max_to_be_within_days"
MOBILE_REGEX = "^1[3-9][0-9]{9}$"
# Python's \d, \w, \s and \b know Unicode, RE2's do not; (? opens what RE2 may not have.
_REGEX_DIFFERS = re.compile(r"\\[dDwWsSbBAZz1-9]|\(\?|[*+?}]\+")
_MAP_KEYS = frozenset({"column", "mostly"})
_PAIR_KEYS = frozenset({"column_A", "column_B", "mostly", "ignore_row_if"})


@dataclass(frozen=True, slots=True)
class Plan:
    """How to answer one rule.

    Attributes:
        rule: the rule.
        measures: SQL aggregate per metric name, for the fused scan.
        scans: SQL of a query of its own per metric name, one number each.
    """

    rule: Rule
    measures: Mapping[str, str]
    scans: Mapping[str, str]


def plan(rule: Rule, types: Mapping[str, ColumnType], parsed: frozenset[str]) -> Plan | None:
    """Return how SQL answers a rule, or ``None`` when Great Expectations must run it itself.

    Args:
        rule: of the suite.
        types: declared types of the columns that are there; the rule's columns are among them.
        parsed: columns with a flag for cells that are not of the declared type.
    """
    try:
        if rule.type in _SPECIAL:
            return _SPECIAL[rule.type](rule, types, parsed)
        if rule.type in _PREDICATES:
            return _map_plan(rule, types)
        if rule.type in _PAIRS:
            return _pair_plan(rule, types)
        if rule.type in _AGGREGATES:
            return _aggregate_plan(rule, types)
    except _NoPlanError:
        pass
    return None


def freshness_plan(rule: Rule, *, today: date) -> Plan:
    """Return the plan of a promise of freshness: the latest date is at most ``days`` before today.

    Dates after today are left out: one wrong year must not hide that a table is stale.
    """
    bound = today - timedelta(days=int(rule.kwargs["days"]))
    column = quoted(rule.kwargs["column"])
    kwargs = {"column": rule.kwargs["column"], "min_value": bound.isoformat()}
    measures = {
        "column.max": f"max({column}) FILTER (WHERE {column} <= DATE {literal(today.isoformat())})",
        "table.row_count": "count(*)",
    }
    return Plan(replace(rule, type="expect_column_max_to_be_between", kwargs=kwargs), measures, {})


class _NoPlanError(Exception):
    """Internal: this rule has no SQL form."""


def _only(rule: Rule, allowed: frozenset[str]) -> None:
    if set(rule.kwargs) - allowed:
        raise _NoPlanError


def _of_type(rule: Rule, types: Mapping[str, ColumnType], key: str, *wanted: ColumnType) -> str:
    name = rule.kwargs.get(key)
    if not isinstance(name, str) or types[name] not in wanted:
        raise _NoPlanError
    return quoted(name)


def _value(value: object, kind: ColumnType) -> str:
    match kind, value:
        case "date", str():
            return f"DATE {literal(date.fromisoformat(value[:10]).isoformat())}"
        case "integer" | "number", int() | float() if not isinstance(value, bool):
            return repr(value)
        case "text", str():
            return literal(value)
        case _:
            raise _NoPlanError


def _bounds(rule: Rule, expression: str, kind: ColumnType) -> str:
    low, high = rule.kwargs.get("min_value"), rule.kwargs.get("max_value")
    parts = []
    if low is not None:
        parts.append(f"{expression} {'>' if rule.kwargs.get('strict_min') else '>='} {_value(low, kind)}")
    if high is not None:
        parts.append(f"{expression} {'<' if rule.kwargs.get('strict_max') else '<='} {_value(high, kind)}")
    if not parts:
        raise _NoPlanError
    return " AND ".join(parts)


def _lengths(rule: Rule, types: Mapping[str, ColumnType]) -> str:
    _only(rule, _MAP_KEYS | {"min_value", "max_value", "strict_min", "strict_max"})
    return _bounds(rule, f"length({_of_type(rule, types, 'column', 'text')})", "integer")


def _length(rule: Rule, types: Mapping[str, ColumnType]) -> str:
    _only(rule, _MAP_KEYS | {"value"})
    return f"length({_of_type(rule, types, 'column', 'text')}) = {_value(rule.kwargs.get('value'), 'integer')}"


def _between(rule: Rule, types: Mapping[str, ColumnType]) -> str:
    _only(rule, _MAP_KEYS | {"min_value", "max_value", "strict_min", "strict_max"})
    column = _of_type(rule, types, "column", "integer", "number", "date")
    return _bounds(rule, column, types[rule.kwargs["column"]])


def _regex(rule: Rule, types: Mapping[str, ColumnType]) -> str:
    _only(rule, _MAP_KEYS | {"regex"})
    pattern = rule.kwargs.get("regex", MOBILE_REGEX)
    if not isinstance(pattern, str) or _REGEX_DIFFERS.search(pattern):
        raise _NoPlanError
    column = _of_type(rule, types, "column", "text")
    if "$" in pattern[:-1]:
        raise _NoPlanError
    # Python's $ also matches before a last line break, RE2's does not.
    same = pattern[:-1] + r"\n?$" if pattern.endswith("$") else pattern
    return f"regexp_matches({column}, {literal(same)})"


def _in_set(rule: Rule, types: Mapping[str, ColumnType]) -> str:
    _only(rule, _MAP_KEYS | {"value_set"})
    values, name = rule.kwargs.get("value_set"), rule.kwargs.get("column")
    if not isinstance(values, list) or not values or not isinstance(name, str) or types[name] == "date":
        raise _NoPlanError
    return f"{quoted(name)} IN ({', '.join(_value(value, types[name]) for value in values)})"


def _not(
    inner: Callable[[Rule, Mapping[str, ColumnType]], str],
) -> Callable[[Rule, Mapping[str, ColumnType]], str]:
    return lambda rule, types: f"NOT ({inner(rule, types)})"


def _function(name: str) -> Callable[[Rule, Mapping[str, ColumnType]], str]:
    def predicate(rule: Rule, types: Mapping[str, ColumnType]) -> str:
        _only(rule, _MAP_KEYS)
        return f"{name}({_of_type(rule, types, 'column', 'text')})"

    return predicate


# Expectation -> what a good, non-empty cell satisfies.
_PREDICATES: dict[str, Callable[[Rule, Mapping[str, ColumnType]], str]] = {
    "expect_column_value_lengths_to_be_between": _lengths,
    "expect_column_value_lengths_to_equal": _length,
    "expect_column_values_to_be_between": _between,
    "expect_column_values_to_match_regex": _regex,
    "expect_column_values_to_not_match_regex": _not(_regex),
    "expect_column_values_to_be_in_set": _in_set,
    "expect_column_values_to_not_be_in_set": _not(_in_set),
    "expect_column_values_to_be_mobile_numbers": _regex,
    "expect_column_values_to_be_valid_resident_ids": _function("resident_id_valid"),
    "expect_column_values_to_be_valid_usccs": _function("uscc_valid"),
    "expect_column_values_to_be_division_codes": _function("division_valid"),
    "expect_resident_id_regions_to_have_existed": _function("id_region_existed"),
}


def _greater(rule: Rule, types: Mapping[str, ColumnType]) -> str:
    _only(rule, _PAIR_KEYS | {"or_equal"})
    a = _of_type(rule, types, "column_A", "integer", "number", "date")
    b = _of_type(rule, types, "column_B", "integer", "number", "date")
    return f"{a} {'>=' if rule.kwargs.get('or_equal') else '>'} {b}"


def _equal(rule: Rule, types: Mapping[str, ColumnType]) -> str:
    _only(rule, _PAIR_KEYS)
    if types[rule.kwargs["column_A"]] != types[rule.kwargs["column_B"]]:
        raise _NoPlanError
    return f"{quoted(rule.kwargs['column_A'])} = {quoted(rule.kwargs['column_B'])}"


def _birth(rule: Rule, types: Mapping[str, ColumnType]) -> str:
    _only(rule, _PAIR_KEYS)
    number = _of_type(rule, types, "column_A", "text")
    return f"substr({number}, 7, 8) = strftime({_of_type(rule, types, 'column_B', 'date')}, '%Y%m%d')"


def _sex(rule: Rule, types: Mapping[str, ColumnType]) -> str:
    _only(rule, _PAIR_KEYS)
    number = _of_type(rule, types, "column_A", "text")
    sex = _of_type(rule, types, "column_B", "text")
    return (
        f"(({sex} = '男' AND substr({number}, 17, 1) IN ('1','3','5','7','9'))"
        f" OR ({sex} = '女' AND substr({number}, 17, 1) IN ('0','2','4','6','8')))"
    )


def _in_force(rule: Rule, types: Mapping[str, ColumnType]) -> str:
    _only(rule, _PAIR_KEYS)
    code = _of_type(rule, types, "column_A", "text")
    return f"division_in_force({code}, {_of_type(rule, types, 'column_B', 'date')})"


def _pair_in_set(rule: Rule, types: Mapping[str, ColumnType]) -> str:
    _only(rule, _PAIR_KEYS | {"value_pairs_set"})
    a, b = rule.kwargs["column_A"], rule.kwargs["column_B"]
    pairs = rule.kwargs.get("value_pairs_set")
    if not isinstance(pairs, list) or not pairs or "date" in (types[a], types[b]):
        raise _NoPlanError
    options = ", ".join(f"({_value(x, types[a])}, {_value(y, types[b])})" for x, y in pairs)
    return f"({quoted(a)}, {quoted(b)}) IN ({options})"


# Expectation -> (prefix of its metrics, which empty rows it skips by default, what a good row satisfies).
_PAIRS: dict[str, tuple[str, str, Callable[[Rule, Mapping[str, ColumnType]], str]]] = {
    "expect_column_pair_values_a_to_be_greater_than_b": (
        "column_pair_values.a_greater_than_b",
        "both_values_are_missing",
        _greater,
    ),
    "expect_column_pair_values_to_be_equal": ("column_pair_values.equal", "both_values_are_missing", _equal),
    "expect_column_pair_values_to_be_in_set": ("column_pair_values.in_set", "both_values_are_missing", _pair_in_set),
    "expect_birth_dates_to_match_resident_ids": (
        "column_pair_values.birth_date_matches_resident_id",
        "either_value_is_missing",
        _birth,
    ),
    "expect_division_codes_to_be_in_force_on_dates": (
        "column_pair_values.division_in_force_on_date",
        "either_value_is_missing",
        _in_force,
    ),
    "expect_sexes_to_match_resident_ids": (
        "column_pair_values.sex_matches_resident_id",
        "either_value_is_missing",
        _sex,
    ),
}

# Expectation -> (metric, SQL with {c}, types that it is planned for).
_AGGREGATES: dict[str, tuple[str, str, tuple[ColumnType, ...]]] = {
    "expect_column_mean_to_be_between": ("column.mean", "avg({c})", ("integer", "number")),
    "expect_column_sum_to_be_between": ("column.sum", "sum({c})", ("integer", "number")),
    "expect_column_stdev_to_be_between": ("column.standard_deviation", "stddev_samp({c})", ("integer", "number")),
    "expect_column_median_to_be_between": ("column.median", "median({c})", ("integer", "number")),
    "expect_column_min_to_be_between": ("column.min", "min({c})", ("integer", "number", "date")),
    "expect_column_max_to_be_between": ("column.max", "max({c})", ("integer", "number", "date")),
    "expect_column_unique_value_count_to_be_between": (
        "column.distinct_values.count",
        "count(DISTINCT {c})",
        ("text", "integer", "number", "date"),
    ),
    "expect_column_proportion_of_unique_values_to_be_between": (
        "column.unique_proportion",
        "count(DISTINCT {c}) / nullif(count({c}), 0)",
        ("text", "integer", "number", "date"),
    ),
    "expect_column_proportion_of_non_null_values_to_be_between": (
        "column.non_null_proportion",
        "count({c}) / nullif(count(*), 0)",
        ("text", "integer", "number", "date"),
    ),
}
AGGREGATE_TYPES = frozenset(_AGGREGATES)


def _map_plan(rule: Rule, types: Mapping[str, ColumnType]) -> Plan:
    good = _PREDICATES[rule.type](rule, types)
    column = quoted(rule.kwargs["column"])
    measures = {
        "table.row_count": "count(*)",
        "column_values.nonnull.unexpected_count": f"count(*) FILTER ({column} IS NULL)",
        "map.unexpected_count": f"count(*) FILTER ({column} IS NOT NULL AND NOT coalesce({good}, FALSE))",
    }
    return Plan(rule, measures, {})


def _pair_plan(rule: Rule, types: Mapping[str, ColumnType]) -> Plan:
    prefix, skipped, predicate = _PAIRS[rule.type]
    good = predicate(rule, types)
    a, b = quoted(rule.kwargs["column_A"]), quoted(rule.kwargs["column_B"])
    match rule.kwargs.get("ignore_row_if", skipped):
        case "both_values_are_missing":
            skip = f"({a} IS NULL AND {b} IS NULL)"
        case "either_value_is_missing":
            skip = f"({a} IS NULL OR {b} IS NULL)"
        case "neither":
            skip = "FALSE"
        case _:
            raise _NoPlanError
    measures = {
        "table.row_count": "count(*)",
        f"{prefix}.unexpected_count": f"count(*) FILTER (NOT {skip} AND NOT coalesce({good}, FALSE))",
        f"{prefix}.filtered_row_count": f"count(*) FILTER (NOT {skip})",
    }
    return Plan(rule, measures, {})


def _aggregate_plan(rule: Rule, types: Mapping[str, ColumnType]) -> Plan:
    metric, sql, wanted = _AGGREGATES[rule.type]
    _only(rule, frozenset({"column", "min_value", "max_value", "strict_min", "strict_max"}))
    column = _of_type(rule, types, "column", *wanted)
    return Plan(rule, {metric: sql.format(c=column), "table.row_count": "count(*)"}, {})


def _not_null(rule: Rule, _types: Mapping[str, ColumnType], parsed: frozenset[str]) -> Plan:
    _only(rule, _MAP_KEYS)
    name = rule.kwargs["column"]
    # A cell that is not of the declared type holds something: another rule counts it.
    bad = f" AND NOT {quoted(name + BAD)}" if name in parsed else ""
    measures = {"table.row_count": "count(*)", "map.unexpected_count": f"count(*) FILTER ({quoted(name)} IS NULL{bad})"}
    return Plan(rule, measures, {})


def _null(rule: Rule, _types: Mapping[str, ColumnType], _parsed: frozenset[str]) -> Plan:
    _only(rule, _MAP_KEYS)
    column = quoted(rule.kwargs["column"])
    measures = {"table.row_count": "count(*)", "map.unexpected_count": f"count(*) FILTER ({column} IS NOT NULL)"}
    return Plan(rule, measures, {})


def _unique(rule: Rule, _types: Mapping[str, ColumnType], _parsed: frozenset[str]) -> Plan:
    _only(rule, _MAP_KEYS)
    column = quoted(rule.kwargs["column"])
    measures = {
        "table.row_count": "count(*)",
        "column_values.nonnull.unexpected_count": f"count(*) FILTER ({column} IS NULL)",
    }
    scan = (
        f"SELECT coalesce(sum(n), 0) FROM (SELECT count(*) AS n FROM {BATCH}"  # noqa: S608 - quoted names
        f" WHERE {column} IS NOT NULL GROUP BY {column} HAVING count(*) > 1)"
    )
    return Plan(rule, measures, {"map.unexpected_count": scan})


def _compound(rule: Rule, _types: Mapping[str, ColumnType], _parsed: frozenset[str]) -> Plan:
    _only(rule, frozenset({"column_list", "mostly"}))
    columns = [quoted(name) for name in rule.kwargs["column_list"]]
    empty = (" AND " if rule.nulls == "equal" else " OR ").join(f"{column} IS NULL" for column in columns)
    scan = (
        f"SELECT coalesce(sum(n), 0) FROM (SELECT count(*) AS n FROM {BATCH}"  # noqa: S608 - quoted names
        f" WHERE NOT ({empty}) GROUP BY {', '.join(columns)} HAVING count(*) > 1)"
    )
    measures = {
        "table.row_count": "count(*)",
        "compound_columns.unique.filtered_row_count": f"count(*) FILTER (NOT ({empty}))",
    }
    return Plan(rule, measures, {"compound_columns.unique.unexpected_count": scan})


def _row_count(rule: Rule, _types: Mapping[str, ColumnType], _parsed: frozenset[str]) -> Plan:
    _only(rule, frozenset({"min_value", "max_value", "strict_min", "strict_max", "value"}))
    return Plan(rule, {"table.row_count": "count(*)"}, {})


_SPECIAL: dict[str, Callable[[Rule, Mapping[str, ColumnType], frozenset[str]], Plan]] = {
    "expect_column_values_to_not_be_null": _not_null,
    "expect_column_values_to_be_null": _null,
    "expect_column_values_to_be_unique": _unique,
    "expect_compound_columns_to_be_unique": _compound,
    "expect_table_row_count_to_be_between": _row_count,
    "expect_table_row_count_to_equal": _row_count,
}
PLANNED_TYPES: frozenset[str] = frozenset({*_SPECIAL, *_PREDICATES, *_PAIRS, *_AGGREGATES})


def metric_value_names(measures: Mapping[str, Any], map_metric: str | None) -> dict[str, str]:
    """Return the metric names of Great Expectations for the names in a plan."""
    return {name: name.replace("map.", f"{map_metric}.", 1) if name.startswith("map.") else name for name in measures}
