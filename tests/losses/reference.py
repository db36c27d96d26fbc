"""The losses in textbook form: dense one-hot masks, one SciPy transform per class, autograd.

Slow and plain on purpose, and independent of seglab but for the ignore label: what the package
computes is compared with this. Symbols as in the equations: y one-hot truth, p probability, both
(B, K, N) and zero where ignored.
"""

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

IGNORE = 255


def truth_and_probability(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """y, p (B, K, N) and valid (B, 1, N), in the precision of the logits."""
    z, labels = logits.flatten(2), target.flatten(1).unsqueeze(1)
    valid = labels != IGNORE
    if z.shape[1] == 1:
        y, p = labels == 1, z.sigmoid()
    else:
        y, p = labels == torch.arange(z.shape[1]).view(1, -1, 1), z.softmax(dim=1)
    return (y & valid).to(z.dtype), p * valid, valid


def dice(logits: Tensor, target: Tensor, smooth: float = 1.0) -> Tensor:
    y, p, _ = truth_and_probability(logits, target)
    hit, total = (y * p).sum((1, 2)), y.sum((1, 2)) + p.sum((1, 2))
    return (1 - (smooth + 2 * hit) / (smooth + total)).mean()


def iou(logits: Tensor, target: Tensor, smooth: float = 1.0) -> Tensor:
    y, p, _ = truth_and_probability(logits, target)
    hit, union = (y * p).sum((1, 2)), (y + p - y * p).sum((1, 2))
    return (1 - (smooth + hit) / (smooth + union)).mean()


def focal(logits: Tensor, target: Tensor, gamma: float = 2.0) -> Tensor:
    y, _, valid = truth_and_probability(logits, target)
    z = logits.flatten(2)
    if z.shape[1] == 1:
        log_p = torch.nn.functional.logsigmoid(torch.where(y == 1, z, -z))
        log_q = log_p.squeeze(1)[valid.squeeze(1)]
    else:
        log_q = (y * z.log_softmax(dim=1)).sum(1)[valid.squeeze(1)]
    return (-((1 - log_q.exp()) ** gamma) * log_q).sum() / max(int(valid.sum()), 1)


def ce(logits: Tensor, target: Tensor) -> Tensor:
    return focal(logits, target, gamma=0.0)


def combo(logits: Tensor, target: Tensor) -> Tensor:
    return dice(logits, target) + ce(logits, target)


def dice_focal(logits: Tensor, target: Tensor) -> Tensor:
    return dice(logits, target) + focal(logits, target)


def depth(mask: np.ndarray, distance: str) -> np.ndarray:
    """Distance of each pixel of the mask to the nearest pixel off it; inf where there is none."""
    if mask.all():
        return np.full(mask.shape, np.inf)
    if distance == "euclidean":
        return ndimage.distance_transform_edt(mask)
    return ndimage.distance_transform_cdt(mask, metric="chessboard").astype(float)


def weights(mask: np.ndarray, distance: str) -> np.ndarray:
    """Steps 1 to 4 of the thesis for one class of one image."""
    if mask.all():
        return np.ones(mask.shape)
    d = depth(mask, distance)
    reversed_map = (d.max() - d) * mask
    return reversed_map / reversed_map.max() if reversed_map.max() > 0 else mask.astype(float)


def dist(
    logits: Tensor, target: Tensor, distance: str = "euclidean", class_reduction: str = "mean"
) -> Tensor:
    y, p, valid = truth_and_probability(logits, target)
    losses = []
    for image in range(len(target)):
        ratios = []
        for c in range(y.shape[1]):
            mask = y[image, c].view(target.shape[1:]).numpy() > 0
            if mask.any():
                w = torch.from_numpy(weights(mask, distance)).flatten().to(p.dtype)
                outside = (p[image, c] * (1 - y[image, c]) * valid[image, 0]).sum()
                ratios.append((w * p[image, c]).sum() / (w.sum() + outside))
        score = sum(ratios) if ratios else logits[image].sum() * 0
        losses.append(1 - (score / max(len(ratios), 1) if class_reduction == "mean" else score))
    return torch.stack(losses).mean()
