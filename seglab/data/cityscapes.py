"""Cityscapes: street scenes of 2048 x 1024 pixels, 19 classes, finely annotated.

Cordts et al. "The Cityscapes dataset for semantic urban scene understanding." CVPR 2016.
https://arxiv.org/abs/1604.01685. Non-commercial, after registration; images may not be passed on.

Only train and val have public annotations, so val is where results are reported.
"""

import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from seglab.data.layout import file_names, folder_names, layout_error, root_folder
from seglab.data.reading import read_labels, read_rgb, refuse_labels
from seglab.data.source import IGNORE, Fault, Sample, Source
from seglab.errors import ConfigError

# train id = place in this table: label id, name, official colour
_CLASSES = (
    (7, "road", (128, 64, 128)),
    (8, "sidewalk", (244, 35, 232)),
    (11, "building", (70, 70, 70)),
    (12, "wall", (102, 102, 156)),
    (13, "fence", (190, 153, 153)),
    (17, "pole", (153, 153, 153)),
    (19, "traffic light", (250, 170, 30)),
    (20, "traffic sign", (220, 220, 0)),
    (21, "vegetation", (107, 142, 35)),
    (22, "terrain", (152, 251, 152)),
    (23, "sky", (70, 130, 180)),
    (24, "person", (220, 20, 60)),
    (25, "rider", (255, 0, 0)),
    (26, "car", (0, 0, 142)),
    (27, "truck", (0, 0, 70)),
    (28, "bus", (0, 60, 100)),
    (31, "train", (0, 80, 100)),
    (32, "motorcycle", (0, 0, 230)),
    (33, "bicycle", (119, 11, 32)),
)
NUM_LABEL_IDS = 34  # 0 .. 33; the licence plate, -1, is 255 in a file of 8 bits

LABEL_IDS = tuple(label_id for label_id, _, _ in _CLASSES)
"""Label id of each train id: what the official evaluator wants in a prediction."""


def train_ids() -> np.ndarray:
    """(256,) uint8: label id -> train id 0 .. 18, IGNORE for every other label."""
    table = np.full(256, IGNORE, np.uint8)
    table[list(LABEL_IDS)] = np.arange(len(LABEL_IDS))
    return table


def to_label_ids(predicted: np.ndarray) -> np.ndarray:
    """Train ids 0 .. 18 of any shape -> uint8 label ids, as the official evaluator wants them.

    IGNORE becomes 0, the label "unlabeled".
    """
    table = np.zeros(256, np.uint8)
    table[: len(LABEL_IDS)] = LABEL_IDS
    return table[predicted]


TREE = """\
  leftImg8bit/{train,val}/<city>/<city>_<sequence>_<frame>_leftImg8bit.png
  gtFine/{train,val}/<city>/<city>_<sequence>_<frame>_gtFine_labelIds.png"""

_IMAGE = re.compile(r"(.+_\d{6}_\d{6})_leftImg8bit\.png")


class Cityscapes(Source):
    """Street scenes, paired by city, sequence and frame.

    Args:
        root: the folder that holds leftImg8bit and gtFine.
        labels: "labelIds", the files as downloaded, or "labelTrainIds", the files that the official
            csCreateTrainIdLabelImgs makes of them. Both give the same masks.
        expected_counts: images that each split must have; None is not checked.

    Errors: DataError where the root is missing, ConfigError where `labels` is neither.
    """

    name = "cityscapes"
    classes = tuple(name for _, name, _ in _CLASSES)
    colours = tuple(colour for _, _, colour in _CLASSES)
    splits = ("train", "val")
    test_split = "val"

    def __init__(self, root: str, labels: str, expected_counts: Mapping[str, int] | None) -> None:
        if labels not in ("labelIds", "labelTrainIds"):
            raise ConfigError(f"dataset.labels={labels}, expected labelIds or labelTrainIds")
        self.labels = labels
        self.root = root_folder(self.name, root, TREE)
        self.expected_counts = None if expected_counts is None else dict(expected_counts)
        self._table = train_ids()

    def options(self) -> dict[str, Any]:
        """Which label files are read, and the expected counts."""
        return {"labels": self.labels, "expected_counts": self.expected_counts}

    def watched(self) -> list[Path]:
        """The two splits of the images and of the annotations; test and coarse are not read."""
        kinds = ("leftImg8bit", "gtFine")
        return [self.root / kind / split for kind in kinds for split in self.splits]

    def samples(self, split: str) -> list[Sample]:
        """`aachen_000000_000019`, ...: every image, sorted, with the mask of the same name."""
        images, masks = self.root / "leftImg8bit" / split, self.root / "gtFine" / split
        return [
            Sample(
                id=key,
                files=(
                    images / city / f"{key}_leftImg8bit.png",
                    masks / city / f"{key}{self._suffix}",
                ),
            )
            for city, key in self._images[split]
        ]

    def read_image(self, sample: Sample) -> np.ndarray:
        """(1024, 2048, 3) uint8 RGB."""
        return read_rgb(sample.files[0])

    def read_mask(self, sample: Sample) -> np.ndarray:
        """(1024, 2048) uint8 train ids 0 .. 18, IGNORE for all other labels."""
        path = sample.files[1]
        labels = read_labels(path)
        if self.labels == "labelTrainIds":
            allowed, meaning = range(len(self.classes)), "the train ids 0 .. 18 and 255"
        else:
            allowed, meaning = range(NUM_LABEL_IDS), "the label ids 0 .. 33 and 255 (-1)"
        refuse_labels(path, labels, {*allowed, IGNORE}, meaning)
        return labels if self.labels == "labelTrainIds" else self._table[labels]

    def layout_faults(self) -> list[Fault]:
        """Odd names among the images, and masks without an image."""
        faults = []
        for split in self.splits:
            images = set(self._images[split])
            for city in folder_names(self.root / "leftImg8bit" / split):
                faults += [
                    Fault(
                        f"leftImg8bit/{split}/{city}/{name}",
                        f"expected names like {city}_000000_000019_leftImg8bit.png",
                    )
                    for name in file_names(self.root / "leftImg8bit" / split / city)
                    if not _key(city, name)
                ]
            for city in folder_names(self.root / "gtFine" / split):
                faults += [
                    Fault(f"gtFine/{split}/{city}/{name}", "no image for it")
                    for name in file_names(self.root / "gtFine" / split / city)
                    if name.endswith(self._suffix)
                    and (city, name.removesuffix(self._suffix)) not in images
                ]
        return faults

    @property
    def _suffix(self) -> str:
        return f"_gtFine_{self.labels}.png"

    @cached_property
    def _images(self) -> dict[str, list[tuple[str, str]]]:
        """Split -> (city, city_sequence_frame) of every image, sorted."""
        for folder in self.watched():
            if not folder.is_dir():
                wrong = f"no folder {folder.relative_to(self.root)}"
                raise layout_error(self.name, self.root, TREE, wrong)
        if self.labels == "labelTrainIds" and not any(
            name.endswith(self._suffix)
            for split in self.splits
            for city in folder_names(self.root / "gtFine" / split)
            for name in file_names(self.root / "gtFine" / split / city)
        ):
            wrong = (
                f"no file *{self._suffix} under gtFine. They are not part of the download: make "
                "them with csCreateTrainIdLabelImgs, or set dataset.labels=labelIds"
            )
            raise layout_error(self.name, self.root, TREE, wrong)
        return {
            split: [
                (city, key)
                for city in folder_names(self.root / "leftImg8bit" / split)
                for name in file_names(self.root / "leftImg8bit" / split / city)
                if (key := _key(city, name))
            ]
            for split in self.splits
        }


def _key(city: str, name: str) -> str:
    """'aachen_000000_000019' of an image's file name, '' where it is not named so."""
    match = _IMAGE.fullmatch(name)
    return match[1] if match and match[1].startswith(f"{city}_") else ""
