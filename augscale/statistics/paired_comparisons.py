"""Paired comparisons of the contenders of a search, on the same fresh seeds and the same panel.

The best contender is chosen by the same scores that compare it with the others. The intervals are therefore
simultaneous for all pairs (Tukey's honestly significant differences, with seeds as blocks): if all contenders are
equal, one of them is called better than another in at most about 5 % of all searches.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from augscale.statistics.intervals import CONFIDENCE

SeedScores = Mapping[int, float]
"""Score by number of the seed."""
SeedReplicates = Mapping[int, Sequence[float]]
"""Bootstrap scores of the panel by number of the seed; replicate b uses the same images for all contenders."""


def differences_to(
    reference: int, scores: Sequence[SeedScores], replicates: Sequence[SeedReplicates] | None = None
) -> list[dict[str, Any] | None]:
    """Every contender's score minus the reference's, with simultaneous intervals for all pairs of contenders.

    The variance is the sum of two independent parts. Pre-training seeds: the variance of the pair's differences over
    seeds or, if larger, the residual variance of the two-way table (contenders by seeds), because the few differences
    of one pair can be alike by chance. Images of the panel: the variance over bootstrap replicates. The quantile is
    that of the studentized range for this number of contenders.

    Args:
        reference: index of the contender that the others are compared with.
        scores: one mapping per contender; seeds may be missing.
        replicates: one mapping per contender; a comparison in which a seed has no replicates ignores them. None: there
            are none.
    Returns:
        For each contender `difference` (mean over the seeds of both), `interval` (95 %) and `distinguishable` (it
        excludes 0); None for the reference, and where fewer than two seeds are shared.
    """
    shared = [sorted({*scores[reference]} & {*own}) for own in scores]
    compared = [i for i, seeds in enumerate(shared) if i != reference and len(seeds) >= 2]
    found: list[dict[str, Any] | None] = [None] * len(scores)
    if not compared:
        return found
    residual, freedom = _residual([scores[i] for i in (reference, *compared)])
    quantile = _quantile(len(compared) + 1, freedom)
    for i in compared:
        seeds = shared[i]
        differences = np.array([scores[i][seed] - scores[reference][seed] for seed in seeds])
        variance = max(float(np.var(differences, ddof=1)), 2 * residual) / len(seeds)
        if replicates is not None and all(replicates[i].get(s) and replicates[reference].get(s) for s in seeds):
            own, others = (np.mean([replicates[which][s] for s in seeds], axis=0) for which in (i, reference))
            variance += float(np.var(own - others, ddof=1))
        mean, half = float(differences.mean()), quantile * math.sqrt(variance)
        found[i] = {
            "difference": mean,
            "interval": [mean - half, mean + half],
            "distinguishable": abs(mean) > half,
        }
    return found


def _residual(scores: Sequence[SeedScores]) -> tuple[float, int]:
    """Variance of scores beyond the means of contenders and of seeds, and its degrees of freedom.

    Computed from the contenders that have every seed; if these are fewer than two, the variance is 0, with the smallest
    degrees of freedom of any pair.
    """
    seeds = sorted(set().union(*scores))
    full = [[own[seed] for seed in seeds] for own in scores if len(own) == len(seeds)]
    if len(full) < 2:
        return 0.0, min(len({*scores[0]} & {*own}) for own in scores) - 1
    table: npt.NDArray[np.float64] = np.array(full)
    left = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0, keepdims=True) + table.mean()
    freedom = (len(full) - 1) * (len(seeds) - 1)
    return float((left**2).sum()) / freedom, freedom


@functools.cache
def _quantile(contenders: int, freedom: int) -> float:
    """Quantile of a difference in units of its standard error; with two contenders Student's t."""
    if contenders == 2:
        return float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom))
    return float(stats.studentized_range.ppf(CONFIDENCE, contenders, freedom)) / math.sqrt(2)
