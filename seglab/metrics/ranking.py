"""ROC AUC and average precision of scores, exact or from a histogram. NumPy, no torch.

Both say how well the scores rank foreground above background, whatever the threshold; equal to
scikit-learn's roc_auc_score and average_precision_score. NaN where the foreground is missing, and
the AUC where the background is.
"""

from typing import NamedTuple

import numpy as np

BINS = 1 << 16


class Ranking(NamedTuple):
    """Both numbers of one histogram, and what the order within its bins can change of them."""

    auc: float
    auc_error: float
    average_precision: float
    average_precision_error: float


def roc_auc(scores: np.ndarray, truth: np.ndarray) -> float:
    """Area under the ROC curve of (N,) scores and (N,) bool truth; ties count half."""
    return _of_counts(*_by_score(scores, truth))[0]


def average_precision(scores: np.ndarray, truth: np.ndarray) -> float:
    """sum over thresholds of (recall_n - recall_(n-1)) precision_n; not interpolated."""
    return _of_counts(*_by_score(scores, truth))[1]


class ScoreHistogram:
    """Scores in 0 .. 1 as counts in bins of one width: any number of pixels in fixed memory.

    Scores within one bin are taken for equal; `ranking` says how far off that can be.

    Args:
        bins: number of them.
    """

    def __init__(self, bins: int = BINS) -> None:
        self.counts = np.zeros((2, bins), dtype=np.int64)  # background, foreground

    def add(self, scores: np.ndarray, truth: np.ndarray) -> None:
        """Counts (N,) scores in 0 .. 1 and their (N,) bool truth."""
        bins = self.counts.shape[1]
        place = np.minimum((np.asarray(scores, dtype=np.float64) * bins).astype(np.int64), bins - 1)
        for side in (0, 1):
            self.counts[side] += np.bincount(place[truth == side], minlength=bins)

    @property
    def ranking(self) -> Ranking:
        """Of all that was added."""
        return of_histogram(self.counts)


def of_histogram(counts: np.ndarray) -> Ranking:
    """(2, bins) background and foreground in bins of rising scores -> both numbers, with bounds.

    AUC: a pair of one bin counts half, and can be worth 0 or 1. Average precision: a foreground
    score of a bin counts with the precision at the bin's lower end; wherever in the bin it lies,
    and whatever is tied there, its precision is between (T + 1) / (T + 1 + F + b) and
    (T + f) / (T + f + F), T and F the foreground and background above the bin, f and b in it.
    """
    background, foreground = counts[:, ::-1].astype(np.float64)
    auc, ap = _of_counts(background, foreground)
    positives, negatives = foreground.sum(), background.sum()
    auc_error = ap_error = float("nan")
    if positives and negatives:
        auc_error = float((background * foreground).sum() / (2 * positives * negatives))
    if positives:
        share = foreground / positives
        true, false = foreground.cumsum(), background.cumsum()
        before = true - foreground + 1
        low = (share * before / (before + false)).sum()
        high = (share * true / np.maximum(true + false - background, 1)).sum()
        ap_error = float(max(high - ap, ap - low))
    return Ranking(auc, auc_error, ap, ap_error)


def _by_score(scores: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Counts of background and foreground at each different score, highest first."""
    values, place = np.unique(-np.asarray(scores, dtype=np.float64), return_inverse=True)
    truth = np.asarray(truth, dtype=bool)
    background, foreground = (
        np.bincount(place[truth == side], minlength=len(values)) for side in (False, True)
    )
    return background, foreground


def _of_counts(background: np.ndarray, foreground: np.ndarray) -> tuple[float, float]:
    """AUC and AP from the counts at falling scores."""
    negatives, positives = float(background.sum()), float(foreground.sum())
    true, false = foreground.cumsum(), background.cumsum()
    auc = ap = float("nan")
    if positives and negatives:
        above = true - foreground / 2  # positives above a score, half of those at it
        auc = float((background * above).sum() / (positives * negatives))
    if positives:
        found = np.maximum(true + false, 1)
        ap = float((foreground / positives * true / found).sum())
    return auc, ap
