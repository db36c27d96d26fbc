"""Every file of configs/loss, with each number of channels that it is made for."""

from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

LOSSES = sorted((Path(__file__).parents[2] / "configs" / "loss").glob("*.yaml"))


def built(path):
    """The loss of a file, with the hyper-parameters of that file."""
    return instantiate(OmegaConf.load(path), _convert_="all")


CASES = [
    pytest.param((path, channels), id=f"{path.stem}-{name}")
    for path in LOSSES
    for channels, name in ((1, "binary"), (4, "multiclass"))
    if channels == 1 or "classes" not in getattr(built(path), "not_promised", {})
]


@pytest.fixture(params=[1, 4], ids=["binary", "multiclass"])
def channels(request):
    """C: 1 is the binary task."""
    return request.param
