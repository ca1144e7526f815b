"""Scores: from published counts to indicators, dimensions, a total, a grade and a verdict.

Pure. Works on the published counts only (``quality.suppression``), so whoever holds a report
can recompute every figure in it, and no figure tells more than the counts do. All scores are
hundredths (9_650 is 96.50), rounded down: a table with one bad element is never 100.00.

Source:
    GB/T 36344-2018: X = A/B per indicator. Nothing evaluated (B = 0) is "not assessed", never
    100. Severity weights, dimension weights and thresholds are not in the standard; they come
    from the profile and are printed with the report.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, TypeAlias

from quality.errors import ProfileError
from quality.indicators import DIMENSIONS, INDICATORS
from quality.suite import SEVERITIES, Severity

Status: TypeAlias = Literal["pass", "fail", "error", "not_assessed"]
Verdict: TypeAlias = Literal["pass", "held"]


@dataclass(frozen=True, slots=True)
class Profile:
    """Weights and thresholds of one resource or jurisdiction.

    Attributes:
        name: of the profile.
        version: of the profile.
        dimension_weights: whole numbers per dimension; those of dimensions that were not assessed drop out.
        dimension_thresholds_x100: lowest score per dimension, in hundredths.
        severity_weights: whole numbers per severity.
        score_min_x100: lowest total that may enter a run, in hundredths.
        grades: (grade, lowest total in hundredths), best first, the last with 0.
        critical_cap: best grade that a table with a failed critical rule can have.
    """

    name: str
    version: str
    dimension_weights: Mapping[str, int]
    dimension_thresholds_x100: Mapping[str, int]
    severity_weights: Mapping[Severity, int]
    score_min_x100: int
    grades: tuple[tuple[str, int], ...]
    critical_cap: str

    def __post_init__(self) -> None:
        """Check that the profile is complete.

        Raises:
            ProfileError: it is not.
        """
        names = {dimension.name for dimension in DIMENSIONS}
        if set(self.dimension_weights) != names or set(self.dimension_thresholds_x100) != names:
            raise ProfileError(f"expected weights and thresholds for exactly {', '.join(sorted(names))}")
        if set(self.severity_weights) != set(SEVERITIES) or min(self.severity_weights.values()) < 1:
            raise ProfileError(f"expected a weight of at least 1 for each of {', '.join(SEVERITIES)}")
        if min(self.dimension_weights.values()) < 0 or sum(self.dimension_weights.values()) < 1:
            raise ProfileError("expected dimension weights of at least 0, not all of them 0")
        bounds = [*self.dimension_thresholds_x100.values(), self.score_min_x100, *(low for _, low in self.grades)]
        if any(not 0 <= bound <= 10_000 for bound in bounds):
            raise ProfileError("expected every threshold between 0 and 10000 hundredths")
        lows = [low for _, low in self.grades]
        if not lows or lows[-1] != 0 or lows != sorted(set(lows), reverse=True):
            raise ProfileError("expected grades from best to worst, each with a lower bound, the last with 0")
        if self.critical_cap not in {grade for grade, _ in self.grades}:
            raise ProfileError("expected critical_cap to be one of the grades")


DEFAULT_PROFILE = Profile(
    name="default",
    version="1.0.0",
    dimension_weights={
        "conformity": 20,
        "completeness": 20,
        "accuracy": 25,
        "consistency": 15,
        "timeliness": 15,
        "accessibility": 5,
    },
    dimension_thresholds_x100={
        "conformity": 9_500,
        "completeness": 9_500,
        "accuracy": 9_500,
        "consistency": 9_500,
        "timeliness": 8_000,
        "accessibility": 9_500,
    },
    severity_weights={"critical": 5, "major": 3, "minor": 1},
    score_min_x100=8_500,
    grades=(("excellent", 9_500), ("good", 8_500), ("fair", 7_000), ("poor", 0)),
    critical_cap="poor",
)


@dataclass(frozen=True, slots=True)
class Scored:
    """What scoring needs to know of one rule, in published counts.

    Attributes:
        id: of the rule.
        indicator: of the rule.
        severity: of the rule.
        status: of the rule.
        checked: elements evaluated, B.
        failing: elements that fail, B - A; a suppressed count stands at the upper end of its band.
    """

    id: str
    indicator: str
    severity: Severity
    status: Status
    checked: int
    failing: int


@dataclass(frozen=True, slots=True)
class IndicatorScore:
    """One indicator: ``numerator`` of ``denominator`` elements are right; ``None`` of it when B = 0."""

    code: str
    numerator: int
    denominator: int

    @property
    def x_micro(self) -> int | None:
        """X = A/B in millionths, rounded down; ``None`` when nothing was evaluated."""
        return self.numerator * 1_000_000 // self.denominator if self.denominator else None


@dataclass(frozen=True, slots=True)
class DimensionScore:
    """One dimension; ``score_x100`` and ``verdict`` are ``None`` and ``not_assessed`` when no rule was evaluated."""

    name: str
    weight: int
    threshold_x100: int
    score_x100: int | None
    verdict: Literal["pass", "fail", "not_assessed"]


@dataclass(frozen=True, slots=True)
class Hold:
    """Why a resource may not enter a run: a code of ``findings.HOLDS`` and the rule or dimension it is about."""

    code: str
    about: str


@dataclass(frozen=True, slots=True)
class Score:
    """The outcome.

    Attributes:
        total_x100: weighted mean of the assessed dimensions in hundredths; ``None``: not assessed.
        grade: of the profile, or ``not_assessed``.
        verdict: ``held`` as soon as there is one hold.
        holds: every reason to hold.
        dimensions: six, in the standard's sequence.
        indicators: twenty, in the standard's sequence.
    """

    total_x100: int | None
    grade: str
    verdict: Verdict
    holds: tuple[Hold, ...]
    dimensions: tuple[DimensionScore, ...]
    indicators: tuple[IndicatorScore, ...]


def rule_score_x100(rule: Scored) -> int | None:
    """Return the score of one rule in hundredths, ``None`` when it was not evaluated."""
    return (rule.checked - rule.failing) * 10_000 // rule.checked if _assessed(rule) else None


def score(rules: Sequence[Scored], profile: Profile) -> Score:
    """Score a table.

    Args:
        rules: every rule of the run, also those not assessed.
        profile: weights and thresholds.

    Raises:
        ValueError: a rule has more failing than checked elements, or an unknown indicator.
    """
    for rule in rules:
        if not 0 <= rule.failing <= rule.checked or rule.indicator not in INDICATORS:
            raise ValueError(f"expected 0 <= failing <= checked and a known indicator in rule {rule.id}")
    dimensions = tuple(_dimension(name, rules, profile) for name in (dimension.name for dimension in DIMENSIONS))
    total = _total(dimensions)
    critical = any(rule.severity == "critical" and rule.status in ("fail", "error") for rule in rules)
    holds = _holds(rules, dimensions, total, profile)
    return Score(
        total_x100=total,
        grade=_grade(total, profile, critical_failed=critical),
        verdict="held" if holds else "pass",
        holds=holds,
        dimensions=dimensions,
        indicators=tuple(_indicator(code, rules) for code in INDICATORS),
    )


def _assessed(rule: Scored) -> bool:
    return rule.status in ("pass", "fail") and rule.checked > 0


def _indicator(code: str, rules: Sequence[Scored]) -> IndicatorScore:
    mine = [rule for rule in rules if rule.indicator == code and _assessed(rule)]
    return IndicatorScore(code, sum(rule.checked - rule.failing for rule in mine), sum(rule.checked for rule in mine))


def _dimension(name: str, rules: Sequence[Scored], profile: Profile) -> DimensionScore:
    mine = [rule for rule in rules if INDICATORS[rule.indicator].dimension == name and _assessed(rule)]
    weight, threshold = profile.dimension_weights[name], profile.dimension_thresholds_x100[name]
    if not mine:
        return DimensionScore(name, weight, threshold, None, "not_assessed")
    weights = sum(profile.severity_weights[rule.severity] for rule in mine)
    mean = sum(
        (
            Fraction(rule.checked - rule.failing, rule.checked) * profile.severity_weights[rule.severity]
            for rule in mine
        ),
        Fraction(0),
    )
    value = int(mean * 10_000 / weights)
    return DimensionScore(name, weight, threshold, value, "pass" if value >= threshold else "fail")


def _total(dimensions: Sequence[DimensionScore]) -> int | None:
    assessed = [(item.score_x100, item.weight) for item in dimensions if item.score_x100 is not None]
    weights = sum(weight for _, weight in assessed)
    return sum(value * weight for value, weight in assessed) // weights if weights else None


def _grade(total: int | None, profile: Profile, *, critical_failed: bool) -> str:
    if total is None:
        return "not_assessed"
    names = [grade for grade, _ in profile.grades]
    earned = next(index for index, (_, low) in enumerate(profile.grades) if total >= low)
    return names[max(earned, names.index(profile.critical_cap)) if critical_failed else earned]


def _holds(
    rules: Sequence[Scored], dimensions: Sequence[DimensionScore], total: int | None, profile: Profile
) -> tuple[Hold, ...]:
    holds: list[Hold] = []
    for rule in rules:
        if rule.severity == "critical" and rule.status == "fail":
            holds.append(Hold("rule.critical", rule.id))
        elif rule.severity == "critical" and rule.status != "pass":
            holds.append(Hold("rule.critical_not_assessed", rule.id))
    holds.extend(Hold("dimension.threshold", item.name) for item in dimensions if item.verdict == "fail")
    if total is None:
        holds.append(Hold("score.not_assessed", "total"))
    elif total < profile.score_min_x100:
        holds.append(Hold("score.threshold", "total"))
    return tuple(holds)
