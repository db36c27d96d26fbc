"""A loss's weight of each pixel, as one plane (H, W) float32 beside each mask. Imports no torch.

Without augmentation a mask never changes, so its plane is made once and kept beside the prepared
arrays; otherwise a loader's worker makes it. Both give the same numbers.
"""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from seglab.data.cache import PreparedSplit, Split
from seglab.data.check import Progress, bar, in_order, usable_cores
from seglab.errors import DataError
from seglab.files import size_for_humans, write_atomic

Make = Callable[[np.ndarray], np.ndarray]  # mask (H, W) uint8 -> plane (H, W) float32


class Computed:
    """Makes the plane each time it is asked for."""

    def __init__(self, make: Make) -> None:
        self.make = make

    def __call__(self, index: int, mask: np.ndarray) -> np.ndarray:
        """The plane of a mask."""
        del index
        return self.make(mask)


class Prepared:
    """Reads what `prepare` wrote. Each process opens the array when it first needs it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._array: np.ndarray | None = None

    def __call__(self, index: int, mask: np.ndarray) -> np.ndarray:
        """The plane of mask number `index`."""
        del mask
        if self._array is None:
            self._array = np.load(self.path, mmap_mode="r")
        return self._array[index]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_array": None}


def of(split: Split, make: Make, key: str) -> Computed | Prepared:
    """The planes of a split: prepared ones if they are there, else computed."""
    path = _path(split, key)
    return Prepared(path) if path is not None and path.exists() else Computed(make)


def prepare(split: Split, make: Make, key: str, progress: Progress = bar) -> None:
    """Writes the planes of a prepared split beside its arrays, unless they are there.

    Args:
        key: stands for everything in the loss that changes a plane.

    Errors: DataError where the disk has too little room.
    """
    path = _path(split, key)
    if path is None or path.exists():
        return
    _, mask = split[0]
    shape = (len(split), *mask.shape)
    needed, free = 4 * int(np.prod(shape)), shutil.disk_usage(path.parent).free
    if needed > free:
        raise DataError(
            f"{path}: the loss's planes take {size_for_humans(needed)}, and the disk has "
            f"{size_for_humans(free)} left. Make room, or give data.prepare=no"
        )

    def write(temporary: Path) -> None:
        array = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float32, shape=shape)
        made = in_order(lambda index: make(split[index][1]), range(len(split)), usable_cores())
        for index, plane in enumerate(progress(made, len(split), f"planes {path.stem}")):
            array[index] = plane
        array.flush()

    write_atomic(path, write)


def _path(split: Split, key: str) -> Path | None:
    if not isinstance(split, PreparedSplit):
        return None
    digest = hashlib.sha256(key.encode()).hexdigest()[:12]
    return split.folder / f"{split.split}-plane-{digest}.npy"
