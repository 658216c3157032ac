"""Resampling images: the same resamples for everything that is scored on one panel.

The weights of replicate b depend on (seed, b) and the number of patients only, so two models scored on one panel see
the same images in replicate b, and the replicates of their difference show the uncertainty of a *paired* comparison.
Whole patients are drawn (Field & Welsh, J. R. Stat. Soc. B 2007, cluster bootstrap): photographs of one patient are
not independent. A patient drawn twice is no negative of itself.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from augscale.scoring.distances import matmul
from augscale.seeding import counter_uniforms, derive_seed

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


def resample_weights(num_groups: int, replicates: int, seed: int) -> Floats:
    """How often each group is drawn in each replicate.

    A resample that holds one group only has no negative pairs and is drawn again; that concerns panels of a
    handful of patients.

    Args:
        num_groups: G, at least 2.
        replicates: B.
        seed: any integer.
    Returns:
        float64 whole numbers, shape (B, G), rows sum to G. Row b does not depend on B.
    """
    weights = np.zeros((replicates, num_groups))
    todo = np.arange(replicates)
    attempt = 0
    while len(todo):
        uniforms = counter_uniforms(derive_seed(seed, "bootstrap", attempt), todo, num_groups)
        drawn = (uniforms * num_groups).astype(np.int64)
        cells = (np.arange(len(todo))[:, None] * num_groups + drawn).ravel()
        weights[todo] = np.bincount(cells, minlength=len(todo) * num_groups).reshape(-1, num_groups)
        todo = todo[weights[todo].max(axis=1) == num_groups]
        attempt += 1
    return weights


def group_starts(groups: Integers) -> Integers:
    """Where each group begins in rising group numbers, shape (G,)."""
    return np.flatnonzero(np.diff(groups, prepend=groups[0] - 1)).astype(np.int64)


def linear_sums(weights: Floats, per_image: Floats, starts: Integers) -> Floats:
    """Per replicate the weighted sum of a value per image, shape (B,)."""
    return matmul(weights, np.add.reduceat(per_image, starts)[:, None])[:, 0]


def pair_sums(weights: Floats, per_image_pair: Floats, starts: Integers) -> Floats:
    """Per replicate the sum over pairs of images of weight x weight x value, w' M w, shape (B,)."""
    by_group = np.add.reduceat(np.add.reduceat(per_image_pair, starts, axis=0), starts, axis=1)
    return np.einsum("bg,bg->b", matmul(weights, by_group), weights)


def percentile_interval(replicates: Floats) -> tuple[float, float]:
    """The 95 % percentile interval."""
    low, high = np.percentile(replicates, (2.5, 97.5))
    return float(low), float(high)
