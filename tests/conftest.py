"""How the tests are dealt to workers, and the record of those that are marked with a requirement.

They are dealt by file, and everything about the main job to one worker, so that it runs once.
"""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

_PROPERTY = "requirement"
_RANK = ("passed", "skipped", "failed")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: Any, log: Any) -> Any:
    """Return a scheduler that keeps a file together; pytest-xdist's own groups do not work with this pytest."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = nodeid.split("::", 1)[0]
            return "main job" if "/test_demo_" in path else path

    return ByFile(config, log)


def pytest_addoption(parser: Any) -> None:
    parser.addoption(
        "--requirements-file",
        default=os.environ.get("SHUFANG_REQUIREMENTS", ""),
        help="write the outcomes of the tests that are marked with a requirement, for `shufang compliance`",
    )


def pytest_configure(config: Any) -> None:
    path = config.getoption("--requirements-file")
    if path and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Record(Path(path)), "requirements")


def pytest_itemcollected(item: Any) -> None:
    if item.get_closest_marker("requirement"):
        item.user_properties.append((_PROPERTY, 1))


class Record:
    """Gathers outcomes; of a test with several cases the worst one counts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.outcomes: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: Any) -> None:
        if [_PROPERTY, 1] not in [list(pair) for pair in report.user_properties]:
            return
        if report.when == "call" or report.outcome != "passed":
            name = report.nodeid.split("[", 1)[0]
            outcome = "failed" if report.outcome == "rerun" else report.outcome
            self.outcomes[name] = max(self.outcomes.get(name, "passed"), outcome, key=_RANK.index)

    def pytest_sessionfinish(self) -> None:
        from factory.law import sources
        from factory.law.compliance import RESULT_FORMAT

        result = {
            "format": RESULT_FORMAT,
            "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "sources_sha256": sources.digest(sources.root()),
            "tests": dict(sorted(self.outcomes.items())),
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", "utf-8")
