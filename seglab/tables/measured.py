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
from seglab.store import StoredRun
from seglab.tables import again
from seglab.tables.published import LOSSES
from seglab.tables.readings import Convention, Reading
from seglab.tables.runs import choices


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
    counted too. `everything` holds all runs, by name: a source may train each of its losses in
    another way (`seglab.tables.trials`). `composed` is for the commands in captions: see
    `seglab.tables.again`.
    """

    def __init__(
        self,
        readings: Iterable[Reading],
        convention: Convention,
        composed: again.Composed | None = None,
    ) -> None:
        self.composed = composed
        self.convention = convention
        self.left_out: Counter[str] = Counter()
        self.readings: dict[Cellname, Reading] = {}
        self.test_split: dict[str, str] = {}
        self._superiority: dict[Cellname, dict[str, float]] = {}
        self.everything = sorted(readings, key=lambda r: r.run.record["run_id"])
        for reading in self._chosen(self.everything):
            name = cellname(reading.run)
            self.readings[name] = reading
            self.test_split[name.dataset] = reading.run.record["dataset"]["test_split"]
        self.runs = {name: reading.run for name, reading in self.readings.items()}
        self.scores = {name: reading.scores for name, reading in self.readings.items()}
        self.curves = {name: reading.curve for name, reading in self.readings.items()}

    def _chosen(self, readings: list[Reading]) -> list[Reading]:
        protocols: dict[str, dict[str, list[Reading]]] = defaultdict(lambda: defaultdict(list))
        for reading in readings:
            key = (_dataset(reading), fold_of(reading.run.record) is None)
            protocols[repr(key)][_protocol(reading.run.record)].append(reading)
        kept: list[Reading] = []
        for group in protocols.values():
            most = max(sorted(group), key=lambda protocol: len(group[protocol]))
            first: dict[Cellname, Reading] = {}
            for reading in group[most]:
                first.setdefault(cellname(reading.run), reading)
            kept += first.values()
        self.left_out = Counter(map(_dataset, readings)) - Counter(map(_dataset, kept))
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

    def command(self, dataset: str, cells: str) -> str:
        """Makes the runs that are missing of the data set's protocol, in words."""
        runs = [r for n, r in self.readings.items() if n.dataset == dataset and n.fold is None]
        return again.command(runs, cells, self.composed)

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
    """`fold` of the data set or of its split, 1 .. 5 as the thesis counts them.

    Of a data set with a `split_file` it is an entry of that file: without one there is no fold.
    """
    dataset = record["science"]["dataset"]
    if dataset.get("split_file", "") is None:
        return None
    split = dataset.get("split")
    fold = dataset.get("fold", split.get("fold") if isinstance(split, dict) else None)
    return None if fold is None else int(fold)


def _dataset(reading: Reading) -> str:
    return reading.run.record["choices"]["dataset"]


def _protocol(record: dict[str, Any]) -> str:
    science = record["science"]
    kept = {k: v for k, v in science.items() if k not in ("model", "encoder", "loss", "seed")}
    split = science["dataset"].get("split")
    dataset = {k: v for k, v in science["dataset"].items() if k != "fold"}
    if isinstance(split, dict):
        dataset["split"] = {k: v for k, v in split.items() if k != "fold"}
    pretrained = science["encoder"].get("weights") is not None
    return json.dumps({**kept, "dataset": dataset, "pretrained": pretrained}, sort_keys=True)
