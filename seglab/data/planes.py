"""A loss's weight of each pixel, as one plane (H, W) float32 beside each mask. Imports no torch.

Without augmentation a mask never changes, so its plane is made once and kept beside the prepared
arrays; otherwise a loader's worker makes it. Both give the same numbers.

A loss whose `plane` takes `instances` is given those of the mask, where the data set knows them.
"""

import hashlib
import inspect
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from seglab.data.cache import PreparedSplit, Split
from seglab.data.check import Progress, bar, in_order, usable_cores
from seglab.errors import DataError
from seglab.files import size_for_humans, write_atomic

Make = Callable[..., np.ndarray]  # mask (H, W) uint8[, instances] -> plane (H, W) float32


class Computed:
    """Makes the plane each time it is asked for."""

    def __init__(self, split: Split, make: Make) -> None:
        self.split, self.make = split, make
        self.of_instances = _takes_instances(make)

    def __call__(self, index: int, mask: np.ndarray) -> np.ndarray:
        """The plane of mask number `index`, as the split gives it."""
        if self.of_instances:
            return self.make(mask, instances=self.split.instances(index))
        return self.make(mask)


class Drawn:
    """Makes the plane of a mask that was drawn anew, and of its instances, drawn with it."""

    def __init__(self, split: Split, make: Make) -> None:
        self.split, self.make = split, make
        self.of_instances = _takes_instances(make)

    def beside(self, index: int) -> tuple[np.ndarray, ...]:
        """What is to be drawn together with mask number `index`: its instances, or nothing."""
        numbers = self.split.instances(index) if self.of_instances else None
        return () if numbers is None else (numbers.astype(np.uint16),)  # OpenCV warps no int32

    def __call__(self, index: int, mask: np.ndarray, *beside: np.ndarray) -> np.ndarray:
        """The plane of the drawn mask."""
        del index
        if not beside:
            return self.make(mask)
        return self.make(mask, instances=beside[0].astype(np.int32))


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
    path = _path(split, make, key)
    return Prepared(path) if path is not None and path.exists() else Computed(split, make)


def prepare(split: Split, make: Make, key: str, progress: Progress = bar) -> None:
    """Writes the planes of a prepared split beside its arrays, unless they are there.

    Args:
        key: stands for everything in the loss that changes a plane.

    Errors: DataError where the disk has too little room.
    """
    path = _path(split, make, key)
    if path is None or path.exists():
        return
    computed = Computed(split, make)
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
        indices = range(len(split))
        made = in_order(lambda index: computed(index, split[index][1]), indices, usable_cores())
        for index, plane in enumerate(progress(made, len(split), f"planes {path.stem}")):
            array[index] = plane
        array.flush()

    write_atomic(path, write)


def _takes_instances(make: Make) -> bool:
    return "instances" in inspect.signature(make).parameters


def _path(split: Split, make: Make, key: str) -> Path | None:
    if not isinstance(split, PreparedSplit):
        return None
    if _takes_instances(make) and split.instances(0) is not None:
        key += " of instances"
    digest = hashlib.sha256(key.encode()).hexdigest()[:12]
    return split.folder / f"{split.split}-plane-{digest}.npy"
