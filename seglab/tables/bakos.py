"""Tables 1 to 4 of Bakos's thesis: networks and losses by what his runs say at the end of training.

His appendix says how a run becomes a number (`RULES`), of validation; the mean over the runs is
printed, in Table 1 with their standard deviation. Here the same is read off the runs' epochs.csv.
"""

from dataclasses import dataclass

import pandas as pd

from seglab.tables import marks
from seglab.tables.layout import Cell, Sheet
from seglab.tables.measured import Measured, noise
from seglab.tables.published import Published, printed
from seglab.tables.trials import (
    Trials,
    aggregation_of,
    lacking_fact,
    mean_cell,
    over_epochs,
    runs_fact,
    trials,
)

COLUMNS = {
    "loss": "loss",
    "val_loss": "val loss",
    "ba": "BA",
    "auc": "AUC",
    "ap": "AP",
    "dsc": "DSC",
    "jaccard": "Jaccard",
    "mahd": "MAHD",
}
FURTHER = ("ba", "auc", "ap", "mahd")  # of metrics.further; the others are in every epochs.csv
LOWER = ("loss", "val_loss", "mahd")
ROWS = {
    "unet": "UNet",
    "attention_unet": "AttUNet",
    "residual_attention_unet": "ResAttUNet",
    "jaccard": "Jaccard",
    "lovasz": "Lovasz",
    "boundary": "Boundary",
    "tversky": "Tversky",
    "weighted_bce": "BCE",
    "boundary+tversky_constant": "Combined (constant)",
    "boundary+tversky_linear": "Combined (linear)",
    "boundary+weighted_bce_constant": "Combined (constant)",
}
TABLES = {  # table: title, columns, what a row is
    "1": ("three networks on COVID-QU-Ex", list(COLUMNS), "model"),
    "2": ("Lovasz against Jaccard on COVID-QU-Ex", ["auc", "dsc", "jaccard", "ap"], "loss"),
    "3": ("Tversky and Boundary on Koranyi", ["mahd", "dsc", "jaccard", "ap"], "loss"),
    "4": ("BCE and Boundary on Koranyi", ["mahd", "dsc", "jaccard", "ap"], "loss"),
}
SOURCE = {
    "1": "Validation; aggregation not stated. Mean over five runs of the median of the last five "
    "epochs; in brackets the standard deviation over the runs.",
    "2": "Validation, last epoch; aggregation not stated. Mean over five runs, no plus-minus.",
    "3": "Validation, mean of the last three epochs; aggregation not stated. One run, of pure "
    "Tversky five; no plus-minus.",
    "4": "Validation, mean of the last three epochs; aggregation not stated. One run, of pure BCE "
    "five; no plus-minus.",
}


@dataclass(frozen=True)
class Rule:
    """What a run's number is: the median or the mean of its last epochs."""

    last: int
    how: str
    sentence: str

    def of_epochs(self, values: pd.Series) -> float:
        """One number; NaN where any of them is."""
        return float(getattr(values, self.how)(skipna=False))


RULES = {
    "1": Rule(5, "median", "median of the last five epochs"),
    "2": Rule(1, "mean", "last epoch"),
    "3": Rule(3, "mean", "mean of the last three epochs"),
    "4": Rule(3, "mean", "mean of the last three epochs"),
}
OWN_SLIDES = "His slides are private: measured is on those of the runs' own dataset.root."
COMMANDS = {
    "1": "`python train.py -m experiment=bakos_table1 dataset.root=...`",
    "2": "`python train.py -m experiment=bakos_table2 dataset.root=...`",
    "3": "`python train.py -m experiment=bakos_table3 dataset.root=...` and, for Tversky alone, "
    "`python train.py -m experiment=bakos_table3_tversky dataset.root=...`",
    "4": "`python train.py -m experiment=bakos_table4 dataset.root=...` and, for BCE alone, "
    "`python train.py -m experiment=bakos_table4_bce dataset.root=...`",
}


def bakos_sheets(published: Published, measured: Measured) -> list[Sheet]:
    """All four."""
    return [_sheet(table, published, measured) for table in TABLES]


def _sheet(table: str, published: Published, measured: Measured) -> Sheet:
    title, metrics, key = TABLES[table]
    rule = RULES[table]
    lines = published["medical_thesis"]
    lines = lines[lines["table"] == table]
    strings = printed(lines, key, "metric")
    rows: dict[str, str] = {}
    found: dict[str, Trials] = {}
    cells: dict[tuple[str, str], Cell] = {}
    for name in dict.fromkeys(lines[key]):
        rows[name] = ROWS[name]
        if table == "1":
            rows[f"{name}:std"] = ""
        of = strings[name, metrics[0]]
        found[name] = trials(measured, of["dataset"], of["model"], of["loss"])
        for metric in metrics:
            line = strings[name, metric]
            values = _values(found[name], metric, rule, measured)
            cells[name, metric] = mean_cell(
                line["value"],
                values,
                contest=metric,
                lower=metric in LOWER,
                unit_known=metric != "mahd",
            )
            if table == "1":
                cells[f"{name}:std", metric] = Cell(
                    published=line["std"],
                    measured=noise(values),
                    wrap="({})",
                    unit_known=metric != "mahd",
                )
    labelled = {ROWS[name]: runs for name, runs in found.items()}
    further = {metric: COLUMNS[metric] for metric in metrics if metric in FURTHER}
    return Sheet(
        name=f"medical_{table}",
        title=f"Bakos 2022, Table {table}: {title}, validation.",
        corner="",
        rows=rows,
        columns={metric: COLUMNS[metric] for metric in metrics},
        cells=cells,
        source=SOURCE[table],
        facts=[
            f"Split: validation; of a run the {rule.sentence}. Aggregation of DSC and Jaccard: "
            f"{aggregation_of(measured)[1]}.",
            *_further_facts(metrics),
            runs_fact(labelled),
            "The standard deviation has ddof 1.",
            *_undefined(labelled, metrics, rule, measured),
            *lacking_fact(found.values(), further),
            *([OWN_SLIDES] if "koranyi" in set(lines["dataset"]) else []),
        ],
        marks=marks.none("these numbers are kept by epoch, not by image, so no test is made"),
        command=COMMANDS[table],
    )


def _values(found: Trials, metric: str, rule: Rule, measured: Measured) -> list[float]:
    split, column = _column(metric, measured)
    return found.values(
        lambda reading: over_epochs(reading, split, column, rule.last, rule.of_epochs)
    )


def _column(metric: str, measured: Measured) -> tuple[str, str]:
    """Split and column of epochs.csv."""
    suffix = aggregation_of(measured)[0]
    counted = {"dsc": "dice" + suffix, "jaccard": "iou" + suffix}
    if metric in ("loss", "val_loss"):
        return ("train" if metric == "loss" else "val"), "loss"
    return "val", counted.get(metric, metric)


def _further_facts(metrics: list[str]) -> list[str]:
    pooled = [COLUMNS[metric] for metric in metrics if metric in FURTHER and metric != "mahd"]
    said = [f"{', '.join(pooled)}: over the pixels of all images together."] if pooled else []
    if "mahd" in metrics:
        said.append(
            "MAHD: in pixels, mean over the images; the unit of the printed one is not stated, so "
            "there is no difference and no verdict."
        )
    return said


def _undefined(
    found: dict[str, Trials], metrics: list[str], rule: Rule, measured: Measured
) -> list[str]:
    """What no mean has in it: runs without a number, and images without a distance."""
    said = []
    for label, runs in found.items():
        for metric in metrics:
            column = _column(metric, measured)[1]
            had = sum(column in reading.epochs for reading in runs.readings)
            undefined = had - len(_values(runs, metric, rule, measured))
            if undefined:
                said.append(f"{label}: {COLUMNS[metric]} is undefined in {undefined} of {had} runs")
        misses = runs.values(
            lambda r: over_epochs(r, "val", "mahd_misses", rule.last, rule.of_epochs)
        )
        if "mahd" in metrics and any(misses):
            mean = sum(misses) / len(misses)
            said.append(
                f"{label}: MAHD leaves out {mean:g} images a run, of which one mask is empty"
            )
    return [f"{'; '.join(said)}."] if said else []
