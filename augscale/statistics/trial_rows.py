"""Checks of a table of trials, and its resamples.

Axes: n rows (trials), G groups, B resamples, R draws of the test images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from augscale.errors import DataError
from augscale.seeding import derive_seed
from augscale.statistics.arrays import Floats, Integers
from augscale.statistics.stratified_bootstrap import draw_counts

MIN_ROWS = 4
"""Fewest rows (or groups) for a correlation: of three, a third of all orders agree or disagree perfectly."""
BOOTSTRAP = 2000


@dataclass(frozen=True, kw_only=True, eq=False)
class TrialRows:
    """A score and an outcome per trial, checked."""

    scores: Floats
    """(n,)."""
    outcomes: Floats
    """(n,)."""
    draws: Floats | None
    """(R, n): the outcomes on resampled test images."""
    group_of: Integers
    """(n,): 0 .. G-1 in order of first appearance."""
    num_groups: int


def trial_rows(
    scores: npt.ArrayLike, outcomes: npt.ArrayLike, groups: npt.ArrayLike | None, draws: npt.ArrayLike | None
) -> TrialRows:
    """Converts and checks the arguments of `rank_correlation` and `regret`.

    Raises:
        DataError: shapes differ, or a value is not finite.
    """
    x, y = _values(scores, "scores"), _values(outcomes, "outcomes")
    group_of, num_groups = _group_numbers(groups, len(x))
    versions = None if draws is None else _draws(draws, len(x))
    if y.shape != x.shape:
        raise DataError(f"outcomes: {len(y)} values for {len(x)} scores; expected one each")
    return TrialRows(scores=x, outcomes=y, draws=versions, group_of=group_of, num_groups=num_groups)


def group_weights(num_groups: int, bootstrap: int, seed: int) -> Floats:
    """Number of draws of each group in each resample: whole numbers, shape (B, G), rows sum to G.

    Row b depends on the seed, b and G only.
    """
    return draw_counts(derive_seed(seed, "trials"), bootstrap, num_groups)


def _values(values: npt.ArrayLike, name: str) -> Floats:
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 1:
        raise DataError(f"{name}: shape {found.shape}; expected one value per trial")
    if not np.isfinite(found).all():
        raise DataError(f"{name}: {int((~np.isfinite(found)).sum())} of {len(found)} values are not finite")
    return found


def _draws(values: npt.ArrayLike, n: int) -> Floats:
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 2 or found.shape[1] != n or not len(found):
        raise DataError(f"outcome_draws: shape {found.shape}; expected (draws, {n})")
    if not np.isfinite(found).all():
        raise DataError(f"outcome_draws: {int((~np.isfinite(found)).sum())} values are not finite")
    return found


def _group_numbers(groups: npt.ArrayLike | None, n: int) -> tuple[Integers, int]:
    if groups is None:
        return np.arange(n), n
    given = np.asarray(groups)
    if given.shape != (n,):
        raise DataError(f"groups: shape {given.shape}; expected ({n},)")
    _, first, inverse = np.unique(given, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first))
    return order[inverse].astype(np.int64), len(first)
