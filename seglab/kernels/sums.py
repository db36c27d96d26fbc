"""The sums over pixels that the losses are functions of, and their gradient, as Triton kernels.

losses/sums.py says what the sums are, losses/softmax.py and losses/sigmoid.py state the
equations. A program takes some tiles of BLOCK pixels with all their classes, one after the other;
a pixel's logits are read once in the forward pass and once, with the softmax computed anew, in
the backward pass. Sums over the pixels of a program are float32, written to a table of partial
sums and added up in float64: without atomics, so that two runs agree to the last bit.

With q the probability of a pixel's true label, m = 1 - q and p taken as 0 where ignored, the
gradient for C >= 2 is written without the difference of nearly equal numbers:

    dL / dz_c = p_c (O_c - sum_k O_k p_k) + s ([c = y] m - [c != y] p_c)

and that for C = 1, with x = z where y = 1 and -z elsewhere,

    dL / dx = q m (w I [y = 1] - v O [y = 0]) + m w E f'(log q)

m is a sum (of the other classes' probabilities), so 1 - q does not cancel either; and since
log q / m tends to -1 as q tends to 1, cost and slope need no lower bound of m:

    f = -m^(gamma + 1) (log q / m)        f' = m^gamma (gamma q (log q / m) - 1)

A label that is neither a class nor ignored reads and writes nothing out of bounds. An exception
would have to wait for the device, so it makes the sums and the gradient of its image NaN.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from seglab.ops import IGNORE

PROGRAMS = 2048  # programs to aim at: several for each multiprocessor of a large GPU
MOST_TILES = 16  # of one program
_IGNORE = tl.constexpr(IGNORE)
_LOWEST_LOG = tl.constexpr(-1e30)  # that of losses/pointwise.py
_LOG2_E = tl.constexpr(1.4426950408889634)
_NEAR = tl.constexpr(1 / 64)  # m below which four terms of the series of log(1 - m) are exact


def sums(
    logits: Tensor, target: Tensor, weights: Tensor | None, gamma: float | None
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """inside, outside, truth (B, K), pointwise, valid (B,): the fields of `Sums`, float32.

    Args:
        logits: (B, C, ...) float16, bfloat16 or float32, of any strides.
        target: (B, ...) integers. weights: (B, ...) of any floating dtype, or None for 1.
        gamma: exponent of the pointwise cost; None leaves it out (0).
    """
    batch, classes = logits.shape[:2]
    plan = _Plan(logits, target, weights)
    width = 3 * classes + 2  # inside, outside, truth of each class, pointwise, valid
    partial = torch.empty(batch, plan.programs, width, dtype=torch.float32, device=logits.device)
    kernel = _sigmoid_sums if classes == 1 else _softmax_sums
    plan.launch(kernel, (partial,), gamma)
    totals = partial.sum(dim=1, dtype=torch.float64).split([classes] * 3 + [1, 1], dim=1)
    inside, outside, truth, pointwise, valid = (total.to(torch.float32) for total in totals)
    return inside, outside, truth, pointwise.squeeze(1), valid.squeeze(1)


def gradient(
    grad: Tensor,
    logits: Tensor,
    target: Tensor,
    weights: Tensor | None,
    gamma: float | None,
    by_inside: Tensor | None,
    by_outside: Tensor | None,
    by_pointwise: Tensor | None,
) -> None:
    """Writes dL/dz into `grad` (B, C, ...), contiguous or channels_last.

    by_inside, by_outside: (B, K); by_pointwise: (B,); None where the loss does not use the sum.
    """
    plan = _Plan(logits, target, weights)
    flat = grad.flatten(2)
    tables = [
        None if table is None else table.to(torch.float32).contiguous()
        for table in (by_inside, by_outside, None if gamma is None else by_pointwise)
    ]
    kernel = _sigmoid_gradient if logits.shape[1] == 1 else _softmax_gradient
    plan.launch(kernel, (flat, *flat.stride(), *tables), gamma)


class _Plan:
    """How a batch is cut into tiles, and the arguments that all four kernels begin with.

    A tile has at most 64 numbers for each thread (of 255 registers). Where 16 bytes of a class's
    row can be loaded at once ("wide"), a thread takes GROUP neighbouring pixels and some of the
    classes, and adds up its neighbours at once, else one pixel (or a few far apart) and all
    classes, as many as one warp can. The compiler lays a tile out along the axis whose numbers it
    knows to be side by side; where that is the classes (channels_last), every sum over classes
    would go through other threads, so those kernels do not let it know for the loads.
    """

    def __init__(self, logits: Tensor, target: Tensor, weights: Tensor | None) -> None:
        self.batch, classes = logits.shape[:2]
        self.logits = logits
        pixels = target[0].numel() if self.batch else 0
        planes = _planes(logits, target, weights)
        wide = _wide(*planes[:6], pixels)
        self.group = 16 // logits.element_size() if wide else 1
        self.pad = triton.next_power_of_2(classes)
        numbers, fewest, most = (2048, 64, 256) if wide else (1024, 32, 128)
        self.block = min(max(fewest, numbers // self.pad), most)
        self.warps = max(1, self.pad * self.block // numbers)
        tiles = triton.cdiv(pixels, self.block)  # of an image
        tiles_of_program = min(max(1, self.batch * tiles // PROGRAMS), MOST_TILES)
        self.programs = triton.cdiv(tiles, tiles_of_program)  # for an image
        self.arguments = (*planes, classes, pixels, tiles_of_program, self.programs)

    def launch(self, kernel: triton.JITFunction, more: tuple, gamma: float | None) -> None:
        """Nothing for an empty batch."""
        if self.batch * self.programs == 0:
            return
        sizes = {"C_PAD": self.pad, "BLOCK": self.block, "GROUP": self.group}
        with torch.cuda.device_of(self.logits):
            kernel[(self.batch * self.programs,)](
                *self.arguments,
                *more,
                GAMMA=gamma,
                **sizes,
                num_warps=self.warps,
                enable_fp_fusion=True,
            )


def _planes(logits: Tensor, target: Tensor, weights: Tensor | None) -> tuple:
    """Logits, their strides by image, class, row, column, columns; labels, weights and theirs."""
    columns, by_row, by_column = _two_axes(logits.shape[2:], logits.stride()[2:])
    if columns is None:
        logits = logits.contiguous()
        columns, by_row, by_column = logits[0, 0].numel(), None, 1
    labels = target.flatten(1)
    flat = None if weights is None else weights.flatten(1)
    by_weight = (0, 0) if flat is None else flat.stride()
    strides = (logits.stride(0), logits.stride(1), by_row, by_column)
    return logits, *strides, columns, labels, *labels.stride(), flat, *by_weight


def _wide(
    logits: Tensor,
    by_image: int,
    by_class: int,
    by_row: int | None,
    by_column: int,
    columns: int,
    pixels: int,
) -> bool:
    """Whether Triton knows that 16 bytes of neighbouring pixels can be loaded at once."""
    sizes = (by_image, by_class, pixels, by_row or 0, columns)
    aligned = all(size % 16 == 0 for size in sizes) and logits.data_ptr() % 16 == 0
    return by_column == 1 and aligned


def _two_axes(shape: Sequence[int], strides: Sequence[int]) -> tuple[int | None, int | None, int]:
    """(columns, by_row, by_column): pixel n lies at n // columns by_row + n % columns by_column.

    by_row is None where one stride serves all pixels; columns is None where two do not (a volume
    that was cropped or turned).
    """
    axes: list[tuple[int, int]] = []  # (length, stride), neighbours merged
    for length, stride in zip(shape, strides, strict=True):
        if axes and axes[-1][1] == length * stride:
            axes[-1] = (axes[-1][0] * length, stride)
        elif length != 1:
            axes.append((length, stride))
    if len(axes) <= 1:
        length, stride = axes[0] if axes else (1, 1)
        return length, None, stride
    if len(axes) == 2:
        return axes[1][0], axes[0][1], axes[1][1]
    return None, None, 0


# Kernels. Every one has these arguments first:
#     logits, their strides by image, class, row (None: the image is one row), column, columns;
#     labels, their strides by image and pixel; weights (or None) and theirs;
#     classes, pixels of an image, tiles of a program, programs for an image.
# c: class (C_PAD,), n: pixel (BLOCK,). Tables are (C_PAD, BLOCK); p = 0 in rows of no class.
# The branches on None and GAMMA are taken while compiling, where a return would not end a function.


@triton.jit
def _place(programs):
    """(image, program) of this program; int64, as are all offsets into the logits."""
    place = tl.program_id(0).to(tl.int64)
    return place // programs, place % programs


@triton.jit
def _offsets(n, columns, by_row, by_column):
    """Of pixels n in a plane of the logits."""
    n = n.to(tl.int64)
    return n * by_column if by_row is None else n // columns * by_row + n % columns * by_column


@triton.jit
def _truth(
    labels, label_by_image, label_by_pixel, weights, weight_by_image, weight_by_pixel,
    image, n, classes, pixels,
):  # fmt: skip
    """y (-1 where no class), v (1 valid, 0 ignored, NaN no label of this task) and w; (BLOCK,)."""
    within = n < pixels
    n = n.to(tl.int64)
    at = labels + image * label_by_image + n * label_by_pixel
    label = tl.load(at, mask=within, other=0).to(tl.int64)
    ignored = (label == _IGNORE) | (n >= pixels)
    known = (label >= 0) & (label < classes) & (label != _IGNORE) & within
    y = tl.where(known, label, -1).to(tl.int32)
    v = tl.where(known, 1.0, tl.where(ignored, 0.0, float("nan")))
    w = v
    if weights is not None:
        at = weights + image * weight_by_image + n * weight_by_pixel
        w = v * tl.load(at, mask=within, other=0).to(tl.float32)
    return y, v, w


@triton.jit
def _softmax(
    logits, c, n, y, classes, pixels, by_class, columns, by_row, by_column, GROUP: tl.constexpr
):  # fmt: skip
    """z - max z, exp of it (0 for padded classes), [c = y]; sums of exp at y and elsewhere."""
    if GROUP == 1:
        by_class *= tl.minimum(classes, 1)  # 1 in disguise: see `_Plan`
    at = logits + (c.to(tl.int64) * by_class)[:, None]
    at += _offsets(n, columns, by_row, by_column)[None, :]
    real = (c < classes)[:, None]
    z = tl.load(at, mask=real & (n < pixels)[None, :], other=0.0).to(tl.float32)
    z = tl.where(real, z, float("-inf"))
    z = z - tl.max(z, axis=0)[None, :]
    e = tl.exp2(z * _LOG2_E)
    here = c[:, None] == y[None, :]
    hit = tl.sum(tl.where(here, e, 0.0), axis=0)
    rest = tl.sum(tl.where(here, 0.0, e), axis=0)
    return z, e, here, hit, rest


@triton.jit
def _log_over_miss(log_q, miss):
    """log q / (1 - q), by its series where q is near 1 and log q rounding error."""
    log_q = tl.where(log_q < _LOWEST_LOG, _LOWEST_LOG, log_q)  # a NaN stays one
    series = -1.0 - miss * (1 / 2 + miss * (1 / 3 + miss * (1 / 4)))
    return tl.where(miss < _NEAR, series, log_q / tl.maximum(miss, _NEAR))


@triton.jit
def _power(x, GAMMA: tl.constexpr):
    """x^gamma, for x >= 0."""
    if GAMMA == 1:
        power = x
    elif GAMMA == 2:
        power = x * x
    else:
        power = tl.exp2(GAMMA * tl.log2(x))
    return power


@triton.jit
def _cost(ratio, miss, GAMMA: tl.constexpr):
    """f of losses/pointwise.py; ratio = log q / miss."""
    cost = -ratio * miss
    if GAMMA != 0:
        cost *= _power(miss, GAMMA)
    return cost


@triton.jit
def _slope(ratio, q, miss, GAMMA: tl.constexpr):
    """df / d log q of losses/pointwise.py."""
    return _power(miss, GAMMA) * (GAMMA * q * ratio - 1.0)


@triton.jit
def _narrow(table, C_PAD: tl.constexpr, BLOCK: tl.constexpr, GROUP: tl.constexpr):
    """(C_PAD, BLOCK // GROUP): neighbouring pixels, which one thread holds, added up."""
    return tl.sum(tl.reshape(table, (C_PAD, BLOCK // GROUP, GROUP)), axis=2)


@triton.jit
def _softmax_sums(
    logits, by_image, by_class, by_row, by_column, columns,
    labels, label_by_image, label_by_pixel, weights, weight_by_image, weight_by_pixel,
    classes, pixels, tiles, programs, partial,
    GAMMA: tl.constexpr, C_PAD: tl.constexpr, BLOCK: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """A row of partial sums: inside, outside, truth of each class, pointwise, valid."""
    image, program = _place(programs)
    c = tl.arange(0, C_PAD)
    inside = tl.zeros((C_PAD, BLOCK // GROUP), dtype=tl.float32)
    outside = tl.zeros((C_PAD, BLOCK // GROUP), dtype=tl.float32)
    truth = tl.zeros((C_PAD, BLOCK // GROUP), dtype=tl.float32)
    pointwise = tl.zeros((BLOCK,), dtype=tl.float32)
    valid = tl.zeros((BLOCK,), dtype=tl.float32)
    for tile in range(tiles):
        n = (program * tiles + tile) * BLOCK + tl.arange(0, BLOCK)
        y, v, w = _truth(
            labels, label_by_image, label_by_pixel, weights, weight_by_image, weight_by_pixel,
            image, n, classes, pixels,
        )  # fmt: skip
        z, e, here, hit, rest = _softmax(
            logits + image * by_image, c, n, y, classes, pixels,
            by_class, columns, by_row, by_column, GROUP,
        )  # fmt: skip
        total = hit + rest
        p = e * (v / total)[None, :]
        inside += _narrow(tl.where(here, p * w[None, :], 0.0), C_PAD, BLOCK, GROUP)
        outside += _narrow(tl.where(here, 0.0, p), C_PAD, BLOCK, GROUP)
        truth += _narrow(tl.where(here, w[None, :], 0.0 * e), C_PAD, BLOCK, GROUP)
        if GAMMA is not None:
            log_q = tl.sum(tl.where(here, z, 0.0), axis=0) - tl.log(total)
            miss = rest / total
            pointwise += w * _cost(_log_over_miss(log_q, miss), miss, GAMMA)
        valid += v
    at = partial + (image * programs + program) * (3 * classes + 2)
    tl.store(at + c, tl.sum(inside, axis=1), mask=c < classes)
    tl.store(at + classes + c, tl.sum(outside, axis=1), mask=c < classes)
    tl.store(at + 2 * classes + c, tl.sum(truth, axis=1), mask=c < classes)
    tl.store(at + 3 * classes, tl.sum(pointwise, axis=0))
    tl.store(at + 3 * classes + 1, tl.sum(valid, axis=0))


@triton.jit
def _softmax_gradient(
    logits, by_image, by_class, by_row, by_column, columns,
    labels, label_by_image, label_by_pixel, weights, weight_by_image, weight_by_pixel,
    classes, pixels, tiles, programs,
    grad, grad_by_image, grad_by_class, grad_by_pixel, by_inside, by_outside, by_pointwise,
    GAMMA: tl.constexpr, C_PAD: tl.constexpr, BLOCK: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    image, program = _place(programs)
    c = tl.arange(0, C_PAD)
    if by_outside is not None:
        pull = tl.load(by_outside + image * classes + c, mask=c < classes, other=0.0)
    for tile in range(tiles):
        n = (program * tiles + tile) * BLOCK + tl.arange(0, BLOCK)
        y, v, w = _truth(
            labels, label_by_image, label_by_pixel, weights, weight_by_image, weight_by_pixel,
            image, n, classes, pixels,
        )  # fmt: skip
        z, e, here, hit, rest = _softmax(
            logits + image * by_image, c, n, y, classes, pixels,
            by_class, columns, by_row, by_column, GROUP,
        )  # fmt: skip
        total = hit + rest
        p = e * (v / total)[None, :]
        q, miss = hit / total, rest / total
        s = tl.zeros((BLOCK,), dtype=tl.float32)
        if by_inside is not None:
            s += w * tl.load(by_inside + image * classes + y, mask=y >= 0, other=0.0)
        if by_outside is not None:
            s -= v * tl.load(by_outside + image * classes + y, mask=y >= 0, other=0.0)
        s *= q
        if by_pointwise is not None:
            by_log = -1.0
            if GAMMA != 0:
                log_q = tl.sum(tl.where(here, z, 0.0), axis=0) - tl.log(total)
                by_log = _slope(_log_over_miss(log_q, miss), q, miss, GAMMA)
            s += w * by_log * tl.load(by_pointwise + image)
        out = s[None, :] * tl.where(here, miss[None, :], -p)
        if by_outside is not None:
            mean_pull = tl.sum(p * pull[:, None], axis=0)
            out += p * (pull[:, None] - mean_pull[None, :])
        at = grad + image * grad_by_image + (c.to(tl.int64) * grad_by_class)[:, None]
        at += (n.to(tl.int64) * grad_by_pixel)[None, :]
        mask = (c < classes)[:, None] & (n < pixels)[None, :]
        tl.store(at, out.to(grad.dtype.element_ty), mask=mask)


@triton.jit
def _sigmoid(
    logits, by_column, by_row, columns,
    labels, label_by_image, label_by_pixel, weights, weight_by_image, weight_by_pixel,
    image, n, pixels,
):  # fmt: skip
    """y (bool), v, w, and q, 1 - q, log q / (1 - q) of each pixel's own side; all (BLOCK,)."""
    within = n < pixels
    n = n.to(tl.int64)
    at = labels + image * label_by_image + n * label_by_pixel
    label = tl.load(at, mask=within, other=0).to(tl.int64)
    v = tl.where((label != _IGNORE) & within, 1.0, 0.0)
    w = v
    if weights is not None:
        at = weights + image * weight_by_image + n * weight_by_pixel
        w = v * tl.load(at, mask=within, other=0).to(tl.float32)
    at = logits + _offsets(n, columns, by_row, by_column)
    z = tl.load(at, mask=within, other=0.0).to(tl.float32)
    y = label == 1
    x = tl.where(y, z, -z)
    t = tl.exp2(-tl.abs(x) * _LOG2_E)
    larger, smaller = 1 / (1 + t), t / (1 + t)
    q, miss = tl.where(x < 0, smaller, larger), tl.where(x < 0, larger, smaller)
    log_q = tl.where(x < 0, x, 0.0) - tl.log(1 + t)
    return y, v, w, q, miss, _log_over_miss(log_q, miss)


@triton.jit
def _sigmoid_sums(
    logits, by_image, by_class, by_row, by_column, columns,  # noqa: ARG001 (as the others)
    labels, label_by_image, label_by_pixel, weights, weight_by_image, weight_by_pixel,
    classes, pixels, tiles, programs, partial,  # noqa: ARG001
    GAMMA: tl.constexpr, C_PAD: tl.constexpr, BLOCK: tl.constexpr, GROUP: tl.constexpr,  # noqa: ARG001
):  # fmt: skip
    """A row of partial sums: inside, outside, truth, pointwise, valid."""
    image, program = _place(programs)
    inside = tl.zeros((BLOCK,), dtype=tl.float32)
    outside = tl.zeros((BLOCK,), dtype=tl.float32)
    truth = tl.zeros((BLOCK,), dtype=tl.float32)
    pointwise = tl.zeros((BLOCK,), dtype=tl.float32)
    valid = tl.zeros((BLOCK,), dtype=tl.float32)
    for tile in range(tiles):
        n = (program * tiles + tile) * BLOCK + tl.arange(0, BLOCK)
        y, v, w, q, miss, ratio = _sigmoid(
            logits + image * by_image, by_column, by_row, columns,
            labels, label_by_image, label_by_pixel, weights, weight_by_image, weight_by_pixel,
            image, n, pixels,
        )  # fmt: skip
        inside += tl.where(y, w * q, 0.0)
        outside += tl.where(y, 0.0, v * miss)
        truth += tl.where(y, w, 0.0)
        if GAMMA is not None:
            pointwise += w * _cost(ratio, miss, GAMMA)
        valid += v
    at = partial + (image * programs + program) * 5
    tl.store(at, tl.sum(inside, axis=0))
    tl.store(at + 1, tl.sum(outside, axis=0))
    tl.store(at + 2, tl.sum(truth, axis=0))
    tl.store(at + 3, tl.sum(pointwise, axis=0))
    tl.store(at + 4, tl.sum(valid, axis=0))


@triton.jit
def _sigmoid_gradient(
    logits, by_image, by_class, by_row, by_column, columns,  # noqa: ARG001 (as the others)
    labels, label_by_image, label_by_pixel, weights, weight_by_image, weight_by_pixel,
    classes, pixels, tiles, programs,  # noqa: ARG001
    grad, grad_by_image, grad_by_class, grad_by_pixel,  # noqa: ARG001
    by_inside, by_outside, by_pointwise,
    GAMMA: tl.constexpr, C_PAD: tl.constexpr, BLOCK: tl.constexpr, GROUP: tl.constexpr,  # noqa: ARG001
):  # fmt: skip
    image, program = _place(programs)
    for tile in range(tiles):
        n = (program * tiles + tile) * BLOCK + tl.arange(0, BLOCK)
        y, v, w, q, miss, ratio = _sigmoid(
            logits + image * by_image, by_column, by_row, columns,
            labels, label_by_image, label_by_pixel, weights, weight_by_image, weight_by_pixel,
            image, n, pixels,
        )  # fmt: skip
        by_x = tl.zeros((BLOCK,), dtype=tl.float32)
        if by_inside is not None:
            by_x += tl.where(y, w * tl.load(by_inside + image), 0.0)
        if by_outside is not None:
            by_x -= tl.where(y, 0.0, v * tl.load(by_outside + image))
        by_x *= q * miss
        if by_pointwise is not None:
            by_log = -1.0
            if GAMMA != 0:
                by_log = _slope(ratio, q, miss, GAMMA)
            by_x += miss * w * by_log * tl.load(by_pointwise + image)
        out = tl.where(y, by_x, -by_x).to(grad.dtype.element_ty)
        at = grad + image * grad_by_image + n.to(tl.int64) * grad_by_pixel
        tl.store(at, out, mask=n < pixels)
