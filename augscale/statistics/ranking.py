"""Rank correlation of a score with a downstream outcome over trials.

The interval covers two sources of chance: the trials (whole groups, e.g. the seeds of one setting, are drawn with
replacement) and, if outcomes on resampled test images are given, the test images. Replicate b combines draw b of the
groups with draw b (modulo their number) of the images, and depends on the seed and the number of groups only. So two
scores of the same trials have the same replicates, and differences of their `replicates` are paired.

Intervals are percentile intervals. Resampled images add the noise of an outcome a second time, which pulls the
replicates of a correlation towards 0: intervals over trials and images err on the side of "no agreement".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from augscale.records.evaluation import Interval
from augscale.statistics.arrays import Floats
from augscale.statistics.stratified_bootstrap import percentile_interval
from augscale.statistics.trial_rows import BOOTSTRAP, MIN_ROWS, group_weights, trial_rows
from augscale.statistics.weighted_ranks import kendall, spearman

Kind = Literal["spearman", "kendall"]

MIN_DEFINED = 0.9
"""An interval needs at least this share of replicates in which the correlation is defined."""


@dataclass(frozen=True, kw_only=True)
class Correlation:
    """Agreement of the ranks of a score and an outcome: 1 the same order, -1 the opposite, 0 none."""

    value: float | None
    """In [-1, 1]; if None, `note` gives the reason."""
    interval: Interval | None = None
    """95 % interval over groups and, if given, test images."""
    n: int
    num_groups: int
    note: str
    """Reason for a missing value or interval; else empty."""
    replicates: Floats = field(default_factory=lambda: np.empty(0, np.float64), repr=False, compare=False)
    """float64, shape (B,); NaN where a replicate is undefined; empty without value or bootstrap."""


def rank_correlation(
    scores: npt.ArrayLike,
    outcomes: npt.ArrayLike,
    *,
    kind: Kind = "spearman",
    groups: npt.ArrayLike | None = None,
    outcome_draws: npt.ArrayLike | None = None,
    bootstrap: int = BOOTSTRAP,
    seed: int = 0,
) -> Correlation:
    """Spearman's rho or Kendall's tau-b of a score with an outcome, with a bootstrap interval.

    Ties get average ranks (rho) or are corrected for (tau-b): values equal `scipy.stats.spearmanr` and `kendalltau`.

    Args:
        scores: float, shape (n,).
        outcomes: float, shape (n,).
        kind: "spearman" or "kendall".
        groups: int, shape (n,): rows with one number are resampled together; None: each row alone.
        outcome_draws: float, shape (R, n): the outcomes on resampled test images, the same images for all rows.
        bootstrap: number of replicates, B; 0 gives no interval.
        seed: any integer.
    Raises:
        DataError: shapes differ, or a value is not finite.
    """
    rows = trial_rows(scores, outcomes, groups, outcome_draws)
    x, y, n = rows.scores[None], rows.outcomes[None, None], len(rows.scores)
    correlate = {"spearman": spearman, "kendall": kendall}[kind]
    note = _undefined(rows.scores, rows.outcomes)
    if note:
        return Correlation(value=None, n=n, num_groups=rows.num_groups, note=note)
    value = float(correlate(np.ones((1, n)), x, y)[0, 0, 0])
    replicates, interval = np.empty(0, np.float64), None
    if rows.num_groups < MIN_ROWS:
        note = f"no interval: {rows.num_groups} groups to resample; expected at least {MIN_ROWS}"
    elif bootstrap:
        weights = group_weights(rows.num_groups, bootstrap, seed)[:, rows.group_of]
        replicates = correlate(weights, x, y if rows.draws is None else rows.draws[None])[:, 0, 0]
        defined = replicates[np.isfinite(replicates)]
        if len(defined) < MIN_DEFINED * bootstrap:
            share = 1 - len(defined) / bootstrap
            note = f"no interval: in {share:.0%} of the replicates a column is constant"
        else:
            interval = percentile_interval(defined)
    return Correlation(
        value=value, interval=interval, n=n, num_groups=rows.num_groups, note=note, replicates=replicates
    )


def _undefined(x: Floats, y: Floats) -> str:
    if len(x) < MIN_ROWS:
        return f"{len(x)} rows; expected at least {MIN_ROWS}"
    constant = [name for name, values in (("score", x), ("outcome", y)) if np.ptp(values) == 0]
    return f"the {' and the '.join(constant)} is the same in all rows" if constant else ""
