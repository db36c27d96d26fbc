"""The bands of `seglab.metrics.bands` against the reference tool's recipe, mask by mask."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from seglab.metrics import boundary_band, boundary_width
from seglab.metrics.bands import _with_opencv, _with_pooling, banded_labels

SEEDS = st.integers(0, 2**32 - 1)


def reference_band(mask, d):
    """The published recipe: a frame of background, d erosions by a 3 x 3 square, what they took."""
    framed = np.pad(mask.astype(np.uint8), 1)
    eroded = cv2.erode(framed, np.ones((3, 3), np.uint8), iterations=d)[1:-1, 1:-1]
    return mask & (eroded == 0)


def blobs(height, width, num_labels, seed, ignored=0.1):
    """(H, W) int64 labels in coherent patches, some of them 255."""
    rng = np.random.default_rng(seed)
    cell = int(rng.integers(1, 9))
    coarse = rng.integers(0, num_labels, (-(-height // cell), -(-width // cell)))
    coarse[rng.random(coarse.shape) < ignored] = 255
    patches = np.kron(coarse, np.ones((cell, cell), np.int64))[:height, :width]
    return np.where(rng.random(patches.shape) < 0.02, rng.integers(0, num_labels), patches)


@given(SEEDS, st.integers(1, 40), st.integers(1, 40), st.integers(1, 6), st.integers(1, 12))
@settings(max_examples=200, deadline=None)
def test_band_of_every_label_is_the_reference_tools(seed, height, width, num_labels, d):
    labels = blobs(height, width, num_labels, seed)
    band = boundary_band(torch.from_numpy(labels)[None], d)[0].numpy()
    expected = np.zeros_like(band)
    for label in range(num_labels):
        expected |= reference_band(labels == label, d)
    np.testing.assert_array_equal(band, expected)


@given(SEEDS, st.integers(1, 30), st.integers(1, 30), st.sets(st.integers(1, 40), min_size=1))
@settings(max_examples=100, deadline=None)
def test_pooling_gives_the_bytes_that_opencv_gives(seed, height, width, widths):
    labels = torch.from_numpy(np.stack([blobs(height, width, 4, seed + i) for i in range(2)]))
    labels, widths = labels.to(torch.uint8), sorted(widths)
    for ours, theirs in zip(
        _with_opencv(labels, widths), _with_pooling(labels, widths), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def blocks(shape, num_labels, seed):
    """(D, H, W) int64 labels in coherent cubes, some of them 255."""
    rng = np.random.default_rng(seed)
    cell = int(rng.integers(1, 5))
    coarse = rng.integers(0, num_labels, [-(-side // cell) for side in shape])
    coarse[rng.random(coarse.shape) < 0.1] = 255
    return np.kron(coarse, np.ones((cell,) * 3, np.int64))[tuple(map(slice, shape))]


SIDES = st.integers(1, 12)


@given(SEEDS, st.tuples(SIDES, SIDES, SIDES), st.integers(1, 4), st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_band_in_a_volume_is_what_d_erosions_by_a_cube_take(seed, shape, num_labels, d):
    labels = blocks(shape, num_labels, seed)
    band = boundary_band(torch.from_numpy(labels)[None], d)[0].numpy()
    expected = np.zeros_like(band)
    for label in range(num_labels):
        mask = labels == label
        eroded = ndimage.binary_erosion(mask, np.ones((3, 3, 3)), iterations=d, border_value=0)
        expected |= mask & ~eroded
    np.testing.assert_array_equal(band, expected)


@given(SEEDS, st.tuples(SIDES, SIDES, SIDES), st.sets(st.integers(1, 15), min_size=1))
@settings(max_examples=40, deadline=None)
def test_pooling_gives_the_same_bytes_in_a_volume(seed, shape, widths):
    maps = np.stack([blocks(shape, 4, seed + i) for i in range(2)])
    labels, widths = torch.from_numpy(maps).to(torch.uint8), sorted(widths)
    for ours, theirs in zip(
        _with_opencv(labels, widths), _with_pooling(labels, widths), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_a_stack_of_widths_is_each_width_by_itself():
    labels = torch.from_numpy(blobs(50, 70, 5, seed=3))[None].to(torch.uint8)
    widths = [1, 2, 5, 6, 20, 80]
    for d, banded in zip(widths, banded_labels(labels, widths), strict=True):
        assert torch.equal(banded != 255, boundary_band(labels, d))


def test_band_of_a_square_is_its_rim_and_the_image_border_ends_a_mask():
    labels = torch.zeros(1, 9, 9, dtype=torch.int64)
    labels[0, 2:7, 2:7] = 1
    # A 5 x 5 square without its 3 x 3 inside has 16 pixels; without its centre alone, 24.
    assert (boundary_band(labels, 1) & (labels == 1)).sum() == 16
    assert (boundary_band(labels, 2) & (labels == 1)).sum() == 24
    # The background touches the border: at d = 1 the frame of 32, and the ring of 24 at the square.
    assert (boundary_band(labels, 1) & (labels == 0)).sum() == 32 + 24
    assert boundary_band(torch.ones(1, 9, 9, dtype=torch.int64), 1).sum() == 32


def test_ignored_pixels_are_in_no_band_and_end_every_mask():
    labels = torch.zeros(1, 11, 11, dtype=torch.int64)
    labels[0, :, 5] = 255
    band = boundary_band(labels, 1)[0]
    assert not band[:, 5].any()
    assert band[:, 4].all()
    assert band[:, 6].all()
    assert not band[1:-1, 3].any()


def test_the_labels_handed_in_are_left_alone():
    labels = torch.from_numpy(blobs(20, 20, 3, seed=1))[None].to(torch.uint8)
    before = labels.clone()
    boundary_band(labels, 3)
    assert torch.equal(labels, before)


def test_a_transposed_view_has_the_transposed_band():
    labels = torch.from_numpy(blobs(20, 31, 3, seed=1))[None].to(torch.uint8)
    assert torch.equal(boundary_band(labels.mT, 3), boundary_band(labels, 3).mT)


@pytest.mark.parametrize(
    ("height", "width", "ratio", "d"),
    [
        (256, 256, 0.02, 7),
        (512, 512, 0.02, 14),
        (480, 640, 0.02, 16),
        (1024, 2048, 0.02, 46),
        (1024, 2048, 0.005, 11),
        (75, 100, 0.02, 2),  # diagonal 125, 2.5: half to even, down
        (105, 140, 0.02, 4),  # diagonal 175, 3.5: half to even, up
        (4, 3, 0.02, 1),  # never less than a pixel
    ],
)
def test_width_is_rounded_as_the_reference_rounds(height, width, ratio, d):
    assert boundary_width((height, width), ratio) == d
