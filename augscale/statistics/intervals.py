"""Intervals over seeds, comparisons of two checkpoints, and the correction for many comparisons.

The difference of two checkpoints has three sources of chance: the images of the test set, the seed of the head (initial
weights, data order and crops), and the seed of pre-training. Each test states the sources that it covers. None covers
pre-training seeds, because a checkpoint is one pre-training run.

The paper's interval of the mean over five seeds is a Student-t interval in its arXiv version and a normal one, 0.71
times as wide, in the MIDL version; both are computed and named. Its repeated-measures ANOVA over seeds with two
conditions equals the paired t-test (F = t squared).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from augscale.records.evaluation import Interval, SignificanceTest
from augscale.statistics.arrays import Floats

CONFIDENCE = 0.95
LEVEL = 0.05
"""An adjusted p below this is called distinguishable."""
TEST_IMAGES = "test images"
HEAD_SEEDS = "head seeds"
NOT_COVERED = "pre-training seeds are not covered: each checkpoint is one pre-training run"
NO_VARIANCE = 1e-24
"""Variances up to this are rounding errors."""


def seed_interval_t(values: Sequence[float]) -> Interval | None:
    """Student-t 95 % interval of the mean over seeds (arXiv version of the paper); None for fewer than two seeds."""
    return None if len(values) < 2 else _around_mean(values, float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)))


def seed_interval_normal(values: Sequence[float]) -> Interval | None:
    """Normal 95 % interval of the mean over seeds (MIDL version); for five seeds too narrow by a factor of 0.71."""
    return None if len(values) < 2 else _around_mean(values, float(stats.norm.ppf((1 + CONFIDENCE) / 2)))


def paired_t_test(first: Sequence[float], second: Sequence[float]) -> SignificanceTest:
    """Paired t-test over head seeds, equal to the paper's ANOVA over two conditions.

    Matches `scipy.stats.ttest_rel`. The test images are taken as given, so it does not generalize to another test set.

    Args:
        first, second: one value per seed, in the same order of seeds.
    """
    differences = np.asarray(first, float) - np.asarray(second, float)
    reason = ""
    if len(differences) < 2:
        reason = "needs at least two seeds"
    elif float(np.std(differences, ddof=1)) <= 1e-12 * max(1.0, float(np.abs(differences).max())):
        reason = "the difference is the same for every seed, as with a protocol in which seeds change nothing"
    if reason:
        return SignificanceTest(name="paired_t", covers=(HEAD_SEEDS,), reason=reason)
    return SignificanceTest(
        name="paired_t",
        p_value=float(stats.ttest_rel(first, second).pvalue),
        interval=seed_interval_t(differences.tolist()),
        covers=(HEAD_SEEDS,),
    )


def combined_test(seed_differences: Sequence[float], image_replicates: Floats) -> SignificanceTest:
    """Tests a mean difference over seeds against the variation of test images and head seeds together.

    The variance is the sum of that of the mean over seeds (variance over seeds / S) and that over test images (of the
    bootstrap replicates of the mean difference). The quantile is Student's t with Satterthwaite's degrees of freedom,
    infinitely many for the image part. With one seed, or seeds that change nothing, it covers test images only.

    Args:
        seed_differences: first minus second on the whole test set, one per seed.
        image_replicates: the mean difference over seeds in every resample of the test images, shape (B,).
    """
    count = len(seed_differences)
    mean = float(np.mean(seed_differences))
    images = float(np.var(image_replicates, ddof=1)) if len(image_replicates) > 1 else math.nan
    seeds = float(np.var(seed_differences, ddof=1)) / count if count > 1 else 0.0
    if seeds <= NO_VARIANCE:
        seeds = 0.0
    covers = (TEST_IMAGES, HEAD_SEEDS) if seeds > 0 else (TEST_IMAGES,)
    if mean == 0.0 and images == 0.0 and seeds == 0.0:
        return SignificanceTest(name="combined", p_value=1.0, interval=(0.0, 0.0), covers=covers)
    if not images > NO_VARIANCE:
        reason = "resampling the test images changes nothing, so the chance of test images cannot be judged"
        return SignificanceTest(name="combined", covers=covers, reason=reason)
    variance = images + seeds
    freedom = (count - 1) * (variance / seeds) ** 2 if seeds > 0 else math.inf
    error = math.sqrt(variance)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * error
    p = float(2 * stats.t.sf(abs(mean) / error, freedom))
    return SignificanceTest(name="combined", p_value=p, interval=(mean - half, mean + half), covers=covers)


def holm(p_values: Sequence[float | None]) -> tuple[float | None, ...]:
    """Holm's step-down adjusted p-values (Scand. J. Stat. 1979); valid under any dependence of the tests.

    The i-th smallest of m is multiplied by m - i + 1, then raised to at least the one before it, and is at most 1.

    Args:
        p_values: p-values of one family; None (a test that could not be made) stays None and does not count.
    Returns:
        Adjusted p-values in the order given.
    """
    tested = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, index) in enumerate(tested):
        largest = max(largest, min(1.0, (len(tested) - rank) * p))
        adjusted[index] = largest
    return tuple(adjusted)


def verdict(difference: float, adjusted_p: float | None) -> str:
    """`better`, `worse` (of the first against the second) or `not distinguishable`."""
    if adjusted_p is None or adjusted_p >= LEVEL or difference == 0:
        return "not distinguishable"
    return "better" if difference > 0 else "worse"


def _around_mean(values: Sequence[float], quantile: float) -> Interval:
    mean, half = float(np.mean(values)), quantile * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return mean - half, mean + half
