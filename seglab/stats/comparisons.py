"""Two runs on the same images, and the losses of a table: Wilcoxon, Holm, the best and its equals.

N images, K classes, L runs.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from seglab.errors import ConfigError
from seglab.stats.bootstrap import (
    DECIMALS,
    LEVEL,
    Score,
    bootstrap_over_seeds,
    bootstrap_scores,
    checked,
    defined_only,
    each_seed,
    expanded_p,
    howe_p,
    mean_over_last,
    variance_parts,
    why_not,
    why_not_over_seeds,
)


@dataclass(frozen=True)
class SignedRank:
    """Wilcoxon's signed-rank test of two runs over images.

    Attributes:
        p: two-sided; NaN with a `reason` where there is no test.
        effect: matched-pairs rank-biserial correlation, -1 (b better on every image) to 1 (a).
        mean_difference: of the per-image values, a minus b.
        images: compared. ties: of these, without a difference. dropped: left out as undefined.
    """

    p: float
    effect: float
    mean_difference: float
    images: int
    ties: int
    dropped: int
    reason: str


def per_image(counts: np.ndarray, score: Score) -> np.ndarray:
    """(..., N, K, 3) counts -> (..., N): the mean over the classes defined in the image, or NaN."""
    return mean_over_last(score(counts))


def signed_rank(a: np.ndarray, b: np.ndarray, score: Score) -> SignedRank:
    """Wilcoxon signed-rank test (Biometrics Bulletin 1945) of the per-image values of two runs.

    The null hypothesis: the differences are symmetric about 0. Images undefined for either run are
    dropped and counted. Images without a difference are ranked and then left out of both sums
    (Pratt, JASA 1959). Differences are equal, or none, to 12 decimals; beyond, they are of the
    order in which classes were added up. The effect size is (T+ - T-) / (T+ + T-) of the same rank
    sums (Kerby, "The simple difference formula", Comprehensive Psychology 2014).

    Args:
        a, b: (N, K, 3) counts of two runs on the same images in the same order.
    """
    differences = np.round(per_image(a, score) - per_image(b, score), DECIMALS)
    kept, dropped = defined_only(differences)
    ties = int((kept == 0).sum())
    if len(kept) < 2:
        mean = float(kept[0]) if len(kept) else np.nan
        reason = f"{len(kept)} images with a value: no test over images"
        reason = "one image with a value: no test over images" if len(kept) == 1 else reason
        return SignedRank(np.nan, np.nan, mean, len(kept), ties, dropped, reason)
    if ties == len(kept):
        return SignedRank(1.0, 0.0, 0.0, ties, ties, dropped, "")
    ranks = stats.rankdata(np.abs(kept))
    above, below = ranks[kept > 0].sum(), ranks[kept < 0].sum()
    p = float(stats.wilcoxon(kept, zero_method="pratt").pvalue)
    effect = float((above - below) / (above + below))
    return SignedRank(p, effect, float(kept.mean()), len(kept), ties, dropped, "")


def holm(p: Sequence[float] | np.ndarray) -> np.ndarray:
    """Adjusted p-values of Holm's step-down method (Scandinavian Journal of Statistics 1979).

    The i-th smallest of m becomes the largest (m - j + 1) p_(j) over j <= i, at most 1. Below
    0.05 means: claimed, and the chance of any false claim among the m is at most 5 %.

    Args:
        p: (M,); NaN is a test that was not made: it stays NaN, and is not counted in m.
    """
    p = np.asarray(p, float)
    adjusted = np.full(p.shape, np.nan)
    made = np.flatnonzero(~np.isnan(p))
    order = made[np.argsort(p[made], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted


@dataclass(frozen=True)
class AgainstBest:
    """Which of L runs cannot be told from the best.

    Attributes:
        best: index of the highest value (the first if tied); -1 where all are undefined.
        values: (L,) the metric of each.
        p: (L,) Holm-adjusted p-value of each against the best; NaN for the best itself.
        same: (L,) bool: not distinguishable from the best, the best itself included.
        reason: why nothing could be told apart, whatever the runs had done; else empty.
    """

    best: int
    values: np.ndarray
    p: np.ndarray
    same: np.ndarray
    reason: str


def against_best(
    runs: np.ndarray, score: Score, aggregation: str, resamples: int, seed: int
) -> AgainstBest:
    """Compares each of L runs on the same images with the best, by the paired bootstrap and Holm.

    The best is chosen by looking at the same images, so Holm's correction is over all L (L - 1) / 2
    pairs, not over the L - 1 that are looked at: whichever is the best, its comparisons are then
    among those protected. (In simulation, over the L - 1 alone some of six equal losses is told
    apart from the best in 8 % of the tables; over all pairs in 3 %.)

    Args:
        runs: (L, N, K, 3) counts. A run whose metric is undefined is not the best and has no test.

    Errors: ConfigError for another aggregation; and where 2 / (resamples + 1), the smallest
        p-value there is, times the number of pairs could never be below 0.05.
    """
    runs = checked(runs)
    losses, images = runs.shape[:2]
    values = each_seed(runs[:, None], score, aggregation)[:, 0]
    reason = _why_no_best(values, images)
    if reason:
        return _told(values, {}, reason)
    pairs = losses * (losses - 1) // 2
    if 2 * pairs / (resamples + 1) >= 1 - LEVEL:
        raise ConfigError(
            f"resamples={resamples}: too few to tell {losses} losses apart ({pairs} pairs). "
            f"Take at least {round(2 * pairs / (1 - LEVEL))}."
        )
    found = bootstrap_scores(runs, score, aggregation, resamples, seed)
    p = {
        (i, j): expanded_p(defined_only(found[:, i] - found[:, j])[0], images)
        for i, j in _pairs(values)
    }
    if pairs * expanded_p(np.ones(resamples), images) >= 1 - LEVEL:
        reason = f"{images} images: too few to tell any of {losses} losses apart"
    return _told(values, p, reason)


def against_best_over_seeds(
    runs: np.ndarray, score: Score, aggregation: str, resamples: int, seed: int
) -> AgainstBest:
    """`against_best` of means over seeds, by `difference_over_seeds` and Holm over all pairs.

    Args:
        runs: (L, S, N, K, 3) counts of L losses: the same S seeds, the same N images, in order.
        resamples: they estimate variances alone: 2,000 do (1.6 % of a standard error).

    Errors: ConfigError for another aggregation.
    """
    assert runs.ndim == 5, f"(losses, seeds, images, classes, 3), not {runs.shape}"
    seeds, images = runs.shape[1:3]
    each = each_seed(runs, score, aggregation)
    values = each.mean(axis=1)
    reason = _why_no_best(values, images) or why_not_over_seeds(seeds)
    if reason:
        return _told(values, {}, reason)
    found = bootstrap_over_seeds(runs, score, aggregation, resamples, seed)
    p = {}
    for i, j in _pairs(values):
        parts = variance_parts(each[i] - each[j], found[:, i] - found[:, j], images)
        p[i, j] = howe_p(values[i] - values[j], parts)
    return _told(values, p, "")


def _why_no_best(values: np.ndarray, images: int) -> str:
    return why_not(images, np.nan if np.isnan(values).all() else 0.0)


def _pairs(values: np.ndarray) -> list[tuple[int, int]]:
    """The pairs of losses whose metric is defined."""
    return list(itertools.combinations(map(int, np.flatnonzero(~np.isnan(values))), 2))


def _told(values: np.ndarray, pairs: dict[tuple[int, int], float], reason: str) -> AgainstBest:
    """Of the p-value of each pair, Holm's of each loss against the best."""
    p = np.full(len(values), np.nan)
    defined = ~np.isnan(values)
    best = int(np.nanargmax(values)) if defined.any() else -1
    for (i, j), adjusted in zip(pairs, holm(list(pairs.values())), strict=True):
        if best in (i, j):
            p[i + j - best] = adjusted
    return AgainstBest(best, values, p, defined & ~(p < 1 - LEVEL), reason)
