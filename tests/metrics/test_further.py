"""Metrics of whole masks, of contour pieces, and of scores: definitions and golden values."""

import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from seglab.metrics import areas, ranking, surface, surfels


def box(rows, columns):
    mask = np.zeros((64, 64), dtype=bool)
    mask[slice(*rows), slice(*columns)] = True
    return mask


def disk(centre, radius):
    y, x = np.ogrid[:64, :64]
    return (y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2


PAIRS = {  # truth, prediction, spacing: the cases of the published tools' golden values
    "A": (box((20, 40), (20, 40)), box((23, 43), (20, 40)), None),
    "B": (disk((32, 30), 15), disk((32, 30), 12) | box((50, 54), (50, 54)), None),
    "C": (box((0, 20), (0, 20)), box((0, 24), (0, 20)), None),
    "D": (box((31, 32), (31, 32)), box((30, 33), (30, 33)), None),
    "E": (box((20, 40), (20, 40)), box((23, 43), (20, 40)), (2.0, 1.0)),
}
SURFEL = {  # HD95, average truth to prediction, average back, surface Dice at 1: surface-distance
    "A": (3, 1.5, 1.5, 0.5),
    "B": (14.212670, 2.829980, 4.494844, 0),
    "C": (4, 0.811890, 1.078643, 0.75),
    "D": (1.414214, 1.0, 1.108194, 0.792893),
    "E": (6, 1.987104, 1.987104, 0.609730),
}


@pytest.mark.parametrize("name", PAIRS)
def test_contour_pieces_give_the_numbers_of_surface_distance(name):
    truth, predicted, spacing = PAIRS[name]
    found = surfels.contours(predicted, truth, spacing)
    there = np.average(found.to_predicted, weights=found.target_lengths)
    back = np.average(found.to_target, weights=found.predicted_lengths)
    numbers = surfels.hd95(found), there, back, surfels.surface_dice(found, 1.0)
    assert np.allclose(numbers, SURFEL[name], atol=1e-6)


def test_contours_of_nothing():
    empty, one = np.zeros((5, 5), dtype=bool), np.eye(5) > 0
    assert math.isnan(surfels.hd95(surfels.contours(empty, empty)))
    assert math.isnan(surfels.surface_dice(surfels.contours(empty, empty), 1.0))
    missed = surfels.contours(empty, one)
    assert surfels.hd95(missed) == math.inf
    assert surfels.surface_dice(missed, 5.0) == 0
    with pytest.raises(ValueError, match=r"must be two \(H, W\)"):
        surfels.contours(np.zeros((2, 5, 5)), np.zeros((2, 5, 5)))


# ---------------------------------------------------------------- masks


def pairwise(here, there, spacing):
    a, b = (np.argwhere(mask) * (spacing or 1) for mask in (here, there))
    return np.sqrt(((a[:, None].astype(float) - b[None]) ** 2).sum(-1))


@pytest.mark.parametrize("spacing", [None, (0.5, 2.0)])
def test_average_hausdorff_in_its_three_forms_is_brute_force(spacing):
    rng = np.random.default_rng(0)
    for _ in range(5):
        predicted, truth = rng.random((2, 9, 11)) < 0.2
        d = pairwise(predicted, truth, spacing)
        forth, back = d.min(1), d.min(0)
        found = areas.mask_distances(predicted, truth, spacing)
        assert np.isclose(areas.average_hausdorff(found), (forth.mean() + back.mean()) / 2)
        balanced = (forth.sum() + back.sum()) / (2 * truth.sum())
        assert np.isclose(areas.balanced_average_hausdorff(found), balanced)
        forth, back = (-np.percentile(-m, 95, axis=1) for m in (d, d.T))
        modified = areas.modified_average_hausdorff(predicted, truth, spacing)
        assert np.isclose(modified, (forth.mean() + back.mean()) / 2)


def test_one_pixel_and_volumes():
    one = np.zeros((2, 4, 5), dtype=bool)
    other = one.copy()
    one[0, 1, 1] = other[1, 1, 4] = True
    expected = math.hypot(3, 3)
    assert np.isclose(areas.modified_average_hausdorff(one, other, (3, 1, 1)), expected)
    found = areas.mask_distances(one, other, (3, 1, 1))
    assert np.isclose(areas.average_hausdorff(found), expected)


@pytest.mark.parametrize(
    "measure",
    [
        lambda p, t: areas.average_hausdorff(areas.mask_distances(p, t)),
        lambda p, t: areas.balanced_average_hausdorff(areas.mask_distances(p, t)),
        areas.modified_average_hausdorff,
    ],
)
def test_a_miss_is_infinite_and_nothing_at_all_undefined(measure):
    empty, one = np.zeros((4, 4), dtype=bool), np.eye(4) > 0
    assert measure(empty, one) == math.inf
    assert measure(one, empty) == math.inf
    assert math.isnan(measure(empty, empty))


def test_boundary_dice_widens_both_surfaces():
    truth, predicted, _ = PAIRS["A"]
    edges = [surface.surface_of(mask) for mask in (predicted, truth)]
    both = (edges[0] & edges[1]).sum()
    assert areas.boundary_dice(predicted, truth, 0) == 2 * both / sum(e.sum() for e in edges)
    wide = [
        np.min([np.hypot(*(np.indices((64, 64)) - p[:, None, None])) for p in np.argwhere(e)], 0)
        <= 2
        for e in edges
    ]
    expected = 2 * (wide[0] & wide[1]).sum() / (wide[0].sum() + wide[1].sum())
    assert areas.boundary_dice(predicted, truth, 2) == expected
    empty = np.zeros_like(truth)
    assert areas.boundary_dice(empty, truth, 2) == 0
    assert math.isnan(areas.boundary_dice(empty, empty, 2))


# ---------------------------------------------------------------- scores


@pytest.mark.parametrize("levels", [None, 7])
def test_auc_and_average_precision_are_scikit_learns(levels):
    rng = np.random.default_rng(1)
    truth = rng.random(500) < 0.2
    scores = 1 / (1 + np.exp(-rng.standard_normal(500) - truth))
    if levels:  # many ties
        scores = np.round(scores * levels) / levels
    assert np.isclose(ranking.roc_auc(scores, truth), roc_auc_score(truth, scores))
    assert np.isclose(
        ranking.average_precision(scores, truth), average_precision_score(truth, scores)
    )


def test_the_histogram_streams_and_says_how_far_off_it_is():
    rng = np.random.default_rng(2)
    truth = rng.random(20000) < 0.3
    scores = 1 / (1 + np.exp(-rng.standard_normal(20000) - truth))
    scores[:2] = 0, 1
    for bins in (16, 1 << 16):
        histogram = ranking.ScoreHistogram(bins)
        for part in np.array_split(np.arange(20000), 7):
            histogram.add(scores[part], truth[part])
        assert histogram.counts.sum() == 20000
        gap = abs(histogram.auc - ranking.roc_auc(scores, truth))
        assert gap <= histogram.auc_error
        assert (histogram.auc_error > 0.01) == (bins == 16)
    exact = ranking.average_precision(scores, truth)
    assert abs(histogram.average_precision - exact) < 1e-3


def test_one_sided_truth_has_no_ranking():
    scores = np.linspace(0, 1, 5)
    assert math.isnan(ranking.roc_auc(scores, np.ones(5, dtype=bool)))
    assert math.isnan(ranking.average_precision(scores, np.zeros(5, dtype=bool)))
    empty = ranking.ScoreHistogram(4)
    assert math.isnan(empty.auc)
    assert math.isnan(empty.auc_error)
