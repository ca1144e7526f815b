"""The one module that imports Great Expectations: our domain expectations, judging, and its own engine.

Two ways to a verdict, one set of rules:

- ``judge``: metrics come from SQL (``quality.plan``), Great Expectations' own ``_validate``
  decides. ``_validate`` is private: the version is pinned, and a test compares every planned
  expectation with Great Expectations on pandas.
- ``run_on_pandas``: whatever has no plan runs on Great Expectations' pandas engine.

Nothing of a Great Expectations result leaves this module but a ``Verdict``: success and three
counts. Results, messages and exceptions hold values of rows in every result format.

Importing takes seconds and 260 MB, so only the process that runs a suite does it.
"""

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from quality.deferred import load_when_used

# Read by the library at import. It has no telemetry in this version; older ones had.
os.environ["GX_ANALYTICS_ENABLED"] = "false"
os.environ.setdefault("TQDM_DISABLE", "1")
with warnings.catch_warnings():
    # The library imports modules that Python 3.11 calls deprecated.
    warnings.simplefilter("ignore")
    # Needed by few rules: 50 MB and 0.7 CPU-s of every run.
    load_when_used("scipy.stats")
    import great_expectations as gx
    import great_expectations.expectations as gxe
    from great_expectations.data_context.types.base import ProgressBarsConfig
    from great_expectations.exceptions import ExpectationNotFoundError
    from great_expectations.execution_engine import PandasExecutionEngine
    from great_expectations.expectations.expectation import ColumnMapExpectation, ColumnPairMapExpectation
    from great_expectations.expectations.metrics.map_metric_provider import (
        ColumnMapMetricProvider,
        ColumnPairMapMetricProvider,
        column_condition_partial,
        column_pair_condition_partial,
    )
    from great_expectations.expectations.registry import get_expectation_impl

import pandas as pd
import pyarrow as pa

from quality import codes, divisions
from quality.plan import AGGREGATE_TYPES, MOBILE_REGEX, metric_value_names
from quality.suite import ColumnType, Rule

_RESULT_FORMAT: dict[str, Any] = {
    "result_format": "BASIC",
    "exclude_unexpected_values": True,
    "partial_unexpected_count": 0,
    "include_unexpected_rows": False,
    "return_unexpected_index_query": False,
}
_PAIR_DOMAIN = ("batch_id", "table", "column_A", "column_B", "row_condition", "condition_parser", "ignore_row_if")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What Great Expectations says of one rule, without a value.

    Attributes:
        success: the rule holds; ``None``: it could not be run.
        rows: elements of the table; 0 for a rule on the table as a whole.
        missing: elements not evaluated.
        failing: elements that fail.
        aggregate: the rule judges one figure of the table, not its rows.
        empty: there was nothing to take the figure of.
        unknown: the library has no such expectation, or not with these arguments.
    """

    success: bool | None
    rows: int = 0
    missing: int = 0
    failing: int = 0
    aggregate: bool = False
    empty: bool = False
    unknown: bool = False


COULD_NOT_RUN = Verdict(None)
UNKNOWN = Verdict(None, unknown=True)


def _on_arrow(function: Any, column: Any) -> Any:
    answer = function(pa.array(column, type=pa.string(), from_pandas=True))
    return pd.Series(answer.to_numpy(zero_copy_only=False), index=column.index).fillna(value=False).astype(bool)


class _ResidentIdMetric(ColumnMapMetricProvider):  # type: ignore[misc]  # library without types
    condition_metric_name = "column_values.valid_resident_id"

    @column_condition_partial(engine=PandasExecutionEngine)  # type: ignore[untyped-decorator]  # library without types
    def _pandas(cls, column: Any, **_: Any) -> Any:  # noqa: N805 - the library passes the class
        return _on_arrow(codes.resident_ids_valid, column)


class ExpectColumnValuesToBeValidResidentIds(ColumnMapExpectation):  # type: ignore[misc]  # library without types
    """Each value is a valid identity number: region, birth date and check character of GB 11643."""

    map_metric = "column_values.valid_resident_id"


class _UsccMetric(ColumnMapMetricProvider):  # type: ignore[misc]  # library without types
    condition_metric_name = "column_values.valid_uscc"

    @column_condition_partial(engine=PandasExecutionEngine)  # type: ignore[untyped-decorator]  # library without types
    def _pandas(cls, column: Any, **_: Any) -> Any:  # noqa: N805 - the library passes the class
        return _on_arrow(codes.usccs_valid, column)


class ExpectColumnValuesToBeValidUsccs(ColumnMapExpectation):  # type: ignore[misc]  # library without types
    """Each value is a valid unified social credit code of GB 32100."""

    map_metric = "column_values.valid_uscc"


class _DivisionMetric(ColumnMapMetricProvider):  # type: ignore[misc]  # library without types
    condition_metric_name = "column_values.division_code"

    @column_condition_partial(engine=PandasExecutionEngine)  # type: ignore[untyped-decorator]  # library without types
    def _pandas(cls, column: Any, **_: Any) -> Any:  # noqa: N805 - the library passes the class
        return _on_arrow(codes.divisions_valid, column)


class ExpectColumnValuesToBeDivisionCodes(ColumnMapExpectation):  # type: ignore[misc]  # library without types
    """Each value is a county-level code of GB/T 2260."""

    map_metric = "column_values.division_code"


class _RegionMetric(ColumnMapMetricProvider):  # type: ignore[misc]  # library without types
    condition_metric_name = "column_values.resident_id_region_existed"

    @column_condition_partial(engine=PandasExecutionEngine)  # type: ignore[untyped-decorator]  # library without types
    def _pandas(cls, column: Any, **_: Any) -> Any:  # noqa: N805 - the library passes the class
        return _on_arrow(divisions.id_regions_existed, column)


class ExpectResidentIdRegionsToHaveExisted(ColumnMapExpectation):  # type: ignore[misc]  # library without types
    """The region of each identity number was in force at the birth or later (GB/T 2260 with its years)."""

    map_metric = "column_values.resident_id_region_existed"


class ExpectColumnValuesToBeMobileNumbers(gxe.ExpectColumnValuesToMatchRegex):  # type: ignore[misc]  # library without types
    """Each value is a mainland mobile number of eleven digits."""

    regex: str = MOBILE_REGEX


class _BirthMetric(ColumnPairMapMetricProvider):  # type: ignore[misc]  # library without types
    condition_metric_name = "column_pair_values.birth_date_matches_resident_id"
    condition_domain_keys = _PAIR_DOMAIN
    condition_value_keys = ()

    @column_pair_condition_partial(engine=PandasExecutionEngine)  # type: ignore[untyped-decorator]  # library without types
    def _pandas(cls, column_A: Any, column_B: Any, **_: Any) -> Any:  # noqa: N803, N805 - names of the library
        inside = column_A.astype("string").str.slice(6, 14)
        return (inside == pd.to_datetime(column_B).dt.strftime("%Y%m%d")).fillna(value=False).astype(bool)


class ExpectBirthDatesToMatchResidentIds(ColumnPairMapExpectation):  # type: ignore[misc]  # library without types
    """The birth date inside the identity number (column_A) equals the date beside it (column_B)."""

    map_metric = "column_pair_values.birth_date_matches_resident_id"
    ignore_row_if: str = "either_value_is_missing"
    domain_keys = _PAIR_DOMAIN


class _InForceMetric(ColumnPairMapMetricProvider):  # type: ignore[misc]  # library without types
    condition_metric_name = "column_pair_values.division_in_force_on_date"
    condition_domain_keys = _PAIR_DOMAIN
    condition_value_keys = ()

    @column_pair_condition_partial(engine=PandasExecutionEngine)  # type: ignore[untyped-decorator]  # library without types
    def _pandas(cls, column_A: Any, column_B: Any, **_: Any) -> Any:  # noqa: N803, N805 - names of the library
        dates = pa.array(pd.to_datetime(column_B), from_pandas=True)
        answer = divisions.in_force(pa.array(column_A, type=pa.string(), from_pandas=True), dates)
        return pd.Series(answer.to_numpy(zero_copy_only=False), index=column_A.index).fillna(value=False).astype(bool)


class ExpectDivisionCodesToBeInForceOnDates(ColumnPairMapExpectation):  # type: ignore[misc]  # library without types
    """The division code (column_A) was in force in the year of the date beside it (column_B)."""

    map_metric = "column_pair_values.division_in_force_on_date"
    ignore_row_if: str = "either_value_is_missing"
    domain_keys = _PAIR_DOMAIN


class _SexMetric(ColumnPairMapMetricProvider):  # type: ignore[misc]  # library without types
    condition_metric_name = "column_pair_values.sex_matches_resident_id"
    condition_domain_keys = _PAIR_DOMAIN
    condition_value_keys = ()

    @column_pair_condition_partial(engine=PandasExecutionEngine)  # type: ignore[untyped-decorator]  # library without types
    def _pandas(cls, column_A: Any, column_B: Any, **_: Any) -> Any:  # noqa: N803, N805 - names of the library
        digit = column_A.astype("string").str.slice(16, 17)
        male = (column_B == "男") & digit.isin(list("13579"))
        female = (column_B == "女") & digit.isin(list("02468"))
        return (male | female).fillna(value=False).astype(bool)


class ExpectSexesToMatchResidentIds(ColumnPairMapExpectation):  # type: ignore[misc]  # library without types
    """The parity of the seventeenth digit of the identity number (column_A) agrees with 男 or 女 (column_B)."""

    map_metric = "column_pair_values.sex_matches_resident_id"
    ignore_row_if: str = "either_value_is_missing"
    domain_keys = _PAIR_DOMAIN


def build(rule: Rule, types: Mapping[str, ColumnType]) -> Any | None:
    """Return the Great Expectations object of a rule, ``None`` when the library does not take it."""
    try:
        kind = get_expectation_impl(rule.type)
    except ExpectationNotFoundError:
        return None
    kwargs = dict(rule.kwargs)
    if types.get(str(kwargs.get("column"))) == "date":
        for key in ("min_value", "max_value"):
            if isinstance(kwargs.get(key), str):
                kwargs[key] = datetime.fromisoformat(kwargs[key])
    with _silence():
        try:
            return kind(**kwargs)
        except (TypeError, ValueError):
            return None


def judge(rule: Rule, types: Mapping[str, ColumnType], metrics: Mapping[str, Any]) -> Verdict:
    """Let Great Expectations judge metrics that SQL has measured.

    Args:
        rule: as the plan has it.
        types: declared column types.
        metrics: value per metric name of the plan.
    """
    expectation = build(rule, types)
    if expectation is None:
        return UNKNOWN
    names = metric_value_names(metrics, getattr(expectation, "map_metric", None))
    values = {names[name]: _metric(value) for name, value in metrics.items()}
    if rule.type in AGGREGATE_TYPES and all(values[name] is None for name in values if name != "table.row_count"):
        return Verdict(None, aggregate=True, empty=True)
    with _silence():
        try:
            raw = expectation._validate(  # noqa: SLF001 - pinned, see the module docstring
                metrics=values, runtime_configuration={"result_format": _RESULT_FORMAT}, execution_engine=None
            )
        except Exception:  # noqa: BLE001 - the library raises anything, its message may quote a cell; the rule becomes an error
            return COULD_NOT_RUN
    raw = raw if isinstance(raw, dict) else {"success": raw.success, "result": raw.result}
    return _verdict(raw)


def run_on_pandas(rule: Rule, types: Mapping[str, ColumnType], frame: "pd.DataFrame") -> Verdict:
    """Let Great Expectations run a rule on a frame that holds the rule's columns."""
    expectation = build(rule, types)
    if expectation is None:
        return UNKNOWN
    with _silence():
        try:
            context = gx.get_context(mode="ephemeral")
            context.variables.progress_bars = ProgressBarsConfig(globally=False)
            source = context.data_sources.add_pandas("node")
            batch = source.add_dataframe_asset("table").add_batch_definition_whole_dataframe("all")
            result = batch.get_batch({"dataframe": frame}).validate(expectation, result_format=dict(_RESULT_FORMAT))
            info = result.exception_info or {}
            raised = info.get("raised_exception") or any(
                isinstance(item, dict) and item.get("raised_exception") for item in info.values()
            )
        except Exception:  # noqa: BLE001 - as in ``judge``
            return COULD_NOT_RUN
    if raised:
        return COULD_NOT_RUN
    return _verdict({"success": result.success, "result": result.result})


def _verdict(raw: Mapping[str, Any]) -> Verdict:
    success, result = bool(raw["success"]), raw.get("result") or {}
    count = result.get("unexpected_count")
    if count is None or "element_count" not in result:
        return Verdict(success, aggregate=True)
    return Verdict(success, int(result["element_count"]), int(result.get("missing_count") or 0), int(count))


def _metric(value: Any) -> Any:
    if isinstance(value, date) and not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day)  # noqa: DTZ001 - a calendar date, as the library compares them
    return value


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep the library's log lines, warnings and prints, which may quote cells, out of ours."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
