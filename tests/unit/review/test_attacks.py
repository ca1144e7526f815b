"""Attacks on products of every form: what leaks is stopped, what does not passes."""

import json

import numpy as np
import pytest

from factory.law.files import built_in, proposed
from factory.law.profile import complete, unset, with_choices
from factory.review import attacks, figures
from factory.review.finding import failures
from factory.review.suite import Limits, run_tests
from tests.attack_figures import HONEST

RULES = proposed("NATIONAL").review
LIMITS = Limits(10, 5, RULES)


def failed(form, files, metrics=None, **more):
    return [f.test for f in run_tests(form, files, metrics=metrics or {}, limits=LIMITS, **more) if not f.is_ok]


# --- figures ------------------------------------------------------------------------------


@pytest.mark.parametrize(("members", "others"), [([0, 0], [1, 1]), ([1], [1, 2]), ([-1, 2], [1, 1])])
def test_an_attack_without_rows_has_no_figure(members, others):
    with pytest.raises(ValueError, match="histograms"):
        figures.area(members, others)


@pytest.mark.requirement("RECON")
def test_an_attacker_no_better_than_a_coin_has_half_the_area_inside_its_interval():
    figure = figures.area([10, 20, 30], [100, 200, 300])
    assert figure.micro == 500_000
    assert figure.low_micro < 500_000 < figure.high_micro


def test_the_area_equals_the_count_over_all_pairs():
    members, others = [3, 1, 4, 1], [2, 7, 1, 8]
    wins = sum(
        m * o * (1.0 if i > j else 0.5 if i == j else 0.0) for i, m in enumerate(members) for j, o in enumerate(others)
    )
    assert figures.area(members, others).micro == round(wins / (sum(members) * sum(others)) * 1_000_000)


def test_the_interval_covers_the_true_area_about_as_often_as_it_says():
    rng, covered = np.random.default_rng(5), 0
    edges = np.linspace(-4, 5, 33)
    for _ in range(200):
        sides = [np.histogram(rng.normal(shift, 1, 150), edges)[0].tolist() for shift in (0.5, 0.0)]
        figure = figures.area(*sides)
        covered += figure.low_micro <= 638_163 <= figure.high_micro  # Phi(0.5 / sqrt(2))
    assert covered >= 180


def test_hits_are_counted_at_one_mistake_in_a_hundred():
    assert figures.hits_at_few_mistakes([50, 20, 30], [98, 1, 1]).micro == 300_000
    assert figures.hits_at_few_mistakes([50, 20, 30], [97, 1, 2]).micro == 0


def test_the_largest_of_many_differences_has_a_wider_interval_than_one():
    one = figures.largest_difference([(60, 20)], members=100, others=50)[1]
    place, many = figures.largest_difference([(60, 20), *[(1, 1)] * 9], members=100, others=50)
    assert (place, one.micro, many.micro) == (0, 200_000, 200_000)
    assert many.low_micro < one.low_micro < 200_000 < one.high_micro < many.high_micro


def test_one_difference_has_the_interval_of_newcombes_example():
    figure = figures.largest_difference([(56, 48)], members=70, others=80)[1]
    rounded = [round(end / 1_000_000, 4) for end in (figure.low_micro, figure.high_micro)]
    assert rounded == [0.0524, 0.3339]  # Newcombe 1998, table II, example (a), method 10


# --- models -------------------------------------------------------------------------------


@pytest.mark.requirement("RECON")
def test_an_honest_model_passes():
    assert failed("model", {"model.onnx": b"x"}, HONEST) == []


@pytest.mark.parametrize(
    ("metric", "at_limit", "test"),
    [
        ("membership_auc_micro", 600_000, "membership_inference"),
        ("lira_auc_micro", 700_000, "membership_ratio"),
        ("lira_tpr_low_micro", 100_000, "membership_hits"),
        ("attribute_advantage_low_micro", 50_000, "attribute_inference"),
        ("memorised_rows", 0, "memorised_rows"),
        ("reconstructed_rows", 0, "reconstruction"),
    ],
)
@pytest.mark.requirement("RECON")
def test_each_limit_of_a_model_is_a_limit(metric, at_limit, test):
    assert failed("model", {"model.onnx": b"x"}, HONEST | {metric: at_limit}) == []
    assert failed("model", {"model.onnx": b"x"}, HONEST | {metric: at_limit + 1}) == [test]
    del (without := dict(HONEST))[metric]
    assert failed("model", {"model.onnx": b"x"}, without) == [test]


def test_parts_of_a_model_that_stay_apart_are_attacked_by_confidence_alone():
    parts = {"parts.json": b"{}"}
    assert failed("model", parts, {"membership_auc_micro": 510_000}) == []
    assert failed("model", parts, {"membership_auc_micro": 610_000}) == ["membership_inference"]


def test_a_deployer_sets_a_stricter_limit_and_the_finding_names_it():
    layer = built_in("GD")
    words = {key: leaf.propose for key, leaf in unset(layer)}
    strict = complete(with_choices(layer, words | {"review.ratio_auc_micro": 550_000})).review
    found = run_tests("model", {"model.onnx": b"x"}, metrics=HONEST, limits=Limits(10, 5, strict))
    assert failures(found) == ["membership_ratio: expected at most 550000 millionths of AUC, measured 560000"]


# --- reports ------------------------------------------------------------------------------


def report(rows, *, round_base=5, axes=None, name="t", total=None):
    """A cross-table; None is a suppressed cell. Totals are the given ones, or sums of what is shown."""
    axes = axes or [[f"r{n}" for n in range(len(rows))], [f"c{n}" for n in range(len(rows[0]))]]
    cells = {
        (r, c): value for r, line in zip(axes[0], rows, strict=True) for c, value in zip(axes[1], line, strict=True)
    }
    shown = {}
    for at in [(r, c) for r in (*axes[0], "*") for c in (*axes[1], "*")]:
        parts = [v for place, v in cells.items() if all(a in ("*", p) for a, p in zip(at, place, strict=True))]
        shown[at] = cells[at] if at in cells else (total or {}).get(at, sum(v or 0 for v in parts))
    states = {
        at: {"at": list(at), "value": None if v in (None, 0) else v, "state": state(v)} for at, v in shown.items()
    }
    table = {"name": name, "kind": "crosstab", "column": None, "by": ["a", "b"], "axes": axes}
    table["cells"] = list(states.values())
    return {"tables.json": json.dumps({"round_base": round_base, "cell_min": 10, "tables": [table]}).encode()}


HIDDEN = [[None, None], [None, None], [30, 40]]
TOTALS = {("r0", "*"): 100, ("r1", "*"): 90, ("*", "c0"): 130, ("*", "c1"): 130, ("*", "*"): 260}


def state(value):
    return "suppressed" if value is None else "published" if value else "empty"


def test_a_report_whose_suppressed_cells_may_be_anything_passes():
    totals = {("r0", "*"): 60, ("r1", "*"): 65, ("*", "c0"): 35, ("*", "c1"): 35, ("*", "*"): 125}
    rows = [[None, None, 20], [None, None, 35]]
    assert failed("report", report(rows, total=totals | {("*", "c2"): 55})) == []


def test_a_report_whose_numbers_contradict_each_other_is_stopped():
    assert failed("report", report(HIDDEN, total=TOTALS)) == []
    assert failed("report", report(HIDDEN, total=TOTALS | {("r0", "*"): 300})) == ["suppressed_bounds"]


@pytest.mark.requirement("LINK-RISK")
def test_a_report_with_a_cell_of_one_is_stopped():
    found = failed("report", report([[1, 20], [30, 40]], round_base=1))
    assert "minimum_counts" in found


@pytest.mark.requirement("LINK-RISK")
def test_two_suppressed_cells_of_an_unrounded_report_that_add_up_to_three_are_worked_out():
    totals = {("r0", "*"): 23, ("r1", "*"): 63, ("*", "c0"): 31, ("*", "c1"): 35, ("*", "*"): 86}
    files = report([[None, None, 20], [None, None, 0]], total=totals | {("*", "c2"): 20}, round_base=1)
    limits = Limits(10, 1, RULES)
    found = {f.test: f for f in run_tests("report", files, metrics={}, limits=limits)}
    assert found["suppressed_bounds"].value == 4
    assert found["suppressed_bounds"].evidence["narrowest"] == 3
    assert found["minimum_counts"].is_ok  # no cell follows by subtraction: only the programme finds it


@pytest.mark.requirement("LINK-RISK")
def test_a_report_that_shows_what_an_earlier_one_suppressed_is_stopped_and_the_other_way_round():
    open_, closed = report([[15, 20], [30, 40]]), report([[None, None], [30, 40]])
    assert failed("report", open_, earlier={"old@1": closed}) == ["linkage"]
    assert "linkage" in failed("report", closed, earlier={"old@1": open_})
    assert failed("report", open_, earlier={"old@1": open_}) == []


@pytest.mark.requirement("LINK-RISK")
@pytest.mark.parametrize(("grown", "stopped"), [(0, False), (1, True), (9, True), (10, False)])
def test_a_report_that_differs_from_an_earlier_one_by_a_few_is_stopped(grown, stopped):
    before, after = (report([[20 + more, 30], [40, 50]], round_base=1) for more in (0, grown))
    found = run_tests("report", after, metrics={}, limits=Limits(10, 1, RULES), earlier={"old@1": before})
    assert ("linkage" in [f.test for f in found if not f.is_ok]) is stopped


def test_reports_divided_another_way_are_not_compared():
    other = report([[15, 20], [30, 40], [30, 40]], axes=[["r0", "r1", "r2"], ["x", "y"]])
    assert failed("report", report(HIDDEN, total=TOTALS), earlier={"o": other}) == []


@pytest.mark.requirement("LINK-RISK")
def test_a_group_that_all_falls_into_one_class_of_a_sensitive_column_is_stopped():
    files = report([[50, 0], [30, 40]])
    assert failed("report", files, sensitive={"t": ["b"]}) == ["attribute_disclosure"]
    assert failed("report", files, sensitive={"t": ["a"]}) == ["attribute_disclosure"]
    assert failed("report", files) == []
    assert failed("report", report([[50, 10], [30, 40]]), sensitive={"t": ["b"]}) == []


# --- indices ------------------------------------------------------------------------------


def index(weights=(400, 400, 200), *, domains=3, told=True, least=3):
    parts = [{"name": f"d{n}", "node": f"n{n}", "weight_permille": w, "indicators": []} for n, w in enumerate(weights)]
    parameters = {"key": "k", "entities": ["e"], "normalisation": "z", "missing": "zero", "domains": parts}
    parameters |= {"domains_min": least}
    sensitivity = [
        {"node": p["node"], "withheld": not told, **({"weight_permille": p["weight_permille"]} if told else {})}
        for p in parts
    ]
    return {
        "method.json": json.dumps({"parameters": parameters}).encode(),
        "sensitivity.json": json.dumps({"domains": sensitivity}).encode(),
        "index.json": json.dumps({"rows": [{"entity": "e", "score_x100": 5000, "domains": domains}]}).encode(),
    }


def test_an_index_of_balanced_domains_passes():
    assert failed("index", index()) == []
    assert failed("index", index(told=False)) == []


@pytest.mark.requirement("LINK-RISK")
@pytest.mark.parametrize("told", [True, False])
def test_an_index_in_which_one_domain_is_nearly_everything_is_stopped(told):
    assert failed("index", index((850, 100, 50), told=told)) == []
    assert failed("index", index((851, 100, 49), told=told)) == ["index_weight"]


@pytest.mark.requirement("LINK-RISK")
def test_indices_that_together_leave_a_domain_alone_are_stopped():
    assert failed("index", index(), earlier={"old@1": index((200, 200, 600))}) == ["index_domains"]
    assert failed("index", index(), earlier={"old@1": index((500, 300, 200))}) == []
    three = {"a@1": index((500, 300, 200)), "b@1": index((300, 300, 400))}
    assert failed("index", index(), earlier=three) == ["index_domains"]
    assert failed("index", index(), earlier={"same@1": index()}) == []


def test_a_score_of_too_few_domains_is_stopped():
    assert failed("index", index(domains=1)) == ["index_domains"]


# --- verifications ------------------------------------------------------------------------

TIMES = {"timing_auc_micro": 520_000, "timing_auc_low_micro": 430_000, "timing_auc_high_micro": 610_000}


def verification(**changes):
    method = {"fields": [{"column": "name"}, {"column": "id_no"}], "batch_max": 16, "minute_max": 600} | changes
    return {"method.json": json.dumps(method).encode()}


def test_a_verification_that_is_watched_limited_and_even_passes():
    found = run_tests("verification", verification(), metrics=TIMES, limits=LIMITS)
    assert failures(found) == []
    assert next(f.value for f in found if f.test == "enumeration") == 200


@pytest.mark.requirement("LINK-RISK")
def test_a_gateway_without_a_limit_is_stopped():
    assert failed("verification", verification(minute_max=1_000_000), TIMES) == ["rate"]


def test_a_watch_that_looks_too_late_is_stopped():
    assert failed("verification", verification(batch_max=1001), TIMES) == ["enumeration"]


def test_a_watch_that_raises_no_alarm_is_stopped(monkeypatch):
    monkeypatch.setattr(attacks.Watch, "see", lambda *_: None)
    assert failed("verification", verification(), TIMES) == ["enumeration"]


@pytest.mark.requirement("RECON")
def test_answers_whose_time_tells_a_hit_are_stopped():
    hits, misses = [0.020 + n / 1e5 for n in range(20)], [0.010 + n / 1e5 for n in range(20)]
    leaky = figures.area_of_values(hits, misses).metrics("timing_auc")
    assert leaky["timing_auc_micro"] == 1_000_000
    assert failed("verification", verification(), leaky) == ["timing"]
    assert failed("verification", verification(), {}) == ["timing"]
    even = figures.area_of_values(hits, hits).metrics("timing_auc")
    assert failed("verification", verification(), even) == []
