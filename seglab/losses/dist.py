"""The distance transform-based loss: predictions count most at the boundaries of the truth.

Gul. "A distance transform-based loss function for semantic image segmentation with deep neural
networks." MSc thesis, Sabanci University, 2023. Section 3.2, steps 1 to 7 and equation 3.1.

The mask B of that section (the prediction thresholded at 0.95) enters none of its formulas, and
is left out here.
"""

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from seglab.distance import chessboard, depth_map, squared_euclidean
from seglab.losses.sums import Sums, soft_sums
from seglab.ops import IGNORE

DISTANCES = ("euclidean", "chessboard")
CLASS_REDUCTIONS = ("mean", "sum")


def boundary_weights(labels: Tensor, distance: str) -> Tensor:
    """Steps 1 to 4:  w = (max D - D) / (max D - min D), per image and class -> (B, H, W) float32.

    D = distance in pixels to the nearest pixel of another label (an ignored pixel is of another
    label), max and min over the pixels of the class in that image: w is 1 at the boundary of the
    class and 0 at its deepest pixel. min D is always 1, because some pixel of a class has a
    neighbour that is not of it. w is 1 on the whole class where the steps give 0 / 0 (it is
    nowhere more than two pixels wide) or nothing lies outside it, and 0 at ignored pixels.

    Args:
        labels: (B, H, W) or (B, D, H, W) integers below 256. distance: see `Dist`.
    """
    depth = root(squared_euclidean(labels)) if distance == "euclidean" else chessboard(labels)
    depth, index, deepest = by_class(depth, labels)
    flat = deepest <= 1  # D is the same on the whole class: w = ((D + 1) - D) / 1
    top = torch.where(flat, deepest + 1, deepest)
    scale = torch.where(flat, 1.0, 1 / (deepest - 1))
    scale[:, IGNORE] = 0
    return (top.gather(1, index) - depth).mul_(scale.gather(1, index)).view(labels.shape)


def by_class(depth: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(B, H, W) distances and labels -> both as (B, N), and (B, 256) the deepest of each label.

    Where nothing lies outside a class the distance is infinite: it becomes 0, in place.
    """
    depth, index = depth.flatten(1), labels.flatten(1).long()
    depth.nan_to_num_(posinf=0.0)
    deepest = depth.new_zeros(len(labels), IGNORE + 1).scatter_reduce_(1, index, depth, "amax")
    return depth, index, deepest


def root(squared: Tensor) -> Tensor:
    """The nearest float32 to each root. On the CPU, torch's (MKL's) can be one rounding off."""
    if squared.device.type != "cpu":
        return squared.sqrt()
    return torch.from_numpy(np.sqrt(squared.numpy()))


def foreground_weights(labels: Tensor, distance: str) -> Tensor:
    """`boundary_weights` on the foreground (label 1), 0 elsewhere: all that the binary task needs.

    (B, H, W) labels on the CPU, where it takes a third of the time.
    """
    masks = (labels == 1).numpy()
    weights = np.empty(masks.shape, dtype=np.float32)
    for mask, plane in zip(masks, weights, strict=True):
        depth = depth_map(mask, distance)
        deepest = depth.max()
        if deepest <= 1 or np.isinf(deepest):
            plane[...] = mask
            continue
        step = 1 / (deepest - 1)
        np.subtract(deepest, depth, out=plane)
        plane *= step
        # w is at most 1 inside, and 1 + step where D = 0; to multiply by the mask takes longer
        cv2.threshold(plane, 1 + step / 2, 0, cv2.THRESH_TOZERO_INV, dst=plane)
    return torch.from_numpy(weights)


def dist(sums: Sums, class_reduction: str) -> Tensor:
    """Eq. 3.1:  1 - (1/K) sum_c  sum_i (w p)_c / (sum_i w_c + sum_i p_c outside c)  -> ().

    Computed for each image, then averaged over the batch. c runs over the K classes present in
    the image, i over its valid pixels. class_reduction "mean" is this form, in [0, 1]; "sum"
    leaves out 1/K, as printed, and falls to 1 - K. An image with no class present contributes 1
    with zero gradient.
    """
    # Absent classes: 0 / (0 + outside), with zero gradient; never 0 / 0.
    least = torch.finfo(sums.truth.dtype).tiny
    ratio = sums.inside / (sums.truth + sums.outside).clamp_min(least)  # (B, K)
    score = ratio.sum(dim=1)  # (B,)
    if class_reduction == "mean":
        score = score / (sums.truth > 0).sum(dim=1).clamp_min(1)
    return (1 - score).mean()


class Dist(nn.Module):
    """Eq. 3.1 of each image, averaged over the batch. Binary: the foreground is the only class.

    Args:
        distance: "euclidean" is the definition in the text of the thesis, "chessboard" what the
            function in its footnote (scipy.ndimage.distance_transform_cdt) computes.
        class_reduction: "mean" or "sum" over the classes present; see `dist`.

    Errors: ValueError for another value of either.
    """

    def __init__(self, distance: str, class_reduction: str) -> None:
        super().__init__()
        if distance not in DISTANCES:
            raise ValueError(f"loss.distance={distance}: must be one of {', '.join(DISTANCES)}")
        if class_reduction not in CLASS_REDUCTIONS:
            raise ValueError(
                f"loss.class_reduction={class_reduction}: "
                f"must be one of {', '.join(CLASS_REDUCTIONS)}"
            )
        self.distance, self.class_reduction = distance, class_reduction

    def forward(self, logits: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
        """logits (B, C, H, W), target (B, H, W) integers -> ().

        Args:
            weights: (B, H, W), the `plane` of each target where a data loader made it; None
                computes them here. A class whose weights are all 0 counts as absent.
        """
        if weights is None:
            binary = logits.shape[1] == 1 and target.ndim == 3 and target.device.type == "cpu"
            weigh = foreground_weights if binary else boundary_weights
            weights = weigh(target, self.distance)
        return dist(soft_sums(logits, target, weights), self.class_reduction)

    def plane(self, target: np.ndarray) -> np.ndarray:
        """(H, W) labels of one image -> (H, W) float32 `weights`, for a data loader's workers.

        Made after augmentation: it commutes with flips and quarter turns, not with a crop.
        """
        labels = torch.from_numpy(np.ascontiguousarray(target))
        return boundary_weights(labels[None], self.distance)[0].numpy()
