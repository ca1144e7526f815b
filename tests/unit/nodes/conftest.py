import pytest

from tests.node_world import World


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path)
    yield made
    made.books.close()
