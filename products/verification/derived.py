"""Step 7: the metadata of the product says nothing but what the statements say.

DCAT, PROV, RO-Crate and ML-BOM are made again from the statements and compared byte by byte. Free are
the two summaries, the licence and the time the run ended, which no statement holds; they are read from
``dcat.jsonld``, and the time has to lie within the build.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from products.errors import MalformedError
from products.fields import parse_time
from products.package import paths
from products.package.payload import DCAT, ProductDescription, Source, derived_metadata
from products.statements import Build, Grant
from products.verification.facts import Facts
from products.verification.rules import grant_of


def metadata_problems(facts: Facts) -> Iterator[str]:
    """Compare the derived files of ``data/`` with what has to be there."""
    grant = grant_of(facts)
    if grant is None or len(facts.builds) != 1:
        return  # rule.purpose and rule.build say so
    build = facts.builds[0][1]
    try:
        free = _free_texts(facts.files.content.get(DCAT, b""))
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        yield f"{DCAT}: expected a DCAT description with summaries, licence and date"
        return
    if not build.runDetails.metadata.startedOn <= free.finished_at <= build.runDetails.metadata.finishedOn:
        yield f"{DCAT}: the product was not made between start and end of its build"
    description = _description(facts, grant, build, free)
    if description is None:
        yield "expected one operator on the release"
        return
    payload = {path: item for path, item in facts.files.payload.items() if path not in _made(description.form)}
    try:
        expected = derived_metadata(description, payload)
    except MalformedError as error:
        yield str(error)
        return
    for path, content in sorted(expected.items()):
        found = facts.files.facts.get(path)
        if found is None or found.sha256 != hashlib.sha256(content).hexdigest():
            yield f"{path}: says something else than the statements"


def _made(form: str) -> set[str]:
    from products.package import exports

    made = {DCAT, paths.METADATA + "prov.json", exports.PROV_TURTLE, paths.CRATE}
    return made | {exports.MLBOM} if form == "model" else made


@dataclass(frozen=True, slots=True)
class _Free:
    """What no statement holds."""

    summary_zh: str
    summary_en: str
    licence: str
    finished_at: datetime


def _free_texts(data: bytes) -> _Free:
    value: Any = json.loads(data.decode("utf-8"))
    zh, en = (str(item["@value"]) for item in value["dcterms:description"])
    return _Free(zh, en, str(value["dcterms:license"]), parse_time(value["dcterms:issued"]["@value"]))


def _description(facts: Facts, grant: Grant, build: Build, free: _Free) -> ProductDescription | None:
    operators = {item.actor.id: item.actor for item in facts.release_joint.signed if "operator" in item.actor.roles}
    if grant.operator not in operators:
        return None
    product = facts.release.product
    return ProductDescription(
        id=product.id,
        version=product.version,
        form=product.form,
        name_zh=product.name_zh,
        name_en=product.name_en,
        summary_zh=free.summary_zh,
        summary_en=free.summary_en,
        operator=grant.operator,
        operator_name=operators[grant.operator].title_zh,
        scenario=grant.scenario,
        scenario_title=grant.scenario_title,
        purpose=grant.purpose,
        grant=grant.grant_id,
        pipeline=build.buildDefinition.externalParameters.pipeline,
        sources=[
            Source(
                id=item.resource.id,
                version=item.resource.version,
                name_zh=item.resource.name_zh,
                name_en=item.resource.name_en,
                holder=item.resource.holder,
                registration=item.registration.code,
            )
            for _, item in sorted(facts.resources.items())
        ],
        sessions=build.buildDefinition.internalParameters.sessions,
        started_at=build.runDetails.metadata.startedOn,
        finished_at=free.finished_at,
        licence=free.licence,
    )
