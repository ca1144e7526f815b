"""The compliance matrix: clause → requirement → control → tests → last result. Pure.

A requirement is *passing* only when every test that is marked with it ran over these very sources
and passed. Without a test it is *not yet*; what software cannot meet is *impossible*, with the
reason. Nothing is green by default.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from factory.law.errors import TableError
from factory.law.table import Clause, Requirement, Stage, Table

Status = Literal["passing", "failing", "not_run", "not_yet", "impossible"]
Outcome = Literal["passed", "failed", "skipped", "not_run"]

RESULT_FORMAT = 1

CYCLE = "SEC-CYCLE"
"""The requirement that is red while a stage of the data's life lacks its control or its record (SD-29-6)."""


@dataclass(frozen=True, slots=True)
class Results:
    """What a run of the tests gave.

    Attributes:
        finished_at: when it ended, as text; empty without a run.
        sources_sha256: digest of the sources it ran over.
        outcomes: by test.
    """

    finished_at: str = ""
    sources_sha256: str = ""
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Row:
    """One requirement.

    Attributes:
        requirement: it.
        clauses: its clauses, of the profile if one was asked for.
        controls: modules that carry it.
        tests: outcome per test, sorted.
        status: see the module text.
        reason: why it is impossible or red beyond its tests (Chinese, English).
    """

    requirement: Requirement
    clauses: tuple[Clause, ...]
    controls: tuple[str, ...]
    tests: Mapping[str, Outcome]
    status: Status
    reason: tuple[str, str] = ("", "")


@dataclass(frozen=True, slots=True)
class Matrix:
    """All requirements, or those of one profile.

    Attributes:
        profile: code, or empty for all.
        rows: in the order of the table.
        results: of the run.
        is_stale: the run was over other sources; its outcomes do not count.
        stages: of the data's life, each with what it lacks; empty if nothing.
    """

    profile: str
    rows: tuple[Row, ...]
    results: Results
    is_stale: bool
    stages: tuple[tuple[Stage, str], ...] = ()

    def count(self, priority: str, *statuses: Status) -> int:
        """Return how many requirements of a priority have one of the statuses, or all of them."""
        return sum(
            row.requirement.priority == priority and (not statuses or row.status in statuses) for row in self.rows
        )


class _ResultFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    format: Literal[1]
    finished_at: str
    sources_sha256: str
    tests: dict[str, Outcome]

    def results(self) -> Results:
        return Results(self.finished_at, self.sources_sha256, self.tests)


def read_results(text: str) -> Results:
    """Read a file of test results.

    Raises:
        TableError: not such a file.
    """
    try:
        return _ResultFile.model_validate_json(text).results()
    except ValidationError:
        raise TableError(
            f"expected a file of test results (format {RESULT_FORMAT}); make one with `make compliance`"
        ) from None


def matrix(
    table: Table,
    *,
    tests: Mapping[str, Iterable[str]],
    citing: Mapping[str, tuple[str, ...]],
    results: Results,
    sources_sha256: str,
    profile: str = "",
    gaps: Mapping[str, str] | None = None,
) -> Matrix:
    """Return the matrix.

    Args:
        table: requirements and clauses.
        tests: names of the tests marked with each requirement.
        citing: modules that cite each requirement.
        results: of the last run.
        sources_sha256: digest of the sources as they are now.
        profile: only what this profile's text or the national ones ask for.
        gaps: what a stage of the data's life lacks, by stage.

    Raises:
        TableError: a test is marked with a requirement that is not there.
    """
    unknown = sorted(set(tests) - set(table.requirements))
    if unknown:
        raise TableError(f"tests are marked with requirements that are not there: {', '.join(unknown[:5])}")
    is_stale = bool(results.outcomes) and results.sources_sha256 != sources_sha256
    rows = []
    for requirement in table.requirements.values():
        clauses = tuple(
            table.clauses[name]
            for name in requirement.clauses
            if not profile or table.clauses[name].jurisdiction in {profile, "NATIONAL"}
        )
        if not clauses:
            continue
        outcomes: dict[str, Outcome] = {
            name: "not_run" if is_stale else results.outcomes.get(name, "not_run")
            for name in sorted(tests.get(requirement.id, ()))
        }
        reason = table.impossible.get(requirement.id, ("", ""))
        lacking = gaps if requirement.id == CYCLE and gaps else {}
        controls = tuple(sorted({*citing.get(requirement.id, ()), *table.controls.get(requirement.id, ())}))
        status = _status(outcomes, reason)
        if lacking:
            told = "; ".join(f"{stage}: {problem}" for stage, problem in sorted(lacking.items()))
            status, reason = (
                "failing",
                (f"生命周期环节缺少控制：{told}", f"stages of the life cycle without control: {told}"),
            )
        rows.append(Row(requirement, clauses, controls, outcomes, status, reason))
    stages = tuple((stage, (gaps or {}).get(stage.id, "")) for stage in table.stages)
    return Matrix(profile, tuple(rows), results, is_stale, stages)


def _status(outcomes: Mapping[str, Outcome], reason: tuple[str, str]) -> Status:
    if "failed" in outcomes.values():
        return "failing"
    if any(reason):
        return "impossible"
    if not outcomes:
        return "not_yet"
    return "passing" if set(outcomes.values()) == {"passed"} else "not_run"


def to_json(found: Matrix) -> dict[str, Any]:
    """Return the matrix as scripts read it."""
    return {
        "profile": found.profile,
        "core_passing": found.count("core", "passing"),
        "core_total": found.count("core"),
        "governance_passing": found.count("governance", "passing"),
        "governance_total": found.count("governance"),
        "finished_at": found.results.finished_at,
        "is_stale": found.is_stale,
        "stages": [
            {"id": s.id, "title_zh": s.zh, "controls": dict(s.controls), "problem": problem}
            for s, problem in found.stages
        ],
        "rows": [
            {
                "id": row.requirement.id,
                "title_zh": row.requirement.title_zh,
                "capability": row.requirement.capability,
                "priority": row.requirement.priority,
                "requirement": row.requirement.text,
                "acceptance": row.requirement.acceptance,
                "clauses": [{"id": c.id, "instrument": c.instrument, "article": c.article} for c in row.clauses],
                "controls": list(row.controls),
                "tests": dict(row.tests),
                "status": row.status,
                "reason": row.reason[1],
            }
            for row in found.rows
        ],
    }
