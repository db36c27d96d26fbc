"""Your own images and masks: two folders of files with the same names, or a table of pairs."""

import colorsys
import csv
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from seglab.data.layout import file_names, files_by_stem, root_folder
from seglab.data.partition import grouping, partition, torn_group
from seglab.data.reading import read_labels, read_rgb, read_stencil, refuse_labels
from seglab.data.source import IGNORE, Fault, Sample, Source
from seglab.errors import ConfigError, DataError

TREE = """\
  <images>/a.png, b.jpg, ...
  <masks>/a.png, b.png, ...    with the same names, or with mask_suffix behind them
or, with dataset.table, a .csv file with the columns image, mask and split (train, val or test)"""
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")


class Folder(Source):
    """Images and masks of one user.

    Args:
        root: the folder that everything lies in.
        images, masks: folders in it, one file in each for an image.
        mask_suffix: what a mask's name has behind its image's, such as "_mask".
        table: a .csv file in it, in place of the two folders; None takes the folders.
        classes: names. One makes a binary task, in which every pixel that is not black is of it;
            of several, the masks hold the numbers 0, 1, ... and 255 where nothing counts.
        zero_means_ignore: of several classes, the masks hold 1, 2, ... and 0 where nothing counts.
        split: shares of val and test, and the seed that draws them; not with a table.
        group: a regular expression with one group in brackets, found in each image's name: what
            it finds (a patient's number) stays in one split. None: each image is by itself. In a
            table the name is that of the file, without suffix; an expression with a / in it is
            looked for in all of the column image: "^(.*)/" is a folder for each patient.

    Errors: DataError where the root is missing, ConfigError for what does not fit together.
    `samples`, too: DataError for a table with a group in two splits, or an empty cell.
    """

    name = "folder"

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
    ) -> None:
        self.root = root_folder(self.name, root, TREE)
        self.classes = class_names(classes, "nucleus", zero_means_ignore=zero_means_ignore)
        self.colours = colours(len(self.classes))
        self.images, self.masks, self.mask_suffix, self.table = images, masks, mask_suffix, table
        self.zero_means_ignore, self.split = zero_means_ignore, dict(split)
        grouping(group)  # for its errors
        self.group = group

    def options(self) -> dict[str, Any]:
        """What decides samples and pixels."""
        how = {"split": self.split, "group": self.group} if self.table is None else {}
        return {
            "classes": list(self.classes),
            "zero_means_ignore": self.zero_means_ignore,
            "table": self.table,
            **how,
        }

    def watched(self) -> list[Path]:
        """The two folders, or the table's folder."""
        assert self.root is not None
        if self.table is not None:
            return [self.root]
        return [self.root / self.images, self.root / self.masks]

    def samples(self, split: str) -> list[Sample]:
        """Named as the images are, without their suffix."""
        return list(self._samples[split])

    def read_image(self, sample: Sample) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""
        return read_rgb(sample.files[0])

    def read_mask(self, sample: Sample) -> np.ndarray:
        """(H, W) uint8: 0 and 1 of one class, else the class indices, IGNORE where nothing counts.

        Errors: FileFaults for a number that is no class.
        """
        path = sample.files[1]
        if len(self.classes) == 1:
            return read_stencil(path).astype(np.uint8)
        labels = read_labels(path)
        if self.zero_means_ignore:
            refuse_labels(path, labels, range(len(self.classes) + 1), "0 (ignored) and the classes")
            return np.where(labels == 0, IGNORE, labels - 1).astype(np.uint8)
        refuse_labels(path, labels, {*range(len(self.classes)), IGNORE}, "the classes and 255")
        return labels

    def layout_faults(self) -> list[Fault]:
        """Masks without an image, and two images of one name."""
        if self.table is not None:
            return []
        used = {path for rows in self._samples.values() for s in rows for path in s.files}
        folder = self.watched()[1]
        return [
            Fault(f"{self.masks}/{name}", "no image for it")
            for name in file_names(folder)
            if folder / name not in used
        ]

    @cached_property
    def _samples(self) -> dict[str, list[Sample]]:
        if self.table is not None:
            return self._of_table()
        images = self._files(self.images)
        masks = self._files(self.masks)
        paired = {
            stem: Sample(stem, (path, masks.get(stem + self.mask_suffix, self._wanted(stem))))
            for stem, path in images.items()
        }
        seed = int(self.split.get("seed", 0))
        shares = {key: value for key, value in self.split.items() if key != "seed"}
        drawn = partition(paired, grouping(self.group), shares, seed)
        return {split: [paired[name] for name in names] for split, names in drawn.items()}

    def _files(self, folder: str) -> dict[str, Path]:
        assert self.root is not None
        return files_by_stem(
            self.name, self.root, folder, SUFFIXES, TREE, "image", skip_folders=False
        )

    def _wanted(self, stem: str) -> Path:
        """Where the mask should be: the check says that it is missing."""
        assert self.root is not None
        return self.root / self.masks / f"{stem}{self.mask_suffix}.png"

    def _of_table(self) -> dict[str, list[Sample]]:
        assert self.root is not None
        assert self.table is not None
        path = self.root / self.table
        try:
            with open(path, encoding="utf-8-sig", newline="") as file:
                rows = list(csv.DictReader(file))
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}).") from None
        wanted = {"image", "mask", "split"}
        if not rows or not wanted <= set(rows[0]):
            raise DataError(f"{path}: must have the columns image, mask and split, and rows")
        found: dict[str, list[Sample]] = {split: [] for split in self.splits}
        for number, row in enumerate(rows, start=2):
            empty = [key for key in ("image", "mask") if not (row[key] or "").strip()]
            if empty:
                raise DataError(
                    f"{path}, line {number}: no {empty[0]}. Each line names both files; an image "
                    "with nothing in it has a mask that is all background. Or delete the line."
                )
            if row["split"] not in found:
                raise DataError(
                    f"{path}, line {number}: split {row['split']!r}, expected train, val or test"
                )
            files = self.root / row["image"], self.root / row["mask"]
            found[row["split"]].append(Sample(Path(row["image"]).with_suffix("").as_posix(), files))
        self._refuse_torn_groups(path, rows)
        return found

    def _refuse_torn_groups(self, path: Path, rows: Sequence[Mapping[str, str]]) -> None:
        """Errors: DataError where the rows of one group are in several splits."""
        if self.group is None:  # what is the same image, the check says
            return
        names = [Path(row["image"]) for row in rows]
        placed = [
            (name.as_posix() if "/" in self.group else name.stem, row["split"])
            for name, row in zip(names, rows, strict=True)
        ]
        torn = torn_group(placed, grouping(self.group))
        if torn is not None:
            (name, split), (_, other) = (placed[place] for place in torn)
            raise DataError(
                f"{path}, line {torn[1] + 2}: {grouping(self.group)(name)} (dataset.group) is in "
                f"{other}, and in {split} on line {torn[0] + 2}. Put all of a group into one split."
            )


def class_names(
    classes: Sequence[str], example: str, *, zero_means_ignore: bool
) -> tuple[str, ...]:
    """`dataset.classes` of a user's own data.

    Errors: ConfigError for other than a list of names, and for zero_means_ignore with one class.
    """
    if isinstance(classes, str):
        raise ConfigError(f"dataset.classes={classes}: must be a list: [{classes}]")
    if not classes or not all(isinstance(name, str) for name in classes):
        raise ConfigError(f"dataset.classes={list(classes)}: must be names, such as [{example}]")
    if zero_means_ignore and len(classes) == 1:
        raise ConfigError("dataset.zero_means_ignore=true: of one class, 0 is the background")
    return tuple(classes)


def colours(count: int) -> tuple[tuple[int, int, int], ...]:
    """So many, far apart in hue."""
    hues = (colorsys.hsv_to_rgb(i / count, 0.75, 0.95) for i in range(count))
    return tuple((round(255 * r), round(255 * g), round(255 * b)) for r, g, b in hues)
