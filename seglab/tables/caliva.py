"""Section 3 of Caliva et al. 2019: four losses on the bones of knee MRI, patient by patient.

G-DSC is the Dice of the counts, B-DSC the boundary Dice that scripts/evaluate.py leaves in the
run's folder: it needs the predictions, which no record keeps. Both are taken for each volume, as
the mean over its bones, and then over the test volumes. The paper does not say what its +- is; here
it is the standard deviation over the volumes.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from seglab import scores
from seglab.tables import marks
from seglab.tables.layout import Cell, Sheet
from seglab.tables.measured import Measured
from seglab.tables.published import Published, printed
from seglab.tables.readings import Reading
from seglab.tables.trials import Trials, mean_cell, runs_fact, trials
from seglab.tables.verdict import PERCENT

LOSSES = {
    "distance_map_penalised_ce": "Distance map penalised CE",
    "soft_dice": "Dice",
    "confident_prediction_penalty": "Confident prediction penalty",
    "focal": "Focal",
}
METRICS = {"b_dsc": "B-DSC (%)", "g_dsc": "G-DSC (%)"}
BACKGROUND = "background"  # no bone


def caliva_sheet(published: Published, measured: Measured) -> Sheet:
    """Rows: loss. Columns: mean and deviation of both Dices, in percent."""
    strings = printed(published["distance_map_penalty"], "loss", "metric")
    found = {loss: trials(measured, "knee_mri", "vnet", loss) for loss in LOSSES}
    cells: dict[tuple[str, str], Cell] = {}
    for loss, runs in found.items():
        for metric, volumes in VOLUMES.items():
            line = strings[loss, metric]
            for what, of_run in OF_RUN.items():
                cells[loss, f"{metric}:{what}"] = mean_cell(
                    line[what],
                    _percents(runs, volumes, of_run),
                    contest=metric if what == "mean" else "",
                    kind=PERCENT,
                )
    return Sheet(
        name="caliva",
        title="Caliva et al. 2019, section 3: boundary (B-DSC) and global Dice (G-DSC), knee MRI. "
        "Printed as mean +- standard deviation, in running text.",
        corner="Loss",
        rows=LOSSES,
        columns={
            f"{metric}:{what}": {"mean": "mean", "std": "+-"}[what]
            for metric in METRICS
            for what in OF_RUN
        },
        cells=cells,
        heads=[[(text, 2) for text in METRICS.values()]],
        source="Aggregation and seeds are not stated; test patients; +- is not explained.",
        facts=[
            "Split: test. Of each volume the mean over its classes but the background, where they "
            "are defined; then mean and standard deviation (ddof 1) over the volumes of a run.",
            f"G-DSC: {measured.convention.epoch} epoch; B-DSC: best epoch.",
            runs_fact({LOSSES[loss]: runs for loss, runs in found.items()}),
            *_without_surfaces(found),
        ],
        marks=marks.none(
            "B-DSC is kept as a number, not as counts, and G-DSC is a mean of means over bones, of "
            "which no test is made"
        ),
        command="`python train.py -m experiment=caliva dataset.root=...`, then for B-DSC "
        "`python scripts/evaluate.py RUN --output results/runs/RUN/further-test.csv` of each run.",
    )


def _g_dsc(reading: Reading) -> np.ndarray | None:
    """(N,) Dice of each test volume."""
    dice = scores.dice(reading.counts[:, :, 0])  # (N, K)
    names = reading.run.record["dataset"].get("classes", [])
    if len(names) == dice.shape[1]:
        dice = dice[:, [name != BACKGROUND for name in names]]
    return pd.DataFrame(dice).mean(axis=1).to_numpy()


def _b_dsc(reading: Reading) -> np.ndarray | None:
    """(N,) boundary Dice of each test volume; None where nobody has evaluated the run."""
    table = reading.further.get(reading.run.record["dataset"]["test_split"])
    if table is None or "b_dsc" not in table:
        return None
    bones = table[table["class"] != BACKGROUND]
    return bones.groupby("image")["b_dsc"].mean().to_numpy()


Volumes = Callable[[Reading], np.ndarray | None]
VOLUMES: dict[str, Volumes] = {"b_dsc": _b_dsc, "g_dsc": _g_dsc}
OF_RUN: dict[str, Callable[[pd.Series], float]] = {"mean": pd.Series.mean, "std": pd.Series.std}


def _percents(runs: Trials, volumes: Volumes, of_run: Callable[[pd.Series], float]) -> list[float]:
    def percent(reading: Reading) -> float | None:
        found = volumes(reading)
        return None if found is None else 100 * float(of_run(pd.Series(found)))

    return runs.values(percent)


def _without_surfaces(found: dict[str, Trials]) -> list[str]:
    waiting = [r.run for runs in found.values() for r in runs.readings if _b_dsc(r) is None]
    if not waiting:
        return []
    listed = ", ".join(run.record["run_id"] for run in waiting)
    return [
        "B-DSC needs the predictions: `python scripts/evaluate.py RUN --output "
        f"results/runs/RUN/further-test.csv`, for RUN {listed}."
    ]
