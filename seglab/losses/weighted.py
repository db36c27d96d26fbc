"""Cross-entropy with a weight for each pixel, made from the truth alone.

Both losses are mean over the valid pixels of the batch of w times -log q. As for `Dist`, a data
loader may make the weights beforehand (`plane`); a loss that is given none makes them itself.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn

from seglab.distance import checked_spacing, squared_euclidean
from seglab.losses.cross_entropy import pixel_mean
from seglab.losses.dist import by_class, root
from seglab.losses.sums import soft_sums
from seglab.ops import IGNORE

REACH = 7  # sigmas from which on exp(-x^2 / 2) is below 3e-11


class WeightedCrossEntropy(nn.Module, ABC):
    """mean of w (-log q). A subclass says what w is."""

    @abstractmethod
    def weights(self, target: Tensor) -> Tensor:
        """(B, H, W) or (B, D, H, W) labels -> float32 of that shape, 0 or more."""

    def forward(self, logits: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
        """logits (B, C, H, W), target (B, H, W) integers, weights (B, H, W) or None -> ()."""
        if weights is None:
            weights = self.weights(target)
        return pixel_mean(soft_sums(logits, target, weights, gamma=0.0))

    def plane(self, target: np.ndarray) -> np.ndarray:
        """(H, W) labels of one image -> (H, W) float32 weights."""
        labels = torch.from_numpy(np.ascontiguousarray(target))
        return self.weights(labels[None])[0].numpy()


class DistancePenalty(WeightedCrossEntropy):
    """w = 1 + Phi: errors cost most at the boundaries.

    Caliva, Iriondo, Morales Martinez, Majumdar, Pedoia. "Distance map loss penalty term for
    semantic segmentation." MIDL 2019. https://arxiv.org/abs/1908.03679 , equation 2.

    Phi = max D - D, in each structure and outside all of them by itself, where D is the distance
    to the nearest pixel that is not of it, and the maximum is that of the region in the image. An
    ignored pixel is of none. Phi is 0 where a region fills the image.

    Args:
        spacing: size of a pixel along each axis; None is 1.

    Errors: ValueError for a spacing that is not positive numbers.
    """

    def __init__(self, spacing: Sequence[float] | None) -> None:
        super().__init__()
        self.spacing = checked_spacing(spacing)

    def weights(self, target: Tensor) -> Tensor:
        """1 + Phi."""
        depth, index, deepest = by_class(root(squared_euclidean(target, self.spacing)), target)
        return (1 + deepest.gather(1, index) - depth).view(target.shape)


class ShapeAware(WeightedCrossEntropy):
    """w = w_c + w0 exp(-(d1 + d2)^2 / (2 sigma^2)): high between objects that nearly touch.

    Ronneberger, Fischer, Brox. "U-Net." MICCAI 2015. https://arxiv.org/abs/1505.04597 , equation 2.
    d1 and d2 are the distances to the nearest and to the second nearest object, 0 inside it. With
    fewer than two objects the second term is 0. Where the data set knows its instances, a data
    loader hands them to `plane`, and these are the objects: cells that touch are two. Elsewhere,
    and in a call without weights, an object is a connected component (by sides and corners) of
    one class other than the background, 0. Ignored pixels are of no object in either case.

    Args:
        class_weights: w_c of class 0, 1, ...; None is 1 for each.
        w0: height of the second term. sigma: its width, in pixels or in the unit of `spacing`.
        spacing: size of a pixel along each axis; None is 1.

    Errors: ValueError for a spacing that is not positive numbers.
    """

    not_promised: ClassVar = {"permutation": "class 0 is the background, and has no objects"}

    def __init__(
        self,
        class_weights: Sequence[float] | None,
        w0: float,
        sigma: float,
        spacing: Sequence[float] | None,
    ) -> None:
        super().__init__()
        self.class_weights, self.w0, self.sigma = class_weights, w0, sigma
        self.spacing = checked_spacing(spacing)

    def weights(self, target: Tensor) -> Tensor:
        """On the CPU, whatever the device of the target: made beforehand it costs nothing."""
        maps = [self.plane(labels) for labels in target.cpu().numpy()]
        return torch.from_numpy(np.stack(maps)).to(target.device)

    def plane(self, target: np.ndarray, instances: np.ndarray | None = None) -> np.ndarray:
        """(H, W) labels of one image -> (H, W) float32 weights.

        Args:
            instances: (H, W) number of the object that each pixel is of, 0 in the background; None
                takes the connected components.

        Errors: ValueError for instances of another size, or with a number in the background.
        """
        numbers = components(target) if instances is None else known_objects(target, instances)
        of_class = np.ones(IGNORE + 1, dtype=np.float32)
        if self.class_weights is not None:
            of_class[: len(self.class_weights)] = self.class_weights
        first, second = nearest_two(numbers, self.spacing, REACH * self.sigma)
        border = self.w0 * np.exp(-((first + second) ** 2) / (2 * self.sigma**2))
        return of_class[target] + border.astype(np.float32)


def known_objects(labels: np.ndarray, instances: np.ndarray) -> np.ndarray:
    """Instance numbers of one image -> int32, 0 where the label is ignored.

    Errors: ValueError where these are not the instances of these labels.
    """
    if instances.shape != labels.shape:
        raise ValueError(f"instances of {instances.shape} pixels for a mask of {labels.shape}")
    astray = np.count_nonzero(instances[labels == 0])
    if astray:
        raise ValueError(
            f"instances: {astray} pixels of the background (label 0) have a number. "
            "Are they of another mask, or was the mask changed after they were read?"
        )
    return np.where(labels == IGNORE, 0, instances).astype(np.int32)


def components(labels: np.ndarray) -> np.ndarray:
    """Class labels -> int32 numbers of their connected components, 0 outside every object."""
    numbers = np.zeros(labels.shape, dtype=np.int32)
    neighbours = np.ones((3,) * labels.ndim)
    for label in np.setdiff1d(labels, (0, IGNORE)):
        found, count = ndimage.label(labels == label, neighbours)
        numbers += np.where(found > 0, found + numbers.max(), 0).astype(np.int32) * (count > 0)
    return numbers


def nearest_two(
    numbers: np.ndarray, spacing: Sequence[float] | None, reach: float = np.inf
) -> tuple[np.ndarray, np.ndarray]:
    """Distance of each pixel to the nearest and the second nearest object; inf if there is none.

    Args:
        numbers: of the objects, from 1 on and not necessarily all; 0 outside every object.
        reach: a distance beyond it may come out as inf, which spares looking far from an object.

    Errors: ValueError for a spacing that is not one positive number for each axis.
    """
    spacing = checked_spacing(spacing, numbers.ndim)
    steps = np.ones(numbers.ndim) if spacing is None else np.asarray(spacing)
    margins = np.minimum(np.ceil(reach / steps), numbers.shape).astype(int)
    first = np.full(numbers.shape, np.inf)
    second = first.copy()
    for number, box in enumerate(ndimage.find_objects(numbers), start=1):
        if box is None:
            continue
        around = tuple(
            slice(max(side.start - margin, 0), side.stop + margin)
            for side, margin in zip(box, margins, strict=True)
        )
        distance = ndimage.distance_transform_edt(numbers[around] != number, sampling=spacing)
        second[around] = np.minimum(second[around], np.maximum(first[around], distance))
        first[around] = np.minimum(first[around], distance)
    return first, second
