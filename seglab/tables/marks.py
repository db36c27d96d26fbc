"""Which losses of a column cannot be told from its best: the daggers of the measured tables."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from seglab import scores, stats
from seglab.tables.layout import SAME, Told
from seglab.tables.readings import Convention, Reading

RESAMPLES = 10_000
RESAMPLES_OVER_SEEDS = 2_000  # of variances alone
SEED = 0  # of the resamples: the same runs give the same marks
METRICS = {"biou": (scores.iou, 1), "iou": (scores.iou, 0), "dice": (scores.dice, 0)}


@dataclass(frozen=True)
class Column:
    """What a test said of one metric.

    Attributes:
        told: of each loss that was compared; none where there is a `reason`.
        reason: why there was no test; empty where there was.
        images, seeds: over how many.
    """

    told: dict[str, Told] = field(default_factory=dict)
    reason: str = ""
    images: int = 0
    seeds: int = 0


def column(
    group: Mapping[str, list[Reading]], split: str, metric: str, convention: Convention
) -> Column:
    """Every loss against the best of the column, by the paired bootstrap and Holm's correction.

    Args:
        group: loss -> its runs, one a seed, in the order of the seeds.
    """
    found = {
        loss: [r for r in runs if not np.isnan(r.scores.get(split, {}).get(metric, np.nan))]
        for loss, runs in group.items()
    }
    found = {loss: runs for loss, runs in found.items() if runs}
    reason = why_not(found, split)
    if reason:
        return Column(reason=reason)
    score, entry = METRICS[metric]
    runs = np.stack(
        [
            np.stack([reading.counts[:, :, entry] for reading in readings])
            for readings in found.values()
        ]
    )  # (L, S, N, K, 3)
    seeds, images = runs.shape[1:3]
    aggregation = convention.aggregation
    if seeds == 1:
        result = stats.against_best(runs[:, 0], score, aggregation, RESAMPLES, SEED)
    else:
        result = stats.against_best_over_seeds(runs, score, aggregation, RESAMPLES_OVER_SEEDS, SEED)
    if result.reason:
        return Column(reason=result.reason, images=images, seeds=seeds)
    return Column(_told(list(found), result), "", images, seeds)


def sentences(columns: Mapping[str, list[Column]], untested: str) -> str:
    """For a caption: what the mark means, by what test, over what; and where there is none.

    Args:
        columns: data set -> its columns but the `untested`.
        untested: what has no such test.
    """
    said = []
    if any(found.told for several in columns.values() for found in several):
        said.append(
            f"{SAME}: not distinguishable at 5 % from the best of its column (two-sided, Holm's "
            "correction over all pairs of losses, none for looking at several columns)."
        )
    said += [f"{dataset}: {_extent(found)}" for dataset, found in columns.items()]
    return " ".join([*said, f"{untested} has no such test."])


def none(reason: str) -> str:
    """For the caption of a table in which nothing is tested."""
    return f"No mark of what cannot be told from the best: {reason}."


def why_not(found: Mapping[str, list[Reading]], split: str) -> str:
    """Why losses cannot be compared over images; "" where they can. Arguments as for `column`."""
    if len(found) < 2:
        return "fewer than two losses have run"
    if len({tuple(r.run.record["seed"] for r in runs) for runs in found.values()}) > 1:
        return "the losses have not run with the same seeds"
    readings = [reading for runs in found.values() for reading in runs]
    if any(reading.run.record["dataset"]["test_split"] != split for reading in readings):
        return f"no counts of split {split} are kept"
    if len({(reading.images, reading.counts.shape) for reading in readings}) > 1:
        return "the runs were not measured on the same images"
    samples = len(readings[0].counts)
    images = readings[0].run.record["dataset"].get("test_images", samples)  # older runs: not known
    if images < samples:
        shown = "one image" if images == 1 else f"{images} images"
        return f"the {samples} test samples are windows of {shown}, and not independent"
    return ""


def _told(losses: list[str], result: stats.AgainstBest) -> dict[str, Told]:
    return {
        loss: Told(
            "best" if i == result.best else "same" if result.same[i] else "apart",
            None if i == result.best else float(result.p[i]),
        )
        for i, loss in enumerate(losses)
    }


def _extent(columns: list[Column]) -> str:
    """Of one data set: over how many images and seeds, or why there is no mark."""
    reasons = list(dict.fromkeys(column.reason for column in columns if column.reason))
    tested = [column for column in columns if not column.reason]
    said = [f"no mark ({reason})." for reason in reasons]
    if tested:
        images, seeds = tested[0].images, tested[0].seeds
        if seeds == 1:
            said.append(
                f"paired bootstrap over {images} images, {RESAMPLES} resamples, of the same "
                "trained weights of one seed: it says nothing of training again."
            )
        else:
            said.append(
                f"over {seeds} seeds (Student's t) and {images} images (paired bootstrap, "
                f"{RESAMPLES_OVER_SEEDS} resamples)."
            )
    return " ".join(said)
