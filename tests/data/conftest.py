import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for `trees`, however pytest imports the tests

import trees


@pytest.fixture
def celeba_root(tmp_path):
    return trees.celebamask_hq(tmp_path / "CelebAMask-HQ")


@pytest.fixture
def city_root(tmp_path):
    return trees.cityscapes(tmp_path / "cityscapes")
