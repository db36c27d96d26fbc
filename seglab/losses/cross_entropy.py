"""Cross-entropy, focal loss and their kin. Equation numbers are those of Gul's thesis.

q = the probability of a pixel's true label (binary: of its own side, foreground or background).
All are means over the valid pixels of the batch, not of each image.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from seglab.losses.pointwise import LOWEST_LOG
from seglab.losses.sums import Sums, soft_sums
from seglab.ops import IGNORE, compute_dtype


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


class WeightedBinaryCrossEntropy(nn.Module):
    """Binary cross-entropy whose positive pixels count `beta` times -> mean over valid pixels.

    beta above 1 spares false negatives, below 1 false positives.

    Errors: ValueError for logits of more than one channel.
    """

    not_promised: ClassVar = {"classes": "it is for binary data sets"}

    def __init__(self, beta: float) -> None:
        super().__init__()
        self.beta = beta

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """logits (B, 1, H, W), target (B, H, W) integers -> ()."""
        if logits.shape[1] != 1:
            raise ValueError(f"weighted_bce is for binary data sets, not {logits.shape[1]} classes")
        weights = torch.where(target == 1, self.beta, 1.0).to(compute_dtype(logits))
        return pixel_mean(soft_sums(logits, target, weights, gamma=0.0))


class Focal(nn.Module):
    """Eq. 2.5 over the valid pixels of the batch, times `alpha` (1 in the thesis)."""

    def __init__(self, gamma: float, alpha: float) -> None:
        super().__init__()
        self.gamma, self.alpha = gamma, alpha

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """logits (B, C, H, W), target (B, H, W) integers -> ()."""
        return self.alpha * pixel_mean(soft_sums(logits, target, gamma=self.gamma))


class ConfidencePenalty(nn.Module):
    """Cross-entropy minus `beta` times the mean entropy of the probabilities of a valid pixel.

    Pereyra, Tucker, Chorowski, Kaiser, Hinton. "Regularizing neural networks by penalizing
    confident output distributions." 2017. https://arxiv.org/abs/1701.06548 , section 3. Binary:
    the entropy of foreground against background. In nats.

    A positive beta rewards some doubt: the lowest value is below 0, at a probability of the true
    label below 1, and depends on the number of classes.
    """

    def __init__(self, beta: float) -> None:
        super().__init__()
        self.beta = beta
        self.optimum = None if beta > 0 else 0.0

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """logits (B, C, H, W), target (B, H, W) integers -> ()."""
        sums = soft_sums(logits, target, gamma=0.0)
        valid = (target != IGNORE).flatten(1)
        entropy = _Entropy.apply(logits.flatten(2)).masked_fill(~valid, 0)  # (B, N)
        return pixel_mean(sums) - self.beta * entropy.sum() / sums.valid.sum().clamp_min(1)


class _Entropy(torch.autograd.Function):
    """(B, C, N) logits -> (B, N) entropy, finite with its gradient for any finite logits.

    dH / dz_c = -p_c (log p_c + H), and -z p (1 - p) for one channel.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, logits: Tensor) -> Tensor:
        ctx.save_for_backward(logits)
        z = logits.to(compute_dtype(logits))
        if z.shape[1] == 1:
            size = z.squeeze(1).abs()
            return size * (-size).sigmoid() + F.softplus(-size)
        log_p = z.log_softmax(dim=1).clamp_min(LOWEST_LOG)
        return -(log_p.exp() * log_p).sum(dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, by_entropy: Tensor) -> Tensor:
        (logits,) = ctx.saved_tensors
        z = logits.to(compute_dtype(logits))
        if z.shape[1] == 1:
            by_z = -z * z.sigmoid() * (-z).sigmoid()
        else:
            log_p = z.log_softmax(dim=1).clamp_min(LOWEST_LOG)
            p = log_p.exp()
            entropy = -(p * log_p).sum(dim=1, keepdim=True)
            by_z = -p * (log_p + entropy)
        return (by_z * by_entropy.unsqueeze(1)).to(logits.dtype)
