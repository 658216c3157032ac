"""How well few labels judge a network: scores from 10, 25, ... drawn images, and the outcome on all the others.

The draws are the same for every run, so the runs can be ranked by each draw.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from augscale.errors import DataError
from augscale.evaluation.neighbours import knn_scores, unit_rows
from augscale.evaluation.protocol_config import KnnConfig
from augscale.evaluation.ridge import draw_folds, out_of_fold_scores, patients_by_class
from augscale.evaluation.selection import macro_auroc
from augscale.seeding import derive_seed
from augscale.statistics.stratified_bootstrap import weighted_areas
from benchmarks.evidence.data import OutcomeData
from benchmarks.evidence.settings import MeasureSettings

Floats = npt.NDArray[np.float64]
Floats32 = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

VALUES = ("cv", "knn", "others")
"""Scores from the drawn images: ridge regression as in `probe.score = "cv-auroc"`, one repeat, and nearest neighbors;
and the outcome: AUROC of the study's `cv` on images of patients that were not drawn."""
_ATTEMPTS = 100
_NEIGHBOURS = 5


def drawn_images(data: OutcomeData, size: int, draw: int) -> Integers:
    """Rows of one draw: all images of random patients, at least `size` images, two classes of two patients or more.

    Raises:
        DataError: no such draw was found, or nothing is left to judge by.
    """
    for attempt in range(_ATTEMPTS):
        rng = np.random.default_rng(derive_seed(0, "labels", data.name, size, draw, attempt))
        place = rng.permutation(int(data.groups.max()) + 1)[data.groups]
        order = np.argsort(place, kind="stable")
        last = place[order[min(size, len(order)) - 1]]
        rows = np.flatnonzero(place <= last).astype(np.int64)
        counts = patients_by_class(data.labels[rows], data.groups[rows])
        if (counts >= 2).sum() >= 2 and len(np.unique(np.delete(data.labels, rows))) >= 2:
            return rows
    raise DataError(f"{data.name}: {len(data.labels)} images; no draw of {size} has two classes and leaves two")


def label_scores(
    features: Floats32, data: OutcomeData, settings: MeasureSettings, outcome: Floats | None = None
) -> dict[int, dict[str, list[float]]]:
    """Scores of one network from few labels, and its outcome on the other images.

    Args:
        features: float32, shape (N, D), of all images of the dataset.
        data: the dataset.
        settings: `label_sizes` (sizes that leave nothing are left out) and `label_draws`.
        outcome: `Outcome.scores` of `cv` with the same features; None: computed.
    Returns:
        By size: by VALUES, one AUROC per draw.
    """
    if outcome is None:
        outcome, _ = out_of_fold_scores(features, data.labels, data.folds)
    unit = unit_rows(features)
    found: dict[int, dict[str, list[float]]] = {}
    for size in settings.label_sizes:
        if 2 * size > len(data.labels):
            continue
        values: dict[str, list[float]] = {name: [] for name in VALUES}
        for draw in range(settings.label_draws):
            rows = drawn_images(data, size, draw)
            for name, value in _one_draw(features, unit, data, rows, outcome).items():
                values[name].append(value)
        found[size] = values
    return found


def _one_draw(
    features: Floats32, unit: Floats32, data: OutcomeData, rows: Integers, outcome: Floats
) -> Mapping[str, float]:
    labels, groups = data.labels[rows], data.groups[rows]
    others = np.setdiff1d(np.arange(len(data.labels)), rows)
    scored = np.flatnonzero(patients_by_class(labels, groups) >= 2)
    ridge, _ = out_of_fold_scores(features[rows], labels, draw_folds(labels, groups, repeats=1))
    votes = _neighbour_votes(unit[rows], labels, groups)
    return {
        "cv": _auroc(labels, ridge[0], scored),
        "knn": _auroc(labels, votes, scored),
        "others": float(np.mean(macro_auroc(data.labels[others], outcome[:, others]))),
    }


def _auroc(labels: Integers, scores: Floats, classes: Integers) -> float:
    """Macro AUROC over some classes."""
    ones = np.ones((len(labels), 1))
    return float(np.mean([weighted_areas(labels == k, scores[:, k], ones)[0][0] for k in classes]))


def _neighbour_votes(unit: Floats32, labels: Integers, groups: Integers) -> Floats:
    """Votes of the nearest images of other patients, float64, shape (N, K)."""
    num_classes = int(labels.max()) + 1
    votes = np.empty((len(labels), num_classes))
    for group in np.unique(groups):
        own = groups == group
        votes[own] = knn_scores(
            unit[~own],
            labels[~own],
            unit[own],
            neighbours=_NEIGHBOURS,
            temperature=KnnConfig().temperature,
            num_classes=num_classes,
        )
    return votes
