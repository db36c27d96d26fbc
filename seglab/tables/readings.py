"""The numbers of every run, each of its files read once."""

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from seglab import scores
from seglab.errors import ConfigError, RunError
from seglab.store import Evaluation, StoredRun

AGAIN = "Delete the run to do it again."
NUMBERED = (int, type(None))
ENTRIES: dict[str, Any] = {  # of a record, where it has them: what the tables rely on
    "choices": {"experiment": (str, type(None))},
    "dataset": {"classes": list, "test_images": int},
    "science": {
        "dataset": {"fold": NUMBERED, "split": {"fold": NUMBERED}},
        "optimizer": {"lr": (int, float)},
    },
}


@dataclass(frozen=True)
class Convention:
    """How counts become numbers: dataset | image, band width / diagonal, best | last."""

    aggregation: str
    ratio: float
    epoch: str

    def sentence(self) -> str:
        """For a caption."""
        how = {
            "dataset": "counts summed over the images, ratio per class, mean over classes",
            "image": "ratio per image and class, mean over the defined ones",
        }[self.aggregation]
        return (
            f"Aggregation {self.aggregation} ({how}); boundary band {self.ratio:g} of the "
            f"diagonal; {self.epoch} epoch."
        )


@dataclass(frozen=True)
class Summary:
    """A split under one aggregation: `scores.summarise`, over `n` values and `images` images."""

    metrics: dict[str, float]
    n: int
    images: int


@dataclass(frozen=True)
class Reading:
    """What the tables need of one run.

    Attributes:
        best: (split, aggregation) -> the best epoch's summary.
        scores: split -> biou, iou, dice under the convention.
        curve: validation bIoU by epoch under the convention.
        counts: (N, K, 2, 3) of the data set's test split under the convention, region and band.
        images: stands for the names of these N images, in their order.
        epochs: epochs.csv, by split and epoch.
        further: split -> what scripts/evaluate.py left of it in the run's folder: a row for each
            image and class.
    """

    run: StoredRun
    best: dict[tuple[str, str], Summary]
    scores: dict[str, dict[str, float]]
    curve: pd.Series
    counts: np.ndarray
    images: str
    epochs: pd.DataFrame
    further: dict[str, pd.DataFrame]


def read_runs(
    runs: Iterable[StoredRun], convention: Convention
) -> tuple[list[Reading], list[RunError]]:
    """The runs that can be read, by name, and what is wrong with each other."""
    readings, damaged = [], []
    for run in sorted(runs, key=lambda run: run.record["run_id"]):
        try:
            readings.append(read_run(run, convention))
        except RunError as error:
            damaged.append(error)
    return readings, damaged


def read_run(run: StoredRun, convention: Convention) -> Reading:
    """Errors: RunError where a file is damaged, or has no counts of the convention's ratio."""
    _check_record(run)
    ratio = ratio_of(run, convention.ratio)
    found = run.evaluations(*{"best", convention.epoch})
    summaries = {
        (checkpoint, split, aggregation): _summary(evaluation, run.ratios, aggregation)
        for (checkpoint, split), evaluation in found.items()
        for aggregation in scores.AGGREGATIONS
        if checkpoint == "best" or aggregation == convention.aggregation
    }
    of_convention = {
        split: {
            "biou": summary.metrics["biou" if ratio == run.ratios[0] else f"biou_{ratio:g}"],
            "iou": summary.metrics["iou"],
            "dice": summary.metrics["dice"],
        }
        for (checkpoint, split, aggregation), summary in summaries.items()
        if (checkpoint, aggregation) == (convention.epoch, convention.aggregation)
    }
    tested = found.get((convention.epoch, run.record["dataset"]["test_split"]))
    if tested is None:
        raise RunError(
            f"{run.folder / 'images.parquet'}: has no test images of the {convention.epoch} epoch. "
            "Delete the run to do it again."
        )
    epochs = _epochs(run)
    return Reading(
        run=run,
        best={key[1:]: summary for key, summary in summaries.items() if key[0] == "best"},
        scores=of_convention,
        curve=_curve(run, epochs, ratio, convention.aggregation),
        counts=tested.counts[:, :, [0, 1 + run.ratios.index(ratio)]],
        images=hashlib.sha256("\n".join(tested.images).encode()).hexdigest(),
        epochs=epochs,
        further=_further(run),
    )


def with_ratio(runs: Iterable[StoredRun], wanted: float) -> tuple[list[StoredRun], list[StoredRun]]:
    """The runs that have counts for that ratio, and those that have none.

    Errors: ConfigError where there are runs and none has.
    """
    found: tuple[list[StoredRun], list[StoredRun]] = ([], [])
    for run in runs:
        found[_place_of(run, wanted) is None].append(run)
    having, lacking = found
    if lacking and not having:
        known = sorted({ratio for run in lacking for ratio in run.ratios})
        raise ConfigError(
            f"--boundary-ratio {wanted:g}: no run has counts for it. "
            f"Runs have: {', '.join(f'{ratio:g}' for ratio in known)}."
        )
    return having, lacking


def ratio_of(run: StoredRun, wanted: float) -> float:
    """The run's own number for that ratio. Errors: RunError where it has none."""
    place = _place_of(run, wanted)
    if place is not None:
        return run.ratios[place]
    has = ", ".join(f"{ratio:g}" for ratio in run.ratios)
    raise RunError(
        f"{run.folder}: has no counts for boundary ratio {wanted:g}; it has {has}. "
        "Give one of these: --boundary-ratio."
    )


def _place_of(run: StoredRun, wanted: float) -> int | None:
    near = [math.isclose(ratio, wanted) for ratio in run.ratios]
    return near.index(True) if any(near) else None


def _check_record(run: StoredRun) -> None:
    """Errors: RunError naming the entries of record.json that are something else."""
    wrong = run.faults({"science": {"dataset": dict}}) + run.faults(ENTRIES, optional=True)
    if wrong:
        raise RunError(
            f"{run.folder / 'record.json'}: {', '.join(wrong)}: not what a run writes. {AGAIN}"
        )


def _summary(evaluation: Evaluation, ratios: list[float], aggregation: str) -> Summary:
    counts = evaluation.counts
    _, n = scores.aggregate(scores.iou, counts[:, :, 0], aggregation)
    return Summary(scores.summarise(counts, ratios, aggregation), n, len(counts))


def _epochs(run: StoredRun) -> pd.DataFrame:
    """Errors: RunError where epochs.csv has not each epoch once for each split."""
    epochs = run.epochs()
    path = run.folder / "epochs.csv"
    _needs(epochs, {"split", "epoch"}, path, AGAIN)
    last = run.record.get("epochs", epochs["epoch"].max())  # older records do not say it
    for split in ("train", "val"):
        rows = epochs.loc[epochs["split"] == split, "epoch"]
        if not len(rows) or sorted(rows) != list(range(1, len(rows) + 1)) or len(rows) != last:
            raise RunError(
                f"{path}: has not each epoch from 1 to {last} once for split {split}. {AGAIN}"
            )
    if run.record["best_epoch"] not in set(epochs["epoch"]):
        raise RunError(f"{run.folder / 'record.json'}: best_epoch is none of {path.name}. {AGAIN}")
    return epochs.sort_values(["split", "epoch"], ignore_index=True)


def _curve(run: StoredRun, epochs: pd.DataFrame, ratio: float, aggregation: str) -> pd.Series:
    """Validation bIoU by epoch. Errors: RunError where epochs.csv does not have it."""
    column = "biou" if ratio == run.ratios[0] else f"biou_{ratio:g}"
    column += "_image" if aggregation == "image" else ""
    _needs(epochs, {column}, run.folder / "epochs.csv", AGAIN)
    curve = epochs[epochs["split"] == "val"].set_index("epoch")[column]
    if ((curve < 0) | (curve > 1)).any():
        raise RunError(f"{run.folder / 'epochs.csv'}: has a {column} that is no share. {AGAIN}")
    return curve


def _further(run: StoredRun) -> dict[str, pd.DataFrame]:
    """further-<split>.csv of the run. Errors: RunError where one cannot be read."""
    found = {}
    for path in sorted(run.folder.glob("further-*.csv")):
        again = f"Delete it; `python scripts/evaluate.py {run.folder.name}` computes it again."
        try:
            table = pd.read_csv(path, dtype={"image": str, "class": str})
        except (OSError, ValueError) as error:
            raise RunError(f"{path}: cannot be read ({error}). {again}") from None
        _needs(table, {"image", "class"}, path, again)
        if table.duplicated(["image", "class"]).any():
            raise RunError(f"{path}: has an image and class twice. {again}")
        texts = table.drop(columns=["unit", "image", "class"], errors="ignore")
        texts = list(texts.select_dtypes(exclude="number"))
        if texts:
            raise RunError(f"{path}: has words among the numbers of {', '.join(texts)}. {again}")
        found[path.stem.removeprefix("further-")] = table
    return found


def _needs(table: pd.DataFrame, columns: set[str], path: Path, cure: str) -> None:
    missing = columns - set(table)
    if missing:
        raise RunError(f"{path}: has no column {', '.join(sorted(missing))}. {cure}")
