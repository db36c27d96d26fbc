"""The paired bootstrap over images, alone and beside several seeds.

N images, K classes, S seeds, L runs, R resamples.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import optimize, special, stats

from seglab.errors import ConfigError
from seglab.scores import AGGREGATIONS, aggregate

LEVEL = 0.95  # of every interval; 1 - LEVEL is the level of every test
FEWEST_IMAGES = 6  # with 5, one run is better on all by chance alone in 2 / 2**5 > 5 % of cases
FEWEST_SEEDS = 3  # with 2, no interval was found that covers 92 to 98 %: see difference_over_seeds
ENTRIES = 2**20  # of one chunk of bootstrap weights: 8 MiB, whatever the number of images
DECIMALS = 12  # past these, equal runs differ by the order in which sums were added

Score = Callable[[np.ndarray], np.ndarray]


def image_weights(images: int, resamples: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """How often each image is in each resample: chunks of (r, images) float64 whole numbers.

    A row is multinomial: `images` draws with replacement (Efron and Tibshirani 1993, chapter 6).
    The chunks' lengths r add up to `resamples`; a chunk has at most `ENTRIES` entries, or one row.
    """
    rows = max(1, ENTRIES // images)
    for start in range(0, resamples, rows):
        r = min(rows, resamples - start)
        drawn = rng.integers(0, images, (r, images)) + images * np.arange(r)[:, None]
        yield np.bincount(drawn.ravel(), minlength=r * images).reshape(r, images).astype(float)


@lru_cache(maxsize=2)
def _shared_weights(images: int, resamples: int, seed: int) -> list[np.ndarray]:
    """`image_weights` of that seed as uint8: drawn once for all columns of a data set's tables."""
    chunks = image_weights(images, resamples, np.random.default_rng(seed))
    # an image would have to be drawn 256 times in `images` draws: for any number, never
    return [chunk.astype(np.uint8) for chunk in chunks]


def bootstrap_scores(
    runs: np.ndarray, score: Score, aggregation: str, resamples: int, seed: int
) -> np.ndarray:
    """The metric of every run on the same resamples of images.

    Efron and Tibshirani 1993, chapter 6. A row is `aggregate(score, counts[drawn], ...)` of each
    run, to 12 decimals, for one draw of N images with replacement. It is computed from sums over
    the images: `dataset` needs those of the counts, `image` those of the defined scores and of
    their number.

    Args:
        runs: (L, N, K, 3) counts of L runs on the same images.
        resamples: how many; 10,000 for a table.
        seed: of the draws. The same seed, N and number draw the same images.

    Returns:
        (resamples, L) float64; NaN where nothing is defined in the images drawn.

    Errors: ConfigError for another aggregation.
    """
    columns = _columns(checked(runs), score, aggregation)  # (N, L, P)
    flat = columns.reshape(len(columns), -1)
    rows = max(1, 4 * ENTRIES // flat.shape[1])  # bounds the sums of many runs, too
    chunks = [
        _from_sums(
            (weights[start : start + rows].astype(float) @ flat).reshape(-1, *columns.shape[1:]),
            score,
            aggregation,
        )
        for weights in _shared_weights(len(flat), resamples, seed)
        for start in range(0, len(weights), rows)
    ]
    return np.round(np.concatenate(chunks), DECIMALS)


@dataclass(frozen=True)
class Difference:
    """A metric of run a minus that of run b.

    Attributes:
        estimate: on the images (and seeds) as they are.
        low, high: bounds of the 95 % interval; NaN with a `reason` where there can be none.
        p: two-sided, of no difference; below 0.05 where the interval leaves out 0.
        images, seeds: how many there are.
        undefined: resamples left out because the metric is undefined in them.
        reason: why there is no interval; empty where there is one.
    """

    estimate: float
    low: float
    high: float
    p: float
    images: int
    seeds: int
    undefined: int
    reason: str

    @property
    def excludes_zero(self) -> bool:
        """Whether there is an interval and 0 is not in it."""
        return bool(self.low > 0 or self.high < 0)


def difference(
    a: np.ndarray, b: np.ndarray, score: Score, aggregation: str, resamples: int, seed: int
) -> Difference:
    """a minus b with the paired bootstrap over images: both runs on the same drawn images.

    The interval is Hesterberg's expanded percentile interval ("What teachers should know about
    the bootstrap", The American Statistician 2015, section 5.2), the p-value its inversion.

    Args:
        a, b: (N, K, 3) counts of two runs on the same N images in the same order.

    Errors: ConfigError for another aggregation.
    """
    runs = np.stack([a, b])
    values = each_seed(runs[:, None], score, aggregation)[:, 0]
    estimate = float(values[0] - values[1])
    images = runs.shape[1]
    reason = why_not(images, estimate)
    if reason:
        return _no_interval(estimate, images, 1, reason)
    found = bootstrap_scores(runs, score, aggregation, resamples, seed)
    samples = found[:, 0] - found[:, 1]
    samples, undefined = defined_only(samples)
    low, high = expanded_percentile(samples, images)
    p = expanded_p(samples, images)
    return Difference(estimate, low, high, p, images, 1, undefined, "")


def expanded_percentile(samples: np.ndarray, n: int) -> tuple[float, float]:
    """95 % bounds from bootstrap samples of a statistic of n units (Hesterberg 2015, 5.2).

    The percentiles are Phi(-+ sqrt(n / (n - 1)) t), with t Student's quantile for n - 1 degrees of
    freedom: for many units 2.5 and 97.5 %, for few further out.

    Args:
        samples: (R,) without NaN. n: >= 2.
    """
    tail = stats.norm.cdf(-np.sqrt(n / (n - 1)) * stats.t.ppf((1 + LEVEL) / 2, n - 1))
    low, high = np.quantile(samples, [tail, 1 - tail])
    return float(low), float(high)


def expanded_p(samples: np.ndarray, n: int) -> float:
    """Two-sided p-value of 0: 1 - level of the expanded percentile interval that just reaches 0.

    Never 0: one resample beyond all is counted on either side (Davison and Hinkley 1997, 4.2).

    Args:
        samples: (R,) without NaN. n: >= 2.
    """
    beyond = min((samples <= 0).sum(), (samples >= 0).sum())
    tail = min((1 + beyond) / (1 + len(samples)), 0.5)
    return float(2 * stats.t.cdf(stats.norm.ppf(tail) * np.sqrt((n - 1) / n), n - 1))


def difference_over_seeds(
    a: np.ndarray, b: np.ndarray, score: Score, aggregation: str, resamples: int, seed: int
) -> Difference:
    """a minus b, each the mean over seeds of its metric, were seeds and images drawn anew.

    This stands in place of the plain hierarchical bootstrap over seeds and images, which draws
    seeds, then images, and takes percentiles. That one covers too little with few seeds, as it sees
    (S - 1) / S of their variance and has no Student's t: for normal data whose variance is the
    seeds' alone its 95 % interval covers 75 % with 3 seeds, 84 with 5, 88 with 8 (4,000 simulated
    experiments, 1,999 resamples). With images drawn anew within each seed it would besides take the
    same test images for others in each.

    Seeds and images are crossed: every seed saw the same test images. The variance is the sum of
    two: v_s, of the mean over the S seeds as their differences scatter (S - 1 degrees of freedom),
    and v_i, of the images (N - 1), from the bootstrap: one draw of images serves all seeds (Owen,
    "The pigeonhole bootstrap", Annals of Applied Statistics 2007). What is of one seed on one image
    is in both, and taken off v_i. The interval is estimate -+ sqrt(t_s^2 v_s + t_i^2 v_i) with
    Student's quantile of each (Howe, JASA 1974): exact where either variance dominates, a little
    wide between. For normal data, over all shares of the two, it covers 95 to 97.7 % with 3 seeds,
    95 to 97.1 with 4, 95 to 96.1 with 8; Satterthwaite's degrees of freedom 92 to 95 with 3, and
    percentiles of so few seeds far less. With 2 seeds Howe's form covers 95 to 98.7 % and
    Satterthwaite's 88 to 95: neither holds 92 to 98 %, so for two seeds there is no interval.

    Args:
        a, b: (S, N, K, 3) counts of two losses: the same S seeds, the same N images, in order.

    Errors: ConfigError for another aggregation.
    """
    runs = np.stack([a, b])  # (2, S, N, K, 3)
    assert runs.ndim == 5, f"(seeds, images, classes, 3), not {runs.shape[1:]}"
    seeds, images = runs.shape[1:3]
    each = each_seed(runs, score, aggregation)
    each = each[0] - each[1]  # (S,)
    estimate = float(each.mean())
    reason = why_not(images, estimate) or why_not_over_seeds(seeds)
    if reason:
        return _no_interval(estimate, images, seeds, reason)
    found = bootstrap_over_seeds(runs, score, aggregation, resamples, seed)
    by_seed = found[:, 0] - found[:, 1]
    undefined = int(np.isnan(by_seed).any(axis=1).sum())
    parts = variance_parts(each, by_seed, images)
    half = _half_width(1 - LEVEL, parts)
    low, high = estimate - half, estimate + half
    return Difference(estimate, low, high, howe_p(estimate, parts), images, seeds, undefined, "")


Parts = list[tuple[float, int]]  # variance of the mean, and its degrees of freedom


def bootstrap_over_seeds(
    runs: np.ndarray, score: Score, aggregation: str, resamples: int, seed: int
) -> np.ndarray:
    """(L, S, N, K, 3) -> (resamples, L, S): the metric of each on the same resamples of images."""
    flat = runs.reshape(-1, *runs.shape[2:])
    found = bootstrap_scores(flat, score, aggregation, resamples, seed)
    return found.reshape(resamples, *runs.shape[:2])


def variance_parts(each: np.ndarray, by_seed: np.ndarray, images: int) -> Parts:
    """What the seeds, and what the images alone, add to the variance of a mean difference.

    Args:
        each: (S,) the seeds' differences on the images as they are.
        by_seed: (R, S) the same on resamples of the images; rows with NaN are left out.
    """
    seeds = len(each)
    by_seed = by_seed[~np.isnan(by_seed).any(axis=1)]
    of_mean, of_one = by_seed.mean(axis=1).var(), by_seed.var(axis=0).mean()
    both = (of_one - of_mean) / (seeds - 1)  # of one seed on one image, as it is in the mean
    over_images = max(of_mean - both, 0.0) * images / (images - 1)  # the bootstrap divides by n
    return [(float(each.var(ddof=1) / seeds), seeds - 1), (float(over_images), images - 1)]


def howe_p(estimate: float, parts: Parts) -> float:
    """Two-sided p-value of 0: 1 - level of the interval of `difference_over_seeds` that reaches 0.

    At least 1e-12, as no simulation says what such tails are.
    """
    if estimate == 0:
        return 1.0

    def beyond(log_p: float) -> float:
        return _half_width(np.exp(log_p), parts) - abs(estimate)

    least = np.log(1e-12)
    return 1e-12 if beyond(least) <= 0 else float(np.exp(optimize.brentq(beyond, least, 0.0)))


def _half_width(alpha: float, parts: Parts) -> float:
    return float(
        np.sqrt(sum(special.stdtrit(df, alpha / 2) ** 2 * variance for variance, df in parts))
    )


def checked(runs: np.ndarray) -> np.ndarray:
    runs = np.asarray(runs)
    assert runs.ndim == 4, f"(runs, images, classes, 3), not {runs.shape}"
    assert runs.shape[3] == 3, f"counts end in (tp, fp, fn); the shape is {runs.shape}"
    return runs


def _columns(runs: np.ndarray, score: Score, aggregation: str) -> np.ndarray:
    """(N, L, P) float64 whose sums over any images determine the metric of each run on them."""
    match aggregation:
        case "dataset":
            return np.moveaxis(runs, 0, 1).reshape(runs.shape[1], len(runs), -1).astype(float)
        case "image":
            values = score(runs)  # (L, N, K)
            columns = [np.nansum(values, axis=2), (~np.isnan(values)).sum(axis=2)]
            return np.stack(columns, axis=2).transpose(1, 0, 2)
        case _:
            raise ConfigError(
                f"aggregation is {aggregation!r}; it is one of: {', '.join(AGGREGATIONS)}"
            )


def _from_sums(sums: np.ndarray, score: Score, aggregation: str) -> np.ndarray:
    """(r, L, P) sums of `_columns` -> (r, L) the metric."""
    if aggregation == "dataset":
        return mean_over_last(score(sums.reshape(*sums.shape[:2], -1, 3)))
    return _share(sums[..., 0], sums[..., 1])


def mean_over_last(values: np.ndarray) -> np.ndarray:
    return _share(np.nansum(values, axis=-1), (~np.isnan(values)).sum(axis=-1))


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole != 0)


def each_seed(runs: np.ndarray, score: Score, aggregation: str) -> np.ndarray:
    """(L, S, N, K, 3) -> (L, S) the metric of each run."""
    return np.array([[aggregate(score, run, aggregation)[0] for run in loss] for loss in runs])


def defined_only(samples: np.ndarray) -> tuple[np.ndarray, int]:
    kept = samples[~np.isnan(samples)]
    return kept, len(samples) - len(kept)


def why_not(images: int, estimate: float) -> str:
    """Why there is no interval over images; empty where there is one."""
    if np.isnan(estimate):
        return "the metric is undefined"
    if images >= FEWEST_IMAGES:
        return ""
    if images < 2:
        return f"{'one image' if images else 'no image'}: no interval over images"
    return f"{images} images: too few for an interval over images, which needs {FEWEST_IMAGES}"


def why_not_over_seeds(seeds: int) -> str:
    """Why there is no interval over seeds; empty where there is one."""
    if seeds >= FEWEST_SEEDS:
        return ""
    if seeds == 1:
        return "one seed: no interval over seeds"
    return f"{seeds} seeds: too few for an interval over seeds, which needs {FEWEST_SEEDS}"


def _no_interval(estimate: float, images: int, seeds: int, reason: str) -> Difference:
    nan = float("nan")
    return Difference(estimate, nan, nan, nan, images, seeds, 0, reason)
