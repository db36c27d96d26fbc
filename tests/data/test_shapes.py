"""Shapes: the same everywhere, and each argument does what it says."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from seglab.data.shapes import Shapes, class_weights, line_pixels, palette
from seglab.data.source import IGNORE
from seglab.errors import ConfigError

DEFAULTS = {
    "num_classes": 4,
    "images": {"train": 20, "val": 10, "test": 10},
    "height": 48,
    "width": 64,
    "foreground": 0.4,
    "imbalance": 1.0,
    "thin_lines": 0,
    "empty": 0.0,
    "ignored": 0.0,
    "noise": 20,
    "seed": 0,
}


def shapes(**changed) -> Shapes:
    return Shapes(**{**DEFAULTS, **changed})


def masks(source, split="train"):
    return np.stack([source.read_mask(sample) for sample in source.samples(split)])


def test_every_machine_draws_the_same_pixels():
    """A golden value of this generator; another one means another `version`."""
    source = shapes(num_classes=5, thin_lines=2, ignored=0.05, empty=0.2, imbalance=3)
    digest = hashlib.sha256()
    for split in source.splits:
        for sample in source.samples(split):
            digest.update(source.read_image(sample).tobytes())
            digest.update(source.read_mask(sample).tobytes())
    assert digest.hexdigest()[:16] == "44d2760038abf805"


def test_an_image_does_not_depend_on_what_was_read_before():
    one, other = shapes(), shapes(images={"train": 5, "val": 1, "test": 0})
    sample = one.samples("train")[3]
    for earlier in other.samples("train")[:3]:
        other.read_image(earlier)
    np.testing.assert_array_equal(one.read_image(sample), other.read_image(sample))


def test_seed_split_and_index_each_give_another_image():
    images = [
        shapes(seed=seed).read_mask(shapes().samples(split)[index]).tobytes()
        for seed in (0, 1)
        for split in ("train", "val", "test")
        for index in (0, 1)
    ]
    assert len(set(images)) == len(images)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 30), st.integers(4, 70), st.integers(4, 70), st.integers(0, 3))
def test_any_size_and_any_number_of_classes(num_classes, height, width, seed):
    source = shapes(
        num_classes=num_classes, height=height, width=width, seed=seed, thin_lines=1, ignored=0.1
    )
    assert source.num_classes == num_classes
    assert len(source.colours) == num_classes
    sample = source.samples("val")[2]
    image, mask = source.read_image(sample), source.read_mask(sample)
    assert (image.shape, image.dtype) == ((height, width, 3), np.uint8)
    assert (mask.shape, mask.dtype) == ((height, width), np.uint8)
    assert set(np.unique(mask)) <= {*range(max(num_classes, 2)), IGNORE}


def test_a_fifth_of_the_images_is_empty():
    empty = (masks(shapes(empty=0.2)) == 0).all(axis=(1, 2))
    assert empty.sum() == 4  # of 20
    assert not (masks(shapes(empty=0.0)) == 0).all(axis=(1, 2)).any()
    assert (masks(shapes(empty=1.0)) == 0).all()


@pytest.mark.parametrize("foreground", [0.1, 0.5, 0.9])
def test_the_foreground_covers_its_share(foreground):
    share = (masks(shapes(foreground=foreground)) > 0).mean(axis=(1, 2))
    assert (share >= foreground).all()
    # one shape, at most 2 x 9 + 1 pixels on each side of 48 x 64, comes on top
    assert (share < foreground + 19 * 19 / (48 * 64)).all()


def test_the_first_class_is_drawn_more_often_by_the_imbalance():
    weights = class_weights(4, 27.0)
    np.testing.assert_allclose(weights[:-1] / weights[1:], 3.0, rtol=1e-4)  # 27 in three steps
    found = np.bincount(
        masks(
            shapes(num_classes=3, imbalance=10, images={"train": 60, "val": 1, "test": 1})
        ).ravel()
    )
    assert 4 < found[1] / found[2] < 25
    even = np.bincount(
        masks(shapes(num_classes=3, imbalance=1, images={"train": 60, "val": 1, "test": 1})).ravel()
    )
    assert 0.6 < even[1] / even[2] < 1.6


def test_thin_lines_are_one_pixel_wide():
    mask = masks(shapes(num_classes=1, foreground=0.0, thin_lines=1)) > 0
    assert mask.any(axis=(1, 2)).all()
    blocks = mask[:, :-1, :-1] & mask[:, 1:, :-1] & mask[:, :-1, 1:] & mask[:, 1:, 1:]
    assert not blocks.any(), "a block of 2 x 2 pixels is not thin"


@given(*[st.integers(0, 40)] * 4)
def test_a_line_joins_its_ends_without_gaps(y0, x0, y1, x1):
    rows, columns = line_pixels(y0, x0, y1, x1)
    assert (rows[0], columns[0], rows[-1], columns[-1]) == (y0, x0, y1, x1)
    assert (np.maximum(abs(np.diff(rows)), abs(np.diff(columns))) <= 1).all()
    assert len(rows) == max(abs(y1 - y0), abs(x1 - x0), 1) + 1


@pytest.mark.parametrize("ignored", [0.0, 0.1, 1.0])
def test_the_ignored_share(ignored):
    share = (masks(shapes(ignored=ignored)) == IGNORE).mean(axis=(1, 2))
    np.testing.assert_allclose(share, ignored, atol=0.02)


def test_without_noise_the_colour_is_the_class():
    source = shapes(num_classes=19, noise=0)
    assert len(set(source.colours)) == 19
    for sample in source.samples("train"):
        image, mask = source.read_image(sample), source.read_mask(sample)
        np.testing.assert_array_equal(image, np.array(source.colours)[mask])


def test_noise_stays_within_its_bound():
    calm, noisy = shapes(noise=0), shapes(noise=7)
    sample = calm.samples("train")[0]
    off = noisy.read_image(sample).astype(int) - calm.read_image(sample)
    assert off.max() <= 7
    assert off.min() >= -7
    assert abs(off).max() == 7


def test_colours_of_many_classes_differ():
    assert len(set(palette(254))) == 254


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_classes", 0),
        ("num_classes", 256),
        ("height", 3),
        ("foreground", 1.0),
        ("imbalance", 0.5),
        ("empty", 1.1),
        ("ignored", -0.1),
        ("noise", 256),
        ("seed", -1),
    ],
)
def test_a_value_out_of_range_names_its_key(key, value):
    with pytest.raises(ConfigError, match=rf"dataset\.{key}={value}"):
        shapes(**{key: value})


def test_a_split_without_a_number_of_images_is_refused():
    with pytest.raises(ConfigError, match="images has"):
        shapes(images={"train": 3})


def test_drawn_images_are_images_of_their_own():
    source = shapes()
    assert source.test_images() == len(source.samples("test")) > 1


def test_options_hold_every_argument():
    source = shapes()
    config = yaml.safe_load(
        (Path(__file__).parents[2] / "configs" / "dataset" / "shapes.yaml").read_text()
    )
    assert source.options() == DEFAULTS
    assert set(DEFAULTS) <= set(config)
