"""The requirement table: what the texts ask, clause by clause, as data of the product.

``clauses.csv`` has every clause with its instrument, article, our wording and the requirement it
was merged into; ``requirements.csv`` the merged requirements with priority and acceptance.
``controls.toml`` names modules that carry a requirement without citing it; ``impossible.toml``
the requirements that software cannot meet, with the reason; ``stages.toml`` the stages of the
data's life with the modules that control each.
"""

import csv
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal, cast

from factory.law.errors import TableError

Priority = Literal["core", "governance", "out"]


@dataclass(frozen=True, slots=True)
class Clause:
    """One clause of a text.

    Attributes:
        id: ``<jurisdiction>-<article>-<number>``.
        instrument: title or number of the text.
        article: as the text counts.
        requirement: id of the requirement, ``OUT``, or empty.
        text: what it asks, in our words.
        number: its limit or number, if it has one.
    """

    id: str
    instrument: str
    article: str
    requirement: str
    text: str
    number: str

    @property
    def jurisdiction(self) -> str:
        """Code of the profile whose text it is; national texts are ``NATIONAL``."""
        prefix = self.id.split("-", 1)[0]
        return "NATIONAL" if prefix in {"NR", "NO", "NP", "NS"} else prefix


@dataclass(frozen=True, slots=True)
class Requirement:
    """One merged requirement.

    Attributes:
        id: stable name.
        capability: part of the system.
        priority: ``core`` is shown by a test; ``governance`` may come later; ``out`` is no duty of software.
        enforcement: how strictly.
        title_zh: short Chinese title.
        text: what it asks.
        acceptance: what its test shows, with the negative case.
        clauses: ids of its clauses.
    """

    id: str
    capability: str
    priority: Priority
    enforcement: str
    title_zh: str
    text: str
    acceptance: str
    clauses: tuple[str, ...]


STAGES = ("collection", "gathering", "governance", "development", "circulation", "destruction")
"""Stages of the data's life that SEC-CYCLE names (SD-29-6); each needs a control and a record."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of the data's life.

    Attributes:
        id: one of ``STAGES``.
        zh, en: for people.
        controls: record that each controlling module leaves, as its source writes it.
    """

    id: str
    zh: str
    en: str
    controls: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Table:
    """Requirements and clauses.

    Attributes:
        requirements, clauses: by id, in the order of the files.
        controls: modules per requirement, beside those that cite it.
        impossible: reason (Chinese, English) per requirement that software cannot meet.
        stages: of the data's life, in the order of ``STAGES``; one that the file leaves out has no control.
    """

    requirements: Mapping[str, Requirement]
    clauses: Mapping[str, Clause]
    controls: Mapping[str, tuple[str, ...]]
    impossible: Mapping[str, tuple[str, str]]
    stages: tuple[Stage, ...]

    def jurisdictions(self, requirement: Requirement) -> frozenset[str]:
        """Return whose texts ask for a requirement."""
        return frozenset(self.clauses[clause].jurisdiction for clause in requirement.clauses)


def load_table() -> Table:
    """Return the table that comes with the product.

    Raises:
        TableError: the files do not fit together.
    """
    clauses = {row["id"]: Clause(**row) for row in _rows("clauses.csv")}
    requirements = {
        row["id"]: Requirement(
            row["id"], row["capability"], cast("Priority", row["priority"]), row["enforcement"], row["title_zh"],
            row["requirement"], row["acceptance"], tuple(row["clauses"].split()),
        )
        for row in _rows("requirements.csv")
    }  # fmt: skip
    controls = {name: tuple(modules) for name, modules in _toml("controls.toml").items()}
    impossible = {name: (row["zh"], row["en"]) for name, row in _toml("impossible.toml").items()}
    unknown = sorted({clause for item in requirements.values() for clause in item.clauses} - set(clauses))
    unknown += sorted((set(controls) | set(impossible)) - set(requirements))
    if unknown:
        raise TableError(f"the requirement table names what is not there: {', '.join(unknown[:5])}")
    return Table(requirements, clauses, controls, impossible, read_stages(_toml("stages.toml")))


def read_stages(text: Mapping[str, Any]) -> tuple[Stage, ...]:
    """Return every stage of ``STAGES`` as a parsed ``stages.toml`` has it.

    Raises:
        TableError: it names another stage.
    """
    unknown = sorted(set(text) - set(STAGES))
    if unknown:
        raise TableError(f"expected stages among {', '.join(STAGES)}, got {unknown[0]}")
    rows = [(name, text.get(name, {})) for name in STAGES]
    return tuple(Stage(name, row.get("zh", name), row.get("en", name), row.get("controls", {})) for name, row in rows)


def _rows(name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(resources.files("factory.law").joinpath(name).read_text("utf-8").splitlines()))


def _toml(name: str) -> dict[str, Any]:
    return tomllib.loads(resources.files("factory.law").joinpath(name).read_text("utf-8"))
