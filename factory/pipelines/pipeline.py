"""What every pipeline is to those who run recipes: its name, its parameters, and how it builds.

A new pipeline is a module that ends with ``PIPELINE = Pipeline(...)`` and one line in ``MODULES``.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING

from pydantic import BaseModel

from factory.federation.session import Session
from factory.federation.sums import AgencyCall
from factory.pipelines.build import Built
from factory.pipelines.recipe import Recipe, RecipeError
from nodes.contract.signing import Envelope

if TYPE_CHECKING:
    from factory.client.match import Invitation
    from factory.pipelines.verification import Trial

MODULES: Mapping[str, str] = MappingProxyType(
    {
        "linear.secagg": "factory.pipelines.model",
        "linear.vertical": "factory.pipelines.vertical_linear",
        "sums.ckks": "factory.pipelines.report",
        "index.ckks": "factory.pipelines.index",
        "match.voprf": "factory.pipelines.verification",
        "psi.join": "factory.pipelines.join",
    }
)
"""The module of every pipeline, by the name that recipes use. Loaded when it is asked for."""


@dataclass(frozen=True, slots=True)
class Building:
    """One build: what it works with.

    Attributes:
        recipe: what shall be made.
        recipe_bytes: the very file.
        session: not yet open, under a grant for this recipe.
        now: clock.
        progress: gets a short text after every stage.
        grant_envelopes: signatures of the grant, for the agency to check.
        agency_call: asks the agency's key service, where the pipeline uses it.
        trial: the application unit's trial with an invitation, where it asks one; in its own process.
    """

    recipe: Recipe
    recipe_bytes: bytes
    session: Session
    now: Callable[[], datetime]
    progress: Callable[[str], None]
    grant_envelopes: Sequence[Envelope]
    agency_call: AgencyCall
    trial: "Callable[[Invitation], Trial] | None" = None


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A pipeline.

    Attributes:
        name: as recipes, orders and grants name it.
        parameters_of: reads a recipe's parameters; raises ``RecipeError``.
        build: makes the product's files; raises ``FactoryError`` if a node refused or nothing can be made.
        use_unit: what a grant counts, ``session`` or ``query``.
        needs_key_service: whether the agency decrypts for it.
        asks: whether an application unit puts its questions.
        meets: whether nodes, or nodes and application units, talk to each other over the relay.
    """

    name: str
    parameters_of: Callable[[Recipe], BaseModel]
    build: Callable[[Building], Built]
    use_unit: str = "session"
    needs_key_service: bool = False
    asks: bool = False
    meets: bool = False


def pipeline_of(recipe: Recipe) -> Pipeline:
    """Return the pipeline of a recipe.

    Raises:
        RecipeError: there is none of this name.
    """
    module = MODULES.get(recipe.pipeline.name)
    if module is None:
        raise RecipeError(f"expected a pipeline out of {', '.join(MODULES)}, got {recipe.pipeline.name}")
    found: Pipeline = importlib.import_module(module).PIPELINE
    return found
