"""Rule sets of disclosure control: on real fines by district, and each rule by itself."""

import random
from pathlib import Path

import pandas as pd
import pytest

from factory.agency import register, tops
from factory.agency.tables import Protected, protected_tables
from factory.federation.rules import REASONS, rule_set
from nodes.contract.grant import Thresholds
from nodes.contract.messages import Condition
from nodes.contract.tasks.sums import Category, Measure, SumsParameters
from nodes.contract.tasks.tops import PRIME, power_sums
from nodes.privacy.counting import vector

FINES = Path(__file__).resolve().parents[4] / "shared" / "data" / "beijing_gov_open" / "swj_tax_penalty.csv"
DISTRICTS = (
    *("海淀区", "朝阳区", "通州区", "经济技术开发区", "东城区", "房山区", "丰台区", "西城区", "怀柔区"),
    *("平谷区", "大兴区", "密云区", "顺义区", "昌平区", "门头沟区", "石景山区", "延庆区"),
)
LOOSE = Thresholds(rows_min=1, contributors_min=3, cell_min=3, round_base=1, quality_score_min=0)
PROFILES = ("grant", "opensafely", "abs", "bundesbank", "acro", "strict")


def opened(frames: list[pd.DataFrame], parameters: SumsParameters) -> list[int]:
    """What the key service opens: the sum of the departments' vectors."""
    return [sum(column) for column in zip(*(vector(frame, parameters) for frame in frames), strict=True)]


def fines(profile: str, *, thresholds: Thresholds = LOOSE) -> Protected:
    if not FINES.exists():
        pytest.skip(f"the open tables are not here: {FINES.name}")
    table = pd.read_csv(FINES, dtype={"区": str})
    parts = [table.iloc[start::4] for start in range(4)]
    parameters = SumsParameters(
        rules=profile,
        departments=4,
        measures=(
            Measure(name="penalties", kind="count", by=("区",)),
            Measure(name="fines", kind="sum", column="罚款元", by=("区",), lower=0, upper=10_000_000),
        ),
        categories=(Category(column="区", values=DISTRICTS),),
    )
    return protected_tables(parameters, opened(parts, parameters), thresholds)


def reasons(protected: Protected, name: str) -> dict[str, str]:
    table = next(table for table in protected.document["tables"] if table["name"] == name)
    return {"/".join(cell["at"]): cell.get("reason", "") for cell in table["cells"] if cell["state"] == "suppressed"}


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.requirement("LINK-RISK")
def test_a_district_with_one_fine_goes_under_every_profile_and_takes_another_with_it(profile: str) -> None:
    protected = fines(profile)
    for name in ("penalties", "fines"):
        found = reasons(protected, name)
        assert found["延庆区"] == "threshold"
        assert "complementary" in found.values()
        assert set(found.values()) <= set(protected.document["reasons"])
    assert protected.document["reasons"]["threshold"] == {"zh": REASONS["threshold"][0], "en": REASONS["threshold"][1]}


@pytest.mark.parametrize(
    ("profile", "is_dominated"),
    [("abs", True), ("strict", True), ("acro", False), ("bundesbank", False), ("grant", False), ("opensafely", False)],
)
def test_a_district_whose_largest_fine_is_four_fifths_fails_abs_and_passes_acro_and_bundesbank(
    profile: str, is_dominated: bool
) -> None:
    protected = fines(profile)
    assert (reasons(protected, "fines").get("西城区") == "dominance") is is_dominated
    assert "西城区" not in reasons(protected, "penalties")  # how many fines there were says nothing of the largest


def test_the_share_of_the_largest_fine_is_the_known_one() -> None:
    table = pd.read_csv(FINES) if FINES.exists() else pytest.skip("the open tables are not here")
    west = table.loc[table["区"] == "西城区", "罚款元"].round().astype(int)
    parts = [west.iloc[start::4].tolist() for start in range(4)]
    sums = [sum(column) for column in zip(*(power_sums(part, 8) for part in parts), strict=True)]
    found = tops.largest(sums)
    assert (found[0], len(west)) == (1_507_145, 64)
    assert abs(sum(west) - 1_850_281) <= 1  # every fine is rounded to whole yuan by itself
    assert round(100 * sum(found[:2]) / sum(west), 1) == 83.1
    assert found == sorted((value for part in parts for value in sorted(part)[-2:]), reverse=True)


def test_the_grant_is_a_floor_beneath_every_profile() -> None:
    high = LOOSE.model_copy(update={"cell_min": 20, "round_base": 3})
    rules = {name: rule_set(name, high) for name in PROFILES}
    assert {item.cell_min for item in rules.values()} == {20}
    assert rules["opensafely"].round_base == 15
    assert rule_set("bundesbank", LOOSE).cell_min == 5
    assert rule_set("opensafely", LOOSE).cell_min == 8


@pytest.mark.parametrize(
    ("profile", "parts", "fails"),
    [
        ("abs", [50, 17, 17, 16], False),
        ("abs", [51, 10, 10, 29], True),
        ("abs", [40, 28, 16, 16], True),
        ("bundesbank", [70, 15, 15], False),
        ("bundesbank", [71, 15, 14], True),
        ("acro", [50, 40, 10], False),
        ("acro", [51, 40, 9], True),
        ("opensafely", [99, 1], False),
        ("strict", [50, 17, 17, 16], False),
    ],
)
def test_dominance_at_and_above_the_limit(profile: str, parts: list[int], fails: bool) -> None:
    assert rule_set(profile, LOOSE).dominates(sum(parts), sorted(parts, reverse=True)) is fails


def test_largest_contributions_come_back_without_owners_and_forged_ones_are_refused() -> None:
    rng = random.Random(1)
    parts = [[rng.randrange(PRIME) for _ in range(rng.randrange(5))] + [7, 7] for _ in range(5)]
    sums = [sum(column) for column in zip(*(power_sums(part, 10) for part in parts), strict=True)]
    expected = sorted((value for part in parts for value in sorted(part)[-2:]), reverse=True)
    assert tops.largest(sums) == [value for value in expected if value]
    assert tops.largest([0] * 10) == []
    with pytest.raises(tops.NotASetError):
        tops.largest([sums[0] + 1, *sums[1:]])
    with pytest.raises(ValueError, match="below"):
        power_sums([PRIME], 4)


def _survey(rows: list[tuple[str, str, int]]) -> list[pd.DataFrame]:
    table = pd.DataFrame(rows, columns=["area", "illness", "age"])
    return [table.iloc[start::3] for start in range(3)]


SURVEY = (
    Category(column="area", values=("north", "south", "west")),
    Category(column="illness", values=("yes", "no")),
    Category(column="age", values=("<30", "30-49", ">=50"), edges=(30, 50)),
)


def test_a_group_that_falls_into_one_class_of_a_sensitive_column_is_suppressed_as_a_group() -> None:
    rows = [("north", "yes", 40)] * 40
    rows += [(area, answer, 40) for area in ("south", "west") for answer in ("yes", "no") for _ in range(30)]
    cross = Measure(name="cross", kind="crosstab", by=("area", "illness"))
    for measure, found in ((cross, False), (cross.model_copy(update={"sensitive": ("illness",)}), True)):
        parameters = SumsParameters(rules="abs", departments=3, measures=(measure,), categories=SURVEY[:2])
        gone = reasons(protected_tables(parameters, opened(_survey(rows), parameters), LOOSE), "cross")
        assert {place for place, why in gone.items() if why == "class"} == (
            {"north/yes", "north/no", "north/other"} if found else set()
        )


def _by_age(*, edges: tuple[int, ...], rows: int = 60, earlier=(), condition: str | None = None):
    table = [("north", "yes", age) for age in range(20, 20 + rows)]
    names = tuple(f"band{place}" for place in range(len(edges) + 1))
    parameters = SumsParameters(
        rules="opensafely",
        departments=3,
        measures=(Measure(name="ages", kind="count", by=("age",)),),
        categories=(Category(column="age", values=names, edges=edges),),
    )
    conditions = frozenset(
        {Condition(column="area", operator="eq", values=(condition,)).model_dump_json()} if condition else ()
    )
    tables = {f"node-{name}/res": conditions for name in "abc"}
    protected = protected_tables(parameters, opened(_survey(table), parameters), LOOSE, rows=tables, earlier=earlier)
    return protected, register.Release("g-1", tables, protected.numbers)


@pytest.mark.requirement("LINK-RISK")
def test_a_number_that_differs_from_an_earlier_one_by_a_few_is_not_published() -> None:
    first, release = _by_age(edges=(40,))
    assert reasons(first, "ages") == {}
    again, _ = _by_age(edges=(40,), earlier=[release])
    assert reasons(again, "ages") == {}
    moved, _ = _by_age(edges=(43,), earlier=[release])  # band0 now holds three more ages: they would be known
    assert reasons(moved, "ages")["band0"] == "differencing"
    far, _ = _by_age(edges=(50,), earlier=[release])
    assert reasons(far, "ages") == {}
    grown, _ = _by_age(edges=(40,), rows=62, earlier=[release])  # two more entries in the same tables
    assert reasons(grown, "ages")["*"] == "differencing"


@pytest.mark.requirement("LINK-RISK")
def test_differences_are_found_over_narrower_rows_and_across_products_that_survive_storage() -> None:
    _, release = _by_age(edges=(40,), rows=60)
    stored = register.Release.from_json("g-1", release.as_json())
    assert stored == release
    narrowed, _ = _by_age(edges=(40,), rows=57, earlier=[stored], condition="north")
    assert "differencing" in reasons(narrowed, "ages").values()
    other = register.Release("g-1", {"node-z/res": frozenset()}, release.numbers)
    elsewhere, _ = _by_age(edges=(40,), rows=57, earlier=[other])
    assert reasons(elsewhere, "ages") == {}


@pytest.mark.parametrize(
    ("inner", "outer", "is_within"),
    [
        (register.limit_of(SURVEY[2], 1), register.Limit("age", low=20, high=60, is_range=True), True),
        (register.limit_of(SURVEY[2], 2), register.Limit("age", low=20, high=60, is_range=True), False),
        (register.limit_of(SURVEY[2], 0), register.has_value("age"), True),
        (register.limit_of(SURVEY[0], 0), register.limit_of(SURVEY[0], 1), False),
        (register.limit_of(SURVEY[0], 3), register.Limit("area", frozenset({"north"}), is_other=True), True),
        (register.Limit("area", frozenset({"north"}), is_other=True), register.limit_of(SURVEY[0], 3), False),
        (
            register.limit_of(Category(column="d", period="month", values=("2024-05",)), 0),
            register.limit_of(Category(column="d", period="quarter", values=("2024-Q2",)), 0),
            True,
        ),
        (
            register.limit_of(Category(column="d", period="quarter", values=("2024-Q2",)), 0),
            register.limit_of(Category(column="d", period="year", values=("2023",)), 0),
            False,
        ),
    ],
)
def test_which_rows_lie_within_which(inner: register.Limit, outer: register.Limit, is_within: bool) -> None:
    assert inner.is_within(outer) is is_within
