"""Orders of losses: how stable over images, alike under two metrics, different over networks.

N images, K classes, L losses.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from seglab.scores import aggregate
from seglab.stats.bootstrap import (
    DECIMALS,
    FEWEST_IMAGES,
    LEVEL,
    Score,
    bootstrap_scores,
    checked,
    why_not,
)
from seglab.stats.comparisons import holm


@dataclass(frozen=True)
class Ranking:
    """How stable a ranking of L losses is over images; rank 1 is the best.

    Attributes:
        ranks: (L,) on the images as they are; tied losses have the mean of their places.
        share: (L, L) share of the resamples in which loss l has place r + 1; losses that tie for
            several places share them. Rows and columns add up to 1. NaN where there is a reason.
        low, high: (L,) 95 % interval of the rank: 2.5 and 97.5 % of its bootstrap distribution.
        undefined: resamples left out because a metric is undefined in them.
        reason: why there is no distribution; empty where there is one.
    """

    ranks: np.ndarray
    share: np.ndarray
    low: np.ndarray
    high: np.ndarray
    undefined: int
    reason: str


def ranking(runs: np.ndarray, score: Score, aggregation: str, resamples: int, seed: int) -> Ranking:
    """The bootstrap distribution of each loss's rank over images.

    As in Wiesenfarth et al., "Methods and open-source toolkit for analyzing and visualizing
    challenge results", Scientific Reports 2021.

    Args:
        runs: (L, N, K, 3) counts of L losses on the same images.

    Errors: ConfigError for another aggregation.
    """
    runs = checked(runs)
    losses, images = runs.shape[:2]
    values = np.array([aggregate(score, counts, aggregation)[0] for counts in runs])
    nothing = np.full(losses, np.nan)
    if images < FEWEST_IMAGES or np.isnan(values).any():
        ranks = nothing if np.isnan(values).any() else stats.rankdata(-np.round(values, DECIMALS))
        reason = why_not(images, float(values.sum()))
        return Ranking(ranks, np.full((losses, losses), np.nan), nothing, nothing, 0, reason)
    found = bootstrap_scores(runs, score, aggregation, resamples, seed)
    found = found[~np.isnan(found).any(axis=1)]
    first = stats.rankdata(-found, method="min", axis=1)
    last = stats.rankdata(-found, method="max", axis=1)
    places = [
        (((first <= place) & (place <= last)) / (last - first + 1)).mean(axis=0)
        for place in range(1, losses + 1)
    ]
    tails = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    low, high = np.quantile((first + last) / 2, tails, axis=0)
    ranks = stats.rankdata(-np.round(values, DECIMALS))
    return Ranking(ranks, np.stack(places, axis=1), low, high, resamples - len(found), "")


@dataclass(frozen=True)
class Agreement:
    """Kendall's tau-b of two metrics: 1 the same order of the losses, -1 the opposite."""

    tau: float
    p: float
    losses: int
    reason: str


def kendall(first: np.ndarray, second: np.ndarray) -> Agreement:
    """Whether two metrics rank losses alike: tau-b (Kendall, Biometrika 1945), by SciPy.

    Args:
        first, second: (L,) the losses' values under either metric; NaN pairs are left out.
    """
    defined = ~(np.isnan(first) | np.isnan(second))
    count = int(defined.sum())
    if count < 2:
        return Agreement(np.nan, np.nan, count, "fewer than two losses: no order to compare")
    found = stats.kendalltau(np.asarray(first)[defined], np.asarray(second)[defined])
    reason = "all losses tie under a metric: no order to compare"
    return Agreement(
        float(found.statistic),
        float(found.pvalue),
        count,
        reason if np.isnan(found.statistic) else "",
    )


@dataclass(frozen=True)
class CriticalDifference:
    """Losses compared over networks (Demsar, JMLR 2006).

    Attributes:
        average_ranks: (L,) rank 1 the best, ties share; the mean over the networks.
        friedman_p: of no difference between any losses.
        cd: average ranks further apart than this differ (Nemenyi); NaN for Wilcoxon-Holm.
        p: (L, L) the adjusted p-value of each pair, NaN on the diagonal.
        groups: indices by rank of losses not distinguishable from each other: the longest runs of
            neighbours in which no pair differs, of two or more. All in one where Friedman's test
            finds nothing.
        networks: how many.
        reason: what could not be computed, or could never be found; else empty.
    """

    average_ranks: np.ndarray
    friedman_p: float
    cd: float
    p: np.ndarray
    groups: list[tuple[int, ...]]
    networks: int
    reason: str


def friedman(values: np.ndarray) -> float:
    """p-value of Friedman's rank test (JASA 1937), by SciPy; NaN below 2 networks or 3 losses.

    Args:
        values: (networks, L).
    """
    networks, losses = values.shape
    if networks < 2 or losses < 3:
        return float("nan")
    if (values == values[:, :1]).all():
        return 1.0  # everything ties: SciPy divides 0 by 0
    return float(stats.friedmanchisquare(*values.T).pvalue)


def nemenyi_q(losses: int) -> float:
    """q_0.05 of Nemenyi's test: the studentised range's quantile (infinite df) / sqrt(2)."""
    return float(stats.studentized_range.ppf(LEVEL, losses, np.inf) / np.sqrt(2))


def nemenyi(values: np.ndarray) -> CriticalDifference:
    """Friedman's test, then Nemenyi's: CD = q sqrt(L (L + 1) / (6 networks)) (Demsar 2006, 3.2.2).

    Args:
        values: (networks, L) a metric of each loss with each network; no NaN. L >= 2.
    """
    ranks, networks = _average_ranks(values)
    losses = len(ranks)
    unit = np.sqrt(losses * (losses + 1) / (6 * networks))
    gaps = np.abs(ranks[:, None] - ranks) / unit * np.sqrt(2)
    p = stats.studentized_range.sf(gaps, losses, np.inf)
    np.fill_diagonal(p, np.nan)
    if networks < 2:
        return _one_network(ranks)
    cd = nemenyi_q(losses) * unit
    p_all = friedman(values)
    differ = (np.abs(ranks[:, None] - ranks) >= cd) & ~(p_all >= 1 - LEVEL)
    reason = "two losses: Friedman's test needs three" if losses < 3 else ""
    return CriticalDifference(ranks, p_all, cd, p, _groups(ranks, differ), networks, reason)


def wilcoxon_holm(values: np.ndarray) -> CriticalDifference:
    """Friedman's test, then Wilcoxon's over networks for each pair with Holm's correction.

    Benavoli, Corani, Mangili, "Should we really use post-hoc tests based on mean-ranks?", JMLR
    2016: unlike Nemenyi's, a pair's verdict does not depend on the other losses.

    Args:
        values: (networks, L) a metric of each loss with each network; no NaN. L >= 2.
    """
    ranks, networks = _average_ranks(values)
    if networks < 2:
        return _one_network(ranks)
    losses = len(ranks)
    first, second = np.triu_indices(losses, 1)
    gaps = np.round(values[:, first] - values[:, second], DECIMALS)  # 0.3 - 0.2 is 0.9 - 0.8
    raw = [
        float(stats.wilcoxon(gap, zero_method="pratt").pvalue) if gap.any() else 1.0
        for gap in gaps.T
    ]
    p = np.full((losses, losses), np.nan)
    p[first, second] = p[second, first] = holm(raw)
    p_all = friedman(values)
    differ = (p < 1 - LEVEL) & ~(p_all >= 1 - LEVEL)
    smallest = 2.0 ** (1 - networks)
    reason = ""
    if smallest * len(raw) >= 1 - LEVEL:
        reason = (
            f"{networks} networks: no pair of {losses} losses can be told apart by this test "
            f"(smallest p {smallest:.2g}, times {len(raw)} pairs)"
        )
    return CriticalDifference(
        ranks, p_all, float("nan"), p, _groups(ranks, differ), networks, reason
    )


def _average_ranks(values: np.ndarray) -> tuple[np.ndarray, int]:
    assert values.ndim == 2, f"(networks, losses), not {values.shape}"
    assert values.shape[0] >= 1, "no network"
    assert values.shape[1] >= 2, "one loss has no rank"
    assert not np.isnan(values).any(), "leave out the networks that lack a loss"
    return stats.rankdata(-values, axis=1).mean(axis=0), len(values)


def _one_network(ranks: np.ndarray) -> CriticalDifference:
    nothing = np.full((len(ranks), len(ranks)), np.nan)
    everyone = [tuple(int(i) for i in np.argsort(ranks, kind="stable"))]
    reason = "one network: no test over networks"
    return CriticalDifference(ranks, float("nan"), float("nan"), nothing, everyone, 1, reason)


def _groups(ranks: np.ndarray, differ: np.ndarray) -> list[tuple[int, ...]]:
    """The longest runs of neighbours by rank in which no pair differs, of two or more."""
    order = np.argsort(ranks, kind="stable")
    groups: list[tuple[int, ...]] = []
    reached = 0
    for start in range(len(order)):
        stop = start + 1
        while stop < len(order) and not differ[order[stop], order[start:stop]].any():
            stop += 1
        if stop - start > 1 and stop > reached:
            groups.append(tuple(int(i) for i in order[start:stop]))
            reached = stop
    return groups
