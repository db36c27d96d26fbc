"""The published numbers: CSV files of strings, kept as printed, trailing zeros included."""

from pathlib import Path

import pandas as pd

from seglab.errors import DataError

FILES = (
    "dist_thesis",
    "dist_thesis_wins",
    "dist_thesis_convergence",
    "dist_thesis_crossval",
    "dist_thesis_table31",
    "dist_thesis_gpu_memory",
    "medical_thesis",
    "distance_map_penalty",
    "cxr_poster",
)

LOSSES = {  # of Gul's thesis, in the order of its rows
    "ce": "Cross-Entropy",
    "iou": "IoU",
    "dice": "Dice",
    "combo": "Combo",
    "dice_focal": "Dice & Focal",
    "dist": "Ours",
}
OURS = "dist"
MODELS = {"unet": "U-Net", "deeplabv3plus": "DeepLabv3+"}
ENCODERS = {"resnet34": "ResNet-34", "resnet50": "ResNet-50", "mobilenet_v2": "MobileNetV2"}
DATASETS = {"cityscapes": "Cityscapes", "celebamask_hq": "CelebAMask-HQ"}
METRICS = {
    "biou": "bIoU",
    "iou": "IoU",
    "dice": "Dice",
    "superiority_biou": "Superiority bIoU (%)",
}
EXPERIMENTS = {  # table: architecture, encoder, seed
    "4.1": ("unet", "resnet34", 42),
    "4.2": ("unet", "resnet50", 42),
    "4.3": ("unet", "mobilenet_v2", 42),
    "4.4": ("deeplabv3plus", "resnet34", 42),
    "4.5": ("deeplabv3plus", "resnet50", 42),
    "4.6": ("deeplabv3plus", "mobilenet_v2", 42),
    "4.12": ("deeplabv3plus", "resnet50", 1234),
}
Published = dict[str, pd.DataFrame]


def read(folder: Path) -> Published:
    """Every file of `folder` by its name without .csv; cells are strings, empty where unprinted.

    Errors: DataError naming the file that is missing or cannot be read.
    """
    tables = {}
    for name in FILES:
        path = folder / f"{name}.csv"
        try:
            tables[name] = pd.read_csv(path, dtype=str, keep_default_na=False)
        except (OSError, ValueError) as error:
            raise DataError(
                f"{path}: cannot be read ({error}). `git checkout {path.name}` brings it back."
            ) from None
    return tables


def printed(rows: pd.DataFrame, *keys: str) -> dict[tuple[str, ...], dict[str, str]]:
    """Rows by their keys. Each key occurs once."""
    found = {tuple(row[key] for key in keys): row for row in rows.to_dict("records")}
    assert len(found) == len(rows), f"{keys} do not tell the rows apart"
    return found
