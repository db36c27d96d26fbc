"""Metrics of whole masks, of pieces of surface, and of scores: definitions and golden values."""

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
    found = surfels.pieces(predicted, truth, spacing)
    there = np.average(found.to_predicted, weights=found.target_sizes)
    back = np.average(found.to_target, weights=found.predicted_sizes)
    numbers = surfels.hd95(found), there, back, surfels.surface_dice(found, 1.0)
    assert np.allclose(numbers, SURFEL[name], atol=1e-6)


def test_the_surface_of_one_voxel_is_eight_triangles():
    one = np.zeros((3, 3, 3), dtype=bool)
    one[1, 1, 1] = True
    found = surfels.pieces(one, one, (2.0, 1.0, 1.0))
    # an octahedron: each triangle spans half an edge of 2, 1 and 1
    area = np.linalg.norm(np.cross([1, -0.5, 0], [1, 0, -0.5])) / 2
    assert np.allclose(found.predicted_sizes, np.full(8, area))
    assert not found.to_target.any()


def test_a_block_of_voxels_has_six_faces_and_cut_edges_and_corners():
    block = np.zeros((7, 8, 9), dtype=bool)
    block[1:-1, 1:-1, 1:-1] = True  # 5 x 6 x 7, of which the faces lose a rim of half a voxel
    a, b, c = 4, 5, 6
    faces = 2 * (a * b + b * c + a * c)
    edges = 4 * (a + b + c) * math.sqrt(0.5)
    corners = 8 * math.sqrt(3) / 8
    sizes = surfels.pieces(block, block).target_sizes
    assert sizes.sum() == pytest.approx(faces + edges + corners)


def test_pieces_of_nothing():
    empty, one = np.zeros((5, 5), dtype=bool), np.eye(5) > 0
    assert math.isnan(surfels.hd95(surfels.pieces(empty, empty)))
    assert math.isnan(surfels.surface_dice(surfels.pieces(empty, empty), 1.0))
    missed = surfels.pieces(empty, one)
    assert surfels.hd95(missed) == math.inf
    assert surfels.surface_dice(missed, 5.0) == 0


def test_misfitting_masks_and_spacings_are_named():
    mask = np.zeros((4, 5), dtype=bool)
    with pytest.raises(ValueError, match=r"\(4, 5\) and \(5, 4\): must be two \(H, W\)"):
        surfels.pieces(mask, mask.T)
    with pytest.raises(ValueError, match="must be two"):
        surfels.pieces(mask[0], mask[0])
    with pytest.raises(ValueError, match="2 positive numbers"):
        surfels.pieces(mask, mask, (1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="2 positive numbers"):
        surfels.pieces(mask, mask, (1.0, 0.0))


# ---------------------------------------------------------------- masks


def pairwise(here, there, spacing):
    a, b = (np.argwhere(mask) * (spacing or 1) for mask in (here, there))
    return np.sqrt(((a[:, None].astype(float) - b[None]) ** 2).sum(-1))


@pytest.mark.parametrize("spacing", [None, (0.5, 2.0)])
def test_average_hausdorff_in_both_forms_is_brute_force(spacing):
    rng = np.random.default_rng(0)
    for _ in range(5):
        predicted, truth = rng.random((2, 9, 11)) < 0.2
        d = pairwise(predicted, truth, spacing)
        forth, back = d.min(1), d.min(0)
        found = areas.mask_distances(predicted, truth, spacing)
        assert np.isclose(areas.average_hausdorff(found), (forth.mean() + back.mean()) / 2)
        balanced = (forth.sum() + back.sum()) / (2 * truth.sum())
        assert np.isclose(areas.balanced_average_hausdorff(found), balanced)


def test_one_pixel_and_volumes():
    one = np.zeros((2, 4, 5), dtype=bool)
    other = one.copy()
    one[0, 1, 1] = other[1, 1, 4] = True
    found = areas.mask_distances(one, other, (3, 1, 1))
    assert np.isclose(areas.average_hausdorff(found), math.hypot(3, 3))


@pytest.mark.parametrize(
    "measure",
    [
        lambda p, t: areas.average_hausdorff(areas.mask_distances(p, t)),
        lambda p, t: areas.balanced_average_hausdorff(areas.mask_distances(p, t)),
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
    wide = [
        np.min([np.hypot(*(np.indices((64, 64)) - p[:, None, None])) for p in np.argwhere(e)], 0)
        <= 2
        for e in edges
    ]
    expected = [
        2 * both / sum(e.sum() for e in edges),
        2 * (wide[0] & wide[1]).sum() / (wide[0].sum() + wide[1].sum()),
    ]
    assert areas.boundary_dice(predicted, truth, (0, 2)) == expected
    empty = np.zeros_like(truth)
    assert areas.boundary_dice(empty, truth, (0, 2)) == [0, 0]
    assert np.isnan(areas.boundary_dice(empty, empty, (0, 2))).all()


def test_the_tolerance_of_boundary_dice_has_the_unit_of_the_spacing():
    one, other = np.zeros((2, 9, 9, 9), dtype=bool)
    one[4, 4, 4] = other[5, 4, 4] = True  # 3 mm apart: both bands reach the other's voxel from 3 on
    found = areas.boundary_dice(one, other, (0, 2.9, 3), (3.0, 5.0, 5.0))
    # at 3 mm each band is its own voxel and the two beside it, of which they share two
    assert found == [0, 0, 2 * 2 / 6]


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


@pytest.mark.parametrize("shift", [0, 3])
@pytest.mark.parametrize("bins", [4, 16, 1 << 16])
def test_the_histogram_streams_and_says_how_far_off_it_is(bins, shift):
    rng = np.random.default_rng(2)
    truth = rng.random(20000) < 0.3
    scores = 1 / (1 + np.exp(-rng.standard_normal(20000) - truth - shift))
    scores[:2] = 0, 1
    histogram = ranking.ScoreHistogram(bins)
    for part in np.array_split(np.arange(20000), 7):
        histogram.add(scores[part], truth[part])
    assert histogram.counts.sum() == 20000
    found = histogram.ranking
    assert abs(found.auc - ranking.roc_auc(scores, truth)) <= found.auc_error
    exact = ranking.average_precision(scores, truth)
    assert abs(found.average_precision - exact) <= found.average_precision_error
    assert (found.auc_error > 0.01) == (found.average_precision_error > 0.01) == (bins < 100)


@pytest.mark.parametrize("foreground", [0.01, 0.5, 0.99])
@pytest.mark.parametrize("order", [1, -1])
def test_the_worst_order_within_the_bins_stays_within_the_bounds(order, foreground):
    rng = np.random.default_rng(3)
    place = rng.integers(0, 8, 400)
    truth = rng.random(400) < foreground * (1 + place) / 8
    inside = np.where(truth, 0.6, 0.4) if order > 0 else np.where(truth, 0.4, 0.6)
    scores = (place + inside) / 8
    histogram = ranking.ScoreHistogram(8)
    histogram.add(scores, truth)
    found = histogram.ranking
    gap = abs(found.auc - ranking.roc_auc(scores, truth))
    assert gap == pytest.approx(found.auc_error)  # the bound is reached
    for spread in (0, 1e-3):  # ties within the bin, and none
        spread_out = scores + spread * rng.random(400)
        exact = ranking.average_precision(spread_out, truth)
        assert abs(found.average_precision - exact) <= found.average_precision_error


def test_the_bounds_of_average_precision_by_hand():
    # 10 background above, then a bin of 2 foreground: precision 2/12, the first of them 1/11
    low = ranking.of_histogram(np.array([[0, 10], [2, 0]]))
    assert low.average_precision == pytest.approx(2 / 12)
    assert low.average_precision_error == pytest.approx(2 / 12 - 1 / 11)
    # one bin of 1 foreground among 3 background: 1/4 as they are, 1 where it is the highest
    high = ranking.of_histogram(np.array([[3], [1]]))
    assert high.average_precision == pytest.approx(1 / 4)
    assert high.average_precision_error == pytest.approx(1 - 1 / 4)


def test_one_sided_truth_has_no_ranking():
    scores = np.linspace(0, 1, 5)
    assert math.isnan(ranking.roc_auc(scores, np.ones(5, dtype=bool)))
    assert math.isnan(ranking.average_precision(scores, np.zeros(5, dtype=bool)))
    assert np.isnan(ranking.ScoreHistogram(4).ranking).all()
    full = ranking.ScoreHistogram(4)
    full.add(scores, np.ones(5, dtype=bool))
    assert math.isnan(full.ranking.auc)
    assert full.ranking.average_precision == 1
