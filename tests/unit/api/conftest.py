"""One platform for the tests of a file that only read or are refused, one per test for the others."""

import pytest

from tests.apis import Served


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("api")
    found = Served(folder, f"sqlite:///{folder / 'registry.db'}")
    yield found
    found.close()


@pytest.fixture
def served(tmp_path):
    found = Served(tmp_path, f"sqlite:///{tmp_path / 'registry.db'}")
    yield found
    found.close()
