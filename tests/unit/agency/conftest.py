import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import offices


@pytest.fixture
def world(tmp_path):
    return offices.world(tmp_path)
