"""CelebAMask-HQ: 30 000 faces of 1024 x 1024 pixels; all parts merged into one face mask.

Lee, Liu, Wu, Luo. "MaskGAN: towards diverse and interactive facial image manipulation." CVPR 2020.
https://arxiv.org/abs/1907.11922. Non-commercial research and education only; images and what is
derived from them may not be passed on.

A part that a face does not have has no file, so any set of parts makes a mask, and none is a fault.
The splits by number are not disjoint in persons; only `split: celeba` is.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from seglab.data.layout import file_names, folder_names, layout_error, root_folder
from seglab.data.reading import FileFaults, read_rgb, read_size, read_stencil
from seglab.data.source import Fault, Sample, Source
from seglab.errors import ConfigError

# in the order of the official label ids, 1 to 18
# fmt: off
PARTS = (
    "skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear",
    "mouth", "u_lip", "l_lip", "hair", "hat", "ear_r", "neck_l", "neck", "cloth",
)
# fmt: on
IMAGES, ANNOTATIONS = "CelebA-HQ-img", "CelebAMask-HQ-mask-anno"
MAPPING, PARTITION = "CelebA-HQ-to-CelebA-mapping.txt", "list_eval_partition.txt"
IMAGES_PER_FOLDER = 2000  # of the annotations
TREE = f"""\
  {IMAGES}/0.jpg ... 29999.jpg
  {ANNOTATIONS}/0 ... 14/00000_skin.png ...
  {MAPPING}  (for dataset.split=celeba, and CelebA's {PARTITION} beside it)"""

_IMAGE = re.compile(r"(0|[1-9]\d*)\.jpg")


@dataclass
class _Index:
    images: list[int] = field(default_factory=list)  # sorted
    parts: dict[int, list[str]] = field(default_factory=dict)  # "folder/file", in order of PARTS
    faults: list[Fault] = field(default_factory=list)


class CelebAMaskHQ(Source):
    """Binary: face (any of the 18 parts) or not.

    Args:
        root: the folder CelebAMask-HQ, as unpacked.
        split: "celeba", which follows the official CelebA partition of the original photographs;
            or a mapping with order ("index": the images in the order of their numbers;
            "shuffled": in an order drawn from `seed`, the same on every machine), seed, and either
            counts (images for train, val and test) or folds and fold (1 .. folds): that fold is
            the test split, the first half of the next one (after the last, the first) the
            validation split, the rest is for training. Five folds make 70/10/20.
        expected_images: how many images there must be (30000); None is not checked.

    Errors: DataError where the root is missing, ConfigError where `split` is neither.
    """

    name = "celebamask_hq"
    classes = ("face",)
    colours = ((255, 180, 60),)

    def __init__(
        self, root: str, split: str | Mapping[str, Any], expected_images: int | None
    ) -> None:
        self.split = _parsed(split)
        self.root = root_folder(self.name, root, TREE)
        self.expected_images = expected_images
        if "counts" in self.split:
            self.expected_counts = dict(zip(self.splits, self.split["counts"], strict=True))

    def options(self) -> dict[str, Any]:
        """The split, and the expected number of images."""
        return {"split": self.split, "expected_images": self.expected_images}

    def watched(self) -> list[Path]:
        """The images, the annotations, and the two lists where the split needs them."""
        lists = [self.root / MAPPING, self.root / PARTITION] if self.split == "celeba" else []
        return [self.root / IMAGES, self.root / ANNOTATIONS, *lists]

    def samples(self, split: str) -> list[Sample]:
        """`00000`, `00001`, ...: the images of the split that are there."""
        return list(self._samples[split])

    def read_image(self, sample: Sample) -> np.ndarray:
        """(1024, 1024, 3) uint8 RGB."""
        return read_rgb(sample.files[0])

    def read_mask(self, sample: Sample) -> np.ndarray:
        """(1024, 1024) uint8: 1 where any part is, enlarged from 512 to the image's size.

        Each pixel takes the label of the one it lies on (exact nearest).
        Errors: FileFaults for every part that is damaged, and where there is no part at all.
        """
        image, *parts = sample.files
        if not parts:
            raise FileFaults([(image, f"no part file in {ANNOTATIONS}")])
        face, faults = None, []
        for part in parts:
            try:
                stencil = read_stencil(part)
            except FileFaults as error:
                faults += error.faults
                continue
            face = stencil if face is None else face
            if stencil.shape != face.shape:
                faults.append((part, f"{_by(stencil.shape)} pixels, others {_by(face.shape)}"))
            else:
                face |= stencil
        if faults:
            raise FileFaults(faults)
        rows, columns = read_size(image)
        if face.shape[0] * columns != face.shape[1] * rows:
            shapes = f"{_by(face.shape)} pixels, image {_by((rows, columns))}"
            raise FileFaults([(parts[0], f"{shapes}: not the same proportions")])
        return cv2.resize(
            face.view(np.uint8), (columns, rows), interpolation=cv2.INTER_NEAREST_EXACT
        )

    def layout_faults(self) -> list[Fault]:
        """Parts without an image or in a wrong folder, odd names, wrong counts."""
        faults, found = list(self._index.faults), len(self._index.images)
        if self.expected_images not in (None, found):
            faults.insert(0, Fault(IMAGES, f"{found} images, expected {self.expected_images}"))
        if self.split == "celeba":
            known = {number for numbers in self._split_numbers.values() for number in numbers}
            faults += [
                Fault(f"{IMAGES}/{number}.jpg", f"in no split: not in {MAPPING} and {PARTITION}")
                for number in self._index.images
                if number not in known
            ]
        return faults

    @cached_property
    def _samples(self) -> dict[str, list[Sample]]:
        images, annotations = self.root / IMAGES, self.root / ANNOTATIONS
        return {
            split: [
                Sample(
                    id=f"{number:05d}",
                    files=(
                        images / f"{number}.jpg",
                        *(annotations / part for part in self._index.parts.get(number, [])),
                    ),
                )
                for number in numbers
            ]
            for split, numbers in self._split_numbers.items()
        }

    @cached_property
    def _split_numbers(self) -> dict[str, list[int]]:
        images = self._index.images
        if self.split == "celeba":
            partition = self._celeba_partition()
            return {
                split: [number for number in images if partition.get(number) == code]
                for code, split in enumerate(self.splits)
            }
        if self.split["order"] == "shuffled":
            images = sorted(images, key=lambda number: _shuffle_key(self.split["seed"], number))
        if "folds" in self.split:
            return _fold(images, self.split["folds"], self.split["fold"])
        train, val, test = self.split["counts"]
        return {
            "train": images[:train],
            "val": images[train : train + val],
            "test": images[train + val : train + val + test],
        }

    def _celeba_partition(self) -> dict[int, int]:
        """Image number -> 0 train, 1 val, 2 test, joined through the original file name."""
        for name in (MAPPING, PARTITION):
            if not (self.root / name).is_file():
                wrong = f"dataset.split=celeba needs the file {name}"
                raise layout_error(self.name, self.root, TREE, wrong)
        codes = {}
        for words in _rows(self.root / PARTITION):
            if len(words) == 2 and words[1] in ("0", "1", "2"):
                codes[words[0]] = int(words[1])
        originals = {}
        for words in _rows(self.root / MAPPING):
            if len(words) == 3 and words[0].isdigit():  # the first line is a header
                originals[int(words[0])] = words[2]
        return {number: codes[name] for number, name in originals.items() if name in codes}

    @cached_property
    def _index(self) -> _Index:
        """One listing of each folder: 30 000 images and 360 000 parts take seconds."""
        for folder in (IMAGES, ANNOTATIONS):
            if not (self.root / folder).is_dir():
                inner = self.root / "CelebAMask-HQ"
                cure = f"; did you mean dataset.root={inner} ?" if inner.is_dir() else ""
                raise layout_error(self.name, self.root, TREE, f"no folder {folder}{cure}")
        index = _Index()
        for name in file_names(self.root / IMAGES):
            match = _IMAGE.fullmatch(name)
            if match:
                index.images.append(int(match[1]))
            else:
                index.faults.append(Fault(f"{IMAGES}/{name}", "expected names like 123.jpg"))
        index.images.sort()
        order = {part: position for position, part in enumerate(PARTS)}
        found: dict[int, list[tuple[int, str]]] = {}
        for folder in folder_names(self.root / ANNOTATIONS):
            for name in file_names(self.root / ANNOTATIONS / folder):
                number, part = name[:5], name[6:-4]
                path = f"{folder}/{name}"
                if part not in order or not number.isdigit() or name != f"{number}_{part}.png":
                    wrong = f"expected names like 00123_skin.png, parts {' '.join(PARTS)}"
                    index.faults.append(Fault(f"{ANNOTATIONS}/{path}", wrong))
                elif folder != str(int(number) // IMAGES_PER_FOLDER):
                    right = int(number) // IMAGES_PER_FOLDER
                    wrong = f"expected in folder {right} ({IMAGES_PER_FOLDER} images a folder)"
                    index.faults.append(Fault(f"{ANNOTATIONS}/{path}", wrong))
                else:
                    found.setdefault(int(number), []).append((order[part], path))
        there = set(index.images)
        for number, parts in sorted(found.items()):
            index.parts[number] = [path for _, path in sorted(parts)]
            if number not in there:
                many = f"{len(parts)} part{'s' * (len(parts) > 1)}"
                wrong = f"no image {IMAGES}/{number}.jpg for it ({many})"
                index.faults.append(Fault(f"{ANNOTATIONS}/{index.parts[number][0]}", wrong))
        return index


def _parsed(split: str | Mapping[str, Any]) -> str | dict[str, Any]:
    """The argument `split` as plain JSON. A seed that shuffles nothing is left out."""
    where = "dataset.split"
    if isinstance(split, str):
        if split != "celeba":
            raise ConfigError(f"{where}={split}, expected celeba, or counts, order and seed")
        return split
    given = {key: value for key, value in split.items() if value is not None}
    size = {"folds", "fold"} if "fold" in given else {"counts"}
    if set(given) - {"seed"} != {"order", *size}:
        raise ConfigError(
            f"{where} has {sorted(given)}, expected counts, or folds and fold; order; and seed"
        )
    if "counts" in size:
        parsed: dict[str, Any] = {"counts": [int(count) for count in given["counts"]]}
        if len(parsed["counts"]) != 3 or min(parsed["counts"]) < 0:
            raise ConfigError(f"{where}.counts={parsed['counts']}, expected [train, val, test]")
    else:
        parsed = {"folds": int(given["folds"]), "fold": int(given["fold"])}
        if parsed["folds"] < 3 or not 1 <= parsed["fold"] <= parsed["folds"]:
            raise ConfigError(
                f"{where}.fold={parsed['fold']}, expected 1 .. folds={parsed['folds']}, 3 or more"
            )
    order = parsed["order"] = given["order"]
    if order not in ("index", "shuffled"):
        raise ConfigError(f"{where}.order={order}, expected index or shuffled")
    if order == "shuffled":
        if "seed" not in given:
            raise ConfigError(f"{where}.seed is not set, and order=shuffled needs it")
        parsed["seed"] = int(given["seed"])
    return parsed


def _fold(images: list[int], folds: int, fold: int) -> dict[str, list[int]]:
    """Which images are for what, where the `fold`-th of `folds` is tested on."""
    start, end = (len(images) * part // folds for part in (fold - 1, fold))
    others = images[end:] + images[:start]
    val = len(images) // (2 * folds)
    return {"train": others[val:], "val": others[:val], "test": images[start:end]}


def _shuffle_key(seed: int, number: int) -> str:
    """Sorting by a hash is a shuffle that no library version changes."""
    return hashlib.sha256(f"{seed}:{number}".encode()).hexdigest()


def _rows(path: Path) -> list[list[str]]:
    return [line.split() for line in path.read_text(encoding="utf-8").splitlines()]


def _by(shape: tuple[int, ...]) -> str:
    return f"{shape[0]} x {shape[1]}"
