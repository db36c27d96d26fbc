"""Normalised volumes, written once, of which a patch is read without the rest. Imports no torch.

`cache` decides whether the arrays are current and lets them appear whole; here they are written
and read: for each volume image (D, H, W, C) float32 and mask (D, H, W) uint8.
"""

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import closing
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from seglab.data.check import Progress, Verdict, command, in_order
from seglab.data.source import Source

KINDS = ("image", "mask")
BYTES_BESIDE = 1024  # for each volume: its entry in meta.json, its headers


class VolumeSplit(ABC, Sequence):
    """The normalised volumes of one split; cheap to send to another process.

    Attributes:
        ids: of the samples, in order.
    """

    ids: list[str]

    def __len__(self) -> int:
        return len(self.ids)

    @abstractmethod
    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Image (D, H, W, C) float32 and mask (D, H, W) uint8; not to be changed.

        Of prepared arrays they are maps of the files: what is cut out of them is what is read.

        Errors: IndexError outside; DataError where a file has become unreadable.
        """

    @abstractmethod
    def message(self) -> str:
        """Where it reads from, and what would be faster: half a sentence for the log."""


class PreparedVolumes(VolumeSplit):
    """Reads what `write` wrote. Each process opens an array when it first needs it."""

    def __init__(self, folder: Path, split: str, meta: dict[str, Any]) -> None:
        self.folder, self.split, self.ids = folder, split, meta["ids"][split]
        self._open: dict[tuple[int, str], np.ndarray] = {}

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self._array(index, "image"), self._array(index, "mask")

    def message(self) -> str:
        return f"{self.split}: reads the prepared arrays in {self.folder}"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}}

    def _array(self, index: int, kind: str) -> np.ndarray:
        place = range(len(self.ids))[index], kind
        if place not in self._open:
            path = array_path(self.folder, self.split, *place)
            self._open[place] = np.load(path, mmap_mode="r")
        return self._open[place]


class FileVolumes(VolumeSplit):
    """Reads and normalises the files, each time anew."""

    def __init__(self, source: Source, split: str) -> None:
        self.source, self.split = source, split
        self.samples = source.samples(split)
        self.ids = [sample.id for sample in self.samples]

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        sample = self.samples[index]
        return self.source.read_image(sample), self.source.read_mask(sample)

    def message(self) -> str:
        start = time.perf_counter()
        self[0]
        seconds = time.perf_counter() - start
        return (
            f"{self.split}: reads the files, {seconds:.1f} s for a volume; "
            f"`{command('prepare', self.source)}` brings a patch of it to milliseconds"
        )


def write(
    folder: Path, source: Source, progress: Progress, workers: int
) -> dict[str, list[dict[str, Any]]]:
    """Writes the arrays of every split; split -> shape and bytes of each volume, for meta.json.

    However it ends, no thread writes any more when it does.

    Errors: DataError where a file has become unreadable; OSError where it cannot write.
    """
    found = {}
    for split in source.splits:
        volumes = FileVolumes(source, split)

        def one(index: int, volumes: FileVolumes = volumes) -> dict[str, Any]:
            return _write_one(folder, volumes, index)  # it does not wait in memory for its turn

        with closing(in_order(one, range(len(volumes)), workers)) as rows:
            found[split] = list(progress(rows, len(volumes), f"prepare {source.name} {split}"))
    return found


def are_whole(folder: Path, meta: dict[str, Any]) -> bool:
    """Whether every array that meta.json names is there, and long enough."""
    for split, ids in meta["ids"].items():
        rows = meta["volumes"].get(split, ())
        if len(rows) != len(ids):
            return False
        for index, row in enumerate(rows):
            for kind in KINDS:
                path = array_path(folder, split, index, kind)
                if not path.is_file() or path.stat().st_size < row["bytes"][kind]:
                    return False
    return True


def array_path(folder: Path, split: str, index: int, kind: str) -> Path:
    """Where an array lies: train-00012-mask.npy."""
    return folder / f"{split}-{index:05d}-{kind}.npy"


def bytes_needed(source: Source, verdict: Verdict) -> int:
    """Bytes that the arrays take, at most."""
    voxels = sum(map(sum, verdict.histogram.values())) + sum(verdict.ignored.values())
    return voxels * (4 * source.channels + 1) + sum(verdict.counts.values()) * BYTES_BESIDE


def versions() -> dict[str, str | None]:
    """Of the libraries that make the voxels; None where one is not installed."""
    found: dict[str, str | None] = {}
    for name in ("nibabel", "scipy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def _write_one(folder: Path, volumes: FileVolumes, index: int) -> dict[str, Any]:
    image, mask = volumes[index]
    assert image.dtype == np.float32, image.dtype
    assert mask.dtype == np.uint8, mask.dtype
    assert image.shape[:3] == mask.shape, (image.shape, mask.shape)
    arrays = dict(zip(KINDS, (image, mask), strict=True))
    for kind, array in arrays.items():
        with open(array_path(folder, volumes.split, index, kind), "wb") as file:
            np.save(file, array)
            file.flush()
            os.fsync(file.fileno())
    return {
        "shape": list(image.shape),
        "bytes": {kind: array.nbytes for kind, array in arrays.items()},
    }
