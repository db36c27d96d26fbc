"""Slides at the resolution that is worked at: windows of image and mask, and where tissue is.

Imports no torch.
"""

import logging
from dataclasses import dataclass

import cv2
import numpy as np

from seglab.data.reading import FileFaults
from seglab.data.slide_files import TILED, Plane, Slide

log = logging.getLogger(__name__)

BLOCK = 2048  # pixels a side that are held at once while the tissue is looked for
SAME_SIZE = 0.05  # a level whose pixels are that near to the wanted size is taken as it is
MANY_PIXELS = 1 << 28  # take some ten seconds to decode


@dataclass(frozen=True)
class View:
    """A slide at the resolution that is worked at.

    Attributes:
        rows, columns: of the whole slide, in pixels of the view, as all places in it.
        scale: pixels of level 0 along the side of one of its pixels.
        level: of the pyramid, that it is read from.
        zoom: pixels of that level along the side of one of its pixels; 1 takes the level as it is.
    """

    rows: int
    columns: int
    scale: float
    level: int
    zoom: float


def view(slide: Slide, level: int, mpp: float | None) -> View:
    """A level of the pyramid, or where mpp is given so many microns a pixel.

    A level within 5 % of that size is taken as it is; else the next finer one is averaged over
    areas.

    Errors: FileFaults where the slide has no such level, does not say how large its pixels are, or
    is coarser than wanted.
    """
    if mpp is None:
        if level >= len(slide.downsamples):
            has = ", ".join(f"{number:g}" for number in slide.downsamples)
            wrong = (
                f"no level {level} (dataset.level); its levels 0, 1, ... are smaller {has} times"
            )
            raise FileFaults([(slide.path, wrong)])
        return View(*slide.size(level), slide.downsamples[level], level, 1.0)
    if slide.mpp is None:
        wrong = (
            f"does not say how large a pixel is, so that dataset.mpp={mpp:g} cannot be met. Write "
            "its resolution into the file, or set dataset.mpp=null and choose a dataset.level"
        )
        raise FileFaults([(slide.path, wrong)])
    scale = mpp / slide.mpp
    fine = [
        number
        for number, down in enumerate(slide.downsamples)
        if down <= scale * (1 + SAME_SIZE) or number == 0
    ]
    best = fine[-1]
    zoom = scale / slide.downsamples[best]
    if zoom * (1 + SAME_SIZE) < 1:
        wrong = f"{slide.mpp:.3g} microns a pixel at its finest, coarser than dataset.mpp={mpp:g}"
        raise FileFaults([(slide.path, wrong)])
    rows, columns = slide.size(best)
    if abs(zoom - 1) <= SAME_SIZE:
        return View(rows, columns, slide.downsamples[best], best, 1.0)
    return View(max(1, int(rows / zoom)), max(1, int(columns / zoom)), scale, best, zoom)


def read_window(slide: Slide, view: View, region: tuple[int, ...]) -> np.ndarray:
    """(rows, columns, 3) uint8 RGB of region (top, left, rows, columns). Errors: FileFaults."""
    if view.zoom == 1:
        return slide.read(view.level, *region)
    top, left, rows, columns = region
    wanted = [max(0, round(length * view.zoom)) for length in (top, left, rows, columns)]
    pixels = slide.read(view.level, *wanted)
    return cv2.resize(pixels, (columns, rows), interpolation=cv2.INTER_AREA)


def read_labels(mask: Plane, slide: Slide, view: View, region: tuple[int, ...]) -> np.ndarray:
    """(rows, columns) uint8: of each pixel of the region, the mask's number at its middle.

    Errors: FileFaults, also where the mask's sides are not those of the slide, divided by one
    number (to a pixel of the mask).
    """
    down = mask_downsample((slide.rows, slide.columns), (mask.rows, mask.columns))
    if down is None:
        wrong = (
            f"mask of {mask.rows} x {mask.columns} pixels (rows x columns) does not lie over its "
            f"image of {slide.rows} x {slide.columns} at any scale"
        )
        raise FileFaults([(mask.path, wrong)])
    top, left, rows, columns = region
    step = view.scale / down
    along = [
        np.minimum(((start + np.arange(count) + 0.5) * step).astype(np.int64), end - 1)
        for start, count, end in ((top, rows, mask.rows), (left, columns, mask.columns))
    ]
    return mask.at(*along)[..., 0]


def mask_downsample(image: tuple[int, int], mask: tuple[int, int]) -> float | None:
    """Pixels of the image along the side of one of the mask's; None where no number fits.

    image, mask: (rows, columns). A whole number, if one fits to a pixel of the mask.
    """
    low = max(long / (short + 1) for long, short in zip(image, mask, strict=True))
    high = min(long / max(short - 1, 1e-9) for long, short in zip(image, mask, strict=True))
    if low > high:
        return None
    side = int(np.argmax(mask))  # the longer one says it best
    down = image[side] / mask[side]
    return float(round(down)) if low <= round(down) <= high and round(down) else down


def tissue(slide: Slide, downsample: float) -> tuple[np.ndarray, float]:
    """(h, w) bool, True where there is tissue, and the downsample of its pixels.

    Otsu's threshold on the saturation (of HSV): tissue is stained, glass is not. The coarsest level
    that is finer than `downsample` is averaged to about it, block by block. A slide of one colour
    has no tissue; in one without any glass the threshold parts tissue from tissue.

    Otsu. "A threshold selection method from gray-level histograms." IEEE Transactions on Systems,
    Man, and Cybernetics 9, 1979.

    Errors: FileFaults.
    """
    level = max(n for n, down in enumerate(slide.downsamples) if down <= downsample or n == 0)
    rows, columns = slide.size(level)
    if rows * columns > MANY_PIXELS:
        log.warning(
            "%s has no level of few pixels, and tissue is looked for in %d x %d at every start. "
            "%s; or set dataset.tissue.share=0.",
            slide.path,
            rows,
            columns,
            TILED,
        )
    factor = max(1, min(int(downsample / slide.downsamples[level] + 1e-6), rows, columns))
    saturation = np.zeros((rows // factor, columns // factor), np.uint8)
    block = max(1, BLOCK // factor)
    for top in range(0, saturation.shape[0], block):
        for left in range(0, saturation.shape[1], block):
            part = saturation[top : top + block, left : left + block]
            places = (factor * n for n in (top, left, *part.shape))
            small = cv2.resize(
                slide.read(level, *places), part.shape[::-1], interpolation=cv2.INTER_AREA
            )
            part[:] = cv2.cvtColor(small, cv2.COLOR_RGB2HSV)[..., 1]
    threshold, _ = cv2.threshold(saturation, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    return saturation > threshold, factor * slide.downsamples[level]


def shares(marked: np.ndarray, regions: np.ndarray, step: float) -> np.ndarray:
    """(n,) float64: the share of each region that is marked.

    Args:
        marked: (h, w) bool.
        regions: (n, 4) top, left, rows, columns.
        step: the regions' pixels along the side of one of the marks'.
    """
    total = cv2.integral(marked.astype(np.uint8))  # (h + 1, w + 1) int32
    starts = regions[:, :2] / step
    limit = np.array(marked.shape)
    first = np.minimum(starts.astype(np.int64), limit - 1)
    last = np.rint((regions[:, :2] + regions[:, 2:]) / step).astype(np.int64)
    last = np.clip(last, first + 1, limit)
    (top, left), (bottom, right) = first.T, last.T
    inside = total[bottom, right] - total[top, right] - total[bottom, left] + total[top, left]
    return inside / ((bottom - top) * (right - left))
