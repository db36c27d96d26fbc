"""The cost of one pixel, and its slope.

Lin, Goyal, Girshick, He, Dollar. "Focal loss for dense object detection." ICCV 2017.
https://arxiv.org/abs/1708.02002 . Cross-entropy is the case gamma = 0.

q is the probability that a pixel's true label was given.
"""

import torch
from torch import Tensor

# A logit gap above 1e30 costs 1e30: sums over any batch stay below the largest float32.
LOWEST_LOG = -1e30


def cost(log_q: Tensor, gamma: float) -> Tensor:
    """Eq. 4:  f = -(1 - q)^gamma log q, elementwise; the shape of `log_q`, which is <= 0."""
    if gamma == 0:
        return -log_q
    return -_miss(log_q).pow(gamma) * log_q


def slope(log_q: Tensor, gamma: float) -> Tensor:
    """df / d log q = gamma q (1 - q)^(gamma - 1) log q - (1 - q)^gamma, elementwise.

    For gamma = 0 that is -1 everywhere, which takes no log q to know.
    """
    miss = _miss(log_q)
    return gamma * log_q.exp() * miss.pow(gamma - 1) * log_q - miss.pow(gamma)


def _miss(log_q: Tensor) -> Tensor:
    """1 - q without cancellation; never 0, because 0^(gamma - 1) is infinite for gamma < 1."""
    return (-log_q.expm1()).clamp_min(torch.finfo(log_q.dtype).tiny)
