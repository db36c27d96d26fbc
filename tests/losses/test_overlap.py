"""Dice and IoU."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seglab.losses.overlap import Dice, IoU

from . import reference
from .batches import IGNORE, batch, value_and_gradient

PAIRS = [(Dice, reference.dice), (IoU, reference.iou)]


@pytest.mark.parametrize(("loss", "textbook"), PAIRS)
@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    channels=st.integers(1, 5),
    smooth=st.sampled_from([1.0, 0.3]),
    ignored=st.sampled_from([0.0, 0.2, 1.0]),
)
def test_value_and_gradient_are_those_of_the_textbook(
    loss, textbook, seed, channels, smooth, ignored
):
    logits, target = batch(seed, channels, ignored=ignored)
    logits = logits.double()
    found = value_and_gradient(loss(smooth), logits, target)
    expected = value_and_gradient(lambda *pair: textbook(*pair, smooth), logits, target)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-14)


@given(seed=st.integers(0, 10**6), channels=st.integers(1, 5))
@settings(max_examples=25, deadline=None)
def test_unsmoothed_iou_is_a_function_of_dice(seed, channels):
    # J = I / (S - I) and D = 2 I / S, so J = D / (2 - D), for probabilities as for masks.
    logits, target = batch(seed, channels, images=1)
    logits, d = logits.double(), 1 - Dice(0.0)(logits.double(), target)
    torch.testing.assert_close(1 - IoU(0.0)(logits, target), d / (2 - d))


@pytest.mark.parametrize("loss", [Dice(1.0), IoU(1.0)])
def test_a_batch_is_the_mean_of_its_images(loss, channels):
    logits, target = batch(1, channels, images=4)
    target[0, 3:] = IGNORE  # images of unequal size, so that pooling them would differ
    images = [loss(logits[i : i + 1], target[i : i + 1]) for i in range(4)]
    torch.testing.assert_close(loss(logits, target), torch.stack(images).mean())


def test_hand_example_binary():
    # truth 1 1 0 0 ignored, p = 1/2 3/4 1/4 1/2 (3/4): sum y p = 5/4, sum y = 2, sum p = 2
    p = torch.tensor([0.5, 0.75, 0.25, 0.5, 0.75])
    logits, target = p.logit().view(1, 1, 1, 5), torch.tensor([[[1, 1, 0, 0, IGNORE]]])
    torch.testing.assert_close(Dice(1.0)(logits, target).item(), 1 - (1 + 2.5) / (1 + 4))
    torch.testing.assert_close(IoU(1.0)(logits, target).item(), 1 - (1 + 1.25) / (1 + 2.75))


def test_hand_example_three_classes_sums_before_it_divides():
    # one pixel of class 0 with p = (1/2, 1/4, 1/4), one of class 1 with p = (1/5, 3/5, 1/5):
    # sum y p = 1/2 + 3/5 = 1.1, sum y = sum p = 2
    p = torch.tensor([[0.5, 0.25, 0.25], [0.2, 0.6, 0.2]])
    logits, target = p.log().T.reshape(1, 3, 1, 2), torch.tensor([[[0, 1]]])
    assert math.isclose(Dice(1.0)(logits, target), 1 - 3.2 / 5, rel_tol=1e-6)
    assert math.isclose(IoU(1.0)(logits, target), 1 - 2.1 / 3.9, rel_tol=1e-6)


@pytest.mark.parametrize("loss", [Dice(1.0), IoU(1.0)])
def test_an_image_without_a_valid_pixel_is_a_perfect_score(loss, channels):
    logits, target = batch(2, channels)
    assert loss(logits, torch.full_like(target, IGNORE)) == 0


@pytest.mark.parametrize("loss", [Dice(1.0), IoU(1.0)])
def test_volumes_are_images_with_more_rows(loss, channels):
    logits, target = batch(3, channels, shape=(3, 4, 5))
    flat = loss(logits.flatten(2, 3), target.flatten(1, 2))
    torch.testing.assert_close(loss(logits, target), flat)
