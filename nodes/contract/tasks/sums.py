"""Encrypted sums (``sums.ckks``): what is counted, in which order, and who vouches for the sum.

Each node turns its granted rows into one vector of integers whose order follows from the
parameters alone. Nodes encrypt it under a key that the agency made for this one session,
commit to the ciphertexts before any is shown, co-sign their sum, and the agency opens only a
sum that every contributor has co-signed.

Privacy:
    Categories are declared, not read from the data, so the layout tells nothing about it;
    rows outside the declared categories, or without a value, count as ``other``.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from nodes.contract import canonical
from nodes.contract.errors import MalformedError
from nodes.contract.messages import Hex32, Message, Name, Part, Text, Time
from nodes.contract.parameters import CKKS_SUMS
from nodes.contract.signing import sha256_hex
from nodes.contract.tasks.studies import Study
from nodes.contract.tasks.tops import TOPS

TASK = "sums.ckks"
ENCRYPT = "sums.encrypt"
REVEAL = "sums.reveal"
ATTEST = "sums.attest"
RELEASE = "sums.release"
CONTRIBUTORS_MIN = 3
"""Fewest nodes in an opened sum: with two, each knows the other's figure from its own."""
COMPONENTS_MAX = 8192
VALUE_MAX = 2**47 - 1
"""Largest component of one node, so that two limbs of 24 bits hold it and 32 nodes stay below 2**53."""
DEPARTMENTS_MAX = 32
OTHER = "other"
WITH_DOMINANCE = frozenset({"grant", "abs", "bundesbank", "acro", "strict"})
"""Rule sets that ask for the largest contributions to a sum."""
SLOTS = CKKS_SUMS.degree // 2

Cell = tuple[int, ...]
"""Place in a table: one category index per axis; the last index of an axis is ``other``."""


_PERIODS = {"year": r"\d{4}", "quarter": r"\d{4}-Q[1-4]", "month": r"\d{4}-(0[1-9]|1[0-2])"}
_PERIOD_EXAMPLES = {"year": "2024", "quarter": "2024-Q1", "month": "2024-03"}


class Category(Part):
    """The public list of values of one column, in the order of the table.

    Attributes:
        column: column of the table.
        values: accepted texts; or, with ``edges``, names of the bands.
        edges: ascending whole numbers that cut a numeric column into bands: the first name
            is below ``edges[0]``, the last from ``edges[-1]`` on.
        period: the column holds dates (``2024-03-01``), of which the year, quarter or month
            counts; values are then ``2024``, ``2024-Q1`` or ``2024-03``, in order of time.
    """

    column: Text
    values: Annotated[tuple[Text, ...], Field(min_length=1, max_length=200, strict=False)]
    edges: Annotated[tuple[Annotated[int, Field(ge=-(2**40), le=2**40)], ...], Field(max_length=199, strict=False)] = ()
    period: Literal["year", "quarter", "month"] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "Category":
        if self.period is not None:
            if self.edges or not all(re.fullmatch(_PERIODS[self.period], value) for value in self.values):
                raise ValueError(f"periods such as {_PERIOD_EXAMPLES[self.period]}, and no edges")
            if list(self.values) != sorted(self.values):
                raise ValueError("periods in order of time")
        if len(set(self.values)) != len(self.values) or OTHER in self.values:
            raise ValueError(f"each value once, and none called {OTHER}")
        if self.edges and (len(self.values) != len(self.edges) + 1 or list(self.edges) != sorted(set(self.edges))):
            raise ValueError("ascending edges, and one more name than edges")
        return self


class Measure(Part):
    """One table of the report.

    Attributes:
        name: unique name.
        kind: ``count`` of rows by up to two columns, ``crosstab`` by exactly two; ``sum`` or
            ``mean`` of a numeric column. A sum or mean publishes no count of its own.
        column: the numeric column of a sum or mean.
        by: columns that have a category list.
        scale: values are multiplied by this and rounded to whole numbers.
        lower, upper: public bounds in scaled units to which values are cut, to limit what one row can add.
        squares: also sum the squares, for a standard deviation beside the mean.
        round_to: published sums are multiples of this many scaled units.
        sensitive: columns of ``by`` that say something nobody may learn of a whole group (class disclosure).
    """

    name: Name
    kind: Literal["count", "sum", "mean", "crosstab"]
    column: Text | None = None
    by: Annotated[tuple[Text, ...], Field(max_length=2, strict=False)] = ()
    scale: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    lower: Annotated[int, Field(ge=-VALUE_MAX, le=VALUE_MAX)] | None = None
    upper: Annotated[int, Field(ge=-VALUE_MAX, le=VALUE_MAX)] | None = None
    squares: bool = False
    round_to: Annotated[int, Field(ge=1, le=10**9)] = 1
    sensitive: Annotated[tuple[Text, ...], Field(max_length=2, strict=False)] = ()

    @model_validator(mode="after")
    def _consistent(self) -> "Measure":
        if (self.column is not None) != (self.kind in {"sum", "mean"}):
            raise ValueError("a column for a sum or mean, and for nothing else")
        if self.kind == "crosstab" and len(self.by) != 2:
            raise ValueError("two columns for a cross-table")
        if len(set(self.by)) != len(self.by):
            raise ValueError("each column of a table once")
        if self.squares and self.kind != "mean":
            raise ValueError("squares only with a mean")
        if self.lower is not None and self.upper is not None and self.lower >= self.upper:
            raise ValueError("lower below upper")
        if not set(self.sensitive) <= set(self.by):
            raise ValueError("sensitive columns are among those of the table")
        return self

    @property
    def may_be_negative(self) -> bool:
        """Whether a value may be below zero, so that contributions are compared by size."""
        return self.lower is None or self.lower < 0


class Privacy(Part):
    """Noise that each department adds to its own figures before they are encrypted.

    Attributes:
        epsilon_micro: what one session costs each table, in millionths of epsilon, over all tables of the report; two
            registers that differ by one row are told apart by no more.
    """

    epsilon_micro: Annotated[int, Field(ge=1_000, le=20_000_000)]


class SumsParameters(Part):
    """Parameters of an order for ``sums.ckks``; equal at every node.

    Attributes:
        parameter_set: named CKKS set.
        rules: named rule set of disclosure control; the grant's thresholds hold besides.
        departments: most departments that may contribute; sizes the part from which dominance is judged.
        measures: the tables.
        studies: statistics that are more than a table.
        categories: one list per column that a table or study is broken down by.
        privacy: differential privacy instead of suppression; for counts, sums and means with bounds.
    """

    version: Literal[1] = 1
    parameter_set: Literal["ckks-8192-sums-v1"] = "ckks-8192-sums-v1"
    rules: Literal["grant", "opensafely", "abs", "bundesbank", "acro", "strict"] = "grant"
    departments: Annotated[int, Field(ge=CONTRIBUTORS_MIN, le=DEPARTMENTS_MAX)] = 8
    measures: Annotated[tuple[Measure, ...], Field(min_length=1, max_length=50, strict=False)]
    studies: Annotated[tuple[Study, ...], Field(max_length=50, strict=False)] = ()
    categories: Annotated[tuple[Category, ...], Field(max_length=50, strict=False)] = ()
    privacy: Privacy | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "SumsParameters":
        names = [*(measure.name for measure in self.measures), *(study.name for study in self.studies)]
        listed = [category.column for category in self.categories]
        if len(set(names)) != len(names) or len(set(listed)) != len(listed):
            raise ValueError("each name and each category list once")
        if not {column for item in self.measures for column in item.by} <= set(listed) or not {
            column for study in self.studies for column in study.groups
        } <= set(listed):
            raise ValueError("a category list for every column of a table or study")
        for study in self.studies:
            if study.label is not None and study.positive not in self.category(study.label).values:
                raise ValueError("the positive value of a study is one of its column's values")
        magnitudes = [(measure.column, measure.by) for measure in self.measures if measure.column is not None]
        if len(set(magnitudes)) != len(magnitudes):
            raise ValueError("a sum or a mean of a column by the same columns, not both: their ratio is an exact count")
        if self.privacy is not None:
            unbounded = [m for m in self.measures if m.column is not None and (m.lower is None or m.upper is None)]
            if self.studies or unbounded or any(measure.squares for measure in self.measures):
                raise ValueError("noise for counts, sums and means with both bounds; no squares, no studies")
        if len(layout(self)) > COMPONENTS_MAX:
            raise ValueError(f"at most {COMPONENTS_MAX} numbers in all tables")
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that are read, in order of first mention."""
        found: dict[str, None] = {}
        for measure in self.measures:
            found |= dict.fromkeys(column for column in (measure.column, *measure.by) if column is not None)
        for study in self.studies:
            found |= dict.fromkeys(study.columns)
        return tuple(found)

    def category(self, column: str) -> Category:
        """Return the category list of ``column``."""
        return next(category for category in self.categories if category.column == column)

    def axes(self, measure: Measure) -> tuple[tuple[str, ...], ...]:
        """Return the labels of each axis of a table, ``other`` last."""
        return tuple((*self.category(column).values, OTHER) for column in measure.by)

    def parts(self, measure: Measure) -> tuple[str, ...]:
        """Return what each cell of a table consists of."""
        if measure.column is None:
            return ("count",)
        found = ["count", "sum"] + ["squares"] * measure.squares
        if self.rules in WITH_DOMINANCE and self.privacy is None:
            found += ["size"] * measure.may_be_negative
            found += [power_part(number) for number in range(1, self.powers + 1)]
        return tuple(found)

    @property
    def task(self) -> str:
        """Name of the task these parameters are for."""
        return TASK

    @property
    def vector_parts(self) -> tuple[str, ...]:
        """What each number of the vector is."""
        return tuple(component.part for component in layout(self))

    def columns_of(self, _node: str) -> tuple[str, ...]:
        """Columns that a department's node reads: all the same."""
        return self.columns

    def noise_scale(self, part: str, measure: Measure) -> float:
        """Return the scale of the noise on one number of a table, in its units.

        Every kind of number of every table gets an equal part of epsilon; one row adds to one cell of each.
        """
        if self.privacy is None:
            return 0.0
        kinds = sum(len(self.parts(item)) for item in self.measures)
        largest = max(abs(measure.lower or 0), abs(measure.upper or 0), 1) if part == "sum" else 1
        return largest * kinds * 1_000_000 / self.privacy.epsilon_micro

    @property
    def powers(self) -> int:
        """How many power sums of the largest contributions a cell has."""
        return TOPS * self.departments

    def study_axes(self, study: Study) -> tuple[tuple[str, ...], ...]:
        """Return the labels of each axis of what a study counts, ``other`` last."""
        return tuple((*self.category(column).values, OTHER) for column in study.by)

    @property
    def sha256(self) -> str:
        """Digest by which nodes and agency name these parameters."""
        return sha256_hex(canonical.dumps(self.model_dump(mode="json")))


@dataclass(frozen=True, slots=True)
class Component:
    """One number of the vector.

    Attributes:
        measure: index in the parameters: of the measures, then of the studies.
        cell: place in its table.
        part: ``count``, ``sum``, ``squares``, ``size`` (sum of the sizes, where values may be negative), or a
            power sum of the largest contributions; in a study also ``moment``.
    """

    measure: int
    cell: Cell
    part: str


def layout(parameters: SumsParameters) -> tuple[Component, ...]:
    """Return what each place of the vector holds; both sides derive it from the parameters."""
    tables = tuple(
        Component(index, cell, part)
        for index, measure in enumerate(parameters.measures)
        for cell in product(*(range(len(axis)) for axis in parameters.axes(measure)))
        for part in parameters.parts(measure)
    )
    studies = tuple(
        Component(index, cell, part)
        for index, study in enumerate(parameters.studies, start=len(parameters.measures))
        for part, cell in study.places([len(axis) for axis in parameters.study_axes(study)])
    )
    return tables + studies


def power_part(number: int) -> str:
    """Return the name of the part that holds power sum ``number``, from 1."""
    return f"power{number}"


def to_limbs(values: Sequence[int]) -> list[list[int]]:
    """Split integers into limbs and cut them into one list per ciphertext.

    Args:
        values: integers within ±``VALUE_MAX``, in the order of ``layout``.

    Returns:
        Per ciphertext ``SLOTS`` whole numbers: low limbs in [0, 2**24) in the first half, signed high limbs in
        the second.

    Raises:
        MalformedError: a value out of range.
    """
    if any(abs(value) > VALUE_MAX for value in values):
        raise MalformedError(f"expected every figure within ±{VALUE_MAX}; use a smaller scale or bounds")
    half, blocks = SLOTS // 2, []
    for start in range(0, len(values), half):
        block = [0] * SLOTS
        for place, value in enumerate(values[start : start + half]):
            block[half + place], block[place] = divmod(value, 2**CKKS_SUMS.limb_bits)
        blocks.append(block)
    return blocks


def from_limbs(blocks: Sequence[Sequence[int]], count: int) -> list[int]:
    """Join summed limbs again; the inverse of ``to_limbs`` also after addition.

    Raises:
        MalformedError: another number of blocks than ``count`` values need.
    """
    half = SLOTS // 2
    if len(blocks) != ciphertexts(count) or any(len(block) != SLOTS for block in blocks):
        raise MalformedError(f"expected {ciphertexts(count)} blocks of {SLOTS} numbers")
    joined = [
        low + high * 2**CKKS_SUMS.limb_bits
        for block in blocks
        for low, high in zip(block[:half], block[half:], strict=True)
    ]
    return joined[:count]


def ciphertexts(count: int) -> int:
    """Return how many ciphertexts ``count`` values take."""
    half = SLOTS // 2
    return -(-count // half)


class HePublicKey(Message):
    """The agency's certificate of the encryption key of one session.

    Attributes:
        agency: actor id of the key service.
        session_id: the only session whose figures may be encrypted under it.
        parameter_set: named CKKS set.
        key_sha256: digest of the key's bytes.
    """

    payload_type: ClassVar[str] = "application/vnd.shufang.he-public-key.v1+json"

    version: Literal[1] = 1
    agency: Name
    session_id: Name
    parameter_set: Literal["ckks-8192-sums-v1"]
    key_sha256: Hex32
    not_before: Time
    not_after: Time


class SumAttestation(Message):
    """One contributor's word that a ciphertext is the sum of exactly these contributions.

    Attributes:
        node: who attests.
        session_id, grant_id, grant_sha256: the session and its grant.
        order_sha256: digest of the attesting node's order.
        parameters_sha256: digest of the parameters.
        resources_sha256: digest of what the attesting node read (resources, columns, row filters).
        key_sha256: digest of the agency's public key of the session.
        contributors: actor ids, sorted, the attesting node among them.
        sum_sha256: digests of the sum's ciphertexts, in order.
    """

    payload_type: ClassVar[str] = "application/vnd.shufang.sum-attestation.v1+json"

    version: Literal[1] = 1
    node: Name
    session_id: Name
    grant_id: Name
    grant_sha256: Hex32
    order_sha256: Hex32
    parameters_sha256: Hex32
    resources_sha256: Hex32
    key_sha256: Hex32
    contributors: Annotated[tuple[Name, ...], Field(min_length=CONTRIBUTORS_MIN, max_length=200, strict=False)]
    sum_sha256: Annotated[tuple[Hex32, ...], Field(min_length=1, max_length=8, strict=False)]
    attested_at: Time
