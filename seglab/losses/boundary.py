"""The boundary loss: probability times the signed distance to the boundary of the truth.

Kervadec, Bouchtiba, Desrosiers, Granger, Dolz, Ben Ayed. "Boundary loss for highly unbalanced
segmentation." MIDL 2019. https://arxiv.org/abs/1812.07032 , equation 5. Bakos 2022, section 5.2.2.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from seglab.distance import checked_spacing, squared_euclidean
from seglab.ops import IGNORE, probabilities


def signed_distances(
    target: Tensor, classes: int, spacing: Sequence[float] | None = None
) -> Tensor:
    """(B, ...) labels -> (B, K, ...) float32: to the nearest pixel of the other side.

    Negative inside the class, positive outside, 0 everywhere where the class is absent or fills
    the image. K = classes, or the foreground alone where that is 1; ignored pixels are outside.
    """
    names = torch.arange(classes, device=target.device) if classes > 1 else target.new_ones(1)
    inside = target.unsqueeze(1) == names.view(1, -1, *[1] * (target.ndim - 1))
    distance = squared_euclidean(inside.flatten(0, 1).to(torch.uint8), spacing).sqrt()
    distance = distance.nan_to_num_(posinf=0.0).view(inside.shape)
    return torch.where(inside, -distance, distance)


class Boundary(nn.Module):
    """Mean of D p over the batch's valid pixels and channels; below 0 for a good prediction.

    Args:
        bound: |D| beyond it counts as it; None is no bound. rescale: D is divided by it, after
            the bound; None is 1. Both in pixels, or in the unit of `spacing`.
        spacing: size of a pixel along each axis; None is 1.

    Errors: ValueError for a spacing that is not positive numbers.
    """

    not_promised: ClassVar = {"crop": "its distances see where the ignored part begins"}
    optimum = None  # minus the mean depth of the truth

    def __init__(
        self, bound: float | None, rescale: float | None, spacing: Sequence[float] | None
    ) -> None:
        super().__init__()
        self.bound, self.rescale, self.spacing = bound, rescale, checked_spacing(spacing)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """logits (B, C, H, W), target (B, H, W) integers -> ()."""
        distance = signed_distances(target, logits.shape[1], self.spacing)
        if self.bound is not None:
            distance = distance.clamp_(-self.bound, self.bound)
        if self.rescale is not None:
            distance = distance / self.rescale
        pixels = (target != IGNORE).sum().clamp_min(1) * logits.shape[1]
        return (distance * probabilities(logits, target)).sum() / pixels
