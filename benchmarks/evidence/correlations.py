"""Does a score rank runs as downstream accuracy does? Tables 2 to 10 of the study, as plain rows.

All correlations are Spearman's, over the runs of the part "spread"; intervals resample scales (with all their seeds)
and labelled images. A score is turned so that + means: better score, better accuracy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from augscale.records.validation import Regret
from augscale.statistics.ranking import Correlation, rank_correlation
from augscale.statistics.regret import regret
from benchmarks.evidence.plan import NUM_SPREAD
from benchmarks.evidence.records import (
    LADDER,
    LADDER_LEVEL,
    MEAN,
    SCALES_LEVEL,
    TRAINING_LEVEL,
    Evidence,
    Run,
    Score,
)

Floats = npt.NDArray[np.float64]

MAIN_PROTOCOL = "cv"
PAIR = ("dprime", "gap", "pair_auroc", "margin", "retrieval_error", "alignment", "uniformity", "silhouette")
RAW = ("raw_dprime", "raw_gap", "raw_pair_auroc", "raw_silhouette")
DEFAULT = Score(metric="pair_auroc")

HYPOTHESIS = Score(metric="alpha_req")
"""Looked best on 33 runs (seed 0 of all scales; seed 1 of the controls and of sobol-00) and was written down, in
docs/evidence, as what the other runs were to test."""
HYPOTHESIS_UNSEEN = tuple(f"sobol-{number:02d}" for number in range(1, NUM_SPREAD))
"""Scales whose second seed had not been run then."""

MAIN_SCORES: tuple[Score, ...] = (
    *(Score(metric=metric) for metric in (*PAIR, *RAW, "lidar", "rankme", "alpha_req", "feature_sd")),
    *(Score(metric=metric, level="clean") for metric in ("rankme", "alpha_req", "feature_sd")),
    *(Score(metric=metric, level=TRAINING_LEVEL) for metric in ("information", "loss")),
    *(Score(metric=metric, level="own") for metric in ("dprime", "gap", "pair_auroc", "silhouette", "raw_silhouette")),
    *(Score(metric="pair_auroc", level=f"natural:{name}") for name in ("odir3", "srahim_dr")),
    *(Score(metric=metric, level="clean") for metric in ("cka_to_start", "cosine_to_start")),
    *(Score(metric=metric, level=SCALES_LEVEL) for metric in ("crop_area", "jitter")),
)
"""The last four are baselines that a score must beat: likeness to the start, and the scales without a network."""
EARLY_SCORES = (
    DEFAULT,
    HYPOTHESIS,
    *(Score(metric=metric) for metric in ("dprime", "margin", "retrieval_error", "rankme", "lidar")),
    Score(metric="rankme", level="clean"),
    Score(metric="information", level=TRAINING_LEVEL),
)
LEVELS = (*LADDER, LADDER_LEVEL, "photometric@0.5", "photometric", "crops@0.5", "crops", "own")
COMBINATIONS: dict[str, tuple[Score, ...]] = {
    "pair_auroc + rankme": (DEFAULT, Score(metric="rankme")),
    "pair_auroc + clean rankme": (DEFAULT, Score(metric="rankme", level="clean")),
    "dprime + rankme": (Score(metric="dprime"), Score(metric="rankme")),
    "margin + rankme": (Score(metric="margin"), Score(metric="rankme")),
    "pair_auroc + lidar": (DEFAULT, Score(metric="lidar")),
    "pair_auroc + natural pairs": (DEFAULT, Score(metric="pair_auroc", level="natural:odir3")),
    "pair_auroc + information": (DEFAULT, Score(metric="information", level=TRAINING_LEVEL)),
    "photometric + crops pair_auroc": (
        Score(metric="pair_auroc", level="photometric"),
        Score(metric="pair_auroc", level="crops"),
    ),
}
"""Means of ranks, each within the runs compared."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Spread:
    """The runs that correlations are over, and how intervals are made."""

    evidence: Evidence
    runs: list[Run]
    bootstrap: int
    within_seeds: bool = False
    """Whether score and accuracy are taken as differences from their seed's mean. All trials of a search have one seed,
    so what two seeds differ by is nothing that a search would have to rank."""

    @classmethod
    def of(cls, evidence: Evidence, bootstrap: int, part: str = "spread") -> Spread:
        return cls(evidence=evidence, runs=evidence.of_part(part), bootstrap=bootstrap)

    def without(self, name: str) -> Spread:
        """The same without some scales, e.g. a control that lies far from all others."""
        return replace(self, runs=[run for run in self.runs if run.name != name])

    def of_seed(self, seed: int, unseen: bool = False) -> Spread:
        """The runs of one seed; `unseen`: of the scales of HYPOTHESIS_UNSEEN alone."""
        runs = [run for run in self.runs if run.seed == seed and (not unseen or run.name in HYPOTHESIS_UNSEEN)]
        return replace(self, runs=runs)

    def within(self) -> Spread:
        """The same runs, `within_seeds`."""
        return replace(self, within_seeds=True)

    @property
    def scores(self) -> list[Score]:
        """MAIN_SCORES that these runs have; earlier runs lack those that were added later."""
        return [score for score in MAIN_SCORES if np.isfinite(self.evidence.score(self.runs, score)).any()]

    @property
    def datasets(self) -> tuple[str, ...]:
        return (*self.evidence.datasets, MEAN)

    @property
    def names(self) -> list[str]:
        return [run.name for run in self.runs]

    @property
    def groups(self) -> npt.NDArray[np.int64]:
        return np.unique(self.names, return_inverse=True)[1].astype(np.int64)

    def correlation(self, values: Floats, dataset: str, protocol: str = MAIN_PROTOCOL) -> Correlation:
        """Of one value per run with the accuracy at the end; runs without either are left out."""
        outcome = self.evidence.auroc(self.runs, dataset, protocol)
        draws = self.evidence.auroc_draws(self.runs, dataset, protocol)
        known = np.isfinite(values) & np.isfinite(outcome)
        values, outcome = self._compared(values[known], known), self._compared(outcome[known], known)
        return rank_correlation(
            values,
            outcome,
            groups=self.groups[known],
            outcome_draws=None if draws is None else self._compared(draws[:, known], known),
            bootstrap=self.bootstrap,
        )

    def compared(self, values: Floats) -> Floats:
        """Values of all runs, shape (runs,), as they are compared."""
        return self._compared(values, np.ones(len(self.runs), dtype=bool))

    def _compared(self, values: Floats, known: npt.NDArray[np.bool_]) -> Floats:
        """Values of the known runs (last axis) as they are compared: as they are, or less their seed's mean."""
        if not self.within_seeds:
            return values
        seeds = np.array([run.seed for run in self.runs])[known]
        result = values.copy()
        for seed in np.unique(seeds):
            result[..., seeds == seed] -= values[..., seeds == seed].mean(axis=-1, keepdims=True)
        return result

    def of_score(self, score: Score, dataset: str, protocol: str = MAIN_PROTOCOL, fraction: float = 1.0) -> Correlation:
        return self.correlation(self.evidence.score(self.runs, score, fraction), dataset, protocol)

    def of_means(self, score: Score, dataset: str, protocol: str = MAIN_PROTOCOL) -> Correlation:
        """The same over the means of each scale's seeds."""
        values = group_means(self.evidence.score(self.runs, score), self.groups)
        outcome = group_means(self.evidence.auroc(self.runs, dataset, protocol), self.groups)
        known = np.isfinite(values) & np.isfinite(outcome)
        return rank_correlation(values[known], outcome[known], bootstrap=0)

    def stability(self, score: Score, fraction: float) -> Correlation:
        """Of a score at a rung with itself at the end."""
        early, last = (self.evidence.score(self.runs, score, at) for at in (fraction, 1.0))
        known = np.isfinite(early) & np.isfinite(last)
        return rank_correlation(early[known], last[known], groups=self.groups[known], bootstrap=0)

    def combined(self, scores: Sequence[Score]) -> Floats:
        """Mean of the scores' ranks, shape (runs,); NaN where one is missing."""
        columns = np.stack([self.evidence.score(self.runs, score) for score in scores])
        known = np.isfinite(columns).all(axis=0)
        result = np.full(len(self.runs), np.nan)
        result[known] = rankdata(columns[:, known], axis=1).mean(axis=0)
        return result

    def others_labels(self, dataset: str, protocol: str = MAIN_PROTOCOL) -> Floats:
        """Mean rank of the runs by accuracy on the other real datasets: what labels elsewhere would say."""
        others = [name for name in self.evidence.real_datasets if name != dataset]
        return np.mean([rankdata(self.evidence.auroc(self.runs, name, protocol)) for name in others], axis=0)

    def regret(self, values: Floats, dataset: str, protocol: str = MAIN_PROTOCOL) -> Regret:
        """What choosing the scales by a value costs on a dataset."""
        outcome = self.evidence.auroc(self.runs, dataset, protocol)
        draws = self.evidence.auroc_draws(self.runs, dataset, protocol)
        known = np.isfinite(values) & np.isfinite(outcome)
        return regret(
            values[known],
            outcome[known],
            names=[name for name, keep in zip(self.names, known, strict=True) if keep],
            groups=self.groups[known],
            outcome_draws=None if draws is None else draws[:, known],
            bootstrap=self.bootstrap,
        )


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """What is chosen on all real datasets but one, and how it does there."""

    dataset: str
    chosen: str
    elsewhere: float
    """Mean correlation on the datasets it was chosen on."""
    here: Correlation
    default: Correlation


def paired_difference(a: Correlation, b: Correlation) -> tuple[float, tuple[float, float] | None] | None:
    """a - b with its 95 % interval: replicate k of both has the same scales and images.

    Returns:
        None where either is undefined; no interval where they were not over the same scales or not resampled.
    """
    if a.value is None or b.value is None:
        return None
    difference = a.value - b.value
    if not len(a.replicates) or a.replicates.shape != b.replicates.shape or (a.n, a.num_groups) != (b.n, b.num_groups):
        return difference, None
    replicates = a.replicates - b.replicates
    replicates = replicates[np.isfinite(replicates)]
    if not len(replicates):
        return difference, None
    low, high = np.percentile(replicates, (2.5, 97.5))
    return difference, (float(low), float(high))


def leave_one_out(spread: Spread) -> list[LeftOut]:
    """Chooses the score or combination with the highest mean correlation on the other real datasets."""
    candidates = {score.label: spread.evidence.score(spread.runs, score) for score in spread.scores}
    candidates |= {name: spread.combined(scores) for name, scores in COMBINATIONS.items()}
    quick = Spread(evidence=spread.evidence, runs=spread.runs, bootstrap=0)
    values = {
        name: {dataset: quick.correlation(column, dataset).value for dataset in spread.evidence.real_datasets}
        for name, column in candidates.items()
    }
    found = []
    for dataset in spread.evidence.real_datasets:
        others = [name for name in spread.evidence.real_datasets if name != dataset]
        means = {
            name: float(np.mean([known[other] or 0.0 for other in others]))
            for name, known in values.items()
            if all(known[other] is not None for other in others)
        }
        if not means:
            continue
        chosen = max(means, key=lambda name: means[name])
        found.append(
            LeftOut(
                dataset=dataset,
                chosen=chosen,
                elsewhere=means[chosen],
                here=spread.correlation(candidates[chosen], dataset),
                default=spread.of_score(DEFAULT, dataset),
            )
        )
    return found


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Two-way analysis of variance of a value over scales and seeds, without interaction.

    mean: of all runs. scales: SD of the scales' true means. seeds: SD of the seeds' true means, which all scales share,
    as seed k is the same network, order and draws for every scale. residual: SD of what is left. reliability: share of
    the variance within a seed that is due to the scales, in [0, 1]; two seeds are expected to correlate by as much.
    agreement: Spearman's correlation of the first two seeds over the scales.
    """

    mean: float
    scales: float
    seeds: float
    residual: float
    reliability: float
    agreement: Correlation


def seed_noise(
    values: Floats, scales: npt.NDArray[np.int64], seeds: npt.NDArray[np.int64], bootstrap: int = 0
) -> Noise | None:
    """Splits the variance of one value per run into scales, seeds and the rest (unbiased; negative variances are 0).

    Args:
        values: float64, shape (n,). Scales that lack a known value for one of the seeds are left out.
        scales, seeds: int64, shape (n,); at most one run for each pair.
        bootstrap: resamples of scales for the interval of the agreement.
    Returns:
        None with fewer than two seeds, or fewer than three complete scales.
    """
    rows, columns = (np.unique(numbers, return_inverse=True)[1] for numbers in (scales, seeds))
    table = np.full((rows.max(initial=-1) + 1, columns.max(initial=-1) + 1), np.nan)
    table[rows, columns] = values
    table = table[np.isfinite(table).all(axis=1)]
    k, n = table.shape
    if k < 3 or n < 2:
        return None
    by_scales, by_seeds, mean = table.mean(axis=1), table.mean(axis=0), float(table.mean())
    left = table - by_scales[:, None] - by_seeds + mean
    residual = float(np.square(left).sum() / ((k - 1) * (n - 1)))
    between = max(0.0, float(by_scales.var(ddof=1)) - residual / n)
    total = between + residual
    return Noise(
        mean=mean,
        scales=float(np.sqrt(between)),
        seeds=float(np.sqrt(max(0.0, float(by_seeds.var(ddof=1)) - residual / k))),
        residual=float(np.sqrt(residual)),
        reliability=between / total if total > 0 else 0.0,
        agreement=rank_correlation(table[:, 0], table[:, 1], bootstrap=bootstrap),
    )


def group_means(values: Floats, groups: npt.NDArray[np.int64]) -> Floats:
    """Mean of each group, in the order of the group numbers 0, 1, ..."""
    return np.bincount(groups, values) / np.bincount(groups)
