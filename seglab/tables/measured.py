"""What the runs say, under one convention: scores, curves, superiority, convergence, folds."""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from seglab import scores
from seglab.errors import RunError
from seglab.store import StoredRun, counts_of
from seglab.tables.published import LOSSES
from seglab.tables.runs import choices


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
class Cellname:
    """What a run is asked for; `fold` is None outside a cross-validation."""

    dataset: str
    model: str
    encoder: str
    loss: str
    seed: int
    fold: int | None = None


class Measured:
    """The numbers of the runs. Of each data set one protocol is shown: that of most runs.

    A protocol is everything that changes a number, but the network, the loss, the seed and the
    fold; `left_out` counts, per data set, the runs of other protocols. Of two runs of one cell
    (another value of a loss's hyper-parameter, say) the first by name is shown; the other is
    counted too.
    """

    def __init__(self, runs: Iterable[StoredRun], convention: Convention) -> None:
        self.convention = convention
        self.left_out: Counter[str] = Counter()
        self.scores: dict[Cellname, dict[str, dict[str, float]]] = {}
        self.curves: dict[Cellname, pd.Series] = {}
        self.test_split: dict[str, str] = {}
        self._superiority: dict[Cellname, dict[str, float]] = {}
        for run in self._chosen(sorted(runs, key=lambda run: run.record["run_id"])):
            name = cellname(run)
            self.scores[name] = _scores(run, convention)
            self.curves[name] = _curve(run, convention)
            self.test_split[name.dataset] = run.record["dataset"]["test_split"]

    def _chosen(self, runs: list[StoredRun]) -> list[StoredRun]:
        protocols: dict[str, dict[str, list[StoredRun]]] = defaultdict(lambda: defaultdict(list))
        for run in runs:
            key = (run.record["choices"]["dataset"], fold_of(run.record) is None)
            protocols[repr(key)][_protocol(run.record)].append(run)
        kept: list[StoredRun] = []
        for group in protocols.values():
            most = max(sorted(group), key=lambda protocol: len(group[protocol]))
            first: dict[Cellname, StoredRun] = {}
            for run in group[most]:
                first.setdefault(cellname(run), run)
            kept += first.values()
        shown = Counter(run.record["choices"]["dataset"] for run in kept)
        self.left_out = Counter(run.record["choices"]["dataset"] for run in runs) - shown
        return kept

    def datasets(self) -> list[str]:
        """Of all runs, by name."""
        return sorted({name.dataset for name in self.scores})

    def seeds(self, dataset: str) -> list[int]:
        """Of the runs outside a cross-validation."""
        return sorted({n.seed for n in self.scores if n.dataset == dataset and n.fold is None})

    def networks(self, dataset: str) -> set[tuple[str, str]]:
        """(model, encoder) of the runs outside a cross-validation."""
        return {
            (n.model, n.encoder) for n in self.scores if n.dataset == dataset and n.fold is None
        }

    def score(self, name: Cellname, split: str, metric: str) -> float | None:
        """None where there is no such run, split or metric."""
        value = self.scores.get(name, {}).get(split, {}).get(metric)
        return None if value is None or math.isnan(value) else value

    def superiority(self, name: Cellname) -> float | None:
        """Percent of epochs; None until all six losses of the group have run."""
        group = Cellname(**{**vars(name), "loss": ""})
        if group not in self._superiority:
            self._superiority[group] = self._shares(group)
        return self._superiority[group].get(name.loss)

    def _shares(self, group: Cellname) -> dict[str, float]:
        names = {loss: Cellname(**{**vars(group), "loss": loss}) for loss in LOSSES}
        if any(name not in self.curves for name in names.values()):
            return {}
        rows = [
            {"loss": loss, "epoch": epoch, "biou": value}
            for loss, name in names.items()
            for epoch, value in self.curves[name].items()
        ]
        found = scores.superiority(pd.DataFrame(rows)).dropna()
        return {str(loss): float(value) for loss, value in found.items()}

    def convergence(self, name: Cellname, threshold: float) -> float | None:
        """The epoch; inf where it was never reached, None where there is no run."""
        if name not in self.curves:
            return None
        epoch = scores.convergence(self.curves[name], threshold)
        return math.inf if epoch is None else float(epoch)

    def value(self, name: Cellname, split: str, metric: str) -> float | None:
        """A score, or the superiority."""
        if metric == "superiority_biou":
            return self.superiority(name)
        return self.score(name, split, metric)

    def over_seeds(self, name: Cellname, split: str, metric: str) -> list[float]:
        """The value of each seed for which there is one; the seed of `name` does not matter."""
        others = [Cellname(**{**vars(name), "seed": seed}) for seed in self.seeds(name.dataset)]
        values = [self.value(other, split, metric) for other in others]
        return [value for value in values if value is not None]


def noise(values: list[float]) -> float | None:
    """Sample standard deviation (ddof 1); None of fewer than two."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def cellname(run: StoredRun) -> Cellname:
    """Which cell a run fills."""
    chosen = choices(run)
    return Cellname(**chosen, fold=fold_of(run.record))  # type: ignore[arg-type]


def fold_of(record: dict[str, Any]) -> int | None:
    """`fold` of the data set or of its split, 1 .. 5 as the thesis counts them."""
    dataset = record["science"]["dataset"]
    split = dataset.get("split")
    fold = dataset.get("fold", split.get("fold") if isinstance(split, dict) else None)
    return None if fold is None else int(fold)


def _protocol(record: dict[str, Any]) -> str:
    science = record["science"]
    kept = {k: v for k, v in science.items() if k not in ("model", "encoder", "loss", "seed")}
    split = science["dataset"].get("split")
    dataset = {k: v for k, v in science["dataset"].items() if k != "fold"}
    if isinstance(split, dict):
        dataset["split"] = {k: v for k, v in split.items() if k != "fold"}
    pretrained = science["encoder"].get("weights") is not None
    return json.dumps({**kept, "dataset": dataset, "pretrained": pretrained}, sort_keys=True)


def _scores(run: StoredRun, convention: Convention) -> dict[str, dict[str, float]]:
    """split -> metric -> value."""
    images = run.images()
    images = images[images["checkpoint"] == convention.epoch]
    of_image, _ = pd.factorize(images["image"], sort=True)
    images = images.iloc[np.lexsort((images["class"], of_image))]  # counts_of relies on the order
    entry = 1 + run.ratios.index(_ratio_of(run, convention.ratio))
    found = {}
    for split in images["split"].unique():
        counts = counts_of(images, convention.epoch, split, run.ratios)
        asked = (("biou", scores.iou, entry), ("iou", scores.iou, 0), ("dice", scores.dice, 0))
        found[str(split)] = {
            metric: scores.aggregate(score, counts[:, :, which], convention.aggregation)[0]
            for metric, score, which in asked
        }
    return found


def _curve(run: StoredRun, convention: Convention) -> pd.Series:
    """Validation bIoU by epoch."""
    ratio = _ratio_of(run, convention.ratio)
    column = "biou" if ratio == run.ratios[0] else f"biou_{ratio:g}"
    column += "_image" if convention.aggregation == "image" else ""
    epochs = run.epochs()
    rows = epochs[epochs["split"] == "val"]
    return rows.set_index("epoch")[column]


def _ratio_of(run: StoredRun, wanted: float) -> float:
    for ratio in run.ratios:
        if math.isclose(ratio, wanted):
            return ratio
    has = ", ".join(f"{ratio:g}" for ratio in run.ratios)
    raise RunError(
        f"{run.folder}: has no counts for boundary ratio {wanted:g}; it has {has}. "
        "Give one of these: --boundary-ratio."
    )
