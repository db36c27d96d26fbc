"""The nuclei: no pixel in two splits, no cut nucleus counted, every other pixel counted."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from seglab.data import nuclei_strips
from seglab.data.nuclei_strips import STRIPS, NucleiStrips, strip_labels, window_starts
from seglab.data.source import IGNORE
from seglab.errors import ConfigError

FILES = Path(nuclei_strips.__file__).parent / "nuclei"
INSTANCES = np.array(Image.open(FILES / "instances.png"))


@pytest.fixture(scope="module")
def nuclei():
    return NucleiStrips(window=128, stride=64)


def covered(source, split):
    """(512, 512) how often the windows of a split show each pixel of the image."""
    times = np.zeros(INSTANCES.shape, int)
    for sample in source.samples(split):
        top, left, rows, columns = sample.region
        times[top : top + rows, left : left + columns] += 1
    return times


@pytest.mark.parametrize(("window", "stride"), [(128, 64), (128, 128), (100, 70), (512, 512)])
def test_no_pixel_belongs_to_two_splits(window, stride):
    source = NucleiStrips(window, stride)
    shown = [covered(source, split) > 0 for split in source.splits]
    assert (np.sum(shown, axis=0) <= 1).all()
    for split, pixels in zip(source.splits, shown, strict=True):
        left, right = STRIPS[split]
        assert pixels[:, left:right].all(), "a pixel of the strip is in no window"
        assert pixels.sum() == 512 * (right - left)


@pytest.mark.parametrize("split", ["val", "test"])
@pytest.mark.parametrize("window", [128, 100, 33, 600])
def test_each_pixel_of_validation_and_test_counts_once(split, window):
    source = NucleiStrips(window, stride=1)
    left, right = STRIPS[split]
    assert (covered(source, split)[:, left:right] == 1).all()
    valid = sum((source.read_mask(s) != IGNORE).sum() for s in source.samples(split))
    assert valid == (strip_labels(INSTANCES, left, right) != IGNORE).sum()


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_nucleus_is_ignored_if_and_only_if_a_strip_edge_cuts_it(nuclei, split):
    left, right = STRIPS[split]
    labels = {}  # pixel of the image -> label, from the windows
    for sample in nuclei.samples(split):
        top, first, rows, columns = sample.region
        mask = nuclei.read_mask(sample)
        for y in range(rows):
            for x in range(columns):
                labels.setdefault((top + y, first + x), set()).add(int(mask[y, x]))
    assert all(len(found) == 1 for found in labels.values()), "two windows disagree"
    for nucleus in np.unique(INSTANCES)[1:]:
        columns = np.flatnonzero((nucleus == INSTANCES).any(axis=0))
        inside = (columns >= left) & (columns < right)
        for y, x in np.argwhere(nucleus == INSTANCES):
            if left <= x < right:
                assert labels[y, x] == ({1} if inside.all() else {IGNORE})
    for y, x in np.argwhere(INSTANCES[:, left:right] == 0):
        assert labels[y, left + x] == {0}


def test_the_border_of_the_image_is_no_cut():
    instances = np.zeros((6, 10), np.uint8)
    instances[0:2, 0:2] = 4  # in the corner
    instances[3:5, 4:7] = 9  # across columns 5 | 6
    labels = strip_labels(instances, 0, 6)
    assert (labels[0:2, 0:2] == 1).all()
    assert (labels[3:5, 4:6] == IGNORE).all()
    assert (labels == 0).sum() == 36 - 4 - 4


def test_some_nuclei_are_cut_and_most_are_not():
    # train 8 of 88, val 9 of 20, test 4 of 22, counted apart from this code
    for split, cut in [("train", 8), ("val", 9), ("test", 4)]:
        left, right = STRIPS[split]
        ignored = strip_labels(INSTANCES, left, right) == IGNORE
        assert len(np.unique(INSTANCES[:, left:right][ignored])) == cut


def test_padding_is_black_and_ignored(nuclei):
    sample = nuclei.samples("val")[0]
    image, mask = nuclei.read_image(sample), nuclei.read_mask(sample)
    assert image.shape == (128, 128, 3)
    assert mask.shape == (128, 128)
    assert (image[:, 80:] == 0).all()
    assert (mask[:, 80:] == IGNORE).all()
    assert (mask[:, :80] != IGNORE).any()


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_instances_are_those_of_the_file_and_lie_where_the_mask_is_not_background(nuclei, split):
    for sample in nuclei.samples(split):
        numbers, mask = nuclei.read_instances(sample), nuclei.read_mask(sample)
        top, left, rows, columns = sample.region
        shown = INSTANCES[top : top + rows, left : left + columns]
        np.testing.assert_array_equal(numbers[:rows, :columns], shown)
        assert (numbers > 0).sum() == (shown > 0).sum()
        np.testing.assert_array_equal((numbers > 0)[:rows, :columns], (mask > 0)[:rows, :columns])


def test_the_window_shows_the_image_at_its_place(nuclei):
    image = np.array(Image.open(FILES / "image.png"))
    sample = next(s for s in nuclei.samples("train") if s.id == "train-r064-c176")
    window = nuclei.read_image(sample)
    for channel in range(3):
        np.testing.assert_array_equal(window[..., channel], image[64:192, 176:304])


def test_however_many_test_windows_they_are_one_image():
    source = NucleiStrips(window=32, stride=32)
    assert (len(source.samples("test")), source.test_images()) == (48, 1)


def test_ids_name_the_window_and_are_unique(nuclei):
    ids = [sample.id for split in nuclei.splits for sample in nuclei.samples(split)]
    assert len(set(ids)) == len(ids)
    assert ids[:2] == ["train-r000-c000", "train-r000-c064"]
    assert nuclei.samples("val")[-1].id == "val-r384-c320"
    # rows 0 .. 384 by 64 and columns 0, 64, 128, 176: the last window ends with the strip
    assert len(nuclei.samples("train")) == 7 * 4


@given(st.integers(1, 300), st.integers(1, 300), st.data())
def test_windows_reach_the_end_and_leave_no_gap(length, window, data):
    stride = data.draw(st.integers(1, window))
    starts = window_starts(length, window, stride)
    shown = np.zeros(max(length, window), int)
    for start in starts:
        shown[start : start + window] += 1
        assert start + window <= max(length, window)
    assert (shown > 0).all()
    assert len(set(starts)) == len(starts)


@pytest.mark.parametrize(("window", "stride"), [(0, 1), (128, 0), (64, 65)])
def test_a_stride_that_leaves_pixels_out_is_refused(window, stride):
    with pytest.raises(ConfigError, match=r"dataset\.stride="):
        NucleiStrips(window, stride)
