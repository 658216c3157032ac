"""The effect of a checkpoint's batch norm statistics, as opposed to its weights, on its separation of pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt

from augscale.records.diagnosis import OwnAndData, StatisticsCheck
from augscale.scoring.separation import separation
from augscale.statistics.panel_bootstrap import percentile_interval

Embeddings = npt.NDArray[np.float32]


def check_statistics(
    used: Literal["own", "data"],
    used_views: Mapping[str, Embeddings],
    other_views: Mapping[str, Embeddings],
    groups: npt.NDArray[np.int64],
    *,
    bootstrap: int,
    seed: int,
) -> StatisticsCheck:
    """Compares the mean d' over the ladder with both kinds of batch norm statistics.

    Args:
        used: kind of the statistics that `used_views` were embedded with.
        used_views, other_views: by level, float32, shape (n, V, D): the same views, embedded with the statistics in use
            and with the others.
        groups: int64, shape (n,): patients.
        bootstrap, seed: number and seed of the resamples, which both share.
    """
    scores, replicates = zip(
        *(_ladder_dprime(views, groups, bootstrap, seed) for views in (used_views, other_views)), strict=True
    )
    own, data = (0, 1) if used == "own" else (1, 0)
    difference = replicates[data] - replicates[own]
    interval = percentile_interval(difference) if len(difference) else None
    return StatisticsCheck(
        used=used,
        dprime=OwnAndData(own=scores[own], data=scores[data]),
        interval=interval,
        differ=interval is not None and not interval[0] <= 0 <= interval[1],
    )


def statistics_note(name: str, check: StatisticsCheck) -> str:
    """The finding on checkpoint `name` in one sentence."""
    low, high = check.interval or (np.nan, np.nan)
    own, data = check.dprime.own, check.dprime.data
    return (
        f"{name}: d' is {own:.3f} with its own batch norm statistics and {data:.3f} with statistics "
        f"gathered on these photographs ({data - own:+.3f}, 95 % interval {low:+.3f} to {high:+.3f}); "
        f"everything else is measured with {'its own' if check.used == 'own' else 'the gathered ones'}"
    )


def _ladder_dprime(
    views: Mapping[str, Embeddings], groups: npt.NDArray[np.int64], bootstrap: int, seed: int
) -> tuple[float, npt.NDArray[np.float64]]:
    found = [separation(points, groups, bootstrap=bootstrap, seed=seed) for points in views.values()]
    return float(np.mean([one.dprime for one in found])), np.mean([one.dprime_replicates for one in found], axis=0)
