"""Resizing and padding: what is done once to every image and mask before training.

The longest side becomes `size` pixels, the other keeps the proportions (rounded, half to even).
Images that shrink are averaged over areas (cv2.INTER_AREA), images that grow are interpolated
(cv2.INTER_LINEAR). A mask takes labels, never mixes them (cv2.INTER_NEAREST_EXACT, which is
Pillow's NEAREST; cv2.INTER_NEAREST is not). The picture stays at the top left; padding is below
and to the right, image 0, mask IGNORE.
"""

import os
from functools import lru_cache
from typing import Any

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # else importing it asks the network for news

import albumentations as A
import cv2
import numpy as np

from seglab.data.source import IGNORE
from seglab.errors import ConfigError

INTERPOLATION = {
    "image_shrinks": "cv2.INTER_AREA",
    "image_grows": "cv2.INTER_LINEAR",
    "mask": "cv2.INTER_NEAREST_EXACT",
}


class Preprocess:
    """Call it with an image and its mask.

    Args:
        size: pixels of the longest side; None leaves every image as large as it is.
        pad: "square" makes height and width `size` (the longest side, where size is None); "none".
    """

    def __init__(self, size: int | None, pad: str) -> None:
        if pad not in ("square", "none"):
            raise ConfigError(f"dataset.pad={pad}, expected square or none")
        if size is not None and (not isinstance(size, int) or size < 1):
            raise ConfigError(f"dataset.size={size}, expected a number of pixels, or null")
        self.size, self.pad = size, pad

    def describe(self) -> dict[str, Any]:
        """Everything about it that changes pixels, as JSON."""
        return {
            "size": self.size,
            "pad": self.pad,
            "position": "top_left",
            "interpolation": INTERPOLATION,
            "pad_image": 0,
            "pad_mask": IGNORE,
        }

    def output_shape(self, rows: int, columns: int) -> tuple[int, int]:
        """(H, W) of what an image of rows x columns becomes."""
        rows, columns = self.resized(rows, columns)
        longest = max(rows, columns)
        return (longest, longest) if self.pad == "square" else (rows, columns)

    def resized(self, rows: int, columns: int) -> tuple[int, int]:
        """(H, W) of the same before it is padded."""
        if self.size is None:
            return rows, columns
        scale = self.size / max(rows, columns)
        return max(1, round(rows * scale)), max(1, round(columns * scale))

    def __call__(self, image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(h, w, 3) uint8 and (h, w) uint8 -> (H, W, 3) uint8 and (H, W) uint8.

        H and W are those of `output_shape(h, w)`.
        """
        assert image.dtype == mask.dtype == np.uint8, (image.dtype, mask.dtype)
        done = self._steps(mask.shape)(image=image, mask=mask)
        return done["image"], done["mask"]

    def instances(self, numbers: np.ndarray) -> np.ndarray:
        """(h, w) numbers of objects -> (H, W) int32, from the pixels that the mask is taken from.

        Where it pads, the mask is IGNORE, and the numbers say nothing.
        """
        nothing = np.zeros((*numbers.shape, 3), np.uint8)  # albumentations wants an image
        return self._steps(numbers.shape)(image=nothing, mask=numbers.astype(np.int32))["mask"]

    def _steps(self, shape: tuple[int, ...]) -> A.Compose:
        longest = self.size or max(shape)
        return _transform(self.size, longest if self.pad == "square" else None)


@lru_cache(maxsize=32)
def _transform(size: int | None, side: int | None) -> A.Compose:
    """Resizes to `size` and pads to side x side; None leaves a step out."""
    steps: list[A.BasicTransform] = []
    if size is not None:
        steps.append(
            A.LongestMaxSize(
                max_size=size,
                interpolation=cv2.INTER_LINEAR,
                mask_interpolation=cv2.INTER_NEAREST_EXACT,
                area_for_downscale="image",
            )
        )
    if side is not None:
        steps.append(
            A.PadIfNeeded(
                min_height=side,
                min_width=side,
                position="top_left",
                border_mode=cv2.BORDER_CONSTANT,
                fill=0,
                fill_mask=IGNORE,
            )
        )
    return A.Compose(steps)


def normalise(
    image: np.ndarray, mean: tuple[float, float, float], std: tuple[float, float, float]
) -> np.ndarray:
    """(H, W, 3) uint8 -> (H, W, 3) float32, (image / 255 - mean) / std for each channel.

    The reference for tests; training does the same on the device.
    """
    return A.Normalize(mean=tuple(mean), std=tuple(std), max_pixel_value=255.0)(image=image)[
        "image"
    ]
