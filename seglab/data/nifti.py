"""Volumes in NIfTI files, as 2-D slices or whole; in the folders of nnU-Net or the Decathlon.

How the folders lie is in `nifti_layout`, how a file becomes an array in `volumes`. Splits are drawn
by case, or by patient, never by slice: neighbouring slices are nearly the same image.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from seglab.data import volumes
from seglab.data.folder import colours
from seglab.data.layout import root_folder
from seglab.data.nifti_layout import (
    TREE,
    Case,
    find_cases,
    folder_faults,
    read_description,
    read_json,
)
from seglab.data.partition import grouping, partition, torn_group
from seglab.data.reading import FileFaults
from seglab.data.source import Fault, Sample, Source
from seglab.errors import ConfigError, DataError

EMPTY_SLICES = ("keep", "drop", "drop_training")
KEPT_VOLUMES = 4  # decoded at a time in a process: two images and their masks


class Nifti(Source):
    """What the slices and the volumes share: the folders, the classes and the splits.

    Args:
        root: the folder that holds dataset.json.
        split: shares of val and test, and the seed that draws them; not with a split_file.
        split_file: nnU-Net's splits_final.json, relative to the root; None draws by `split`.
        fold: which entry of the split_file.
        group: a regular expression with one group in brackets, found in each case's name: what it
            finds (a patient's number) stays in one split. None: each case is by itself.
        test: drawn (from imagesTr; with a split_file the best epoch is reported on val, as nnU-Net
            does) or imagesTs, whose labels lie in labelsTs.
        modalities: names or numbers of the channels to take, as in dataset.json; None takes all.
        window: [low, high], the intensities that become 0 and 1 (CT, in HU); None: each kind's own.
        axis: across the slices: axial, coronal, sagittal, or auto, that of the largest spacing of
            each volume (axial, where several are equal).
        label_affine: must_agree (a mask that lies elsewhere than its image is a fault) or ignored
            (the mask fits voxel by voxel as it is stored, whatever its affine says).

    One label beside the background makes a binary task, named after it; several have the
    background as class 0. The label `ignore` becomes IGNORE.

    Errors: DataError where the root or its dataset.json is missing or odd, ConfigError for what
    does not fit together or where nibabel is not installed.
    """

    def __init__(
        self,
        root: str,
        split: Mapping[str, Any],
        split_file: str | None,
        fold: int,
        group: str | None,
        test: str,
        modalities: Sequence[str | int] | None,
        window: Sequence[float] | None,
        axis: str,
        label_affine: str,
    ) -> None:
        self.root = root_folder(self.name, root, TREE)
        volumes.require_nibabel()
        self.about = read_description(self.name, self.root)
        labels = self.about.labels
        self.classes = labels[1:] if len(labels) == 2 else labels
        shown = colours(len(labels) - 1)
        self.colours = shown if len(labels) == 2 else ((0, 0, 0), *shown)
        _one_of("test", test, ("drawn", "imagesTs"))
        _one_of("axis", axis, ("auto", *volumes.AXES))
        _one_of("label_affine", label_affine, ("must_agree", "ignored"))
        self.split, self.split_file, self.fold, self.group = dict(split), split_file, fold, group
        self.test, self.axis, self.label_affine = test, axis, label_affine
        self.window = None if window is None else _ascending("window", window)
        self.modalities = self._chosen(modalities)
        self._group_of = grouping(group)
        if split_file is not None and test == "drawn":
            self.splits, self.test_split = ("train", "val"), "val"
        self.channels = len(self.modalities)
        self._recent = volumes.Recent(KEPT_VOLUMES)

    def __getstate__(self) -> dict[str, Any]:
        """Without the function, which cannot travel; `group` makes it again."""
        return {k: v for k, v in super().__getstate__().items() if k != "_group_of"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """The way back."""
        self.__dict__.update(state)
        self._group_of = grouping(self.group)

    def options(self) -> dict[str, Any]:
        """What decides samples and pixels."""
        how = {key: share for key, share in self.split.items() if key in ("seed", *self._drawn)}
        return {
            "split": how if self.split_file is None else [self.split_file, self.fold],
            "group": self.group,
            "test": self.test,
            "modalities": list(self.modalities),
            "window": self.window,
            "axis": self.axis,
            "label_affine": self.label_affine,
        }

    def watched(self) -> list[Path]:
        """dataset.json, the folders of images and labels, and the file of splits."""
        assert self.root is not None
        parts = ("Tr", "Ts") if self.test == "imagesTs" else ("Tr",)
        folders = [f"{kind}{part}" for part in parts for kind in ("images", "labels")]
        splits = [] if self.split_file is None else [self.split_file]
        return [self.root / path for path in ("dataset.json", *folders, *splits)]

    def layout_faults(self) -> list[Fault]:
        """Files that belong to no case, odd names, another number of cases than dataset.json's."""
        assert self.root is not None
        return [
            fault
            for part, cases in self._parts.items()
            for fault in folder_faults(self.root, self.about, part, cases)
        ]

    def cases(self, split: str) -> list[Case]:
        """The scans of a split, by name."""
        return list(self._cases[split])

    @property
    def _drawn(self) -> tuple[str, ...]:
        return ("val",) if self.test == "imagesTs" else ("val", "test")

    @cached_property
    def _parts(self) -> dict[str, dict[str, Case]]:
        assert self.root is not None
        parts = ("Tr", "Ts") if self.test == "imagesTs" else ("Tr",)
        return {part: find_cases(self.name, self.root, self.about, part) for part in parts}

    @cached_property
    def _cases(self) -> dict[str, list[Case]]:
        training = self._parts["Tr"]
        if self.split_file is not None:
            names = self._of_file(training)
        else:
            shares = {key: self.split[key] for key in self._drawn if key in self.split}
            seed = int(self.split.get("seed", 0))
            names = partition(training, self._group_of, shares, seed, self._drawn)
        found = {split: [training[name] for name in kept] for split, kept in names.items()}
        if self.test == "imagesTs":
            both = sorted(training.keys() & self._parts["Ts"].keys())
            if both:
                raise DataError(f"dataset {self.name}: {both[0]} is in imagesTr and in imagesTs")
            found["test"] = list(self._parts["Ts"].values())
        return found

    def _of_file(self, training: Mapping[str, Case]) -> dict[str, list[str]]:
        assert self.root is not None
        assert self.split_file is not None
        path = self.root / self.split_file
        folds = read_json(path)
        try:
            fold = folds[self.fold]
            names = {split: sorted(map(str, fold[split])) for split in ("train", "val")}
        except (IndexError, KeyError, TypeError):
            number = len(folds) if isinstance(folds, list) else 0
            raise DataError(
                f'{path}: dataset.fold={self.fold} must be an entry of the list, {{"train": '
                f'[cases], "val": [cases]}}; it has {number}'
            ) from None
        lost = [name for kept in names.values() for name in kept if name not in training]
        if lost:
            raise DataError(f"{path}: fold {self.fold} names {lost[0]}, which is not in imagesTr")
        placed = [(name, split) for split, kept in names.items() for name in kept]
        torn = torn_group(placed, self._group_of)
        if torn is not None:
            shared = self._group_of(placed[torn[0]][0])
            raise DataError(f"{path}: fold {self.fold} has {shared} in train and in val")
        return names

    def _chosen(self, modalities: Sequence[str | int] | None) -> tuple[int, ...]:
        """Numbers of the channels to take."""
        names = self.about.channels
        if modalities is None:
            return tuple(range(len(names)))
        numbers = [names.index(m) if m in names else m for m in modalities]
        if not numbers or any(not isinstance(n, int) or not 0 <= n < len(names) for n in numbers):
            raise ConfigError(
                f"dataset.modalities={list(modalities)}: {self.about.path} has "
                f"{', '.join(f'{number} ({name})' for number, name in enumerate(names))}"
            )
        return tuple(numbers)

    def _read_image(self, files: Sequence[Path]) -> np.ndarray:
        """(D, H, W, channels) float32 as stored; files: all of a case, the label last."""
        images = files[:-1]
        if images[0] not in self._with_all_channels:
            return volumes.read_image(images, len(images), self.axis)
        everything = volumes.read_image(images, len(self.about.channels), self.axis)
        return everything[..., list(self.modalities)]

    @cached_property
    def _with_all_channels(self) -> frozenset[Path]:
        """The images that are one file of several channels."""
        cases = (case for cases in self._parts.values() for case in cases.values())
        several = len(self.about.channels) > 1
        return frozenset(c.images[0] for c in cases if several and len(c.images) == 1)

    def _read_mask(self, files: Sequence[Path]) -> np.ndarray:
        """(D, H, W) uint8."""
        trust = self.label_affine == "must_agree"
        labels = volumes.read_labels(files[-1], files[0], self.axis, trust_affine=trust)
        about = self.about
        return volumes.classes_of(files[-1], labels, len(about.labels), about.ignore)

    def _files(self, case: Case) -> tuple[Path, ...]:
        """What is read of a case: the chosen channels, the label last."""
        if len(case.images) == len(self.about.channels):
            return (*(case.images[number] for number in self.modalities), case.label)
        return (*case.images, case.label)

    def _spacing(self, sample: Sample) -> tuple[float, float, float]:
        """(D, H, W) mm, as stored."""
        grid = volumes.read_grid(sample.files[0])
        depth, rows, columns = grid.spacing[list(grid.order(self.axis))]
        return float(depth), float(rows), float(columns)

    def _shape(self, sample: Sample) -> tuple[int, int, int]:
        """(D, H, W) as stored."""
        grid = volumes.read_grid(sample.files[0])
        depth, rows, columns = (grid.shape[k] for k in grid.order(self.axis))
        return depth, rows, columns


class NiftiVolumes(Nifti):
    """Whole volumes, one a sample.

    Args, besides those of Nifti:
        window: None: each channel's voxels other than 0 get mean 0 and standard deviation 1 (MRI).
        spacing: [D, H, W] in mm that every volume is resampled to; None leaves them as they are.
    """

    name = "nifti"
    dimensions = 3

    def __init__(self, *, spacing: Sequence[float] | None, **shared: Any) -> None:
        super().__init__(**shared)
        wrong = spacing is not None and (len(spacing) != 3 or min(spacing) <= 0)
        if wrong:
            raise ConfigError(f"dataset.spacing={spacing}: must be three lengths in mm, or null")
        self.target = None if spacing is None else tuple(map(float, spacing))

    def options(self) -> dict[str, Any]:
        """What decides samples and voxels."""
        return {**super().options(), "spacing": self.target}

    def samples(self, split: str) -> list[Sample]:
        """Named as the cases are."""
        return [Sample(case.name, self._files(case)) for case in self._cases[split]]

    def spacing(self, sample: Sample) -> tuple[float, float, float]:
        """(D, H, W) mm of what the readers give."""
        stored = self._spacing(sample)
        if self.target is None:
            return stored
        old = self._shape(sample)
        new = self._new_shape(old, stored)
        depth, rows, columns = (s * n / m for s, n, m in zip(stored, old, new, strict=True))
        return depth, rows, columns

    def read_image(self, sample: Sample) -> np.ndarray:
        """(D, H, W, channels) float32, normalised."""
        image = self._resampled(sample, self._read_image(sample.files), labels=False)
        return (
            volumes.zscore(image) if self.window is None else volumes.windowed(image, *self.window)
        )

    def read_mask(self, sample: Sample) -> np.ndarray:
        """(D, H, W) uint8: 0 and 1 of one class, else the class indices, IGNORE where ignored."""
        return self._resampled(sample, self._read_mask(sample.files), labels=True)

    def _resampled(self, sample: Sample, array: np.ndarray, *, labels: bool) -> np.ndarray:
        if self.target is None:
            return array
        depth, rows, columns = array.shape[:3]
        shape = self._new_shape((depth, rows, columns), self._spacing(sample))
        return volumes.resampled(array, shape, labels=labels)

    def _new_shape(
        self, shape: tuple[int, int, int], spacing: tuple[float, ...]
    ) -> tuple[int, int, int]:
        assert self.target is not None
        pairs = zip(shape, spacing, self.target, strict=True)
        depth, rows, columns = (max(1, round(n * old / new)) for n, old, new in pairs)
        return depth, rows, columns


class NiftiSlices(Nifti):
    """Slices across the depth axis, one a sample: 8 bit, as other images are.

    One channel is repeated to grey RGB; two or three are red, green and blue (of two, blue is 0).

    Args, besides those of Nifti:
        window: None: `percentiles` of each channel's voxels other than 0, in the whole volume,
            become black and white.
        percentiles: [low, high] in 0 .. 100.
        empty_slices: keep, drop (those without a labelled voxel, from every split; scores on the
            rest then say nothing of false alarms in such slices) or drop_training. To drop, every
            label is read once at each start.
    """

    name = "nifti_slices"

    def __init__(self, *, percentiles: Sequence[float], empty_slices: str, **shared: Any) -> None:
        super().__init__(**shared)
        _one_of("empty_slices", empty_slices, EMPTY_SLICES)
        self.percentiles, self.empty_slices = _ascending("percentiles", percentiles), empty_slices
        if not 0 <= self.percentiles[0] < self.percentiles[1] <= 100:
            raise ConfigError(f"dataset.percentiles={list(percentiles)}: must lie in 0 .. 100")
        if len(self.modalities) > 3:
            names = ", ".join(self.about.channels)
            raise ConfigError(
                f"dataset.modalities: a slice has red, green and blue for at most three channels; "
                f"choose some of {names}"
            )
        self.channels = 3

    def options(self) -> dict[str, Any]:
        """What decides samples and pixels."""
        own = {"percentiles": self.percentiles, "empty_slices": self.empty_slices}
        return {**super().options(), **own}

    def samples(self, split: str) -> list[Sample]:
        """`case-0012`: slice 12 of a case, counted from 0 from foot, back or left."""
        return list(self._slices[split])

    def spacing(self, sample: Sample) -> tuple[float, float]:
        """(H, W) mm of the slice as stored."""
        return self._spacing(sample)[1:]

    def stored_shape(self, sample: Sample) -> tuple[int, int]:
        """(H, W) of the slice."""
        return self._shape(sample)[1:]

    def read_image(self, sample: Sample) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""
        volume = self._recent.get(("image", sample.files), lambda: self._eight_bit(sample.files))
        red_green_blue = volume[sample.region[0]]
        if red_green_blue.shape[-1] == 1:
            return np.repeat(red_green_blue, 3, axis=-1)
        missing = 3 - red_green_blue.shape[-1]
        return np.pad(red_green_blue, ((0, 0), (0, 0), (0, missing)))

    def read_mask(self, sample: Sample) -> np.ndarray:
        """(H, W) uint8: 0 and 1 of one class, else the class indices, IGNORE where ignored."""
        volume = self._recent.get(("mask", sample.files), lambda: self._read_mask(sample.files))
        return volume[sample.region[0]].copy()

    def _eight_bit(self, files: Sequence[Path]) -> np.ndarray:
        """(D, H, W, modalities) uint8."""
        volume = self._read_image(files)
        if self.window is None:
            shown = volumes.to_percentiles(volume, *self.percentiles)
        else:
            shown = volumes.windowed(volume, *self.window)
        return np.round(255 * shown).astype(np.uint8)

    @cached_property
    def _slices(self) -> dict[str, list[Sample]]:
        return {
            split: [
                Sample(f"{case.name}-{number:04d}", self._files(case), (number,))
                for case in self._cases[split]
                for number in self._numbers(case, split)
            ]
            for split in self.splits
        }

    def _numbers(self, case: Case, split: str) -> list[int]:
        """The slices of a case that are taken; of one that cannot be read the first: it is told."""
        files = self._files(case)
        dropping = ("drop", "drop_training") if split == "train" else ("drop",)
        try:
            if self.empty_slices not in dropping:
                grid = volumes.read_grid(files[0])
                return list(range(grid.shape[grid.depth_axis(self.axis)]))
            mask = self._read_mask(files)
        except FileFaults:
            return [0]
        background = (mask == 0) | (mask == volumes.IGNORE)
        return np.flatnonzero(~background.all(axis=(1, 2))).tolist()


def _one_of(key: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ConfigError(f"dataset.{key}={value}: must be one of {', '.join(choices)}")


def _ascending(key: str, pair: Sequence[float]) -> tuple[float, float]:
    if len(pair) != 2 or not pair[0] < pair[1]:
        raise ConfigError(f"dataset.{key}={list(pair)}: must be [low, high], low below high")
    return float(pair[0]), float(pair[1])
