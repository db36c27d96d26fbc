"""Small folders that look like the real data sets. Everything in them is made up."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from seglab.data.celebamask_hq import CelebAMaskHQ
from seglab.data.cityscapes import Cityscapes
from tests.data.scene_trees import ade20k
from tests.data.slide_trees import wsi

CELEBA_SPLIT = {"counts": [20, 6, 4], "order": "index", "seed": None}
# odd sets of parts: without skin, one part alone, all 18 names are never needed
CELEBA_PARTS = (
    ("skin", "hair", "nose"),
    ("hat",),
    ("l_ear", "r_ear", "neck_l", "cloth"),
    ("skin", "eye_g", "u_lip", "l_lip", "mouth", "neck"),
)
CITIES = {
    "train": {"aachen": [(0, 19), (1, 19), (2, 19)], "bremen": [(0, 7)]},
    # as in the real frankfurt: the frames of a sequence do not follow one another
    "val": {"frankfurt": [(0, 294), (0, 576), (1, 2759), (1, 11162)]},
}
COUNTS = {"train": 4, "val": 4}


def noise(seed: int, *shape: int) -> np.ndarray:
    """uint8 of any shape, from 0 to 255."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save(path: Path, array: np.ndarray, **options) -> Path:
    """An array as an image file, with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def stencil(seed: int, side: int) -> np.ndarray:
    """(side, side, 3) uint8, a white rectangle on black, as the parts of CelebAMask-HQ are."""
    rng = np.random.default_rng(seed)
    top, left = rng.integers(0, side // 2, size=2)
    rows, columns = rng.integers(1, side // 2, size=2)
    part = np.zeros((side, side, 3), np.uint8)
    part[top : top + rows, left : left + columns] = 255
    return part


def celebamask_hq(root: Path, images: int = 30) -> Path:
    """Images of 32 x 32 and parts of 16 x 16 pixels (really 1024 and 512), numbered from 0."""
    for number in range(images):
        save(root / "CelebA-HQ-img" / f"{number}.jpg", noise(number, 32, 32, 3), quality=90)
        for position, part in enumerate(CELEBA_PARTS[number % len(CELEBA_PARTS)]):
            part_path(root, number, part).parent.mkdir(parents=True, exist_ok=True)
            save(part_path(root, number, part), stencil(100 * number + position, 16))
    return root


def part_path(root: Path, number: int, part: str) -> Path:
    """Where a part file of CelebAMask-HQ lies."""
    return root / "CelebAMask-HQ-mask-anno" / str(number // 2000) / f"{number:05d}_{part}.png"


def celeba_source(root: Path, split=None, expected_images: int | None = 30) -> CelebAMaskHQ:
    """The source of a made tree."""
    return CelebAMaskHQ(str(root), split or CELEBA_SPLIT, expected_images)


def cityscapes(root: Path) -> Path:
    """Three cities, images of 16 x 32 pixels (really 1024 x 2048), masks with every label id."""
    seed = 0
    for split, cities in CITIES.items():
        for city, frames in cities.items():
            for sequence, frame in frames:
                seed += 1
                image, mask = city_paths(root, split, f"{city}_{sequence:06d}_{frame:06d}")
                labels = noise(seed, 16, 32) % 34
                labels[0, :3] = 255  # the licence plate, -1, in 8 bits
                save(image, noise(seed, 16, 32, 3))
                save(mask, labels)
                save(mask.with_name(mask.name.replace("labelIds", "color")), noise(seed, 16, 32, 3))
    return root


def city_paths(root: Path, split: str, key: str) -> tuple[Path, Path]:
    """Where an image of Cityscapes and its label ids lie."""
    city = key.split("_")[0]
    return (
        root / "leftImg8bit" / split / city / f"{key}_leftImg8bit.png",
        root / "gtFine" / split / city / f"{key}_gtFine_labelIds.png",
    )


def city_source(root: Path, labels: str = "labelIds") -> Cityscapes:
    """The source of a made tree."""
    return Cityscapes(str(root), labels, COUNTS)


def quiet(items, total, what):  # noqa: ARG001
    """A progress bar that shows nothing."""
    return items


# ---------------------------------------------------------------- the other sources


def _save(path, array, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path)


def _xray(rng, side=32):
    """A grey image and a mask of one blob."""
    y, x = np.ogrid[:side, :side]
    row, column = rng.integers(8, side - 8, 2)
    mask = (y - row) ** 2 + (x - column) ** 2 < 36
    return (80 * mask + rng.integers(0, 120, (side, side))).astype(np.uint8), mask


def _deep(grey, number):
    """8 bit grey as it is, as RGB, or as 12 bits in 16, by turns."""
    return (grey, np.repeat(grey[..., None], 3, axis=-1), 16 * grey.astype(np.uint16))[number % 3]


def covid_qu_ex(root, *, doubled=True):
    """Both sets, two images for each split and diagnosis, as unpacked: the top folders twice."""
    rng = np.random.default_rng(0)
    for top, kinds in (
        ("Lung Segmentation Data", ["lung masks"]),
        ("Infection Segmentation Data", ["lung masks", "infection masks"]),
    ):
        for split in ("Train", "Val", "Test"):
            for diagnosis in ("COVID-19", "Non-COVID", "Normal"):
                folder = root / top / (top if doubled else "") / split / diagnosis
                for number in range(2):
                    name = f"{diagnosis.lower()}_{split}{number}.png"
                    image, mask = _xray(rng)
                    _save(folder / "images" / name, image)
                    for kind in kinds:
                        healthy = kind == "infection masks" and diagnosis != "COVID-19"
                        noisy = np.where(mask & ~np.bool_(healthy), 250, 3).astype(np.uint8)
                        _save(folder / kind / name, noisy)
    return root


def chest_xrays(root, montgomery=6, shenzhen=8, unannotated=2):
    """Montgomery with 1-bit masks of both lungs, Shenzhen of many sizes, some without a mask.

    At both, images are by turns 8 bit grey, RGB, and 12 bits in 16.
    """
    rng = np.random.default_rng(1)
    for number in range(1, montgomery + 1):
        image, mask = _xray(rng)
        name = f"MCUCXR_{number:04d}_{number % 2}.png"
        _save(root / "MontgomerySet/CXR_png" / name, _deep(image, number))
        for side, half in (("leftMask", mask & (np.arange(32) < 16)), ("rightMask", mask)):
            _save(root / "MontgomerySet/ManualMask" / side / name, half, "1")
    for number in range(1, shenzhen + 1):
        image, mask = _xray(rng, side=32 + 2 * (number % 2))
        name = f"CHNCXR_{number:04d}_{number % 2}"
        _save(root / "ChinaSet_AllFiles/CXR_png" / f"{name}.png", _deep(image, number))
        if number > unannotated:
            _save(root / "mask" / f"{name}_mask.png", (255 * mask).astype(np.uint8))
    (root / "ChinaSet_AllFiles/CXR_png/Thumbs.db").write_bytes(b"clutter")
    return root


def folder(root, images=10):
    """Images and masks of the same names, two for each of five patients."""
    rng = np.random.default_rng(2)
    for number in range(images):
        image, mask = _xray(rng)
        name = f"p{number // 2}_{number % 2}"
        _save(root / "images" / f"{name}.png", image)
        _save(root / "masks" / f"{name}.png", (255 * mask).astype(np.uint8))
    return root


NIFTI_CASES = ("anna_0", "anna_1", "ben_0", "carl_0", "dora_0", "dora_1", "emil_0", "fay_0")


def scan(seed, channels=1):
    """Channels and labels 0, 1, 2 of 10 x 12 x 6 voxels along R, A and S."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((10, 12, 6), np.uint8)
    labels[2:6, 3:8, 1:5], labels[3:5, 9:11, 2:4] = 1, 2
    image = rng.normal(100, 10, (*labels.shape, channels)) + 40 * labels[..., None]
    image[:, :2] = 0  # around the head
    return image.astype(np.float32), labels


def save_nifti(path, array, affine, like=None):
    """An array as a NIfTI file, with its folders; stored in the orientation `like`, if named."""
    import nibabel

    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(array, affine)
    if like is not None:
        image = image.as_reoriented(
            nibabel.orientations.ornt_transform(
                nibabel.io_orientation(affine), nibabel.orientations.axcodes2ornt(like)
            )
        )
    nibabel.save(image, path)
    return path


def nifti(root, cases=NIFTI_CASES, channels=1, labels=("background", "a", "b"), part="Tr"):
    """A folder as nnU-Net 2 has it, slices 3 mm apart, with what macOS leaves behind."""
    for number, case in enumerate(cases):
        image, mask = scan(number, channels)
        for k in range(channels):
            path = root / f"images{part}" / f"{case}_{k:04d}.nii.gz"
            save_nifti(path, image[..., k], np.diag([1, 1, 3, 1]))
            path.with_name(f"._{path.name}").write_bytes(b"Mac OS X")
        path = save_nifti(root / f"labels{part}" / f"{case}.nii.gz", mask, np.diag([1, 1, 3, 1]))
        path.with_name(f"._{path.name}").write_bytes(b"Mac OS X")
    if part == "Tr":
        about = {
            "channel_names": {str(k): f"M{k}" for k in range(channels)},
            "labels": {name: number for number, name in enumerate(labels)},
            "numTraining": len(cases),
            "file_ending": ".nii.gz",
        }
        (root / "dataset.json").write_text(json.dumps(about))
    return root


def decathlon(root, cases=NIFTI_CASES, channels=1):
    """The same scans as the Decathlon has them: one file for all channels, and a list."""
    rows = []
    for number, case in enumerate(cases):
        image, mask = scan(number, channels)
        whole = image if channels > 1 else image[..., 0]
        save_nifti(root / "imagesTr" / f"{case}.nii.gz", whole, np.diag([1, 1, 3, 1]))
        save_nifti(root / "labelsTr" / f"{case}.nii.gz", mask, np.diag([1, 1, 3, 1]))
        for name in (case, f"._{case}"):  # some lists name the hidden files, too
            image, label = (f"./{kind}Tr/{name}.nii.gz" for kind in ("images", "labels"))
            rows.append({"image": image, "label": label})
        for kind in ("images", "labels"):
            (root / f"{kind}Tr" / f"._{case}.nii.gz").write_bytes(b"Mac OS X")
    about = {
        "modality": {str(k): f"M{k}" for k in range(channels)},
        "labels": {"0": "background", "1": "a", "2": "b"},
        "numTraining": len(cases),
        "training": rows,
        "test": [],
    }
    (root / "dataset.json").write_text(json.dumps(about))
    return root


MAKERS = {
    "celebamask_hq": celebamask_hq,
    "cityscapes": cityscapes,
    "covid_qu_ex_lung": covid_qu_ex,
    "covid_qu_ex_infection": covid_qu_ex,
    "montgomery": chest_xrays,
    "shenzhen": chest_xrays,
    "cxr": chest_xrays,
    "folder": folder,
    "nifti": nifti,
    "nifti_slices": nifti,
    "ade20k": ade20k,
    "wsi": wsi,
}
