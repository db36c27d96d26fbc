"""The sums and their gradient for the binary task (C = 1), on one piece of a batch.

z logits, y truth in {0, 1}, w weight of a pixel (0 where ignored), v 1 where valid; all (b, n).
With p = sigmoid(z), x = z where y = 1 and -z elsewhere, q = sigmoid(x) the probability of the
pixel's own side:

    inside = sum of w p over y = 1                     truth = sum of w over y = 1
    outside = sum of v p over y = 0                    pointwise = sum of w f(log q)

Let I, O, E be the derivatives of the loss by inside, outside, pointwise. From
dp / dz = p (1 - p) and d log q / dx = 1 - q follows, for a valid pixel,

    dL / dz = p (1 - p) w I + (1 - q) w E f'(log q)    where y = 1
    dL / dz = p (1 - p) O - (1 - q) w E f'(log q)      where y = 0
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from seglab.losses.pointwise import LOWEST_LOG, cost, slope
from seglab.ops import IGNORE


def sums(z: Tensor, labels: Tensor, weights: Tensor | None, gamma: float | None) -> list[Tensor]:
    """inside, outside, truth (b, 1), pointwise and number of valid pixels (b,), all float64.

    Args:
        z: (b, 1, n) float32 or float64. labels: (b, n) integers. weights: (b, n) or None for 1.
        gamma: exponent of the pointwise cost; None leaves it out (0).
    """
    z = z.squeeze(1)
    y, valid, w = _truth(z, labels, weights)
    pointwise = z.new_zeros(len(z), dtype=torch.float64)
    if gamma is not None:
        pointwise = _sum(w * cost(_log_of_truth(_own_side(z, y)), gamma))
    # In place from here on: fresh memory costs more than the arithmetic.
    pixels = _sum(valid)
    p = z.sigmoid().mul_(valid)
    hits = p * y
    outside = _sum(p.sub_(hits))
    inside, truth = _sum(hits.mul_(w)), _sum(y.mul_(w))
    by_class = (total[:, None] for total in (inside, outside, truth))
    return [*by_class, pointwise, pixels]


def gradient(
    z: Tensor,
    labels: Tensor,
    weights: Tensor | None,
    gamma: float | None,
    by_inside: Tensor | None,
    by_outside: Tensor | None,
    by_pointwise: Tensor | None,
) -> Tensor:
    """(b, 1, n) dL/dz; see the module. by_inside, by_outside (b, 1), by_pointwise (b,) or None.

    None is a sum that the loss does not use.
    """
    z = z.squeeze(1)
    y, valid, w = _truth(z, labels, weights)
    by_z = torch.zeros_like(z)
    if by_pointwise is not None and gamma is not None:
        x = _own_side(z, y)
        by_x = w * (-x).sigmoid() * by_pointwise[:, None]
        by_x *= slope(_log_of_truth(x), gamma) if gamma > 0 else -1.0
        by_z = _own_side(by_x, y)
    if by_inside is None and by_outside is None:
        return by_z.unsqueeze(1)
    # In place from here on, as above.
    by_p = valid.sub(y).mul_(0.0 if by_outside is None else by_outside)
    if by_inside is not None:
        by_p += y.mul_(w).mul_(by_inside)
    p = z.sigmoid()
    by_p.mul_(p).mul_(p.neg_().add_(1))
    return by_z.add_(by_p).unsqueeze(1)


def _truth(z: Tensor, labels: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """y (0 where ignored), v and w in the precision of z; all (b, n)."""
    valid = labels.to(z.dtype, copy=True).ne_(IGNORE)
    y = labels.to(z.dtype, copy=True).eq_(1)
    return y, valid, valid if weights is None else valid * weights


def _sum(plane: Tensor) -> Tensor:
    return plane.sum(dim=1).double()


def _own_side(z: Tensor, y: Tensor) -> Tensor:
    """z on the foreground, -z elsewhere."""
    return z * (2 * y - 1)


def _log_of_truth(x: Tensor) -> Tensor:
    return F.logsigmoid(x).clamp_min(LOWEST_LOG)
