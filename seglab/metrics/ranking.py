"""ROC AUC and average precision of scores, exact or from a histogram. NumPy, no torch.

Both say how well the scores rank foreground above background, whatever the threshold; equal to
scikit-learn's roc_auc_score and average_precision_score. NaN where one side is missing.
"""

import numpy as np

BINS = 1 << 16


def roc_auc(scores: np.ndarray, truth: np.ndarray) -> float:
    """Area under the ROC curve of (N,) scores and (N,) bool truth; ties count half."""
    return _of_counts(*_by_score(scores, truth))[0]


def average_precision(scores: np.ndarray, truth: np.ndarray) -> float:
    """sum over thresholds of (recall_n - recall_(n-1)) precision_n; not interpolated."""
    return _of_counts(*_by_score(scores, truth))[1]


class ScoreHistogram:
    """Scores in 0 .. 1 as counts in bins of one width: any number of pixels in fixed memory.

    Scores within one bin are taken for equal. `auc` is then off by at most `auc_error`, which
    follows from the counts.

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
    def auc(self) -> float:
        """Area under the ROC curve."""
        return _of_counts(*self.counts[:, ::-1])[0]

    @property
    def auc_error(self) -> float:
        """What the order within the bins can change: half the share of pairs in one bin."""
        pairs = float(self.counts[0].sum()) * float(self.counts[1].sum())
        together = (self.counts[0].astype(float) * self.counts[1]).sum()
        return together / (2 * pairs) if pairs else float("nan")

    @property
    def average_precision(self) -> float:
        """The area under the precision-recall curve, as `average_precision`."""
        return _of_counts(*self.counts[:, ::-1])[1]


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
