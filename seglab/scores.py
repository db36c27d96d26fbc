"""Scores from integer counts: NumPy and pandas alone, so that no table needs a GPU or a model.

A count array ends in (tp, fp, fn), as `seglab.metrics` makes them. N images, K classes, R ratios of
boundary bands. Undefined is NaN (the class is neither in the truth nor in the prediction), and the
number of defined values travels beside every mean. A class has a band exactly where it has a
region, so IoU, Dice and boundary IoU are defined in the same places.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from seglab.errors import ConfigError

AGGREGATIONS = ("dataset", "image")


def iou(counts: np.ndarray) -> np.ndarray:
    """IoU = tp / (tp + fp + fn): (..., 3) counts -> (...) float64, NaN where nothing was counted.

    Of a region it is the Jaccard index, of boundary bands the boundary IoU (Cheng et al. 2021).
    """
    tp, fp, fn = _parts(counts)
    return _ratio(tp, tp + fp + fn)


def dice(counts: np.ndarray) -> np.ndarray:
    """Dice = 2 tp / (2 tp + fp + fn): (..., 3) counts -> (...) float64, NaN where undefined."""
    tp, fp, fn = _parts(counts)
    return _ratio(2 * tp, 2 * tp + fp + fn)


def mean_defined(values: np.ndarray) -> tuple[float, int]:
    """The mean over the values that are not NaN (NaN if there is none), and how many there are."""
    defined = np.asarray(values, float)
    defined = defined[~np.isnan(defined)]
    return (float(defined.mean()) if defined.size else float("nan")), int(defined.size)


def aggregate(
    score: Callable[[np.ndarray], np.ndarray], counts: np.ndarray, aggregation: str
) -> tuple[float, int]:
    """One number for a set of images: its value, and over how many defined ones it is a mean.

    `dataset`: the counts are summed over the images, then one score per class, then the mean over
    the classes that occur anywhere; the number is that of classes. `image`: one score per image and
    class, then the mean over all the defined ones alike; the number is that of those pairs.

    Args:
        score: `iou` or `dice`.
        counts: (N, K, 3).

    Errors: ConfigError for another aggregation.
    """
    assert counts.ndim == 3, f"(images, classes, 3), not {counts.shape}"
    match aggregation:
        case "dataset":
            return mean_defined(score(counts.sum(axis=0)))
        case "image":
            return mean_defined(score(counts))
        case _:
            raise ConfigError(
                f"aggregation is {aggregation!r}; it is one of: {', '.join(AGGREGATIONS)}"
            )


def summarise(counts: np.ndarray, ratios: Sequence[float], aggregation: str) -> dict[str, float]:
    """The scores of a split: biou (of the first ratio), iou, dice, and biou_<ratio> of the others.

    How many values each is a mean over is the same for all: `aggregate(iou, counts[:, :, 0], ...)`.

    Args:
        counts: (N, K, 1 + R, 3), the region and then each ratio, as `seglab.metrics.Meter` counts.
        ratios: the R >= 1 ratios.
    """
    assert counts.ndim == 4, f"(images, classes, 1 + ratios, 3), not {counts.shape}"
    assert counts.shape[2] == 1 + len(ratios), f"{counts.shape[2]} entries for ratios {ratios}"
    bands = {"biou" if i == 0 else f"biou_{ratio:g}": 1 + i for i, ratio in enumerate(ratios)}
    entries = [(name, iou, entry) for name, entry in bands.items()]
    entries[1:1] = [("iou", iou, 0), ("dice", dice, 0)]
    return {
        name: aggregate(score, counts[:, :, entry], aggregation)[0]
        for name, score, entry in entries
    }


def superiority(epochs: pd.DataFrame) -> pd.Series:
    """Superiority bIoU: the percentage of epochs in which each loss has the best validation bIoU.

    Losses that tie for the best share the epoch. Compared are the epochs that every loss has, so a
    run that stopped early gives the others nothing; NaN is never the best, and an epoch in which
    all are NaN has no best and is left out. The percentages add up to 100.

    Args:
        epochs: one row per loss and epoch, columns loss, epoch, biou, of runs that differ in the
            loss alone.

    Returns:
        percent, indexed by loss in the order of first appearance; NaN where no epoch compares.
    """
    assert not epochs.duplicated(["loss", "epoch"]).any(), "two runs of one loss in the group"
    losses = list(dict.fromkeys(epochs["loss"]))
    had = epochs.groupby("epoch")["loss"].size()
    common = epochs[epochs["epoch"].map(had) == len(losses)]
    values = common.pivot(index="epoch", columns="loss", values="biou")[losses]
    best = values.eq(values.max(axis="columns"), axis="index")
    share = best.div(best.sum(axis="columns"), axis="index")  # 0 / 0 where all are NaN
    return (share.mean() * 100).rename_axis("loss").rename("superiority_percent")


def convergence(biou_by_epoch: pd.Series, threshold: float) -> int | None:
    """The first epoch whose validation bIoU reaches the threshold (>=), or None.

    Args:
        biou_by_epoch: bIoU indexed by the number of the epoch, in any order.
    """
    reached = biou_by_epoch.index[biou_by_epoch >= threshold]
    return int(reached.min()) if len(reached) else None


def _parts(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    counts = np.asarray(counts)
    assert counts.shape[-1:] == (3,), f"counts end in (tp, fp, fn); the shape is {counts.shape}"
    return counts[..., 0], counts[..., 1], counts[..., 2]


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole != 0)
