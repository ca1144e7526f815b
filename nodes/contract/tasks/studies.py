"""Statistics that are more than a table: what a node adds up for them, and in which order.

Each is worked out from sums alone, opened once: bins for quantiles, moments for correlations
and linear regression, counts of every combination of groups for logistic regression and for
the largest groups. So one session of encrypted sums serves them, no intermediate result is
seen by anybody, and what is published passes disclosure control first.

Source:
    Sufficient statistics: Casella and Berger, "Statistical Inference", 2nd ed., section 6.2;
    logistic regression from grouped counts: McCullagh and Nelder, "Generalized Linear Models",
    2nd ed., section 4.4.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Annotated, Literal

from pydantic import Field, model_validator

from nodes.contract.messages import Name, Part, Text

UNITS = 2**14
"""A variable's range is cut into this many units: sums of products of two million rows fit a component."""

BINS_MAX = 2000


class Variable(Part):
    """One numeric column of a study.

    Attributes:
        column: column of the table.
        lower, upper: public bounds in the column's unit, to which values are cut; whole numbers divided by ``scale``.
        scale: bounds are whole numbers of 1/``scale``.
    """

    column: Text
    lower: Annotated[int, Field(ge=-(2**40), le=2**40)]
    upper: Annotated[int, Field(ge=-(2**40), le=2**40)]
    scale: Annotated[int, Field(ge=1, le=1_000_000)] = 1

    @model_validator(mode="after")
    def _consistent(self) -> "Variable":
        if self.lower >= self.upper:
            raise ValueError("lower below upper")
        return self

    @property
    def middle(self) -> float:
        """Middle of the range, in the column's unit."""
        return (self.lower + self.upper) / 2 / self.scale

    @property
    def unit(self) -> float:
        """Size of one unit, in the column's unit: values are whole numbers of it from the middle."""
        return (self.upper - self.lower) / self.scale / UNITS


class Study(Part):
    """One statistic.

    Attributes:
        name: unique name among tables and studies.
        kind: ``quantiles`` of one variable; ``correlation`` between variables; ``linear`` regression of the first
            variable on the others; ``logistic`` regression of ``label`` on the groups ``by``; ``top`` groups by count.
        variables: numeric columns.
        by: columns with a category list: predictors of a logistic regression (the first value of each is the
            reference), or the one column whose largest groups are sought.
        label, positive: column with a category list, and which of its values is the outcome of a logistic regression.
        permille: which quantiles, in thousandths; no minimum and no maximum.
        bins: of equal width between the bounds; the width is the stated error of a quantile.
        count: how many of the largest groups.
    """

    name: Name
    kind: Literal["quantiles", "correlation", "linear", "logistic", "top"]
    variables: Annotated[tuple[Variable, ...], Field(max_length=20, strict=False)] = ()
    by: Annotated[tuple[Text, ...], Field(max_length=6, strict=False)] = ()
    label: Text | None = None
    positive: Text | None = None
    permille: Annotated[tuple[Annotated[int, Field(ge=10, le=990)], ...], Field(max_length=20, strict=False)] = ()
    bins: Annotated[int, Field(ge=10, le=BINS_MAX)] = 500
    count: Annotated[int, Field(ge=1, le=50)] = 10

    @model_validator(mode="after")
    def _consistent(self) -> "Study":
        columns = [variable.column for variable in self.variables]
        numbers = {"quantiles": (1, 1), "correlation": (2, 20), "linear": (2, 20), "logistic": (0, 0), "top": (0, 0)}
        fewest, most = numbers[self.kind]
        if not fewest <= len(columns) <= most or len(set(columns)) != len(columns):
            raise ValueError(f"{fewest} to {most} variables, each once")
        if (self.label is None) != (self.kind != "logistic") or (self.positive is None) != (self.label is None):
            raise ValueError("label and positive for a logistic regression, and for nothing else")
        if len(set(self.groups)) != len(self.groups):
            raise ValueError("each column once")
        wanted = {"logistic": len(self.by) >= 1, "top": len(self.by) == 1}.get(self.kind, not self.by)
        if not wanted:
            raise ValueError("columns with categories: one or more for logistic, one for top, none otherwise")
        if bool(self.permille) != (self.kind == "quantiles") or list(self.permille) != sorted(set(self.permille)):
            raise ValueError("ascending quantiles, and only for quantiles")
        return self

    @property
    def groups(self) -> tuple[str, ...]:
        """Columns that need a category list."""
        return self.by if self.label is None else (*self.by, self.label)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that are read."""
        return (*(variable.column for variable in self.variables), *self.groups)

    def places(self, sizes: Sequence[int]) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield part and place of each number, in order.

        Args:
            sizes: number of groups of each column of ``by``, ``other`` included.

        A quantile study has one count per bin; moments are the number of complete rows at (), sums at (i,) and sums
        of products at (i, j) with i ≤ j; a logistic study counts each combination of groups for the other outcomes (0)
        and the positive one (1); rows without a group or an outcome count in the last group or not at all.
        """
        match self.kind:
            case "quantiles":
                yield from (("count", (number,)) for number in range(self.bins))
            case "correlation" | "linear":
                yield "count", ()
                width = range(len(self.variables))
                yield from (("moment", (place,)) for place in width)
                yield from (("moment", (row, column)) for row in width for column in width if row <= column)
            case "logistic":
                yield from (("count", place) for place in product(range(2), *(range(size) for size in sizes)))
            case _:
                yield from (("count", (place,)) for place in range(sizes[0]))
