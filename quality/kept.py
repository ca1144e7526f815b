"""What the engine keeps of a delivery to judge the next one by; beside the table, never in a report.

One private file per resource: the counts that the last report published (so that the next ones do
not tell a difference of a few rows, ``quality.suppression``) with how many rows fall into each bucket of a
hash, the number of rows, and the shapes of
the columns that rules watch for drift. A file that cannot be read is as none: the delivery is then
the first, and rules that compare say that they were not assessed.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from quality.drift import Shape
from quality.suite import ColumnType
from quality.suppression import Counts

_VERSION = 1


@dataclass(frozen=True, slots=True)
class Delivery:
    """What rules that compare deliveries need of one: rows, exact, and a shape per column."""

    delivered_at: datetime
    rows: int
    shapes: Mapping[str, Shape] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Shown:
    """The counts that a report published of one rule.

    Attributes:
        rule_sha256: of the rule; another rule under the same id starts anew.
        status: of the rule.
        counts: what the published figures were rounded from.
    """

    rule_sha256: str
    status: str
    counts: Counts


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept after a run.

    Attributes:
        rows: of the table, as published before rounding.
        buckets: rows per bucket of a hash over all columns, of the delivery that was last shown anew.
        shown: by rule id.
        last: the delivery that was assessed last.
        before: the one before it, with which ``last`` was compared; a second run of ``last`` is compared with it too.
    """

    rows: int
    buckets: tuple[int, ...]
    shown: Mapping[str, Shown]
    last: Delivery
    before: Delivery | None = None

    def compared_with(self, delivered_at: datetime) -> Delivery | None:
        """Return the delivery that one of this time is compared with."""
        return self.before if self.last.delivered_at == delivered_at else self.last


def load(path: Path) -> Kept | None:
    """Read what was kept; ``None`` when there is nothing that can be read."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["version"] != _VERSION:
            return None
        shown = {
            str(name): Shown(str(item["rule_sha256"]), str(item["status"]), Counts(*map(int, item["counts"])))
            for name, item in document["shown"].items()
        }
        before = document["before"]
        buckets = tuple(map(int, document["buckets"]))
        return Kept(
            int(document["rows"]), buckets, shown, _delivery(document["last"]), _delivery(before) if before else None
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def dumps(kept: Kept) -> bytes:
    """Return the bytes of the file."""
    document = {
        "version": _VERSION,
        "rows": kept.rows,
        "buckets": list(kept.buckets),
        "shown": {
            name: {
                "rule_sha256": item.rule_sha256,
                "status": item.status,
                "counts": [item.counts.rows, item.counts.missing, item.counts.failing],
            }
            for name, item in kept.shown.items()
        },
        "last": _document(kept.last),
        "before": _document(kept.before) if kept.before else None,
    }
    return json.dumps(document, ensure_ascii=False).encode()


def _document(delivery: Delivery) -> dict[str, Any]:
    return {
        "delivered_at": delivery.delivered_at.isoformat(),
        "rows": delivery.rows,
        "shapes": {
            name: {"kind": shape.kind, "marks": list(shape.marks), "counts": list(shape.counts)}
            for name, shape in delivery.shapes.items()
        },
    }


def _delivery(document: Mapping[str, Any]) -> Delivery:
    shapes = {
        str(name): Shape(
            cast("ColumnType", str(item["kind"])), tuple(map(str, item["marks"])), tuple(map(int, item["counts"]))
        )
        for name, item in document["shapes"].items()
    }
    return Delivery(datetime.fromisoformat(document["delivered_at"]), int(document["rows"]), shapes)
