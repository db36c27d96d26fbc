"""Boundary bands of all the classes of a label map at once.

Cheng, Girshick, Dollar, Berg, Kirillov. "Boundary IoU: improving object-centric image segmentation
evaluation." CVPR 2021. https://arxiv.org/abs/2103.16562

The band of a mask is the set of its pixels at chessboard distance <= d from a pixel outside it, the
outside of the image included. The reference tool pads each class's mask by one pixel, erodes it d
times with a 3 x 3 square and subtracts. Class masks partition the image, so for every class at once
a pixel is in a band exactly if its (2d + 1) x (2d + 1) window holds a second label or leaves the
image. With E = the pixels for which that is so at d = 1 (the edge set), it is so at d exactly if E
has a pixel within d - 1: one 3 x 3 minimum and maximum, and one dilation, whatever the number of
classes. A wider band dilates a narrower one, so several widths cost what the widest does.
"""

import math
from collections.abc import Iterator

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from seglab.ops import IGNORE


def boundary_width(height: int, width: int, ratio: float) -> int:
    """d = max(1, round(ratio sqrt(height^2 + width^2))) in pixels; a half goes to the even number.

    Cheng et al. 2021; ratio = 0.02 in the COCO tools, 0.005 in the Cityscapes tools. 256 x 256 at
    0.02 is 7, 512 x 512 is 14, 1024 x 2048 is 46.
    """
    return max(1, round(ratio * math.sqrt(height**2 + width**2)))


def boundary_band(labels: Tensor, d: int) -> Tensor:
    """(B, H, W) integer labels -> (B, H, W) bool: in the band of d pixels of the pixel's own class.

    Every label has a band, the background too: `boundary_band(labels, d) & (labels == c)` is that
    of class c. Ignored pixels (255) are in none. Device: that of the labels.
    """
    return next(banded_labels(labels.to(torch.uint8), [d])) != IGNORE


def banded_labels(labels: Tensor, widths: list[int]) -> Iterator[Tensor]:
    """(B, H, W) uint8 labels -> for each width the (B, H, W) uint8 labels, 255 outside the bands.

    Args:
        widths: pixels, each >= 1, in ascending order.
    """
    assert widths == sorted(widths), f"widths must ascend: {widths}"
    assert all(d >= 1 for d in widths), f"a band is at least one pixel wide: {widths}"
    form = _with_opencv if labels.device.type == "cpu" else _with_pooling
    return form(labels.contiguous(), widths)


def _with_opencv(labels: Tensor, widths: list[int]) -> Iterator[Tensor]:
    """50 to 500 times as fast as pooling on a CPU: OpenCV's morphology takes bytes, with SIMD.

    For two widths, widening the band costs half of a chessboard distance transform cut twice.
    """
    maps = labels.numpy()
    inner = np.empty_like(maps)  # 255 outside the bands, 0 within, to be or-ed with the labels
    for image, plane in zip(maps, inner, strict=True):
        square = np.ones((3, 3), np.uint8)
        cv2.compare(cv2.erode(image, square), cv2.dilate(image, square), cv2.CMP_EQ, dst=plane)
        plane[0], plane[-1], plane[:, 0], plane[:, -1] = 0, 0, 0, 0
    reached = 1
    for d in widths:
        if d > reached:
            square = np.ones((2 * (d - reached) + 1,) * 2, np.uint8)
            for plane in inner:
                cv2.erode(plane, square, dst=plane)
            reached = d
        yield torch.from_numpy(np.bitwise_or(maps, inner))


def _with_pooling(labels: Tensor, widths: list[int]) -> Iterator[Tensor]:
    """The same bytes through max pooling, for devices other than the CPU."""
    maps = labels.unsqueeze(1).float()  # pooling has no integer kernels; small integers are exact
    band = (_dilated(maps, 1) != -_dilated(-maps, 1)).float()
    band[..., 0, :], band[..., -1, :], band[..., :, 0], band[..., :, -1] = 1, 1, 1, 1
    reached = 1
    for d in widths:
        if d > reached:
            band = _dilated(band, d - reached)
            reached = d
        yield labels.masked_fill(band.squeeze(1) == 0, IGNORE)


def _dilated(maps: Tensor, radius: int) -> Tensor:
    """(B, 1, H, W) -> the maximum over (2 radius + 1)^2 windows cut at the image border."""
    size = 2 * radius + 1
    maps = F.max_pool2d(maps, (size, 1), stride=1, padding=(radius, 0))
    return F.max_pool2d(maps, (1, size), stride=1, padding=(0, radius))
