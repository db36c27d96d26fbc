"""Images and masks as training wants them, resized and padded, written once. Imports no torch.

A prepared data set is one folder with two arrays for each split and `meta.json`, which says from
which files, with which sizes and by which library versions it was made. It appears whole or not at
all. Arrays whose meta.json differs from what is asked for are never read; `prepare` replaces them.
Volumes have arrays of their own each, see `volume_arrays`.
"""

import contextlib
import json
import math
import os
import shutil
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import albumentations
import cv2
import numpy as np
import PIL

from seglab.data import volume_arrays
from seglab.data.check import (
    Progress,
    Verdict,
    bar,
    command,
    default_workers,
    in_order,
    refuse_faults,
    source_key,
)
from seglab.data.preprocess import Preprocess
from seglab.data.source import Sample, Source
from seglab.data.volume_arrays import FileVolumes, PreparedVolumes, VolumeSplit
from seglab.errors import ConfigError, DataError
from seglab.files import (
    flush_folder,
    locked,
    remove_leftovers,
    size_for_humans,
    write_json,
)

CACHE_VERSION = 1  # raised when arrays of the older code must not be read
KINDS = ("images", "masks")
BYTES_BESIDE = 128  # for each sample: its id in meta.json, its share of the headers


def one_shape(source: Source, preprocess: Preprocess, verdict: Verdict) -> tuple[int, int]:
    """(H, W) of every image of the data set after preprocessing, all splits alike.

    Not for volumes, whose patches are of one size.

    Errors: DataError where there is more than one.
    """
    assert source.dimensions == 2, source.name
    shapes = sorted({preprocess.output_shape(*shape) for shape in verdict.shapes})
    if len(shapes) != 1:
        listed = ", ".join(f"{rows} x {columns}" for rows, columns in shapes[:5])
        cure = "" if preprocess.size else "dataset.size=<pixels> and "
        raise DataError(
            f"dataset {source.name}: with dataset.size={preprocess.size or 'null'} and "
            f"dataset.pad={preprocess.pad} the images have {len(shapes)} different sizes "
            f"({listed}{', ...' * (len(shapes) > 5)}; rows x columns), and a batch needs one. "
            f"Set {cure}dataset.pad=square"
        )
    return shapes[0]


def spacing_of(source: Source, preprocess: Preprocess, sample: Sample) -> tuple[float, ...] | None:
    """Millimetres from pixel to pixel of a sample as `open_split` gives it; None: not known.

    (H, W) of an image, which dataset.size makes larger or smaller; (D, H, W) of a volume. From
    the headers alone.

    Errors: DataError where a file has become unreadable.
    """
    spacing = source.spacing(sample)
    if spacing is None or source.dimensions == 3:
        return spacing
    stored = source.stored_shape(sample)
    assert stored is not None, source.name
    sides = zip(spacing, stored, preprocess.resized(*stored), strict=True)
    return tuple(length * old / new for length, old, new in sides)


class Split(ABC, Sequence):
    """The preprocessed images and masks of one split; cheap to send to another process.

    Attributes:
        ids: of the samples, in order.
    """

    ids: list[str]

    def __len__(self) -> int:
        return len(self.ids)

    @abstractmethod
    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Image (H, W, 3) uint8 RGB and mask (H, W) uint8; the caller's own, to change at will.

        Errors: IndexError outside; DataError where a file has become unreadable.
        """

    def instances(self, index: int) -> np.ndarray | None:
        """(H, W) numbers of the objects in a mask (`Source.read_instances`), resized as it is.

        None where the data set does not know them.
        """
        del index
        return None

    @abstractmethod
    def message(self) -> str:
        """Where it reads from, and what would be faster: half a sentence for the log."""


class PreparedSplit(Split):
    """Reads what `prepare` wrote. Each process opens the arrays when it first needs them.

    Args:
        files: where the instances are read from, if the data set knows them; nothing but the
            making of planes asks for them.
    """

    def __init__(
        self, folder: Path, split: str, ids: list[str], files: "FileSplit | None" = None
    ) -> None:
        self.folder, self.split, self.ids, self.files = folder, split, ids, files
        self._arrays: tuple[np.ndarray, ...] | None = None

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        if self._arrays is None:
            self._arrays = tuple(
                np.load(_array_path(self.folder, self.split, kind), mmap_mode="r") for kind in KINDS
            )
        images, masks = self._arrays
        return np.array(images[index]), np.array(masks[index])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_arrays": None}

    def instances(self, index: int) -> np.ndarray | None:
        return None if self.files is None else self.files.instances(index)

    def message(self) -> str:
        return f"{self.split}: reads the prepared arrays in {self.folder}"


class FileSplit(Split):
    """Reads, resizes and pads from the files, each time anew."""

    def __init__(self, source: Source, preprocess: Preprocess, split: str) -> None:
        self.source, self.preprocess, self.split = source, preprocess, split
        self.samples: list[Sample] = source.samples(split)
        self.ids = [sample.id for sample in self.samples]

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        sample = self.samples[index]
        return self.preprocess(self.source.read_image(sample), self.source.read_mask(sample))

    def instances(self, index: int) -> np.ndarray | None:
        numbers = self.source.read_instances(self.samples[index])
        return None if numbers is None else self.preprocess.instances(numbers)

    def message(self) -> str:
        start = time.perf_counter()
        self[0]
        milliseconds = 1000 * (time.perf_counter() - start)
        return (
            f"{self.split}: reads the files, {milliseconds:.1f} ms for an image; "
            f"`{command('prepare', self.source)}` brings that to well below 1 ms"
        )


def open_split(
    source: Source, preprocess: Preprocess, cache_dir: Path, verdict: Verdict, split: str
) -> Split | VolumeSplit:
    """The prepared arrays of a split if they are there and current, else its files.

    Errors: ConfigError for volumes with a dataset.size or dataset.pad.
    """
    _refuse_resizing(source, preprocess)
    folder = _folder(source, preprocess, cache_dir) / "arrays"
    meta = _current_meta(folder, source, preprocess, verdict)
    if source.dimensions == 3:
        return FileVolumes(source, split) if meta is None else PreparedVolumes(folder, split, meta)
    files = FileSplit(source, preprocess, split)
    if meta is None:
        return files
    knows = files.instances(0) is not None
    return PreparedSplit(folder, split, meta["ids"][split], files if knows else None)


def prepare(
    source: Source,
    preprocess: Preprocess,
    cache_dir: Path,
    verdict: Verdict,
    progress: Progress = bar,
    workers: int | None = None,
) -> None:
    """Writes the arrays of every split, unless current ones are there; replaces stale ones.

    Errors: DataError where the verdict has faults, the images would have different sizes, the disk
    has too little room, or a file has become unreadable; RunError where another process is at it;
    ConfigError for volumes with a dataset.size or dataset.pad.
    """
    _refuse_resizing(source, preprocess)
    refuse_faults(source, verdict)
    needed_bytes = bytes_needed(source, preprocess, verdict)
    parent = _folder(source, preprocess, cache_dir)
    with _readable_errors(parent), locked(parent / "lock", f"{parent}"):
        remove_leftovers(parent)
        if _current_meta(parent / "arrays", source, preprocess, verdict) is not None:
            return
        _refuse_full_disk(parent, needed_bytes)
        draft = Path(tempfile.mkdtemp(dir=parent, prefix=".arrays-", suffix=".tmp"))
        try:
            draft.chmod(0o777 & ~_umask())
            meta = _meta(source, preprocess, verdict)
            workers = workers or default_workers(source)
            if source.dimensions == 3:
                meta["volumes"] = volume_arrays.write(draft, source, progress, workers)
            else:
                shape = one_shape(source, preprocess, verdict)
                _write_arrays(draft, source, preprocess, shape, progress, workers)
            write_json(draft / "meta.json", meta)
            _replace_folder(draft, parent / "arrays")
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise


def bytes_needed(source: Source, preprocess: Preprocess, verdict: Verdict) -> int:
    """Bytes that the prepared arrays take. Errors: DataError as for `one_shape`."""
    if source.dimensions == 3:
        return volume_arrays.bytes_needed(source, verdict)
    pixels = math.prod(one_shape(source, preprocess, verdict))
    return sum(verdict.counts.values()) * (4 * pixels + BYTES_BESIDE)


def _write_arrays(
    draft: Path,
    source: Source,
    preprocess: Preprocess,
    shape: tuple[int, int],
    progress: Progress,
    workers: int,
) -> None:
    for split in source.splits:
        samples = FileSplit(source, preprocess, split)
        total = len(samples)
        read = in_order(samples.__getitem__, range(total), workers)
        with (
            open(_array_path(draft, split, "images"), "wb") as images,
            open(_array_path(draft, split, "masks"), "wb") as masks,
        ):
            _write_header(images, (total, *shape, 3))
            _write_header(masks, (total, *shape))
            for image, mask in progress(read, total, f"prepare {source.name} {split}"):
                assert image.shape == (*shape, 3), (image.shape, shape)
                assert mask.shape == shape, (mask.shape, shape)
                images.write(image.tobytes())
                masks.write(mask.tobytes())
            for file in (images, masks):
                file.flush()
                os.fsync(file.fileno())


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    description = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, description)


def _replace_folder(draft: Path, target: Path) -> None:
    """Renames `draft` to `target`. In between there may be none, but never a part of one."""
    flush_folder(draft)
    if target.exists():
        stale = Path(tempfile.mkdtemp(dir=target.parent, prefix=".stale-", suffix=".tmp"))
        os.rename(target, stale)
        shutil.rmtree(stale, ignore_errors=True)
    os.rename(draft, target)
    flush_folder(target.parent)


def _meta(source: Source, preprocess: Preprocess, verdict: Verdict) -> dict[str, Any]:
    """Everything that the arrays depend on, and the ids of their rows."""
    ids = {split: [sample.id for sample in source.samples(split)] for split in source.splits}
    common = {
        "cache_version": CACHE_VERSION,
        "dataset": source.name,
        "fingerprint": verdict.fingerprint,
        "ids": ids,
    }
    if source.dimensions == 3:
        return {**common, "versions": volume_arrays.versions()}
    return {
        **common,
        "preprocess": preprocess.describe(),
        "shape": list(one_shape(source, preprocess, verdict)),
        "versions": {
            "albumentations": albumentations.__version__,
            "opencv": cv2.__version__,
            "pillow": PIL.__version__,
        },
    }


def _current_meta(
    folder: Path, source: Source, preprocess: Preprocess, verdict: Verdict
) -> dict[str, Any] | None:
    """The meta.json of the arrays in `folder` if they are whole and what is asked for."""
    try:
        found = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    wanted = _meta(source, preprocess, verdict)
    if source.dimensions == 3:
        made = {key: value for key, value in found.items() if key != "volumes"}
        whole = made == wanted and volume_arrays.are_whole(folder, found)
        return found if whole else None
    if found != wanted:
        return None
    rows, columns = wanted["shape"]
    for split, ids in wanted["ids"].items():
        for kind, channels in zip(KINDS, (3, 1), strict=True):
            path, pixels = _array_path(folder, split, kind), len(ids) * rows * columns
            if not path.is_file() or path.stat().st_size < pixels * channels:
                return None
    return found


def _folder(source: Source, preprocess: Preprocess, cache_dir: Path) -> Path:
    size = preprocess.size or "full"
    name = f"{source.name}-{size}-{preprocess.pad}-{source_key(source)}"
    return Path(cache_dir) / "prepared" / name


def _array_path(folder: Path, split: str, kind: str) -> Path:
    return folder / f"{split}-{kind}.npy"


def _refuse_resizing(source: Source, preprocess: Preprocess) -> None:
    if source.dimensions == 3 and (preprocess.size is not None or preprocess.pad != "none"):
        raise ConfigError(
            f"dataset.size={preprocess.size or 'null'}, dataset.pad={preprocess.pad}: the volumes "
            f"of dataset {source.name} are neither resized nor padded. Set dataset.size=null and "
            "dataset.pad=none; dataset.spacing resamples, dataset.patch is what training sees"
        )


def _refuse_full_disk(folder: Path, needed_bytes: int) -> None:
    free_bytes = shutil.disk_usage(folder).free
    if needed_bytes > free_bytes:
        raise DataError(
            f"{folder}: the prepared arrays take {size_for_humans(needed_bytes)}, and the disk has "
            f"{size_for_humans(free_bytes)} left. Make room, choose another folder for the "
            "cache, or a smaller dataset.size"
        )


@contextlib.contextmanager
def _readable_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"{folder}: cannot write the prepared arrays: {error}") from error


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask
