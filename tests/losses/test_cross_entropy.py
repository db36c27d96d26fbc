"""Cross-entropy and focal."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from seglab.losses.cross_entropy import CrossEntropy, Focal

from . import reference
from .batches import IGNORE, batch, value_and_gradient


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    channels=st.integers(1, 5),
    gamma=st.sampled_from([0.0, 0.5, 1.0, 2.0, 3.0]),
)
def test_value_and_gradient_are_those_of_the_textbook(seed, channels, gamma):
    logits, target = batch(seed, channels)
    logits = logits.double()
    found = value_and_gradient(Focal(gamma, 1.0), logits, target)
    expected = value_and_gradient(lambda *pair: reference.focal(*pair, gamma), logits, target)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-14)


def test_multiclass_cross_entropy_is_that_of_torch():
    logits, target = batch(1, 5)
    found = value_and_gradient(CrossEntropy(), logits, target)
    expected = value_and_gradient(
        lambda z, y: F.cross_entropy(z, y, ignore_index=IGNORE), logits, target
    )
    torch.testing.assert_close(found, expected)


def test_binary_cross_entropy_is_that_of_torch():
    logits, target = batch(2, 1, ignored=0.0)
    found = value_and_gradient(CrossEntropy(), logits, target)
    expected = value_and_gradient(
        lambda z, y: F.binary_cross_entropy_with_logits(z[:, 0], y.float()), logits, target
    )
    torch.testing.assert_close(found, expected)


def test_focal_at_gamma_zero_is_cross_entropy(channels):
    pair = batch(3, channels)
    found = value_and_gradient(Focal(0.0, 1.0), *pair)
    torch.testing.assert_close(found, value_and_gradient(CrossEntropy(), *pair))


def test_hand_example():
    # q = 1/2, 1/4 and an ignored pixel: -log q = ln 2, 2 ln 2; (1 - q)^2 = 1/4, 9/16
    p = torch.tensor([[0.5, 0.5], [0.75, 0.25], [0.1, 0.9]])
    logits, target = p.log().T.reshape(1, 2, 1, 3), torch.tensor([[[0, 1, IGNORE]]])
    assert math.isclose(CrossEntropy()(logits, target), 1.5 * math.log(2), rel_tol=1e-6)
    expected = (1 / 4 + 2 * 9 / 16) * math.log(2) / 2
    assert math.isclose(Focal(2.0, 1.0)(logits, target), expected, rel_tol=1e-6)


def test_hand_example_binary_counts_both_sides():
    # p = 1/4 on a foreground pixel, 1/4 on a background pixel: q = 1/4, 3/4
    logits = torch.tensor([0.25, 0.25]).logit().view(1, 1, 1, 2)
    target = torch.tensor([[[1, 0]]])
    expected = -(math.log(1 / 4) + math.log(3 / 4)) / 2
    assert math.isclose(CrossEntropy()(logits, target), expected, rel_tol=1e-6)
    expected = -(9 / 16 * math.log(1 / 4) + 1 / 16 * math.log(3 / 4)) / 2
    assert math.isclose(Focal(2.0, 1.0)(logits, target), expected, rel_tol=1e-6)


@pytest.mark.parametrize("loss", [CrossEntropy(), Focal(2.0, 1.0)])
def test_each_valid_pixel_of_the_batch_counts_the_same(loss, channels):
    logits, target = batch(4, channels, images=2, ignored=0.0)
    target[0, 3:] = IGNORE  # 3 rows of 12 remain in image 0
    first, second = (loss(logits[i : i + 1], target[i : i + 1]) for i in range(2))
    torch.testing.assert_close(loss(logits, target), (3 * first + 12 * second) / 15)


@pytest.mark.parametrize("loss", [CrossEntropy(), Focal(2.0, 1.0)])
def test_a_batch_without_a_valid_pixel_costs_nothing(loss, channels):
    logits, target = batch(5, channels)
    assert loss(logits, torch.full_like(target, IGNORE)) == 0


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_focal_is_finite_where_the_prediction_is_sure(channels, gamma):
    _, target = batch(6, channels, ignored=0.0)
    for height in (1.0, 9.0, 30.0, 1e4):
        z = torch.full((3, channels, *target.shape[1:]), height)
        value, gradient = value_and_gradient(Focal(gamma, 1.0), z, target.clamp(max=1))
        assert value.isfinite()
        assert gradient.isfinite().all()
