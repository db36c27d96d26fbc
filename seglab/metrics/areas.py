"""Distances between two masks as sets of pixels, and Dice of their boundaries.

Here d(x, Y) is 0 where the masks overlap: every pixel counts, not the surfaces alone (surface.py).
Undefined is NaN (both masks empty); one empty: infinite distances, and a Dice of 0.

Aydin et al. "On the usage of average Hausdorff distance for segmentation performance assessment."
European Radiology Experimental 2021 (balanced). Bakos 2022, section 5.1 (AHD; MAHD is in mahd.py).
"""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from seglab.metrics.surface import SurfaceDistances, surface_of


def mask_distances(
    predicted: np.ndarray, target: np.ndarray, spacing: Sequence[float] | None = None
) -> SurfaceDistances:
    """(H, W) or (D, H, W) masks -> of each pixel of one to the nearest of the other, Euclidean."""
    predicted, target = predicted != 0, target != 0
    return SurfaceDistances(
        _to_nearest(predicted, target, spacing), _to_nearest(target, predicted, spacing)
    )


def average_hausdorff(distances: SurfaceDistances) -> float:
    """AHD: half the sum of both directions' means. Of `mask_distances`."""
    return _average(distances, *(len(part) for part in distances))


def balanced_average_hausdorff(distances: SurfaceDistances) -> float:
    """As AHD, but both sums are divided by the size of the truth. Of `mask_distances`."""
    return _average(distances, len(distances.to_predicted), len(distances.to_predicted))


def _average(distances: SurfaceDistances, first: int, second: int) -> float:
    forth, back = distances
    if not forth.size and not back.size:
        return float("nan")
    if not forth.size or not back.size:
        return float("inf")
    return float((forth.sum() / first + back.sum() / second) / 2)


def boundary_dice(
    predicted: np.ndarray,
    target: np.ndarray,
    tolerances: Sequence[float],
    spacing: Sequence[float] | None = None,
) -> list[float]:
    """B-DSC: Dice of the two surfaces, each widened by a tolerance (<=) to both sides, for each.

    Caliva et al. 2019, section 3: 0 is the strict form, 1 to 4 voxels are the relaxed ones. The
    surface is that of surface.py. In pixels, or in the unit of `spacing`.
    """
    far = [_to_surface(mask != 0, spacing) for mask in (predicted, target)]
    return [_dice(*(distance <= tolerance for distance in far)) for tolerance in tolerances]


def _dice(a: np.ndarray, b: np.ndarray) -> float:
    total = np.count_nonzero(a) + np.count_nonzero(b)
    return 2 * np.count_nonzero(a & b) / total if total else float("nan")


def _to_surface(mask: np.ndarray, spacing: Sequence[float] | None) -> np.ndarray:
    """Of every pixel of the image to the surface of the mask."""
    surface = surface_of(mask)
    if not surface.any():
        return np.full(mask.shape, np.inf)
    return ndimage.distance_transform_edt(~surface, sampling=spacing)


def _to_nearest(here: np.ndarray, there: np.ndarray, spacing: Sequence[float] | None) -> np.ndarray:
    if not here.any() or not there.any():
        return np.full(np.count_nonzero(here), np.inf)
    return ndimage.distance_transform_edt(~there, sampling=spacing)[here]
