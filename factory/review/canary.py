"""Canaries: values planted in the departments' tables must occur nowhere in a product.

Given as values (the demo and tests) or as SHA-256 digests of their normalised spelling, so
that a department can have a product searched without handing out the values.

Privacy: a finding names file and count, never the value or its place.
"""

import hashlib
import re
from collections.abc import Collection, Mapping

from factory.review.finding import Finding, examined
from factory.review.reading import layers, normalise, spellings, texts

_TOKEN = re.compile(r"[^\s\"'<>=,;:(){}\[\]|\\]{4,64}")


def canary_digest(value: str) -> str:
    """Return the digest under which a department names a canary."""
    return hashlib.sha256(normalise(value).encode("utf-8")).hexdigest()


def check_canaries(
    files: Mapping[str, bytes], *, values: Collection[str] = (), digests: Collection[str] = ()
) -> Finding:
    """Search every file for canaries.

    Args:
        files: the product's files by path.
        values: planted values, at least four characters each.
        digests: digests of planted values that are single words.

    Raises:
        ValueError: there is nothing to search for, or a value is too short to mean anything.
    """
    if not values and not digests:
        raise ValueError("expected planted values or their digests; a test that searches for nothing proves nothing")
    if any(len(normalise(value)) < 4 for value in values):
        raise ValueError("expected canaries of at least four characters")
    hits = {path: _hits(content, values, frozenset(digests)) for path, content in sorted(files.items())}
    return Finding(
        test="canaries",
        title_zh="植入标记值检索",
        title_en="Search for planted values",
        value=sum(hits.values()),
        limit=0,
        is_ok=not any(hits.values()),
        unit="occurrences",
        evidence={
            "searched": len(values) + len(digests),
            "files": examined(files),
            "hits": {path: count for path, count in hits.items() if count},
        },
    )


def _hits(content: bytes, values: Collection[str], digests: frozenset[str]) -> int:
    found: set[str] = set()
    wanted = {value: (normalise(value), spellings(value)) for value in values}
    for layer in layers(content):
        views = list(texts(layer))
        folded = [normalise(view) for view in views]
        for value, (spelling, forms) in wanted.items():
            if any(spelling in view for view in folded) or any(form in layer for form in forms):
                found.add(value)
        if digests:
            tokens = {token for view in views for token in _TOKEN.findall(view)}
            found |= digests & {canary_digest(token) for token in tokens}
    return len(found)
