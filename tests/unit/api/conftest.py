"""One platform for the tests of a file that only read or are refused, one per test for the others.

Every test that changes something runs on SQLite and on PostgreSQL, where a server is there, and has to see the same.
"""

import pytest

from tests.apis import Served
from tests.registries import KINDS, registry_url


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("api")
    found = Served(folder, f"sqlite:///{folder / 'registry.db'}")
    yield found
    found.close()


@pytest.fixture(params=KINDS)
def served(request, tmp_path):
    with registry_url(request.param, tmp_path) as url:
        found = Served(tmp_path, url)
        try:
            yield found
        finally:
            found.close()
