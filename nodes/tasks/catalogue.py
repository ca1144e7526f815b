"""The tasks this node knows, by name. An order for anything else is refused."""

from collections.abc import Mapping
from pathlib import Path
from typing import cast

from pydantic import BaseModel

from nodes.contract.tasks.index import IndexParameters
from nodes.contract.tasks.linear import LinearParameters
from nodes.contract.tasks.match import EVALUATE, TABLE, MatchParameters
from nodes.contract.tasks.psi import PsiParameters
from nodes.contract.tasks.sums import SumsParameters
from nodes.contract.tasks.vertical_linear import VerticalLinearParameters
from nodes.contract.tasks.vertical_score import VerticalScoreParameters
from nodes.tasks.spec import Outcome, TableView, TaskContext, TaskSession, TaskSpec

_TUNING = frozenset({"parameter_set", "features", "rounds", "local_steps", "l2_micro", "tolerance_micro"})
"""What a builder may tune under one grant; label, split, seed and missing values choose rows and stay."""


_VERTICAL_TUNING = frozenset(
    {
        "parameter_set",
        "rounds",
        "degree",
        "l1_micro",
        "l2_micro",
        "balanced",
        "tolerance_micro",
        "winsor_milli",
        "metrics",
    }
)
"""Likewise for ``linear.vertical``: features stay too, since their first sums are about labels."""


def tasks() -> dict[str, TaskSpec]:
    """Return the task catalogue; heavy libraries load when a task starts, not here."""
    specs = (
        TaskSpec("linear.secagg", LinearParameters, _linear, free=_TUNING, joint=True),
        TaskSpec("sums.ckks", SumsParameters, _sums, joint=True),
        TaskSpec("index.ckks", IndexParameters, _index, joint=True),
        TaskSpec(
            "match.voprf",
            MatchParameters,
            _match,
            frozenset({EVALUATE, TABLE}),
            free=frozenset({"batch_max", "queries_max", "minute_max"}),
            prepare=_register,
        ),
        TaskSpec("psi.join", PsiParameters, _psi, joint=True, party=True),
        TaskSpec(
            "linear.vertical", VerticalLinearParameters, _vertical_linear, free=_VERTICAL_TUNING, joint=True, party=True
        ),
        TaskSpec(
            "linear.vertical.score", VerticalScoreParameters, _vertical_score, free=frozenset({"entities"}), party=True
        ),
    )
    return {spec.name: spec for spec in specs}


def _linear(context: TaskContext) -> tuple[TaskSession, Outcome]:
    from nodes.tasks import linear

    return linear.start(context)


def _sums(context: TaskContext) -> tuple[TaskSession, Outcome]:
    from nodes.tasks import sums

    return sums.start(context)


def _register(tables: Mapping[str, TableView], parameters: BaseModel, home: Path) -> object:
    from nodes.tasks import match

    return match.prepare(tables, cast(MatchParameters, parameters), home)


def _index(context: TaskContext) -> tuple[TaskSession, Outcome]:
    from nodes.tasks import index

    return index.start(context)


def _match(context: TaskContext) -> tuple[TaskSession, Outcome]:
    from nodes.tasks import match

    return match.start(context)


def _psi(context: TaskContext) -> tuple[TaskSession, Outcome]:
    from nodes.tasks import psi

    return psi.start(context)


def _vertical_linear(context: TaskContext) -> tuple[TaskSession, Outcome]:
    from nodes.tasks import vertical_linear

    return vertical_linear.start(context)


def _vertical_score(context: TaskContext) -> tuple[TaskSession, Outcome]:
    from nodes.tasks import vertical_score

    return vertical_score.start(context)
