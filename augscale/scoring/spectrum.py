"""Metrics of the spectrum of embeddings: how many directions they use.

Embeddings have shape (N, D), one per image. Unless stated otherwise, the spectrum is that of the covariance of centered
embeddings that are not normalized, and no result depends on their scale.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from augscale.scoring.distances import centered, unit_rows
from augscale.scoring.embedding_checks import finite_embeddings
from augscale.system.matmul import matmul

Floats = npt.NDArray[np.float64]

RANKME_EPSILON = 1e-7
"""Added to the normalized singular values, as in the paper for float32."""
POWER_LAW_INDICES = (11, 100)
"""First and last eigenvalue, counted from 1, that `alpha_req` fits if there are enough."""
_MIN_POWER_LAW_VALUES = 10
_NOTHING = 1e-12
"""Eigenvalues below this share of the largest are rounding errors (singular values: 1e-6, float32's resolution)."""


def effective_rank(embeddings: npt.ArrayLike, *, center: bool = False) -> float:
    """RankMe: exp of the entropy of the normalized singular values (Garrido et al., ICML 2023, Eq. 1 and 2).

    As in the paper the embeddings are neither centered nor normalized; the result does not change with their scale.
    Only comparable between models of one architecture, on the same images.

    Args:
        embeddings: finite, shape (N, D).
        center: subtract the mean embedding first, so that an offset common to all images does not count as a direction.
    Returns:
        In [1, min(N, D)]. Best min(N, D): all directions used alike. Worst 1: a single direction, a collapse; also 1
        if all embeddings are zero (with `center`: equal).
    Raises:
        DataError: not a matrix, or values that are not finite.
    """
    rows = _checked(embeddings)
    rows = centered(rows) if center else rows
    largest = np.abs(rows).max(initial=0.0)
    if largest == 0:
        return 1.0
    rows = rows / largest
    singular = np.sqrt(gram_eigenvalues(rows))
    shares = singular / singular.sum() + RANKME_EPSILON
    rank = np.exp(-np.sum(shares * np.log(shares)))
    return float(np.clip(rank, 1.0, min(rows.shape)))


def feature_sd(embeddings: npt.ArrayLike) -> float:
    """Spread of the directions: standard deviation per feature of L2-normalized rows, averaged, times sqrt(D).

    Chen & He, CVPR 2021 (SimSiam), section 4.1. Does not change with the scale of the embeddings.

    Args:
        embeddings: finite, shape (N, D).
    Returns:
        In [0, 1]. About 1: directions spread evenly over the sphere; 0: all alike, a complete collapse.
    Raises:
        DataError: not a matrix, or values that are not finite.
    """
    unit, _ = unit_rows(_checked(embeddings))
    return float(centered(unit).std(axis=0).mean() * np.sqrt(unit.shape[1]))


def gram_eigenvalues(rows: Floats) -> Floats:
    """Squared singular values of rows (N, D) without centering: float64, shape (min(N, D),), rising, at least 0."""
    narrow = np.ascontiguousarray(rows.T) if len(rows) < rows.shape[1] else rows
    return np.maximum(np.linalg.eigvalsh(matmul(np.ascontiguousarray(narrow.T), narrow)), 0.0)


def eigenvalue_shares(embeddings: npt.ArrayLike, *, weights: npt.ArrayLike | None = None) -> Floats | None:
    """Eigenvalues of the covariance as shares of their sum, largest first.

    Args:
        embeddings: finite, shape (N, D).
        weights: number of times that each image counts, shape (N,); None: once.
    Returns:
        float64, shape (min(N, D),), adding up to 1. None if all embeddings are equal.
    Raises:
        DataError: not a matrix, or values that are not finite.
    """
    rows = centered(_checked(embeddings))
    if weights is not None:
        times = np.asarray(weights, dtype=np.float64)
        rows, times = rows[times > 0], times[times > 0]
        rows = (rows - times @ rows / times.sum()) * np.sqrt(times)[:, None]
    largest = np.abs(rows).max(initial=0.0)
    if largest == 0:
        return None
    values = gram_eigenvalues(rows / largest)[::-1]
    values = np.where(values > _NOTHING * values[0], values, 0.0)
    return np.asarray(values / values.sum())


def stable_rank(shares: Floats) -> float:
    """Sum of the eigenvalues over the largest: |X|_F^2 / |X|_2^2 of centered embeddings (Rudelson & Vershynin 2007).

    Args:
        shares: from `eigenvalue_shares`.
    Returns:
        In [1, min(N - 1, D)]; 1: a single direction. Never above the rank, and insensitive to small eigenvalues.
    """
    return float(1 / shares[0])


def participation_ratio(shares: Floats) -> float:
    """(sum of the eigenvalues)^2 / sum of their squares (Gao et al., bioRxiv 214262, 2017).

    Args:
        shares: from `eigenvalue_shares`.
    Returns:
        In [1, min(N - 1, D)]; k if k directions carry the same variance, 1: a single direction.
    """
    return float(1 / np.square(shares).sum())


def alpha_req(shares: Floats) -> float | None:
    """Exponent of the power law that eigenvalues follow: lambda_i ~ i^-alpha (Agrawal et al., NeurIPS 2022, section 2).

    Least squares of log lambda on log i for i = 11, ..., 100, or as far as there are eigenvalues; fewer than 20 are
    fitted from i = 1 on. The range is our choice: the first eigenvalues and the tail, which depends on the number of
    images, do not follow the law.

    Args:
        shares: from `eigenvalue_shares`.
    Returns:
        Unbounded. The paper finds about 1 best; large: few directions, a collapse; near 0: noise in all directions.
        None with fewer than 10 eigenvalues above rounding.
    """
    first, last = POWER_LAW_INDICES
    values = shares[shares > 0]
    if len(values) < _MIN_POWER_LAW_VALUES:
        return None
    if len(values) < first + _MIN_POWER_LAW_VALUES - 1:
        first = 1
    index = np.arange(first, min(last, len(values)) + 1)
    x, y = np.log(index), np.log(values[index - 1])
    x = x - x.mean()
    return float(-(x @ y) / (x @ x))


def _checked(embeddings: npt.ArrayLike) -> Floats:
    return finite_embeddings(np.asarray(embeddings, dtype=np.float64), ("images", "features"))
