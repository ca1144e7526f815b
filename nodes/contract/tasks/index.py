"""Composite index (``index.ckks``): what is measured of whom, how it is made comparable, and how it is added.

Each department holds one domain. It turns its indicators into one score per entity and adds
the weighted scores to the encrypted vector; the sums are opened as those of ``sums.ckks``
are, so the composite appears and no domain's score does. How robust the ranking is, each
department works out for its own domain from the published composite and what it alone knows.

    order … sums.release    as in ``nodes.contract.tasks.sums``, with the parameters below
    index.sensitivity       after the release: figures of this node's own domain out

Source:
    OECD and JRC, "Handbook on Constructing Composite Indicators", 2008: steps 3 to 7
    (imputation, normalisation, weighting, aggregation, sensitivity). Exponential normalisation:
    彭非, 袁卫, 惠争勤, 统计研究 2007(12). CRITIC: Diakoulaki, Mavrotas, Papayannakis, Computers &
    Operations Research 22, 1995. Entropy weights: Zeleny, "Multiple Criteria Decision Making", 1982.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from nodes.contract import canonical
from nodes.contract.messages import Name, Part, Text
from nodes.contract.signing import sha256_hex
from nodes.contract.tasks.sums import CONTRIBUTORS_MIN, DEPARTMENTS_MAX

TASK = "index.ckks"
SENSITIVITY = "index.sensitivity"
WEIGHT_UNITS = 10**9
"""A weight of one, and a score of one under it, in units of the vector: 100 points of 32 domains stay below 2**47."""
SCORE_MIN, SCORE_MAX = 1.0, 100.0
"""Range of every score: above zero, so that a geometric mean exists."""
SHIFT_PERMILLE = 200
"""By how much a domain's weight is moved up and down in the sensitivity analysis."""
ENTITIES_MIN = 10
PARTS = ("score", "weight", "domains")

Weighting = Literal["fixed", "equal", "entropy", "critic", "pca"]


class Indicator(Part):
    """One measured quantity of a domain.

    Attributes:
        column: numeric column of the department's table; none for a count of rows.
        direction: whether more is better.
        aggregate: how several rows of one entity become one value; ``value`` demands one row each.
        weight_permille: within the domain, for fixed weights.
    """

    name: Text
    column: Text | None = None
    direction: Literal["higher", "lower"]
    aggregate: Literal["value", "mean", "sum", "count"] = "value"
    weight_permille: Annotated[int, Field(ge=1, le=1000)] = 1000

    @model_validator(mode="after")
    def _consistent(self) -> "Indicator":
        if (self.column is None) != (self.aggregate == "count"):
            raise ValueError("a column for everything but a count of rows")
        return self


class Domain(Part):
    """What one department contributes.

    Attributes:
        name: of the domain.
        node: actor id of the department's node.
        indicators: at least one.
        weighting: of the indicators within the domain; worked out by the department from its own rows.
        weight_permille: of the domain, for fixed weights.
    """

    name: Text
    node: Name
    indicators: Annotated[tuple[Indicator, ...], Field(min_length=1, max_length=50, strict=False)]
    weighting: Weighting = "equal"
    weight_permille: Annotated[int, Field(ge=1, le=1000)] = 1000

    @model_validator(mode="after")
    def _consistent(self) -> "Domain":
        names = [indicator.name for indicator in self.indicators]
        if len(set(names)) != len(names):
            raise ValueError("each indicator once")
        if self.weighting in {"critic", "pca"} and len(names) < 2:
            raise ValueError("two indicators or more for critic and pca")
        return self


class Band(Part):
    """A grade of the index: from this score on, up to the next band.

    Attributes:
        name: of the grade.
        from_x100: lowest score in hundredths.
    """

    name: Text
    from_x100: Annotated[int, Field(ge=0, le=10_000)]


class IndexParameters(Part):
    """Parameters of an order for ``index.ckks``; equal at every node.

    Attributes:
        parameter_set: named CKKS set.
        key: column of every table that names the entity.
        entities: the public list of who is scored, in the order of the vector.
        domains: one per department.
        normalisation: how an indicator becomes a score between 1 and 100: ``z`` (50 + 10 z), ``minmax``, ``rank``,
            ``exponential`` (60 to 100).
        missing: what an entity without a value means: ``refuse`` the task; the ``mean`` of the others; ``zero``;
            ``leave_out`` the domain for this entity and weigh the others up.
        domain_weighting: ``fixed``, ``equal`` or ``entropy``. Between departments there is no critic or pca: both need
            products of two departments' scores.
        aggregation: of indicators and of domains.
        domains_min: fewest domains behind a published score.
        bands: grades, ascending; the first starts at 0.
    """

    version: Literal[1] = 1
    parameter_set: Literal["ckks-8192-sums-v1"] = "ckks-8192-sums-v1"
    key: Text
    entities: Annotated[tuple[Text, ...], Field(min_length=ENTITIES_MIN, max_length=2000, strict=False)]
    domains: Annotated[tuple[Domain, ...], Field(min_length=CONTRIBUTORS_MIN, max_length=DEPARTMENTS_MAX, strict=False)]
    normalisation: Literal["z", "minmax", "rank", "exponential"] = "minmax"
    missing: Literal["refuse", "mean", "zero", "leave_out"] = "refuse"
    domain_weighting: Literal["fixed", "equal", "entropy"] = "fixed"
    aggregation: Literal["arithmetic", "geometric"] = "arithmetic"
    domains_min: Annotated[int, Field(ge=CONTRIBUTORS_MIN, le=DEPARTMENTS_MAX)] = CONTRIBUTORS_MIN
    bands: Annotated[tuple[Band, ...], Field(max_length=20, strict=False)] = ()

    @model_validator(mode="after")
    def _consistent(self) -> "IndexParameters":
        for listed in (self.entities, [d.name for d in self.domains], [d.node for d in self.domains]):
            if len(set(listed)) != len(listed):
                raise ValueError("each entity, domain and department once")
        if self.domains_min > len(self.domains):
            raise ValueError("no more domains behind a score than there are")
        starts = [band.from_x100 for band in self.bands]
        if starts != sorted(set(starts)) or (starts and starts[0] != 0):
            raise ValueError("bands ascending from 0")
        return self

    @property
    def task(self) -> str:
        """Name of the task these parameters are for."""
        return TASK

    @property
    def vector_parts(self) -> tuple[str, ...]:
        """What each number of the vector is: per entity weighted score, weight, and whether there is one."""
        return PARTS * len(self.entities)

    def domain_of(self, node: str) -> Domain | None:
        """Return the domain of a department."""
        return next((domain for domain in self.domains if domain.node == node), None)

    def columns_of(self, node: str) -> tuple[str, ...]:
        """Columns that a department's node reads."""
        domain = self.domain_of(node)
        found = [] if domain is None else [item.column for item in domain.indicators if item.column is not None]
        return tuple(dict.fromkeys((self.key, *found)))

    def band(self, score_x100: int) -> str:
        """Return the grade of a score, empty if there are none."""
        return next((band.name for band in reversed(self.bands) if score_x100 >= band.from_x100), "")

    @property
    def sha256(self) -> str:
        """Digest by which nodes and agency name these parameters."""
        return sha256_hex(canonical.dumps(self.model_dump(mode="json")))
