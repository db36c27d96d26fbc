"""The sums and their gradient for C >= 2 classes, on one piece of a batch.

z logits (b, C, n); y true class, w weight of a pixel (0 where ignored), v 1 where valid, all
(b, n). With p = softmax(z) and q = p_y:

    inside_c = sum of w q over y = c                   truth_c = sum of w over y = c
    outside_c = sum of v p_c over y != c               pointwise = sum of w f(log q)

Let I_c, O_c, E be the derivatives of the loss by inside_c, outside_c, pointwise. From
dp_k / dz_c = p_k ([c = k] - p_c) and d log q / dz_c = [c = y] - p_c follows, for a valid pixel,

    dL / dz_c = p_c (O_c - sum_k O_k p_k - s) + [c = y] s
    s = q (w I_y - O_y) + w E f'(log q)

so that one number s per pixel and C numbers O per image say everything.
"""

import math

import torch
from torch import Tensor

from seglab.losses.pointwise import LOWEST_LOG, cost, slope
from seglab.ops import IGNORE


def sums(z: Tensor, labels: Tensor, weights: Tensor | None, gamma: float | None) -> list[Tensor]:
    """inside, outside, truth (b, C), pointwise and number of valid pixels (b,), all float64.

    Args:
        z: (b, C, n) float32 or float64. labels: (b, n) integers. weights: (b, n) or None for 1.
        gamma: exponent of the pointwise cost; None leaves it out (0).
    """
    y, valid, w = _truth(z, labels, weights)
    p, top, total = _softmax(z, valid)
    pointwise = torch.zeros_like(w)
    if gamma is not None:
        pointwise = w * cost(_log_of_truth(z, y, top, total), gamma)
    inside, truth = _per_class(w * p.gather(1, y), y, p), _per_class(w, y, p)
    outside = p.scatter_(1, y, 0.0).sum(dim=2)
    return [inside, outside.double(), truth, *(x.sum((1, 2)).double() for x in (pointwise, valid))]


def gradient(
    z: Tensor,
    labels: Tensor,
    weights: Tensor | None,
    gamma: float | None,
    by_inside: Tensor | None,
    by_outside: Tensor | None,
    by_pointwise: Tensor | None,
) -> Tensor:
    """(b, C, n) dL/dz; see the module. by_inside, by_outside (b, C), by_pointwise (b,) or None.

    None is a sum that the loss does not use.
    """
    y, valid, w = _truth(z, labels, weights)
    p, top, total = _softmax(z, valid)
    s = torch.zeros_like(w)  # (b, 1, n)
    if by_inside is not None:
        s += w * _at(by_inside, y)
    if by_outside is not None:
        s -= _at(by_outside, y)
    if by_inside is not None or by_outside is not None:
        s *= p.gather(1, y)
    if by_pointwise is not None and gamma is not None:
        by_log = slope(_log_of_truth(z, y, top, total), gamma) if gamma > 0 else -1.0
        s += w * by_log * by_pointwise[:, None, None]
    if by_outside is None:
        out = p.mul_(-s)
    else:
        pull = p * by_outside.unsqueeze(2)
        out = pull.addcmul_(p, pull.sum(dim=1, keepdim=True).add_(s), value=-1)
    return out.scatter_add_(1, y, s)


def _truth(z: Tensor, labels: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """y (int64, 0 where ignored), v and w in the precision of z; all (b, 1, n)."""
    ignored = (labels == IGNORE).unsqueeze(1)
    y = labels.long().unsqueeze(1).masked_fill(ignored, 0)
    valid = (~ignored).to(z.dtype)
    return y, valid, valid if weights is None else valid * weights.unsqueeze(1)


def _softmax(z: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """p (b, C, n), 0 where ignored; max z and sum exp(z - max z), both (b, 1, n).

    By powers of 2: torch's exp takes four times as long as exp2 on some CPUs.
    """
    top = z.amax(dim=1, keepdim=True)
    p = (z - top).mul_(math.log2(math.e)).exp2_()
    total = p.sum(dim=1, keepdim=True)
    return p.mul_(valid / total), top, total


def _log_of_truth(z: Tensor, y: Tensor, top: Tensor, total: Tensor) -> Tensor:
    """log q (b, 1, n). log(p_y) would be -inf where p_y underflows."""
    return (z.gather(1, y) - top - total.log()).clamp_min_(LOWEST_LOG)


def _per_class(plane: Tensor, y: Tensor, p: Tensor) -> Tensor:
    """(b, C) float64 sums of a (b, 1, n) plane over the pixels of each class."""
    table = torch.zeros(p.shape[:2], dtype=torch.float64, device=p.device)
    return table.scatter_add_(1, y.squeeze(1), plane.squeeze(1).double())


def _at(table: Tensor, y: Tensor) -> Tensor:
    """(b, C) numbers, one for each class -> (b, 1, n), that of each pixel's class."""
    return table.gather(1, y.squeeze(1)).unsqueeze(1)
