"""python scripts/evaluate.py RUN: what else there is to say of a finished run's predictions.

Every metric of seglab/metrics/pairs.py for each image (or volume) and class of one split, under the
best weights and after the run's own postprocess, and how well the probabilities rank the pixels
(ROC AUC, average precision). Distances are in millimetres where the data set knows the size of its
pixels (volumes and their slices; dataset.size is reckoned with), else in pixels, and so where steps
of augmentation.evaluation may have changed that size; the tolerance of a surface Dice is 1 of that
unit, those of b_dsc are pixels always. Prints a table for each class, and writes the value of each
image to --output. RUN is a folder or a name in <results>/runs.
"""

import argparse
import sys
from pathlib import Path

import pandas as pd

from seglab import config, files, reload
from seglab.data import cache, check, module
from seglab.data.augment import EVALUATION_STREAM
from seglab.data.preprocess import Preprocess
from seglab.errors import RunError
from seglab.metrics import pairs
from seglab.metrics.ranking import Ranking, ScoreHistogram
from seglab.ops import IGNORE

ROOT = Path(__file__).resolve().parents[1]
ABOUT = ("image", "class", "unit", "diagonal")


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
    images, ranked = evaluated(run, name)
    for place, label in enumerate(run.record["dataset"]["classes"]):
        own = images[images["class"] == label]
        print(f"{run.record['run_id']}, {name}, {label}; in {' or '.join(own['unit'].unique())}")
        print(table(own, ranked[place].ranking))
    if given.output:
        files.write_text(given.output, images.to_csv(index=False))
        print(f"{given.output}: {len(images)} rows")


def evaluated(
    run: reload.FinishedRun, split_name: str
) -> tuple[pd.DataFrame, list[ScoreHistogram]]:
    """A row for each image and class: ABOUT, then the metrics; a histogram for each class.

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
    augmentation = config.build(settings, "augmentation")
    images = module.Images(split, None, augmentation.evaluation, EVALUATION_STREAM)
    samples = source.samples(split_name)
    names = source.classes
    ranked = [ScoreHistogram() for _ in names]
    rows = []
    for index, image_name in enumerate(split.ids):
        item = images[index]  # what is drawn for it is drawn once: the same again
        truth = item["target"].numpy()
        spacing = None
        if augmentation.evaluation is None:
            spacing = cache.spacing_of(source, preprocess, samples[index])
        p = run.probabilities(item["image"][None])
        labels = (p[:, 0] > 0.5).long() if len(names) == 1 else p.argmax(dim=1)
        predicted, scores = run.finished(labels)[0].numpy(), p[0].numpy()
        known = truth != IGNORE
        about = {
            "unit": "pixels" if spacing is None else "mm",
            "diagonal": pairs.diagonal(truth.shape, spacing),
        }
        for place, label in enumerate(names):
            code = 1 if len(names) == 1 else place
            masks = (predicted == code) & known, (truth == code) & known
            found = pairs.of_pair(*masks, int(known.sum()), spacing)
            rows.append({"image": image_name, "class": label, **about, **found})
            ranked[place].add(scores[place][known], masks[1][known])
    return pd.DataFrame(rows), ranked


def table(images: pd.DataFrame, ranking: Ranking) -> str:
    """The summary of one class."""
    lines = [
        f"  {'metric':<18}{'mean':>10}{'misses as diagonal':>20}{'n':>6}{'misses':>8}{'n/a':>5}"
    ]
    for metric in images.columns[len(ABOUT) :]:
        s = pairs.summarise(images[metric], images["diagonal"])
        penalised = f"{s.penalised:.4f}" if s.misses else ""
        lines.append(
            f"  {metric:<18}{s.mean:>10.4f}{penalised:>20}"
            f"{s.finite:>6}{s.misses:>8}{s.undefined:>5}"
        )
    for name, value, error in (("roc_auc", *ranking[:2]), ("ap", *ranking[2:])):
        lines.append(f"  {name:<18}{value:>10.4f}  of all pixels, +- {error:.1g}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(config.guarded(main, sys.argv[1:]))
