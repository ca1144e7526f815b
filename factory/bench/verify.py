"""Measurement of the verifier: processor time for one whole package, after its modules are loaded.

The package is the honest release of the tests' fixture, filled up with files; so the measurement
needs a source checkout. What is measured is ``products.verify.verify`` from the folder on
disk to the verdict, with fresh trust data.
"""

import importlib
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from factory.bench.measure import Meter, percentile
from factory.errors import FactoryError

FILES = 100
RUNS = 20
_ROOT = Path(__file__).parents[2]


class BenchNeedsCheckoutError(FactoryError):
    """This measurement reads the tests' fixture, which an installed package does not have."""

    code = "bench.needs_checkout"


def run(*, rows: int | None = None, runs: int = RUNS) -> dict[str, Any]:
    """Measure and return the object that ``shufang bench verify --json`` prints.

    Args:
        rows: files below ``data/``.
        runs: how often the package is verified.

    Raises:
        BenchNeedsCheckoutError: there is no source checkout around this module.
    """
    from products.verify import verify

    fixture, count = _fixture(), FILES if rows is None else rows
    with tempfile.TemporaryDirectory(prefix="bench-verify-") as folder:
        bare = len(fixture.honest("model").payload.facts)
        draft = fixture.honest("model", more_files=max(count - bare, 0))
        package = fixture.write(draft, Path(folder), second=True)
        fresh = draft.trust.fresh().write(Path(folder) / "fresh")

        def once() -> Any:
            return verify(package, root_sha256=fixture.root_sha256(), fresh_trust=fresh, now=fixture.NOW)

        report = once()  # loads the modules
        times_ms = []
        with Meter({"auditor": os.getpid()}) as meter:
            for _ in range(runs):
                began = time.process_time()
                once()
                times_ms.append((time.process_time() - began) * 1000)
        sizes = {path: path.stat().st_size for path in package.rglob("*") if path.is_file()}
        overhead = sum(size for path, size in sizes.items() if path.relative_to(package).parts[0] != "data")
    return {
        "name": "verify",
        "work": f"verify a package of {len(draft.payload.facts)} files in data/ and {len(sizes)} in all, {runs} times",
        **meter.cost.as_json(),
        "verdict": report.verdict,
        "verify_cpu_s": round(percentile(times_ms, 0.5) / 1000, 4),
        "per_s": round(1000 * len(times_ms) / sum(times_ms), 2),
        "p50_ms": round(percentile(times_ms, 0.5), 3),
        "p95_ms": round(percentile(times_ms, 0.95), 3),
        "package_bytes": sum(sizes.values()),
        "overhead_bytes": overhead,
    }


def _fixture() -> Any:
    if not (_ROOT / "tests" / "package_fixture.py").is_file():
        raise BenchNeedsCheckoutError("expected a source checkout: `shufang bench verify` reads the tests' fixture")
    if str(_ROOT) not in sys.path:
        sys.path.append(str(_ROOT))
    return importlib.import_module("tests.package_fixture")
