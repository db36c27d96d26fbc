"""True positives, false positives and false negatives, of the region and of the boundary bands.

Integers per image and class, never a score: they add up over images, batches and processes in any
order to the same numbers. `Meter` gives the region and all the widths of a run in one go.
"""

import cv2
import numpy as np
import torch
from torch import Tensor

from seglab.metrics.bands import banded_labels
from seglab.ops import IGNORE

EXACT = 2**24  # OpenCV counts in float32, in which every integer up to here exists


def region_counts(predicted: Tensor, target: Tensor, num_classes: int) -> Tensor:
    """(B, H, W) class indices, twice -> (B, K, 3) int64: tp, fp, fn of each image and class.

    Or of each volume: (B, D, H, W), twice; so in all that follows.

    tp = pixels of class c in both, fp = in the prediction alone, fn = in the truth alone.

    Args:
        predicted: labels below num_classes (0 and 1 for num_classes = 1), or 255: no class.
        target: the same, but 255 takes the pixel out of every count.
            Any integer types, both on the same device, which is that of the counts.
        num_classes: channels of the logits; 1 is a binary task, K = 1 and label 1 is counted.
    """
    predicted, target = prepared(predicted, target, num_classes)
    return tallies(predicted, target, num_classes, [0]).squeeze(2)


def boundary_counts(predicted: Tensor, target: Tensor, num_classes: int, d: int) -> Tensor:
    """(B, H, W) class indices, twice -> (B, K, 3) int64: tp, fp, fn of the bands of d pixels.

    tp = pixels in the bands of class c of both, fp = in that of the prediction alone, fn = in that
    of the truth alone; tp / (tp + fp + fn) is the boundary IoU of Cheng et al. 2021. The bands are
    those of `seglab.metrics.bands`; arguments as for `region_counts`.
    """
    return boundary_counts_many(predicted, target, num_classes, [d]).squeeze(2)


def boundary_counts_many(
    predicted: Tensor, target: Tensor, num_classes: int, widths: list[int]
) -> Tensor:
    """`boundary_counts` at several widths in pixels, in any order: (B, K, len(widths), 3) int64."""
    predicted, target = prepared(predicted, target, num_classes)
    return tallies(predicted, target, num_classes, widths)


def prepared(predicted: Tensor, target: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Both as uint8, the prediction 255 where the truth is.

    Every count passes this door, so it is here that shapes and labels are asserted. The values
    are looked at on a CPU alone: elsewhere that would wait for the device.
    """
    assert predicted.ndim in (3, 4), f"(B, H, W) label maps, not {tuple(predicted.shape)}"
    assert predicted.shape == target.shape, f"{tuple(predicted.shape)}, {tuple(target.shape)}"
    assert not (predicted.is_floating_point() or target.is_floating_point()), "labels are integers"
    assert 1 <= num_classes <= IGNORE, f"num_classes is {num_classes}"
    form = _prepared_with_numpy if predicted.device.type == "cpu" else _prepared_with_torch
    return form(predicted, target)


def _prepared_with_numpy(predicted: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    _assert_bytes(predicted, "predicted")
    _assert_bytes(target, "target")
    predicted, target = predicted.to(torch.uint8), target.to(torch.uint8)
    ignored = np.negative((target.numpy() == IGNORE).view(np.uint8))  # 1 -> 255, and SIMD
    return torch.from_numpy(np.bitwise_or(predicted.numpy(), ignored)), target


def _prepared_with_torch(predicted: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    predicted, target = predicted.to(torch.uint8), target.to(torch.uint8)
    return torch.where(target == IGNORE, target, predicted), target


def _assert_bytes(labels: Tensor, name: str) -> None:
    values = labels.numpy()
    if values.dtype != np.uint8 and values.size:
        low, high = values.min(), values.max()
        assert low >= 0, f"{name} holds the label {low}"
        assert high <= IGNORE, f"{name} holds the label {high}"


def tallies(predicted: Tensor, target: Tensor, num_classes: int, widths: list[int]) -> Tensor:
    """Prepared label maps -> (B, K, len(widths), 3) int64: tp, fp, fn of the bands of each width.

    A width of 0 is the region.
    """
    pairs = {0: (predicted, target)}
    ascending = sorted(set(widths) - {0})
    if ascending:
        banded = (banded_labels(labels, ascending) for labels in (predicted, target))
        pairs |= zip(ascending, zip(*banded, strict=True), strict=True)
    wanted = list(dict.fromkeys(widths))
    form = _tally_with_opencv if predicted.device.type == "cpu" else _tally_with_sums
    pixels = form([pairs[d] for d in wanted], max(num_classes, 2))
    agreed, claimed, true = pixels.unbind(-1)
    counts = torch.stack([agreed, claimed - agreed, true - agreed], dim=-1)
    counts = counts[:, 1:] if num_classes == 1 else counts
    return torch.stack([counts[:, :, wanted.index(d)] for d in widths], dim=2)


def _tally_with_opencv(pairs: list[tuple[Tensor, Tensor]], num_labels: int) -> Tensor:
    """-> (B, num_labels, len(pairs), 3) int64 pixels of each label: in both, predicted, true.

    Args:
        pairs: prediction and truth, (B, H, W) or (B, D, H, W) uint8; 255 = no class.
    """
    pixels = np.empty((len(pairs[0][0]), num_labels, len(pairs), 3), np.int64)
    for number, (predicted, target) in enumerate(pairs):
        rows = zip(pixels[:, :, number], predicted.numpy(), target.numpy(), strict=True)
        for row, ours, true in rows:
            joint = _confusion(ours, true)
            row[:, 0] = joint.diagonal()[:num_labels]
            row[:, 1] = joint[:, :num_labels].sum(axis=0)
            row[:, 2] = joint[:num_labels].sum(axis=1)
            nowhere = joint[:, IGNORE].sum(), joint[IGNORE].sum()
            assert (row[:, 1:].sum(axis=0) + nowhere == ours.size).all(), (
                f"predicted or target holds a label from {num_labels} to {IGNORE - 1}"
            )
    return torch.from_numpy(pixels)


def _confusion(predicted: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(H, W) or (D, H, W) uint8 labels, twice -> (256, 256) float64 pixels: truth, prediction.

    One histogram of the two bytes read as one 16-bit number: faster than three of one byte each,
    whose neighbours fall into the same bin.
    """
    joint = np.zeros((IGNORE + 1, IGNORE + 1))
    if target.ndim == 3:  # slices of a volume, one below the other
        depth, height, width = target.shape
        predicted = predicted.reshape(depth * height, width)
        target = target.reshape(depth * height, width)
    rows = max(1, EXACT // target.shape[1])
    for top in range(0, len(target), rows):
        part = slice(top, top + rows)
        codes = cv2.merge((predicted[part], target[part])).view(np.uint16)
        joint += cv2.calcHist([codes], [0], None, [2**16], [0, 2**16]).reshape(joint.shape)
    return joint


def _tally_with_sums(pairs: list[tuple[Tensor, Tensor]], num_labels: int) -> Tensor:
    """The same integers, label by label: no atomics, no wait for the device, no one-hot planes.

    All maps at once, because launching kernels, not counting, is what would take the time.
    """
    maps = [
        labels
        for predicted, target in pairs
        for labels in (torch.where(predicted == target, target, IGNORE), predicted, target)
    ]
    flat = torch.stack(maps, dim=1).flatten(2)  # (B, 3 x pairs, N) uint8
    pixels = torch.stack([(flat == label).sum(2) for label in range(num_labels)], dim=1)
    return pixels.unflatten(2, (len(pairs), 3))
