"""runs: one row per finished run, split and aggregation, with every metric.

A cell is a score of the best epoch's weights. `dataset` sums the counts over the images before it
divides, and averages over the classes that occur; `image` divides for each image and class, and
averages over what is defined. n is the number of values in the mean of that row's IoU.
"""

import pandas as pd

from seglab.store import StoredRun
from seglab.tables.readings import Reading

KEYS = ("dataset", "model", "encoder", "loss", "seed")


def runs_table(readings: list[Reading]) -> pd.DataFrame:
    """Columns: the choices, split, aggregation, the metrics, n, cost, run."""
    rows = [
        {
            **choices(reading.run),
            "split": split,
            "aggregation": aggregation,
            **summary.metrics,
            "n": summary.n,
            "images": summary.images,
            "best_epoch": reading.run.record["best_epoch"],
            "train_seconds": reading.run.record["train_seconds"],
            "peak_memory_bytes": reading.run.record["peak_memory_bytes"],
            "run": reading.run.record["run_id"],
        }
        for reading in readings
        for (split, aggregation), summary in reading.best.items()
    ]
    return pd.DataFrame(rows).sort_values([*KEYS, "run", "split", "aggregation"], ignore_index=True)


def _model(choice: str, section: dict[str, object]) -> str:
    """'unet', or 'smp FPN' where the choice alone does not say which network."""
    return f"smp {section['architecture']}" if choice == "smp" else choice


def choices(run: StoredRun) -> dict[str, object]:
    """The scientific coordinates of a run, for reading."""
    chosen, science = run.record["choices"], run.record["science"]
    return {
        "dataset": chosen["dataset"],
        "model": _model(chosen["model"], science.get("model", {})),
        "encoder": science["encoder"]["name"],
        "loss": chosen["loss"],
        "seed": run.record["seed"],
    }
