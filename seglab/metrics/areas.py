"""Distances between two masks as sets of pixels, and Dice of their boundaries. NumPy, no torch.

Here d(x, Y) is 0 where the masks overlap: every pixel counts, not the surfaces alone (surface.py).
Undefined is NaN (both masks empty); one empty: infinite distances, and a Dice of 0.

Aydin et al. "On the usage of average Hausdorff distance for segmentation performance assessment."
European Radiology Experimental 2021 (balanced). Bakos 2022, section 5.1 (AHD, MAHD).
"""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from seglab.metrics.surface import SurfaceDistances, surface_of

FARTHEST = 5  # the 95th percentile of distances in decreasing order is the 5th in increasing order


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


def modified_average_hausdorff(
    predicted: np.ndarray, target: np.ndarray, spacing: Sequence[float] | None = None
) -> float:
    """MAHD: AHD where d(x, Y) is the 95th percentile of all d(x, y) in decreasing order.

    Bakos 2022, section 5.1. That is the 5th percentile in increasing order, interpolated linearly:
    a few stray pixels of Y near x do not count. It does not measure a distance: of a mask to itself
    it is above 0, and grows with the mask.
    """
    points = [np.argwhere(mask != 0) * _steps(mask, spacing) for mask in (predicted, target)]
    if not any(len(p) for p in points):
        return float("nan")
    if not all(len(p) for p in points):
        return float("inf")
    forth, back = (_percentiles(*pair) for pair in (points, points[::-1]))
    return float((forth.mean() + back.mean()) / 2)


def _percentiles(here: np.ndarray, there: np.ndarray) -> np.ndarray:
    place = FARTHEST / 100 * (len(there) - 1)
    low = int(place)
    ranks = [low + 1, min(low + 2, len(there))]
    near, far = cKDTree(there).query(here, k=ranks)[0].T
    return near + (place - low) * (far - near)


def boundary_dice(
    predicted: np.ndarray,
    target: np.ndarray,
    tolerance: float,
    spacing: Sequence[float] | None = None,
) -> float:
    """B-DSC: Dice of the two surfaces, each widened by `tolerance` (<=) to both sides.

    Caliva et al. 2019, section 3, where 0 is the strict form and 1 to 4 the relaxed ones. The
    surface is that of surface.py. In pixels, or in the unit of `spacing`.
    """
    bands = [_band(mask != 0, tolerance, spacing) for mask in (predicted, target)]
    total = sum(int(band.sum()) for band in bands)
    return 2 * int((bands[0] & bands[1]).sum()) / total if total else float("nan")


def _band(mask: np.ndarray, tolerance: float, spacing: Sequence[float] | None) -> np.ndarray:
    surface = surface_of(mask)
    if tolerance <= 0 or not surface.any():
        return surface
    return ndimage.distance_transform_edt(~surface, sampling=spacing) <= tolerance


def _to_nearest(here: np.ndarray, there: np.ndarray, spacing: Sequence[float] | None) -> np.ndarray:
    if not here.any() or not there.any():
        return np.full(np.count_nonzero(here), np.inf)
    return ndimage.distance_transform_edt(~there, sampling=spacing)[here]


def _steps(mask: np.ndarray, spacing: Sequence[float] | None) -> np.ndarray:
    return np.ones(mask.ndim) if spacing is None else np.asarray(spacing, dtype=float)
