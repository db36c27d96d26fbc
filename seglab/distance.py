"""Exact distance transforms of label maps: how far is the nearest pixel of another label?

Labels partition an image, so this one transform holds the distance transform of every class's
mask at once. The ignore label is a label like any other. The image border is not background:
where an image has a single label, no pixel of another exists, and the distance is infinite.

The `_map` functions take one NumPy map, for a data loader's workers; the others take a batch of
tensors on any device. Distances are in pixels, or in the unit of `spacing`.

On CUDA `squared_euclidean` and `chessboard` stay there: Triton kernels (seglab/kernels) transform
the whole batch, exactly and for all labels at once, without a copy to the CPU or a
synchronisation. They need nothing else of this package, so

    depth = squared_euclidean(labels_on_cuda).sqrt()  # (B, H, W) integers -> (B, H, W) float32

is a GPU distance transform by itself, which PyTorch has none of (pytorch/pytorch#61509); that of
a binary mask is the part of it inside the mask. Volumes take the way by the CPU on any device.

Felzenszwalb, Huttenlocher. "Distance transforms of sampled functions." Theory of Computing 2012.
Borgefors. "Distance transformations in digital images." CVGIP 1986 (chessboard).
"""

import math
from collections.abc import Callable, Sequence

import cv2
import edt
import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from seglab import kernels

MOST_LABELS = 65535  # what uint16 holds besides 0, the edt package's background

# OpenCV's transform works in float32, and by one thread with another library's code. In boxes of up
# to 2048 pixels a side every distance below 885 was the right integer when squared, by any number
# of threads; further away, and in wider boxes, some were off by 1 to 18.
OPENCV_SIDE = 2048
OPENCV_DISTANCE = 700


def checked_spacing(spacing: Sequence[float] | None, axes: int | None = None) -> list[float] | None:
    """The size of a pixel along each spatial axis as floats; None stays None, which is 1.

    Args:
        axes: how many there are; None where that is not known yet.

    Errors: ValueError that names `spacing`, for what is not one positive number for each axis.
    """
    if spacing is None:
        return None
    try:
        steps = [float(step) for step in spacing]
    except (TypeError, ValueError):  # one number alone, or a word
        steps = []
    positive = bool(steps) and all(0 < step < math.inf for step in steps)
    if not positive or axes not in (None, len(steps)):
        raise ValueError(
            f"spacing={spacing}: must be {'' if axes is None else f'{axes} '}positive numbers, one "
            "for each spatial axis (two for images, three for volumes), or null"
        )
    return steps


def squared_euclidean(labels: Tensor, spacing: Sequence[float] | None = None) -> Tensor:
    """(B, H, W) integers -> (B, H, W) float32 squared distance to the nearest other label.

    inf where the image has no other label. Exact integers up to 2^24 (a distance of 4096 pixels)
    without spacing. Volumes (B, D, H, W) are accepted.

    Args:
        spacing: size of a pixel along each spatial axis, in the order of the axes; None is 1.

    Errors: ValueError for a spacing that is not one positive number for each spatial axis.
    """
    return _squared_euclidean(labels, checked_spacing(spacing, labels.ndim - 1))


def chessboard(labels: Tensor) -> Tensor:
    """(B, H, W) integers -> (B, H, W) float32 chessboard distance to the nearest other label.

    The chessboard distance of two pixels is the larger of their row and column differences.
    inf where the image has no other label. Volumes (B, D, H, W) are accepted.
    """
    return _chessboard(labels)


def squared_euclidean_map(labels: np.ndarray, spacing: Sequence[float] | None = None) -> np.ndarray:
    """`squared_euclidean` of one (H, W) or (D, H, W) array of integers -> float32, same shape."""
    steps = checked_spacing(spacing, labels.ndim)
    return edt.edtsq(_compact(labels), anisotropy=None if steps is None else tuple(steps))


def chessboard_map(labels: np.ndarray) -> np.ndarray:
    """`chessboard` of one (H, W) or (D, H, W) array of integers -> float32, same shape.

    The pixel before the nearest other label touches it, by side or corner, and lies one step
    nearer. So D = 1 + the distance to the nearest pixel that touches another label.
    """
    labels = _compact(labels)
    if labels.ndim == 2:
        inner = cv2.dilate(labels, _SQUARE) == cv2.erode(labels, _SQUARE)
    else:
        highest = ndimage.maximum_filter(labels, size=3, mode="nearest")
        inner = highest == ndimage.minimum_filter(labels, size=3, mode="nearest")
    if inner.all():
        return np.full(labels.shape, np.inf, dtype=np.float32)
    if labels.ndim == 2:
        return 1 + cv2.distanceTransform(inner.view(np.uint8), cv2.DIST_C, 3)
    return 1 + ndimage.distance_transform_cdt(inner, metric="chessboard").astype(np.float32)


def depth_map(mask: np.ndarray, metric: str) -> np.ndarray:
    """(H, W) bool -> (H, W) float32: from a pixel of the mask to the nearest one that is not of it.

    0 outside the mask, inf everywhere where nothing is outside. What the label maps above give
    inside the mask, in a third of the time, because the rest of the image is not looked at.

    Args:
        metric: "euclidean" or "chessboard".
    """
    if mask.all():
        return np.full(mask.shape, np.inf, dtype=np.float32)
    euclidean = metric == "euclidean"
    inside = mask.view(np.uint8)
    depth = np.zeros(mask.shape, dtype=np.float32)
    left, top, columns, rows = cv2.boundingRect(inside)
    ring = (slice(max(top - 1, 0), top + rows + 1), slice(max(left - 1, 0), left + columns + 1))
    kind, size = (cv2.DIST_L2, cv2.DIST_MASK_PRECISE) if euclidean else (cv2.DIST_C, 3)
    found = cv2.distanceTransform(inside[ring], kind, size)
    if euclidean and (max(found.shape) > OPENCV_SIDE or found.max() > OPENCV_DISTANCE):
        return np.sqrt(squared_euclidean_map(inside)) * mask
    # OpenCV's square root is a rounding away from the nearest float of some whole squares.
    if euclidean:
        np.rint(np.multiply(found, found, out=found), out=found)
        np.sqrt(found, out=found)
    depth[ring] = found
    return depth


_SQUARE = np.ones((3, 3), dtype=np.uint8)  # outside the image it sees nothing


def _compact(labels: np.ndarray) -> np.ndarray:
    """The same partition as contiguous uint16 from 1 on; 255 + 1 would be 0 in uint8.

    Labels further apart than uint16 reaches are numbered anew.

    Errors: ValueError above 65535 different labels.
    """
    lowest, highest = int(labels.min()), int(labels.max())
    if highest - lowest < MOST_LABELS:
        shifted = np.subtract(labels, lowest - 1, dtype=np.int64)
        return np.ascontiguousarray(shifted, dtype=np.uint16)
    names, numbers = np.unique(labels, return_inverse=True)
    if len(names) > MOST_LABELS:
        raise ValueError(f"a map of {len(names)} different labels; at most {MOST_LABELS} work")
    return (numbers.reshape(labels.shape) + 1).astype(np.uint16)


# Operators of their own: torch.compile does not look inside, and kernels for another device
# can be registered beside this form.


@torch.library.custom_op("seglab::squared_euclidean", mutates_args=())
def _squared_euclidean(labels: Tensor, spacing: Sequence[float] | None) -> Tensor:
    return _on_the_cpu(labels, lambda image: squared_euclidean_map(image, spacing))


@torch.library.custom_op("seglab::chessboard", mutates_args=())
def _chessboard(labels: Tensor) -> Tensor:
    return _on_the_cpu(labels, chessboard_map)


@_squared_euclidean.register_kernel("cuda")
def squared_euclidean_on_cuda(labels: Tensor, spacing: Sequence[float] | None) -> Tensor:
    if not _kernels_serve(labels):
        return _on_the_cpu(labels, lambda image: squared_euclidean_map(image, spacing))
    from seglab.kernels import distance as triton_form  # it imports Triton

    return triton_form.squared_euclidean(labels, spacing)


@_chessboard.register_kernel("cuda")
def chessboard_on_cuda(labels: Tensor) -> Tensor:
    if not _kernels_serve(labels):
        return _on_the_cpu(labels, chessboard_map)
    from seglab.kernels import distance as triton_form

    return triton_form.chessboard(labels)


def _kernels_serve(labels: Tensor) -> bool:
    return labels.ndim == 3 and kernels.chosen(labels.device)


@_squared_euclidean.register_fake
def _(labels: Tensor, spacing: Sequence[float] | None) -> Tensor:  # noqa: ARG001
    return labels.new_empty(labels.shape, dtype=torch.float32)


@_chessboard.register_fake
def _(labels: Tensor) -> Tensor:
    return labels.new_empty(labels.shape, dtype=torch.float32)


def _on_the_cpu(labels: Tensor, transform: Callable[[np.ndarray], np.ndarray]) -> Tensor:
    """transform of each image, and back to the device of `labels`: the only such round trip."""
    images = labels.cpu().numpy()
    maps = torch.empty(labels.shape, dtype=torch.float32)
    for image, out in zip(images, maps, strict=True):
        out.copy_(torch.from_numpy(transform(image)))
    return maps.to(labels.device)
