"""Rank correlations of every score with every outcome at once, and the correlations that chance alone would give.

Cells equal `ranking.rank_correlation`. The table has many cells, and their columns are correlated, so "p below 0.05" in
some of them is weak evidence. Therefore the outcomes are also permuted over trials, all in the same way, which keeps
the correlations among scores and among outcomes and breaks those between the two (Westfall & Young, 1993).

Axes: K scores, D outcomes, n trials, B replicates, R image draws.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from augscale.records.validation import Chance
from augscale.seeding import derive_seed
from augscale.statistics.arrays import Floats
from augscale.statistics.ranking import MIN_DEFINED
from augscale.statistics.trial_rows import BOOTSTRAP, MIN_ROWS, group_weights
from augscale.statistics.weighted_ranks import kendall, spearman, unit_ranks

PERMUTATIONS = 2000
LEVEL = 0.05


@dataclass(frozen=True, kw_only=True, eq=False)
class CorrelationTable:
    """Arrays of shape (K, D); NaN where a column is constant or has missing values."""

    spearman: Floats
    kendall: Floats
    spearman_low: Floats
    spearman_high: Floats
    kendall_low: Floats
    kendall_high: Floats
    """95 % percentile intervals over trials and test images; NaN if fewer than 90 % of replicates are defined."""
    p_values: Floats
    """Two-sided p-values of Spearman's rho by permutation of trials, for each cell alone."""
    chance: Chance


def correlation_table(
    scores: Floats,
    outcomes: Floats,
    outcome_draws: Floats,
    *,
    bootstrap: int = BOOTSTRAP,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> CorrelationTable:
    """Correlations, intervals and p-values of all cells.

    Args:
        scores: shape (K, n); a row with a NaN has no cells here.
        outcomes: shape (D, n), finite.
        outcome_draws: shape (D, R, n).
        bootstrap, seed: see `rank_correlation`, which uses the same replicates.
        permutations: at least 100.
    """
    num_scores, n = scores.shape
    shape = (num_scores, len(outcomes))
    usable = [k for k in range(num_scores) if np.isfinite(scores[k]).all() and np.ptp(scores[k]) > 0]
    varied = [d for d in range(len(outcomes)) if np.ptp(outcomes[d]) > 0]
    found = {
        name: np.full(shape, np.nan)
        for name in (
            "spearman", "kendall", "spearman_low", "spearman_high", "kendall_low", "kendall_high", "p_values",
        )
    }  # fmt: skip
    if n < MIN_ROWS or not usable or not varied:
        return CorrelationTable(**found, chance=Chance())
    cells = np.ix_(usable, varied)
    x, y, draws = scores[usable], outcomes[varied], outcome_draws[varied]
    once = np.ones((1, n))
    found["spearman"][cells] = spearman(once, x, y[:, None])[0]
    found["kendall"][cells] = kendall(once, x, y[:, None])[0]
    if bootstrap:
        weights = group_weights(n, bootstrap, seed)
        for name, replicates in (("spearman", spearman(weights, x, draws)), ("kendall", kendall(weights, x, draws))):
            low, high = _intervals(replicates)
            found[f"{name}_low"][cells], found[f"{name}_high"][cells] = low, high
    found["p_values"][cells], chance = _permuted(x, y, found["spearman"][cells], permutations, seed)
    return CorrelationTable(**found, chance=chance)


def _intervals(replicates: Floats) -> tuple[Floats, Floats]:
    low, high = np.full(replicates.shape[1:], np.nan), np.full(replicates.shape[1:], np.nan)
    enough = np.isfinite(replicates).mean(axis=0) >= MIN_DEFINED
    if enough.any():
        low[enough], high[enough] = np.nanpercentile(replicates[:, enough], (2.5, 97.5), axis=0)
    return low, high


def _permuted(x: Floats, y: Floats, rho: Floats, permutations: int, seed: int) -> tuple[Floats, Chance]:
    n = x.shape[1]
    once = np.ones((1, n))
    unit_x, unit_y = (np.stack([unit_ranks(row[None], once)[0] for row in rows]) for rows in (x, y))
    generator = np.random.default_rng(derive_seed(seed, "permutations"))
    orders = np.argsort(generator.random((permutations, n)), axis=1)
    null = np.abs(np.matmul(unit_x, unit_y[:, orders].transpose(1, 2, 0)))
    # A permutation with an equal correlation counts, even if the last bit differs.
    extreme = (null >= np.abs(rho) - 1e-12).sum(axis=0)
    p_values = (extreme + 1) / (permutations + 1)
    # Each permutation is judged like the observed table: by its p-values against all permutations.
    as_extreme = rankdata(-np.round(null, 12), method="max", axis=0)
    counts = (as_extreme / permutations < LEVEL).sum(axis=(1, 2))
    largest = null.max(axis=(1, 2))
    top = float(np.abs(rho).max())
    return p_values, Chance(
        cells=rho.size,
        observed=int((p_values < LEVEL).sum()),
        expected=float(counts.mean()),
        most=int(np.quantile(counts, 0.95, method="higher")),
        largest=top,
        largest_by_chance=float(np.quantile(largest, 0.95)),
        p_value=float(((largest >= top - 1e-12).sum() + 1) / (permutations + 1)),
    )
