"""Cross-entropy and focal loss. Thesis, equations 2.1 and 2.5.

q = the probability of a pixel's true label (binary: of its own side, foreground or background).
Both losses are means over the valid pixels of the batch, not of each image.
"""

from torch import Tensor, nn

from seglab.losses.sums import Sums, soft_sums


def pixel_mean(sums: Sums) -> Tensor:
    """The pointwise cost averaged over the valid pixels of the batch -> ().

    gamma = 0 is Eq. 2.1, -log q; gamma > 0 is Eq. 2.5, -(1 - q)^gamma log q (`soft_sums` was
    called with it). A batch without a valid pixel gives 0 with zero gradient.
    """
    return sums.pointwise.sum() / sums.valid.sum().clamp_min(1)


class CrossEntropy(nn.Module):
    """Eq. 2.1 over the valid pixels of the batch."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """logits (B, C, H, W), target (B, H, W) integers -> ()."""
        return pixel_mean(soft_sums(logits, target, gamma=0.0))


class Focal(nn.Module):
    """Eq. 2.5 over the valid pixels of the batch."""

    def __init__(self, gamma: float) -> None:
        super().__init__()
        self.gamma = gamma

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """logits (B, C, H, W), target (B, H, W) integers -> ()."""
        return pixel_mean(soft_sums(logits, target, gamma=self.gamma))
