"""Pipeline ``linear.vertical``: a regression over departments with different columns, its parts left at the nodes."""

import time
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from factory.federation import vertical_card
from factory.federation.parties import run_parties
from factory.pipelines.build import BuildError, Built, Learns, Mechanism, ratio_text, uses_of
from factory.pipelines.pipeline import Building, Pipeline
from factory.pipelines.recipe import Recipe, RecipeError
from nodes.contract import canonical
from nodes.contract.parameters import CKKS_VERTICAL
from nodes.contract.tasks.vertical_linear import TASK, VerticalLinearParameters

NAME = TASK

MECHANISMS = (
    Mechanism(
        "ckks-masked-products",
        "Cheon, Kim, Kim, Song, ASIACRYPT 2017; flooding: Li, Micciancio, Schultz, Sorrell, CRYPTO 2022",
        CKKS_VERTICAL.name,
    ),
)


def parameters_of(recipe: Recipe) -> VerticalLinearParameters:
    """Read the recipe's parameters.

    Raises:
        RecipeError: a parameter is missing, unknown or wrong.
    """
    try:
        parameters = VerticalLinearParameters.model_validate(
            {"seed": recipe.pipeline.seed, **recipe.parameters}, strict=False
        )
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()[:4])
        raise RecipeError(f"the parameters of {NAME} are wrong: {found}") from error
    if recipe.nodes != tuple(party.node for party in recipe.parties) or set(recipe.nodes) != set(parameters.features):
        raise RecipeError("expected one table per node, and features of exactly these nodes")
    for party in recipe.parties:
        missing = sorted(set(parameters.columns_of(party.node)) - set(party.columns))
        if missing:
            raise RecipeError(f"expected the columns {', '.join(missing)} at {party.node}, as the parameters name them")
    return parameters


def build(on: Building) -> Built:
    """Train the model in the session and return the product's files.

    Raises:
        FactoryError: a node refused or stayed away, or the parts do not fit together.
    """
    recipe, parameters = on.recipe, parameters_of(on.recipe)
    started = on.now()
    results = run_parties(
        on.session,
        TASK,
        parameters.model_dump(mode="json"),
        uses_of(recipe),
        on_progress=_Told(parameters, on).told,
    )
    label = results[parameters.label_party].body
    if {result.body["rounds"] for result in results.values()} != {label["rounds"]}:
        raise BuildError("expected all nodes to have made the same number of rounds; build again")
    metrics: dict[str, int | str] = {"rounds": label["rounds"], **label.get("metrics", {})}
    metrics["decrease_last_micro"] = label["moved_micro"][-1]
    facts = vertical_card.card(
        parameters,
        name_zh=recipe.product.name_zh,
        name_en=recipe.product.name_en,
        purpose=recipe.scenario.purpose,
        moved_micro=label["moved_micro"],
        metrics=metrics,
    )
    digests = {node: str(result.body["part_sha256"]) for node, result in results.items()}
    files = {
        "parts.json": vertical_card.parts_document(parameters, digests),
        "model_card.json": canonical.dumps(facts),
        "model_card.md": vertical_card.to_markdown(facts).encode("utf-8"),
    }
    return Built(
        recipe=recipe,
        recipe_bytes=on.recipe_bytes,
        files=files,
        metrics=metrics,
        participants=recipe.nodes,
        sessions=(on.session.session_id,),
        node_runs={node: result.statement.to_bytes() for node, result in results.items()},
        mechanisms=MECHANISMS,
        learns=tuple(Learns(*item) for item in vertical_card.LEARNS),
        cell_min=recipe.thresholds.cell_min,
        round_base=recipe.thresholds.round_base,
        suppressed=0,
        started_at=started,
        finished_at=on.now(),
        headline=_headline(parameters, metrics),
        evidence={"bytes_sent": {node: result.bytes_sent for node, result in results.items()}},
    )


class _Told:
    """Turns what nodes say of their halves into one line per round."""

    def __init__(self, parameters: VerticalLinearParameters, on: Building) -> None:
        self._label_party = parameters.label_party
        self._tell = on.progress
        self._began = time.monotonic()
        self._last = 0

    def told(self, news: Mapping[str, Mapping[str, Any]]) -> None:
        """Tell rounds done, the estimate of the last decrease, bytes of all nodes, and the time left."""
        done = news.get(self._label_party, {}).get("progress", {})
        if not isinstance(done.get("round"), int) or done["round"] == self._last:
            return
        self._last = done["round"]
        sent = sum(int(body.get("bytes_sent", 0)) for body in news.values())
        left_s = (time.monotonic() - self._began) / done["round"] * (done["rounds"] - done["round"])
        self._tell(
            f"train {done['round']}/{done['rounds']} (decrease {done['decrease_micro'] / 1e6:.6f}, "
            f"{sent / 1e6:.1f} MB, at most {left_s:.0f} s left)"
        )


def _headline(parameters: VerticalLinearParameters, metrics: Mapping[str, int | str]) -> tuple[tuple[str, str], ...]:
    parts = len(parameters.features)
    lines = [
        (
            f"{parts} 方纵向训练 {metrics['rounds']} 轮，系数留在各自节点，逐行得分无人可见",
            f"{metrics['rounds']} rounds over {parts} parties; coefficients stay at their nodes, no row score was seen",
        )
    ]
    auc = metrics.get("auc_test_micro")
    if isinstance(auc, int):
        lines.append((f"联合测试集 AUC {ratio_text(auc)}", f"AUC on the joint test rows {ratio_text(auc)}"))
    return tuple(lines)


PIPELINE = Pipeline(NAME, parameters_of, build, meets=True)
