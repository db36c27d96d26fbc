"""Every metric of one predicted mask and its truth, and its summary over many. NumPy, no torch."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from seglab.metrics import areas, surface, surfels

TOLERANCES = (1, 2, 3, 4)  # of Caliva's relaxed boundary Dice


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
    predicted: np.ndarray, target: np.ndarray, spacing: Sequence[float] | None = None
) -> dict[str, float]:
    """(H, W) or (D, H, W) bool masks, ignored pixels in neither -> metric -> value.

    The surface distances are computed once. Distances are in pixels, or in the unit of `spacing`;
    the contour pieces of surfels.py are 2-D.
    """
    distances = surface.surface_distances(predicted, target, spacing)
    wholes = areas.mask_distances(predicted, target, spacing)
    hit, found, true = (int(m.sum()) for m in (predicted & target, predicted, target))
    values = {
        "precision": hit / found if found else float("nan"),
        "recall": hit / true if true else float("nan"),
        "hausdorff": surface.hausdorff(distances),
        "hd95_pooled": surface.hd95(distances, "pooled"),
        "hd95_max": surface.hd95(distances, "max"),
        "assd": surface.assd(distances),
        "surface_dice_1": surface.surface_dice(distances, 1),
        "ahd": areas.average_hausdorff(wholes),
        "balanced_ahd": areas.balanced_average_hausdorff(wholes),
        "mahd": areas.modified_average_hausdorff(predicted, target, spacing),
        "b_dsc": areas.boundary_dice(predicted, target, 0, spacing),
    }
    if predicted.ndim == 2:
        values["hd95_surfel"] = surfels.hd95(surfels.contours(predicted, target, spacing))
    values |= {
        f"b_dsc_{tolerance}": areas.boundary_dice(predicted, target, tolerance, spacing)
        for tolerance in TOLERANCES
    }
    return values


def summarise(values: Iterable[float], diagonal: float) -> Summary:
    """Over the pairs; diagonal: of the image, what a miss counts in `penalised`."""
    all_ = np.asarray(list(values), dtype=float)
    defined = all_[~np.isnan(all_)]
    finite = defined[np.isfinite(defined)]
    return Summary(
        mean=float(finite.mean()) if finite.size else float("nan"),
        penalised=float(np.minimum(defined, diagonal).mean()) if defined.size else float("nan"),
        finite=len(finite),
        misses=len(defined) - len(finite),
        undefined=len(all_) - len(defined),
    )
