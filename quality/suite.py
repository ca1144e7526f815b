"""Suites: which rules a table must keep, as a versioned JSON file that a person edits.

The file is a Great Expectations ``ExpectationSuite`` (name, expectations with ``type``,
``kwargs``, ``meta``), so its own tools read it; what we add stands under ``meta.shufang``:
for the suite its version, declared columns and how to read the text; for each rule an id,
the GB/T 36344 indicator, a severity, the meaning of NULL and titles in two languages.
Loading needs no Great Expectations.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast, get_args

import rfc8785

from quality.errors import SuiteError
from quality.indicators import INDICATORS

ColumnType: TypeAlias = Literal["text", "integer", "number", "date"]
Severity: TypeAlias = Literal["critical", "major", "minor"]
Nulls: TypeAlias = Literal["skip", "equal", "distinct"]

SEVERITIES: tuple[Severity, ...] = get_args(Severity)
_RULE_ID = re.compile(r"^[A-Z][A-Z0-9_-]{0,15}$")
_TYPE = re.compile(r"^(expect|unexpected)_[a-z_]{3,80}$")
_VERSION = re.compile(r"^\d{1,4}\.\d{1,4}\.\d{1,4}$")
_KEY = "shufang"
_OWN_LIMITS = {
    "expect_column_max_to_be_within_days": "days",
    "expect_table_delivery_to_be_within_days": "days",
    "expect_column_drift_to_be_at_most": "max_psi",
    "expect_table_row_count_to_change_by_at_most": "percent",
}
_OWN_TEXTS = {
    "expect_column_max_to_be_within_days": ("column",),
    "expect_column_drift_to_be_at_most": ("column",),
    "expect_column_values_to_be_in_resource": ("column", "resource", "other_column"),
}


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of a suite.

    Attributes:
        id: short and stable; results of two deliveries are compared by it.
        type: Great Expectations name of the expectation, snake case.
        kwargs: arguments of the expectation, JSON values; dates as ``YYYY-MM-DD``.
        indicator: four digits of GB/T 36344.
        severity: a failed critical rule holds the resource.
        nulls: ``skip``: an empty cell is not evaluated. For keys of several columns ``equal``:
            two empty cells are the same value, ``distinct``: a row with an empty cell is not
            evaluated, as in SQL. Engines differ here, so the rule must say it.
        title_zh: what the rule asks, Chinese; no value of a row.
        title_en: the same in English.
    """

    id: str
    type: str
    kwargs: Mapping[str, Any]
    indicator: str
    severity: Severity
    title_zh: str
    title_en: str
    nulls: Nulls = "skip"

    @property
    def sha256(self) -> str:
        """Digest of what the rule asks; its titles, severity and indicator are not part of it."""
        return digest({"type": self.type, "kwargs": dict(self.kwargs), "nulls": self.nulls})

    @property
    def dimension(self) -> str:
        """Name of the dimension that the indicator belongs to."""
        return INDICATORS[self.indicator].dimension

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns the rule reads, in the sequence of its arguments."""
        given = (self.kwargs.get(key) for key in ("column", "column_A", "column_B"))
        names = [name for name in given if isinstance(name, str)]
        if self.type.startswith("expect_table_"):
            return ()
        if isinstance(self.kwargs.get("column_list"), list):
            names.extend(name for name in self.kwargs["column_list"] if isinstance(name, str))
        return tuple(names)

    @property
    def allowed_micro(self) -> int:
        """Share of failing elements that the rule allows, in millionths."""
        mostly = self.kwargs.get("mostly", 1)
        return max(0, 1_000_000 - round(float(mostly) * 1_000_000))


@dataclass(frozen=True, slots=True)
class Suite:
    """A versioned set of rules for one table.

    Attributes:
        name: of the suite, usually the catalogue id.
        version: ``major.minor.patch``.
        columns: declared type of each declared column.
        rules: in the sequence of the file.
        null_values: texts of a CSV that mean an empty cell; the empty text always does.
        sha256: digest of the canonical bytes of the whole file.
    """

    name: str
    version: str
    columns: Mapping[str, ColumnType]
    rules: tuple[Rule, ...]
    null_values: tuple[str, ...] = ("",)
    sha256: str = field(default="", compare=False)


def load(path: Path) -> Suite:
    """Read a suite file.

    Raises:
        SuiteError: the file is missing, not JSON, or not a suite; the message names the place.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SuiteError(f"expected a readable suite file at {path.name}, got {type(error).__name__}") from error
    except ValueError as error:
        raise SuiteError(f"expected JSON in the suite file {path.name}; check it with a JSON editor") from error
    return parse(document)


def parse(document: object) -> Suite:
    """Turn the JSON of a suite file into a checked suite.

    Raises:
        SuiteError: something is missing, unknown or doubled; the message names the place.
    """
    top = _object(document, "the suite")
    meta = _object(_object(top.get("meta"), "meta").get(_KEY), f"meta.{_KEY}")
    columns = _columns(meta.get("columns"))
    rules = tuple(_rule(entry, index) for index, entry in enumerate(_list(top.get("expectations"), "expectations")))
    ids = [rule.id for rule in rules]
    doubled = sorted({rule_id for rule_id in ids if ids.count(rule_id) > 1})
    if doubled:
        raise SuiteError(f"expected each rule id once, got twice: {', '.join(doubled)}")
    for rule in rules:
        undeclared = [name for name in rule.columns if name not in columns]
        if undeclared:
            raise SuiteError(f"expected the columns of {rule.id} among the declared ones, got {', '.join(undeclared)}")
    version = _text(meta.get("version"), f"meta.{_KEY}.version")
    if not _VERSION.match(version):
        raise SuiteError(f"expected meta.{_KEY}.version as major.minor.patch, such as 1.0.0")
    nulls = tuple(_text(value, "null_values") for value in _list(meta.get("null_values", [""]), "null_values"))
    return Suite(
        name=_text(top.get("name"), "name"),
        version=version,
        columns=columns,
        rules=rules,
        null_values=nulls if "" in nulls else ("", *nulls),
        sha256=digest(top),
    )


def digest(document: Mapping[str, Any]) -> str:
    """Return the SHA-256 (hex) of the canonical form of a suite file's JSON.

    Numbers of the file may be fractions (``mostly``); they are hashed as decimal text, since
    canonical bytes hold no floats.
    """
    return hashlib.sha256(bytes(rfc8785.dumps(_without_floats(document)))).hexdigest()


def document(suite: Suite) -> dict[str, Any]:
    """Return the JSON of a suite file, ready for ``json.dump`` and for Great Expectations."""
    severity = {"critical": "critical", "major": "warning", "minor": "info"}
    return {
        "name": suite.name,
        "expectations": [
            {
                "type": rule.type,
                "kwargs": dict(rule.kwargs),
                "severity": severity[rule.severity],
                "meta": {
                    _KEY: {
                        "id": rule.id,
                        "indicator": rule.indicator,
                        "dimension": rule.dimension,
                        "severity": rule.severity,
                        "nulls": rule.nulls,
                        "title_zh": rule.title_zh,
                        "title_en": rule.title_en,
                    }
                },
            }
            for rule in suite.rules
        ],
        "meta": {
            "great_expectations_version": "1.24.1",
            _KEY: {
                "version": suite.version,
                "columns": dict(suite.columns),
                "null_values": list(suite.null_values),
            },
        },
    }


def _rule(entry: object, index: int) -> Rule:
    place = f"expectations[{index}]"
    item = _object(entry, place)
    ours = _object(_object(item.get("meta"), f"{place}.meta").get(_KEY), f"{place}.meta.{_KEY}")
    rule_id = _text(ours.get("id"), f"{place} id")
    if not _RULE_ID.match(rule_id):
        raise SuiteError(f"expected {place} id as capitals, digits and dashes, at most 16, such as R-01")
    kind = _text(item.get("type"), f"{rule_id} type")
    if not _TYPE.match(kind):
        raise SuiteError(f"expected {rule_id} type as the snake-case name of an expectation")
    indicator = _text(ours.get("indicator"), f"{rule_id} indicator")
    if indicator not in INDICATORS:
        raise SuiteError(f"expected {rule_id} indicator as one of {', '.join(INDICATORS)}")
    dimension = ours.get("dimension", INDICATORS[indicator].dimension)
    if dimension != INDICATORS[indicator].dimension:
        raise SuiteError(
            f"expected {rule_id} dimension {INDICATORS[indicator].dimension}, which {indicator} belongs to"
        )
    severity = ours.get("severity")
    if severity not in SEVERITIES:
        raise SuiteError(f"expected {rule_id} severity as one of {', '.join(SEVERITIES)}")
    compound = kind == "expect_compound_columns_to_be_unique"
    nulls = ours.get("nulls", None if compound else "skip")
    if nulls not in (("equal", "distinct") if compound else ("skip",)):
        raise SuiteError(
            f"expected {rule_id} nulls as {'equal or distinct' if compound else 'skip'}:"
            " engines differ, so the rule says it"
        )
    kwargs = _object(item.get("kwargs"), f"{rule_id} kwargs")
    _check_mostly(rule_id, kwargs)
    _check_own(rule_id, kind, kwargs)
    return Rule(
        id=rule_id,
        type=kind,
        kwargs=kwargs,
        indicator=indicator,
        severity=cast("Severity", severity),
        nulls=cast("Nulls", nulls),
        title_zh=_text(ours.get("title_zh"), f"{rule_id} title_zh"),
        title_en=_text(ours.get("title_en"), f"{rule_id} title_en"),
    )


def _check_mostly(rule_id: str, kwargs: Mapping[str, Any]) -> None:
    mostly = kwargs.get("mostly", 1)
    if isinstance(mostly, bool) or not isinstance(mostly, int | float) or not 0 <= mostly <= 1:
        raise SuiteError(f"expected {rule_id} mostly as a number from 0 to 1")


def _check_own(rule_id: str, kind: str, kwargs: Mapping[str, Any]) -> None:
    """Check the arguments of the expectations that the library does not know and so cannot check."""
    limit = _OWN_LIMITS.get(kind, "")
    value = kwargs.get(limit)
    if limit and (isinstance(value, bool) or not isinstance(value, int | float) or value < 0):
        raise SuiteError(f"expected {rule_id} {limit} as a number of at least 0")
    for key in _OWN_TEXTS.get(kind, ()):
        if not isinstance(kwargs.get(key), str):
            raise SuiteError(f"expected {rule_id} {key} as text")


def _columns(value: object) -> dict[str, ColumnType]:
    columns = _object(value, f"meta.{_KEY}.columns")
    if not columns:
        raise SuiteError(f"expected at least one column in meta.{_KEY}.columns")
    known = get_args(ColumnType)
    for name, kind in columns.items():
        if kind not in known:
            raise SuiteError(f"expected the type of column {name} as one of {', '.join(known)}")
    return cast("dict[str, ColumnType]", columns)


def _object(value: object, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise SuiteError(f"expected an object at {place}, got {type(value).__name__}")
    return value


def _list(value: object, place: str) -> list[Any]:
    if not isinstance(value, list):
        raise SuiteError(f"expected a list at {place}, got {type(value).__name__}")
    return value


def _text(value: object, place: str) -> str:
    if not isinstance(value, str):
        raise SuiteError(f"expected text at {place}, got {type(value).__name__}")
    return value


def _without_floats(value: object) -> Any:
    if isinstance(value, float):
        return f"float:{value!r}"
    if isinstance(value, Mapping):
        return {str(key): _without_floats(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_floats(item) for item in value]
    return value
