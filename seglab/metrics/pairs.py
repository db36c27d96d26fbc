"""Every metric of one predicted mask and its truth, and its summary over many."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from seglab.metrics import areas, mahd, surface, surfels

TOLERANCES = (1, 2, 3, 4)  # of Caliva's relaxed boundary Dice, in pixels (voxels)


class Summary(NamedTuple):
    """One metric over the pairs of masks. A miss is a distance without an end: one mask is empty.

    It is never dropped: `mean` is over the finite values, `misses` says how many are not, and
    `penalised` is the mean in which a miss counts as the image's diagonal. `undefined` counts the
    pairs of two empty masks, of which there is nothing to say.
    """

    mean: float
    penalised: float
    finite: int
    misses: int
    undefined: int


def of_pair(
    predicted: np.ndarray,
    target: np.ndarray,
    pixels: int,
    spacing: Sequence[float] | None = None,
) -> dict[str, float]:
    """(H, W) or (D, H, W) bool masks, ignored pixels in neither -> metric -> value.

    The surface distances are computed once, and only around the masks. Distances, and the tolerance
    of the surface Dice, are in pixels, or in the unit of `spacing`; b_dsc is in pixels always, as
    Caliva et al. have it. Undefined is NaN, a miss inf, see the functions.

    Args:
        pixels: how many are not ignored.
        spacing: size of a pixel along each axis; None is 1.
    """
    hit, found, true = (int(m.sum()) for m in (predicted & target, predicted, target))
    right = pixels - found - true + 2 * hit
    sensitivity, specificity = _share(hit, true), _share(right - hit, pixels - true)
    around = _around(predicted | target, max(TOLERANCES))
    predicted, target = predicted[around], target[around]
    distances = surface.surface_distances(predicted, target, spacing)
    wholes = areas.mask_distances(predicted, target, spacing)
    pieces = surfels.pieces(predicted, target, spacing)
    tensors = (torch.from_numpy(np.ascontiguousarray(mask)) for mask in (predicted, target))
    strict, *relaxed = areas.boundary_dice(predicted, target, (0, *TOLERANCES))
    return {
        "accuracy": _share(right, pixels),
        "balanced_accuracy": (sensitivity + specificity) / 2,
        "precision": _share(hit, found),
        "recall": sensitivity,
        "iou": _share(hit, found + true - hit),
        "dice": _share(2 * hit, found + true),
        "hausdorff": surface.hausdorff(distances),
        "hd95_pooled": surface.hd95(distances, "pooled"),
        "hd95_max": surface.hd95(distances, "max"),
        "hd95_surfel": surfels.hd95(pieces),
        "assd": surface.assd(distances),
        "surface_dice_1": surface.surface_dice(distances, 1),
        "surfel_dice_1": surfels.surface_dice(pieces, 1),
        "ahd": areas.average_hausdorff(wholes),
        "balanced_ahd": areas.balanced_average_hausdorff(wholes),
        "mahd": mahd.modified_average_hausdorff(*tensors, spacing),
        "b_dsc": strict,
        **{f"b_dsc_{t}": value for t, value in zip(TOLERANCES, relaxed, strict=True)},
    }


def summarise(values: Iterable[float], diagonals: Iterable[float]) -> Summary:
    """Over the pairs; diagonals: of each pair's image, what a miss counts in `penalised`."""
    all_ = np.asarray(list(values), dtype=float)
    defined = ~np.isnan(all_)
    finite = all_[np.isfinite(all_)]
    penalised = np.where(np.isinf(all_), np.asarray(list(diagonals), dtype=float), all_)[defined]
    return Summary(
        mean=float(finite.mean()) if finite.size else float("nan"),
        penalised=float(penalised.mean()) if penalised.size else float("nan"),
        finite=len(finite),
        misses=len(penalised) - len(finite),
        undefined=len(all_) - len(penalised),
    )


def diagonal(shape: Sequence[int], spacing: Sequence[float] | None) -> float:
    """Of an image of that many pixels, in pixels or in the unit of `spacing`."""
    sizes = np.ones(len(shape)) if spacing is None else np.asarray(spacing)
    return float(np.linalg.norm(np.asarray(shape) * sizes))


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def _around(mask: np.ndarray, margin: int) -> tuple[slice, ...]:
    """The part of the image that holds all that lies within `margin` pixels of the mask."""
    if not mask.any():
        return (slice(None),) * mask.ndim
    box = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        filled = np.flatnonzero(mask.any(axis=others))
        box.append(slice(max(0, int(filled[0]) - margin), int(filled[-1]) + margin + 1))
    return tuple(box)
