"""Rank correlations of every score with every outcome at once, and how many of them chance alone would show.

The same numbers as `ranking.rank_correlation`, with ranks and signs computed once per column instead of once per cell.
Many cells are looked at, and their columns go together, so "p below 0.05" in some of them says little. The outcomes are
therefore also shuffled over trials, all of them alike, which keeps how scores go with scores and outcomes with outcomes
and breaks only what joins the two (Westfall & Young, 1993).

Axes: K scores, D outcomes, n trials, B replicates, R image draws.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from augscale.seeding import derive_seed
from augscale.statistics.ranking import BOOTSTRAP, MIN_DEFINED, MIN_ROWS, group_weights
from augscale.statistics.weighted_ranks import average_ranks

Floats = npt.NDArray[np.float64]

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
    """95 % percentile intervals over trials and test images; NaN where fewer than 90 % of replicates are defined."""
    p_values: Floats
    """Two-sided, of Spearman's rho, by permutation of trials; for this cell alone."""
    chance: Chance = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Chance:
    """What the whole table would show without any relation."""

    cells: int
    """Cells that have a value."""
    observed: int
    """Cells with p below 0.05, in either direction."""
    expected: float
    """The same under permutation, mean."""
    most: int
    """The same under permutation, 95th percentile: more than so many are more than chance."""
    largest: float | None
    """Largest absolute rho of the table."""
    largest_by_chance: float | None
    """95th percentile of the largest absolute rho under permutation: a cell beyond it stands out from all others."""
    p_value: float | None
    """Of the largest absolute rho, corrected for all cells."""


def correlation_table(
    scores: Floats,
    outcomes: Floats,
    outcome_draws: Floats,
    *,
    bootstrap: int = BOOTSTRAP,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> CorrelationTable:
    """All cells.

    Args:
        scores: shape (K, n); a row with a NaN has no cells here.
        outcomes: shape (D, n), finite.
        outcome_draws: shape (D, R, n).
        bootstrap, seed: as for `rank_correlation`, whose replicates these are.
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
        return CorrelationTable(**found, chance=_nothing())
    cells = np.ix_(usable, varied)
    x, y, draws = scores[usable], outcomes[varied], outcome_draws[varied]
    once = np.ones((1, n))
    found["spearman"][cells] = _spearman(once, x, y[:, None])[0]
    found["kendall"][cells] = _kendall(once, x, y[:, None])[0]
    if bootstrap:
        weights = group_weights(n, bootstrap, seed)
        for name, replicates in (("spearman", _spearman(weights, x, draws)), ("kendall", _kendall(weights, x, draws))):
            low, high = _intervals(replicates)
            found[f"{name}_low"][cells], found[f"{name}_high"][cells] = low, high
    found["p_values"][cells], chance = _permuted(x, y, found["spearman"][cells], permutations, seed)
    return CorrelationTable(**found, chance=chance)


def _spearman(weights: Floats, x: Floats, y: Floats) -> Floats:
    """Rho of every replicate, shape (B, K, D); y is (D, R, n)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        ranked = [np.stack([_unit_ranks(column, weights) for column in columns]) for columns in (x[:, None], y)]
    rho: Floats = np.matmul(ranked[0].transpose(1, 0, 2), ranked[1].transpose(1, 2, 0))
    return np.clip(rho, -1.0, 1.0)


def _unit_ranks(column: Floats, weights: Floats) -> Floats:
    """Centred ranks times the root of the weights, rows of length 1 (NaN where all are tied); column is (R, n)."""
    centred = average_ranks(column, weights) - (weights.sum(axis=1, keepdims=True) + 1) / 2
    rows = centred * np.sqrt(weights)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Floats = rows / np.where(length > 1e-9, length, np.nan)
    return unit


def _kendall(weights: Floats, x: Floats, y: Floats) -> Floats:
    """Tau-b of every replicate, shape (B, K, D); y is (D, R, n)."""
    left, right = np.triu_indices(x.shape[1], 1)
    sign_x = np.sign(x[:, left] - x[:, right])
    squared_x = sign_x**2
    found = np.empty((len(weights), len(x), len(y)))
    for b, w in enumerate(weights):
        pairs = w[left] * w[right]
        version = y[:, b % y.shape[1]]
        sign_y = np.sign(version[:, left] - version[:, right])
        scale = np.sqrt((squared_x @ pairs)[:, None] * (sign_y**2 @ pairs))
        found[b] = ((sign_x * pairs) @ sign_y.T) / np.where(scale > 1e-9, scale, np.nan)
    return np.clip(found, -1.0, 1.0)


def _intervals(replicates: Floats) -> tuple[Floats, Floats]:
    low, high = np.full(replicates.shape[1:], np.nan), np.full(replicates.shape[1:], np.nan)
    enough = np.isfinite(replicates).mean(axis=0) >= MIN_DEFINED
    if enough.any():
        low[enough], high[enough] = np.nanpercentile(replicates[:, enough], (2.5, 97.5), axis=0)
    return low, high


def _permuted(x: Floats, y: Floats, rho: Floats, permutations: int, seed: int) -> tuple[Floats, Chance]:
    n = x.shape[1]
    once = np.ones((1, n))
    unit_x, unit_y = (np.stack([_unit_ranks(row[None], once)[0] for row in rows]) for rows in (x, y))
    generator = np.random.default_rng(derive_seed(seed, "permutations"))
    orders = np.argsort(generator.random((permutations, n)), axis=1)
    null = np.abs(np.matmul(unit_x, unit_y[:, orders].transpose(1, 2, 0)))
    # A shuffled order that gives the very same correlation counts, whatever the last bit says.
    extreme = (null >= np.abs(rho) - 1e-12).sum(axis=0)
    p_values = (extreme + 1) / (permutations + 1)
    # Each permutation judged as the observed table is: its p against all permutations.
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


def _nothing() -> Chance:
    return Chance(cells=0, observed=0, expected=0.0, most=0, largest=None, largest_by_chance=None, p_value=None)
