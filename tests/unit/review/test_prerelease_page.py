"""The pre-release report as a page."""

from factory.review.prerelease import Item, Measure, report_html

DIGEST = "ab" * 32


def page(*measures):
    return report_html([Item("accuracy", measures)], product="p@1.0.0").decode()


def test_a_limit_that_is_the_most_allowed_is_shown_as_such_kept_or_missed():
    kept = page(Measure("缺少", "lacking", 0, 0, True, "parts", DIGEST, is_most=True))
    missed = page(Measure("缺少", "lacking", 3, 0, False, "parts", DIGEST, is_most=True))
    assert "≤ 0" in kept
    assert "≤ 0" in missed
    assert "不符合" in missed


def test_scores_are_shown_in_points_and_not_in_hundredths():
    text = page(Measure("得分", "score", 9975, 9500, True, "hundredths", DIGEST))
    assert "99.75" in text
    assert "≥ 95.00" in text
    assert "hundredths" not in text


def test_nothing_on_the_page_is_loaded_or_run():
    text = page(Measure("<script>", "&", 1, 1, True, "of 1", DIGEST))
    assert "<script" not in text
    assert "http" not in text
