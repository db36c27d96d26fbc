"""The runs behind one row of a source that trains again and again, as Bakos, Caliva and the poster.

A row's runs have the data set, network and loss of that row, in one protocol: they differ in the
seed alone. Of several protocols the one with most runs is shown. Another row may have another one,
as Bakos's Table 3 has; the caption says which.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from seglab.tables.layout import Cell
from seglab.tables.measured import Measured, cellname, noise
from seglab.tables.readings import Reading
from seglab.tables.verdict import SCORE, Kind

OURS = {  # the names in configs of what the CSV files call otherwise
    "covid_qu_ex": "covid_qu_ex_infection",
    "koranyi": "wsi",
    "knee_mri": "nifti",
    "chest_xray": "cxr",
    "unet": "vanilla_unet",
    "jaccard": "iou",
    "boundary+tversky_constant": "boundary_tversky",
    "boundary+tversky_linear": "boundary_tversky_linear",
    "boundary+weighted_bce_constant": "boundary_bce",
    "distance_map_penalised_ce": "distance_penalty",
    "soft_dice": "dice_squared",
    "confident_prediction_penalty": "confidence_penalty",
}
AGGREGATIONS = {
    "dataset": "counts summed over the images, ratio per class, mean over classes",
    "image": "ratio per image and class, mean over the defined ones",
}


@dataclass(frozen=True)
class Trials:
    """The runs of one row, by seed. left_out: how many of other protocols there are besides."""

    readings: list[Reading]
    left_out: int

    def values(self, of: Callable[[Reading], float | None]) -> list[float]:
        """One number of each run that has it."""
        found = [of(reading) for reading in self.readings]
        return [value for value in found if value is not None and not np.isnan(value)]

    def lacks(self, column: str) -> bool:
        """Whether there are runs and none of them has that column in its epochs.csv."""
        return bool(self.readings) and all(column not in r.epochs for r in self.readings)

    def said(self) -> str:
        """'5 (seeds 1, 2, 3, 4, 5; 30 epochs at learning rate 0.0001)', or 'none'."""
        if not self.readings:
            return "none"
        first = self.readings[0]
        seeds = ", ".join(str(reading.run.record["seed"]) for reading in self.readings)
        epochs = first.epochs["epoch"].max()
        rate = first.run.record["science"].get("optimizer", {}).get("lr")
        at = "" if rate is None else f" at learning rate {rate:g}"
        more = f"; {self.left_out} of another protocol not shown" if self.left_out else ""
        word = "seed" if len(self.readings) == 1 else "seeds"
        return f"{len(self.readings)} ({word} {seeds}; {epochs} epochs{at}{more})"


def trials(measured: Measured, dataset: str, model: str, loss: str) -> Trials:
    """The runs of that data set, network and loss, in their names or ours; no folds."""
    wanted = tuple(OURS.get(name, name) for name in (dataset, model, loss))
    protocols: dict[str, list[Reading]] = defaultdict(list)
    for reading in measured.everything:
        name = cellname(reading.run)
        if (name.dataset, name.model, name.loss) == wanted and name.fold is None:
            science = reading.run.record["science"]
            kept = {key: value for key, value in science.items() if key != "seed"}
            protocols[json.dumps(kept, sort_keys=True)].append(reading)
    if not protocols:
        return Trials([], 0)
    chosen = max(sorted(protocols), key=lambda protocol: len(protocols[protocol]))
    shown = sorted(protocols[chosen], key=lambda reading: reading.run.record["seed"])
    return Trials(shown, sum(map(len, protocols.values())) - len(shown))


def over_epochs(
    reading: Reading, split: str, column: str, last: int, how: Callable[[pd.Series], float]
) -> float | None:
    """`how` of a column's last epochs; None where the run has no such column."""
    if column not in reading.epochs:
        return None
    rows = reading.epochs[reading.epochs["split"] == split]  # in the order of the epochs
    return float(how(rows[column].tail(last)))


def mean_cell(
    printed: str,
    values: list[float],
    *,
    contest: str,
    lower: bool = False,
    kind: Kind = SCORE,
    unit_known: bool = True,
) -> Cell:
    """The mean over the runs; its noise is the standard deviation (ddof 1)."""
    return Cell(
        published=printed,
        measured=sum(values) / len(values) if values else None,
        noise=noise(values),
        kind=kind,
        contest=contest,
        lower=lower,
        unit_known=unit_known,
    )


def runs_fact(rows: Mapping[str, Trials]) -> str:
    """Whose runs fill which row."""
    listed = "; ".join(f"{label} {found.said()}" for label, found in rows.items())
    return f"Runs: {listed}. A cell is the mean over them."


def lacking_fact(rows: Iterable[Trials], columns: Mapping[str, str]) -> list[str]:
    """Which columns (name -> what the table calls it) runs do not have, and what makes them."""
    found = list(rows)
    lacking = [column for column in columns if any(row.lacks(column) for row in found)]
    if not lacking:
        return []
    named = ", ".join(columns[column] for column in lacking)
    return [
        f"Runs without {named}: their epochs.csv has no such column. It takes "
        f"metrics.further=[{','.join(lacking)}] on the command line of training."
    ]


def aggregation_of(measured: Measured) -> tuple[str, str]:
    """What the convention appends to the name of a column, and its sentence."""
    chosen = measured.convention.aggregation
    return ("_image" if chosen == "image" else ""), f"{chosen} ({AGGREGATIONS[chosen]})"
