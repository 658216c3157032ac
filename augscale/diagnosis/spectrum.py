"""How many directions embeddings use: guards against collapse."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from augscale.diagnosis.distances import centered, matmul, unit_rows
from augscale.errors import DataError

RANKME_EPSILON = 1e-7
"""Added to the normalised singular values, as in the paper for float32."""


def effective_rank(embeddings: npt.ArrayLike, *, center: bool = False) -> float:
    """RankMe: exp of the entropy of the normalised singular values (Garrido et al., ICML 2023, Eq. 1 and 2).

    As in the paper the embeddings are neither centred nor normalised; the result does not change with their scale.
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
    gram = matmul(rows, rows.T) if len(rows) < rows.shape[1] else matmul(rows.T, rows)
    singular = np.sqrt(np.maximum(np.linalg.eigvalsh(gram), 0.0))
    shares = singular / singular.sum() + RANKME_EPSILON
    rank = np.exp(-np.sum(shares * np.log(shares)))
    return float(np.clip(rank, 1.0, min(rows.shape)))


def feature_sd(embeddings: npt.ArrayLike) -> float:
    """Spread of the directions: standard deviation per feature of L2-normalised rows, averaged, times sqrt(D).

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


def _checked(embeddings: npt.ArrayLike) -> npt.NDArray[np.float64]:
    rows = np.asarray(embeddings, dtype=np.float64)
    if rows.ndim != 2 or 0 in rows.shape:
        raise DataError(f"embeddings: shape {rows.shape}; expected (images, features), at least 1 each")
    if not np.isfinite(rows).all():
        raise DataError("embeddings: values that are not finite; expected finite numbers")
    return rows
