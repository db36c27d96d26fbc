"""ADE20K's SceneParsing-150: scenes of many sizes, 150 classes (ADEChallengeData2016).

Zhou et al. "Scene parsing through ADE20K dataset." CVPR 2017. Images: non-commercial research and
education. The test images have no public annotations, so results are reported on validation.

The annotations hold 1 .. 150, which become 0 .. 149, and 0 ("other"), which is ignored, as the
official evaluation ignores it. That evaluation then takes the mean of the IoU over all 150 classes,
a class counting 0 that occurs neither in truth nor in prediction, and of that and the pixel
accuracy the mean. Here, as in every data set, an absent class is in no mean, and no two scores are
mixed. The full ADE20K, whose annotations are colour images, is another format.
"""

import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from seglab.data.folder import colours
from seglab.data.layout import file_names, layout_error, root_folder
from seglab.data.reading import read_labels, read_rgb, refuse_labels
from seglab.data.source import Fault, Sample, Source
from seglab.errors import DataError

NUM_CLASSES = 150
TOP = "ADEChallengeData2016"
NAMES = "objectInfo150.txt"
FOLDERS = {"train": "training", "val": "validation"}
TREE = """\
  images/{training,validation}/ADE_{train,val}_<8 digits>.jpg
  annotations/{training,validation}/ADE_{train,val}_<8 digits>.png
  objectInfo150.txt    (the names of the classes; without it they are numbered)
  (all of it in a folder ADEChallengeData2016, as unpacked: that will do, too)"""


class Ade20k(Source):
    """Scenes, paired by name.

    Args:
        root: the folder that holds images and annotations, or the folder above.
        expected_counts: images that each split must have; None is not checked.

    Errors: DataError where the root is missing, or the list of names is not what it should be.
    """

    name = "ade20k"
    colours = colours(NUM_CLASSES)
    splits = ("train", "val")
    test_split = "val"

    def __init__(self, root: str, expected_counts: Mapping[str, int] | None) -> None:
        self.root = root_folder(self.name, root, TREE)
        self.expected_counts = None if expected_counts is None else dict(expected_counts)
        self.classes = class_names(self._top / NAMES)

    def options(self) -> dict[str, Any]:
        """The expected counts."""
        return {"expected_counts": self.expected_counts}

    def watched(self) -> list[Path]:
        """The two splits of the images and of the annotations."""
        return [
            self._top / kind / f for kind in ("images", "annotations") for f in FOLDERS.values()
        ]

    def samples(self, split: str) -> list[Sample]:
        """`ADE_train_00000001`, ...: every image, sorted, with the annotation of the same name."""
        masks = self._top / "annotations" / FOLDERS[split]
        return [
            Sample(path.stem, (path, masks / f"{path.stem}.png")) for path in self._images[split]
        ]

    def read_image(self, sample: Sample) -> np.ndarray:
        """(H, W, 3) uint8 RGB; a few are grey."""
        return read_rgb(sample.files[0])

    def read_mask(self, sample: Sample) -> np.ndarray:
        """(H, W) uint8: the annotation minus 1, IGNORE where it is 0."""
        path = sample.files[1]
        labels = read_labels(path)
        refuse_labels(path, labels, range(NUM_CLASSES + 1), f"0 (other) and 1 .. {NUM_CLASSES}")
        return labels - np.uint8(1)  # 0 - 1 is 255, which is IGNORE

    def layout_faults(self) -> list[Fault]:
        """Odd names among the images, and annotations without an image."""
        faults = []
        for split, folder in FOLDERS.items():
            known = {path.name for path in self._images[split]}
            stems = {path.stem for path in self._images[split]}
            faults += [
                Fault(self._place("images", folder, name), f"expected {_pattern(split).pattern}")
                for name in file_names(self._top / "images" / folder)
                if name not in known
            ]
            faults += [
                Fault(self._place("annotations", folder, name), "no image for it")
                for name in file_names(self._top / "annotations" / folder)
                if Path(name).stem not in stems
            ]
        return faults

    def _place(self, kind: str, folder: str, name: str) -> str:
        assert self.root is not None
        return (self._top / kind / folder / name).relative_to(self.root).as_posix()

    @cached_property
    def _top(self) -> Path:
        assert self.root is not None
        return self.root / TOP if (self.root / TOP).is_dir() else self.root

    @cached_property
    def _images(self) -> dict[str, list[Path]]:
        """Split -> images with a right name, sorted."""
        assert self.root is not None
        for folder in self.watched():
            if not folder.is_dir():
                wrong = f"no folder {folder.relative_to(self.root)}"
                raise layout_error(self.name, self.root, TREE, wrong)
        return {
            split: [
                self._top / "images" / folder / name
                for name in file_names(self._top / "images" / folder)
                if _pattern(split).fullmatch(name)
            ]
            for split, folder in FOLDERS.items()
        }


def class_names(path: Path) -> tuple[str, ...]:
    """The 150 names: the first word or words for each class in objectInfo150.txt.

    Its rows are `2 <tab> 0.1072 <tab> ... <tab> building, edifice`, under a line of headings.
    Without the file: "class 1", ...

    Errors: DataError where the file does not name the classes 1 .. 150 in this order.
    """
    if not path.is_file():
        return tuple(f"class {number}" for number in range(1, NUM_CLASSES + 1))
    rows = [
        line.split("\t") for line in path.read_text(encoding="utf-8").splitlines() if line.strip()
    ][1:]
    numbers = [row[0].strip() for row in rows]
    if numbers != [str(number) for number in range(1, NUM_CLASSES + 1)]:
        raise DataError(
            f"{path}: expected a line of headings and the classes 1 to {NUM_CLASSES}, a line each, "
            "with tabs between the columns. Take it anew from the download, or remove it: the "
            "classes are then numbered"
        )
    return tuple(row[-1].split(",")[0].strip() for row in rows)


def _pattern(split: str) -> re.Pattern[str]:
    return re.compile(rf"ADE_{split}_\d{{8}}\.jpg")
