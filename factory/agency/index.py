"""From opened sums to the published composite index; pure.

Privacy:
    The composite of an entity is published where at least three domains stand behind it.
    Several indices over the same domains with other weights would be equations for the
    domains' scores; ``releases_left`` bounds their number.

Source:
    OECD and JRC, "Handbook on Constructing Composite Indicators", 2008, step 6 (aggregation).
"""

import math
from collections.abc import Sequence

from factory.federation.rules import REASONS
from nodes.contract.canonical import JsonObject, JsonValue
from nodes.contract.tasks.index import PARTS, IndexParameters


def composite(parameters: IndexParameters, values: Sequence[int], contributors: Sequence[str]) -> JsonObject:
    """Return the index as it may be published.

    Args:
        parameters: of the index.
        values: opened sums in the order of ``parameters.vector_parts``.
        contributors: nodes whose domains are in it.

    Returns:
        ``rows``: per entity ``entity``, ``score_x100`` (null where nothing is published), ``rank``, ``band``,
        ``domains``, ``state`` and ``reason``; ``domains`` that are in it; ``weight_total`` of all of them in units; and
        ``error_x100``: most that a score is off the one from pooled tables.
    """
    step = len(PARTS)
    scores: list[int | None] = []
    counts: list[int] = []
    weights = [0]
    for place in range(len(parameters.entities)):
        total, weight, count = values[place * step : (place + 1) * step]
        counts.append(count)
        if count == len(contributors):
            weights.append(weight)
        if weight <= 0 or count < parameters.domains_min:
            scores.append(None)
            continue
        mean = total / weight
        scores.append(round(100 * (math.exp(mean) if parameters.aggregation == "geometric" else mean)))
    known = sorted((score for score in scores if score is not None), reverse=True)
    rows: list[JsonValue] = []
    for entity, score, count in zip(parameters.entities, scores, counts, strict=True):
        row: JsonObject = {
            "entity": entity,
            "score_x100": score,
            "rank": None if score is None else known.index(score) + 1,
            "band": "" if score is None else parameters.band(score),
            "domains": count,
            "state": "suppressed" if score is None else "published",
            "reason": "domains" if score is None else "",
        }
        rows.append(row)
    domains: list[JsonValue] = [domain.name for domain in parameters.domains if domain.node in contributors]
    zh, en = REASONS["domains"]
    reasons: JsonObject = {"domains": {"zh": zh, "en": en}} if None in scores else {}
    return {
        "version": 1,
        "kind": "index",
        "rows": rows,
        "domains": domains,
        "weight_total": max(weights),
        "error_x100": 1,
        "reasons": reasons,
        "suppressed": scores.count(None),
    }


def releases_left(parameters: IndexParameters, earlier: Sequence[str]) -> int:
    """Return how many indices with other parameters may still be opened over these domains.

    Each is one equation per entity for the domains' scores. A department knows its own domain, so with ``k`` domains
    at most ``k - 2`` leave it at least one unknown more than equations.

    Args:
        parameters: of the index that is asked for.
        earlier: digests of the parameters of those opened before over one of these tables.
    """
    others = {digest for digest in earlier if digest != parameters.sha256}
    return len(parameters.domains) - 2 - len(others)
