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

In a volume (D, H, W) the squares are cubes: d is in voxels along each axis, whatever their size in
millimetres. For distances in millimetres see `surface.py`.
"""

import math
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from seglab.ops import IGNORE


def boundary_width(shape: Sequence[int], ratio: float) -> int:
    """d = max(1, round(ratio sqrt(H^2 + W^2))) in pixels; a half goes to the even number.

    Cheng et al. 2021; ratio = 0.02 in the COCO tools, 0.005 in the Cityscapes tools. 256 x 256 at
    0.02 is 7, 512 x 512 is 14, 1024 x 2048 is 46. Of a volume (D, H, W) it is the space diagonal.
    """
    return max(1, round(ratio * math.sqrt(sum(side**2 for side in shape))))


def boundary_band(labels: Tensor, d: int) -> Tensor:
    """(B, H, W) integer labels -> (B, H, W) bool: in the band of d pixels of the pixel's own class.

    Or (B, D, H, W), both.

    Every label has a band, the background too: `boundary_band(labels, d) & (labels == c)` is that
    of class c. Ignored pixels (255) are in none. Device: that of the labels.
    """
    return next(banded_labels(labels.to(torch.uint8), [d])) != IGNORE


def banded_labels(labels: Tensor, widths: list[int]) -> Iterator[Tensor]:
    """(B, H, W) uint8 labels -> for each width the (B, H, W) uint8 labels, 255 outside the bands.

    Or (B, D, H, W), both.

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
    inner = _far_from_others(maps)
    reached = 1
    for d in widths:
        if d > reached:
            square = np.ones((2 * (d - reached) + 1,) * 2, np.uint8)
            for plane in _planes(inner):
                cv2.erode(plane, square, dst=plane)
            if maps.ndim == 4:
                inner = ndimage.minimum_filter1d(inner, 2 * (d - reached) + 1, axis=1)
            reached = d
        yield torch.from_numpy(np.bitwise_or(maps, inner))


def _far_from_others(maps: np.ndarray) -> np.ndarray:
    """255 outside the bands of one pixel, 0 within, to be or-ed with the labels."""
    inner, square = np.empty_like(maps), np.ones((3, 3), np.uint8)
    if maps.ndim == 3:
        for image, plane in zip(maps, inner, strict=True):
            cv2.compare(cv2.erode(image, square), cv2.dilate(image, square), cv2.CMP_EQ, dst=plane)
    else:
        low, high = np.empty_like(maps), np.empty_like(maps)
        for image, least, most in zip(*map(_planes, (maps, low, high)), strict=True):
            cv2.erode(image, square, dst=least)
            cv2.dilate(image, square, dst=most)
        low = ndimage.minimum_filter1d(low, 3, axis=1)
        high = ndimage.maximum_filter1d(high, 3, axis=1)
        np.multiply(low == high, np.uint8(IGNORE), out=inner)
        inner[:, 0], inner[:, -1] = 0, 0
    inner[..., 0, :], inner[..., -1, :], inner[..., 0], inner[..., -1] = 0, 0, 0, 0
    return inner


def _planes(maps: np.ndarray) -> np.ndarray:
    """(B, H, W), or (B, D, H, W) -> (N, H, W), a view."""
    return maps.reshape(-1, *maps.shape[-2:])


def _with_pooling(labels: Tensor, widths: list[int]) -> Iterator[Tensor]:
    """The same bytes through max pooling, for devices other than the CPU."""
    maps = labels.unsqueeze(1).float()  # pooling has no integer kernels; small integers are exact
    band = (_dilated(maps, 1) != -_dilated(-maps, 1)).float()
    for axis in range(2, band.ndim):
        band.select(axis, 0).fill_(1)
        band.select(axis, -1).fill_(1)
    reached = 1
    for d in widths:
        if d > reached:
            band = _dilated(band, d - reached)
            reached = d
        yield labels.masked_fill(band.squeeze(1) == 0, IGNORE)


def _dilated(maps: Tensor, radius: int) -> Tensor:
    """(B, 1, H, W) or (B, 1, D, H, W) -> the maximum over cubes of side 2 radius + 1.

    Windows are cut at the border of the image.
    """
    axes = maps.ndim - 2
    pool = F.max_pool2d if axes == 2 else F.max_pool3d
    for axis in range(axes):
        along = [int(other == axis) for other in range(axes)]
        size = [2 * radius * here + 1 for here in along]
        maps = pool(maps, size, stride=1, padding=[radius * here for here in along])
    return maps
