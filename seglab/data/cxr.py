"""Chest X-rays of Montgomery County and Shenzhen, with masks of the lungs.

Jaeger et al. "Two public chest X-ray datasets for computer-aided screening of pulmonary diseases."
Quantitative Imaging in Medicine and Surgery 2014. One image for each patient. Montgomery's masks
are NLM's, left and right lung; Shenzhen's 566 were added by Stirenko et al. 2018, and 96 of its
images have none. The two protocols differ (the shadow of the heart).

Images are 8 bit RGB or grey, or grey in 16 bits, of which a radiograph fills 12 or so: see
`eight_bits`.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from seglab.data.layout import file_names, layout_error, root_folder
from seglab.data.partition import partition
from seglab.data.reading import FileFaults, read_rgb, read_stencil
from seglab.data.source import Fault, Sample, Source
from seglab.errors import ConfigError

SITES = ("montgomery", "shenzhen")
IMAGES = {"montgomery": "MontgomerySet/CXR_png", "shenzhen": "ChinaSet_AllFiles/CXR_png"}
SIDES = ("MontgomerySet/ManualMask/leftMask", "MontgomerySet/ManualMask/rightMask")
MASKS = "mask"  # of Shenzhen
TREE = """\
  MontgomerySet/CXR_png/MCUCXR_0001_0.png ...
  MontgomerySet/ManualMask/{leftMask,rightMask}/MCUCXR_0001_0.png ...
  ChinaSet_AllFiles/CXR_png/CHNCXR_0001_0.png ...
  mask/CHNCXR_0001_0_mask.png ...
  (of one site alone, its folders will do)"""
_NAME = re.compile(r"(MCUCXR|CHNCXR)_\d{4}_[01]\.png")


def eight_bits(grey: np.ndarray) -> np.ndarray:
    """(H, W) uint16 -> (H, W) uint8: the upper 8 of the bits that the image fills.

    These are as few as hold its largest value, and 8 at least: an image of 12 bits (maximum 2048
    to 4095) is divided by 16, one of all 16 by 256, one below 256 stays as it is. So no image
    comes out black, and all that fill the same bits keep their contrast to one another; dividing
    by the maximum itself would let one bright marker change it. (A dark one that leaves the
    uppermost of its 12 bits unused comes out twice as bright.)
    """
    filled = max(8, int(grey.max()).bit_length())
    return (grey >> (filled - 8)).astype(np.uint8)


class ChestXRays(Source):
    """Binary: the lungs.

    Args:
        root: the folder that holds the folders above.
        sites: some of montgomery and shenzhen.
        split: shares of val and test, and the seed that draws them.

    Errors: DataError where the root is missing, ConfigError for another site.
    """

    classes = ("lung",)
    colours = ((80, 160, 255),)

    def __init__(self, root: str, sites: Sequence[str], split: Mapping[str, Any]) -> None:
        if not sites or set(sites) - set(SITES):
            raise ConfigError(f"dataset.sites={list(sites)}: must be some of {', '.join(SITES)}")
        self.sites, self.split = [site for site in SITES if site in sites], dict(split)
        self.name = self.sites[0] if len(self.sites) == 1 else "cxr"
        self.root = root_folder(self.name, root, TREE)

    def options(self) -> dict[str, Any]:
        """Sites and split."""
        return {"sites": self.sites, "split": self.split}

    def watched(self) -> list[Path]:
        """The folders of the sites."""
        folders = {
            "montgomery": [IMAGES["montgomery"], *SIDES],
            "shenzhen": [IMAGES["shenzhen"], MASKS],
        }
        return [self.root / folder for site in self.sites for folder in folders[site]]

    def samples(self, split: str) -> list[Sample]:
        """`CHNCXR_0001_0`, ...: the images that have a mask."""
        return [Sample(name, self._files(name)) for name in self._drawn[split]]

    def read_image(self, sample: Sample) -> np.ndarray:
        """(H, W, 3) uint8 RGB, grey; some 3000 to 4900 pixels a side."""
        return read_rgb(sample.files[0], eight_bits)

    def read_mask(self, sample: Sample) -> np.ndarray:
        """(H, W) uint8 0 and 1: both lungs. Errors: FileFaults where the two differ in size."""
        lungs = [read_stencil(path) for path in sample.files[1:]]
        if len({lung.shape for lung in lungs}) > 1:
            sizes = " and ".join(f"{h} x {w}" for h, w in (lung.shape for lung in lungs))
            raise FileFaults([(sample.files[1], f"left and right mask of {sizes} pixels")])
        return np.logical_or.reduce(lungs).astype(np.uint8)

    def layout_faults(self) -> list[Fault]:
        """Odd names, and masks without an image."""
        faults = []
        for site in self.sites:
            images = set(file_names(self.root / IMAGES[site]))
            faults += [
                Fault(f"{IMAGES[site]}/{name}", "expected names like CHNCXR_0001_0.png")
                for name in sorted(images)
                if not _NAME.fullmatch(name)
            ]
            if site == "montgomery":
                masks = [
                    (folder, name, name)
                    for folder in SIDES
                    for name in file_names(self.root / folder)
                ]
            else:
                names = file_names(self.root / MASKS)
                masks = [(MASKS, name, name.replace("_mask.png", ".png")) for name in names]
            faults += [
                Fault(f"{folder}/{name}", "no image for it")
                for folder, name, image in masks
                if image not in images
            ]
        return faults

    def _files(self, name: str) -> tuple[Path, ...]:
        if name.startswith("MCUCXR"):
            masks = [self.root / side / f"{name}.png" for side in SIDES]
            return (self.root / IMAGES["montgomery"] / f"{name}.png", *masks)
        image = self.root / IMAGES["shenzhen"] / f"{name}.png"
        return image, self.root / MASKS / f"{name}_mask.png"

    @cached_property
    def _drawn(self) -> dict[str, list[str]]:
        for folder in self.watched():
            if not folder.is_dir():
                missing = folder.relative_to(self.root)
                raise layout_error(self.name, self.root, TREE, f"no folder {missing}")
        names = []
        for site in self.sites:
            found = [
                n.removesuffix(".png")
                for n in file_names(self.root / IMAGES[site])
                if _NAME.fullmatch(n)
            ]
            if site == "shenzhen":  # 96 were never annotated
                annotated = set(file_names(self.root / MASKS))
                found = [name for name in found if f"{name}_mask.png" in annotated]
            names += found
        seed = int(self.split.get("seed", 0))
        shares = {key: value for key, value in self.split.items() if key != "seed"}
        return partition(names, lambda name: name, shares, seed)
