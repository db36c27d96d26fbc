"""What scripts/bench.py compares with, and the made inputs that it compares on."""

import importlib
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from bench_measure import Contender, Missing
from scipy import ndimage

IGNORE = 255


def imported(module: str, package: str) -> Any:
    """The module, or Missing with the package's name."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if (error.name or "").split(".")[0] == module.split(".")[0]:
            return Missing(f"{package} is not installed")
        return Missing(f"{package} cannot be imported: {error}")


def calling(module: Any, make: Callable[[Any], Contender]) -> Contender:
    """make(module), or what `imported` found missing."""
    return module if isinstance(module, Missing) else make(module)


# ---------------------------------------------------------------- inputs


def label_map(seed: int, height: int, width: int, classes: int) -> np.ndarray:
    """(H, W) uint8: smooth regions of every size, ellipses, thin poles, some 6 % ignored."""
    rng = np.random.default_rng(seed)
    labels, best = np.zeros((height, width), np.uint8), np.full((height, width), -np.inf)
    for c in rng.permutation(classes)[: max(2, 2 * classes // 3)].astype(np.uint8):
        coarse = rng.normal(size=(6, 6 * width // height)).astype(np.float32)
        smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        np.copyto(labels, c, where=smooth > best)
        np.maximum(best, smooth, out=best)
    scale = height / 512
    for _ in range(12):
        centre = int(rng.integers(width)), int(rng.integers(height))
        axes = tuple(int(a) for a in rng.uniform(6, 40, 2) * scale + 1)
        cv2.ellipse(labels, centre, axes, 0, 0, 360, int(rng.integers(classes)), -1)
    for x in rng.integers(0, width, 6):
        top = int(rng.integers(height // 2))
        thick = max(1, round(2 * scale))
        cv2.rectangle(labels, (int(x), top), (int(x) + thick, height), int(rng.integers(classes)))
    labels[round(0.95 * height) :] = IGNORE  # the bonnet of the car
    labels[: height // 8, : width // 8] = IGNORE
    return labels


def face(seed: int, side: int) -> np.ndarray:
    """(side, side) uint8 of 0 and 1: one ellipse with a wobbly outline."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side] - side / 2 + rng.uniform(-0.04, 0.04) * side
    angle, radius = np.arctan2(rows, columns), np.hypot(rows, 1.2 * columns)
    wobble = sum(
        rng.uniform(-0.02, 0.02) * np.cos(k * angle + rng.uniform(0, 2 * np.pi))
        for k in range(2, 8)
    )
    return (radius < side * rng.uniform(0.3, 0.37) * (1 + wobble)).astype(np.uint8)


def shifted(labels: np.ndarray, pixels: int) -> np.ndarray:
    """A prediction that is off by some pixels in both directions, and never says ignored."""
    moved = np.roll(labels, (pixels, 2 * pixels), (0, 1))
    return np.where(moved == IGNORE, 0, moved).astype(np.uint8)


# ---------------------------------------------------------------- distances, class by class


def scipy_per_class(labels: np.ndarray, classes: int) -> np.ndarray:
    """Distance of each pixel to the nearest of another label, one transform for each class."""
    depth = np.zeros(labels.shape)
    for c in range(classes):
        mask = labels == c
        depth += ndimage.distance_transform_edt(mask)
    return depth


def scipy_present_classes(labels: np.ndarray, classes: int) -> np.ndarray:
    """The same, sparing the classes that do not occur."""
    depth = np.zeros(labels.shape)
    for c in np.unique(labels[labels < classes]):
        depth += ndimage.distance_transform_edt(labels == c)
    return depth


# ---------------------------------------------------------------- boundary bands, class by class


def reference_band(mask: np.ndarray, d: int) -> np.ndarray:
    """What d erosions by a 3 x 3 square take from a uint8 mask framed by background."""
    framed = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    eroded = cv2.erode(framed, np.ones((3, 3), np.uint8), iterations=d)
    return mask - eroded[1:-1, 1:-1]


def reference_boundary_counts(
    predicted: np.ndarray, target: np.ndarray, classes: int, d: int
) -> np.ndarray:
    """(classes, 2) pixels in both bands, and in either, of each class."""
    predicted = np.where(target == IGNORE, target, predicted)
    counts = np.zeros((classes, 2), np.int64)
    for c in range(classes):
        ours = reference_band((predicted == c).astype(np.uint8), d)
        true = reference_band((target == c).astype(np.uint8), d)
        counts[c] = np.count_nonzero(ours & true), np.count_nonzero(ours | true)
    return counts
