"""runs: one row per finished run, split and aggregation, with every metric.

A cell is a score of the best epoch's weights. `dataset` sums the counts over the images before it
divides, and averages over the classes that occur; `image` divides for each image and class, and
averages over what is defined. n is the number of values in the mean of that row's IoU.
"""

import pandas as pd

from seglab import scores
from seglab.store import StoredRun, counts_of

KEYS = ("dataset", "model", "encoder", "loss", "seed")


def runs_table(runs: list[StoredRun]) -> pd.DataFrame:
    """Columns: the choices, split, aggregation, the metrics, n, cost, run."""
    rows = []
    for run in runs:
        images = run.images()
        best = images.loc[images["checkpoint"] == "best", "split"].unique()
        for split in sorted(best, reverse=True):
            counts = counts_of(images, "best", split, run.ratios)
            for aggregation in scores.AGGREGATIONS:
                _, defined = scores.aggregate(scores.iou, counts[:, :, 0], aggregation)
                rows.append(
                    {
                        **choices(run),
                        "split": split,
                        "aggregation": aggregation,
                        **scores.summarise(counts, run.ratios, aggregation),
                        "n": defined,
                        "images": len(counts),
                        "best_epoch": run.record["best_epoch"],
                        "train_seconds": run.record["train_seconds"],
                        "peak_memory_bytes": run.record["peak_memory_bytes"],
                        "run": run.record["run_id"],
                    }
                )
    table = pd.DataFrame(rows)
    return table.sort_values([*KEYS, "run", "split", "aggregation"], ignore_index=True)


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
