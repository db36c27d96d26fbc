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
    y, valid = _truth(z, labels)
    pointwise = z.new_zeros(len(z), dtype=torch.float64)
    if gamma is not None:
        costs = cost(_log_of_truth(_own_side(z, y)), gamma)
        pointwise = _sum(_times(_times(costs, weights), valid))
    pixels = torch.full_like(pointwise, z.shape[1]) if valid is None else _sum(valid)
    p = z.sigmoid()
    outside = _sum(_times(torch.addcmul(p, p, y, value=-1), valid))  # p - p y
    of_truth = _times(y, weights)
    truth = _sum(of_truth)
    inside = _sum(of_truth.mul_(p))
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
    y, valid = _truth(z, labels)
    parts = []
    if by_pointwise is not None and gamma is not None:
        x = _own_side(z, y)
        by_x = _times((-x).sigmoid(), weights) * by_pointwise[:, None]
        by_x *= slope(_log_of_truth(x), gamma) if gamma > 0 else -1.0
        parts.append(_own_side(by_x, y))
    if by_inside is not None or by_outside is not None:
        by_p = torch.zeros_like(z) if by_outside is None else (y * -by_outside).add_(by_outside)
        if by_inside is not None:
            by_p += _times(y, weights).mul_(by_inside)
        parts.append(torch.ops.aten.sigmoid_backward(by_p, z.sigmoid()))  # by_p p (1 - p)
    by_z = sum(parts[1:], parts[0]) if parts else torch.zeros_like(z)
    return _times(by_z, valid).unsqueeze(1)


# The planes are numbers, most steps are in place, and none has three operands of which one is a
# number for each image: torch takes several times as long for bool, for fresh memory, for those.


def _truth(z: Tensor, labels: Tensor) -> tuple[Tensor, Tensor | None]:
    """y (0 where ignored) and v in the precision of z, both (b, n); v None: all are valid."""
    y = labels.to(z.dtype, copy=True)
    may_ask = z.device.type == "cpu"  # elsewhere it is to wait
    if may_ask and (not y.numel() or y.max() < IGNORE):
        return y.eq_(1), None
    valid = y.ne(IGNORE).to(z.dtype)
    return y.eq_(1), valid


def _times(plane: Tensor, factor: Tensor | None) -> Tensor:
    """In place; None is 1."""
    return plane if factor is None else plane.mul_(factor)


def _sum(plane: Tensor) -> Tensor:
    return plane.sum(dim=1).double()


def _own_side(z: Tensor, y: Tensor) -> Tensor:
    """z on the foreground, -z elsewhere."""
    return z * (2 * y - 1)


def _log_of_truth(x: Tensor) -> Tensor:
    return F.logsigmoid(x).clamp_min(LOWEST_LOG)
