"""Every metric of a pair of masks against the libraries that others report it with.

medpy 0.5, MONAI 1.6, DeepMind's surface-distance 0.1 and scikit-learn, on random shapes in 2-D and
3-D, with and without a spacing. Where a library knowingly says something else, that is a test too.
"""

import math

import numpy as np
import pytest
import sklearn.metrics
import torch
from medpy.metric import binary as medpy
from monai.metrics import (
    DiceMetric,
    compute_average_surface_distance,
    compute_hausdorff_distance,
    compute_surface_dice,
)
from scipy import ndimage

from seglab.metrics import pairs, surface, surfels

SPACINGS = {2: [(1.0, 1.0), (0.5, 1.25)], 3: [(1.0, 1.0, 1.0), (2.5, 0.8, 1.1)]}
pytestmark = pytest.mark.filterwarnings(  # MONAI 1.6 calls itself with an argument it deprecated
    "ignore:.*always_return_as_numpy:FutureWarning"
)
CASES = [(spacing, seed) for axes in (2, 3) for spacing in SPACINGS[axes] for seed in range(4)]


def blobs(spacing, seed):
    """Two masks of the same rough shape: smooth, with single pixels astray, and at the border."""
    rng = np.random.default_rng((len(spacing), seed))
    shape = rng.integers(20, 34, 2) if len(spacing) == 2 else rng.integers(9, 17, 3)
    common = rng.standard_normal(shape)
    masks = []
    for _ in range(2):
        smooth = ndimage.gaussian_filter(common + rng.standard_normal(shape), 1.5)
        masks.append((smooth > np.quantile(smooth, 0.7)) ^ (rng.random(shape) < 0.01))
    return masks


@pytest.fixture(
    scope="module", params=CASES, ids=lambda case: f"{len(case[0])}d-{case[0][0]}-{case[1]}"
)
def case(request):
    """Predicted, target, spacing, and what of_pair says of them."""
    spacing, seed = request.param
    predicted, target = blobs(spacing, seed)
    return predicted, target, spacing, pairs.of_pair(predicted, target, predicted.size, spacing)


def test_overlaps_and_surface_distances_are_medpys(case):
    predicted, target, spacing, found = case
    reach = {"voxelspacing": spacing}
    expected = {
        "dice": medpy.dc(predicted, target),
        "iou": medpy.jc(predicted, target),
        "precision": medpy.precision(predicted, target),
        "recall": medpy.recall(predicted, target),
        "hausdorff": medpy.hd(predicted, target, **reach),
        "hd95_pooled": medpy.hd95(predicted, target, **reach),
        "assd": medpy.assd(predicted, target, **reach),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-12)
    distances = surface.surface_distances(predicted, target, spacing)
    there, back = medpy.asd(predicted, target, **reach), medpy.asd(target, predicted, **reach)
    assert distances.to_target.mean() == pytest.approx(there, rel=1e-12)
    assert distances.to_predicted.mean() == pytest.approx(back, rel=1e-12)


def batched(*masks):
    return [torch.from_numpy(mask)[None, None].float() for mask in masks]


def test_overlaps_and_surface_distances_are_monais(case):
    predicted, target, spacing, found = case
    both = batched(predicted, target)
    options = {"include_background": True, "spacing": list(spacing)}
    expected = {
        "dice": DiceMetric(include_background=True)(*both),
        "hausdorff": compute_hausdorff_distance(*both, **options),
        "hd95_max": compute_hausdorff_distance(*both, percentile=95, **options),
        "assd": compute_average_surface_distance(*both, symmetric=True, **options),
        "surface_dice_1": compute_surface_dice(*both, class_thresholds=[1.0], **options),
        "surfel_dice_1": compute_surface_dice(
            *both, class_thresholds=[1.0], use_subvoxels=True, **options
        ),
    }
    values = {name: float(value) for name, value in expected.items()}
    assert {name: found[name] for name in values} == pytest.approx(values, rel=1e-5)


@pytest.fixture
def deepmind(monkeypatch):
    """surface-distance 0.1 of PyPI, with the names that NumPy 2 and SciPy 1.15 took away."""
    monkeypatch.setattr(np, "Inf", np.inf, raising=False)
    monkeypatch.setattr(ndimage, "filters", ndimage, raising=False)
    monkeypatch.setattr(ndimage, "morphology", ndimage, raising=False)
    import surface_distance

    return surface_distance


def test_pieces_of_surface_are_deepminds(case, deepmind):
    predicted, target, spacing, found = case
    theirs = deepmind.compute_surface_distances(target, predicted, spacing)
    assert found["hd95_surfel"] == pytest.approx(deepmind.compute_robust_hausdorff(theirs, 95))
    dice = deepmind.compute_surface_dice_at_tolerance(theirs, 1)
    assert found["surfel_dice_1"] == pytest.approx(dice)
    ours = surfels.pieces(predicted, target, spacing)
    assert deepmind.compute_average_surface_distance(theirs) == pytest.approx(
        (
            np.average(ours.to_predicted, weights=ours.target_sizes),
            np.average(ours.to_target, weights=ours.predicted_sizes),
        )
    )


@pytest.mark.parametrize("spacing", SPACINGS[3])
def test_each_case_of_eight_voxels_has_deepminds_area(spacing):
    from surface_distance import lookup_tables

    expected = lookup_tables.create_table_neighbour_code_to_surface_area(spacing)
    np.testing.assert_allclose(surfels.areas(*spacing), expected, rtol=1e-12, atol=0)
    codes = np.arange(256)
    cubes = (codes[:, None] >> np.arange(8)[::-1] & 1).reshape(-1, 2, 2, 2).astype(bool)
    kernel = lookup_tables.ENCODE_NEIGHBOURHOOD_3D_KERNEL
    assert [surfels._codes(cube)[1, 1, 1] for cube in cubes] == [
        (cube * kernel).sum() for cube in cubes
    ]


def test_shares_of_pixels_are_scikit_learns(case):
    predicted, target, _, found = case
    flat = target.ravel(), predicted.ravel()
    expected = {
        "accuracy": sklearn.metrics.accuracy_score(*flat),
        "balanced_accuracy": sklearn.metrics.balanced_accuracy_score(*flat),
        "precision": sklearn.metrics.precision_score(*flat),
        "recall": sklearn.metrics.recall_score(*flat),
        "iou": sklearn.metrics.jaccard_score(*flat),
        "dice": sklearn.metrics.f1_score(*flat),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-12)


# ---------------------------------------------------------------- where they differ


@pytest.mark.parametrize("shape", [(7, 8), (5, 7, 8)])
def test_a_miss_is_infinite_here_and_for_monai_an_hd95_that_drops_out(shape, deepmind):
    predicted, target = np.zeros((2, *shape), dtype=bool)
    target[2:4] = True
    found = pairs.of_pair(predicted, target, target.size)
    missed = {"hausdorff", "hd95_pooled", "hd95_max", "hd95_surfel", "assd", "ahd", "mahd"}
    assert {name for name, value in found.items() if value == math.inf} == {
        *missed, "balanced_ahd",
    }  # fmt: skip
    assert found["dice"] == found["surface_dice_1"] == found["surfel_dice_1"] == found["b_dsc"] == 0
    both = batched(predicted, target)
    with pytest.warns(UserWarning, match="may result in nan/inf"):
        assert compute_hausdorff_distance(*both, include_background=True).item() == math.inf
    with pytest.warns(UserWarning, match="may result in nan/inf"):
        theirs = compute_hausdorff_distance(*both, include_background=True, percentile=95)
    assert math.isnan(theirs.item())
    with pytest.raises(RuntimeError, match="does not contain any binary object"):
        medpy.hd95(predicted, target)
    distances = deepmind.compute_surface_distances(target, predicted, (1,) * len(shape))
    assert deepmind.compute_robust_hausdorff(distances, 95) == math.inf


def test_nothing_in_both_is_undefined_here_and_infinite_for_deepmind(deepmind):
    empty = np.zeros((6, 7), dtype=bool)
    found = pairs.of_pair(empty, empty, empty.size)
    defined = {name for name, value in found.items() if not math.isnan(value)}
    assert defined == {"accuracy"}
    distances = deepmind.compute_surface_distances(empty, empty, (1, 1))
    assert deepmind.compute_robust_hausdorff(distances, 95) == math.inf
    with pytest.warns(RuntimeWarning, match="invalid value"):
        assert math.isnan(medpy.dc(empty, empty))


def test_the_three_definitions_of_hd95_are_three_numbers():
    rows, columns = np.mgrid[:64, :64]
    target = (rows - 32) ** 2 + (columns - 30) ** 2 <= 15**2
    predicted = (rows - 32) ** 2 + (columns - 30) ** 2 <= 12**2
    predicted[50:54, 50:54] = True
    found = pairs.of_pair(predicted, target, target.size)
    numbers = [found[f"hd95_{name}"] for name in ("pooled", "max", "surfel")]
    assert numbers == pytest.approx([13.453624047, 14.866068840, 14.212670403])
