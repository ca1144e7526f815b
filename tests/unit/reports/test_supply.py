"""The evaluation of source departments: every deduction has its evidence, and without evidence nothing is final."""

import json
from datetime import date

import pytest

from factory.supply import EvidenceMissingError, SupplyPlanError, evaluate, parse_plan, require_final
from factory.supply_pages import html, pdf
from quality.portfolio import Signed

TODAY = date(2026, 7, 10)
PLAN = """
period = "2026 年上半年"
from = 2026-01-01
to = 2026-06-30
binding_days = 20
[weights]
bindings = 30
timeliness = 20
quality = 30
response = 20
[[resources]]
id = "res.east.a"
department = "org.east"
included_on = 2026-03-02
[[resources]]
id = "res.east.b"
department = "org.east"
included_on = 2026-03-02
[[resources]]
id = "res.west.a"
department = "org.west"
included_on = 2026-03-02
"""


def signed(
    resource, department, *, total=9_800, timeliness=10_000, bound_on="2026-03-20", orders=(), at="2026-06-01", n=1
):
    report = {
        "resource": {"id": resource},
        "assessed_at": f"{at}T08:00:00Z",
        "bound_on": bound_on,
        "score": {"total_x100": total},
        "dimensions": [{"name": "timeliness", "score_x100": timeliness}],
        "orders": list(orders),
    }
    return Signed(report, f"{n:02d}" * 32, department, f"{department} 部门", department)


def order(name, due, state="open", kind="rectification"):
    return {"id": name, "kind": kind, "due_on": due, "state": state}


def all_three(**changes):
    return [
        signed("res.east.a", "org.east", **changes),
        signed("res.east.b", "org.east", n=2),
        signed("res.west.a", "org.west", n=3),
    ]


def east(document):
    return next(row for row in document["departments"] if row["id"] == "org.east")


def part(document, name):
    return next(item for item in east(document)["parts"] if item["name"] == name)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("bindings = 30", "bindings = 31", "100"),
        ("bindings = 30", "bindings = 30.0", "whole"),
        ("response = 20\n", "", "weights"),
        ("binding_days = 20", "", "binding_days"),
        ("binding_days = 20", "binding_days = 20\ncolour = 1", "colour"),
        ("to = 2026-06-30", "to = 2025-06-30", "period"),
        ('id = "res.east.b"', 'id = "res.east.a"', "once"),
        ("included_on = 2026-03-02", 'included_on = "soon"', "2026-01-31"),
        ("[weights]", "[weights", "TOML"),
    ],
)
def test_a_plan_that_leaves_something_open_is_refused(old, new, told):
    assert old in PLAN
    with pytest.raises(SupplyPlanError, match=told):
        parse_plan(PLAN.replace(old, new, 1))


@pytest.mark.requirement("Q-SUPPLYEVAL")
def test_one_late_binding_is_deducted_with_its_evidence():
    # 20 working days after 2026-03-02 is 2026-03-30.
    document = evaluate(parse_plan(PLAN), all_three(bound_on="2026-03-31"), today=TODAY)
    bindings = part(document, "bindings")
    assert bindings["points_x100"] == 1_500
    assert bindings["deductions"] == [
        {
            "resource": "res.east.a",
            "zh": "应于 2026-03-30 前绑定，实为 2026-03-31",
            "en": "due by 2026-03-30, bound on 2026-03-31",
            "evidence": "sha256:" + "01" * 32,
            "points_x100": -1_500,
        }
    ]
    in_time = evaluate(parse_plan(PLAN), all_three(bound_on="2026-03-30"), today=TODAY)
    assert part(in_time, "bindings")["deductions"] == []


@pytest.mark.requirement("Q-SUPPLYEVAL")
@pytest.mark.parametrize(
    "reports",
    [all_three()[1:], all_three(bound_on=""), all_three(at="2026-07-01"), all_three(at="2025-12-31")],
    ids=["no report", "no day of binding", "report after the period", "report before it"],
)
def test_a_score_with_missing_evidence_is_not_final(reports):
    document = evaluate(parse_plan(PLAN), reports, today=TODAY)
    assert not east(document)["final"]
    assert [item["resource"] for item in east(document)["missing"]] == ["res.east.a"]
    with pytest.raises(EvidenceMissingError, match=r"res\.east\.a"):
        require_final(document)


def test_a_resource_that_a_document_shows_was_never_bound_loses_its_points_and_can_be_final():
    plan = parse_plan(PLAN.replace("2026-03-02\n[[", '2026-03-02\nevidence = "督办函〔2026〕12号"\n[[', 1))
    document = evaluate(plan, all_three()[1:], today=TODAY)
    (deduction,) = part(document, "bindings")["deductions"]
    assert (deduction["points_x100"], deduction["evidence"]) == (-1_500, "督办函〔2026〕12号")
    require_final(document)


def test_quality_and_timeliness_are_means_of_the_period():
    reports = [
        *all_three(total=9_000, timeliness=5_000),
        signed("res.east.a", "org.east", total=8_000, at="2026-05-01"),
    ]
    document = evaluate(parse_plan(PLAN), reports, today=TODAY)
    # The mean of 90 and 80 is 85, of the other resource 98: 30 points less 30 x (15 % + 2 %) / 2.
    assert part(document, "quality")["points_x100"] == 2_745
    assert part(document, "timeliness")["points_x100"] == 1_750
    assert "85.00（2 份报告）" in part(document, "quality")["deductions"][0]["zh"]


@pytest.mark.parametrize(
    ("orders", "points"),
    [
        ([order("T-1", "2026-06-01")], 2_000),
        ([order("T-1", "2026-05-31")], 0),
        ([order("T-1", "2026-06-01", "closed"), order("T-2", "2026-05-31", "closed")], 1_000),
        ([order("T-1", "2026-01-01", kind="dispute")], None),
        ([], None),
    ],
)
def test_an_order_that_was_late_is_deducted_and_none_is_not_a_full_mark(orders, points):
    document = evaluate(parse_plan(PLAN), all_three(orders=orders), today=TODAY)
    assert part(document, "response")["points_x100"] == points


def test_a_part_with_nothing_to_evaluate_drops_out_and_the_rest_is_scaled():
    document = evaluate(parse_plan(PLAN), all_three(), today=TODAY)
    # 30 + 20 + 29.4 of 80 points.
    assert east(document)["score_x100"] == 9_925


def test_departments_are_ranked_and_others_and_other_resources_are_left_out():
    more = [signed("res.north.z", "org.north"), signed("res.east.other", "org.east", total=0, n=9)]
    document = evaluate(parse_plan(PLAN), [*all_three(total=5_000), *more], today=TODAY)
    assert [row["id"] for row in document["departments"]] == ["org.west", "org.east"]


def test_the_pages_say_every_deduction_in_both_languages_and_equal_documents_give_equal_bytes():
    document = evaluate(
        parse_plan(PLAN), all_three(bound_on="2026-04-01", orders=[order("T-1", "2026-05-01")]), today=TODAY
    )
    assert json.loads(json.dumps(document)) == document
    for lang, told in (("zh", "逾期"), ("en", "late")):
        page = html(document, lang=lang)
        assert told in page
        assert "−15.00" in page
        assert "<script" not in page
        assert pdf(document, lang=lang) == pdf(document, lang=lang)
