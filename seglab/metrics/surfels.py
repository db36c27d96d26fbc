"""Surface distances by pieces of contour with a length, 2-D. NumPy, no torch.

Nikolov et al. "Clinically applicable segmentation of head and neck anatomy for radiotherapy." JMIR
2021. https://arxiv.org/abs/1809.04430 , and DeepMind's package surface-distance, whose numbers
these are: the contour runs between the pixel centres, a piece of it lies at each corner of four
pixels, and its length depends on which of the four are inside.

Undefined is as in surface.py: NaN where both masks are empty, inf where one is, Dice 0.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage


class Contours(NamedTuple):
    """Of each piece of one contour: distance to the other contour, and length."""

    to_target: np.ndarray  # (P,) float64
    predicted_lengths: np.ndarray  # (P,) float64
    to_predicted: np.ndarray  # (T,) float64
    target_lengths: np.ndarray  # (T,) float64


def contours(
    predicted: np.ndarray, target: np.ndarray, spacing: Sequence[float] | None = None
) -> Contours:
    """(H, W) masks, not 0 is inside. Errors: ValueError for other than two (H, W) masks."""
    if predicted.shape != target.shape or predicted.ndim != 2:
        raise ValueError(f"masks of {predicted.shape} and {target.shape}: must be two (H, W)")
    steps = (1.0, 1.0) if spacing is None else tuple(float(step) for step in spacing)
    lengths = _lengths(*steps)
    found = [lengths[_codes(mask != 0)] for mask in (predicted, target)]
    return Contours(
        _distances(found[0], found[1], steps), found[0][found[0] > 0],
        _distances(found[1], found[0], steps), found[1][found[1] > 0],
    )  # fmt: skip


def hd95(found: Contours) -> float:
    """The larger of both directions' 95 % distances, weighted by length, not interpolated."""
    if not found.to_target.size and not found.to_predicted.size:
        return float("nan")
    if not found.to_target.size or not found.to_predicted.size:
        return float("inf")
    return max(_percentile(*found[:2]), _percentile(*found[2:]))


def surface_dice(found: Contours, tolerance: float) -> float:
    """Share of the length of both contours within `tolerance` (<=) of the other one."""
    total = found.predicted_lengths.sum() + found.target_lengths.sum()
    if not total:
        return float("nan")
    near = found.predicted_lengths[found.to_target <= tolerance].sum()
    return float((near + found.target_lengths[found.to_predicted <= tolerance].sum()) / total)


def _codes(mask: np.ndarray) -> np.ndarray:
    """(H + 1, W + 1): which of the four pixels around each corner are inside, as four bits."""
    m = np.pad(mask, 1).astype(np.uint8)
    return 8 * m[:-1, :-1] + 4 * m[:-1, 1:] + 2 * m[1:, :-1] + m[1:, 1:]


def _lengths(down: float, across: float) -> np.ndarray:
    """(16,) length of the contour in each of the cases."""
    diagonal = 0.5 * float(np.hypot(down, across))
    lengths = np.full(16, diagonal)  # one pixel, or all but one
    lengths[[0, 15]] = 0
    lengths[[0b0011, 0b1100]] = across
    lengths[[0b0101, 0b1010]] = down
    lengths[[0b0110, 0b1001]] = 2 * diagonal
    return lengths


def _distances(here: np.ndarray, there: np.ndarray, steps: tuple[float, ...]) -> np.ndarray:
    if not there.any():
        return np.full(np.count_nonzero(here), np.inf)
    return ndimage.distance_transform_edt(there == 0, sampling=steps)[here > 0]


def _percentile(distances: np.ndarray, lengths: np.ndarray) -> float:
    order = distances.argsort(kind="stable")
    share = lengths[order].cumsum() / lengths.sum()
    place = min(int(np.searchsorted(share, 0.95)), len(order) - 1)
    return float(distances[order][place])
