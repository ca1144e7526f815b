"""Measurement of ``linear.vertical``: two real nodes, a relay and an operator, from the first process to the last.

The table is FATE's credit card default table (30,000 rows, 13 + 10 features, 24,000 for training) where
``../shared/data/fate_default_credit`` is beside the project, else a drawn table of the same shape. Each node has its
own CSV file, rows in another order; the join is part of the work. The areas are computed from both parts of the model
after the measurement, which a bench may do, since it owns all nodes; the peer is scikit-learn on the joint table.
"""

import json
import os
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from factory.bench.measure import Meter, percentile
from factory.federation import vertical_scoring
from factory.federation.session import Session
from factory.pipelines import vertical_linear
from factory.pipelines.build import Built, uses_of
from factory.pipelines.pipeline import Building
from factory.pipelines.recipe import Recipe, parse_recipe
from nodes.contract.tasks import vertical_score
from nodes.contract.tasks.vertical_score import VerticalScoreParameters

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "fate_default_credit"
ROWS = 30_000
ASKED = 30
"""Joint scores that are asked for one by one."""

WINSOR = 3.0
_WIDTHS = (13, 10)
_NODES = ("node-bank", "node-tax")
_RECIPE = """
[product]
id = "bench-vertical"
form = "model"
name_zh = "纵向回归测量"
name_en = "Measurement of a vertical regression"
summary_zh = "测量"
summary_en = "Measurement"
[scenario]
id = "bench"
title_zh = "测量"
title_en = "Measurement"
purpose = "bench"
[pipeline]
name = "linear.vertical"
[thresholds]
rows_min = 100
contributors_min = 2
cell_min = 10
round_base = 5
quality_score_min = 0
[[parties]]
node = "node-bank"
resource = "res.bank"
columns = {bank_columns}
[[parties]]
node = "node-tax"
resource = "res.tax"
columns = {tax_columns}
[parameters]
label_party = "node-bank"
label = {{ column = "y", operator = "eq", values = [1] }}
degree = 3
rounds = 8
l2_micro = 100
metrics = false
split = {{ column = "held_out", test_value = 1 }}
[parameters.keys]
node-bank = [{{ column = "id" }}]
node-tax = [{{ column = "id" }}]
[parameters.features]
node-bank = {bank}
node-tax = {tax}
"""


@dataclass(frozen=True, slots=True, repr=False)
class _Table:
    """The joint table: values of both parties, labels, which rows are held out, and where it is from."""

    sides: tuple[NDArray[np.float64], NDArray[np.float64]]
    labels: NDArray[np.int64]
    held_out: NDArray[np.bool_]
    source: str


def run(*, rows: int | None = None) -> dict[str, Any]:
    """Measure and return the object that ``shufang bench vertical-lr --json`` prints.

    Args:
        rows: of the joint table, a fifth of them held out; more than the table has are drawn.
    """
    from factory.trial.world import OPERATOR, World

    table = _table(ROWS if rows is None else rows)
    with tempfile.TemporaryDirectory(prefix="bench-vertical-") as folder:
        paths = _write(table, Path(folder))
        recipe, content = _recipe()
        told: list[tuple[float, str]] = []
        with ExitStack() as measured:
            meter = measured.enter_context(Meter({OPERATOR: os.getpid()}))
            began = time.perf_counter()
            with World(recipe, paths, on_start=meter.add, on_bytes=meter.count_bytes) as world:
                grant, digest, envelopes = world.grant(also=(vertical_score.TASK,), uses_max=ASKED + 1)
                built = vertical_linear.build(
                    Building(
                        recipe=recipe,
                        recipe_bytes=content,
                        session=world.session(grant, digest),
                        now=lambda: datetime.now(UTC),
                        progress=lambda text: told.append((time.perf_counter() - began, text)),
                        grant_envelopes=envelopes,
                        agency_call=_no_agency,
                    )
                )
                for node, sent in built.evidence["bytes_sent"].items():
                    meter.count_bytes(node, sent)
                measured.close()  # what follows is another work
                parts = [
                    json.loads(next((world.folder / "nodes" / node / "parts").glob("*.json")).read_bytes())
                    for node in _NODES
                ]
                times_ms = [_ask(world.session(grant, digest), built, recipe, number) for number in range(ASKED)]
    train, test = _areas(table, _scores(table, parts))
    peer = _pooled(table)
    return {
        "name": "vertical-lr",
        "work": (
            f"private join and logistic regression over two nodes, {int((~table.held_out).sum())} training rows x "
            f"({_WIDTHS[0]} + {_WIDTHS[1]}) features, {built.metrics['rounds']} rounds, {table.source}; "
            f"no party sees a row's score; p50 and p95: {ASKED} joint scores, each an order of its own"
        ),
        **meter.cost.as_json(),
        "auc_train": train,
        "auc_test": test,
        "rounds": built.metrics["rounds"],
        "p50_ms": round(percentile(times_ms, 0.5), 1),
        "p95_ms": round(percentile(times_ms, 0.95), 1),
        "first_round_s": round(told[0][0], 3) if told else None,
        "last_round_s": round(told[-1][0], 3) if told else None,
        **peer,
    }


def _ask(session: Session, built: Built, recipe: Recipe, number: int) -> float:
    """Have one entity scored under an order of its own and return how long it took, in milliseconds."""
    parts = json.loads(built.files["parts.json"])
    parameters = VerticalScoreParameters.model_validate(
        {
            "parts": {part["node"]: part["sha256"] for part in parts["parts"]},
            "keys": parts["keys"],
            "entities": [[f"E{number:08d}"]],
        },
        strict=False,
    )
    began = time.perf_counter()
    vertical_scoring.score(session, parameters, uses_of(recipe))
    return (time.perf_counter() - began) * 1000


def _no_agency(*_: Any) -> Any:  # of the type of an agency call, which this pipeline makes none of
    raise RuntimeError("a vertical regression asks no key service")


def _recipe() -> tuple[Recipe, bytes]:
    bank, tax = ([f"x{place}" for place in range(width)] for width in _WIDTHS)
    text = _RECIPE.format(
        bank=json.dumps(bank),
        tax=json.dumps(tax),
        bank_columns=json.dumps(["id", "y", "held_out", *bank]),
        tax_columns=json.dumps(["id", *tax]),
    )
    return parse_recipe(text), text.encode("utf-8")


def _table(rows: int) -> _Table:
    import pandas as pd

    rng = np.random.default_rng(0)
    held_out = np.ones(rows, dtype=bool)
    held_out[rng.permutation(rows)[: int(0.8 * rows)]] = False
    if DATA.is_dir() and rows <= ROWS:
        guest, host = (pd.read_csv(DATA / f"default_credit_hetero_{side}.csv.gz") for side in ("guest", "host"))
        guest = guest.head(rows)
        host = host.set_index("id").loc[guest["id"]].reset_index()
        labels = guest["y"].to_numpy().astype(np.int64)
        values = (
            guest.drop(columns=["id", "y"]).to_numpy(dtype=float),
            host.drop(columns=["id"]).to_numpy(dtype=float),
        )
        return _Table(values, labels, held_out, "default_credit")
    left, right = (rng.standard_normal((rows, width)) for width in _WIDTHS)
    logits = left @ rng.normal(0, 0.3, _WIDTHS[0]) + right @ rng.normal(0, 0.3, _WIDTHS[1]) - 1.2
    labels = (rng.random(rows) < 1 / (1 + np.exp(-logits))).astype(np.int64)
    return _Table((left, right), labels, held_out, "a drawn table")


def _write(table: _Table, folder: Path) -> dict[str, Path]:
    import pandas as pd

    identifiers = [f"E{place:08d}" for place in range(len(table.labels))]
    bank, tax = (pd.DataFrame(values, columns=[f"x{n}" for n in range(values.shape[1])]) for values in table.sides)
    bank = bank.assign(id=identifiers, y=table.labels, held_out=table.held_out.astype(int))
    tax = tax.assign(id=identifiers).sample(frac=1.0, random_state=1)
    paths = {"res.bank": folder / "bank.csv", "res.tax": folder / "tax.csv"}
    bank.to_csv(paths["res.bank"], index=False)
    tax.to_csv(paths["res.tax"], index=False)
    return paths


def _scores(table: _Table, parts: list[dict[str, Any]]) -> NDArray[np.float64]:
    total = np.zeros(len(table.labels))
    for values, part in zip(table.sides, parts, strict=True):
        mean, scale, weight = (
            np.array([float.fromhex(item[key]) for item in part["features"]]) for key in ("mean", "scale", "weight")
        )
        total += float.fromhex(part["intercept"]) + np.clip((values - mean) / scale, -WINSOR, WINSOR) @ weight
    return total


def _areas(table: _Table, scores: NDArray[np.float64]) -> tuple[float, float]:
    from sklearn.metrics import roc_auc_score

    train, test = (
        round(float(roc_auc_score(table.labels[rows], scores[rows])), 4) for rows in (~table.held_out, table.held_out)
    )
    return train, test


def _pooled(table: _Table) -> dict[str, Any]:
    from sklearn.linear_model import LogisticRegression

    cpu, wall = time.process_time(), time.perf_counter()
    values = np.hstack(table.sides)
    train = values[~table.held_out]
    units = (values - train.mean(axis=0)) / train.std(axis=0)
    model = LogisticRegression(max_iter=1000).fit(units[~table.held_out], table.labels[~table.held_out])
    areas = _areas(table, model.decision_function(units))
    return {
        "sklearn_pooled_cpu_s": round(time.process_time() - cpu, 3),
        "sklearn_pooled_wall_s": round(time.perf_counter() - wall, 3),
        "sklearn_pooled_auc_train": areas[0],
        "sklearn_pooled_auc_test": areas[1],
    }
