"""What every data set is to the rest of seglab. Imports no torch.

A `Source` knows how a data set lies on disk: which samples a split has, how an image and its mask
are read, and which faults its folders have. It knows nothing of sizes, batches or epochs:
`preprocess` resizes, `check` reads everything once, `cache` keeps the result, `module` feeds it.

A source looks at its folders once, when first asked; a new one sees what has changed since.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

IGNORE = 255  # ops.IGNORE, repeated here because ops imports torch; a test holds them together


@dataclass(frozen=True)
class Sample:
    """One image and its annotation, by name.

    Attributes:
        id: unique within the data set and the same on every machine ("frankfurt_000000_000294").
        files: every file that it is read from, the image first. Empty where it is computed.
        region: where several samples share the files, the part that this one is: (top, left, rows,
            columns), or (number,) of a slice of a volume. Else empty.
    """

    id: str
    files: tuple[Path, ...] = ()
    region: tuple[int, ...] = ()


@dataclass(frozen=True)
class Fault:
    """Something wrong with a data set: where (relative to its root), and what."""

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class Source(ABC):
    """A data set as it lies on disk. Subclasses set the attributes and the three readers.

    Attributes:
        name: as in configs/dataset/<name>.yaml.
        classes: names of the classes; one name means a binary task (that name is the foreground,
            mask values 0 and 1), several mean mask values 0 .. len(classes) - 1.
        colours: (R, G, B) for each class, for the pictures.
        root: the folder that all files are in, or None for a data set that is computed.
        splits: names of the splits, the training split first.
        test_split: the split on which the best epoch is reported.
        share_images: whether the licence lets pictures leave this machine.
        expected_counts: images that each split must have; None, or a split left out: any number.
        dimensions: 2 for images, 3 for volumes.
        channels: of an image; of 2 dimensions always 3.
        version: raised when the readers return other pixels for the same files or arguments, so
            that verdicts, prepared arrays and runs of the older ones are not taken for these.
    """

    name: str
    classes: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]
    root: Path | None = None
    splits: tuple[str, ...] = ("train", "val", "test")
    test_split: str = "test"
    share_images: bool = False
    expected_counts: Mapping[str, int] | None = None
    dimensions: int = 2
    channels: int = 3
    version: int = 1

    def __getstate__(self) -> dict[str, Any]:
        """Without its cached properties (listings, decoded files): worker processes get it."""
        cached = {
            name
            for kind in type(self).__mro__
            for name, value in vars(kind).items()
            if isinstance(value, cached_property)
        }
        return {name: value for name, value in self.__dict__.items() if name not in cached}

    @property
    def num_classes(self) -> int:
        """1 for a binary task, else the number of classes: the channels of the logits."""
        return len(self.classes)

    @abstractmethod
    def samples(self, split: str) -> list[Sample]:
        """The samples of a split, in a fixed order. A sample may name files that are missing.

        Errors: DataError with the expected tree where the folder or its layout is missing.
        """

    @abstractmethod
    def read_image(self, sample: Sample) -> np.ndarray:
        """(H, W, 3) uint8 RGB; of 3 dimensions (D, H, W, channels) float32, already normalised.

        Errors: DataError naming the file, what is wrong and what to do.
        """

    @abstractmethod
    def read_mask(self, sample: Sample) -> np.ndarray:
        """(H, W) or (D, H, W) uint8 class indices, IGNORE where nothing counts. The image's size.

        Errors: DataError naming the file, what is wrong and what to do.
        """

    def read_instances(self, sample: Sample) -> np.ndarray | None:
        """Which object each pixel belongs to, for losses that look at objects; None: not known.

        (H, W) integers of the mask's size, 0 where the mask is background; touching objects have
        numbers of their own. What a number says where the mask is IGNORE is not looked at.
        """
        del sample
        return None

    def spacing(self, sample: Sample) -> tuple[float, ...] | None:
        """Millimetres from voxel to voxel along each axis of the image; None: not known.

        Errors: DataError as for `read_image`.
        """
        del sample
        return None

    def stored_shape(self, sample: Sample) -> tuple[int, ...] | None:
        """Of an image of 2 dimensions, from its header; known wherever its spacing is.

        Errors: DataError as for `read_image`.
        """
        del sample
        return None

    def test_images(self) -> int:
        """How many images the test samples show: windows of one image are not independent."""
        return len({sample.files or sample.id for sample in self.samples(self.test_split)})

    def layout_faults(self) -> list[Fault]:
        """Faults of the folders that no single sample shows: files without a partner, counts."""
        return []

    def options(self) -> dict[str, Any]:
        """The arguments, besides the root, that decide samples, pixels and faults, as JSON.

        Where there are no files, they and `version` alone make the fingerprint.
        """
        return {}

    def watched(self) -> list[Path]:
        """The folders and files whose every change calls for a new check."""
        return [] if self.root is None else [self.root]
