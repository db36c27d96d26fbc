"""Nuclei: one fluorescence microscopy field, cut into windows. Its files are in `nuclei/`.

An image of BBBC038v1 (Caicedo et al. "Nucleus segmentation across imaging experiments: the 2018
Data Science Bowl." Nature Methods 16, 2019), CC0. One image shows that the bench works; it is no
evidence that one loss beats another.
"""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from seglab.data.reading import FileFaults, read_labels, read_rgb
from seglab.data.source import IGNORE, Sample, Source
from seglab.errors import ConfigError

# first column, end column (exclusive); the gaps keep a nucleus from lying in two splits
STRIPS = {"train": (0, 304), "val": (320, 400), "test": (416, 512)}


def strip_labels(instances: np.ndarray, left: int, right: int) -> np.ndarray:
    """(H, W) instance ids -> (H, right - left) uint8: 0 background, 1 nucleus, IGNORE where cut.

    A nucleus is cut if some of its pixels lie inside the columns left .. right - 1 and some
    outside. The border of the image is not a cut.
    """
    inside = instances[:, left:right]
    outside = np.concatenate([instances[:, :left], instances[:, right:]], axis=1)
    cut = np.intersect1d(inside, outside)
    labels = (inside > 0).astype(np.uint8)
    labels[np.isin(inside, cut[cut > 0])] = IGNORE
    return labels


def window_starts(length: int, window: int, stride: int) -> list[int]:
    """0, stride, 2 stride, ..., the last one moved back so that it ends flush with `length`."""
    last = max(length - window, 0)
    return [*range(0, last, stride), last]


class NucleiStrips(Source):
    """Windows of window x window pixels from three vertical strips of one 512 x 512 image.

    Training windows start every `stride` pixels and may overlap. Validation and test windows do
    not: each pixel of their strips counts once, and what sticks out of the strip is padding
    (image 0, mask IGNORE) at the right and at the bottom.
    """

    name = "nuclei"
    classes = ("nucleus",)
    colours = ((0, 200, 120),)
    share_images = True

    def __init__(self, window: int, stride: int) -> None:
        if window < 1 or not 1 <= stride <= window:
            raise ConfigError(
                f"dataset.stride={stride} with dataset.window={window}: both must be at least 1, "
                "and the stride at most the window, or pixels would be left out"
            )
        self.window, self.stride = window, stride
        self.root = Path(__file__).parent / "nuclei"

    def options(self) -> dict[str, Any]:
        """Window and stride, in pixels."""
        return {"window": self.window, "stride": self.stride}

    def samples(self, split: str) -> list[Sample]:
        """The windows of a strip, row by row: `train-r000-c064` starts at row 0, column 64."""
        left, right = STRIPS[split]
        rows = self._field[0].shape[0]
        stride = self.stride if split == "train" else self.window
        if split == "train":
            tops = window_starts(rows, self.window, stride)
            lefts = window_starts(right - left, self.window, stride)
        else:
            tops, lefts = range(0, rows, stride), range(0, right - left, stride)
        return [
            Sample(
                id=f"{split}-r{top:03d}-c{left + shift:03d}",
                files=self._files,
                region=(
                    top,
                    left + shift,
                    min(self.window, rows - top),
                    min(self.window, right - left - shift),
                ),
            )
            for top in tops
            for shift in lefts
        ]

    def read_image(self, sample: Sample) -> np.ndarray:
        """(window, window, 3) uint8, the grey image in all three channels, 0 where padded."""
        top, left, rows, columns = sample.region
        image = np.zeros((self.window, self.window, 3), np.uint8)
        image[:rows, :columns] = self._field[0][top : top + rows, left : left + columns]
        return image

    def read_mask(self, sample: Sample) -> np.ndarray:
        """(window, window) uint8: 0, 1, and IGNORE where padded or of a cut nucleus."""
        top, left, rows, columns = sample.region
        split = sample.id.split("-")[0]
        shift = left - STRIPS[split][0]
        mask = np.full((self.window, self.window), IGNORE, np.uint8)
        mask[:rows, :columns] = self._labels[split][top : top + rows, shift : shift + columns]
        return mask

    def read_instances(self, sample: Sample) -> np.ndarray:
        """(window, window) uint8: the number of each nucleus in the image, cut ones too; else 0."""
        top, left, rows, columns = sample.region
        numbers = np.zeros((self.window, self.window), np.uint8)
        numbers[:rows, :columns] = self._field[1][top : top + rows, left : left + columns]
        return numbers

    @property
    def _files(self) -> tuple[Path, Path]:
        return self.root / "image.png", self.root / "instances.png"

    @cached_property
    def _field(self) -> tuple[np.ndarray, np.ndarray]:
        """The image (512, 512, 3) and the instance ids (512, 512)."""
        image, instances = read_rgb(self._files[0]), read_labels(self._files[1])
        if image.shape[:2] != instances.shape:
            raise FileFaults([(self._files[1], f"{instances.shape}, image {image.shape[:2]}")])
        return image, instances

    @cached_property
    def _labels(self) -> dict[str, np.ndarray]:
        return {split: strip_labels(self._field[1], *ends) for split, ends in STRIPS.items()}
