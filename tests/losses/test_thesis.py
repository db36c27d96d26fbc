"""The files of configs/loss that state a thesis equation, hyper-parameters included."""

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from . import reference
from .batches import batch, value_and_gradient
from .conftest import LOSSES

EQUATIONS = {  # smoothing 1, gamma 2, Euclidean distance, mean over classes: reference.py
    "ce": reference.ce,
    "iou": reference.iou,
    "dice": reference.dice,
    "combo": reference.combo,
    "focal": reference.focal,
    "dice_focal": reference.dice_focal,
    "dist": reference.dist,
}


@pytest.mark.parametrize("name", EQUATIONS)
def test_file_gives_the_equation_as_printed(name, channels):
    (path,) = (path for path in LOSSES if path.stem == name)
    logits, target = batch(0, channels, shape=(5, 6))  # few pixels, so that smoothing shows
    found = value_and_gradient(instantiate(OmegaConf.load(path)), logits, target)
    expected = value_and_gradient(EQUATIONS[name], logits.double(), target)
    torch.testing.assert_close(found[0], expected[0].float())
    torch.testing.assert_close(found[1], expected[1].float(), rtol=1e-4, atol=1e-7)
