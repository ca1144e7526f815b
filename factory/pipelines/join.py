"""Pipeline ``psi.join``: a private join of departments' tables, delivered as a component with its method sheet.

What is joined stays at the nodes that the mode names; the product says how, by which keys, and how many rows
are common, as coarsely as the grant wants. Models over several departments run the same join inside their own session.
"""

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from factory.federation.parties import PartyResult, run_parties
from factory.federation.session import Session
from factory.pipelines.build import PARTY_BYTES, Built, Learns, Mechanism, require_nodes, uses_of
from factory.pipelines.pipeline import Building, Pipeline
from factory.pipelines.recipe import Recipe, RecipeError
from nodes.contract.tasks.psi import SUITE, TASK, PsiParameters

NAME = TASK

_KKRT = Mechanism("psi", "KKRT16 (CCS 2016), figures 2 and 5; base transfers after Chou and Orlandi 2015", SUITE)
_DH = Mechanism("psi-cardinality", "De Cristofaro, Gasti and Tsudik (CANS 2012), figure 1, ristretto255", SUITE)
_OPRF = Mechanism("psi-oprf", "Jarecki and Liu (SCN 2010); RFC 9497, mode OPRF, ristretto255-SHA512", SUITE)
_UNION = Mechanism("private-id", "Buddhavarapu et al. (ePrint 2020/599), section 3, ristretto255", SUITE)
MECHANISMS: Mapping[str, tuple[Mechanism, ...]] = {
    "intersection": (_KKRT,),
    "alignment": (_KKRT,),
    "cardinality": (_DH,),
    "prepared": (_OPRF,),
    "union": (_UNION,),
}

_PREPARED = Learns(
    "receiver",
    "知道自己的哪些行对方也有、对方的行数，以及对方名录两次之间增减的行数；可就任意主键提问，次数受订单限制。",
    "which of its own rows the other node has, the size of the other table, and how many rows came and went there "
    "since its last copy; it may ask about any key, as often as the order allows.",
)
_GIVER = Learns(
    "node",
    "知道接收方的行数与共有行数，不知道是哪些行。",
    "the size of the receiver's table and how many rows are common, not which.",
)
_OPERATOR = Learns(
    "operator",
    "只知道共有行数（按授权取整）、各方收发字节数；看不到任何主键。",
    "how many rows are common, rounded as the grant wants, and how many bytes passed; no key.",
)
LEARNS: Mapping[str, tuple[Learns, ...]] = {
    "intersection": (
        Learns(
            "receiver",
            "知道自己的哪些行对方也有，以及对方的行数。",
            "which of its own rows the other node has, and the size of the other table.",
        ),
        _GIVER,
        _OPERATOR,
    ),
    "alignment": (
        Learns(
            "node",
            "知道自己的哪些行各方都有；牵头方另知道自己的哪些行每一方各有；行序随机。",
            "which of its own rows all nodes have; the leading node also which of its rows each node has; "
            "the order of rows is random.",
        ),
        _OPERATOR,
    ),
    "cardinality": (
        Learns(
            "node",
            "只知道共有行数和对方的行数，不知道是哪些行。",
            "how many rows are common and the size of the other table, not which.",
        ),
        _OPERATOR,
    ),
    "prepared": (_PREPARED, _GIVER, _OPERATOR),
    "union": (
        Learns(
            "node",
            "只知道共有行数和对方的行数；对方没有的行以占位行补齐，分不清自己的哪些行对方也有。",
            "how many rows are common and the size of the other table; dummies fill the list, so not which.",
        ),
        _OPERATOR,
    ),
}


def parameters_of(recipe: Recipe) -> PsiParameters:
    """Read the recipe's parameters.

    Raises:
        RecipeError: a parameter is missing, unknown or wrong, a node has no key or more than one table, or a table
            lacks a column of its key.
    """
    try:
        parameters = PsiParameters.model_validate(recipe.parameters, strict=False)
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()[:4])
        raise RecipeError(f"the parameters of {NAME} are wrong: {found}") from error
    if len(recipe.parties) != len(recipe.nodes) or set(parameters.keys) != set(recipe.nodes):
        raise RecipeError("expected one table per node, and a key for every node of the recipe")
    for party in recipe.parties:
        missing = sorted({field.column for field in parameters.keys[party.node]} - set(party.columns))
        if missing:
            raise RecipeError(f"expected the columns {', '.join(missing)} at {party.node}")
    return parameters


def build(
    recipe: Recipe,
    recipe_bytes: bytes,
    session: Session,
    *,
    now: Callable[[], datetime],
    progress: Callable[[str], None] = lambda _: None,
) -> Built:
    """Join the tables and return the product's files.

    Args:
        recipe: of form ``component``.
        recipe_bytes: the recipe file.
        session: not yet open.
        now: clock.
        progress: gets a short text after every stage.

    Raises:
        FactoryError: a node refused, stayed away, or found fewer common rows than the minimum.
    """
    parameters = parameters_of(recipe)
    started = now()
    progress("tables are being compared")
    results = run_parties(session, TASK, parameters.model_dump(mode="json"), uses_of(recipe))
    runs = {node: result.statement.to_bytes() for node, result in results.items()}
    require_nodes(runs, recipe.nodes)
    common = _common(results)
    progress(f"{common} common rows")
    method = _method(recipe, parameters, common)
    return Built(
        recipe=recipe,
        recipe_bytes=recipe_bytes,
        files={"component.json": _json(method), "method.json": _json(method), "method.md": _markdown(recipe, method)},
        metrics={"common": common, "nodes": len(recipe.nodes)},
        participants=recipe.nodes,
        sessions=(session.session_id,),
        node_runs=runs,
        mechanisms=MECHANISMS[parameters.mode],
        learns=LEARNS[parameters.mode],
        cell_min=recipe.thresholds.cell_min,
        round_base=recipe.thresholds.round_base,
        suppressed=0,
        started_at=started,
        finished_at=now(),
        headline=((f"共有 {common} 行（按授权取整）", f"{common} common rows, rounded as the grant wants"),),
        evidence={PARTY_BYTES: {node: result.bytes_sent for node, result in results.items()}},
    )


def _common(results: Mapping[str, PartyResult]) -> int:
    """Return the count that all nodes state.

    Raises:
        RecipeError: they differ, so at least one is wrong.
    """
    counts = {int(result.body["common"]) for result in results.values()}
    if len(counts) != 1:
        raise RecipeError(
            "expected the same number of common rows from every node; ask them to look into their ledgers"
        )
    return counts.pop()


def _method(recipe: Recipe, parameters: PsiParameters, common: int) -> dict[str, Any]:
    return {
        "version": 1,
        "mode": parameters.mode,
        "suite": parameters.suite,
        "receiver": parameters.receiver,
        "keys": {
            node: [{"column": field.column, "rules": list(field.rules)} for field in fields]
            for node, fields in parameters.keys.items()
        },
        "rows_min": max(parameters.rows_min, recipe.thresholds.rows_min),
        "common": common,
        "round_base": recipe.thresholds.round_base,
        "mechanisms": [{"name": item.name, "source": item.source} for item in MECHANISMS[parameters.mode]],
        "learns": [
            {"party": item.party, "what_zh": item.what_zh, "what_en": item.what_en} for item in LEARNS[parameters.mode]
        ],
        "purpose": recipe.scenario.purpose,
    }


def _markdown(recipe: Recipe, method: Mapping[str, Any]) -> bytes:
    lines = [f"# {recipe.product.name_zh}", "", recipe.product.summary_zh, "", f"- 共有行数：{method['common']}", ""]
    lines += ["## 各方能知道什么", "", *[f"- **{item['party']}**：{item['what_zh']}" for item in method["learns"]], ""]
    lines += ["---", "", f"# {recipe.product.name_en}", "", recipe.product.summary_en, ""]
    lines += [f"- Common rows: {method['common']}", "", "## What each party learns", ""]
    lines += [*[f"- **{item['party']}**: {item['what_en']}" for item in method["learns"]], ""]
    return "\n".join(lines).encode("utf-8")


def _json(value: object) -> bytes:
    return (json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True) + "\n").encode("utf-8")


def _build(on: Building) -> Built:
    return build(on.recipe, on.recipe_bytes, on.session, now=on.now, progress=on.progress)


PIPELINE = Pipeline(NAME, parameters_of, _build, meets=True)
