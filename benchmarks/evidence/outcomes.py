"""Downstream accuracy of frozen features: a converged linear probe, nearest neighbours, and cross-validated ridge.

`linear` and `knn` are the classifiers of `augscale evaluate` (chosen on validation, judged on the test images), seen on
whole images. `cv` is for low noise: every labelled image is predicted once per repeat by a ridge regression that has
not seen its patient, so it rests on four times as many images and on fifteen fits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.preprocessing import StandardScaler

from augscale.evaluation.linear import fit_path
from augscale.evaluation.neighbours import knn_scores, unit_rows
from augscale.evaluation.protocol_config import KnnConfig, LinearConfig
from augscale.evaluation.ridge import out_of_fold_scores
from augscale.evaluation.selection import macro_auroc
from augscale.statistics.stratified_bootstrap import weighted_areas
from benchmarks.evidence.data import OutcomeData
from benchmarks.evidence.settings import MeasureSettings

Floats = npt.NDArray[np.float64]
Floats32 = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

PROTOCOLS = ("linear", "knn", "cv")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Macro one-vs-rest areas over the classes.

    auroc, aupr: in [0, 1], chance 0.5 for the first. draws: float64, shape (R,), the AUROC on resampled images.
    chosen: the penalty or number of neighbours.
    scores: of `cv`, float64, shape (repeats, N, K): every image judged by models that have not seen it.
    """

    auroc: float
    aupr: float
    draws: Floats
    chosen: float
    scores: Floats | None = None


def measure_outcomes(
    features: Floats32, data: OutcomeData, settings: MeasureSettings, *, draws: bool
) -> dict[str, Outcome]:
    """The outcomes of one dataset that the settings name.

    Args:
        features: float32, shape (N, D), of all its images.
        draws: whether to compute the AUROC on resampled images too.
    """
    columns = slice(None) if draws else slice(1)
    train, val, test = (data.part(split) for split in ("train", "val", "test"))
    weights, labels = data.test_weights[:, columns], data.labels
    found = {}
    if "linear" in settings.protocols:
        scores, penalty = linear_scores(features, labels, train, val, test, data.num_classes, settings)
        found["linear"] = _outcome(*macro_areas(labels[test], scores, weights), penalty)
    if "knn" in settings.protocols:
        votes, neighbours = neighbour_scores(features, labels, train, val, test, data.num_classes, settings)
        found["knn"] = _outcome(*macro_areas(labels[test], votes, weights), neighbours)
    if "cv" in settings.protocols:
        repeats, ridge = out_of_fold_scores(features, data.labels, data.folds)
        areas = [macro_areas(labels, one, data.all_weights[:, columns]) for one in repeats]
        auroc, aupr = np.mean(areas, axis=0)
        found["cv"] = _outcome(auroc, aupr, ridge, repeats)
    return found


def _outcome(auroc: Floats, aupr: Floats, chosen: float, scores: Floats | None = None) -> Outcome:
    return Outcome(auroc=float(auroc[0]), aupr=float(aupr[0]), draws=auroc[1:], chosen=chosen, scores=scores)


def macro_areas(labels: Integers, scores: Floats, weights: npt.NDArray[np.float32]) -> tuple[Floats, Floats]:
    """AUROC and average precision of each class against the rest, averaged over the classes, for every column.

    Args:
        labels: int64, shape (N,).
        scores: float64, shape (N, K).
        weights: shape (N, 1 + R).
    Returns:
        Two float64 arrays, shape (1 + R,).
    """
    areas = [weighted_areas(labels == number, scores[:, number], weights) for number in np.unique(labels)]
    return np.mean([auroc for auroc, _ in areas], axis=0), np.mean([aupr for _, aupr in areas], axis=0)


def linear_scores(
    features: Floats32,
    labels: Integers,
    train: Integers,
    val: Integers,
    test: Integers,
    num_classes: int,
    settings: MeasureSettings,
) -> tuple[Floats, float]:
    """Class probabilities of the test images and the C that was best on validation, the smallest of equals."""
    config = LinearConfig(inverse_penalties=settings.inverse_penalties, tolerance=settings.tolerance)
    scaler = StandardScaler().fit(features[train].astype(np.float64))
    standard = scaler.transform(features.astype(np.float64))
    models = fit_path(standard[train], labels[train], None, config)
    scores = []
    for model in models:
        every = np.zeros((len(features), num_classes))
        every[:, model.classes] = model.probabilities(standard)
        scores.append(every)
    best = int(np.argmax([float(macro_auroc(labels[val], one[val])) for one in scores]))
    return scores[best][test], config.inverse_penalties[best]


def neighbour_scores(
    features: Floats32,
    labels: Integers,
    train: Integers,
    val: Integers,
    test: Integers,
    num_classes: int,
    settings: MeasureSettings,
) -> tuple[Floats, float]:
    """Shares of the neighbours' votes for the test images, and the number of neighbours that was best on validation."""
    unit = unit_rows(features)
    offered = [count for count in settings.neighbours if count <= len(train)] or [len(train)]

    def scores(rows: Integers, neighbours: int) -> Floats:
        return knn_scores(
            unit[train],
            labels[train],
            unit[rows],
            neighbours=neighbours,
            temperature=KnnConfig().temperature,
            num_classes=num_classes,
        )

    best = int(np.argmax([float(macro_auroc(labels[val], scores(val, count))) for count in offered]))
    return scores(test, offered[best]), float(offered[best])
