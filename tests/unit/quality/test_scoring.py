"""Scores: not assessed is never 100, a critical failure caps the grade, thresholds hold."""

from dataclasses import replace

import pytest

from quality.errors import ProfileError
from quality.scoring import DEFAULT_PROFILE, Hold, Scored, rule_score_x100, score


def rule(indicator="0201", *, checked=1_000, failing=0, severity="major", status="pass", rule_id="R-1"):
    return Scored(rule_id, indicator, severity, status, checked, failing)


def dimension(result, name):
    return next(item for item in result.dimensions if item.name == name)


def test_nothing_evaluated_is_not_assessed_and_held():
    result = score([rule(status="not_assessed", checked=0)], DEFAULT_PROFILE)
    assert (result.total_x100, result.grade, result.verdict) == (None, "not_assessed", "held")
    assert result.holds == (Hold("score.not_assessed", "total"),)


def test_an_indicator_without_elements_has_no_ratio():
    result = score([rule()], DEFAULT_PROFILE)
    ratios = {item.code: item.x_micro for item in result.indicators}
    assert len(ratios) == 20
    assert (ratios["0201"], ratios["0301"]) == (1_000_000, None)


def test_a_critical_rule_that_could_not_run_holds_the_resource():
    result = score([rule(), rule("0301", severity="critical", status="error", rule_id="R-2")], DEFAULT_PROFILE)
    assert Hold("rule.critical_not_assessed", "R-2") in result.holds
    assert result.grade == "poor"


def test_a_failed_critical_rule_caps_the_grade_though_the_score_is_high():
    rules = [rule("0201"), rule("0301", failing=5, severity="critical", status="fail", rule_id="R-2")]
    result = score(rules, DEFAULT_PROFILE)
    assert result.total_x100 == 9_972
    assert (result.grade, result.verdict) == ("poor", "held")
    assert result.holds == (Hold("rule.critical", "R-2"),)


def test_a_failed_major_rule_above_the_thresholds_does_not_hold():
    result = score([rule(failing=20, status="fail")], DEFAULT_PROFILE)
    assert (result.total_x100, result.verdict) == (9_800, "pass")


@pytest.mark.requirement("Q-DIMS")
@pytest.mark.parametrize(
    ("failing", "verdict"),
    [(21, "held"), (20, "pass"), (19, "pass"), (50, "held")],
    ids=["below", "at", "above", "far"],
)
def test_completeness_below_its_threshold_of_98_holds(failing, verdict):
    thresholds = {**DEFAULT_PROFILE.dimension_thresholds_x100, "completeness": 9_800}
    profile = replace(DEFAULT_PROFILE, dimension_thresholds_x100=thresholds)
    result = score([rule(failing=failing)], profile)
    assert result.verdict == verdict
    assert {item.code: (item.numerator, item.denominator) for item in result.indicators}["0201"] == (
        1_000 - failing,
        1_000,
    )


@pytest.mark.parametrize(
    ("failing", "grade"),
    [(0, "excellent"), (50, "excellent"), (51, "good"), (150, "good"), (151, "fair"), (301, "poor")],
)
def test_grades_begin_at_their_bounds(failing, grade):
    assert score([rule(failing=failing, status="fail")], DEFAULT_PROFILE).grade == grade


def test_severity_weighs_rules_inside_a_dimension():
    rules = [rule(severity="critical"), rule(failing=1_000, severity="minor", status="fail", rule_id="R-2")]
    assert dimension(score(rules, DEFAULT_PROFILE), "completeness").score_x100 == 8_333


def test_weights_of_dimensions_not_assessed_drop_out():
    rules = [rule("0201"), rule("0301", failing=100, status="fail", rule_id="R-2")]
    assert score(rules, DEFAULT_PROFILE).total_x100 == (10_000 * 20 + 9_000 * 25) // 45


def test_one_bad_element_in_a_million_is_not_a_full_score():
    assert rule_score_x100(rule(checked=1_000_000, failing=1)) == 9_999


def test_more_failing_than_checked_is_a_programming_error():
    with pytest.raises(ValueError, match="failing <= checked"):
        score([rule(checked=1, failing=2)], DEFAULT_PROFILE)


@pytest.mark.parametrize(
    "wrong",
    [
        {"dimension_weights": {"accuracy": 1}},
        {"severity_weights": {"critical": 1, "major": 1, "minor": 0}},
        {"score_min_x100": 10_001},
        {"grades": (("good", 9_000),)},
        {"critical_cap": "unknown"},
    ],
)
def test_an_incomplete_profile_is_refused(wrong):
    with pytest.raises(ProfileError):
        replace(DEFAULT_PROFILE, **wrong)
