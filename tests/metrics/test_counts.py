"""Counts against hand-made masks, against the reference tool, and against themselves."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_bands import blobs, reference_band
from torch.utils._python_dispatch import TorchDispatchMode

from seglab.metrics import (
    Meter,
    boundary_counts,
    boundary_counts_many,
    boundary_width,
    counts,
    region_counts,
)
from seglab.metrics.bands import _with_pooling
from seglab.scores import dice, iou

SEEDS = st.integers(0, 2**32 - 1)
CLASSES = st.sampled_from([1, 2, 3, 19])


def pair(seed, height, width, num_classes):
    """A truth with ignored patches and a prediction that is often right, as (1, H, W) int64."""
    rng = np.random.default_rng(seed)
    target = blobs(height, width, max(num_classes, 2), seed)
    other = blobs(height, width, max(num_classes, 2), seed + 1, ignored=0.0)
    predicted = np.where((rng.random(target.shape) < 0.2) | (target == 255), other, target)
    return torch.from_numpy(predicted)[None], torch.from_numpy(target)[None]


def reference_counts(predicted, target, num_classes, d):
    """Class by class, with the reference tool's band; d = 0 is the region."""
    ours, true = predicted[0].numpy().copy(), target[0].numpy()
    ours[true == 255] = 255
    rows = []
    for label in [1] if num_classes == 1 else range(num_classes):
        claimed, real = ours == label, true == label
        if d:
            claimed, real = reference_band(claimed, d), reference_band(real, d)
        rows.append([(claimed & real).sum(), (claimed & ~real).sum(), (real & ~claimed).sum()])
    return torch.from_numpy(np.array(rows))[None]


def equal(ours, expected):
    torch.testing.assert_close(ours, expected, rtol=0, atol=0)


@given(SEEDS, st.integers(1, 40), st.integers(1, 40), CLASSES, st.integers(0, 12))
@settings(max_examples=200, deadline=None)
def test_counts_are_the_references(seed, height, width, num_classes, d):
    predicted, target = pair(seed, height, width, num_classes)
    ours = (
        boundary_counts(predicted, target, num_classes, d)
        if d
        else region_counts(predicted, target, num_classes)
    )
    equal(ours, reference_counts(predicted, target, num_classes, d))


@given(SEEDS, st.integers(1, 8), st.integers(1, 12), st.integers(1, 12), CLASSES)
@settings(max_examples=50, deadline=None)
def test_counts_of_a_volume_are_the_sums_over_its_slices(seed, depth, height, width, num_classes):
    slices = [pair(seed + i, height, width, num_classes) for i in range(depth)]
    predicted, target = (torch.cat(maps) for maps in zip(*slices, strict=True))
    whole = region_counts(predicted[None], target[None], num_classes)
    equal(whole[0], region_counts(predicted, target, num_classes).sum(0))
    elsewhere = counts._tally_with_sums(
        [counts._prepared_with_torch(predicted[None], target[None])], max(num_classes, 2)
    )
    agreed, claimed, true = elsewhere.squeeze(2).unbind(-1)
    theirs = torch.stack([agreed, claimed - agreed, true - agreed], dim=-1)
    equal(whole, theirs[:, 1:] if num_classes == 1 else theirs)


@pytest.mark.parametrize(("height", "width"), [(512, 512), (1024, 2048)])
def test_counts_are_the_references_at_full_size(height, width):
    rng = np.random.default_rng(7)
    target = np.kron(rng.integers(0, 19, (height // 64, width // 64)), np.ones((64, 64), np.int64))
    target[:90, :200] = 255
    predicted = torch.from_numpy(np.roll(target, (5, 9), (0, 1)) % 19)[None]
    target = torch.from_numpy(target)[None]
    d = boundary_width((height, width), 0.02)
    equal(boundary_counts(predicted, target, 19, d), reference_counts(predicted, target, 19, d))


@given(SEEDS, st.integers(1, 30), st.integers(1, 30), CLASSES, st.integers(1, 40))
@settings(max_examples=100, deadline=None)
def test_the_form_for_other_devices_gives_the_same_integers(seed, height, width, num_classes, d):
    maps = pair(seed, height, width, num_classes)
    predicted, target = counts._prepared_with_torch(*maps)
    equal(predicted, counts.prepared(*maps, num_classes)[0])
    equal(target, counts.prepared(*maps, num_classes)[1])
    num_labels = max(num_classes, 2)
    banded = tuple(next(_with_pooling(labels, [d])) for labels in (predicted, target))
    pixels = counts._tally_with_sums([(predicted, target), banded], num_labels)
    equal(pixels, counts._tally_with_opencv([(predicted, target), banded], num_labels))
    agreed, claimed, true = pixels[:, :, 1].unbind(-1)
    expected = torch.stack([agreed, claimed - agreed, true - agreed], -1)
    equal(
        boundary_counts(predicted, target, num_classes, d),
        expected[:, 1:] if num_classes == 1 else expected,
    )


def square(*box):
    mask = np.zeros((64, 64), np.int64)
    mask[box[0] : box[1], box[2] : box[3]] = 1
    return mask


def disk(row, column, radius):
    rows, columns = np.mgrid[:64, :64]
    return ((rows - row) ** 2 + (columns - column) ** 2 <= radius**2).astype(np.int64)


# Made with the reference tool at d = 2 on 64 x 64 pixels. The band of a 20 x 20 square is
# 400 - 16 x 16 = 144 pixels, of which A's two, three rows apart, share 68 (34 of them in 17 rows of
# two sides of 2, and so on); C's touch the border, which ends them. D is one pixel in a 3 x 3.
@pytest.mark.parametrize(
    ("truth", "prediction", "region", "band", "dice_", "iou_", "biou"),
    [
        pytest.param(
            square(20, 40, 20, 40), square(23, 43, 20, 40), (340, 60, 60), (68, 76, 76),
            0.85, 0.739130, 0.309091, id="A",
        ),
        pytest.param(
            disk(32, 30, 15), disk(32, 30, 12) | square(50, 54, 50, 54), (441, 16, 268),
            (0, 188, 220), 0.756432, 0.608276, 0.0, id="B",
        ),
        pytest.param(
            square(0, 20, 0, 20), square(0, 24, 0, 20), (400, 80, 0), (112, 48, 32),
            0.909091, 0.833333, 0.583333, id="C",
        ),
        pytest.param(
            square(31, 32, 31, 32), square(30, 33, 30, 33), (1, 8, 0), (1, 8, 0),
            0.2, 0.111111, 0.111111, id="D",
        ),
    ],
)  # fmt: skip
def test_golden_values(truth, prediction, region, band, dice_, iou_, biou):
    target, predicted = torch.from_numpy(truth)[None], torch.from_numpy(prediction)[None]
    ours = region_counts(predicted, target, 1)
    bands = boundary_counts(predicted, target, 1, 2)
    assert tuple(ours[0, 0].tolist()) == region
    assert tuple(bands[0, 0].tolist()) == band
    assert dice(ours.numpy()).item() == pytest.approx(dice_, abs=5e-7)
    assert iou(ours.numpy()).item() == pytest.approx(iou_, abs=5e-7)
    assert iou(bands.numpy()).item() == pytest.approx(biou, abs=5e-7)


def test_counts_of_a_small_picture():
    target = torch.tensor([[[0, 0, 1, 1], [0, 2, 1, 255]]])
    predicted = torch.tensor([[[0, 1, 1, 1], [2, 2, 0, 1]]])
    expected = [[[1, 1, 2], [2, 1, 1], [1, 1, 0]]]
    equal(region_counts(predicted, target, 3), torch.tensor(expected))


def test_a_binary_task_counts_the_foreground_alone():
    predicted, target = pair(5, 40, 40, 1)
    two = region_counts(predicted, target, 2)
    equal(region_counts(predicted, target, 1), two[:, 1:])
    assert two.shape == (1, 2, 3)
    many = boundary_counts_many(predicted, target, 2, [3])
    equal(boundary_counts(predicted, target, 1, 3), many[:, 1:, 0])


@given(SEEDS)
@settings(max_examples=20, deadline=None)
def test_shards_merge_to_the_whole_in_any_order(seed):
    pairs = [pair(seed + i, 24, 36, 5) for i in range(7)]
    predicted, target = (torch.cat(maps) for maps in zip(*pairs, strict=True))
    whole = boundary_counts_many(predicted, target, 5, [1, 4])
    assert whole.shape == (7, 5, 2, 3)
    order = np.random.default_rng(seed).permutation(7)
    shards = [
        boundary_counts_many(predicted[part], target[part], 5, [1, 4])
        for part in np.array_split(order, 3)
    ]
    equal(torch.cat(shards)[np.argsort(order)], whole)
    equal(sum(shard.sum(0) for shard in shards), whole.sum(0))


def test_several_widths_in_any_order_are_each_width_by_itself():
    predicted, target = pair(11, 60, 50, 4)
    widths = [9, 2, 9, 30]
    many = boundary_counts_many(predicted, target, 4, widths)
    for column, d in enumerate(widths):
        equal(many[:, :, column], boundary_counts(predicted, target, 4, d))


def test_what_is_predicted_on_ignored_pixels_changes_nothing():
    predicted, target = pair(2, 40, 40, 3)
    assert (target == 255).any()
    elsewhere = torch.where(target == 255, (predicted + 1) % 3, predicted)
    equal(region_counts(predicted, target, 3), region_counts(elsewhere, target, 3))
    equal(boundary_counts(predicted, target, 3, 2), boundary_counts(elsewhere, target, 3, 2))


def test_a_perfect_prediction_has_no_errors_beside_ignored_pixels():
    _, target = pair(2, 40, 40, 3)
    perfect = torch.where(target == 255, 0, target)
    assert boundary_counts(perfect, target, 3, 2)[..., 1:].sum() == 0
    assert region_counts(perfect, target, 3)[..., 1:].sum() == 0


def test_a_class_occurs_in_its_band_exactly_where_it_occurs_in_the_region():
    for seed in range(20):
        predicted, target = pair(seed, 9, 9, 19)
        occurs = region_counts(predicted, target, 19).sum(-1) > 0
        assert torch.equal(boundary_counts(predicted, target, 19, 2).sum(-1) > 0, occurs)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_any_integer_type_will_do(dtype):
    predicted, target = pair(2, 30, 20, 3)
    expected = boundary_counts(predicted, target, 3, 2)
    equal(boundary_counts(predicted.to(dtype), target.to(dtype), 3, 2), expected)
    turned = boundary_counts(predicted.to(dtype).mT, target.to(dtype).mT, 3, 2)
    equal(turned, expected)


def test_nothing_to_see_is_zero():
    ignored = torch.full((2, 8, 8), 255)
    zeros = torch.zeros(2, 8, 8, dtype=torch.int64)
    assert region_counts(zeros, ignored, 3).sum() == 0
    assert boundary_counts(zeros, ignored, 1, 2).sum() == 0
    assert region_counts(zeros[:0], ignored[:0], 3).shape == (0, 3, 3)
    assert boundary_counts(zeros[:0], ignored[:0], 3, 1).shape == (0, 3, 3)


def test_counts_beyond_the_integers_of_float32_are_exact():
    target = torch.zeros(1, 4099, 4099, dtype=torch.uint8)
    assert region_counts(target, target, 2)[0, 0].tolist() == [4099**2, 0, 0]  # odd, above 2^24


class Kernels(TorchDispatchMode):
    """Counts the operations that would launch a kernel: all but views."""

    def __init__(self):
        super().__init__()
        self.launched = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.launched += not func.is_view
        return func(*args, **(kwargs or {}))


def test_a_device_launches_two_kernels_for_each_class_whatever_is_counted():
    labels = torch.empty(2, 64, 96, dtype=torch.int64, device="meta")
    with Kernels() as few:
        Meter(10, [0.02, 0.005]).counts(labels, labels)
    with Kernels() as more:
        Meter(110, [0.02, 0.005]).counts(labels, labels)
    assert more.launched - few.launched == 2 * 100


def test_nothing_waits_for_another_device():
    labels = torch.empty(2, 64, 96, dtype=torch.int64, device="meta")  # holds no values to look at
    assert Meter(19, [0.02, 0.005]).counts(labels, labels).shape == (2, 19, 3, 3)
    assert Meter(1, [0.02]).counts(labels, labels).shape == (2, 1, 2, 3)


@pytest.mark.parametrize(
    ("label", "message"),
    [(3, "a label from 3 to 254"), (256, "predicted holds the label 256"), (-1, "the label -1")],
)
def test_labels_that_are_no_class_are_refused(label, message):
    predicted, target = pair(4, 10, 10, 3)
    predicted[0, 4, 4], target[0, 4, 4] = label, 0
    with pytest.raises(AssertionError, match=message):
        region_counts(predicted, target, 3)


def test_shapes_and_kinds_are_asserted_at_the_door():
    predicted, target = pair(4, 10, 10, 3)
    with pytest.raises(AssertionError, match="label maps"):
        region_counts(predicted[0], target[0], 3)
    with pytest.raises(AssertionError, match=r"\(1, 9, 10\)"):
        region_counts(predicted[:, 1:], target, 3)
    with pytest.raises(AssertionError, match="integers"):
        region_counts(predicted.float(), target, 3)
