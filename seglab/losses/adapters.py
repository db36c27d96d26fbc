"""For losses of other packages whose `forward` is not quite `loss(logits, target)`."""

from torch import Tensor, nn


class TargetWithChannel(nn.Module):
    """Gives a loss its target as (B, 1, H, W): what MONAI's expect."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """logits (B, C, H, W), target (B, H, W) integers -> what the loss returns."""
        return self.loss(logits, target.unsqueeze(1))
