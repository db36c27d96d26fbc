"""make demo: two losses on the embedded image, on the CPU, then one table and one picture.

With --readme the picture and the table go into README.md, between its two marks.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from seglab import config, figures, files, reload, store
from seglab.errors import RunError
from seglab.ops import IGNORE

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results" / "demo"
LOSSES = ("ce", "dist")
SEED = 42
MARKS = ("<!-- demo: made by `make readme` -->", "<!-- end of demo -->")


def main() -> None:
    """Trains what is not trained yet, then shows it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--readme", action="store_true", help="update README.md")
    arguments = parser.parse_args()
    runs = [train(loss) for loss in LOSSES]
    table = summary(runs)
    picture = draw(runs)
    text = as_text(table)
    print(
        f"\nU-Net, ResNet-34 from random weights, {runs[0].record['epochs']} epochs, seed {SEED};"
    )
    print("test strip of one image, scores pooled over its windows:\n")
    print(text)
    print(f"\nPicture: {picture}")
    print("One image and one seed prove nothing about a loss: this shows that the bench works.")
    if arguments.readme:
        into_readme(table, picture)


def train(loss: str) -> store.StoredRun:
    """python train.py loss=..., in a process of its own; a finished run is taken as it is."""
    command = [
        sys.executable, str(ROOT / "train.py"), f"loss={loss}", "model=unet", "encoder=resnet34",
        "dataset=nuclei", "trainer=cpu", f"seed={SEED}", f"results_dir={_quoted(RESULTS)}",
    ]  # fmt: skip
    code = subprocess.run(command, cwd=ROOT, check=False).returncode
    if code:
        raise RunError(f"train.py ended with code {code}; its message stands above.")
    return max(
        (run for run in store.finished_runs(RESULTS) if run.record["choices"]["loss"] == loss),
        key=lambda run: run.record["finished"],
    )


def _quoted(path: Path) -> str:
    return '"' + str(path).replace('"', '\\"') + '"'


def summary(runs: list[store.StoredRun]) -> pd.DataFrame:
    """One row per loss."""
    return pd.DataFrame(
        {
            "loss": run.record["choices"]["loss"],
            **{
                label: f"{run.record['scores']['test']['dataset'][key]:.4f}"
                for label, key in (("bIoU", "biou"), ("IoU", "iou"), ("Dice", "dice"))
            },
            "seconds": f"{run.record['train_seconds']:.0f}",
            "peak memory": files.size_for_humans(run.record["peak_memory_bytes"]),
        }
        for run in runs
    )


def as_text(table: pd.DataFrame) -> str:
    """Aligned columns for a terminal."""
    rows = [list(table.columns), *table.astype(str).to_numpy().tolist()]
    widths = [max(len(row[i]) for row in rows) for i in range(table.shape[1])]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
    return "\n".join([lines[0], "  ".join("-" * w for w in widths), *lines[1:]])


def draw(runs: list[store.StoredRun]) -> Path:
    """The test strip under every loss."""
    loaded = [reload.load(run.folder) for run in runs]
    settings = loaded[0].settings
    source = config.build(settings, "dataset")
    pairs = [(source.read_image(s), source.read_mask(s)) for s in source.samples("test")]
    batch = torch.from_numpy(np.stack([image.transpose(2, 0, 1) for image, _ in pairs]))
    columns = np.flatnonzero(np.any([mask != IGNORE for _, mask in pairs], axis=(0, 1)))
    strip = slice(columns[0], columns[-1] + 1)  # without the padding beside it

    def upright(windows: Iterable[np.ndarray]) -> np.ndarray:
        return np.concatenate(list(windows), axis=0)[:, strip]

    predictions = {
        run.record["choices"]["loss"]: upright(run.predict(batch).numpy()) for run in loaded
    }
    figure = figures.comparison_figure(
        upright(image for image, _ in pairs),
        upright(mask for _, mask in pairs),
        predictions,
        source.colours,
        source.classes,
    )
    path = RESULTS / "demo.png"
    figures.save(figure, path)
    return path


def into_readme(table: pd.DataFrame, picture: Path) -> None:
    """Replaces what stands between the marks; copies the picture beside the results."""
    kept = ROOT / "results" / "demo.png"
    shutil.copyfile(picture, kept)
    header = "| " + " | ".join(table.columns) + " |\n|" + "---|" * table.shape[1] + "\n"
    body = "\n".join("| " + " | ".join(row) + " |" for row in table.astype(str).to_numpy())
    block = (
        f"![One test strip: image, truth, and each loss's errors]({kept.relative_to(ROOT)})\n\n"
        f"{header}{body}\n\nSeed {SEED}, {os.cpu_count()} CPU cores."
    )
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    start, end = (text.index(mark) for mark in MARKS)
    new = text[: start + len(MARKS[0])] + "\n" + block + "\n" + text[end:]
    files.write_text(readme, new)


if __name__ == "__main__":
    sys.exit(config.guarded(main, sys.argv[1:]))
