"""Intervals, tests and rankings: against SciPy, published tables, hand examples and simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from scipy import stats as reference

from seglab import cd_diagram, stats
from seglab.errors import ConfigError
from seglab.scores import AGGREGATIONS, aggregate, dice, iou
from seglab.stats import bootstrap

SIMULATED_IMAGES = 100
REPETITIONS = 500


def pairs(rng, images, effects, seeds=0.0, classes=2):
    """(L, N, K, 3) counts of L runs: images differ in difficulty and size; a class may be absent.

    Args:
        effects: (L,) added to the log-odds of a pixel being found.
    """
    hard = rng.normal(0, 0.6, (images, 1))
    here = rng.random((images, classes)) < 0.8
    size = rng.poisson(rng.lognormal(5, 0.8, (images, classes))) * here
    runs = []
    for effect in effects:
        own = rng.normal(0, 0.35, (images, classes))
        found = 1 / (1 + np.exp(-(1.5 + effect + rng.normal(0, seeds) + hard + own)))
        tp, fp = rng.binomial(size, found), rng.binomial(size, 0.7 * (1 - found))
        runs.append(np.stack([tp, fp, size - tp], axis=-1))
    return np.stack(runs)


def counts_of_tp(*tp):
    """(N, 1, 3) counts of one class with `tp` of ten pixels found: IoU = tp / 10."""
    return np.array([[[found, 0, 10 - found]] for found in tp])


def gap(runs, aggregation):
    return aggregate(iou, runs[0], aggregation)[0] - aggregate(iou, runs[1], aggregation)[0]


# ---------------------------------------------------------------- the bootstrap


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("score", [iou, dice])
def test_a_resample_is_the_metric_of_the_drawn_images(aggregation, score):
    runs = pairs(np.random.default_rng(0), 9, [0, 0.5, 1], classes=3)
    (weights,) = stats.image_weights(9, 40, np.random.default_rng(7))
    found = stats.bootstrap_scores(runs, score, aggregation, 40, seed=7)
    for row, drawn in zip(found, weights.astype(int), strict=True):
        chosen = runs[:, np.repeat(np.arange(9), drawn)]
        expected = [aggregate(score, counts, aggregation)[0] for counts in chosen]
        np.testing.assert_allclose(row, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("entries", [1, 100, 10**6])
def test_weights_are_draws_of_n_images_in_chunks_of_bounded_memory(entries, monkeypatch):
    monkeypatch.setattr(bootstrap, "ENTRIES", entries)
    chunks = list(stats.image_weights(30, 2000, np.random.default_rng(0)))
    assert max(chunk.size for chunk in chunks) <= max(entries, 30)
    weights = np.concatenate(chunks)
    assert weights.shape == (2000, 30)
    assert (weights.sum(axis=1) == 30).all()
    # a multinomial share: mean 1, variance 1 - 1/30
    assert weights.mean(axis=0) == pytest.approx(np.ones(30), abs=5 / math.sqrt(2000))
    assert weights.var() == pytest.approx(1 - 1 / 30, rel=0.05)


@pytest.mark.parametrize("entries", [1, 500])
def test_resamples_do_not_depend_on_the_chunks(entries, monkeypatch):
    runs = pairs(np.random.default_rng(0), 20, [0, 0.5])
    whole = stats.bootstrap_scores(runs, iou, "dataset", 50, seed=11)
    monkeypatch.setattr(bootstrap, "ENTRIES", entries)
    bootstrap._shared_weights.cache_clear()
    try:
        found = stats.bootstrap_scores(runs, iou, "dataset", 50, seed=11)
    finally:
        bootstrap._shared_weights.cache_clear()
    np.testing.assert_array_equal(found, whole)


def test_percentiles_are_scipys_for_a_mean_over_many_images():
    # one class, ten pixels each: the pooled IoU is the mean of the images' values
    rng = np.random.default_rng(3)
    a, b = (counts_of_tp(*rng.integers(low, 11, 400)) for low in (2, 0))
    ours = stats.difference(a, b, iou, "dataset", 20_000, seed=1)
    theirs = reference.bootstrap(
        (a[:, 0, 0] / 10, b[:, 0, 0] / 10),
        lambda x, y, axis: x.mean(axis=axis) - y.mean(axis=axis),
        paired=True, vectorized=True, n_resamples=20_000, method="percentile",
        rng=np.random.default_rng(2),
    )  # fmt: skip
    monte_carlo = 4 * 2.7 * theirs.standard_error / math.sqrt(20_000)  # of a 2.5 % quantile
    bounds = theirs.confidence_interval
    # expanded by t / z * sqrt(n / (n - 1)) = 1.0044 for 400 images
    expanded = 0.0044 * 1.96 * theirs.standard_error
    assert ours.low == pytest.approx(bounds.low, abs=2 * monte_carlo + expanded)
    assert ours.high == pytest.approx(bounds.high, abs=2 * monte_carlo + expanded)


@pytest.mark.parametrize("n", [6, 20, 1000])
def test_the_expanded_interval_of_normal_samples_is_students(n):
    samples = reference.norm.ppf((np.arange(400_000) + 0.5) / 400_000) + 0.5
    low, high = stats.expanded_percentile(samples, n)
    half = reference.t.ppf(0.975, n - 1) * math.sqrt(n / (n - 1))
    assert (low, high) == pytest.approx((0.5 - half, 0.5 + half), abs=2e-3)
    p = 2 * reference.t.sf(0.5 * math.sqrt((n - 1) / n), n - 1)
    assert stats.expanded_p(samples, n) == pytest.approx(p, abs=1e-4)


@given(st.integers(0, 2**32 - 1), st.integers(6, 60))
def test_p_is_below_5_percent_where_the_interval_leaves_out_0(seed, n):
    samples = np.random.default_rng(seed).normal(2, 1, 5000)
    low, high = stats.expanded_percentile(samples, n)
    p = stats.expanded_p(samples, n)
    if abs(p - 0.05) > 0.005:  # the quantile interpolates
        assert (p < 0.05) == (low > 0 or high < 0)


def test_the_difference_changes_sign_with_the_runs_and_repeats_with_the_seed():
    a, b = pairs(np.random.default_rng(0), 50, [0.3, 0])
    one = stats.difference(a, b, iou, "image", 1000, seed=4)
    other = stats.difference(b, a, iou, "image", 1000, seed=4)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low), abs=1e-12)
    assert one == stats.difference(a, b, iou, "image", 1000, seed=4)
    assert one != stats.difference(a, b, iou, "image", 1000, seed=5)
    assert one.low < one.estimate < one.high
    assert one.estimate == pytest.approx(gap(np.stack([a, b]), "image"), abs=1e-15)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_a_run_does_not_differ_from_itself(aggregation):
    a, _ = pairs(np.random.default_rng(0), 33, [0.3, 0])
    found = stats.difference(a, a, iou, aggregation, 500, seed=0)
    assert (found.estimate, found.low, found.high, found.p) == (0, 0, 0, 1)
    assert not found.excludes_zero
    test = stats.signed_rank(a, a, iou)
    assert (test.p, test.effect) == (1, 0)


def test_few_images_give_no_interval_over_images():
    a, b = pairs(np.random.default_rng(0), 6, [3, 0])
    one = stats.difference(a[:1], b[:1], dice, "dataset", 100, seed=0)
    assert (
        one.estimate == aggregate(dice, a[:1], "dataset")[0] - aggregate(dice, b[:1], "dataset")[0]
    )
    assert math.isnan(one.low) and math.isnan(one.high) and math.isnan(one.p)  # noqa: PT018
    assert one.reason == "one image: no interval over images"
    assert not one.excludes_zero
    five = stats.difference(a[:5], b[:5], dice, "dataset", 100, seed=0)
    assert math.isnan(five.low)
    assert five.reason == "5 images: too few for an interval over images, which needs 6"
    assert stats.difference(a, b, dice, "dataset", 100, seed=0).reason == ""


def test_undefined_metrics_and_resamples_are_said():
    empty = np.zeros((8, 2, 3), int)
    assert stats.difference(empty, empty, iou, "dataset", 9, 0).reason == "the metric is undefined"
    one = empty.copy()
    one[0] = 5
    found = stats.difference(one, one, iou, "image", 2000, seed=0)
    # image 0 is in no resample with probability (7/8)^8 = 0.344
    assert found.undefined / 2000 == pytest.approx(0.344, abs=0.05)


def test_an_unknown_aggregation_is_refused():
    with pytest.raises(ConfigError, match="'mean'; it is one of: dataset, image"):
        stats.bootstrap_scores(np.ones((2, 6, 1, 3)), iou, "mean", 10, 0)


# ---------------------------------------------------------------- coverage, by simulation


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_the_interval_covers_the_true_difference(aggregation):
    true = gap(pairs(np.random.default_rng(0), 400_000, [0.3, 0]), aggregation)
    covered = 0
    for repetition in range(REPETITIONS):
        a, b = pairs(np.random.default_rng([1, repetition]), SIMULATED_IMAGES, [0.3, 0])
        found = stats.difference(a, b, iou, aggregation, 1000, seed=repetition)
        covered += found.low <= true <= found.high
    assert 0.92 <= covered / REPETITIONS <= 0.98


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_without_a_difference_the_tests_reject_in_5_percent(aggregation):
    rejected = np.zeros(2)
    for repetition in range(REPETITIONS):
        a, b = pairs(np.random.default_rng([2, repetition]), SIMULATED_IMAGES, [0, 0])
        found = stats.difference(a, b, iou, aggregation, 1000, seed=repetition)
        rejected += [found.p < 0.05, stats.signed_rank(a, b, iou).p < 0.05]
    assert (rejected / REPETITIONS >= 0.03).all(), rejected
    assert (rejected / REPETITIONS <= 0.07).all(), rejected


def over_seeds(rng, images, seeds, effect, spread):
    """Two (S, N, K, 3): S seeds each, whose log-odds vary by `spread`."""
    effects = [effect] * seeds + [0] * seeds
    runs = pairs(rng, images, effects, seeds=spread)
    return runs[:seeds], runs[seeds:]


@pytest.mark.parametrize("spread", [0.02, 0.3])
@pytest.mark.parametrize("seeds", [bootstrap.FEWEST_SEEDS, 5])
def test_over_seeds_the_interval_covers_and_rejects(seeds, spread):
    covered, rejected = 0, 0
    for repetition in range(REPETITIONS):
        rng = np.random.default_rng([3, repetition])
        a, b = over_seeds(rng, 60, seeds, 0, spread)
        found = stats.difference_over_seeds(a, b, iou, "dataset", 200, seed=repetition)
        covered += found.low <= 0 <= found.high
        rejected += found.p < 0.05
    assert 0.92 <= covered / REPETITIONS <= 0.98
    assert rejected == REPETITIONS - covered


@pytest.mark.parametrize("seeds", [bootstrap.FEWEST_SEEDS, 8])
@pytest.mark.parametrize("share", [0, 0.3, 0.9, 1])
def test_over_seeds_the_width_covers_whatever_the_share_of_the_seeds(seeds, share):
    rng = np.random.default_rng(seeds)
    of_seeds = share * rng.chisquare(seeds - 1, 20_000) / (seeds - 1)
    of_images = (1 - share) * rng.chisquare(99, 20_000) / 99
    drawn = zip(rng.normal(size=20_000), of_seeds, of_images, strict=True)
    covered = sum(
        abs(z) <= bootstrap._half_width(0.05, [(v_s, seeds - 1), (v_i, 99)])
        for z, v_s, v_i in drawn
    )
    assert 0.945 <= covered / 20_000 <= 0.98


def test_equal_losses_are_told_from_the_best_in_at_most_5_percent_of_the_tables():
    told = 0
    for repetition in range(300):
        runs = pairs(np.random.default_rng([4, repetition]), 60, [0] * 6)
        told += not stats.against_best(runs, iou, "dataset", 1000, repetition).same.all()
    assert told / 300 <= 0.065  # 0.05 and one standard error


# ---------------------------------------------------------------- several seeds


def test_over_seeds_the_error_has_the_part_of_the_seeds_and_of_the_images():
    # every image alike: only seeds vary, and the interval is Student's of the seeds' differences
    a = np.stack([counts_of_tp(*[tp] * 12) for tp in (8, 6, 7, 9)])
    b = np.stack([counts_of_tp(*[tp] * 12) for tp in (5, 5, 4, 4)])
    found = stats.difference_over_seeds(a, b, iou, "image", 40_000, seed=0)
    each = np.array([0.3, 0.1, 0.3, 0.5])
    half = reference.t.ppf(0.975, 3) * each.std(ddof=1) / 2
    assert found.estimate == pytest.approx(0.3)
    assert (found.low, found.high) == pytest.approx((0.3 - half, 0.3 + half), abs=0.004)
    assert found.p == pytest.approx(reference.ttest_1samp(each, 0).pvalue, rel=0.05)
    # every seed alike: only images vary
    x, y = pairs(np.random.default_rng(0), 100, [0.3, 0])
    found = stats.difference_over_seeds(np.stack([x] * 3), np.stack([y] * 3), iou, "image", 9999, 0)
    one = stats.difference(x, y, iou, "image", 9999, 0)
    assert (found.low, found.high) == pytest.approx((one.low, one.high), abs=0.003)


def test_one_seed_or_one_image_gives_no_interval():
    a, b = over_seeds(np.random.default_rng(0), 20, 3, 0.3, 0.1)
    one = stats.difference_over_seeds(a[:1], b[:1], iou, "dataset", 100, 0)
    assert math.isnan(one.low)
    assert one.reason == "one seed: no interval over seeds"
    assert one.estimate == pytest.approx(gap(np.stack([a[0], b[0]]), "dataset"))
    two = stats.difference_over_seeds(a[:2], b[:2], iou, "dataset", 100, 0)
    assert math.isnan(two.low)
    assert two.reason == "2 seeds: too few for an interval over seeds, which needs 3"
    one = stats.difference_over_seeds(a[:, :1], b[:, :1], iou, "dataset", 100, 0)
    assert (math.isnan(one.high), one.reason) == (True, "one image: no interval over images")
    same = stats.difference_over_seeds(a * 0 + 1, b * 0 + 1, iou, "dataset", 100, 0)
    assert (same.low, same.high, same.p) == (0, 0, 1)


# ---------------------------------------------------------------- signed ranks, Holm, the best


def test_signed_ranks_of_a_hand_example():
    # differences of tenths: +1 -2 +3 +4 +5 +6: T+ = 19, T- = 2, effect 17 / 21
    a, b = counts_of_tp(2, 1, 4, 5, 6, 7), counts_of_tp(1, 3, 1, 1, 1, 1)
    found = stats.signed_rank(a, b, iou)
    assert found.effect == pytest.approx(17 / 21)
    # exact: 3 of the 64 sign patterns have T- <= 2 (none, {1}, {2}); two-sided
    assert found.p == pytest.approx(2 * 3 / 64)
    assert found.mean_difference == pytest.approx(1.7 / 6)
    assert stats.signed_rank(b, a, iou).effect == -found.effect


def test_ties_are_ranked_and_undefined_images_dropped():
    a, b = counts_of_tp(5, 5, 9, 9, 3, 8), counts_of_tp(5, 5, 1, 2, 4, 1)
    a[5] = 0
    found = stats.signed_rank(a, b, iou)
    assert (found.images, found.ties, found.dropped) == (5, 2, 1)
    # differences 0 0 .8 .7 -.1: ranks of the sizes 1.5 1.5 5 4 3 -> T+ = 9, T- = 3 (Pratt)
    assert found.effect == pytest.approx((9 - 3) / (9 + 3))
    expected = reference.wilcoxon([0, 0, 0.8, 0.7, -0.1], zero_method="pratt")
    assert found.p == pytest.approx(expected.pvalue)
    # of so few the p-value is exact, and alike however ties are treated; of more it is not
    many = [0, 0, 8, 7, -1] * 6
    a, b = counts_of_tp(*(max(d, 0) for d in many)), counts_of_tp(*(max(-d, 0) for d in many))
    expected = reference.wilcoxon([d / 10 for d in many], zero_method="pratt")
    assert stats.signed_rank(a, b, iou).p == pytest.approx(expected.pvalue)
    alone = stats.signed_rank(a[:1], b[:1] + 1, iou)
    assert math.isnan(alone.p)
    assert alone.reason == "one image with a value: no test over images"


def test_an_images_value_is_the_mean_over_the_classes_defined_in_it():
    counts = np.array([[[1, 0, 1], [0, 0, 0], [1, 0, 0]], [[0, 0, 0]] * 3])
    np.testing.assert_array_equal(stats.per_image(counts, iou), [0.75, math.nan])


def test_holm_of_a_hand_example():
    # sorted .01 .02 .03 .04, times 4 3 2 1 = .04 .06 .06 .04, made to rise: .04 .06 .06 .06
    adjusted = stats.holm([0.04, 0.01, math.nan, 0.03, 0.02])
    np.testing.assert_allclose(adjusted, [0.06, 0.04, math.nan, 0.06, 0.06])
    np.testing.assert_allclose(stats.holm([0.5, 0.9]), [1, 1])
    assert len(stats.holm([])) == 0


def test_equal_losses_over_seeds_are_told_apart_in_at_most_5_percent_of_the_tables():
    told = 0
    for repetition in range(200):
        rng = np.random.default_rng([5, repetition])
        runs = pairs(rng, 60, [0] * 12, seeds=0.1).reshape(4, 3, 60, 2, 3)
        found = stats.against_best_over_seeds(runs, iou, "dataset", 100, repetition)
        told += not found.same.all()
    assert told / 200 <= 0.065


def test_over_seeds_the_best_is_that_of_the_means_and_p_is_that_of_the_pair():
    effects = np.repeat([0.0, 1.0, 1.0], 4)
    runs = pairs(np.random.default_rng(0), 80, effects, seeds=0.05).reshape(3, 4, 80, 2, 3)
    found = stats.against_best_over_seeds(runs, iou, "image", 500, seed=0)
    means = [np.mean([aggregate(iou, run, "image")[0] for run in loss]) for loss in runs]
    assert found.best == np.argmax(means)
    np.testing.assert_allclose(found.values, means)
    assert found.same.tolist() == [False, True, True]
    raw = [
        stats.difference_over_seeds(runs[i], runs[j], iou, "image", 500, 0).p
        for i, j in ((0, 1), (0, 2), (1, 2))
    ]
    adjusted = dict(zip(((0, 1), (0, 2), (1, 2)), stats.holm(raw), strict=True))
    for loss in {0, 1, 2} - {found.best}:
        pair = tuple(sorted((loss, found.best)))
        assert found.p[loss] == pytest.approx(adjusted[pair], rel=1e-6)
    two = stats.against_best_over_seeds(runs[:, :2], iou, "image", 500, 0)
    assert two.reason == "2 seeds: too few for an interval over seeds, which needs 3"
    assert two.same.all()


def test_what_is_far_from_the_best_is_told_apart_and_its_equal_is_not():
    base = pairs(np.random.default_rng(0), 80, [0.0, 2.0, 0.0, 2.0])
    base = np.concatenate([base, base[1:2], 0 * base[:1]])  # a copy of the second; one undefined
    found = stats.against_best(base, iou, "image", 2000, seed=0)
    assert found.best in (1, 3, 4)
    assert found.same.tolist() == [False, True, False, True, True, False]
    assert math.isnan(found.p[found.best])
    assert math.isnan(found.p[5])
    # the smallest p of 2000 resamples and ten pairs of defined losses
    assert found.p[0] == pytest.approx(10 * stats.expanded_p(np.ones(2000), 80))
    few = stats.against_best(base[:, :3], iou, "image", 2000, seed=0)
    assert few.same.tolist() == [True] * 5 + [False]
    assert few.reason.startswith("3 images: too few")
    assert stats.against_best(base * 0, iou, "image", 2000, 0).best == -1


def test_too_few_resamples_for_the_pairs_are_refused():
    runs = pairs(np.random.default_rng(0), 10, [0] * 8)
    with pytest.raises(ConfigError, match=r"resamples=1000: .* \(28 pairs\). Take at least 1120"):
        stats.against_best(runs, iou, "dataset", 1000, 0)
    found = stats.against_best(runs, iou, "dataset", 1120, 0)
    assert found.reason == "10 images: too few to tell any of 8 losses apart"
    many = pairs(np.random.default_rng(0), 60, [0] * 3)
    assert stats.against_best(many, iou, "dataset", 1120, 0).reason == ""


# ---------------------------------------------------------------- rankings


def test_ranks_of_clear_losses_are_certain_and_ties_share_their_places():
    runs = pairs(np.random.default_rng(0), 60, [0.0, 3.0])
    found = stats.ranking(np.stack([runs[0], runs[1], runs[1]]), iou, "image", 300, seed=0)
    assert found.ranks.tolist() == [3, 1.5, 1.5]
    np.testing.assert_allclose(found.share, [[0, 0, 1], [0.5, 0.5, 0], [0.5, 0.5, 0]])
    assert (found.low.tolist(), found.high.tolist()) == ([3, 1.5, 1.5], [3, 1.5, 1.5])


def test_the_share_of_first_places_is_the_bootstraps():
    runs = pairs(np.random.default_rng(1), 30, [0.0, 0.05, 0.1])
    found = stats.ranking(runs, iou, "dataset", 500, seed=3)
    samples = stats.bootstrap_scores(runs, iou, "dataset", 500, seed=3)
    for loss in range(3):
        assert found.share[loss, 0] == pytest.approx((samples.argmax(axis=1) == loss).mean())
    np.testing.assert_allclose(found.share.sum(axis=0), 1)
    np.testing.assert_allclose(found.share.sum(axis=1), 1)
    one = stats.ranking(runs[:, :1], iou, "dataset", 500, seed=3)
    assert (np.isnan(one.share).all(), one.reason) == (True, "one image: no interval over images")


def test_kendalls_tau_is_one_for_the_same_order_and_scipys_else():
    x = np.array([0.1, 0.5, 0.3, 0.9, math.nan])
    assert stats.kendall(x, x**2).tau == 1
    assert stats.kendall(x, -x).tau == -1
    # of the six pairs of (1 3 2 4) and (1 2 4 3), two disagree
    found = stats.kendall(x, np.array([0.1, 0.2, 0.4, 0.3, 0.0]))
    assert (found.tau, found.losses) == (pytest.approx((4 - 2) / 6), 4)
    assert math.isnan(stats.kendall(x[:1], x[:1]).tau)
    assert stats.kendall(np.ones(3), np.arange(3.0)).reason.startswith("all losses tie")


# ---------------------------------------------------------------- over networks


def test_nemenyis_q_is_the_published_table():
    published = [1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164]  # Demsar 2006, 5a
    found = [stats.nemenyi_q(losses) for losses in range(2, 11)]
    assert found == pytest.approx(published, abs=1.1e-3)


# Demsar 2006, table 6: AUC of C4.5, C4.5+m, C4.5+cf, C4.5+m+cf on 14 data sets
DEMSAR = np.array([
    [.763, .768, .771, .798], [.599, .591, .590, .569], [.954, .971, .968, .967],
    [.628, .661, .654, .657], [.882, .888, .886, .898], [.936, .931, .916, .931],
    [.661, .668, .609, .685], [.583, .583, .563, .625], [.775, .838, .866, .875],
    [1.000, 1.000, 1.000, 1.000], [.940, .962, .965, .962], [.619, .666, .614, .669],
    [.972, .981, .9751, .975], [.957, .978, .946, .970],
])  # fmt: skip


def test_demsars_example_over_data_sets():
    found = stats.nemenyi(DEMSAR)
    # the paper: ranks 3.143, 2.000, 2.893, 1.964; chi2 = 9.28; CD = 2.569 sqrt(4 5 / (6 14)) = 1.25
    assert found.average_ranks == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=5e-4)
    assert found.cd == pytest.approx(1.25, abs=5e-3)
    assert found.friedman_p == reference.friedmanchisquare(*DEMSAR.T).pvalue
    assert found.friedman_p < 0.05
    # 3.143 - 1.964 = 1.18 < CD: nothing is told apart at 5 %
    assert found.groups == [(3, 1, 2, 0)]
    assert found.p[0, 3] > 0.05


def table_of_ranks(networks):
    """Losses 2, 0 best and alike, 3 in the middle, 1 the worst, in every network."""
    rng = np.random.default_rng(0)
    return np.array([0.8, 0.2, 0.8, 0.5]) + rng.normal(0, 0.01, (networks, 4))


def test_losses_apart_over_many_networks_fall_into_groups():
    values = table_of_ranks(40)
    for test in (stats.nemenyi, stats.wilcoxon_holm):
        found = test(values)
        assert [sorted(group) for group in found.groups] == [[0, 2]]
        assert found.p[0, 1] < 0.001 < 0.05 < found.p[0, 2]
        np.testing.assert_array_equal(found.p, found.p.T)
    assert math.isnan(stats.wilcoxon_holm(values).cd)


def test_nemenyi_differs_where_the_ranks_are_a_critical_difference_apart():
    values = np.random.default_rng(1).normal([0, 0.5, 1, 1.5, 2], 1, (12, 5))
    found = stats.nemenyi(values)
    gaps = np.abs(found.average_ranks[:, None] - found.average_ranks)
    off = ~np.eye(5, dtype=bool)
    np.testing.assert_array_equal((gaps > found.cd)[off], (found.p < 0.05)[off])
    for group in found.groups:
        assert gaps[np.ix_(group, group)].max() < found.cd


def test_what_differs_by_the_order_of_additions_is_equal_to_the_signed_ranks():
    # the same three IoUs, .1 .2 .3, in two orders: their sums differ in the last bit
    a = np.zeros((6, 3, 3), int)
    a[..., 0], a[..., 1] = (1, 2, 3), (9, 8, 7)
    assert (stats.per_image(a, iou) != stats.per_image(a[:, ::-1], iou)).any()
    same = stats.signed_rank(a, a[:, ::-1], iou)
    assert (same.p, same.effect, same.ties) == (1.0, 0.0, 6)
    # .3 - .2, .9 - .8 and .4 - .5 are three ties: ranks of the sizes 2 2 2 4 -> T+ = 8, T- = 2
    found = stats.signed_rank(counts_of_tp(3, 9, 4, 9), counts_of_tp(2, 8, 5, 1), iou)
    assert found.effect == pytest.approx((8 - 2) / (8 + 2))


def test_wilcoxon_over_networks_is_scipys_with_holm():
    values = np.random.default_rng(1).normal([0, 0.5, 1], 1, (12, 3))
    raw = [
        reference.wilcoxon(values[:, i], values[:, j]).pvalue for i, j in [(0, 1), (0, 2), (1, 2)]
    ]
    found = stats.wilcoxon_holm(values)
    assert found.p[np.triu_indices(3, 1)] == pytest.approx(stats.holm(raw))


def test_wilcoxon_over_networks_sees_ties_between_decimals():
    gaps = [0.1, -0.1, 0.2, 0.3, 0.15, 0.25]
    values = np.array([[0.2, 0.1], [0.4, 0.5], [0.3, 0.1], [0.4, 0.1], [0.45, 0.3], [0.5, 0.25]])
    expected = reference.wilcoxon(gaps, zero_method="pratt").pvalue
    assert reference.wilcoxon(values[:, 0] - values[:, 1]).pvalue != pytest.approx(expected)
    assert stats.wilcoxon_holm(values).p[0, 1] == pytest.approx(expected)


def test_few_networks_say_what_cannot_be_found():
    six = stats.wilcoxon_holm(table_of_ranks(6))
    assert six.reason.startswith("6 networks: no pair of 4 losses can be told apart")
    assert len(six.groups) == 1
    assert len(six.groups[0]) == 4
    for test in (stats.nemenyi, stats.wilcoxon_holm):
        one = test(table_of_ranks(1))
        assert math.isnan(one.cd)
        assert one.reason == "one network: no test over networks"
        assert len(one.groups[0]) == 4
        tied = test(np.ones((8, 3)))
        assert (tied.friedman_p, tied.groups) == (1, [(0, 1, 2)])
    assert stats.nemenyi(table_of_ranks(9)[:, :2]).reason.startswith("two losses")


def test_where_friedman_finds_nothing_all_losses_are_one_group():
    values = np.random.default_rng(5).normal(0, 1, (10, 6))
    found = stats.nemenyi(values)
    assert found.friedman_p > 0.05
    assert [sorted(group) for group in found.groups] == [[0, 1, 2, 3, 4, 5]]


def test_groups_overlap_where_neighbours_are_alike_and_ends_are_not():
    values = np.tile([3.0, 2.0, 1.0], (14, 1))
    values[::3] = [2.0, 3.0, 1.0]
    values[1::3] = [3.0, 1.0, 2.0]  # average ranks 1.36, 2.00, 2.64; CD 0.89
    found = stats.nemenyi(values)
    assert found.friedman_p < 0.05
    assert found.groups == [(0, 1), (1, 2)]


def test_the_diagram_shows_every_loss_and_every_group():
    found = stats.nemenyi(table_of_ranks(40))
    figure = cd_diagram.critical_difference_figure(
        list("abcd"), found.average_ranks, found.groups, found.cd, "40 networks"
    )
    assert isinstance(figure, Figure)
    (axes,) = figure.axes
    texts = " ".join(text.get_text() for text in axes.texts)
    for name, rank in zip("abcd", found.average_ranks, strict=True):
        assert f"{name} ({rank:.2f})" in texts
    assert f"CD = {found.cd:.2f}" in texts
    assert [line.get_linewidth() for line in axes.lines].count(4) == len(found.groups) == 1
    without = cd_diagram.critical_difference_figure(["a", "b"], [1, 2], [], math.nan, "")
    assert "CD" not in " ".join(text.get_text() for text in without.axes[0].texts)
