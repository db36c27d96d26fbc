"""Dice plus a pixel mean. Thesis, equations 2.4 and 2.6. One pass over the logits serves both."""

from torch import Tensor, nn

from seglab.losses.cross_entropy import pixel_mean
from seglab.losses.overlap import dice
from seglab.losses.sums import soft_sums


class Combo(nn.Module):
    """Eq. 2.4:  Dice (Eq. 2.2, mean over images) + cross-entropy (Eq. 2.1, mean over pixels)."""

    def __init__(self, smooth: float) -> None:
        super().__init__()
        self.smooth = smooth

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """logits (B, C, H, W), target (B, H, W) integers -> ()."""
        sums = soft_sums(logits, target, gamma=0.0)
        return dice(sums, self.smooth) + pixel_mean(sums)


class DiceFocal(nn.Module):
    """Eq. 2.6:  Dice (Eq. 2.2, mean over images) + focal (Eq. 2.5, mean over pixels)."""

    def __init__(self, smooth: float, gamma: float) -> None:
        super().__init__()
        self.smooth, self.gamma = smooth, gamma

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """logits (B, C, H, W), target (B, H, W) integers -> ()."""
        sums = soft_sums(logits, target, gamma=self.gamma)
        return dice(sums, self.smooth) + pixel_mean(sums)
