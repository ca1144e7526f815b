"""Recipes say all they must and nothing else."""

import pytest

from factory.pipelines.recipe import RecipeError, parse_recipe

GOOD = """
[product]
id = "clinic-risk"
form = "model"
name_zh = "门诊风险模型"
name_en = "Clinic risk model"
summary_zh = "一句话"
summary_en = "one sentence"

[scenario]
id = "screening"
title_zh = "筛查"
title_en = "Screening"
purpose = "public-health"

[pipeline]
name = "linear.secagg"

[thresholds]
rows_min = 20
contributors_min = 3
cell_min = 10
round_base = 5
quality_score_min = 8000

[[parties]]
node = "node-east"
resource = "res.east.clinic"
columns = ["a", "y"]

[parameters]
label = "y"
"""


def test_a_recipe_with_an_unknown_field_is_refused_by_name() -> None:
    with pytest.raises(RecipeError, match="colour"):
        parse_recipe(GOOD + "\n[colour]\nx = 1\n")


def test_a_recipe_without_thresholds_is_refused() -> None:
    with pytest.raises(RecipeError, match="thresholds"):
        parse_recipe(GOOD.replace("[thresholds]", "[parameters2]"))


def test_a_recipe_that_is_not_toml_is_refused_with_the_place() -> None:
    with pytest.raises(RecipeError, match="TOML"):
        parse_recipe("form = ")


def test_a_table_may_stand_once_only() -> None:
    twice = GOOD.replace(
        "[parameters]", '[[parties]]\nnode = "node-east"\nresource = "res.east.clinic"\ncolumns = ["a"]\n[parameters]'
    )
    with pytest.raises(RecipeError, match="once"):
        parse_recipe(twice)


def test_a_good_recipe_names_its_nodes_in_order() -> None:
    recipe = parse_recipe(GOOD)
    assert recipe.nodes == ("node-east",)
    assert recipe.parameters == {"label": "y"}
