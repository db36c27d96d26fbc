"""Surface distances against brute force, hand-made masks, and what medpy and MONAI return."""

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from seglab.metrics import surface
from seglab.metrics.surface import assd, hausdorff, hd95, surface_dice, surface_distances

SEEDS = st.integers(0, 2**32 - 1)
SCORES = {
    "hausdorff": hausdorff,
    "pooled": lambda d: hd95(d, "pooled"),
    "max": lambda d: hd95(d, "max"),
    "assd": assd,
    "surface_dice": lambda d: surface_dice(d, 1.0),
}
ROWS, COLUMNS = np.mgrid[:64, :64]


def square(*box):
    mask = np.zeros((64, 64), bool)
    mask[box[0] : box[1], box[2] : box[3]] = True
    return mask


def disk(row, column, radius):
    return (ROWS - row) ** 2 + (COLUMNS - column) ** 2 <= radius**2


def ellipse(row, column, radius):
    y, x = ROWS - row, COLUMNS - column
    return 8 * (y * y + x * x) <= 8 * radius**2 + 3 * (x * x - y * y) + 5 * x * y


def torn(seed, shape):
    """A mask of coherent patches with single pixels flipped; seldom empty or full."""
    rng = np.random.default_rng(seed)
    cell = int(rng.integers(1, 7))
    coarse = rng.random([-(-side // cell) for side in shape]) < rng.choice([0.05, 0.3, 0.7])
    mask = np.kron(coarse, np.ones((cell,) * len(shape), bool))[tuple(slice(s) for s in shape)]
    return mask ^ (rng.random(shape) < 0.02)


def brute_force(predicted, target, spacing):
    """Every surface pixel against every other, straight from the definition."""

    def surface_points(mask):
        found = []
        for place in np.argwhere(mask):
            for axis in range(mask.ndim):
                for step in (-1, 1):
                    other = place.copy()
                    other[axis] += step
                    if not 0 <= other[axis] < mask.shape[axis] or not mask[tuple(other)]:
                        found.append(place * spacing)
        return np.unique(np.array(found).reshape(-1, mask.ndim), axis=0)

    ours, true = surface_points(predicted), surface_points(target)
    apart = np.sqrt(((ours[:, None] - true[None]) ** 2).sum(-1))
    return apart.min(1, initial=np.inf), apart.min(0, initial=np.inf)


def equal_as_sets(ours, expected):
    for a, b in zip(ours, expected, strict=True):
        np.testing.assert_allclose(np.sort(a), np.sort(b), rtol=1e-12, atol=0)


@given(SEEDS, st.integers(1, 18), st.integers(1, 18))
@settings(max_examples=150, deadline=None)
def test_distances_are_those_of_brute_force(seed, height, width):
    masks = torn(seed, (height, width)), torn(seed + 1, (height, width))
    equal_as_sets(surface_distances(*masks), brute_force(*masks, (1, 1)))


@given(SEEDS, st.integers(1, 10), st.integers(1, 10), st.sampled_from([(2, 2), (2, 1), (0.5, 3)]))
@settings(max_examples=50, deadline=None)
def test_spacing_stretches_each_axis(seed, height, width, spacing):
    masks = torn(seed, (height, width)), torn(seed + 1, (height, width))
    equal_as_sets(surface_distances(*masks, spacing), brute_force(*masks, spacing))


@given(SEEDS, st.integers(1, 6), st.integers(1, 7), st.integers(1, 8))
@settings(max_examples=50, deadline=None)
def test_volumes_have_their_own_spacing(seed, depth, height, width):
    masks = torn(seed, (depth, height, width)), torn(seed + 1, (depth, height, width))
    equal_as_sets(surface_distances(*masks, (2, 1, 0.5)), brute_force(*masks, (2, 1, 0.5)))


# Predicted, truth, spacing. A to E are squares, a disk with a stray patch, masks at the image
# border, a single pixel, and A with rows twice as far apart.
CASES = {
    "A": (square(23, 43, 20, 40), square(20, 40, 20, 40), None),
    "B": (disk(32, 30, 12) | square(50, 54, 50, 54), disk(32, 30, 15), None),
    "C": (square(0, 24, 0, 20), square(0, 20, 0, 20), None),
    "D": (square(30, 33, 30, 33), square(31, 32, 31, 32), None),
    "E": (square(23, 43, 20, 40), square(20, 40, 20, 40), (2.0, 1.0)),
    "slices": (
        ellipse(30, 35, 14) & (ROWS % 9 != 4), ellipse(33, 29, 17) | square(2, 4, 55, 64), None,
    ),
    "slices, spaced": (
        ellipse(30, 35, 14) & (ROWS % 9 != 4), ellipse(33, 29, 17) | square(2, 4, 55, 64),
        (0.5, 1.25),
    ),
    "stripes": ((5 * ROWS + 3 * COLUMNS) % 17 < 3, (3 * ROWS + 7 * COLUMNS) % 19 < 2, None),
    "holes": (~disk(20, 20, 9), ~disk(40, 44, 6), None),
}  # fmt: skip

# Computed once with medpy 0.5.2 (hd, hd95, asd, assd) and MONAI 1.6.1 (compute_hausdorff_distance
# with percentile=95, compute_surface_dice with a threshold of 1.0), both with the spacing above.
# In order: hd, hd95 of medpy, hd95 of MONAI, asd, assd, surface Dice.
PEERS = {
    "A": (3.0, 3.0, 3.0, 1.5, 1.5, 0.5),
    "B": (16.278820596, 13.453624047, 14.866068840, 4.751327669, 3.844731004, 0.0),
    "C": (4.0, 4.0, 4.0, 1.095238095, 0.95, 0.75),
    "D": (1.414213562, 1.414213562, 1.414213538, 1.207106781, 1.184094917, 0.555555582),
    "E": (6.0, 6.0, 6.0, 2.763157895, 2.763157895, 0.473684222),
    "slices": (27.018512172, 18.805612930, 24.954725266, 5.095212216, 5.977498149, 0.175287351),
    "slices, spaced": (
        19.269470673, 13.139870483, 16.740434647, 2.873572543, 3.832721809, 0.241379306,
    ),
    "stripes": (2.828427125, 2.236067977, 2.236068010, 1.246529288, 1.124382711, 0.612987041),
    "holes": (19.798989873, 16.333900088, 16.970561981, 2.401188092, 2.202463071, 0.851351380),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_scores_are_those_of_medpy_and_monai(name):
    distances = surface_distances(*CASES[name])
    hd, pooled, larger, asd, average, dice = PEERS[name]
    assert hausdorff(distances) == pytest.approx(hd, abs=1e-8)
    assert hd95(distances, "pooled") == pytest.approx(pooled, abs=1e-8)
    assert hd95(distances, "max") == pytest.approx(larger, abs=2e-6)  # MONAI works in float32
    assert distances.to_target.mean() == pytest.approx(asd, abs=1e-8)
    assert assd(distances) == pytest.approx(average, abs=1e-8)
    assert surface_dice(distances, 1.0) == pytest.approx(dice, abs=1e-7)


def test_a_volume_scores_as_with_medpy_and_monai():
    z, y, x = np.mgrid[:12, :20, :16]
    predicted = 2 * (z - 6) ** 2 + (y - 9) ** 2 + (x - 8) ** 2 <= 36
    target = 2 * (z - 5) ** 2 + (y - 11) ** 2 + (x - 7) ** 2 <= 40
    distances = surface_distances(predicted, target, (2.5, 0.8, 1.1))
    # medpy 0.5.2 and MONAI 1.6.1, as above.
    assert hausdorff(distances) == pytest.approx(4.104875150, abs=1e-8)
    assert hd95(distances, "pooled") == pytest.approx(2.968164416, abs=1e-8)
    assert hd95(distances, "max") == pytest.approx(2.997754812, abs=2e-6)
    assert distances.to_target.mean() == pytest.approx(1.320645531, abs=1e-8)
    assert assd(distances) == pytest.approx(1.399232815, abs=1e-8)
    assert surface_dice(distances, 1.0) == pytest.approx(0.379370628, abs=1e-7)


@given(st.integers(1, 9))
def test_a_square_moved_by_d_pixels_is_d_pixels_away(d):
    distances = surface_distances(square(8, 28, 8 + d, 28 + d), square(8, 28, 8, 28))
    assert hausdorff(distances) == d


@given(SEEDS)
@settings(max_examples=30, deadline=None)
def test_swapping_the_masks_swaps_the_directions_and_changes_no_score(seed):
    a, b = torn(seed, (20, 25)), torn(seed + 1, (20, 25))
    there, back = surface_distances(a, b), surface_distances(b, a)
    np.testing.assert_array_equal(there.to_target, back.to_predicted)
    np.testing.assert_array_equal(there.to_predicted, back.to_target)
    for score in SCORES.values():
        assert score(there) == pytest.approx(score(back), nan_ok=True)


@given(SEEDS, st.integers(0, 30), st.integers(0, 30))
@settings(max_examples=30, deadline=None)
def test_a_wider_image_changes_nothing(seed, above, beside):
    masks = torn(seed, (20, 25)), torn(seed + 1, (20, 25))
    wider = [np.pad(mask, ((above, 3), (beside, 5))) for mask in masks]
    equal_as_sets(surface_distances(*wider), surface_distances(*masks))


def test_a_mask_that_fills_the_image_ends_at_its_border():
    distances = surface_distances(np.ones((9, 9), bool), np.ones((9, 9), bool))
    assert len(distances.to_target) == 32
    assert not distances.to_target.any()


@pytest.mark.parametrize("shape", [(7, 8), (5, 7, 8)])
def test_two_empty_masks_have_no_score(shape):
    distances = surface_distances(np.zeros(shape, bool), np.zeros(shape, bool))
    assert all(math.isnan(score(distances)) for score in SCORES.values())


@pytest.mark.parametrize("shape", [(7, 8), (5, 7, 8)])
@pytest.mark.parametrize("missed", ["predicted", "target"])
def test_a_miss_is_infinitely_far_and_never_drops_out(shape, missed):
    masks = {"predicted": np.zeros(shape, bool), "target": np.zeros(shape, bool)}
    masks["target" if missed == "predicted" else "predicted"][2:4] = True
    distances = surface_distances(**masks)
    assert {name: score(distances) for name, score in SCORES.items()} == {
        "hausdorff": math.inf, "pooled": math.inf, "max": math.inf, "assd": math.inf,
        "surface_dice": 0.0,
    }  # fmt: skip


# Beyond its two limits OpenCV's transform misses by a pixel squared and more: in (60, 2048) and
# (900, 900), by one thread, far from the few points; in (8, 32000) 137 pixels from one of many.
@pytest.mark.parametrize(
    ("shape", "points"), [((60, 2048), 3), ((900, 900), 2), ((8, 32000), 100), ((724, 724), 40)]
)
@pytest.mark.parametrize("threads", [1, 2])
def test_every_squared_distance_is_the_right_integer_at_any_size(shape, points, threads, request):
    before = cv2.getNumThreads()
    request.addfinalizer(lambda: cv2.setNumThreads(before))
    cv2.setNumThreads(threads)
    rng = np.random.default_rng(0)
    everywhere = np.ones(shape, bool)
    for _ in range(4):
        mask = np.zeros(shape, bool)
        mask[tuple(rng.integers(0, side, points) for side in shape)] = True
        found = surface._distances(everywhere, mask, (1.0, 1.0))
        expected = ndimage.distance_transform_edt(~mask)[everywhere]
        np.testing.assert_allclose(found, expected, rtol=1e-14, atol=0)


def test_masks_may_be_bytes_and_views_and_are_left_alone():
    predicted, target, _ = CASES["slices"]
    expected = surface_distances(predicted, target)
    as_bytes = [np.where(mask, 255, 0).astype(np.uint8) for mask in (predicted, target)]
    before = [mask.copy() for mask in as_bytes]
    equal_as_sets(surface_distances(*as_bytes), expected)
    equal_as_sets(surface_distances(*(mask.T for mask in as_bytes)), expected)
    for mask, old in zip(as_bytes, before, strict=True):
        np.testing.assert_array_equal(mask, old)


def test_surface_dice_counts_the_tolerance_itself():
    distances = surface_distances(CASES["A"][0], CASES["A"][1])
    assert surface_dice(distances, 3.0) == 1
    assert surface_dice(distances, math.nextafter(3.0, 0)) < 1


def test_misfits_are_named():
    mask = np.zeros((4, 5), bool)
    with pytest.raises(ValueError, match=r"predicted \(4, 5\) and target \(5, 4\)"):
        surface_distances(mask, mask.T)
    with pytest.raises(ValueError, match="two"):
        surface_distances(mask[0], mask[0])
    with pytest.raises(ValueError, match="2 positive numbers"):
        surface_distances(mask, mask, (1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="2 positive numbers"):
        surface_distances(mask, mask, (1.0, 0.0))
    with pytest.raises(ValueError, match="definition=mean: must be one of pooled, max"):
        hd95(surface_distances(mask, mask), "mean")
