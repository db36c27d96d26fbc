"""What the pictures of a run show: a fixed sample of a split, with what the network makes of it."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from seglab.data import module
from seglab.figures import SampleRow
from seglab.metrics import boundary_band
from seglab.ops import IGNORE

SHOWN = 4


def sample_rows(
    images: module.Images, predict: Callable[[Tensor], Tensor], width: Callable[..., int]
) -> list[SampleRow]:
    """Some samples, evenly over the split; of a volume the slice with the most foreground.

    Args:
        predict: (1, 3, H, W) uint8 or (1, channels, D, H, W) float32 -> labels (1, H, W), or
            (1, D, H, W).
        width: shape of a sample -> pixels of its boundary band.
    """
    ids = images.split.ids
    chosen = np.unique(np.linspace(0, len(ids) - 1, SHOWN).round().astype(int))
    rows = []
    for index in chosen.tolist():
        item = images[index]
        target = item["target"][None]
        predicted = predict(item["image"][None]).cpu().masked_fill(target == IGNORE, IGNORE)
        d = width(target.shape[1:])
        maps = [target, predicted, boundary_band(target, d), boundary_band(predicted, d)]
        image, title = item["image"].numpy(), ids[index]
        planes = [plane[0].numpy() for plane in maps]
        if image.ndim == 4:
            number = most_foreground(planes[0])
            title += f", slice {number}"
            image, planes = _as_bytes(image[:, number]), [plane[number] for plane in planes]
        rows.append(SampleRow(title, np.moveaxis(image, 0, -1), *planes))
    return rows


def most_foreground(target: np.ndarray) -> int:
    """(D, H, W) labels -> the number of the slice with the most pixels of classes other than 0."""
    return int(((target != 0) & (target != IGNORE)).sum(axis=(1, 2)).argmax())


def _as_bytes(image: np.ndarray) -> np.ndarray:
    """(channels, H, W) float32 -> (3, H, W) uint8, from the darkest to the brightest percent."""
    low, high = np.percentile(image, (1, 99))
    grey = np.clip((image - low) / max(high - low, 1e-6), 0, 1) * 255
    shown = grey[:3] if len(grey) >= 3 else np.repeat(grey[:1], 3, axis=0)
    return torch.from_numpy(shown).round().byte().numpy()
