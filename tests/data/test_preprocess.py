"""Resizing and padding: what albumentations is told, against OpenCV and Pillow by hand."""

import os
import pickle
import subprocess
import sys

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from trees import noise

from seglab.data.preprocess import Preprocess, normalise
from seglab.data.source import IGNORE
from seglab.errors import ConfigError

sides = st.integers(1, 90)


def labels(seed, *shape):
    """Far apart, so that any mixture of two labels is a third number."""
    return np.array([0, 7, 100, IGNORE], np.uint8)[noise(seed, *shape) % 4]


@settings(max_examples=60, deadline=None)
@given(sides, sides, st.integers(1, 60), st.sampled_from(["square", "none"]), st.integers(0, 9))
def test_equals_opencv_called_by_hand(rows, columns, size, pad, seed):
    image, mask = noise(seed, rows, columns, 3), labels(seed, rows, columns)
    scale = size / max(rows, columns)
    height, width = max(1, round(rows * scale)), max(1, round(columns * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = cv2.resize(image, (width, height), interpolation=how)
    few = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    if pad == "square":
        small = np.pad(small, ((0, size - height), (0, size - width), (0, 0)))
        few = np.pad(few, ((0, size - height), (0, size - width)), constant_values=IGNORE)
    before = image.copy(), mask.copy()
    done_image, done_mask = Preprocess(size, pad)(image, mask)
    np.testing.assert_array_equal(done_image, small)
    np.testing.assert_array_equal(done_mask, few)
    assert done_image.dtype == done_mask.dtype == np.uint8
    assert done_mask.shape == Preprocess(size, pad).output_shape(rows, columns)
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(mask, before[1])


@settings(max_examples=60, deadline=None)
@given(sides, sides, st.integers(1, 60), st.integers(0, 9))
def test_a_mask_never_gets_a_label_that_it_did_not_have(rows, columns, size, seed):
    mask = labels(seed, rows, columns)
    image = np.zeros((rows, columns, 3), np.uint8)
    done = Preprocess(size, "none")(image, mask)[1]
    assert set(np.unique(done)) <= set(np.unique(mask))


@settings(max_examples=60, deadline=None)
@given(sides, sides, st.integers(1, 60), st.integers(0, 9))
def test_masks_are_resized_as_pillow_does_it(rows, columns, size, seed):
    mask = labels(seed, rows, columns)
    done = Preprocess(size, "none")(np.zeros((rows, columns, 3), np.uint8), mask)[1]
    by_pillow = Image.fromarray(mask).resize(done.shape[::-1], Image.Resampling.NEAREST)
    np.testing.assert_array_equal(done, np.array(by_pillow))


def test_plain_nearest_of_opencv_is_another_thing():
    """Why it is INTER_NEAREST_EXACT: the other one shifts by up to a pixel."""
    mask = labels(0, 64, 64)
    exact = cv2.resize(mask, (20, 20), interpolation=cv2.INTER_NEAREST_EXACT)
    assert (cv2.resize(mask, (20, 20), interpolation=cv2.INTER_NEAREST) != exact).any()


def test_a_shrinking_image_is_averaged():
    image = np.zeros((8, 8, 3), np.uint8)
    image[::2] = 200  # every other row; one pixel of four rows is the mean of two and two
    done, _ = Preprocess(2, "none")(image, np.zeros((8, 8), np.uint8))
    assert (done == 100).all()


@pytest.mark.parametrize("rows_columns", [(1024, 2048), (1024, 1024), (333, 500), (500, 333)])
def test_a_square_holds_every_image(rows_columns):
    image, mask = np.full((*rows_columns, 3), 9, np.uint8), np.ones(rows_columns, np.uint8)
    done_image, done_mask = Preprocess(64, "square")(image, mask)
    assert done_image.shape == (64, 64, 3)
    assert done_mask.shape == (64, 64)
    padding = done_mask == IGNORE
    assert (done_image[padding] == 0).all()
    assert (done_image[~padding] == 9).all()
    assert not padding[0, 0], "the picture is at the top left"
    assert padding[-1, -1] == (rows_columns[0] != rows_columns[1])


def test_without_a_size_the_pixels_stay():
    image, mask = noise(0, 5, 9, 3), labels(0, 5, 9)
    for pad in ("none", "square"):
        done_image, done_mask = Preprocess(None, pad)(image, mask)
        np.testing.assert_array_equal(done_image[:5], image)
        np.testing.assert_array_equal(done_mask[:5], mask)
        assert done_mask.shape == ((9, 9) if pad == "square" else (5, 9))


def test_normalising_is_the_textbook_formula():
    image, mean, std = noise(0, 6, 7, 3), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    expected = (image / 255 - np.array(mean)) / np.array(std)
    done = normalise(image, mean, std)
    assert done.dtype == np.float32
    np.testing.assert_allclose(done, expected, rtol=0, atol=2e-6)


def test_it_travels_to_another_process():
    image, mask = noise(0, 20, 30, 3), labels(0, 20, 30)
    one = Preprocess(16, "square")
    other = pickle.loads(pickle.dumps(one))
    for a, b in zip(one(image, mask), other(image, mask), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("size", "pad", "key"), [(256, "yes", "dataset.pad=yes"), (0, "none", "dataset.size=0")]
)
def test_a_wrong_value_names_its_key(size, pad, key):
    with pytest.raises(ConfigError, match=key):
        Preprocess(size, pad)


def test_albumentations_does_not_ask_the_network():
    code = (
        "import socket\n"
        "def refuse(*arguments, **options): raise SystemExit('the network was asked')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "import seglab.data.preprocess"
    )
    environment = {k: v for k, v in os.environ.items() if k != "NO_ALBUMENTATIONS_UPDATE"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
