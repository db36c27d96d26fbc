"""Exact multi-label distance transforms of batches of maps, as Triton kernels.

distance.py says what they are. Two steps, separable as those of Felzenszwalb and Huttenlocher:

1. Along the rows h, and along the columns v: the distance to the nearest pixel of another label
   in the same row, or column. That is a running maximum of the places where the label changes,
   once in each direction.
2. Down and up the columns: with the labels of a column's run, D^2 = min over k of k^2 + h(k)^2,
   where h(k) is h of the pixel k rows away. Pixels of another label k rows away would count k^2;
   the nearest of them is v rows away. So the search starts from min(v^2, h^2) and ends as soon
   as k^2 is no less than what was found: until then every pixel it looks at is of its own run,
   and beyond the run no k^2 + h(k)^2 can be smaller. It reads no label.

The chessboard distance is the same with max(k, h(k)) for k^2 + h(k)^2.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

LONGEST = 1024  # pixels of a line that a program scans at once
NUMBERS = 4096  # of the lines that it scans side by side

_ROWS = 8  # a program's pixels in step 2, for one warp: 8 numbers of each thread
_COLUMNS = 32
_AT_ONCE = tl.constexpr(4)  # rows in each direction between two looks at whether to go on


def squared_euclidean(labels: Tensor, spacing: Sequence[float] | None) -> Tensor:
    """(B, H, W) integers -> (B, H, W) float32 squared distance, inf where no other label is.

    Args:
        spacing: height and width of a pixel; None is 1, and exact up to 2^24.
    """
    row, column = (1.0, 1.0) if spacing is None else spacing
    return _distances(labels, float(row) ** 2, float(column) ** 2, squared=True)


def chessboard(labels: Tensor) -> Tensor:
    """(B, H, W) integers -> (B, H, W) float32 distance, inf where no other label is."""
    return _distances(labels, 1.0, 1.0, squared=False)


def _distances(
    labels: Tensor, row_squared: float, column_squared: float, *, squared: bool
) -> Tensor:
    """Two planes of float32 and no other memory; any strides of `labels`."""
    batch, rows, columns = labels.shape
    along, best = (
        torch.empty(labels.shape, dtype=torch.float32, device=labels.device) for _ in "hv"
    )
    if labels.numel() == 0:
        return best
    with torch.cuda.device_of(labels):
        _scan(labels, along, axis=2)
        _scan(labels, best, axis=1)
        programs = batch * triton.cdiv(rows, _ROWS) * triton.cdiv(columns, _COLUMNS)
        _search[(programs,)](
            along, best, rows, columns, row_squared, column_squared,
            SQUARED=squared, ROWS=_ROWS, COLUMNS=_COLUMNS, num_warps=1, enable_fp_fusion=True,
        )  # fmt: skip
    return best


def _scan(labels: Tensor, out: Tensor, axis: int) -> None:
    """Step 1 along an axis of (B, H, W), into `out`."""
    length, across = labels.shape[axis], labels.shape[3 - axis]
    lines = labels.shape[0] * across
    block = min(triton.next_power_of_2(length), LONGEST)
    side_by_side = max(1, NUMBERS // block)
    for backwards in (False, True):
        _behind[(triton.cdiv(lines, side_by_side),)](
            labels, labels.stride(0), labels.stride(3 - axis), labels.stride(axis),
            out, out.stride(0), out.stride(3 - axis), out.stride(axis), lines, across, length,
            BACKWARDS=backwards, LINES=side_by_side, BLOCK=block, num_warps=4,
            enable_fp_fusion=True,
        )  # fmt: skip


@triton.jit
def _larger(a, b):
    return tl.maximum(a, b)


@triton.jit
def _behind(
    labels, label_by_image, label_by_line, label_by_step,
    out, out_by_image, out_by_line, out_by_step, lines, across, length,
    BACKWARDS: tl.constexpr, LINES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Distance along a line to the nearest pixel of another label behind, walking along it.

    Walking backwards the smaller of this and of what `out` holds from walking forwards.
    """
    line = tl.program_id(0).to(tl.int64) * LINES + tl.arange(0, LINES)
    image, line_of_image = line // across, line % across
    labels += (image * label_by_image + line_of_image * label_by_line)[:, None]
    out += (image * out_by_image + line_of_image * out_by_line)[:, None]
    seen = tl.full((LINES,), -1, dtype=tl.int32)  # step at which another label was last seen
    for first in range(0, length, BLOCK):
        step = first + tl.arange(0, BLOCK)
        within = (line < lines)[:, None] & (step < length)[None, :]
        place, before = step, step - 1
        if BACKWARDS:
            place, before = length - 1 - step, length - step
        place, before = place.to(tl.int64)[None, :], before.to(tl.int64)[None, :]
        follows = within & (step > 0)[None, :]
        here = tl.load(labels + place * label_by_step, mask=within, other=0)
        last = tl.load(labels + before * label_by_step, mask=follows, other=0)
        change = tl.where(follows & (here != last), step[None, :] - 1, -1)
        other = tl.associative_scan(tl.maximum(change, seen[:, None]), 1, _larger)
        distance = tl.where(other < 0, float("inf"), (step[None, :] - other).to(tl.float32))
        if BACKWARDS:
            ahead = tl.load(out + place * out_by_step, mask=within, other=0.0)
            distance = tl.minimum(distance, ahead)
        tl.store(out + place * out_by_step, distance, mask=within)
        seen = tl.max(other, axis=1)


@triton.jit
def _length(rows, columns, row_squared, column_squared, SQUARED: tl.constexpr):
    """Of a step of so many rows and columns, both float32."""
    if SQUARED:
        length = rows * rows * row_squared + columns * columns * column_squared
    else:
        length = tl.maximum(rows, columns)
    return length


@triton.jit
def _search(
    along, best, rows, columns, row_squared, column_squared,
    SQUARED: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Step 2. along: h; best: v, to be replaced by the distance; both (B, H, W) contiguous."""
    programs_across = tl.cdiv(columns, COLUMNS)
    programs_down = tl.cdiv(rows, ROWS)
    place = tl.program_id(0)
    image = (place // (programs_across * programs_down)).to(tl.int64)
    down, across = place // programs_across % programs_down, place % programs_across
    r = (down * ROWS + tl.arange(0, ROWS))[:, None]
    c = (across * COLUMNS + tl.arange(0, COLUMNS))[None, :]
    within = (r < rows) & (c < columns)
    offset = image * rows * columns + r.to(tl.int64) * columns + c
    at = along + offset
    v = tl.load(best + offset, mask=within, other=0.0)
    h = tl.load(at, mask=within, other=0.0)
    found = tl.minimum(
        _length(v, 0.0, row_squared, column_squared, SQUARED),
        _length(0.0, h, row_squared, column_squared, SQUARED),
    )
    k = 1
    worst = tl.max(found)
    while (k < rows) & (_length(k * 1.0, 0.0, row_squared, column_squared, SQUARED) < worst):
        for more in tl.static_range(_AT_ONCE):
            step = k + more
            above, below = within & (r >= step), within & (r + step < rows)
            up = tl.load(at - step * columns, mask=above, other=float("inf"))
            down_ = tl.load(at + step * columns, mask=below, other=float("inf"))
            h = tl.minimum(up, down_)
            reach = _length(step * 1.0, h, row_squared, column_squared, SQUARED)
            found = tl.minimum(found, reach)
        worst = tl.max(found)
        k += _AT_ONCE
    tl.store(best + offset, found, mask=within)
