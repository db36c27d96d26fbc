"""Combo and Dice + focal."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seglab.losses.compound import Combo, DiceFocal
from seglab.losses.cross_entropy import CrossEntropy, Focal
from seglab.losses.overlap import Dice

from . import reference
from .batches import batch, value_and_gradient

seeds = given(seed=st.integers(0, 10**6), channels=st.integers(1, 5))


@seeds
@settings(max_examples=25, deadline=None)
def test_combo_is_dice_plus_cross_entropy(seed, channels):
    logits, target = batch(seed, channels)
    logits = logits.double()
    found = value_and_gradient(Combo(0.7), logits, target)
    parts = [value_and_gradient(part, logits, target) for part in (Dice(0.7), CrossEntropy())]
    torch.testing.assert_close(found, tuple(map(sum, zip(*parts, strict=True))))
    expected = value_and_gradient(reference.combo, logits, target)
    torch.testing.assert_close(value_and_gradient(Combo(1.0), logits, target), expected)


@seeds
@settings(max_examples=25, deadline=None)
def test_dice_focal_is_dice_plus_focal(seed, channels):
    logits, target = batch(seed, channels)
    logits = logits.double()
    found = value_and_gradient(DiceFocal(0.7, 1.5), logits, target)
    parts = [value_and_gradient(part, logits, target) for part in (Dice(0.7), Focal(1.5, 1.0))]
    torch.testing.assert_close(found, tuple(map(sum, zip(*parts, strict=True))))
    expected = value_and_gradient(reference.dice_focal, logits, target)
    torch.testing.assert_close(value_and_gradient(DiceFocal(1.0, 2.0), logits, target), expected)
