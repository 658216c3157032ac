"""Combines the seeds of one checkpoint under one protocol on one test set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from augscale.errors import DataError
from augscale.evaluation.metrics import Metrics, evaluate_scores, pr_points, reliability, roc_points
from augscale.evaluation.predictions import Predictions
from augscale.records.evaluation import Cell, ClassSummary, MetricSummary
from augscale.records.metrics import EVALUATION_METRICS
from augscale.statistics.arrays import Floats
from augscale.statistics.intervals import seed_interval_normal, seed_interval_t
from augscale.statistics.stratified_bootstrap import percentile_interval, resample_notes, resampled_metrics

CURVE_GRID: tuple[float, ...] = tuple(round(float(x), 2) for x in np.linspace(0, 1, 51))
"""False positive rates or recalls at which the curves of several seeds are averaged."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Runs:
    """The seeds of one cell, in rising order, each measured on the test set and on its resamples."""

    runs: tuple[Predictions, ...]
    measured: tuple[Metrics, ...]
    replicates: tuple[dict[str, Floats], ...]
    """For each seed, the bootstrap values of each metric, shape (B,)."""

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(run.seed for run in self.runs)


def gather(predictions: Sequence[Predictions], weights: Floats, *, ordered: bool) -> Runs:
    """Measures the seeds of one cell; seeds with equal scores (nothing random in the protocol) are measured once.

    Args:
        predictions: at least one; seeds differ.
        weights: resamples of these test images, shape (N, B).
        ordered: True if class numbers are grades.
    Raises:
        DataError: the seeds were tested on different images.
    """
    runs = tuple(sorted(predictions, key=lambda p: p.seed))
    measured: list[Metrics] = []
    replicates: list[dict[str, Floats]] = []
    for index, run in enumerate(runs):
        if run.image_ids != runs[0].image_ids or not np.array_equal(run.labels, runs[0].labels):
            raise DataError(f"{run.title}: tested on other images than seed {runs[0].seed}; expected the same test set")
        twin = next((i for i in range(index) if np.array_equal(runs[i].scores, run.scores)), None)
        if twin is not None:
            measured.append(measured[twin])
            replicates.append(replicates[twin])
            continue
        measured.append(evaluate_scores(run.labels, run.scores, run.classes, ordered=ordered))
        replicates.append(resampled_metrics(run.labels, run.scores, weights, ordered=ordered))
    return Runs(runs=runs, measured=tuple(measured), replicates=tuple(replicates))


def build_cell(runs: Runs) -> Cell:
    """Means over seeds, the three intervals, curves, calibration and notes."""
    one = runs.runs[0]
    notes = [note for m in runs.measured for note in m.notes]
    notes += resample_notes(one.labels, one.groups, one.classes)
    if len(runs.runs) > 1 and all(m is runs.measured[0] for m in runs.measured):
        notes.append(f"all {len(runs.runs)} seeds gave the same scores: there is no spread over seeds")
    return Cell(
        protocol=one.protocol,
        checkpoint=one.checkpoint,
        trained_on=one.trained_on,
        tested_on=one.tested_on,
        classes=one.classes,
        images=len(one.labels),
        patients=None if one.groups is None else len(np.unique(one.groups)),
        seeds=runs.seeds,
        metrics={name: summarize_metric(runs, name) for name in EVALUATION_METRICS},
        per_class=tuple(_class_summary(runs, index) for index in range(len(one.classes))),
        reliability=reliability(
            np.concatenate([run.labels for run in runs.runs]), np.concatenate([run.scores for run in runs.runs])
        ),
        selection=tuple(run.selection for run in runs.runs),
        seconds=sum(run.seconds for run in runs.runs),
        notes=tuple(dict.fromkeys(notes)),
    )


def summarize_metric(runs: Runs, name: str) -> MetricSummary:
    """Mean over the seeds where the metric is defined, and intervals; over test images only if all seeds have it."""
    per_seed = tuple(m.values[name] for m in runs.measured)
    known = [value for value in per_seed if value is not None]
    reasons = [m.reasons[name] for m in runs.measured if name in m.reasons]
    reason = reasons[0] if reasons else ""
    if not known:
        return MetricSummary(mean=None, per_seed=per_seed, reason=reason)
    resampled = name in runs.replicates[0] and len(known) == len(per_seed)
    return MetricSummary(
        mean=float(np.mean(known)),
        per_seed=per_seed,
        seeds_t=seed_interval_t(known),
        seeds_normal=seed_interval_normal(known),
        test_images=percentile_interval(np.mean([r[name] for r in runs.replicates], axis=0)) if resampled else None,
        reason=reason,
    )


def _class_summary(runs: Runs, index: int) -> ClassSummary:
    classes = [m.per_class[index] for m in runs.measured]
    true_positive_rate: list[Floats] = []
    precision: list[Floats] = []
    for run in runs.runs if runs.runs[0].internal else ():
        roc, pr = roc_points(run.labels, run.scores, index), pr_points(run.labels, run.scores, index)
        if roc is not None and pr is not None:
            true_positive_rate.append(np.interp(CURVE_GRID, *roc))
            precision.append(_precision_at(*pr))
    return ClassSummary(
        name=classes[0].name,
        support=classes[0].support,
        auroc=_mean([c.auroc for c in classes]),
        aupr=_mean([c.aupr for c in classes]),
        recall=_mean([c.recall for c in classes]),
        true_positive_rate=_mean_curve(true_positive_rate),
        precision=_mean_curve(precision),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else None


def _precision_at(recall: Floats, precision: Floats) -> Floats:
    """Precision at the first threshold that reaches each recall of the grid.

    At recall 0 it is the precision of the highest scores, instead of the 1 that scikit-learn gives.
    """
    first = np.searchsorted(recall[1:], np.asarray(CURVE_GRID) - 1e-12) + 1
    return precision[np.minimum(first, len(precision) - 1)]


def _mean_curve(curves: Sequence[Floats]) -> tuple[float, ...]:
    """Mean over seeds at each point of the grid ("vertical averaging"); empty without curves."""
    return tuple(round(float(y), 4) for y in np.mean(curves, axis=0)) if curves else ()
