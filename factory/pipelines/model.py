"""Pipeline ``linear.secagg``: a horizontal logistic regression as an ONNX model with its card."""

from collections.abc import Callable
from datetime import datetime

from pydantic import ValidationError

from factory.federation import linear, model_card, onnx_export
from factory.federation.session import Session
from factory.pipelines.build import Built, Learns, Mechanism, close_session, ratio_text, require_nodes, uses_of
from factory.pipelines.pipeline import Building, Pipeline
from factory.pipelines.recipe import Recipe, RecipeError
from nodes.contract.tasks.linear import LinearParameters

NAME = "linear.secagg"

MECHANISMS = (
    Mechanism(
        "secure-aggregation",
        "Bonawitz et al., Practical Secure Aggregation, CCS 2017, section 4",
        "secagg-x25519-chacha20-v1",
    ),
)


def parameters_of(recipe: Recipe) -> LinearParameters:
    """Read the recipe's parameters.

    Raises:
        RecipeError: a parameter is missing, unknown or wrong.
    """
    try:
        parameters = LinearParameters.model_validate({"seed": recipe.pipeline.seed, **recipe.parameters}, strict=False)
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()[:4])
        raise RecipeError(f"the parameters of {NAME} are wrong: {found}") from error
    for party in recipe.parties:
        missing = sorted(set(parameters.columns) - set(party.columns))
        if missing:
            raise RecipeError(f"expected the columns {', '.join(missing)} at {party.node}, as the parameters name them")
    return parameters


def build(
    recipe: Recipe,
    recipe_bytes: bytes,
    session: Session,
    *,
    now: Callable[[], datetime],
    progress: Callable[[str], None] = lambda _: None,
) -> Built:
    """Train the model in ``session`` and return the product's files.

    Args:
        recipe: of form ``model``.
        recipe_bytes: the recipe file.
        session: not yet open, under a grant for this recipe.
        now: clock.
        progress: gets a short text after every stage and round.

    Raises:
        FactoryError: a node refused, too few nodes are left, or nothing can be learned.
    """
    parameters = parameters_of(recipe)
    started = now()

    def on_progress(state: linear.Progress) -> None:
        moved = f", moved {state.moved_micro / 1e6:.6f}" if state.stage == "train" else ""
        progress(f"{state.stage} {state.done}/{state.total} ({state.contributors} nodes{moved})")

    model = linear.train(session, uses_of(recipe), parameters, progress=on_progress)
    runs = close_session(session)
    require_nodes(runs, model.vouched)
    facts = model_card.card(
        model,
        name_zh=recipe.product.name_zh,
        name_en=recipe.product.name_en,
        purpose=recipe.scenario.purpose,
        thresholds=recipe.thresholds,
    )
    files = {
        "model.json": model.document,
        "model.onnx": onnx_export.export(model.document),
        "model_card.json": model_card.to_json(facts),
        "model_card.md": model_card.to_markdown(facts).encode("utf-8"),
    }
    metrics: dict[str, int | str] = dict(model.metrics)
    metrics.pop("train_rows", None)
    auc = metrics.get("auc_test_micro")
    return Built(
        recipe=recipe,
        recipe_bytes=recipe_bytes,
        files=files,
        metrics=metrics,
        participants=model.vouched,
        sessions=(session.session_id,),
        node_runs=runs,
        mechanisms=MECHANISMS,
        learns=tuple(Learns(item["party"], item["what_zh"], item["what_en"]) for item in facts["learns"]),
        cell_min=recipe.thresholds.cell_min,
        round_base=recipe.thresholds.round_base,
        suppressed=0,
        started_at=started,
        finished_at=now(),
        headline=_headline(model, auc),
        evidence={"baselines": {node: dict(item) for node, item in model.baselines.items()}},
    )


def _headline(model: linear.LinearModel, auc: int | str | None) -> tuple[tuple[str, str], ...]:
    rounds = len(model.rounds)
    lines = [
        (
            f"联邦平均 {rounds} 轮，每个求和至少 {model.contributors_min} 个节点",
            f"{rounds} rounds of federated averaging, at least {model.contributors_min} nodes in every sum",
        )
    ]
    if isinstance(auc, int):
        lines.append((f"联合测试集 AUC {ratio_text(auc)}", f"AUC on the joint test rows {ratio_text(auc)}"))
    for node, figures in model.baselines.items():
        alone, joint = figures.get("alone_auc_x100"), figures.get("federated_auc_x100")
        if isinstance(alone, int) and isinstance(joint, int):
            lines.append(
                (
                    f"{node} 单独训练 {alone / 100:.2f} → 联合 {joint / 100:.2f}",
                    f"{node} alone {alone / 100:.2f} → federated {joint / 100:.2f}",
                )
            )
    for node, stage in model.dropped.items():
        lines.append((f"{node} 在 {stage} 阶段退出，训练未丢失", f"{node} dropped at {stage}; no round was lost"))
    return tuple(lines)


def _build(on: Building) -> Built:
    return build(on.recipe, on.recipe_bytes, on.session, now=on.now, progress=on.progress)


PIPELINE = Pipeline(NAME, parameters_of, _build)
