"""Run a recipe on local files and say what it made and what it cost."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.bench.measure import Cost, Meter
from factory.errors import FactoryError, NodeRefusedError
from factory.files import write_atomic
from factory.pipelines.build import PARTY_BYTES
from factory.pipelines.pipeline import Building, pipeline_of
from factory.pipelines.recipe import Recipe, RecipeError, parse_recipe
from factory.trial.errors import TrialOutputError, TrialRefusedError, TrialTableError
from nodes.contract import canonical
from nodes.contract.signing import Envelope, sha256_hex

if TYPE_CHECKING:
    from factory.client.match import Invitation
    from factory.federation.session import Reply, Session
    from factory.pipelines.build import Built
    from factory.trial.world import World

CLIENT = "client"
"""Name under which the application unit's questions may be given, whatever its id."""

ANSWERS = "client-answers.jsonl"
"""File of the application unit's answers beside the product; its own process writes it."""

Told = Callable[[str], None]
"""Told a short text after every stage."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A trial that has been checked as far as can be without opening a table.

    Attributes:
        recipe: what runs.
        recipe_bytes: its file.
        tables: file per catalogue id.
        questions: the application unit's file of records, for a verification.
    """

    recipe: Recipe
    recipe_bytes: bytes
    tables: Mapping[str, Path]
    questions: Path | None = None


@dataclass(frozen=True, slots=True)
class Tried:
    """What a trial made.

    Attributes:
        built: the product and its evidence.
        cost: by party.
    """

    built: "Built"
    cost: Cost

    @property
    def product_sha256(self) -> str:
        """Digest of names and digests of all product files: equal for equal inputs and seeds."""
        return sha256_hex(canonical.dumps({name: sha256_hex(data) for name, data in self.built.files.items()}))

    @property
    def dropped(self) -> tuple[str, ...]:
        """Nodes of the recipe that are not in the product."""
        return tuple(node for node in self.built.recipe.nodes if node not in self.built.participants)

    def as_json(self, out: Path | None = None) -> dict[str, Any]:
        """Return the object that ``shufang try --json`` prints."""
        section = self.built.recipe.product
        return {
            "product": {
                "id": section.id,
                "version": section.version,
                "form": section.form,
                "sha256": self.product_sha256,
                "files": [
                    {"path": name, "bytes": len(data), "sha256": sha256_hex(data)}
                    for name, data in sorted(self.built.files.items())
                ],
                "participants": list(self.built.participants),
                "dropped": list(self.dropped),
                "out": None if out is None else str(out),
            },
            "metrics": dict(self.built.metrics),
            "cost": self.cost.as_json(),
        }


def plan(recipe_path: Path, tables: Mapping[str, Path]) -> Plan:
    """Check a recipe and who was given which file.

    Args:
        recipe_path: the recipe.
        tables: file per party: a node with one table, a catalogue id, or, for the questions of
            a verification, the application unit or ``client``.

    Raises:
        RecipeError: the recipe or its parameters are wrong.
        TrialTableError: a file is for nobody, missing, or not there.
    """
    try:
        content = recipe_path.read_bytes()
        recipe = parse_recipe(content.decode("utf-8"), name=recipe_path.name)
    except OSError as error:
        raise RecipeError(f"expected a recipe file at {recipe_path} ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"expected {recipe_path.name} in UTF-8") from error
    pipeline = pipeline_of(recipe)
    pipeline.parameters_of(recipe)
    names = _names(recipe)
    found: dict[str, Path] = {}
    for party, path in tables.items():
        target = names.get(party)
        if target is None:
            raise TrialTableError(f"expected a party of the recipe, got {party}; its parties are {', '.join(names)}")
        if target in found:
            raise TrialTableError(f"expected one file for {target}, got two")
        if not path.is_file():
            raise TrialTableError(f"expected a file for {party} at {path}; correct the path after --table {party}=")
        found[target] = path
    needed = [party.resource for party in recipe.parties] + [CLIENT] * pipeline.asks
    missing = [target for target in needed if target not in found]
    if missing:
        shown = " ".join(f"--table {_shown(recipe, target)}=FILE" for target in missing)
        raise TrialTableError(f"expected a file for every party; add {shown}")
    questions = found.pop(CLIENT, None)
    return Plan(recipe, content, found, questions)


def run(planned: Plan, *, out: Path | None = None, told: Told = lambda _: None) -> Tried:
    """Run a trial with real processes and throw-away trust, and write the product's files.

    Args:
        planned: see ``plan``.
        out: folder for the product; nothing is written if the trial fails.
        told: told of every stage.

    Raises:
        FactoryError, ContractError: a process, node or the pipeline said no; nothing is left behind.
    """
    from factory.trial.world import OPERATOR, World

    if out is not None and out.exists() and not out.is_dir():
        raise TrialOutputError(f"expected a folder at {out}, got a file; name another after --out")
    with Meter({OPERATOR: os.getpid()}) as meter:
        told("starting the parties")
        with World(planned.recipe, planned.tables, on_start=meter.add, on_bytes=meter.count_bytes) as world:
            answers = world.folder / ANSWERS
            built = _build(planned, world, told=told, answers=answers, meter=meter)
            for node, sent in built.evidence.get("bytes_sent", {}).items():
                meter.count_bytes(node, sent)  # what nodes sent to each other goes past the operator's bus
            client_answers = answers.read_bytes() if answers.is_file() and out is not None else None
    if out is not None:
        _write(out, built.files, client_answers)
    return Tried(built, meter.cost)


def _build(planned: Plan, world: "World", *, told: Told, answers: Path, meter: Meter) -> "Built":
    grant, digest, envelopes = world.grant()
    told("grant signed by all")
    session = world.session(grant, digest)
    try:
        return _built(planned, world, session, envelopes, told=told, answers=answers, meter=meter)
    except FactoryError as error:
        if isinstance(error, NodeRefusedError) or not session.refusals:
            raise
        said = "; ".join(f"{node} ({refusal.code}): {refusal.message}" for node, refusal in session.refusals[:4])
        raise TrialRefusedError(f"{error} [{error.code}]; refused by {said}") from error


def _built(
    planned: Plan,
    world: "World",
    session: "Session",
    envelopes: Sequence[Envelope],
    *,
    told: Told,
    answers: Path,
    meter: Meter,
) -> "Built":
    from factory.pipelines.verification import Trial

    recipe = planned.recipe

    def agency_call(kind: str, body: Mapping[str, Any], attachments: tuple[bytes, ...]) -> "Reply":
        return world.agency().ask(kind, dict(body), attachments)

    def trial(invitation: "Invitation") -> "Trial":
        client = recipe.clients[0]
        path = world.folder / "invitation"
        path.write_bytes(invitation.to_bytes())
        printed = world.run(
            client, "factory.client.ask", "--home", str(world.client_home(client)), "--relay", world.relay_url,
            "--invitation", str(path), "--records", str(planned.questions), "--answers", str(answers),
        )  # fmt: skip
        facts = json.loads(printed)
        meter.count_bytes(client, facts["bytes_sent"])
        meter.count_bytes(recipe.nodes[0], facts["bytes_received"])
        return Trial.reported(facts)

    pipeline = pipeline_of(recipe)
    built = pipeline.build(
        Building(
            recipe=recipe,
            recipe_bytes=planned.recipe_bytes,
            session=session,
            now=_now,
            progress=told,
            grant_envelopes=envelopes,
            agency_call=agency_call,
            trial=trial if pipeline.asks else None,
        )
    )
    for node, sent in built.evidence.get(PARTY_BYTES, {}).items():
        meter.count_bytes(node, sent)
    return built


def _names(recipe: Recipe) -> dict[str, str]:
    """Return what each name that may stand before a file means: a catalogue id, or the questions."""
    names = {
        node: tables[0]
        for node in recipe.nodes
        if len(tables := [party.resource for party in recipe.parties if party.node == node]) == 1
    }
    names |= {party.resource: party.resource for party in recipe.parties}
    if pipeline_of(recipe).asks:
        names |= dict.fromkeys((*recipe.clients, CLIENT), CLIENT)
    return names


def _shown(recipe: Recipe, target: str) -> str:
    return next((name for name, meaning in _names(recipe).items() if meaning == target), target)


def _write(out: Path, files: Mapping[str, bytes], answers: bytes | None) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            write_atomic(out / name, data)
        if answers is not None:
            write_atomic(out / ANSWERS, answers, mode=0o600)
    except OSError as error:
        raise TrialOutputError(f"expected to be able to write into {out} ({error.strerror})") from error


def _now() -> datetime:
    return datetime.now(UTC)
