"""How much of a checkpoint's separation of pairs is due to its batch norm statistics, and not to its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from augscale.scoring.separation import separation
from augscale.statistics.bootstrap import percentile_interval

Embeddings = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class StatisticsCheck:
    """d' over the ladder with a network's own batch norm statistics, and with those gathered on the data at hand."""

    used: str
    """"own" or "data": which of the two every other number of the checkpoint is measured with."""
    own: float
    data: float
    interval: tuple[float, float] | None
    """95 % percentile interval of data - own over resampled patients; None without a bootstrap."""

    @property
    def differ(self) -> bool:
        """By more than the panel's images can explain."""
        return self.interval is not None and not self.interval[0] <= 0 <= self.interval[1]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "used": self.used,
            "dprime": {"own": self.own, "data": self.data},
            "interval": list(self.interval) if self.interval else None,
            "differ": self.differ,
        }

    def note(self, name: str) -> str:
        """The finding in one sentence."""
        low, high = self.interval or (np.nan, np.nan)
        return (
            f"{name}: d' is {self.own:.3f} with its own batch norm statistics and {self.data:.3f} with statistics "
            f"gathered on these photographs ({self.data - self.own:+.3f}, 95 % interval {low:+.3f} to {high:+.3f}); "
            f"everything else is measured with {'its own' if self.used == 'own' else 'the gathered ones'}"
        )


def check_statistics(
    used: str,
    used_views: Mapping[str, Embeddings],
    other_views: Mapping[str, Embeddings],
    groups: npt.NDArray[np.int64],
    *,
    bootstrap: int,
    seed: int,
) -> StatisticsCheck:
    """Compares the two over the levels of the ladder.

    Args:
        used: "own" or "data".
        used_views, other_views: by level, float32, shape (n, V, D): the same views, with the statistics that are used
            and with the others.
        groups: int64, shape (n,): patients.
        bootstrap, seed: of the resamples, which both share.
    """
    scores, replicates = zip(
        *(_ladder(views, groups, list(used_views), bootstrap, seed) for views in (used_views, other_views)), strict=True
    )
    own, data = (0, 1) if used == "own" else (1, 0)
    difference = replicates[data] - replicates[own]
    return StatisticsCheck(
        used=used,
        own=scores[own],
        data=scores[data],
        interval=percentile_interval(difference) if len(difference) else None,
    )


def _ladder(
    views: Mapping[str, Embeddings], groups: npt.NDArray[np.int64], levels: Sequence[str], bootstrap: int, seed: int
) -> tuple[float, npt.NDArray[np.float64]]:
    found = [separation(views[level], groups, bootstrap=bootstrap, seed=seed) for level in levels]
    return float(np.mean([one.dprime for one in found])), np.mean([one.dprime_replicates for one in found], axis=0)
