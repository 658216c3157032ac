"""The score `probe.score = "alpha_req"`: slope of the spectrum of the embeddings of the panel's views.

In the study of docs/evidence this score ranked scales as accuracy on labels did, and the separation of pairs did not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from augscale.scoring.spectrum import alpha_req, eigenvalue_shares
from augscale.statistics.panel_bootstrap import resample_weights

Floats = npt.NDArray[np.float64]

NAME = "alpha_req"
FARTHEST = 10.0
"""Upper limit of the distance from 1; also used for a spectrum with too few directions for a slope."""
MOST_REPLICATES = 200
"""Upper limit of resamples, because each needs the eigenvalues of every level."""


@dataclass(frozen=True, kw_only=True)
class SlopeScore:
    """Negative distance of the spectrum's slope from 1, mean over levels: in [-10, 0], higher is better."""

    score: float
    replicates: Floats
    """float64, shape (B,): the score of each resample of patients, at most 0, shifted so that the mean is the score (a
    resample holds 63 % of the images, so its spectrum is always steeper)."""


def slope_score(
    levels: Mapping[str, npt.NDArray[np.float64]], groups: npt.NDArray[np.int64], *, bootstrap: int = 0, seed: int = 0
) -> SlopeScore:
    """Scores the first view of each image at every level.

    Args:
        levels: by level, float64, shape (n, V, D), finite.
        groups: int64, shape (n,), from 0: patients.
        bootstrap: resamples of patients; at most `MOST_REPLICATES` are made.
        seed: seed of the resamples; replicate b holds the same patients in every score with this seed.
    """
    views = [points[:, 0] for points in levels.values()]
    found = [_minus_distance(eigenvalue_shares(rows)) for rows in views]
    score = float(np.mean([-FARTHEST if value is None else value for value in found]))
    count = min(bootstrap, MOST_REPLICATES)
    weights = resample_weights(int(groups.max()) + 1, count, seed)[:, groups]
    drawn = np.array([_resampled(views, times) for times in weights])
    known = drawn[np.isfinite(drawn)]
    if not len(known):
        return SlopeScore(score=score, replicates=np.full(count, score))
    # A resample of a small panel can have too few directions for a slope; it then takes the mean of the others.
    moved = np.where(np.isfinite(drawn), drawn, known.mean()) + (score - known.mean())
    return SlopeScore(score=score, replicates=np.minimum(moved, 0.0))


def _resampled(views: Sequence[Floats], times: Floats) -> float:
    """The score with images weighted by `times`; nan where a level has no slope."""
    found = [_minus_distance(eigenvalue_shares(rows, weights=times)) for rows in views]
    return float(np.mean([np.nan if value is None else value for value in found]))


def _minus_distance(shares: Floats | None) -> float | None:
    slope = None if shares is None else alpha_req(shares)
    return None if slope is None else -min(abs(slope - 1.0), FARTHEST)
