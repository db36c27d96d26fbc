"""Every file of configs/loss as a fixture, and random batches for it."""

from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

LOSSES = sorted((Path(__file__).parents[2] / "configs" / "loss").glob("*.yaml"))


@pytest.fixture(params=LOSSES, ids=lambda path: path.stem)
def loss(request):
    """Each loss, with the hyper-parameters of its file."""
    return instantiate(OmegaConf.load(request.param))


@pytest.fixture(params=[1, 4], ids=["binary", "multiclass"])
def channels(request):
    """C: 1 is the binary task."""
    return request.param
