"""Surface distances of two masks, and the scores that are made from them. NumPy, no torch.

The surface E(M) of a mask is its pixels with a neighbour outside it, by a side (not a corner); the
outside of the image is outside every mask. Three numbers are in use under one name each, and
differ, so every score here is asked for by its definition:

    HD95    pooled   95th percentile of both directions together (medpy)
            max      larger of the two directions' 95th percentiles (MONAI, BraTS)
    ASSD             mean over both directions together (medpy 0.5, MONAI with symmetric=True);
                     older papers print the mean of the two directions' means

Percentiles interpolate linearly between the two values next to them.

Undefined is NaN: both masks empty. One empty: every distance is infinite, and so are the Hausdorff
distances and the ASSD; surface Dice is 0. (A percentile taken naively of infinite values is NaN,
and a miss would drop out of every mean.)
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from scipy import ndimage

from seglab.distance import OPENCV_DISTANCE, OPENCV_SIDE

DEFINITIONS = ("pooled", "max")

_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


class SurfaceDistances(NamedTuple):
    """Of each surface pixel of one mask to the nearest of the other's, in no particular order.

    In pixels, or in the unit of `spacing`. inf where the other mask is empty.
    """

    to_target: np.ndarray  # (P,) float64, one for each pixel of the prediction's surface
    to_predicted: np.ndarray  # (T,) float64, one for each pixel of the truth's surface


def surface_distances(
    predicted: np.ndarray, target: np.ndarray, spacing: Sequence[float] | None = None
) -> SurfaceDistances:
    """(H, W) or (D, H, W) masks, bool or uint8 (not 0 is inside) -> exact Euclidean distances.

    Ignored pixels belong to no mask: the caller takes them out of both.

    Args:
        spacing: size of a pixel along each axis, in the order of the axes; None is 1.

    Errors: ValueError where the shapes differ, are neither 2 nor 3 axes, or spacing does not fit.
    """
    if predicted.shape != target.shape or predicted.ndim not in (2, 3):
        raise ValueError(
            f"predicted {predicted.shape} and target {target.shape} must be two (H, W) or two "
            "(D, H, W) masks of one shape"
        )
    sizes = (1.0,) * predicted.ndim if spacing is None else tuple(float(s) for s in spacing)
    if len(sizes) != predicted.ndim or min(sizes) <= 0:
        raise ValueError(f"spacing {sizes}: must be {predicted.ndim} positive numbers")
    predicted, target = predicted != 0, target != 0
    box = _bounding_box(predicted | target)
    ours, true = (_surface(mask[box].view(np.uint8)) for mask in (predicted, target))
    return SurfaceDistances(_distances(ours, true, sizes), _distances(true, ours, sizes))


def hausdorff(distances: SurfaceDistances) -> float:
    """max over both directions; NaN where both masks are empty, inf where one is."""
    pooled = np.concatenate(distances)
    return float(pooled.max()) if pooled.size else float("nan")


def hd95(distances: SurfaceDistances, definition: str) -> float:
    """The 95th percentile form of the Hausdorff distance; NaN and inf as for `hausdorff`.

    Args:
        definition: "pooled" or "max"; see the module.

    Errors: ValueError for another definition.
    """
    if definition not in DEFINITIONS:
        raise ValueError(f"definition={definition}: must be one of {', '.join(DEFINITIONS)}")
    if not all(part.size for part in distances):
        return hausdorff(distances)
    if definition == "pooled":
        return float(np.percentile(np.concatenate(distances), 95))
    return float(max(np.percentile(part, 95) for part in distances))


def assd(distances: SurfaceDistances) -> float:
    """Average symmetric surface distance: the mean over both directions together.

    NaN and inf as for `hausdorff`.
    """
    pooled = np.concatenate(distances)
    return float(pooled.mean()) if pooled.size else float("nan")


def surface_dice(distances: SurfaceDistances, tolerance: float) -> float:
    """Share of both surfaces, in pixels, that lies within `tolerance` (<=) of the other one.

    Nikolov et al. 2021 (https://arxiv.org/abs/1809.04430) weight by area; this is MONAI's count of
    pixels. NaN where both masks are empty, 0 where one is. `tolerance` has the distances' unit.
    """
    pooled = np.concatenate(distances)
    return float((pooled <= tolerance).mean()) if pooled.size else float("nan")


def surface_of(mask: np.ndarray) -> np.ndarray:
    """(H, W) or (D, H, W) bool -> bool: the pixels of the mask with a neighbour outside it."""
    return _surface(np.ascontiguousarray(mask).view(np.uint8))


def _bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    """The smallest box that holds the mask; empty where the mask is.

    Outside the box of both masks' union nothing is set, as outside the image: cutting it out
    changes no surface and no distance.
    """
    if mask.ndim == 2:
        left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
        return slice(top, top + height), slice(left, left + width)
    found = ndimage.find_objects(mask.view(np.uint8))
    return found[0] if found else (slice(0, 0),) * mask.ndim


def _surface(mask: np.ndarray) -> np.ndarray:
    """Pixels of a uint8 mask of 0 and 1 with a neighbour outside it -> bool of its shape."""
    if mask.size == 0:
        return mask.astype(bool)
    if mask.ndim == 2:
        inner = cv2.erode(mask, _CROSS, borderType=cv2.BORDER_CONSTANT, borderValue=0)
        return (mask ^ inner).view(bool)
    return (mask != 0) & ~ndimage.binary_erosion(mask)


def _distances(here: np.ndarray, there: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    """Of each pixel of surface `here` to the nearest of surface `there`."""
    if not here.any() or not there.any():
        return np.full(np.count_nonzero(here), np.inf)
    if here.ndim == 2 and spacing[0] == spacing[1] and max(here.shape) <= OPENCV_SIDE:
        off = (~there).view(np.uint8)
        depth = cv2.distanceTransform(off, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[here]
        if depth.max() <= OPENCV_DISTANCE:
            squares = np.rint(np.square(depth, dtype=np.float64))
            return np.sqrt(squares) * spacing[0]
    return ndimage.distance_transform_edt(~there, sampling=spacing)[here]
