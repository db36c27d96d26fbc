"""Is a difference real? Intervals, tests and rankings from integer counts. NumPy and SciPy alone.

A count array is (N, K, 3): N images, K classes, (tp, fp, fn); several runs on the same images, in
the same order, are (L, N, K, 3). `score` is a function of `seglab.scores` (iou, dice; of the counts
of a band: boundary IoU), and `aggregation` is what `seglab.scores.aggregate` names. A metric is a
share, 0 to 1, and so is a difference of two. Higher is better.

What the numbers are about: an interval over images says what other images of the same kind would
do to the SAME trained weights. Only several seeds say what training again would do. Where there is
one image or one seed there is no interval over that unit: its bounds are NaN, and `reason` says so.
Nor is there below six images (that one run is better on all five, chance alone brings about in 6 %)
or over two seeds (see `difference_over_seeds`).

Choice of the interval. In simulation (tests/test_stats.py) the plain percentile interval covers
too little with few images (of 95 %, 87 to 88 with 10 images, 92 to 94 with 20), BCa less still (85
to 88, 89 to 93), as both lack the factor sqrt(n / (n - 1)) and Student's t. The percentile interval
expanded by these two (Hesterberg 2015, section 5.2) covers 93 to 94 % with 10 and is the percentile
interval for many. It is what `difference` gives.

Over seeds and images there is no plain hierarchical bootstrap (draw seeds, then images, take
percentiles): with 3 seeds its 95 % interval covers as little as 75 %. In its place stands a sum of
two variances, Student's t over the seeds and the bootstrap over the images: see
`difference_over_seeds`.
"""

from seglab.stats.bootstrap import (
    FEWEST_IMAGES,
    FEWEST_SEEDS,
    LEVEL,
    Difference,
    Score,
    bootstrap_scores,
    difference,
    difference_over_seeds,
    expanded_p,
    expanded_percentile,
    howe_p,
    image_weights,
)
from seglab.stats.comparisons import (
    AgainstBest,
    SignedRank,
    against_best,
    against_best_over_seeds,
    holm,
    per_image,
    signed_rank,
)
from seglab.stats.rankings import (
    Agreement,
    CriticalDifference,
    Ranking,
    friedman,
    kendall,
    nemenyi,
    nemenyi_q,
    ranking,
    wilcoxon_holm,
)

__all__ = [
    "AgainstBest",
    "Agreement",
    "CriticalDifference",
    "Difference",
    "FEWEST_IMAGES",
    "FEWEST_SEEDS",
    "LEVEL",
    "Ranking",
    "Score",
    "SignedRank",
    "against_best",
    "against_best_over_seeds",
    "bootstrap_scores",
    "difference",
    "difference_over_seeds",
    "expanded_p",
    "expanded_percentile",
    "friedman",
    "holm",
    "howe_p",
    "image_weights",
    "kendall",
    "nemenyi",
    "nemenyi_q",
    "per_image",
    "ranking",
    "signed_rank",
    "wilcoxon_holm",
]
