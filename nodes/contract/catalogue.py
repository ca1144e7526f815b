"""What a department says of a table to others: the public extract, its own review, consents and bindings.

The department's node signs each as a statement (``nodes.contract.statement``); the agency keeps the
level's catalogue from them, and nodes check consents on every order. Nothing here holds a value of a
row, a sample or an address.

Source:
    GB/T 43697-2024 (general, important and core data); regulations CAT-*, ELIG-*, CLS-*, SUP-BIND.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError

from nodes.contract.errors import MalformedError
from nodes.contract.grant import Thresholds
from nodes.contract.messages import Hex32, Name, Part, Text, Time

Grade = Literal["general", "important", "core"]
ColumnType = Literal["text", "integer", "number", "date"]
Circumstance = Literal["national_security", "public_interest", "trade_secret", "personal_rights", "sector_ban", "law"]
Level = Literal["province", "city", "county"]

GRADES: tuple[Grade, ...] = ("general", "important", "core")
"""Lowest first."""
IN_SCOPE = ("open", "conditional")
"""Values of the authorised-operation attribute under which a resource may be operated."""


class Column(Part):
    """One column of a table.

    Attributes:
        name: as in the table's header.
        type: how its values are read; dates stay text like ``2026-01-31``.
        title_zh, title_en: names for people; may be empty.
        identifier: whether a value points to one person or body.
        grade: protection grade; empty means not graded yet, and then nothing may use it.
        personal: whether it is personal, or sensitive personal, information.
    """

    name: Text
    type: ColumnType
    title_zh: str = ""
    title_en: str = ""
    identifier: bool = False
    grade: Literal["", "general", "important", "core"] = ""
    personal: Literal["none", "personal", "sensitive"] = "none"


class Eligibility(Part):
    """The check for prohibited circumstances.

    Attributes:
        checked_by: office or person.
        checked_on: day, ``2026-01-31``.
        found: circumstances that stand against authorised operation; empty if none does.
    """

    checked_by: Text
    checked_on: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]
    found: Annotated[tuple[Circumstance, ...], Field(strict=False)] = ()


class EntryExtract(Part):
    """The public extract of a catalogue entry, as ``nodes.catalogue_entries`` writes it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True)

    id: Name
    version: Annotated[int, Field(ge=1)]
    name_zh: Text
    name_en: Text
    owner: Name
    level: Level = "city"
    data_class: Annotated[str, Field(alias="class", max_length=200)] = ""
    grade: Literal["", "general", "important", "core"] = ""
    update_frequency_days: Annotated[int, Field(ge=0, le=36_500)] = 0
    secrecy: Literal["none", "confidential", "secret", "top_secret"] = "none"
    origin: Literal["own", "shared"] = "own"
    provider: Annotated[str, Field(max_length=96)] = ""
    operation_attribute: Literal["", "open", "conditional", "prohibited"] = ""
    attribute_reason: str = ""
    legal_basis: str = ""
    eligibility: Eligibility | None = None
    schema_sha256: Hex32
    columns: Annotated[tuple[Column, ...], Field(min_length=1, max_length=2000, strict=False)]

    @classmethod
    def read(cls, value: dict[str, Any]) -> "EntryExtract":
        """Check an extract.

        Raises:
            MalformedError: a missing, wrong or unknown field, by name.
        """
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            where = ", ".join(sorted({".".join(map(str, item["loc"])) or "entry" for item in error.errors()})[:5])
            raise MalformedError(
                f"expected the public extract of an entry; wrong, missing or unknown: {where}"
            ) from None

    def grades_of(self, columns: Iterable[str]) -> dict[str, str]:
        """Return the grade of each named column: the stricter of its own and the resource's; empty if ungraded."""
        known = {column.name: column.grade for column in self.columns}
        return {name: stricter(known.get(name, ""), self.grade) for name in columns}


class SourceReview(Part):
    """The source department's own compliance and security review of one version of an entry (CLS-PREREVIEW)."""

    resource: Name
    version: Annotated[int, Field(ge=1)]
    entry_sha256: Hex32
    reviewer: Text
    compliance: Text
    security: Text
    reviewed_at: Time


class SourceConsent(Part):
    """Consent of the department from which data was obtained by sharing (ELIG-SRCCONSENT), or its revocation.

    Attributes:
        resource: catalogue id at the department that holds the shared data.
        owner: organisation of that department.
        provider: organisation that first collected the data; its node signs.
        state: given, or taken back for good.
        stated_at: of two statements the later counts.
        not_after: end of a consent that was given.
    """

    resource: Name
    owner: Name
    provider: Name
    state: Literal["given", "revoked"]
    stated_at: Time
    not_after: Time


class Binding(Part):
    """A live dataset of a node is bound to an entry (SUP-BIND)."""

    resource: Name
    version: Annotated[int, Field(ge=1)]
    entry_sha256: Hex32
    schema_sha256: Hex32
    bound_at: Time


@dataclass(frozen=True, slots=True)
class Controls:
    """What the highest grade involved asks of processing (CLS-GRADE).

    Attributes:
        grade: the highest grade involved.
        private_only: only tasks from which nothing but ciphertexts, masked sums or opened sums leave.
        rows_min: fewest rows of a department.
        cell_min: fewest entities behind a published number, where a task publishes counts.
    """

    grade: Grade
    private_only: bool
    rows_min: int
    cell_min: int

    def broken_by(self, tasks: Iterable[str], limits: Thresholds) -> str:
        """Return what of a grant is not strict enough, in words, or an empty text."""
        if self.private_only and not set(tasks) <= PRIVATE_TASKS:
            return f"{self.grade} data is processed by privacy computing alone"
        wanted = {"rows_min": self.rows_min, **({"cell_min": self.cell_min} if "sums.ckks" in tasks else {})}
        low = [f"{name} of {least} or more" for name, least in wanted.items() if getattr(limits, name) < least]
        return f"{self.grade} data needs {' and '.join(low)}" if low else ""


CONTROLS = {
    "general": Controls("general", private_only=False, rows_min=1, cell_min=1),
    "important": Controls("important", private_only=True, rows_min=10, cell_min=5),
}
"""Controls per grade that may be processed at all; core data is not. Numbers: own choice, a grant may ask for more."""
PRIVATE_TASKS = frozenset(
    {
        "linear.secagg",
        "linear.vertical",
        "linear.vertical.score",
        "sums.ckks",
        "index.ckks",
        "match.voprf",
        "psi.join",
    }
)
"""Tasks whose outgoing messages are ciphertexts, masked vectors, blinded elements, pseudorandom tags or sums."""


def stricter(one: str, other: str) -> str:
    """Return the stricter of two grades; an empty one makes the result empty."""
    if not one or not other:
        return ""
    return max(one, other, key=GRADES.index)


def controls_for(grades: Iterable[str]) -> Controls | None:
    """Return the controls of the highest grade, or None if any is empty or core: then nothing may run."""
    found = list(grades)
    if not found or any(grade not in CONTROLS for grade in found):
        return None
    return CONTROLS[max(found, key=GRADES.index)]
