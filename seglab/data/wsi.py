"""Whole-slide images with masks, as windows: histology slides, far too large for memory.

Bakos trains on windows of 512 pixels of which random crops of 256 are turned and mirrored (the
crop is an augmentation), and trains and evaluates on windows with foreground alone, which here is
an option. What is said of such windows is not said of slides: see `positives_only`.

Splits are drawn by patient. Of a slide in several files (.mrxs and the folder beside it) the
fingerprint knows the named file alone.
"""

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from seglab.data import slides
from seglab.data.check import usable_cores
from seglab.data.folder import class_names, colours
from seglab.data.layout import root_folder
from seglab.data.nuclei_strips import window_starts
from seglab.data.reading import FileFaults
from seglab.data.slide_files import Slide, open_mask, open_slide
from seglab.data.slide_list import TREE, Entry, SlideList
from seglab.data.source import IGNORE, Fault, Sample, Source
from seglab.errors import ConfigError

log = logging.getLogger(__name__)


class WholeSlides(Source):
    """Windows of slides.

    The windows of a slide lie on a grid and are `window` pixels wide and high; what sticks out of
    the slide is padding (image white, mask IGNORE). Training windows start every `stride` pixels,
    and the last ones are moved back into the slide; validation and test windows neither overlap
    nor leave gaps. Where little of a window is tissue it is left out, in every split.

    Args:
        root: the folder that everything lies in.
        images, masks: folders in it, one file in each for a slide.
        mask_suffix: what a mask's name has behind its image's, such as "_mask".
        table: a .csv file in it, in place of the two folders; None takes the folders. An empty
            mask means that the slide has nothing of the one class, as healthy slides have.
        classes: names. One makes a binary task, in which every pixel that is not 0 is of it; of
            several, the masks hold the numbers 0, 1, ... and 255 where nothing counts.
        zero_means_ignore: of several classes, the masks hold 1, 2, ... and 0 where nothing counts.
        split: shares of val and test, and the seed that draws them; not where the table has them.
        group: a regular expression with one group in brackets, found in each slide's name: what
            it finds is the patient. None: each slide is a patient. Not with a table.
        window: side of a window in pixels.
        stride: pixels from one training window to the next.
        level: of the pyramid, 0 the finest; the same in all slides.
        mpp: microns a pixel, in place of a level.
        tissue: `share`, the least share of tissue in a window (0 takes all windows), and
            `downsample`, at which tissue is looked for.
        positives_only: train on windows with foreground alone. The network then never sees a
            window without any, so that it finds too much.
        evaluate_positives_only: validate and test on such windows alone. Precision and the rate of
            false positives are then those of windows known to be positive, and mean nothing for
            slides.

    A window is positive if its mask has a number besides 0 and 255 (of one class: besides 0).

    Errors: DataError where the root is missing, ConfigError for what does not fit together.
    """

    name = "wsi"

    def __init__(
        self,
        root: str,
        images: str,
        masks: str,
        mask_suffix: str,
        table: str | None,
        classes: Sequence[str],
        zero_means_ignore: bool,  # noqa: FBT001 (Hydra names it)
        split: Mapping[str, Any],
        group: str | None,
        window: int,
        stride: int,
        level: int,
        mpp: float | None,
        tissue: Mapping[str, float],
        positives_only: bool,  # noqa: FBT001
        evaluate_positives_only: bool,  # noqa: FBT001
    ) -> None:
        self.root = root_folder(self.name, root, TREE)
        self.classes = class_names(classes, "tumour", zero_means_ignore=zero_means_ignore)
        self.colours = colours(len(self.classes))
        self.zero_means_ignore = zero_means_ignore
        binary = len(self.classes) == 1
        self.slide_list = SlideList(
            self.root, images, masks, mask_suffix, table, dict(split), group, binary=binary
        )
        self.window, self.stride = window, stride
        self.level, self.mpp, self.tissue = level, mpp, dict(tissue)
        for key, value in (("window", window), ("stride", stride)):
            if not isinstance(value, int) or value < 1:
                raise ConfigError(f"dataset.{key}={value}: must be a number of pixels")
        _check_resolution(level, mpp)
        if not 0 <= self.tissue["share"] <= 1 or self.tissue["downsample"] < 1:
            raise ConfigError(
                f"dataset.tissue={self.tissue}: share must be between 0 and 1, downsample above 1"
            )
        self.positives_only = positives_only
        self.evaluate_positives_only = evaluate_positives_only
        self._warn()

    def options(self) -> dict[str, Any]:
        """What decides samples and pixels."""
        return {
            "classes": list(self.classes),
            "zero_means_ignore": self.zero_means_ignore,
            **self.slide_list.options(),
            "window": self.window,
            "stride": self.stride,
            "level": self.level,
            "mpp": self.mpp,
            "tissue": self.tissue,
            "positives_only": self.positives_only,
            "evaluate_positives_only": self.evaluate_positives_only,
        }

    def watched(self) -> list[Path]:
        """The two folders, or the table's folder."""
        return self.slide_list.watched()

    def samples(self, split: str) -> list[Sample]:
        """`a-r00512-c01024`, ...: the window of slide a that begins at row 512, column 1024.

        Regions are in pixels of the resolution that is worked at, without the padding.
        """
        return list(self._listed[0][split])

    def read_image(self, sample: Sample) -> np.ndarray:
        """(window, window, 3) uint8 RGB, white where padded or transparent."""
        slide = open_slide(sample.files[0])
        found = np.full((self.window, self.window, 3), 255, np.uint8)
        rows, columns = sample.region[2:]
        found[:rows, :columns] = slides.read_window(slide, self._view(slide), sample.region)
        return found

    def read_mask(self, sample: Sample) -> np.ndarray:
        """(window, window) uint8: 0 and 1 of one class, else class indices; IGNORE where padded.

        Errors: FileFaults for a number that is no class, and for a mask of other proportions.
        """
        rows, columns = sample.region[2:]
        found = np.full((self.window, self.window), IGNORE, np.uint8)
        found[:rows, :columns] = self._labels(sample)
        return found

    def layout_faults(self) -> list[Fault]:
        """Slides that cannot be read or have no tissue, and masks without an image."""
        return [*self._listed[1], *self.slide_list.stray_masks()]

    def _warn(self) -> None:
        """What the two options do to the scores."""
        if self.positives_only:
            log.warning(
                "dataset.positives_only=true: the network is trained on windows with foreground "
                "alone, and will find too much in the others%s.",
                "" if self.evaluate_positives_only else "; val and test have both kinds",
            )
        if self.evaluate_positives_only:
            log.warning(
                "dataset.evaluate_positives_only=true: val and test are windows with foreground "
                "alone. Their precision and false positive rate mean nothing for whole slides, "
                "and their scores compare with no others."
            )

    def _view(self, slide: Slide) -> slides.View:
        return slides.view(slide, self.level, self.mpp)

    def _numbers(self, sample: Sample) -> np.ndarray:
        """(rows, columns) uint8 of the region: the numbers as in the file."""
        if len(sample.files) == 1:
            return np.zeros(sample.region[2:], np.uint8)
        slide = open_slide(sample.files[0])
        mask = open_mask(sample.files[1])
        return slides.read_labels(mask, slide, self._view(slide), sample.region)

    def _labels(self, sample: Sample) -> np.ndarray:
        numbers = self._numbers(sample)
        if len(self.classes) == 1:
            return (numbers != 0).astype(np.uint8)
        shift = int(self.zero_means_ignore)
        allowed = [*range(len(self.classes) + shift), *([] if shift else [IGNORE])]
        strays = np.setdiff1d(numbers, allowed)
        if strays.size:
            meaning = "0 (ignored) and the classes" if shift else "the classes and 255"
            reason = f"labels {', '.join(map(str, strays))} outside {meaning}"
            raise FileFaults([(sample.files[1], reason)])
        return np.where(numbers == 0, IGNORE, numbers - 1).astype(np.uint8) if shift else numbers

    def _is_positive(self, sample: Sample) -> bool:
        numbers = self._numbers(sample)
        if len(self.classes) == 1:
            return bool(numbers.any())
        return bool(((numbers != 0) & (numbers != IGNORE)).any())

    # ------------------------------------------------------------ which slides, which windows

    @cached_property
    def _listed(self) -> tuple[dict[str, list[Sample]], list[Fault]]:
        """Split -> windows; and the faults of slides that have none."""
        jobs = [
            (split, entry)
            for split, entries in self.slide_list.by_split.items()
            for entry in entries
        ]
        found: dict[str, list[Sample]] = {split: [] for split in self.splits}
        faults = []
        with ThreadPoolExecutor(usable_cores()) as pool:
            for (split, _), (samples, wrong) in zip(
                jobs, pool.map(lambda job: self._windows_or_faults(*job), jobs), strict=True
            ):
                found[split] += samples
                faults += wrong
        return found, faults

    def _windows_or_faults(self, split: str, entry: Entry) -> tuple[list[Sample], list[Fault]]:
        try:
            return self._windows(split, entry), []
        except FileFaults as error:
            root = self.slide_list.root
            return [], [
                Fault(path.relative_to(root).as_posix(), reason) for path, reason in error.faults
            ]

    def _windows(self, split: str, entry: Entry) -> list[Sample]:
        """The windows of a slide. Errors: FileFaults where it cannot be read or has no tissue."""
        slide = open_slide(entry.files[0])
        seen = self._view(slide)
        if self.window > 2 * max(seen.rows, seen.columns):
            wrong = (
                f"{seen.rows} x {seen.columns} pixels, so that dataset.window={self.window} would "
                "be padding for the most part. Take a smaller window"
            )
            raise FileFaults([(entry.files[0], wrong)])
        tops, lefts = (
            window_starts(length, self.window, self.stride)
            if split == "train"
            else range(0, length, self.window)
            for length in (seen.rows, seen.columns)
        )
        regions = np.array(
            [
                (t, c, min(self.window, seen.rows - t), min(self.window, seen.columns - c))
                for t in tops
                for c in lefts
            ]
        )
        if self.tissue["share"] > 0:
            tissue, downsample = slides.tissue(slide, self.tissue["downsample"])
            share = slides.shares(tissue, regions, downsample / seen.scale)
            regions = regions[share >= self.tissue["share"]]
            if not len(regions):
                wrong = (
                    f"no window with so much tissue (dataset.tissue.share={self.tissue['share']}; "
                    f"the most is {share.max():.2g}). Is it a stained slide? Take a smaller share"
                )
                raise FileFaults([(entry.files[0], wrong)])
        samples = [
            Sample(f"{entry.slide}-r{top:05d}-c{left:05d}", entry.files, (top, left, *size))
            for top, left, *size in regions.tolist()
        ]
        only = self.positives_only if split == "train" else self.evaluate_positives_only
        return [sample for sample in samples if self._is_positive(sample)] if only else samples


def _check_resolution(level: int, mpp: float | None) -> None:
    if not isinstance(level, int) or level < 0:
        raise ConfigError(f"dataset.level={level}: must be 0 (the finest), 1, ...")
    if mpp is not None and not (isinstance(mpp, int | float) and mpp > 0):
        raise ConfigError(f"dataset.mpp={mpp}: must be microns a pixel, such as 0.5, or null")
    if mpp is not None and level:
        raise ConfigError(f"dataset.level={level} and dataset.mpp={mpp}: one of them, not both")
