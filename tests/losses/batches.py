"""Random batches, and the gradient of a loss."""

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

IGNORE = 255


def label_map(rng: np.random.Generator, shape: tuple[int, ...], labels: int) -> np.ndarray:
    """A map of smooth regions and single odd pixels, labels in {0..labels-1}, int64."""
    fields = rng.standard_normal((labels, *shape))
    smooth = [0] + [min(2.0, side / 4) for side in shape]
    regions = ndimage.gaussian_filter(fields, smooth, mode="nearest").argmax(axis=0)
    odd = rng.random(shape) < 0.03
    return np.where(odd, rng.integers(labels, size=shape), regions)


def batch(
    seed: int,
    channels: int,
    shape: tuple[int, ...] = (12, 17),
    images: int = 3,
    ignored: float = 0.15,
    scale: float = 2.0,
) -> tuple[Tensor, Tensor]:
    """float32 logits (B, C, *shape) and int64 target (B, *shape) with some ignored pixels."""
    rng = np.random.default_rng(seed)
    logits = scale * rng.standard_normal((images, channels, *shape))
    target = np.stack([label_map(rng, shape, max(channels, 2)) for _ in range(images)])
    target[rng.random(target.shape) < ignored] = IGNORE
    return torch.from_numpy(logits).float(), torch.from_numpy(target)


def value_and_gradient(loss, logits: Tensor, *rest) -> tuple[Tensor, Tensor]:
    """loss(logits, *rest) and its gradient by the logits, both detached."""
    logits = logits.detach().clone().requires_grad_()
    value = loss(logits, *rest)
    (gradient,) = torch.autograd.grad(value, logits)
    return value.detach(), gradient


def one_sided(target: Tensor, channels: int, height: float) -> Tensor:
    """Logits that give each pixel's label +height and the other labels -height."""
    known = target.masked_fill(target == IGNORE, 0)
    if channels == 1:
        return (2.0 * (known == 1) - 1).unsqueeze(1) * height
    labels = torch.arange(channels).view(1, -1, *[1] * (target.ndim - 1))
    return (2.0 * (known.unsqueeze(1) == labels) - 1) * height
