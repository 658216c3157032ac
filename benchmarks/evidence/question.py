"""The paper's question: means over pre-training seeds, and differences seed by seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from benchmarks.evidence.plan import CONTROLS
from benchmarks.evidence.records import Evidence, Run

Floats = npt.NDArray[np.float64]

PROTOCOLS = ("released", "linear", "knn", "cv")
COMPARISONS: tuple[tuple[str, str], ...] = (
    ("weak", "strong"),
    ("weak+med", "weak"),
    ("weak+med", "strong"),
    ("weak", "none"),
    ("strong", "none"),
)
LEARNING_COMPARISONS: tuple[tuple[str, str], ...] = tuple((name, "untrained") for name in CONTROLS)
"""What training adds, also where it is a loss."""
SINGLE_COMPARISONS: tuple[tuple[str, str, str], ...] = (
    ("crops made weaker", "weak-crops+strong-jitter", "strong"),
    ("jitter made weaker", "strong-crops+weak-jitter", "strong"),
    ("crops made stronger", "strong-crops+weak-jitter", "weak"),
    ("jitter made stronger", "weak-crops+strong-jitter", "weak"),
    ("photometric changes taken away", "crops", "strong"),
    ("crops taken away", "jitter", "strong"),
    ("crops alone", "crops", "none"),
    ("photometric changes alone", "jitter", "none"),
    ("noise added", "weak+noise", "weak"),
    ("bias field added", "weak+bias", "weak"),
)


@dataclass(frozen=True, kw_only=True)
class Mean:
    """A mean over seeds with its 95 % Student-t interval; None with fewer than two seeds."""

    mean: float
    interval: tuple[float, float] | None
    n: int
    p: float | None = None
    """Two-sided, of the mean being 0."""


def student(values: npt.ArrayLike) -> Mean | None:
    """Mean and t interval of values that are independent; None without any."""
    x = np.asarray(values, dtype=np.float64)
    x = x[np.isfinite(x)]
    if not len(x):
        return None
    mean = float(x.mean())
    if len(x) < 2:
        return Mean(mean=mean, interval=None, n=len(x))
    error = float(x.std(ddof=1) / np.sqrt(len(x)))
    half = float(stats.t.ppf(0.975, len(x) - 1)) * error
    p = float(2 * stats.t.sf(abs(mean) / error, len(x) - 1)) if error > 0 else (0.0 if mean else 1.0)
    return Mean(mean=mean, interval=(mean - half, mean + half), n=len(x), p=p)


def by_seed(evidence: Evidence, name: str, dataset: str, protocol: str) -> dict[int, float]:
    """AUROC of the complete runs of some scales, or of the untrained network, by seed."""
    runs = evidence.baselines(name) if name == "untrained" else _runs(evidence, name)
    values = evidence.auroc(runs, dataset, protocol)
    return {run.seed: float(value) for run, value in zip(runs, values, strict=True) if np.isfinite(value)}


def seed_mean(evidence: Evidence, name: str, dataset: str, protocol: str) -> Mean | None:
    return student(list(by_seed(evidence, name, dataset, protocol).values()))


def paired(evidence: Evidence, a: str, b: str, dataset: str, protocol: str) -> Mean | None:
    """a - b, seed by seed; seeds that either lacks are left out."""
    first, second = (by_seed(evidence, name, dataset, protocol) for name in (a, b))
    return student([first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())])


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """p-values adjusted for their number (Holm 1979); None stays."""
    known = [(p, place) for place, p in enumerate(p_values) if p is not None]
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, place) in enumerate(sorted(known)):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        adjusted[place] = largest
    return adjusted


def trained_names(evidence: Evidence) -> list[str]:
    """Names of all scales with a complete run: controls first."""
    found = {run.name for run in evidence.runs.values() if run.kind == "run" and run.state == "complete"}
    return [name for name in CONTROLS if name in found] + sorted(found - set(CONTROLS))


def _runs(evidence: Evidence, name: str) -> list[Run]:
    return [run for run in evidence.runs.values() if run.kind == "run" and run.name == name and run.state == "complete"]
