"""Shapes: images drawn from (seed, split, index), the same on every machine. No files.

For tests, for timing, and for questions that need control: how many classes, how rare the rarest,
how thin, how often nothing. Everything is drawn in whole numbers with NumPy.
"""

import colorsys
from collections.abc import Mapping
from typing import Any

import numpy as np

from seglab.data.source import IGNORE, Sample, Source
from seglab.errors import ConfigError

_BACKGROUND = (64, 64, 64)
_SIDES = ("rectangle", "disc", "diamond")
_TRIES = 1000  # shapes drawn at most, should the foreground not be reached


def palette(number: int) -> tuple[tuple[int, int, int], ...]:
    """`number` RGB colours, hues evenly spread, light and dark in turn."""
    colours = []
    for k in range(number):
        red, green, blue = colorsys.hsv_to_rgb(k / number, 1.0, (0.95, 0.6)[k % 2])
        colours.append((round(255 * red), round(255 * green), round(255 * blue)))
    return tuple(colours)


def class_weights(number: int, imbalance: float) -> np.ndarray:
    """(number,) whole numbers, falling geometrically; the first is `imbalance` times the last."""
    exponents = np.arange(number) / max(number - 1, 1)
    return np.round(1_000_000 * float(imbalance) ** -exponents).astype(np.int64)


def line_pixels(y0: int, x0: int, y1: int, x1: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the straight line between two pixels, one pixel wide, ends included."""
    steps = max(abs(y1 - y0), abs(x1 - x0), 1)
    i = np.arange(steps + 1)
    rows = y0 + (2 * i * (y1 - y0) + steps) // (2 * steps)
    columns = x0 + (2 * i * (x1 - x0) + steps) // (2 * steps)
    return rows, columns


class Shapes(Source):
    """Coloured shapes and lines on grey, with noise.

    Args:
        num_classes: 1 = binary (shape or not), else class 0 is background, the others shapes.
        images: how many images each of train, val and test has.
        height: rows of each image.
        width: columns of each image.
        foreground: share of an image's pixels that shapes are drawn to cover.
        imbalance: how many times as often the first shape class is drawn as the last one.
        thin_lines: lines of one pixel's width in each image, drawn over the shapes.
        empty: share of the images of each split that are background alone.
        ignored: share of each image's pixels, in one rectangle, that the mask leaves out.
        noise: each channel of each pixel is off by at most this many of 255 levels.
        seed: which images.
    """

    name = "shapes"
    share_images = True

    def __init__(
        self,
        num_classes: int,
        images: Mapping[str, int],
        height: int,
        width: int,
        foreground: float,
        imbalance: float,
        thin_lines: int,
        empty: float,
        ignored: float,
        noise: int,
        seed: int,
    ) -> None:
        _refuse("num_classes", num_classes, 1, IGNORE)
        _refuse("height", height, 4, 1 << 14)
        _refuse("width", width, 4, 1 << 14)
        _refuse("foreground", foreground, 0, 0.9)
        _refuse("imbalance", imbalance, 1, 1000)
        _refuse("empty", empty, 0, 1)
        _refuse("ignored", ignored, 0, 1)
        _refuse("noise", noise, 0, 255)
        _refuse("thin_lines", thin_lines, 0, 1000)
        _refuse("seed", seed, 0, (1 << 63) - 1)
        if set(images) != set(self.splits):
            raise ConfigError(
                f"dataset.images has {sorted(images)}, expected {sorted(self.splits)}"
            )
        self.images = {split: int(images[split]) for split in self.splits}
        self.height, self.width, self.seed = height, width, seed
        self.foreground, self.imbalance, self.thin_lines = foreground, imbalance, thin_lines
        self.empty, self.ignored, self.noise = empty, ignored, noise
        if num_classes == 1:
            self.classes, self.colours = ("shape",), palette(1)
        else:
            shapes = [f"shape {k}" for k in range(1, num_classes)]
            self.classes = ("background", *shapes)
            self.colours = (_BACKGROUND, *palette(num_classes - 1))
        self._weights = np.cumsum(class_weights(max(num_classes - 1, 1), imbalance))

    def options(self) -> dict[str, Any]:
        """Every argument: together with `version` they decide every pixel."""
        names = ("images", "height", "width", "foreground", "imbalance", "thin_lines")
        names += ("empty", "ignored", "noise", "seed", "num_classes")
        return {name: getattr(self, name) for name in names}

    def samples(self, split: str) -> list[Sample]:
        """`train-00000`, `train-00001`, ..."""
        return [Sample(id=f"{split}-{index:05d}") for index in range(self.images[split])]

    def read_image(self, sample: Sample) -> np.ndarray:
        """(height, width, 3) uint8: the colour of each pixel's class, plus noise."""
        return self._draw(sample)[0]

    def read_mask(self, sample: Sample) -> np.ndarray:
        """(height, width) uint8 classes, IGNORE in the rectangle that is left out."""
        return self._draw(sample)[1]

    def is_empty(self, index: int) -> bool:
        """Whether image `index` of a split is background alone: floor(n empty) of the first n."""
        return int((index + 1) * self.empty) > int(index * self.empty)

    def _draw(self, sample: Sample) -> tuple[np.ndarray, np.ndarray]:
        split, number = sample.id.split("-")
        index = int(number)
        spawn_key = (self.splits.index(split), index)
        sequence = np.random.SeedSequence(self.seed, spawn_key=spawn_key)
        rng = np.random.Generator(np.random.PCG64(sequence))
        labels = np.zeros((self.height, self.width), np.uint8)
        if not self.is_empty(index):
            self._draw_shapes(labels, rng)
            self._draw_lines(labels, rng)
        colours = self.colours if self.num_classes > 1 else (_BACKGROUND, *self.colours)
        image = np.array(colours, np.int64)[labels]  # (H, W, 3)
        image += rng.integers(-self.noise, self.noise + 1, size=image.shape)
        self._leave_out(labels, rng)
        return image.clip(0, 255).astype(np.uint8), labels

    def _draw_shapes(self, labels: np.ndarray, rng: np.random.Generator) -> None:
        rows, columns = np.ogrid[: self.height, : self.width]
        side = min(self.height, self.width)
        for _ in range(_TRIES):
            if np.count_nonzero(labels) >= self.foreground * labels.size:
                return
            kind = _SIDES[rng.integers(len(_SIDES))]
            y, x = int(rng.integers(self.height)), int(rng.integers(self.width))
            radius = int(rng.integers(max(side // 16, 1), max(side // 5, 2) + 1))
            if kind == "rectangle":
                other = int(rng.integers(max(side // 16, 1), max(side // 5, 2) + 1))
                inside = (abs(rows - y) <= radius) & (abs(columns - x) <= other)
            elif kind == "disc":
                inside = (rows - y) ** 2 + (columns - x) ** 2 <= radius**2
            else:
                inside = abs(rows - y) + abs(columns - x) <= radius
            labels[inside] = self._draw_class(rng)

    def _draw_lines(self, labels: np.ndarray, rng: np.random.Generator) -> None:
        for _ in range(self.thin_lines):
            y0, y1 = (int(y) for y in rng.integers(self.height, size=2))
            x0, x1 = (int(x) for x in rng.integers(self.width, size=2))
            labels[line_pixels(y0, x0, y1, x1)] = self._draw_class(rng)

    def _draw_class(self, rng: np.random.Generator) -> int:
        drawn = rng.integers(self._weights[-1])
        return 1 + int(np.searchsorted(self._weights, drawn, side="right"))

    def _leave_out(self, labels: np.ndarray, rng: np.random.Generator) -> None:
        rows = round(self.height * self.ignored**0.5)
        columns = round(self.width * self.ignored**0.5)
        top = int(rng.integers(self.height - rows + 1))
        left = int(rng.integers(self.width - columns + 1))
        labels[top : top + rows, left : left + columns] = IGNORE


def _refuse(key: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ConfigError(f"dataset.{key}={value}, expected {low} to {high}")
