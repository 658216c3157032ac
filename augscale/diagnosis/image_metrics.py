"""The metrics of one embedding per image: spectrum and labels, each with its resamples."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from augscale.diagnosis import intrinsic, labels
from augscale.diagnosis.labels import Labelled
from augscale.records.metrics import LABEL_METRICS
from augscale.scoring import spectrum
from augscale.scoring.distances import centered, unit_rows
from augscale.scoring.separation import is_rounding
from augscale.statistics.panel_bootstrap import Measured, Resamples, measured, measured_around, missing

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


def spectrum_metrics(points: Floats, resamples: Resamples) -> tuple[dict[str, Measured], Floats | None]:
    """Every metric of `metrics.SPECTRUM_METRICS`; and the eigenvalue shares, None if all embeddings are equal."""
    rows = points / (np.abs(points).max() or 1.0)

    def rank(weights: Floats) -> float:
        return spectrum.effective_rank((rows * np.sqrt(weights)[:, None])[weights > 0])

    found = {
        "rankme": resamples.recomputed(spectrum.effective_rank(rows), rank),
        "feature_sd": _feature_sd(rows, resamples),
    }
    shapes = {
        "alpha_req": spectrum.alpha_req,
        "stable_rank": spectrum.stable_rank,
        "participation_ratio": spectrum.participation_ratio,
    }
    equal = "all embeddings are equal up to rounding"
    shares = None if is_rounding(np.abs(centered(rows)).max()) else spectrum.eigenvalue_shares(rows)
    if shares is None:
        return found | dict.fromkeys((*shapes, "intrinsic_dimension"), missing(equal)), None
    every = [spectrum.eigenvalue_shares(rows, weights=weights) for weights in resamples.few]
    for name, function in shapes.items():
        value = function(shares)
        found[name] = (
            missing("fewer than 10 eigenvalues above rounding: no power law can be fitted")
            if value is None
            else measured_around(value, [None if part is None else function(part) for part in every])
        )
    found["intrinsic_dimension"] = _intrinsic_dimension(rows, resamples)
    return found, shares


def _feature_sd(rows: Floats, resamples: Resamples) -> Measured:
    value = spectrum.feature_sd(rows)
    if not len(resamples):
        return measured(value)
    unit = centered(unit_rows(rows)[0])
    counts = resamples.weights.sum(axis=1)[:, None]
    variances = resamples.sums(np.square(unit)) / counts - np.square(resamples.sums(unit) / counts)
    spreads = np.sqrt(np.maximum(variances, 0.0)).mean(axis=1) * np.sqrt(unit.shape[1])
    return measured(value, spreads)


def _intrinsic_dimension(rows: Floats, resamples: Resamples) -> Measured:
    if len(rows) < intrinsic.MIN_ROWS:
        return missing(f"{len(rows)} images: at least {intrinsic.MIN_ROWS} are needed to see a dimension")
    ratios = intrinsic.log_ratios(rows)
    value = intrinsic.dimension_of(ratios)
    if value is None:
        return missing("nearly all embeddings have an equal one: distances to neighbors say nothing")
    found = [intrinsic.dimension_of(ratios, weights) for weights in resamples.weights]
    return measured(value, np.array([np.nan if number is None else number for number in found]))


def label_metrics(points: Floats, groups: Integers, known: Labelled, resamples: Resamples) -> dict[str, Measured]:
    """Every metric of `metrics.LABEL_METRICS`."""
    if len(known.rows) < 2 or len(known.classes) < 2:
        reason = "no image has a label"
        if len(known.rows):
            reason = f"{len(known.classes)} class among {len(known.rows)} labelled image(s): at least 2 are needed"
        return dict.fromkeys(LABEL_METRICS, missing(reason))
    rows, group_ids = points[known.rows], groups[known.rows]
    drawn = resamples.of_rows(known.rows)
    found: dict[str, Measured] = {}
    if len(np.unique(group_ids)) < 2:
        reason = "all labelled images belong to one patient: there are no neighbors of other patients"
        found |= dict.fromkeys(("knn_accuracy", "knn_auroc"), missing(reason))
    else:
        votes = labels.knn_votes(rows, known.labels, group_ids)
        found["knn_accuracy"] = drawn.mean(labels.knn_correct(votes, known.labels))
        area = labels.macro_auroc(votes, known.labels)
        found["knn_auroc"] = (
            missing("no class has both members and others")
            if area is None
            else measured(area, labels.resampled_macro_auroc(votes, known.labels, drawn.weights))
        )
    if len(known.classes) == len(known.rows):
        found["class_silhouette"] = missing("every labelled image has a class of its own")
    else:
        found["class_silhouette"] = drawn.mean(labels.class_silhouette_values(rows, known.labels))
    return found
