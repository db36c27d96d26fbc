"""python scripts/evaluate.py RUN: what else there is to say of a finished run's predictions.

Every metric of seglab/metrics/pairs.py for each image and class of one split, under the best
weights, and how well the probabilities rank the pixels (ROC AUC, average precision). Prints a table
for each class, and writes the value of each image to --output. RUN is a folder or a name in
<results>/runs.
"""

import argparse
import math
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from seglab import config, files, reload
from seglab.data import cache, check
from seglab.data.preprocess import Preprocess
from seglab.errors import RunError
from seglab.metrics import pairs
from seglab.metrics.ranking import ScoreHistogram
from seglab.ops import IGNORE

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="results_dir")
    parser.add_argument("--split", help="default: the one that the run reports")
    parser.add_argument("--output", type=Path, help="a .csv file; default: none is written")
    given = parser.parse_args()
    folder = Path(given.run) if Path(given.run).is_dir() else given.results / "runs" / given.run
    if not folder.is_dir():
        raise RunError(f"{given.run}: neither a folder nor a run in {given.results / 'runs'}.")
    run = reload.load(folder)
    name = given.split or run.record["dataset"]["test_split"]
    images, ranked, diagonal = evaluated(run, name)
    for place, label in enumerate(run.record["dataset"]["classes"]):
        print(f"{run.record['run_id']}, {name}, {label}")
        print(table(images[images["class"] == label], ranked[place], diagonal))
    if given.output:
        files.write_text(given.output, images.to_csv(index=False))
        print(f"{given.output}: {len(images)} rows")


def evaluated(
    run: reload.FinishedRun, split_name: str
) -> tuple[pd.DataFrame, list[ScoreHistogram], float]:
    """A row for each image and class; a histogram for each class; the diagonal in pixels.

    Errors: DataError where the data is not here, RunError where it is not what it was.
    """
    settings = run.settings
    source = config.build(settings, "dataset")
    preprocess = Preprocess(settings.dataset.size, settings.dataset.pad)
    verdict = check.require_clean(source, settings.cache_dir)
    if verdict.fingerprint != run.record["science"]["data"]:
        raise RunError(f"{run.folder}: the data has changed since this run.")
    if split_name not in source.splits:
        raise RunError(f"--split {split_name}: must be one of {', '.join(source.splits)}.")
    split = cache.open_split(source, preprocess, settings.cache_dir, verdict, split_name)
    names = source.classes
    ranked = [ScoreHistogram() for _ in names]
    rows = []
    for index, image_name in enumerate(split.ids):
        image, truth = split[index]
        p = run.probabilities(torch.from_numpy(np.array(image).transpose(2, 0, 1))[None])[0].numpy()
        known = truth != IGNORE
        predicted = p[0] > 0.5 if len(names) == 1 else p.argmax(axis=0)
        for place, label in enumerate(names):
            code = 1 if len(names) == 1 else place
            masks = (predicted == code) & known, (truth == code) & known
            rows.append({"image": image_name, "class": label, **pairs.of_pair(*masks)})
            ranked[place].add(p[place][known], masks[1][known])
    height, width = truth.shape
    return pd.DataFrame(rows), ranked, math.hypot(height, width)


def table(images: pd.DataFrame, ranked: ScoreHistogram, diagonal: float) -> str:
    """The summary of one class."""
    lines = [
        f"  {'metric':<16}{'mean':>10}{'misses as diagonal':>20}{'n':>6}{'misses':>8}{'n/a':>5}"
    ]
    for metric in images.columns[2:]:
        s = pairs.summarise(images[metric], diagonal)
        penalised = f"{s.penalised:.4f}" if s.misses else ""
        lines.append(
            f"  {metric:<16}{s.mean:>10.4f}{penalised:>20}"
            f"{s.finite:>6}{s.misses:>8}{s.undefined:>5}"
        )
    lines.append(f"  {'roc_auc':<16}{ranked.auc:>10.4f}  of all pixels, +- {ranked.auc_error:.1g}")
    lines.append(f"  {'ap':<16}{ranked.average_precision:>10.4f}  of all pixels")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(config.guarded(main, sys.argv[1:]))
