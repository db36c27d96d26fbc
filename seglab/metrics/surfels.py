"""Surface distances by pieces of surface with a size: contours in 2-D, surfels in 3-D. No torch.

Nikolov et al. "Clinically applicable segmentation of head and neck anatomy for radiotherapy." JMIR
2021. https://arxiv.org/abs/1809.04430 , and DeepMind's package surface-distance, whose numbers
these are: the surface runs between the centres of the pixels, a piece of it lies at each corner of
four pixels (eight voxels), and its length (area) depends on which of them are inside.

The area is that of the marching cubes' triangles, whose corners lie halfway between a voxel inside
and one outside. It is the same for a set of voxels, for the rest of the cube, and for every turned
or mirrored set; and a set whose parts touch by no side has the areas of its parts. So the 256 cases
are the six connected sets of at most four voxels of a cube, in `_SHAPES`.

Undefined is as in surface.py: NaN where both masks are empty, inf where one is, Dice 0.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import permutations, product
from typing import NamedTuple

import numpy as np
from scipy import ndimage

# The voxels (each by its place in the cube) -> normals of its surface, whose length is an area, in
# eighths of the face that two axes span.
_SHAPES = {
    ((1, 1, 1),): [(1, 1, 1)],
    ((1, 1, 1), (1, 1, 0)): [(4, 4, 0)],
    ((1, 1, 1), (1, 1, 0), (1, 0, 1)): [(4, 0, 0), (3, 3, 3)],
    ((1, 1, 1), (1, 1, 0), (1, 0, 1), (1, 0, 0)): [(8, 0, 0)],
    ((1, 1, 1), (1, 1, 0), (1, 0, 1), (0, 1, 1)): [(6, 6, 6)],
    ((1, 0, 0), (1, 1, 0), (1, 1, 1), (0, 1, 1)): [(4, 4, 4), (0, 2, 2), (2, 0, 2)],
}

Voxels = frozenset[tuple[int, ...]]


class Pieces(NamedTuple):
    """Of each piece of one surface: distance to the other surface, and size: length, or area."""

    to_target: np.ndarray  # (P,) float64
    predicted_sizes: np.ndarray  # (P,) float64
    to_predicted: np.ndarray  # (T,) float64
    target_sizes: np.ndarray  # (T,) float64


def pieces(
    predicted: np.ndarray, target: np.ndarray, spacing: Sequence[float] | None = None
) -> Pieces:
    """(H, W) or (D, H, W) masks, not 0 is inside.

    Args:
        spacing: size of a pixel along each axis, in the order of the axes; None is 1.

    Errors: ValueError where the shapes differ, are neither 2 nor 3 axes, or spacing does not fit.
    """
    if predicted.shape != target.shape or predicted.ndim not in (2, 3):
        raise ValueError(
            f"masks of {predicted.shape} and {target.shape}: must be two (H, W) or two (D, H, W)"
        )
    steps = (1.0,) * predicted.ndim if spacing is None else tuple(float(step) for step in spacing)
    if len(steps) != predicted.ndim or min(steps) <= 0:
        raise ValueError(f"spacing {steps}: must be {predicted.ndim} positive numbers")
    sizes = _lengths(*steps) if predicted.ndim == 2 else areas(*steps)
    ours, true = (sizes[_codes(mask != 0)] for mask in (predicted, target))
    return Pieces(
        _distances(ours, true, steps), ours[ours > 0], _distances(true, ours, steps), true[true > 0]
    )


def hd95(found: Pieces) -> float:
    """The larger of both directions' 95 % distances, weighted by size, not interpolated."""
    if not found.to_target.size and not found.to_predicted.size:
        return float("nan")
    if not found.to_target.size or not found.to_predicted.size:
        return float("inf")
    return max(_percentile(*found[:2]), _percentile(*found[2:]))


def surface_dice(found: Pieces, tolerance: float) -> float:
    """Share of the size of both surfaces within `tolerance` (<=) of the other one."""
    total = found.predicted_sizes.sum() + found.target_sizes.sum()
    if not total:
        return float("nan")
    near = found.predicted_sizes[found.to_target <= tolerance].sum()
    return float((near + found.target_sizes[found.to_predicted <= tolerance].sum()) / total)


def areas(depth: float, down: float, across: float) -> np.ndarray:
    """(256,) area of the surface in each of the cases, for the spacing of the three axes."""
    faces = np.array([down * across, depth * across, depth * down]) / 8
    return np.array(
        [sum(float(np.linalg.norm(normal * faces)) for normal in case) for case in _normals()]
    )


@cache
def _normals() -> tuple[np.ndarray, ...]:
    """Of each of the 256 cases the (n, 3) normals of its surface, without their signs."""
    turned = {}
    for voxels, normals in _SHAPES.items():
        for order in permutations(range(3)):
            for flip in product((0, 1), repeat=3):
                places = [[v[axis] ^ flip[axis] for axis in order] for v in voxels]
                turned[frozenset(map(tuple, places))] = [
                    [n[axis] for axis in order] for n in normals
                ]
    cube = list(product((0, 1), repeat=3))
    cases = []
    for code in range(256):
        inside = frozenset(v for bit, v in enumerate(reversed(cube)) if code >> bit & 1)
        smaller = min(inside, frozenset(cube) - inside, key=len)
        found = [normal for part in _parts(smaller) for normal in turned[part]]
        cases.append(np.array(found, dtype=float).reshape(-1, 3))
    return tuple(cases)


def _parts(voxels: Voxels) -> Iterator[Voxels]:
    """The parts that touch one another by no side."""
    left = set(voxels)
    while left:
        part = {left.pop()}
        while near := {v for v in left for u in part if sum(map(np.not_equal, u, v)) == 1}:
            part |= near
            left -= near
        yield frozenset(part)


def _codes(mask: np.ndarray) -> np.ndarray:
    """(H + 1, W + 1): which of the pixels around each corner are inside, as 4 bits; 3-D: 8."""
    codes = np.zeros([side + 1 for side in mask.shape], dtype=np.uint8)
    wide = np.pad(mask, 1).view(np.uint8)
    for corner in product((0, 1), repeat=mask.ndim):
        part = tuple(slice(at, at + side) for at, side in zip(corner, codes.shape, strict=True))
        codes = 2 * codes + wide[part]
    return codes


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


def _percentile(distances: np.ndarray, sizes: np.ndarray) -> float:
    order = distances.argsort(kind="stable")
    share = sizes[order].cumsum() / sizes.sum()
    place = min(int(np.searchsorted(share, 0.95)), len(order) - 1)
    return float(distances[order][place])
