"""A small ADE20K, made up."""

from pathlib import Path

import numpy as np
from PIL import Image

HEADINGS = "Idx\tRatio\tTrain\tVal\tName"


def ade20k(root: Path, images=4) -> Path:
    """Scenes of many sizes with the labels 0 .. 150, one of them grey, and names with synonyms."""
    rng = np.random.default_rng(3)
    for split, folder in (("train", "training"), ("val", "validation")):
        for number in range(1, images + 1):
            rows, columns = 24 + 2 * number, 40 - 3 * number
            pixels = rng.integers(0, 256, (rows, columns, 3), dtype=np.uint8)
            labels = np.arange(rows * columns, dtype=np.uint16).reshape(rows, columns) % 151
            name = f"ADE_{split}_{number:08d}"
            for kind in ("images", "annotations"):
                (root / kind / folder).mkdir(parents=True, exist_ok=True)
            image = Image.fromarray(pixels)
            image = image.convert("L") if number == 2 else image
            image.save(root / "images" / folder / f"{name}.jpg")
            mask = Image.fromarray(labels.astype(np.uint8))
            mask.save(root / "annotations" / folder / f"{name}.png")
    rows = [f"{n}\t0.1\t{n}\t1\tthing {n} , synonym" for n in range(1, 151)]
    (root / "objectInfo150.txt").write_text("\n".join([HEADINGS, *rows]) + "\n")
    return root
