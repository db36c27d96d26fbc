"""The paired bootstrap over images, and over seeds and images.

N images, K classes, S seeds, L runs, R resamples.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy import stats

from seglab.errors import ConfigError
from seglab.scores import AGGREGATIONS, aggregate

LEVEL = 0.95  # of every interval; 1 - LEVEL is the level of every test
FEWEST_IMAGES = 6  # with 5, one run is better on all by chance alone in 2 / 2**5 > 5 % of cases
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
    chunks = [
        _from_sums((weights @ flat).reshape(-1, *columns.shape[1:]), score, aggregation)
        for weights in image_weights(len(flat), resamples, np.random.default_rng(seed))
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
    estimate = _estimate(runs[:, None], score, aggregation)
    images = runs.shape[1]
    if images < FEWEST_IMAGES or np.isnan(estimate):
        return _no_interval(estimate, images, 1, why_not(images, estimate))
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
    """a minus b, each the mean over seeds of its metric, with seeds and images drawn anew.

    Hierarchical bootstrap: seeds are drawn with replacement, then images. Seeds and images are
    crossed (every seed saw the same test images), so one draw of images serves all drawn seeds
    (Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 2007); drawing them anew for
    each seed would average the images' noise away. S - 1 of the S seeds are drawn, which makes the
    variance over seeds unbiased (Rao and Wu, JASA 1988); drawing S makes it (S - 1) / S too small,
    a third at S = 3. Percentiles of so few seeds cover too little (in simulation 71, 79 and 88 %
    for 2, 3 and 5 seeds where they dominate; this interval 90, 93 and 96 %). So it is estimate -+
    t times the bootstrap's standard error, with the degrees of freedom of Satterthwaite
    (Biometrics 1946) from the seeds' (S - 1) and the images' (N - 1) part of the variance.

    Args:
        a, b: (S, N, K, 3) counts of two losses: the same S seeds, the same N images, in order.

    Errors: ConfigError for another aggregation.
    """
    runs = np.stack([a, b])  # (2, S, N, K, 3)
    assert runs.ndim == 5, f"(seeds, images, classes, 3), not {runs.shape[1:]}"
    seeds, images = runs.shape[1:3]
    estimate = _estimate(runs, score, aggregation)
    if images < FEWEST_IMAGES or np.isnan(estimate):
        return _no_interval(estimate, images, seeds, why_not(images, estimate))
    if seeds < 2:
        return _no_interval(estimate, images, seeds, "one seed: no interval over seeds")
    found = bootstrap_scores(runs.reshape(-1, *runs.shape[2:]), score, aggregation, resamples, seed)
    by_seed = found.reshape(resamples, 2, seeds)
    by_seed = by_seed[:, 0] - by_seed[:, 1]  # (resamples, S)
    drawn = np.random.default_rng([seed, seeds]).integers(0, seeds, (resamples, seeds - 1))
    samples, undefined = defined_only(np.take_along_axis(by_seed, drawn, axis=1).mean(axis=1))
    over_images, _ = defined_only(by_seed.mean(axis=1))
    each = [_estimate(runs[:, s : s + 1], score, aggregation) for s in range(seeds)]
    parts = [(np.var(each, ddof=1) / seeds, seeds - 1), (over_images.var(), images - 1)]
    whole = sum(variance for variance, _ in parts)
    if whole == 0:  # no seed and no resample differs
        return Difference(
            estimate, estimate, estimate, float(estimate == 0), images, seeds, undefined, ""
        )
    freedom = whole**2 / sum(variance**2 / df for variance, df in parts)
    error = samples.std()
    half = error * stats.t.ppf((1 + LEVEL) / 2, freedom)
    p = 2 * stats.t.sf(abs(estimate) / error, freedom)
    return Difference(
        estimate, estimate - half, estimate + half, float(p), images, seeds, undefined, ""
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


def _estimate(runs: np.ndarray, score: Score, aggregation: str) -> float:
    """(2, S, N, K, 3) -> the first's mean over seeds minus the second's."""
    a, b = (np.mean([aggregate(score, counts, aggregation)[0] for counts in loss]) for loss in runs)
    return float(a - b)


def defined_only(samples: np.ndarray) -> tuple[np.ndarray, int]:
    kept = samples[~np.isnan(samples)]
    return kept, len(samples) - len(kept)


def why_not(images: int, estimate: float) -> str:
    """Why there is no interval over images."""
    if np.isnan(estimate):
        return "the metric is undefined"
    if images < 2:
        return f"{'one image' if images else 'no image'}: no interval over images"
    return f"{images} images: too few for an interval over images, which needs {FEWEST_IMAGES}"


def _no_interval(estimate: float, images: int, seeds: int, reason: str) -> Difference:
    nan = float("nan")
    return Difference(estimate, nan, nan, nan, images, seeds, 0, reason)
