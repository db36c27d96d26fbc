"""What is done to predicted label maps before they are counted: the choices of configs/postprocess.

A postprocess is called with (B, H, W) or (B, D, H, W) int64 labels on any device, 0 the background,
and returns labels of the same shape, type and device. Each image is treated by itself.
"""

import edt
import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from seglab.errors import ConfigError


class Unchanged:
    """Nothing."""

    def __call__(self, labels: Tensor) -> Tensor:
        """The labels themselves."""
        return labels


class ClosingLargest:
    """A closing of each class, then the largest connected components of the whole foreground.

    Caliva et al. 2019 (arXiv:1908.03679), section 3: "3D morphological closing and extraction of
    the three largest connected components", of the three bones of a knee. The paper states neither
    the structuring element nor the connectivity. Here:

    The closing is by a ball (2-D: a disk) of `radius` pixels, as if the image went on outside as
    background, so that nothing is lost at its border. It only adds: each class is closed in the
    prediction as it came, and what it would add becomes its own only where the background was. It
    never takes a pixel from another class; where two classes would take one, the lower label does.

    A component is a set of pixels of the foreground, whatever their classes, that touch by a side,
    an edge or a corner (MATLAB's bwconncomp by default): bones that touch are one. Of them all,
    not of each class, the `components` largest stay; of two of one size, the one whose first pixel
    comes first. The rest becomes background.

    Args:
        radius: of the ball, in pixels (voxels, whatever their spacing); 0: no closing.
        components: how many stay.

    Errors: ConfigError for other than whole numbers, radius >= 0 and components >= 1.
    """

    def __init__(self, radius: int, components: int) -> None:
        for key, value, least in (("radius", radius, 0), ("components", components, 1)):
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ConfigError(
                    f"postprocess.{key}={value}: must be a whole number from {least} on."
                )
        self.radius, self.components = radius, components

    def __call__(self, labels: Tensor) -> Tensor:
        """(B, H, W) or (B, D, H, W) int64 labels -> new ones. Worked out on the CPU."""
        treated = [
            largest(closed(image, self.radius), self.components) for image in labels.cpu().numpy()
        ]
        if not treated:
            return labels.clone()
        return torch.from_numpy(np.stack(treated)).to(labels.device)


def closed(labels: np.ndarray, radius: int) -> np.ndarray:
    """(H, W) or (D, H, W) labels -> a copy in which each class is closed by a ball of `radius`."""
    new = labels.copy()
    if radius == 0:
        return new
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is not None:  # a closing does not leave the box around its mask
            added = _closing(labels[box] == label, radius) & (new[box] == 0)
            new[box][added] = label
    return new


def _closing(mask: np.ndarray, radius: int) -> np.ndarray:
    """bool -> bool: within `radius` of the mask, less what is within `radius` of what is not."""
    wide = np.pad(mask, radius)
    near = edt.edtsq((~wide).view(np.uint8), black_border=False) <= radius**2
    deep = edt.edtsq(near.view(np.uint8), black_border=False) > radius**2
    return deep[tuple(slice(radius, -radius) for _ in range(mask.ndim))]


def largest(labels: np.ndarray, components: int) -> np.ndarray:
    """(H, W) or (D, H, W) labels -> 0 outside the largest components of what is not 0."""
    everywhere = np.ones((3,) * labels.ndim, dtype=bool)
    numbers, found = ndimage.label(labels, structure=everywhere)
    if found <= components:
        return labels
    sizes = np.bincount(numbers.ravel(), minlength=found + 1)[1:]
    stays = np.zeros(found + 1, dtype=bool)
    stays[1 + np.argsort(-sizes, kind="stable")[:components]] = True
    return np.where(stays[numbers], labels, 0)
