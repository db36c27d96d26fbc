"""Dice and IoU losses, per image over all classes together. Thesis, equations 2.2 and 2.3.

y = one-hot truth, p = probability, both zero where ignored; sums run over the pixels and the
classes of one image (binary: over the foreground channel alone).
"""

from torch import Tensor, nn

from seglab.losses.sums import Sums, soft_sums


def dice(sums: Sums, smooth: float) -> Tensor:
    """Eq. 2.2:  1 - (1 + 2 sum y p) / (1 + sum y + sum p), averaged over the images -> ().

    `smooth` stands for the printed 1. An image without a valid pixel gives 1 - 1 / 1 = 0.
    """
    hit, truth = sums.inside.sum(dim=1), sums.truth.sum(dim=1)  # (B,)
    predicted = hit + sums.outside.sum(dim=1)
    return (1 - (smooth + 2 * hit) / (smooth + truth + predicted)).mean()


def iou(sums: Sums, smooth: float) -> Tensor:
    """Eq. 2.3:  1 - (1 + sum y p) / (1 + sum (y + p - y p)), averaged over the images -> ().

    y + p - y p is 1 on the truth and p off it. `smooth` stands for the printed 1. An image
    without a valid pixel gives 0.
    """
    hit = sums.inside.sum(dim=1)  # (B,)
    union = sums.truth.sum(dim=1) + sums.outside.sum(dim=1)
    return (1 - (smooth + hit) / (smooth + union)).mean()


class Dice(nn.Module):
    """Eq. 2.2 of each image, averaged over the batch."""

    def __init__(self, smooth: float) -> None:
        super().__init__()
        self.smooth = smooth

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """logits (B, C, H, W), target (B, H, W) integers -> ()."""
        return dice(soft_sums(logits, target), self.smooth)


class IoU(nn.Module):
    """Eq. 2.3 of each image, averaged over the batch."""

    def __init__(self, smooth: float) -> None:
        super().__init__()
        self.smooth = smooth

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """logits (B, C, H, W), target (B, H, W) integers -> ()."""
        return iou(soft_sums(logits, target), self.smooth)
