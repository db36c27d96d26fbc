"""Which slides there are, whose they are, and in which split: two folders, or a table."""

import csv
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from seglab.data.layout import file_names, files_by_stem
from seglab.data.partition import grouping, partition
from seglab.data.source import Fault
from seglab.errors import DataError

SPLITS = ("train", "val", "test")
SUFFIXES = (
    ".svs", ".tif", ".tiff", ".ndpi", ".vms", ".vmu", ".scn", ".mrxs", ".svslide", ".bif", ".czi",
    ".dcm",
)  # fmt: skip
MASK_SUFFIXES = (".tif", ".tiff")
COLUMNS = ("slide", "patient", "image", "mask")
TREE = """\
  <images>/a.svs, b.tif, ...
  <masks>/a.tif, b.tif, ...    with the same names, or with mask_suffix behind them
or, with dataset.table, a .csv file with the columns slide, patient, image, mask, and perhaps split
(train, val or test)"""


class Entry(NamedTuple):
    """One slide: its name, whose it is, its files (the image, and its mask if it has one)."""

    slide: str
    patient: str
    files: tuple[Path, ...]


class SlideList:
    """The slides of a folder; for the arguments see wsi.WholeSlides.

    Args:
        binary: whether there is one class, so that a slide may do without a mask.

    Errors: ConfigError where `group` is no regular expression with one group.
    """

    def __init__(
        self,
        root: Path,
        images: str,
        masks: str,
        mask_suffix: str,
        table: str | None,
        split: Mapping[str, Any],
        group: str | None,
        *,
        binary: bool,
    ) -> None:
        self.root, self.images, self.masks, self.mask_suffix = root, images, masks, mask_suffix
        self.table, self.split, self.binary = table, split, binary
        self.group = group
        grouping(group)  # says now what is wrong with it

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "by_split"}

    def options(self) -> dict[str, Any]:
        """What decides which slide is in which split, as JSON."""
        return {"table": self.table, "split": self.split, "group": self.group}

    def watched(self) -> list[Path]:
        """The two folders, or the table's folder."""
        if self.table is not None:
            return [self.root]
        return [self.root / self.images, self.root / self.masks]

    @cached_property
    def by_split(self) -> dict[str, list[Entry]]:
        """Split -> slides; all of a patient in one split.

        Errors: DataError for what is wrong with the folders or the table, ConfigError for shares
        that leave a split empty.
        """
        if self.table is not None:
            rows = self._rows(self.root / self.table)
            if "split" in rows[0]:
                return self._as_the_table_says(self.root / self.table, rows)
            entries = [self._entry(row) for row in rows]
        else:
            entries = self._of_folders()
        known = {entry.slide: entry for entry in entries}
        seed = int(self.split.get("seed", 0))
        shares = {key: value for key, value in self.split.items() if key != "seed"}
        drawn = partition(known, lambda name: known[name].patient, shares, seed)
        return {split: [known[name] for name in names] for split, names in drawn.items()}

    def stray_masks(self) -> list[Fault]:
        """Masks without an image, in the folder of masks."""
        if self.table is not None:
            return []
        used = {path for entries in self.by_split.values() for e in entries for path in e.files}
        return [
            Fault(f"{self.masks}/{name}", "no image for it")
            for name in file_names(self.root / self.masks)
            if self.root / self.masks / name not in used
        ]

    def _of_folders(self) -> list[Entry]:
        images, masks = self._files(self.images, SUFFIXES), self._files(self.masks, MASK_SUFFIXES)
        found, patient = [], grouping(self.group)
        for name, path in images.items():
            mask = name + self.mask_suffix  # the check says where it is missing
            wanted = self.root / self.masks / f"{mask}.tif"
            found.append(Entry(name, patient(name), (path, masks.get(mask, wanted))))
        return found

    def _files(self, folder: str, suffixes: Sequence[str]) -> dict[str, Path]:
        return files_by_stem("wsi", self.root, folder, suffixes, TREE, "file", skip_folders=True)

    def _rows(self, path: Path) -> list[dict[str, str]]:
        """Of the table, with nothing missing and no slide twice."""
        try:
            with open(path, encoding="utf-8-sig", newline="") as file:
                rows = list(csv.DictReader(file))
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}).") from None
        if not rows or not set(COLUMNS) <= set(rows[0]):
            raise DataError(f"{path}: must have the columns {', '.join(COLUMNS)}, and rows")
        names: set[str] = set()
        for number, row in enumerate(rows, start=2):
            for key in ("slide", "patient", "image"):
                if not row[key]:
                    raise DataError(f"{path}, line {number}: no {key}")
            for key in ("image", "mask"):
                if not (self.root / row[key]).is_relative_to(self.root):
                    wrong = f"{key} {row[key]} lies outside dataset.root={self.root}"
                    raise DataError(f"{path}, line {number}: {wrong}. Give it relative to that")
            if row["slide"] in names:
                raise DataError(f"{path}, line {number}: slide {row['slide']} a second time")
            names.add(row["slide"])
            if not row["mask"] and not self.binary:
                raise DataError(
                    f"{path}, line {number}: no mask. Of one class that means that the slide has "
                    "none of it; of several, leave the slide out"
                )
        return rows

    def _entry(self, row: Mapping[str, str]) -> Entry:
        files = [self.root / row[key] for key in ("image", "mask") if row[key]]
        return Entry(row["slide"], row["patient"], tuple(files))

    def _as_the_table_says(
        self, path: Path, rows: Sequence[Mapping[str, str]]
    ) -> dict[str, list[Entry]]:
        found: dict[str, list[Entry]] = {split: [] for split in SPLITS}
        of: dict[str, str] = {}
        for number, row in enumerate(rows, start=2):
            where, split = f"{path}, line {number}", row["split"]
            if split not in found:
                raise DataError(f"{where}: split {split!r}, expected train, val or test")
            if of.setdefault(row["patient"], split) != split:
                both = f"{of[row['patient']]} and {split}"
                raise DataError(f"{where}: patient {row['patient']} is in {both}. Choose one")
            found[split].append(self._entry(row))
        return found
