"""Closing and the largest components are what SciPy and a flood fill say."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from scipy import ndimage

from seglab.config import CONFIGS
from seglab.errors import ConfigError
from seglab.postprocess import ClosingLargest, closed, largest

FILES = sorted((CONFIGS / "postprocess").glob("*.yaml"))
SHAPES = [(14, 17), (7, 9, 8)]


def ball(axes, radius):
    return ((np.indices((2 * radius + 1,) * axes) - radius) ** 2).sum(0) <= radius**2


def scattered(seed, shape, share, labels=3):
    rng = np.random.default_rng(seed)
    return rng.integers(1, labels + 1, shape) * (rng.random(shape) < share)


@pytest.mark.parametrize("path", FILES, ids=lambda path: Path(path).stem)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_choice_builds_and_keeps_shape_type_and_input(path, shape):
    postprocess = instantiate(OmegaConf.load(path))
    labels = torch.from_numpy(scattered(0, (3, *shape), 0.4))
    before = labels.clone()
    done = postprocess(labels)
    assert (done.shape, done.dtype, done.device) == (labels.shape, torch.int64, labels.device)
    assert labels.equal(before)
    for place in range(3):
        assert postprocess(labels[place : place + 1])[0].equal(done[place])
    assert postprocess(labels[:0]).shape == (0, *shape)


def test_none_changes_nothing():
    labels = torch.from_numpy(scattered(0, (2, 9, 9), 0.4))
    assert instantiate(OmegaConf.load(CONFIGS / "postprocess" / "none.yaml"))(labels).equal(labels)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("radius", [0, 1, 2, 3])
def test_a_single_class_is_closed_as_by_scipy_on_a_plane_without_an_end(shape, radius):
    for seed, share in enumerate((0.05, 0.2, 0.5)):
        labels = scattered(seed, shape, share, labels=1)
        wide = np.pad(labels > 0, 2 * radius)
        expected = ndimage.binary_closing(wide, ball(len(shape), radius)) if radius else wide
        inside = tuple(slice(2 * radius, 2 * radius + side) for side in shape)
        np.testing.assert_array_equal(closed(labels, radius), expected[inside])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("radius", [1, 2])
def test_a_closing_takes_background_alone_and_the_lower_label_is_first(shape, radius):
    contested = 0
    for seed, share in enumerate((0.15, 0.3, 0.5)):
        labels = scattered(seed, shape, share)
        found = closed(labels, radius)
        np.testing.assert_array_equal(found[labels > 0], labels[labels > 0])
        alone = [closed(np.where(labels == label, 1, 0), radius) == 1 for label in (1, 2, 3)]
        free = labels == 0
        expected = np.select([mask & free for mask in alone], [1, 2, 3], labels)
        np.testing.assert_array_equal(found, expected)
        contested += int((np.sum(alone, axis=0)[free] > 1).sum())
    assert contested


def flood(mask):
    """The components of a mask by touching corners, in the order of their first pixels."""
    left, parts = {tuple(place) for place in np.argwhere(mask)}, []
    while left:
        part = {min(left)}
        left -= part
        edge = part
        while edge:
            edge = {p for p in left for q in edge if max(abs(np.subtract(p, q))) == 1}
            part, left = part | edge, left - edge
        parts.append(part)
    return parts


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("components", [1, 2, 3])
def test_the_largest_components_of_the_whole_foreground_stay(shape, components):
    for seed in range(3):
        labels = scattered(seed, shape, 0.08 if len(shape) == 3 else 0.2)
        parts = sorted(flood(labels > 0), key=len, reverse=True)  # stable: the first of equals
        assert len(parts) > components
        expected = np.zeros_like(labels)
        for part in parts[:components]:
            for place in part:
                expected[place] = labels[place]
        np.testing.assert_array_equal(largest(labels, components), expected)


def test_bones_of_several_classes_that_touch_are_one_component():
    labels = np.zeros((9, 20), dtype=np.int64)
    labels[1:4, 1:8], labels[4:7, 8:12] = 1, 2  # they touch by a corner: 33 pixels together
    labels[1:6, 14:19] = 3  # 25
    labels[8, 0] = 1
    found = largest(labels, 1)
    assert set(np.unique(found)) == {0, 1, 2}
    assert largest(labels, 2)[8, 0] == 0
    np.testing.assert_array_equal(largest(labels, 3), labels)


def test_the_closing_comes_before_the_components():
    labels = torch.zeros(1, 5, 12, dtype=torch.int64)
    labels[0, 1:4, 0:3] = labels[0, 1:4, 4:7] = 1  # 9 and 9; the closing fills one pixel between
    labels[0, :, 9:12] = 2  # 15, beside 19
    done = ClosingLargest(radius=1, components=1)(labels)
    assert done[0, 2].tolist() == [1] * 7 + [0] * 5
    assert done.sum() == 19
    assert ClosingLargest(radius=0, components=1)(labels)[0, 2].tolist() == [0] * 9 + [2] * 3


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("radius=-1", (-1, 3)),
        ("radius=1.5", (1.5, 3)),
        ("components=0", (1, 0)),
        ("components=True", (1, True)),
    ],
)
def test_what_is_no_whole_number_is_named(key, values):
    with pytest.raises(ConfigError, match=rf"^postprocess\.{key}: must be a whole number from"):
        ClosingLargest(*values)
