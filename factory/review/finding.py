"""What one automated test found: a number, its limit and the evidence.

Privacy: names, counts and digests of files; never a value that was searched for or found.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nodes.contract import canonical
from nodes.contract.canonical import JsonObject, JsonValue
from nodes.contract.signing import sha256_hex


@dataclass(frozen=True, slots=True)
class Finding:
    """One measured result.

    Attributes:
        test: name of the test, e.g. ``"identifiers"``.
        title_zh, title_en: for people.
        value: what was measured, an integer in ``unit``.
        limit: what is allowed.
        is_ok: whether the value keeps the limit.
        unit: of value and limit.
        evidence: what was examined: counts and digests, no found value.
    """

    test: str
    title_zh: str
    title_en: str
    value: int
    limit: int
    is_ok: bool
    unit: str
    evidence: Mapping[str, JsonValue] = field(default_factory=dict)

    def to_json(self) -> JsonObject:
        """Return the finding as JSON without floats."""
        return {
            "test": self.test,
            "title_zh": self.title_zh,
            "title_en": self.title_en,
            "value": self.value,
            "limit": self.limit,
            "ok": self.is_ok,
            "unit": self.unit,
            "evidence": dict(self.evidence),
        }

    @property
    def sha256(self) -> str:
        """Digest by which reports and reviews name it."""
        return sha256_hex(canonical.dumps(self.to_json()))


def examined(files: Mapping[str, bytes]) -> JsonObject:
    """Return the digests of the files that a test looked at."""
    return {path: sha256_hex(content) for path, content in sorted(files.items())}


def findings_json(findings: Iterable[Finding]) -> bytes:
    """Return findings as canonical JSON, the file ``data/metadata/findings.json`` of a product."""
    return canonical.dumps({"version": 1, "findings": [finding.to_json() for finding in findings]})


def read_findings(data: bytes) -> list[Finding]:
    """Read what ``findings_json`` wrote.

    Raises:
        ContractError: not such bytes.
        KeyError: a field is missing.
    """
    value: Any = canonical.loads(data)
    return [
        Finding(
            item["test"],
            item["title_zh"],
            item["title_en"],
            item["value"],
            item["limit"],
            item["ok"],
            item["unit"],
            item["evidence"],
        )
        for item in value["findings"]
    ]


def failures(findings: Iterable[Finding]) -> list[str]:
    """Return why the product goes back to *building*, one sentence per failed test."""
    return [
        f"{finding.test}: expected {'at least' if finding.test.startswith('declared.') else 'at most'} "
        f"{finding.limit} {finding.unit}, measured {finding.value if finding.value >= 0 else 'nothing'}"
        for finding in findings
        if not finding.is_ok
    ]
