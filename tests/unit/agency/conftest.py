import pytest

from tests import offices


@pytest.fixture
def world(tmp_path):
    return offices.world(tmp_path)
