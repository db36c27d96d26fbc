"""What every loss promises, for each file of configs/loss: a new file is tested here as it is."""

from functools import partial

import numpy as np
import pytest
import torch

from .batches import IGNORE, batch, one_sided, value_and_gradient
from .conftest import CASES, built


@pytest.fixture(params=CASES)
def case(request):
    """A file and C."""
    return request.param


@pytest.fixture
def loss(case):
    """Each loss."""
    return built(case[0])


@pytest.fixture
def channels(case):
    """C: 1 is the binary task."""
    return case[1]


def test_is_a_finite_float32_scalar_with_a_finite_gradient(loss, channels):
    logits, target = batch(0, channels)
    value, gradient = value_and_gradient(loss, logits, target)
    assert value.shape == ()
    assert value.dtype == torch.float32
    assert value.isfinite()
    assert gradient.shape == logits.shape
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0


def test_logits_of_ignored_pixels_change_neither_value_nor_gradient(loss, channels):
    logits, target = batch(1, channels, ignored=0.3)
    ignored = (target == IGNORE).unsqueeze(1)
    value, gradient = value_and_gradient(loss, logits, target)
    other = torch.where(ignored, 50 * torch.randn(logits.shape), logits)
    other_value, other_gradient = value_and_gradient(loss, other, target)
    assert torch.equal(value, other_value)
    assert torch.equal(gradient, other_gradient)
    assert (gradient.masked_select(ignored) == 0).all()
    assert (gradient.masked_select(~ignored) != 0).any()


def test_ignoring_the_top_half_is_cropping_it_away(loss, channels):
    logits, target = batch(2, channels, shape=(12, 16), ignored=0.1)
    full = target.clone()
    full[:, :6] = IGNORE
    whole = half = loss
    if "crop" in getattr(loss, "not_promised", {}):
        assert value_and_gradient(loss, logits, full)[1][:, :, :6].abs().max() == 0
        return
    if hasattr(loss, "plane"):  # distances see where the ignored half begins: crop its plane
        plane = torch.from_numpy(np.stack([loss.plane(labels.numpy()) for labels in full]))
        whole, half = partial(loss, weights=plane), partial(loss, weights=plane[:, 6:])
    cropped, cropped_gradient = value_and_gradient(half, logits[:, :, 6:], target[:, 6:])
    value, gradient = value_and_gradient(whole, logits, full)
    torch.testing.assert_close(value, cropped)
    torch.testing.assert_close(gradient[:, :, 6:], cropped_gradient)


def test_all_pixels_ignored_is_finite_with_zero_gradient(loss, channels):
    logits, target = batch(3, channels)
    value, gradient = value_and_gradient(loss, logits, torch.full_like(target, IGNORE))
    assert value.isfinite()
    assert (gradient == 0).all()


def test_mirror_image_has_the_same_loss(loss, channels):
    logits, target = batch(4, channels)
    value, gradient = value_and_gradient(loss, logits, target)
    mirrored, mirrored_gradient = value_and_gradient(loss, logits.flip(-1), target.flip(-1))
    torch.testing.assert_close(mirrored, value)
    torch.testing.assert_close(mirrored_gradient.flip(-1), gradient)


def test_the_truth_scores_below_a_wrong_answer(loss, channels):
    _, target = batch(5, channels, ignored=0.0)
    wrong = (target + 1) % max(channels, 2)
    right_value = loss(one_sided(target, channels, 6.0), target)
    assert right_value < loss(torch.zeros_like(one_sided(target, channels, 1.0)), target)
    assert right_value < loss(one_sided(wrong, channels, 6.0), target)


def test_half_precision_agrees_with_single_at_full_size(loss, channels):
    logits, target = batch(6, channels, shape=(512, 512), images=1)
    half = logits.half()
    value, gradient = value_and_gradient(loss, half.float(), target)
    half_value, half_gradient = value_and_gradient(loss, half, target)
    assert half_value.dtype == torch.float32
    assert half_gradient.dtype == torch.float16
    torch.testing.assert_close(half_value, value, rtol=1e-6, atol=0)
    torch.testing.assert_close(half_gradient, gradient.half(), rtol=2e-3, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_extreme_logits_give_a_finite_value_and_gradient(loss, channels, dtype):
    _, target = batch(7, channels)
    highest = 6e4 if dtype == torch.float16 else torch.finfo(dtype).max
    for sign in (1, -1):  # the surest right answer, and the surest wrong one
        logits = (sign * one_sided(target, channels, 1.0)).to(dtype) * highest
        value, gradient = value_and_gradient(loss, logits, target)
        assert value.isfinite()
        assert gradient.isfinite().all()


@pytest.mark.parametrize("structure", ["empty", "full", "one pixel", "one line", "one-pixel image"])
def test_degenerate_masks_give_a_finite_value_and_gradient(loss, channels, structure):
    logits, target = batch(8, channels, images=2, ignored=0.0)
    target = torch.zeros_like(target)
    if structure == "full":
        target += 1
    elif structure == "one pixel":
        target[:, 4, 5] = 1
    elif structure == "one line":
        target[:, 4] = 1
    elif structure == "one-pixel image":
        logits, target = logits[:, :, :1, :1], target[:, :1, :1] + 1
    for z in (logits, one_sided(target, channels, 200.0), one_sided(target, channels, -200.0)):
        value, gradient = value_and_gradient(loss, z, target)
        assert value.isfinite()
        assert gradient.isfinite().all()


def test_gradient_is_the_derivative(loss, channels):
    logits, target = batch(9, channels, shape=(4, 5), images=2)
    logits = logits.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: loss(z, target), logits)


def test_memory_format_and_label_type_do_not_matter(loss, channels):
    logits, target = batch(10, channels)
    value, gradient = value_and_gradient(loss, logits, target)
    variants = [
        (logits.contiguous(memory_format=torch.channels_last), target),
        (logits.transpose(2, 3).contiguous().transpose(2, 3), target),
        (logits, target.transpose(1, 2).contiguous().transpose(1, 2)),
        (logits, target.to(torch.uint8)),
        (logits, target.to(torch.int32)),
    ]
    for z, labels in variants:
        other, other_gradient = value_and_gradient(loss, z, labels)
        torch.testing.assert_close(other, value)
        torch.testing.assert_close(other_gradient, gradient)


def test_autocast_and_matmul_precision_change_nothing(loss, channels):
    logits, target = batch(11, channels)
    value, gradient = value_and_gradient(loss, logits, target)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            cast, cast_gradient = value_and_gradient(loss, logits, target)
    finally:
        torch.set_float32_matmul_precision(before)
    assert torch.equal(cast, value)
    assert torch.equal(cast_gradient, gradient)


def test_does_not_touch_its_inputs(loss, channels):
    logits, target = batch(12, channels)
    before = logits.clone(), target.clone()
    value_and_gradient(loss, logits, target)
    assert torch.equal(logits, before[0])
    assert torch.equal(target, before[1])
