"""How the tests are dealt to workers: by file, and everything about the main job to one worker, so that it runs once."""

from typing import Any

import pytest


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: Any, log: Any) -> Any:
    """Return a scheduler that keeps a file together; pytest-xdist's own groups do not work with this pytest."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = nodeid.split("::", 1)[0]
            return "main job" if "/test_demo_" in path else path

    return ByFile(config, log)
