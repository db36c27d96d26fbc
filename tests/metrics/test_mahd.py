"""Bakos's modified average Hausdorff distance is what its definition says, at any size."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seglab.metrics import mahd

SPACINGS = {2: [None, (2.0, 2.0), (0.5, 1.25)], 3: [None, (2.5, 0.8, 1.1)]}


def measured(predicted, target, spacing=None):
    return mahd.modified_average_hausdorff(*map(torch.from_numpy, (predicted, target)), spacing)


def brute_force(predicted, target, spacing):
    """Every point against every other, the percentile as the text has it: in decreasing order."""
    a, b = (np.argwhere(mask) * (spacing or 1.0) for mask in (predicted, target))
    apart = np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1))
    forth, back = (-np.percentile(-distances, 95, axis=1) for distances in (apart, apart.T))
    return (forth.mean() + back.mean()) / 2


@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 3]), st.data())
@settings(max_examples=60, deadline=None)
def test_it_is_the_mean_of_each_points_95th_percentile(seed, axes, data):
    rng = np.random.default_rng(seed)
    shape = rng.integers(1, 20 if axes == 2 else 9, axes)
    predicted, target = rng.random((2, *shape)) < rng.choice([0.05, 0.4, 0.9])
    spacing = data.draw(st.sampled_from(SPACINGS[axes]))
    if not predicted.any() or not target.any():
        predicted.flat[0] = target.flat[-1] = True
    expected = brute_force(predicted, target, spacing)
    assert measured(predicted, target, spacing) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_of_two_points_it_is_their_distance():
    one, other = np.zeros((2, 2, 4, 5), dtype=bool)
    one[0, 1, 1] = other[1, 1, 4] = True
    assert measured(one, other, (3, 1, 1)) == pytest.approx(math.hypot(3, 3), rel=1e-9)
    assert measured(one, other) == pytest.approx(math.hypot(1, 3), rel=1e-12)


def disk(radius):
    rows, columns = np.mgrid[-64:64, -64:64]
    return rows**2 + columns**2 <= radius**2


def test_of_a_mask_to_itself_it_is_not_0_and_grows_with_the_mask():
    small, large = (measured(disk(radius), disk(radius)) for radius in (9, 36))
    assert small == pytest.approx(0.24 * 9, rel=0.05)
    assert large == pytest.approx(4 * small, rel=0.05)


def test_a_few_stray_pixels_do_not_count():
    target = disk(20)
    stray = target.copy()
    stray[2:5, 2:5] = True
    assert measured(target, stray) == pytest.approx(measured(target, target), rel=0.05)
    far = np.sqrt(((np.argwhere(stray)[:, None] - np.argwhere(target)) ** 2).sum(-1)).min(1).max()
    assert far > 50  # what the Hausdorff distance says


def test_a_miss_is_infinite_and_nothing_at_all_undefined():
    empty, one = np.zeros((4, 4), dtype=bool), np.eye(4) > 0
    assert measured(empty, one) == math.inf
    assert measured(one, empty) == math.inf
    assert math.isnan(measured(empty, empty))


def test_large_masks_are_measured_from_evenly_spaced_points(monkeypatch):
    predicted, target = disk(30), np.roll(disk(26), 5, axis=1)
    whole = measured(predicted, target)
    asked = []
    percentiles = mahd._percentiles

    def counting(*arguments):
        found = percentiles(*arguments)
        asked.append(len(found))
        return found

    monkeypatch.setattr(mahd, "_percentiles", counting)
    assert measured(predicted, target) == whole
    monkeypatch.setattr(mahd, "MOST", 2**14)
    assert measured(predicted, target) == pytest.approx(whole, rel=0.01)
    assert asked == [predicted.sum(), target.sum(), 2**14 // 53, 2**14 // 61]


def test_pieces_of_the_work_make_no_difference(monkeypatch):
    predicted, target = disk(9), np.roll(disk(7), 6, axis=0)
    whole = measured(predicted, target)
    monkeypatch.setattr(mahd, "CHUNK", {"cpu": 100})
    assert measured(predicted, target) == pytest.approx(whole, rel=1e-14)
