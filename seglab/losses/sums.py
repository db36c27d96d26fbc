"""The sums over pixels that the losses are functions of, in one pass over the logits.

A loss such as Dice is a ratio of sums over pixels. The textbook form builds probabilities and
one-hot masks as large as the logits, and differentiates through each. Here the forward pass reads
the logits once and keeps nothing but them; the loss is then a formula of a few numbers per image
and class; and the backward pass turns the derivatives by these numbers into the gradient of the
logits in closed form (softmax.py, sigmoid.py state it), recomputing the probabilities in pieces
of pixels. The extra memory is the gradient itself.

On CUDA both directions are Triton kernels (seglab/kernels), with the torch form below as their
reference, and in their place for float64 and where they cannot run or SEGLAB_TRITON=0.

Neither direction multiplies matrices, so autocast and torch.set_float32_matmul_precision
change nothing here.
"""

from collections.abc import Iterator
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from seglab import kernels
from seglab.losses import sigmoid, softmax
from seglab.ops import compute_dtype

NUMBERS_PER_PIECE = 2**19  # 2 MB of float32: in the cache of one core, or nearly
MOST_CLASSES_OF_KERNELS = 1024  # what the threads of one program hold


class Sums(NamedTuple):
    """p = probability, q = probability of a pixel's true label, w = weight of a pixel.

    K = C classes, or the foreground alone where C = 1. `truth` and `valid` carry no gradient.
    """

    inside: Tensor  # (B, K) sum of w p_c over the pixels of class c: true positives
    outside: Tensor  # (B, K) sum of p_c over the valid pixels of other classes: false positives
    truth: Tensor  # (B, K) sum of w over the pixels of class c
    pointwise: Tensor  # (B,) sum over the valid pixels of -w (1 - q)^gamma log q
    valid: Tensor  # (B,) number of valid pixels


def soft_sums(
    logits: Tensor, target: Tensor, weights: Tensor | None = None, gamma: float | None = None
) -> Sums:
    """(B, C, H, W) logits, (B, H, W) labels -> Sums, float32 (float64 for float64 logits).

    Sums over a piece of pixels are taken in that precision, sums of those in float64. Volumes
    (B, C, D, H, W) are accepted, so is any memory format: on CUDA without a copy (but for a volume
    that was cropped or turned).

    Args:
        logits: any floating dtype. target: any integer dtype, 255 is ignored.
        weights: (B, H, W) weight of each pixel as part of the truth; None is 1 everywhere.
        gamma: exponent of the pointwise cost, 0 is cross-entropy; None leaves it out (0).

    Errors: ValueError where shapes do not fit; RuntimeError (from torch) for a label >= C. The
        kernels cannot raise one without waiting for the device: there the sums of the image, hence
        any loss, are NaN.
    """
    if logits.ndim < 3 or target.shape != logits.shape[:1] + logits.shape[2:]:
        raise ValueError(
            f"logits {tuple(logits.shape)} must be (B, C, H, W) and target {tuple(target.shape)} "
            "(B, H, W), with the same B, H, W"
        )
    if gamma is not None and not float(gamma) >= 0:
        raise ValueError(f"gamma={gamma}: must be at least 0")
    if weights is not None and weights.shape != target.shape:
        raise ValueError(f"weights {tuple(weights.shape)} and target {tuple(target.shape)} differ")
    return Sums(*_SoftSums.apply(logits, target, weights, gamma))


class _SoftSums(torch.autograd.Function):
    """The fields of `Sums`."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        logits: Tensor,
        target: Tensor,
        weights: Tensor | None,
        gamma: float | None,
    ) -> tuple[Tensor, ...]:
        ctx.save_for_backward(logits, target, weights)
        ctx.gamma = gamma
        ctx.set_materialize_grads(False)
        inside, outside, truth, pointwise, valid = sums_of_batch(logits, target, weights, gamma)
        ctx.mark_non_differentiable(truth, valid)
        return inside, outside, truth, pointwise, valid

    @staticmethod
    @once_differentiable
    def backward(
        ctx: FunctionCtx,
        by_inside: Tensor | None,
        by_outside: Tensor | None,
        by_truth: Tensor | None,  # noqa: ARG004 (it has no gradient, nor has by_valid)
        by_pointwise: Tensor | None,
        by_valid: Tensor | None,  # noqa: ARG004
    ) -> tuple[Tensor | None, None, None, None]:
        logits, target, weights = ctx.saved_tensors
        grad = gradient_of_batch(
            logits, target, weights, ctx.gamma, by_inside, by_outside, by_pointwise
        )
        return grad, None, None, None


@torch.library.custom_op("seglab::soft_sums", mutates_args=())
def sums_of_batch(
    logits: Tensor, target: Tensor, weights: Tensor | None, gamma: float | None
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The fields of `Sums` in their order, from (B, C, ...) logits, without gradient.

    An operator of its own, so that torch.compile does not look inside and that kernels for
    another device can be registered beside this form.
    """
    return torch_sums(logits, target, weights, gamma)


@sums_of_batch.register_kernel("cuda")
def sums_on_cuda(
    logits: Tensor, target: Tensor, weights: Tensor | None, gamma: float | None
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    if not _kernels_serve(logits):
        return torch_sums(logits, target, weights, gamma)
    from seglab.kernels import sums as triton_form  # it imports Triton

    return triton_form.sums(logits, target, weights, gamma)


def torch_sums(
    logits: Tensor, target: Tensor, weights: Tensor | None, gamma: float | None
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """`sums_of_batch` in torch, on any device."""
    logits, target, weights = _flat(logits, target, weights)
    dtype = compute_dtype(logits)
    batch, classes, _ = logits.shape
    totals = [logits.new_zeros(batch, classes, dtype=torch.float64) for _ in range(3)]
    totals += [logits.new_zeros(batch, dtype=torch.float64) for _ in range(2)]
    for images, pixels in _pieces(logits):
        piece = _inputs(logits, target, weights, images, pixels)
        for total, part in zip(totals, _family(logits).sums(*piece, gamma), strict=True):
            total[images] += part
    inside, outside, truth, pointwise, valid = (total.to(dtype) for total in totals)
    return inside, outside, truth, pointwise, valid


@sums_of_batch.register_fake
def _(
    logits: Tensor,
    target: Tensor,  # noqa: ARG001
    weights: Tensor | None,  # noqa: ARG001
    gamma: float | None,  # noqa: ARG001
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    dtype = compute_dtype(logits)
    inside, outside, truth = (logits.new_empty(logits.shape[:2], dtype=dtype) for _ in range(3))
    pointwise, valid = (logits.new_empty(logits.shape[:1], dtype=dtype) for _ in range(2))
    return inside, outside, truth, pointwise, valid


@torch.library.custom_op("seglab::soft_sums_gradient", mutates_args=())
def gradient_of_batch(
    logits: Tensor,
    target: Tensor,
    weights: Tensor | None,
    gamma: float | None,
    by_inside: Tensor | None,
    by_outside: Tensor | None,
    by_pointwise: Tensor | None,
) -> Tensor:
    """(B, C, ...) gradient of the logits, in their dtype, from the derivatives by the sums.

    by_inside, by_outside: (B, K); by_pointwise: (B,); None where the loss does not use the sum.
    """
    tables = by_inside, by_outside, by_pointwise
    return torch_gradient(logits, target, weights, gamma, *tables)


@gradient_of_batch.register_kernel("cuda")
def gradient_on_cuda(
    logits: Tensor,
    target: Tensor,
    weights: Tensor | None,
    gamma: float | None,
    by_inside: Tensor | None,
    by_outside: Tensor | None,
    by_pointwise: Tensor | None,
) -> Tensor:
    tables = by_inside, by_outside, by_pointwise
    if not _kernels_serve(logits):
        return torch_gradient(logits, target, weights, gamma, *tables)
    from seglab.kernels import sums as triton_form

    grad = empty_gradient(logits)
    triton_form.gradient(grad, logits, target, weights, gamma, *tables)
    return grad


def torch_gradient(
    logits: Tensor,
    target: Tensor,
    weights: Tensor | None,
    gamma: float | None,
    *tables: Tensor | None,
) -> Tensor:
    """`gradient_of_batch` in torch, on any device; tables: by_inside, by_outside, by_pointwise."""
    grad = empty_gradient(logits)
    flat = grad.flatten(2)  # a view
    logits, target, weights = _flat(logits, target, weights)
    for images, pixels in _pieces(logits):
        piece = _inputs(logits, target, weights, images, pixels)
        parts = (None if table is None else table[images] for table in tables)
        flat[images, :, pixels] = _family(logits).gradient(*piece, gamma, *parts)
    return grad


@gradient_of_batch.register_fake
def _(
    logits: Tensor,
    target: Tensor,  # noqa: ARG001
    weights: Tensor | None,  # noqa: ARG001
    gamma: float | None,  # noqa: ARG001
    by_inside: Tensor | None,  # noqa: ARG001
    by_outside: Tensor | None,  # noqa: ARG001
    by_pointwise: Tensor | None,  # noqa: ARG001
) -> Tensor:
    return empty_gradient(logits)


def empty_gradient(logits: Tensor) -> Tensor:
    """Shaped as (B, C, ...) logits: channels_last where their channels lie so, else contiguous."""
    if logits.shape[1] > 1 and logits.stride(1) == 1:
        batch, classes, *pixels = logits.shape
        return logits.new_empty(batch, *pixels, classes).movedim(-1, 1)
    return logits.new_empty(logits.shape)


def _kernels_serve(logits: Tensor) -> bool:
    fits = logits.dtype != torch.float64 and logits.shape[1] <= MOST_CLASSES_OF_KERNELS
    return fits and kernels.chosen(logits.device)


def _flat(
    logits: Tensor, target: Tensor, weights: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """(B, C, N), (B, N), (B, N)."""
    return logits.flatten(2), target.flatten(1), None if weights is None else weights.flatten(1)


def _family(logits: Tensor) -> ModuleType:
    """The equations of the task: one channel is binary."""
    return sigmoid if logits.shape[1] == 1 else softmax


def _pieces(logits: Tensor) -> Iterator[tuple[slice, slice]]:
    """(images, pixels) of the pieces that cover a (B, C, N) batch.

    On the CPU about half a million numbers, several images or a part of one: they stay in the
    cache from one step to the next, no intermediate is as large as the logits, and sums in
    float32 stay short. An accelerator, where each step costs a launch, takes the batch whole.
    """
    batch, classes, pixels = logits.shape
    most = batch * pixels  # pixels in a piece
    if logits.device.type == "cpu":
        most = min(most, NUMBERS_PER_PIECE // (classes + 3))  # a pixel has a few planes of its own
    images, part = max(1, most // max(1, pixels)), max(1, min(pixels, most))
    for image in range(0, batch, images):
        for pixel in range(0, pixels, part):
            yield slice(image, image + images), slice(pixel, pixel + part)


def _inputs(
    logits: Tensor, target: Tensor, weights: Tensor | None, images: slice, pixels: slice
) -> tuple[Tensor, Tensor, Tensor | None]:
    """z, labels and weights of one piece, in the precision of the sums; pixels side by side."""
    dtype = compute_dtype(logits)
    z = logits[images, :, pixels].to(dtype)
    if z.stride(2) != 1:  # channels_last
        z = z.contiguous()
    w = None if weights is None else weights[images, pixels].to(dtype)
    return z, target[images, pixels], w
