"""The Lovasz extension of the Jaccard loss.

Berman, Rannen Triki, Blaschko. "The Lovasz-Softmax loss: a tractable surrogate for the optimization
of the intersection-over-union measure in neural networks." CVPR 2018.
https://arxiv.org/abs/1705.08790 . Bakos 2022, section 5.2.1, at the errors m = |y - p|.
"""

import torch
from torch import Tensor, nn

from seglab.ops import one_hot, probabilities


class Lovasz(nn.Module):
    """Per image, then averaged. Binary: of the one channel; else the mean of the classes present.

    Ignored pixels have no error, so they come last in the order and weigh nothing.
    """

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """logits (B, C, H, W), target (B, H, W) integers -> ()."""
        p = probabilities(logits, target).flatten(2)  # (B, K, N)
        y = one_hot(target, logits.shape[1]).flatten(2).to(p.dtype)
        errors, order = (p - y).abs().sort(dim=2, descending=True)
        extension = (errors * jaccard_steps(y.gather(2, order))).sum(dim=2)  # (B, K)
        counted = torch.ones_like(extension) if y.shape[1] == 1 else (y.sum(dim=2) > 0).float()
        return ((extension * counted).sum(dim=1) / counted.sum(dim=1).clamp_min(1)).mean()


def jaccard_steps(truth: Tensor) -> Tensor:
    """(..., N) truth in order of falling error -> (..., N): what each pixel adds to 1 - Jaccard.

    Algorithm 1 of the paper: the Jaccard loss where the first n pixels are wrong, minus the same
    for n - 1.
    """
    total = truth.sum(dim=-1, keepdim=True)
    wrong = torch.arange(1, truth.shape[-1] + 1, device=truth.device, dtype=truth.dtype)
    missed = truth.cumsum(dim=-1)
    loss = 1 - (total - missed) / (total + wrong - missed)
    return torch.cat([loss[..., :1], loss[..., 1:] - loss[..., :-1]], dim=-1)
