"""The published numbers: CSV files of strings, kept as printed, trailing zeros included."""

import csv
import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from seglab.errors import DataError

NUMBER, BOLD, OFTEN_EMPTY = r"\d+(\.\d+)?", "true|false", r"(\d+(\.\d+)?)?"


@dataclass(frozen=True)
class Form:
    """What a file must be.

    Args:
        rows: how many.
        keys: columns that together tell the rows apart.
        values: the others -> a regular expression that the whole cell matches.
        recurs: whether each word of a key occurs in two rows or more, so that one alone is wrong.
    """

    rows: int
    keys: str
    values: dict[str, str]
    recurs: bool = True


NETWORK = "table architecture encoder dataset split"
FILES = {
    "dist_thesis": Form(
        294,
        f"{NETWORK} seed loss metric",
        {"value": NUMBER, "printed_delta": r"(\([+-]?\d+(\.\d+)?\))?", "printed_bold": BOLD},
    ),
    "dist_thesis_wins": Form(
        42, "table loss dataset split metric", {"wins": r"\d+", "printed_bold": BOLD}
    ),
    "dist_thesis_convergence": Form(
        84, f"{NETWORK} threshold seed loss", {"epochs": r"\d*", "bold": BOLD}
    ),
    "dist_thesis_crossval": Form(
        162, f"{NETWORK} loss stat fold metric", {"value": NUMBER, "printed_bold": BOLD}
    ),
    "dist_thesis_table31": Form(12, "table prediction loss", {"value": NUMBER}),
    "dist_thesis_gpu_memory": Form(
        9,
        "section dataset architecture encoder platform gpu loss quantity unit compared_to",
        {"value": NUMBER},
        recurs=False,
    ),
    "medical_thesis": Form(
        60, "table model loss dataset metric", {"value": f"{NUMBER}|NaN", "std": OFTEN_EMPTY}
    ),
    "distance_map_penalty": Form(8, "loss metric unit", {"mean": NUMBER, "std": NUMBER}),
    "cxr_poster": Form(10, "table loss metric", {"value": NUMBER}),
}

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

    Errors: DataError naming the file that is missing, cannot be read or is no longer as the source
    was copied, with the line or the column.
    """
    tables = {}
    for name, form in FILES.items():
        path = folder / f"{name}.csv"
        try:
            with path.open(encoding="utf-8", newline="") as file:
                lines = list(csv.reader(file, strict=True))
            _check(lines, form)
        except (OSError, ValueError, csv.Error) as error:
            raise DataError(
                f"{path}: cannot be read ({error}). `git checkout {path}` brings it back."
            ) from None
        tables[name] = pd.DataFrame(lines[1:], columns=lines[0], dtype=str)
    return tables


def _check(table: list[list[str]], form: Form) -> None:
    """Errors: ValueError that says what is wrong, and where: the header is line 1."""
    header, *lines = table or [[]]
    keys = form.keys.split()
    wrong = [column for column in (*keys, *form.values) if header.count(column) != 1]
    if wrong:
        raise ValueError(f"line 1 has to name each column once, also {', '.join(wrong)}")
    first: dict[tuple[str, ...], int] = {}
    for at, line in enumerate(lines, 2):
        if len(line) != len(header):
            raise ValueError(f"line {at} has {len(line)} cells, the header {len(header)}")
        row = dict(zip(header, line, strict=True))
        for column, pattern in form.values.items():
            if not re.fullmatch(pattern, row[column], re.ASCII):
                raise ValueError(
                    f"line {at}, column {column}: {row[column]!r} is none of its values"
                )
        before = first.setdefault(tuple(row[key] for key in keys), at)
        if before != at:
            raise ValueError(f"line {at} says again what line {before} says")
    if len(lines) != form.rows:
        raise ValueError(f"it has {len(lines)} rows, not {form.rows}")
    for column in keys if form.recurs else ():
        words = [line[header.index(column)] for line in lines]
        for at, word in enumerate(words, 2):
            if words.count(word) == 1:
                raise ValueError(f"line {at}, column {column}: {word!r} stands in no other line")


def printed(rows: pd.DataFrame, *keys: str) -> dict[tuple[str, ...], dict[str, str]]:
    """Rows by their keys. Each key occurs once."""
    found = {tuple(row[key] for key in keys): row for row in rows.to_dict("records")}
    assert len(found) == len(rows), f"{keys} do not tell the rows apart"
    return found
