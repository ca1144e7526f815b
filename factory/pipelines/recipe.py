"""Recipes: what a builder writes to have a product made.

A recipe names the product, the pipeline, the parties with their tables and columns, the
parameters, and the evaluation split. The same recipe runs under a grant in production and
on local files with ``shufang try``.
"""

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from factory.errors import FactoryError
from nodes.contract.grant import Thresholds
from nodes.contract.messages import Condition, Name

Form = Literal["model", "verification", "report", "index", "dataset", "interface", "service", "component", "tool"]


class RecipeError(FactoryError):
    """The recipe cannot be read or does not say what it must."""

    code = "pipeline.recipe"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ProductSection(_Section):
    """What is to be made.

    Attributes:
        id: short name; with the version it names the package.
        form: form of product (数据模型, 数据核验, 数据报告 …).
    """

    id: Name
    version: Annotated[str, StringConstraints(pattern=r"^\d+\.\d+\.\d+$")] = "1.0.0"
    form: Form
    name_zh: str
    name_en: str
    summary_zh: str
    summary_en: str


class ScenarioSection(_Section):
    """The one application scenario it is for."""

    id: Name
    title_zh: str
    title_en: str
    purpose: Name


class PipelineSection(_Section):
    """Which pipeline, which seed (for splits only; secrets are never seeded)."""

    name: Name
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0


class PartySection(_Section):
    """One table at one department.

    Attributes:
        node: actor id of the node; in local trials any name.
        resource: catalogue id of the table.
        version: version of the catalogue entry.
        columns: columns that are used, label and key included.
        row_filter: conditions every row must pass.
    """

    node: Name
    resource: Name
    version: Annotated[int, Field(ge=1)] = 1
    columns: Annotated[tuple[str, ...], Field(min_length=1)]
    row_filter: tuple[Condition, ...] = ()


class PresentationSection(_Section):
    """How one table of a report is shown to people.

    Attributes:
        title_zh, title_en: what it shows.
        unit_zh, unit_en: unit of its numbers, after division by the measure's scale.
        labels: text for a category, where the category itself is not what people read.
    """

    title_zh: str
    title_en: str
    unit_zh: str = ""
    unit_en: str = ""
    labels: dict[str, str] = {}


class InputSection(_Section):
    """A file that is no table of a party; used only with the agency's review.

    Attributes:
        name: short name.
        path: of the file, relative to the recipe.
        review: of the agency's signed review, relative to the recipe.
    """

    name: Name
    path: str
    review: str


class Recipe(_Section):
    """A whole recipe; see the module text.

    Attributes:
        clients: application units that take part (verification).
        inputs: other files that the agency has reviewed.
        thresholds: what the grant shall demand at least.
        presentation: per table of a report, how it is shown.
        parameters: checked by the pipeline's own parameter class.
        declared: least value per metric of the product, in the metric's unit; a product below it is not released.
    """

    product: ProductSection
    scenario: ScenarioSection
    pipeline: PipelineSection
    parties: Annotated[tuple[PartySection, ...], Field(min_length=1)]
    clients: tuple[Name, ...] = ()
    inputs: tuple[InputSection, ...] = ()
    thresholds: Thresholds
    presentation: dict[str, PresentationSection] = {}
    parameters: dict[str, Any] = {}
    declared: dict[Name, int] = {}

    @model_validator(mode="after")
    def _each_table_once(self) -> "Recipe":
        seen = [(party.node, party.resource) for party in self.parties]
        if len(set(seen)) != len(seen):
            raise ValueError("each table of a node once")
        return self

    @property
    def nodes(self) -> tuple[str, ...]:
        """Nodes in the order of the recipe, each once."""
        return tuple(dict.fromkeys(party.node for party in self.parties))


def read_recipe(path: Path) -> Recipe:
    """Read a recipe file.

    Raises:
        RecipeError: no such file, not TOML, or a field is missing, unknown or wrong.
    """
    try:
        return parse_recipe(path.read_text("utf-8"), name=path.name)
    except OSError as error:
        raise RecipeError(f"expected a recipe file at {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"expected {path.name} in UTF-8") from error


def parse_recipe(text: str, *, name: str = "recipe") -> Recipe:
    """Parse the text of a recipe; see ``read_recipe``."""
    try:
        return Recipe.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"expected TOML in {name}: {error}") from error
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()[:4])
        raise RecipeError(f"{name} does not say what a recipe must: {found}") from error
