"""COVID-QU-Ex: chest X-rays of 256 x 256 pixels with masks of the lungs, and of infections.

Tahir et al. "COVID-19 infection localization and severity grading from chest X-ray images."
Computers in Biology and Medicine 2021. https://doi.org/10.1016/j.compbiomed.2021.104319 . The
splits are the data set's own; a patient may be in two of them. Lung masks are a network's output,
corrected by hand. Of the infection set's images half have no infection, and an empty mask.
"""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from seglab.data.layout import file_names, layout_error, root_folder
from seglab.data.reading import read_labels, read_rgb
from seglab.data.source import Fault, Sample, Source
from seglab.errors import ConfigError

KINDS = {  # what is looked for: folder of the images, folder of the masks
    "lung": ("Lung Segmentation Data", "lung masks"),
    "infection": ("Infection Segmentation Data", "infection masks"),
}
DIAGNOSES = ("COVID-19", "Non-COVID", "Normal")
FOLDERS = {"train": "Train", "val": "Val", "test": "Test"}
THRESHOLD = 127  # the masks are 0 and 255, some with noise between
TREE = """\
  Lung Segmentation Data/{Train,Val,Test}/{COVID-19,Non-COVID,Normal}/{images,lung masks}/*.png
  Infection Segmentation Data/{Train,Val,Test}/.../{images,lung masks,infection masks}/*.png
  (an unpacked download has each of the two top folders twice, one in the other: that will do)"""


class CovidQuEx(Source):
    """Binary: the lungs, or the infection.

    Args:
        root: the folder that holds the two top folders, or one of them.
        mask: "lung" or "infection".
        diagnoses: whose images: some of COVID-19, Non-COVID, Normal.

    Errors: DataError where the root is missing, ConfigError for another mask or diagnosis.
    """

    colours = ((80, 160, 255),)

    def __init__(self, root: str, mask: str, diagnoses: list[str]) -> None:
        if mask not in KINDS:
            raise ConfigError(f"dataset.mask={mask}: must be one of {', '.join(KINDS)}")
        if not diagnoses or set(diagnoses) - set(DIAGNOSES):
            raise ConfigError(
                f"dataset.diagnoses={list(diagnoses)}: must be some of {', '.join(DIAGNOSES)}"
            )
        self.mask, self.diagnoses = mask, list(diagnoses)
        self.name, self.classes = f"covid_qu_ex_{mask}", (mask,)
        self.root = root_folder(self.name, root, TREE)

    def options(self) -> dict[str, Any]:
        """The mask and the diagnoses."""
        return {"mask": self.mask, "diagnoses": self.diagnoses}

    def watched(self) -> list[Path]:
        """The top folder of this mask."""
        return [self._top]

    def samples(self, split: str) -> list[Sample]:
        """`COVID-19/covid_1`, ...: every image of the diagnoses, with the mask of the same name."""
        masks = KINDS[self.mask][1]
        return [
            Sample(
                f"{diagnosis}/{Path(name).stem}", (folder / "images" / name, folder / masks / name)
            )
            for diagnosis, folder in self._places(split)
            for name in file_names(folder / "images")
        ]

    def read_image(self, sample: Sample) -> np.ndarray:
        """(256, 256, 3) uint8 RGB, grey."""
        return read_rgb(sample.files[0])

    def read_mask(self, sample: Sample) -> np.ndarray:
        """(256, 256) uint8 0 and 1."""
        return (read_labels(sample.files[1]) > THRESHOLD).astype(np.uint8)

    def layout_faults(self) -> list[Fault]:
        """Masks without an image."""
        masks = KINDS[self.mask][1]
        return [
            Fault((folder / masks / name).relative_to(self.root).as_posix(), "no image for it")
            for split in self.splits
            for _, folder in self._places(split)
            for name in sorted(set(file_names(folder / masks)) - set(file_names(folder / "images")))
        ]

    def _places(self, split: str) -> list[tuple[str, Path]]:
        found = []
        for diagnosis in self.diagnoses:
            folder = self._top / FOLDERS[split] / diagnosis
            for inner in ("images", KINDS[self.mask][1]):
                if not (folder / inner).is_dir():
                    missing = (folder / inner).relative_to(self.root)
                    raise layout_error(self.name, self.root, TREE, f"no folder {missing}")
            found.append((diagnosis, folder))
        return found

    @cached_property
    def _top(self) -> Path:
        name = KINDS[self.mask][0]
        for candidate in (self.root / name / name, self.root / name, self.root):
            if (candidate / FOLDERS["train"]).is_dir():
                return candidate
        raise layout_error(self.name, self.root, TREE, f"no folder {name}")
