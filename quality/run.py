"""Runs: one table against one suite, on DuckDB in one scan, judged by Great Expectations.

A run never raises for what is wrong with the table: a file that is missing, broken, in another
encoding or empty gives an assessment with findings and the verdict ``held``. The assessment holds
exact counts and stays at the node; what may leave is made of it by ``quality.projection`` alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal

from quality.drift import DRIFT, GROWTH, Shape, psi, shape_like, shape_of
from quality.drift import ROWS_MIN as DRIFT_ROWS_MIN
from quality.errors import SourceError
from quality.kept import Delivery, Kept, Shown
from quality.plan import FRESHNESS, Plan, freshness_plan, plan
from quality.scoring import DEFAULT_PROFILE, Profile, Score, Scored, Status, score
from quality.sources import BAD, BATCH, Opened, Source, open_source, quoted
from quality.suite import ColumnType, Rule, Severity, Suite
from quality.suppression import MOVE_MIN, ROWS_MIN, Counts, Published, moved, publish, steady

if TYPE_CHECKING:
    from quality.expectations import Verdict

# Days of a promise are days of the department's calendar.
CHINA = timezone(timedelta(hours=8), "Asia/Shanghai")
DELIVERY = "expect_table_delivery_to_be_within_days"
REFERENCE = "expect_column_values_to_be_in_resource"
"""Each value stands in ``other_column`` of another ``resource`` of the same node."""
Reason = Literal[
    "", "source", "reference", "column_missing", "no_rows", "nothing_to_check", "too_few_rows", "could_not_run",
    "first_delivery", "unknown_rule",
]  # fmt: skip
# One cell in a hundred may be unreadable before the column counts as broken.
_UNREADABLE_ONE_IN = 100
# So many that few changed rows hardly ever meet in one: 4 removed and 4 added with a chance of 0.4 %.
_BUCKETS = 4_096


@dataclass(frozen=True, slots=True)
class RuleResult:
    """Result of one rule, with exact counts; stays at the node.

    Attributes:
        rule: of the suite, or one the engine adds (ids that start with ``T-``).
        status: ``error``: the rule could not be run; ``not_assessed``: there was nothing to run it on.
        reason: why it was not assessed or could not be run.
        rows: rows of the table.
        missing: rows the rule skipped.
        failing: rows that fail.
        aggregate: the rule judges one figure, so the counts are of figures, not of rows.
        lag_days: days between the promise's reference and today, for rules on timeliness.
        psi: population stability index, for rules on drift.
        shown: counts that are published instead of the exact ones, so that they do not tell a difference of few rows.
    """

    rule: Rule
    status: Status
    reason: Reason = ""
    rows: int = 0
    missing: int = 0
    failing: int = 0
    aggregate: bool = False
    lag_days: int | None = None
    psi: float | None = None
    shown: Counts | None = None

    @property
    def published(self) -> Published:
        """The counts as they may leave the node."""
        if self.status not in ("pass", "fail"):
            return Published(0, 0, small=False)
        if self.aggregate:
            return Published(self.rows, self.failing, small=False)
        shown = self.shown or Counts(self.rows, self.missing, self.failing)
        return publish(rows=shown.rows, missing=shown.missing, failing=shown.failing)


@dataclass(frozen=True, slots=True)
class Assessment:
    """One run; exact, so it stays at the node.

    Attributes:
        suite: what was asked.
        profile: how it was weighed.
        assessed_at: when.
        delivered_at: when the table was delivered; ``None`` when there is none.
        kind: of the source.
        encoding: found in a CSV.
        rows: exact.
        columns: how many the table has.
        findings: codes of ``quality.findings.FINDINGS``.
        rules: results, in the sequence of the suite, the engine's own first.
        score: from the published counts.
        previous: report JSON of the delivery before, as read; its own digest is checked by the caller.
        engine: version per library.
        kept: what the next run needs of this one; ``None`` when the table could not be read.
    """

    suite: Suite
    profile: Profile
    assessed_at: datetime
    delivered_at: datetime | None
    kind: str
    encoding: str
    rows: int
    columns: int
    findings: tuple[str, ...]
    rules: tuple[RuleResult, ...]
    score: Score
    previous: Mapping[str, Any] | None
    engine: Mapping[str, str]
    kept: Kept | None = None

    @property
    def rows_shown(self) -> int:
        """Rows of the table before rounding, as they may be published."""
        return self.kept.rows if self.kept else self.rows


def assess(
    source: Source,
    suite: Suite,
    *,
    now: datetime,
    profile: Profile = DEFAULT_PROFILE,
    previous: Mapping[str, Any] | None = None,
    references: Mapping[str, Source] | None = None,
    kept: Kept | None = None,
    memory_limit_mb: int = 1_024,
) -> Assessment:
    """Run a suite on a table.

    Args:
        source: the table.
        suite: the rules.
        now: aware time of the run; promises of freshness are judged against it.
        profile: weights and thresholds.
        previous: report JSON of the last delivery, for changes and the trend.
        references: other resources of the node by catalogue id, for rules between tables.
        kept: of the last run of this resource, for rules between deliveries and against differencing.
        memory_limit_mb: memory of DuckDB before it spills.
    """
    if now.tzinfo is None:
        raise ValueError("expected an aware time")
    try:
        with open_source(source, suite, memory_limit_mb=memory_limit_mb) as opened:
            return _assess_opened(
                opened,
                source,
                suite,
                profile=profile,
                previous=previous,
                references=references or {},
                kept=kept,
                now=now,
            )
    except SourceError as error:
        access = RuleResult(_READABLE, "fail", rows=1, failing=1, aggregate=True)
        rest = [RuleResult(rule, "not_assessed", "source") for rule in suite.rules]
        return _assessment(
            suite, profile, now, previous, kind=source.kind, findings=(error.finding,), rules=(access, *rest)
        )


def scored(result: RuleResult) -> Scored:
    """Return what scoring may know of a result: published counts."""
    counts = result.published
    status: Status = result.status if counts.checked or result.status == "error" else "not_assessed"
    rule = result.rule
    return Scored(rule.id, rule.indicator, rule.severity, status, counts.checked, counts.failing)


def _assess_opened(
    opened: Opened,
    source: Source,
    suite: Suite,
    *,
    profile: Profile,
    previous: Mapping[str, Any] | None,
    references: Mapping[str, Source],
    kept: Kept | None,
    now: datetime,
) -> Assessment:
    rows = int(opened.connection.execute(f"SELECT count(*) FROM {BATCH}").fetchall()[0][0])  # noqa: S608 - fixed name
    missing = [name for name in suite.columns if name not in opened.columns]
    findings = []
    if opened.malformed_rows:
        findings.append("source.malformed_rows")
    if missing:
        findings.append("columns.missing")
    if set(opened.columns) - set(suite.columns):
        findings.append("columns.extra")
    if rows == 0:
        findings.append("source.empty")
    elif rows < ROWS_MIN:
        findings.append("source.too_small")
    own = _own_results(opened, suite, rows, missing)
    buckets = _buckets(opened, suite)
    delivery = _delivery(opened, suite, rows)
    before = kept.compared_with(opened.delivered_at) if kept else None
    results = _Run(opened, suite, rows, now, references, before=before).results()
    still = kept if kept and moved(kept.buckets, buckets) < MOVE_MIN else None
    shown = [_steadied(result, still) for result in (*own, *results)]
    return _assessment(
        suite,
        profile,
        now,
        previous,
        kind=source.kind,
        findings=tuple(findings),
        rules=shown,
        kept=Kept(
            still.rows if still else rows,
            still.buckets if still else buckets,
            {
                result.rule.id: Shown(result.rule.sha256, result.status, result.shown)
                for result in shown
                if result.shown is not None
            },
            delivery,
            before,
        ),
        rows=rows,
        columns=len(opened.columns),
        encoding=opened.encoding,
        delivered_at=opened.delivered_at,
    )


def _assessment(
    suite: Suite,
    profile: Profile,
    now: datetime,
    previous: Mapping[str, Any] | None,
    *,
    kind: str,
    findings: tuple[str, ...],
    rules: Sequence[RuleResult],
    rows: int = 0,
    columns: int = 0,
    encoding: str = "",
    delivered_at: datetime | None = None,
    kept: Kept | None = None,
) -> Assessment:
    return Assessment(
        suite=suite,
        profile=profile,
        assessed_at=now.astimezone(UTC),
        delivered_at=delivered_at,
        kind=kind,
        encoding=encoding,
        rows=rows,
        columns=columns,
        findings=findings,
        rules=tuple(rules),
        score=score([scored(result) for result in rules], profile),
        previous=previous,
        engine={name: version(name) for name in ("great-expectations", "duckdb")},
        kept=kept,
    )


def _delivery(opened: Opened, suite: Suite, rows: int) -> Delivery:
    """Return what the next delivery will be compared with."""
    watched = dict.fromkeys(str(rule.kwargs.get("column")) for rule in suite.rules if rule.type == DRIFT)
    shapes: dict[str, Shape] = {
        name: shape_of(opened.connection, name, suite.columns[name]) for name in watched if name in opened.columns
    }
    return Delivery(opened.delivered_at, rows, shapes)


def _buckets(opened: Opened, suite: Suite) -> tuple[int, ...]:
    """Return how many rows fall into each bucket of a hash over all declared columns."""
    names = [name for name in suite.columns if name in opened.columns]
    cells = [quoted(name) for name in names] + [quoted(name + BAD) for name in names if name in opened.parsed]
    counts = [0] * _BUCKETS
    bucket = f"hash({', '.join(cells)}) % {_BUCKETS}" if cells else "0"
    rows = opened.connection.execute(f"SELECT {bucket}, count(*) FROM {BATCH} GROUP BY 1").fetchall()  # noqa: S608 - quoted names
    for place, count in rows:
        counts[int(place)] = int(count)
    return tuple(counts)


def _steadied(result: RuleResult, still: Kept | None) -> RuleResult:
    """Let a rule on rows publish what was last shown of it while few rows of the table have changed."""
    if result.aggregate or result.status not in ("pass", "fail"):
        return result
    now = Counts(result.rows, result.missing, result.failing)
    last = still.shown.get(result.rule.id) if still else None
    if last is None or last.rule_sha256 != result.rule.sha256:
        return replace(result, shown=now)
    return replace(result, shown=steady(now, last.counts, verdict_changed=last.status != result.status))


def _own_rule(rule_id: str, indicator: str, severity: Severity, zh: str, en: str) -> Rule:
    return Rule(rule_id, "shufang_table_check", {}, indicator, severity, zh, en)


_READABLE = _own_rule("T-READ", "0601", "critical", "数据源可访问并可读取", "The source can be reached and read")
_FORMED = _own_rule(
    "T-FORM", "0102", "critical", "每行字段数与引号合规", "Every row has the fields and quotes it must have"
)
_COLUMNS = _own_rule("T-COLS", "0103", "critical", "已声明的列齐全", "Every declared column is there")
_ROWS = _own_rule("T-ROWS", "0202", "critical", "数据行数足以评估", "The table has rows enough to judge")


def _own_results(opened: Opened, suite: Suite, rows: int, missing: Sequence[str]) -> list[RuleResult]:
    """Return the results of what the engine checks on every table."""
    bad, few = opened.malformed_rows, rows < ROWS_MIN
    results = [
        RuleResult(_READABLE, "pass", rows=1, aggregate=True),
        RuleResult(_FORMED, "fail" if bad else "pass", rows=rows + bad, failing=bad)
        if rows + bad
        else RuleResult(_FORMED, "not_assessed", "no_rows"),
        RuleResult(
            _COLUMNS, "fail" if missing else "pass", rows=len(suite.columns), failing=len(missing), aggregate=True
        ),
        RuleResult(_ROWS, "fail" if few else "pass", rows=1, failing=int(few), aggregate=True),
    ]
    parsed = [name for name in suite.columns if name in opened.parsed]
    if rows < ROWS_MIN or not parsed:
        return results
    flags = ", ".join(
        f"count(*) FILTER ({quoted(name)} IS NOT NULL OR {quoted(name + BAD)}), count(*) FILTER ({quoted(name + BAD)})"
        for name in parsed
    )
    counts = opened.connection.execute(f"SELECT {flags} FROM {BATCH}").fetchall()[0]  # noqa: S608 - quoted names
    for index, name in enumerate(parsed):
        filled, wrong = int(counts[2 * index]), int(counts[2 * index + 1])
        rule = Rule(
            f"T-TYPE-{index + 1:02d}",
            "shufang_cells_of_declared_type",
            {"column": name, "mostly": 1 - 1 / _UNREADABLE_ONE_IN},
            "0302",
            "major",
            f"{_TYPE_ZH[suite.columns[name]]}格式可解析",
            f"Cells can be read as {suite.columns[name]}",
        )
        if not filled:
            results.append(RuleResult(rule, "not_assessed", "nothing_to_check"))
            continue
        fine = wrong * _UNREADABLE_ONE_IN <= filled
        results.append(RuleResult(rule, "pass" if fine else "fail", rows=rows, missing=rows - filled, failing=wrong))
    return results


_TYPE_ZH: dict[ColumnType, str] = {"text": "文本", "integer": "整数", "number": "数值", "date": "日期"}


class _Run:
    """The rules of one suite on one opened table."""

    def __init__(
        self,
        opened: Opened,
        suite: Suite,
        rows: int,
        now: datetime,
        references: Mapping[str, Source],
        *,
        before: Delivery | None,
    ) -> None:
        self._references = references
        self._before = before
        self._connection = opened.connection
        self._opened = opened
        self._suite = suite
        self._rows = rows
        self._today = now.astimezone(CHINA).date()
        self._types: dict[str, ColumnType] = {
            name: kind for name, kind in suite.columns.items() if name in opened.columns
        }
        # Rules that need more than this table, which no expectation of the library knows.
        self._compared: Mapping[str, Callable[[Rule], RuleResult]] = {
            REFERENCE: self._referential,
            DRIFT: self._drift,
            GROWTH: self._growth,
        }

    def results(self) -> list[RuleResult]:
        """Run every rule; results in the sequence of the suite."""
        done: dict[str, RuleResult] = {}
        plans: list[tuple[Rule, Plan]] = []
        slow: list[Rule] = []
        for rule in self._suite.rules:
            early = self._early(rule)
            if early is not None:
                done[rule.id] = early
                continue
            if rule.type in self._compared:
                done[rule.id] = self._compared[rule.type](rule)
                continue
            planned = (
                freshness_plan(rule, today=self._today)
                if rule.type == FRESHNESS
                else plan(rule, self._types, self._opened.parsed)
            )
            if planned is None:
                slow.append(rule)
            else:
                plans.append((rule, planned))
        if plans or slow:
            self._execute(plans, slow, done)
        return [done[rule.id] for rule in self._suite.rules]

    def _early(self, rule: Rule) -> RuleResult | None:
        if rule.type == DELIVERY:
            lag = (self._today - self._opened.delivered_at.astimezone(CHINA).date()).days
            # A delivery from the future, beyond what clocks may differ, would never grow old.
            late = lag > int(rule.kwargs["days"]) or lag < -1
            return RuleResult(
                rule, "fail" if late else "pass", rows=1, failing=int(late), aggregate=True, lag_days=max(0, lag)
            )
        if self._rows == 0:
            return RuleResult(rule, "not_assessed", "no_rows")
        if self._rows < ROWS_MIN:
            return RuleResult(rule, "not_assessed", "too_few_rows")
        if any(name not in self._types for name in rule.columns):
            return RuleResult(rule, "not_assessed", "column_missing")
        return None

    def _referential(self, rule: Rule) -> RuleResult:
        """Judge a rule between two tables by an anti-join; what the other table cannot give is not assessed."""
        source, other = self._references.get(str(rule.kwargs.get("resource"))), str(rule.kwargs.get("other_column"))
        if source is None:
            return RuleResult(rule, "not_assessed", "reference")
        keys = Suite(self._suite.name, self._suite.version, {other: "text"}, (), self._suite.null_values)
        try:
            with open_source(source, keys) as opened:
                if other not in opened.columns:
                    return RuleResult(rule, "not_assessed", "reference")
                known = opened.connection.sql(
                    f"SELECT DISTINCT {quoted(other)} AS known FROM {BATCH} WHERE {quoted(other)} IS NOT NULL"  # noqa: S608 - quoted names
                ).to_arrow_table()
        except SourceError:
            return RuleResult(rule, "not_assessed", "reference")
        column = quoted(str(rule.kwargs["column"]))
        self._connection.register("reference_keys", known)
        filled, failing = self._connection.execute(
            f"SELECT count({column}), count(*) FILTER ({column} IS NOT NULL AND known IS NULL)"  # noqa: S608 - quoted names
            f" FROM {BATCH} LEFT JOIN reference_keys ON CAST({column} AS VARCHAR) = known"
        ).fetchall()[0]
        self._connection.unregister("reference_keys")
        if not filled:
            return RuleResult(rule, "not_assessed", "nothing_to_check")
        fine = int(failing) * 1_000_000 <= rule.allowed_micro * int(filled)
        return RuleResult(rule, "pass" if fine else "fail", "", self._rows, self._rows - int(filled), int(failing))

    def _drift(self, rule: Rule) -> RuleResult:
        """Judge how far a column has moved since the delivery before."""
        before = self._before.shapes.get(str(rule.kwargs.get("column"))) if self._before else None
        if before is None or before.kind != self._types[str(rule.kwargs["column"])]:
            return RuleResult(rule, "not_assessed", "first_delivery")
        now = shape_like(self._connection, str(rule.kwargs["column"]), before)
        if min(before.filled, now.filled) < DRIFT_ROWS_MIN:
            return RuleResult(rule, "not_assessed", "too_few_rows")
        # What is judged is what is published: hundredths.
        index = round(psi(before.counts, now.counts), 2)
        failing = int(index > float(rule.kwargs["max_psi"]))
        return RuleResult(rule, "fail" if failing else "pass", rows=1, failing=failing, aggregate=True, psi=index)

    def _growth(self, rule: Rule) -> RuleResult:
        """Judge the number of rows against the delivery before."""
        if self._before is None or self._before.rows == 0:
            return RuleResult(rule, "not_assessed", "first_delivery")
        moved = abs(self._rows - self._before.rows) * 100
        failing = int(moved > float(rule.kwargs["percent"]) * self._before.rows)
        return RuleResult(rule, "fail" if failing else "pass", rows=1, failing=failing, aggregate=True)

    def _execute(self, plans: list[tuple[Rule, Plan]], slow: list[Rule], done: dict[str, RuleResult]) -> None:
        from quality import expectations, functions

        functions.register(self._connection)
        measured = self._measure([planned for _, planned in plans])
        for (rule, planned), metrics in zip(plans, measured, strict=True):
            if metrics is None:
                slow.append(rule)
                continue
            verdict = expectations.judge(planned.rule, self._types, metrics)
            done[rule.id] = self._result(rule, verdict, metrics)
        for rule in slow:
            done[rule.id] = self._result(rule, expectations.run_on_pandas(rule, self._types, self._frame(rule)), {})

    def _result(self, rule: Rule, verdict: "Verdict", metrics: Mapping[str, Any]) -> RuleResult:
        if verdict.empty:
            return RuleResult(rule, "not_assessed", "nothing_to_check")
        if verdict.success is None:
            return RuleResult(rule, "error", "unknown_rule" if verdict.unknown else "could_not_run")
        if not verdict.aggregate and verdict.rows <= verdict.missing:
            return RuleResult(rule, "not_assessed", "nothing_to_check")
        status: Status = "pass" if verdict.success else "fail"
        if not verdict.aggregate:
            return RuleResult(rule, status, "", verdict.rows, verdict.missing, verdict.failing)
        lag = (self._today - metrics["column.max"]).days if rule.type == FRESHNESS else None
        failing = int(not verdict.success)
        return RuleResult(rule, status, rows=1, failing=failing, aggregate=True, lag_days=lag)

    def _measure(self, plans: Sequence[Plan]) -> list[dict[str, Any] | None]:
        """Measure every plan in one scan; if DuckDB refuses, each alone, ``None`` for those it refuses."""
        import duckdb

        try:
            return list(self._scan(plans))
        except duckdb.Error:
            return [self._measure_alone(planned) for planned in plans]

    def _measure_alone(self, planned: Plan) -> dict[str, Any] | None:
        import duckdb

        try:
            return self._scan([planned])[0]
        except duckdb.Error:
            return None

    def _scan(self, plans: Sequence[Plan]) -> list[dict[str, Any]]:
        if not plans:
            return []
        aliases: dict[str, int] = {}
        for planned in plans:
            for sql in planned.measures.values():
                aliases.setdefault(sql, len(aliases))
        # Names of columns are quoted, values are literals that ``quality.plan`` wrote from the suite.
        row = self._connection.execute(f"SELECT {', '.join(aliases)} FROM {BATCH}").fetchall()[0]  # noqa: S608
        answers: list[dict[str, Any]] = []
        for planned in plans:
            metrics = {name: row[aliases[sql]] for name, sql in planned.measures.items()}
            for name, sql in planned.scans.items():
                metrics[name] = int(self._connection.execute(sql).fetchall()[0][0])
            answers.append(metrics)
        return answers

    def _frame(self, rule: Rule) -> Any:
        names = rule.columns if rule.columns and "row_condition" not in rule.kwargs else tuple(self._types)
        columns = ", ".join(quoted(name) for name in dict.fromkeys(names))
        return self._connection.execute(f"SELECT {columns} FROM {BATCH}").df()  # noqa: S608 - quoted names
