"""Step 8: the agency's shapes, run over the statements by an engine that others wrote (extra ``shapes``).

The statements become a small graph; pyshacl evaluates the target ``policy-shapes.ttl`` over it. The
result has to be that of our own rules: a shape that does not hold makes the package invalid.

Source:
    W3C SHACL, section 5; pyshacl.
"""

import importlib
import json
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from products.forms import RELEASE, REVIEW
from products.verification.checks import CheckList
from products.verification.facts import Facts
from products.verification.rules import grant_of

CODE = "rule.shapes"
NS = "urn:shufang:shape:"
_REMOTE = re.compile(rb"\bservice\b|owl:imports|owl#imports|sh:js|shacl#js|\bload\b", re.IGNORECASE)


def check_shapes(facts: Facts, shapes: bytes | None, checks: CheckList, *, is_pinned: bool) -> None:
    """Run the agency's shapes over the statements.

    Shapes are code: they run only where the root that signs them is pinned, and reach for nothing elsewhere.
    """
    if shapes is None or not is_pinned:
        checks.warned(CODE, "no shapes in the trust data" if shapes is None else "not run: the root is not pinned")
        return
    if _REMOTE.search(shapes):
        checks.failed(CODE, ["expected shapes that reach for nothing outside the package"])
        return
    try:
        pyshacl, rdflib = importlib.import_module("pyshacl"), importlib.import_module("rdflib")
    except ImportError:
        checks.warned(CODE, "not run: expected the extra `shapes` (pyshacl): pip install shufang[shapes]")
        return
    graph = rdflib.Graph().parse(data="\n".join(triples(facts)) + "\n", format="nt")
    conforms, report, _ = pyshacl.validate(
        graph, shacl_graph=rdflib.Graph().parse(data=shapes, format="turtle"), advanced=True, do_owl_imports=False
    )
    message = rdflib.URIRef("http://www.w3.org/ns/shacl#resultMessage")
    problems = [] if conforms else sorted({str(text) for text in report.objects(None, message)}) or ["does not conform"]
    checks.found(CODE, problems, f"{len(graph)} facts, pyshacl {pyshacl.__version__}")


def triples(facts: Facts) -> Iterator[str]:
    """Yield the statements as lines of N-Triples; times are seconds since 1970."""
    yield from _grant(facts)
    yield from _runs(facts)
    yield from _stated(facts)
    yield from _signatures(facts)
    release = facts.release
    yield from _node(
        "release",
        "Release",
        {
            "form": release.product.form,
            "participant": release.participants,
            "releasedAt": release.released_at,
            "validTo": release.validity.not_after,
            "registeredUntil": release.registration.valid_until,
        },
    )


def _grant(facts: Facts) -> Iterator[str]:
    grant = grant_of(facts)
    if grant is None:
        return
    limits = grant.thresholds
    yield from _node(
        "grant",
        "Grant",
        {
            "purpose": grant.purpose,
            "scenario": grant.scenario,
            "task": grant.tasks,
            "form": grant.product_form,
            "operator": grant.operator,
            "notBefore": grant.not_before,
            "notAfter": grant.not_after,
            "skew": facts.policy.clock_skew_s_max,
            "usesMax": grant.uses_max,
            "budgetTotal": grant.budget.total,
            "contributorsMin": limits.contributors_min,
            "scoreMin": limits.quality_score_min,
        },
    )
    given = [(party.node, use) for party in grant.parties for use in party.resources]
    for number, (node, use) in enumerate(given):
        values = {"node": node, "resource": use.resource, "version": use.version, "column": use.columns}
        yield from _node(f"granted:{number}", "Granted", values)


def _runs(facts: Facts) -> Iterator[str]:
    used = 0
    for number, (_, run) in enumerate(facts.runs):
        yield from _node(
            f"run:{number}",
            "Run",
            {
                "node": run.node,
                "task": run.task,
                "scenario": run.scenario,
                "purpose": run.purpose,
                "started": run.started_at,
                "finished": run.finished_at,
                "usesBefore": run.uses.before,
                "usesAfter": run.uses.after,
                "budgetBefore": run.budget.before,
                "budgetAfter": run.budget.after,
                "contributors": run.contributor_count,
            },
        )
        for item in run.resources:
            used += 1
            values = {
                "node": run.node,
                "resource": item.id,
                "version": item.version,
                "column": item.columns,
                "commitment": _plain(item.commitment),
                "score": item.quality.score_x100,
                "report": item.quality.report_sha256,
            }
            yield from _node(f"used:{used}", "Used", values)


def _stated(facts: Facts) -> Iterator[str]:
    for number, ((resource, version), stated) in enumerate(sorted(facts.resources.items())):
        values: dict[str, Any] = {
            "node": stated.resource.holder,
            "resource": resource,
            "version": version,
            "commitment": _plain(stated.resource.commitment),
            "score": stated.quality.score_x100,
            "report": stated.quality.report_sha256,
            "validUntil": stated.registration.valid_until or 0,
        }
        yield from _node(f"stated:{number}", "Stated", values)


def _signatures(facts: Facts) -> Iterator[str]:
    kinds = {RELEASE: "release", REVIEW: "review"}
    number = 0
    for joint in (facts.release_joint, *facts.joints):
        for item in joint.signed:
            number += 1
            values = {
                "kind": kinds.get(joint.statement.predicate_type, "other"),
                "actor": item.actor.id,
                "organisation": item.actor.organisation,
                "role": item.actor.roles,
                "origin": item.origin,
                "index": item.index,
            }
            yield from _node(f"signature:{number}", "Signature", values)
            if joint is facts.release_joint:
                yield f"<{NS}signature:{number}> <{NS}on> <{NS}release> ."


def _node(name: str, kind: str, values: dict[str, Any]) -> Iterator[str]:
    subject = f"<{NS}{name}>"
    yield f"{subject} <http://www.w3.org/1999/02/22-rdf-syntax-ns#type> <{NS}{kind}> ."
    for field, value in values.items():
        for one in value if isinstance(value, tuple) else (value,):
            yield f"{subject} <{NS}{field}> {_literal(one)} ."


def _literal(value: str | int | datetime) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    number = int(value.timestamp()) if isinstance(value, datetime) else value
    return f'"{number}"^^<http://www.w3.org/2001/XMLSchema#integer>'


def _plain(value: object) -> str:
    """Return a commitment, which a run may state alone or with the name of its algorithm, as one text."""
    return str(value.get("value")) if isinstance(value, dict) else str(value)
