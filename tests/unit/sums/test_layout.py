"""Parameters, layout, limbs and counting of encrypted sums."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from factory.agency.tables import protected_tables
from nodes.contract.errors import MalformedError
from nodes.contract.grant import Thresholds
from nodes.contract.tasks.sums import (
    SLOTS,
    VALUE_MAX,
    Category,
    Measure,
    SumsParameters,
    ciphertexts,
    from_limbs,
    layout,
    to_limbs,
)
from nodes.privacy.counting import vector

KIND = Category(column="kind", values=("a", "b"))


@pytest.mark.parametrize(
    "build",
    [
        lambda: SumsParameters(measures=(Measure(name="m", kind="count", by=("kind",)),)),
        lambda: SumsParameters(measures=(Measure(name="m", kind="count"),) * 2),
        lambda: SumsParameters(
            measures=(Measure(name="m", kind="sum", column="x"), Measure(name="n", kind="mean", column="x"))
        ),
        lambda: SumsParameters(
            measures=(Measure(name="m", kind="crosstab", by=("p", "q")),),
            categories=tuple(Category(column=c, values=tuple(f"v{i}" for i in range(200))) for c in "pq"),
        ),
        lambda: SumsParameters(parameter_set="ckks-4096", measures=(Measure(name="m", kind="count"),)),
        lambda: Measure(name="m", kind="sum"),
        lambda: Measure(name="m", kind="count", column="x"),
        lambda: Measure(name="m", kind="crosstab", by=("kind",)),
        lambda: Measure(name="m", kind="count", by=("kind", "kind")),
        lambda: Measure(name="m", kind="sum", column="x", squares=True),
        lambda: Measure(name="m", kind="sum", column="x", lower=5, upper=5),
        lambda: Category(column="kind", values=("a", "a")),
        lambda: Category(column="kind", values=("a", "other")),
        lambda: Category(column="kind", values=("a", "b"), edges=(1, 2)),
        lambda: Category(column="kind", values=("a", "b", "c"), edges=(2, 1)),
    ],
)
def test_parameters_that_make_no_sense_or_would_leak_are_refused(build) -> None:
    with pytest.raises(ValidationError):
        build()


@given(st.lists(st.lists(st.integers(-VALUE_MAX, VALUE_MAX), min_size=3, max_size=3), min_size=1, max_size=5))
def test_limbs_of_a_sum_join_to_the_sum(rows: list[list[int]]) -> None:
    blocks = [to_limbs(row) for row in rows]
    added = [[sum(column) for column in zip(*same, strict=True)] for same in zip(*blocks, strict=True)]
    assert from_limbs(added, 3) == [sum(column) for column in zip(*rows, strict=True)]


def test_values_out_of_range_and_blocks_that_do_not_fit_are_refused() -> None:
    assert from_limbs(to_limbs([VALUE_MAX, -VALUE_MAX]), 2) == [VALUE_MAX, -VALUE_MAX]
    for values in ([VALUE_MAX + 1], [-VALUE_MAX - 1]):
        with pytest.raises(MalformedError):
            to_limbs(values)
    with pytest.raises(MalformedError):
        from_limbs([[0] * SLOTS], SLOTS // 2 + 1)
    assert (ciphertexts(SLOTS // 2), ciphertexts(SLOTS // 2 + 1)) == (1, 2)


def test_rows_are_counted_cut_and_put_into_bands_as_declared() -> None:
    frame = pd.DataFrame(
        {
            "kind": ["a", "b", "x", None, "a", "a"],
            "x": [1.26, -4.0, 2.0, 3.0, float("nan"), 99.0],
            "age": [9, 10, 19, 20, 50, 10],
            "code": [1.0, 2.0, 1.0, float("nan"), 2.0, 1.0],
        }
    )
    parameters = SumsParameters(
        rules="opensafely",
        measures=(
            Measure(name="all", kind="count"),
            Measure(name="kinds", kind="count", by=("kind",)),
            Measure(name="x", kind="mean", column="x", by=("kind",), scale=10, lower=-10, upper=100, squares=True),
            Measure(name="ages", kind="count", by=("age",)),
            Measure(name="cross", kind="crosstab", by=("kind", "code")),
        ),
        categories=(
            KIND,
            Category(column="age", values=("<10", "10-19", ">=20"), edges=(10, 20)),
            Category(column="code", values=("1", "2")),
        ),
    )
    found = vector(frame, parameters)
    assert found[:4] == [6, 3, 1, 2]
    assert found[4:13] == [2, 13 + 100, 169 + 10_000, 1, -10, 100, 2, 50, 400 + 900]
    assert found[13:17] == [1, 3, 2, 0]
    assert found[17:] == [2, 1, 0, 0, 1, 0, 1, 0, 1]
    assert len(found) == len(layout(parameters))


def test_text_where_numbers_are_summed_is_refused_without_a_value_in_the_message() -> None:
    parameters = SumsParameters(measures=(Measure(name="m", kind="sum", column="x"),))
    with pytest.raises(ValueError, match="expected numbers in column x") as error:
        vector(pd.DataFrame({"x": ["13800138000"]}), parameters)
    assert "13800138000" not in str(error.value)


def test_means_over_too_few_values_are_not_shown_though_enough_rows_are_there() -> None:
    parameters = SumsParameters(
        rules="opensafely",
        measures=(
            Measure(name="rows", kind="count", by=("kind",)),
            Measure(name="x", kind="mean", column="x", by=("kind",)),
        ),
        categories=(KIND,),
    )
    values = [20, 30, 40, *(7, 40), *(30, 60), *(40, 10)]
    thresholds = Thresholds(rows_min=1, contributors_min=3, cell_min=5, round_base=1, quality_score_min=0)
    tables = protected_tables(parameters, values, thresholds).document["tables"]
    for table in tables:
        states = {cell["at"][0]: cell["state"] for cell in table["cells"]}
        assert states["a"] == "suppressed"  # and so in the table of rows: the same people
        assert list(states.values()).count("suppressed") == 2
