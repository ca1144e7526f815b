"""Acts of the operator that several commands share: requests from recipes, grants, builds."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from factory.client.match import Invitation
from factory.pipelines.build import Built
from factory.pipelines.imports import INPUTS, reviewed_inputs
from factory.pipelines.pipeline import Building, pipeline_of
from factory.pipelines.recipe import Recipe, read_recipe
from factory.pipelines.verification import Trial
from factory.site.operator import OperatorDesk
from factory.use_register import UseRegister
from nodes.contract.grant import Grant
from nodes.contract.signing import Envelope
from nodes.contract.statement import parse_grant

AGREEMENT = "agr-yunzhou-2026"


def request_text(
    recipe: Recipe, reasons: dict[str, str], *, extra: Mapping[str, Sequence[str]] | None = None, days: int = 90
) -> str:
    """Return a data request in TOML for a recipe, with a reason per column.

    Args:
        recipe: what shall be made.
        reasons: justification per column; a column without one will be cut.
        extra: further columns per resource, to be asked for.
        days: term.
    """
    thresholds = recipe.thresholds
    unit = pipeline_of(recipe).use_unit
    lines = [
        f"scenario = {_quoted(recipe.scenario.id)}",
        f"scenario_title = {_quoted(recipe.scenario.title_zh)}",
        f"agreement = {_quoted(AGREEMENT)}",
        f"purpose = {_quoted(recipe.scenario.purpose)}",
        f"product_form = {_quoted(recipe.product.form)}",
        f"need = {_quoted(recipe.product.summary_zh)}",
        f"value = {_quoted(recipe.product.summary_en)}",
        f"goals = [{_quoted(recipe.scenario.title_zh)}]",
        f"tasks = [{_quoted(recipe.pipeline.name)}]",
        f"clients = {json.dumps(list(recipe.clients))}",
        "uses_max = 4",
        f"days = {days}",
        f"request_id = {_quoted('req-' + recipe.scenario.id)}",
        "[thresholds]",
        f"rows_min = {thresholds.rows_min}",
        f"contributors_min = {thresholds.contributors_min}",
        f"cell_min = {thresholds.cell_min}",
        f"round_base = {thresholds.round_base}",
        f"quality_score_min = {thresholds.quality_score_min}",
        "[budget]",
        f'unit = "{unit}"',
        f"total = {10_000 if unit == 'query' else 8}",
        "[justifications]",
        *(f"{_quoted(column)} = {_quoted(reason)}" for column, reason in reasons.items()),
    ]
    for node in recipe.nodes:
        lines += ["[[parties]]", f"node = {_quoted(node)}"]
        for party in recipe.parties:
            if party.node == node:
                columns = [*party.columns, *(extra or {}).get(party.resource, ())]
                lines += [
                    "[[parties.resources]]",
                    f"resource = {_quoted(party.resource)}",
                    f"version = {party.version}",
                    f"columns = {json.dumps(columns, ensure_ascii=False)}",
                ]
    return "\n".join(lines) + "\n"


def granted(desk: OperatorDesk, request_id: str) -> tuple[Grant, str, list[Envelope]]:
    """Return the grant of a request with the envelopes of registrars and departments.

    Raises:
        NodeRefusedError: the agency has not granted it.
    """
    envelopes = desk.agency().fetch_grant(request_id)
    grant, digest = parse_grant(envelopes[0].payload), envelopes[0].payload_sha256
    signed = desk.nodes().grant_signatures([party.node for party in grant.parties], digest)
    return grant, digest, [*envelopes, *(Envelope.from_bytes(data) for data in signed.values())]


def offer_grant(desk: OperatorDesk, request_id: str) -> tuple[Grant, str, dict[str, str]]:
    """Take the grant of a request to its departments and return its state at each."""
    envelopes = desk.agency().fetch_grant(request_id)
    grant = parse_grant(envelopes[0].payload)
    states = desk.nodes().offer_grant([party.node for party in grant.parties], envelopes)
    UseRegister(desk.registry).enter(grant, by=desk.identity.id, now=_clock())
    return grant, envelopes[0].payload_sha256, states


def build_product(
    desk: OperatorDesk,
    recipe_path: Path,
    grant: Grant,
    grant_sha256: str,
    envelopes: Sequence[Envelope],
    *,
    progress: Callable[[str], None] = lambda _: None,
    trial: Callable[[Invitation], Trial] | None = None,
) -> Built:
    """Run a recipe's pipeline in a new session under a grant.

    Args:
        desk: the operator's.
        recipe_path: the recipe.
        grant: signed by registrars and departments.
        grant_sha256: digest of its payload.
        envelopes: its signatures, for the agency to check.
        progress: gets short texts.
        trial: the application unit's trial, for a verification.

    Raises:
        RecipeError: there is no such pipeline.
        FactoryError: a node refused, or nothing can be made.
    """
    recipe = read_recipe(recipe_path)
    UseRegister(desk.registry).require(grant)
    trust = desk.trust
    inputs = reviewed_inputs(recipe, recipe_path.parent, actors=trust.actors, status=trust.status, now=_clock())
    pipeline, session = pipeline_of(recipe), desk.session(grant, grant_sha256)
    building = Building(
        recipe=recipe,
        recipe_bytes=recipe_path.read_bytes(),
        session=session,
        now=_clock,
        progress=progress,
        grant_envelopes=envelopes,
        agency_call=desk.agency().ask,
        trial=trial,
    )
    if pipeline.meets:
        desk.relay.open_session(session.session_id, {*recipe.nodes, *recipe.clients})
    try:
        built = pipeline.build(building)
    finally:
        if pipeline.meets:
            desk.relay.close_session(session.session_id)
    UseRegister(desk.registry).record(grant, session=session.session_id, by=desk.identity.id, now=_clock())
    return replace(built, files={**built.files, INPUTS: inputs}) if inputs else built


def _clock() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
