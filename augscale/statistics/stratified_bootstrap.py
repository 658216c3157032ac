"""Bootstrap: draws of images, patients or trials, percentile intervals, and the metrics of all resamples at once.

Every checkpoint, protocol and seed that is scored on one test set gets the same resamples.

Images are drawn with replacement *within their class*, so that every class keeps its number of test images and none
vanishes; macro AUROC would otherwise be undefined in many resamples of a small set. Where patients are known, whole
patients are drawn (cluster bootstrap, Field & Welsh, J. R. Stat. Soc. B 2007), within strata of patients whose images
show the same set of classes, which keeps every class too. The intervals are therefore conditional on the class
frequencies of the test set.

Of a class with n images, n - 1 are drawn, and each counts n / (n - 1) times (Rao & Wu, J. Am. Stat. Assoc. 1988).
Drawing n would give only (n - 1) / n of the variance, too little in small classes. A class with one image (a stratum
with one patient) contributes no spread at all: such intervals are too narrow, and `resample_notes` says so.

Resamples are weights (N, B), so a metric of all B resamples is a few array operations: sorting happens once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from augscale.seeding import counter_uniforms, derive_seed
from augscale.statistics.arrays import Floats, Integers

RESAMPLES = 1000
RESAMPLED = ("auroc", "aupr", "paper_sensitivity", "sensitivity", "f1", "accuracy", "released_accuracy", "kappa")
"""Metrics that get an interval over test images."""
FEW = 5
"""With fewer images (patients), the contribution of a class to the spread is poorly known."""


def draw_counts(seed: int, resamples: int, num_units: int, draws: int | None = None) -> Floats:
    """Draws units with replacement and counts them in each resample.

    Args:
        seed: seed of this draw; row b depends on it, on b and on the numbers of units and draws only.
        resamples: B.
        num_units: U.
        draws: per resample; None draws as many as there are units.
    Returns:
        float64 whole numbers, shape (B, U), rows sum to the number of draws.
    """
    rows = np.arange(resamples)
    uniforms = counter_uniforms(seed, rows, num_units if draws is None else draws)
    cells = rows[:, None] * num_units + (uniforms * num_units).astype(np.int64)
    counts = np.bincount(cells.ravel(), minlength=resamples * num_units)
    return counts.reshape(resamples, num_units).astype(np.float64)


def resample_weights(
    labels: Integers, groups: Integers | None = None, *, resamples: int = RESAMPLES, seed: int = 0
) -> Floats:
    """Weight of each test image in each resample.

    Args:
        labels: int64, shape (N,).
        groups: patient of each image, int64, shape (N,); None draws single images.
        resamples: B.
        seed: any integer. Column b depends on it, the labels and the groups only, not on B.
    Returns:
        float64, shape (N, B), at least 0. Images of one patient have equal weights.
    """
    unit_of, strata = _units(labels, groups)
    weights = np.zeros((len(strata), resamples))
    for stratum in range(strata.max(initial=-1) + 1):
        members = np.flatnonzero(strata == stratum)
        draws = max(len(members) - 1, 1)
        counts = draw_counts(derive_seed(seed, "test images", stratum), resamples, len(members), draws)
        weights[members] = counts.T * (len(members) / draws)
    return weights[unit_of]


def resample_notes(labels: Integers, groups: Integers | None, classes: Sequence[str]) -> tuple[str, ...]:
    """Names the classes with too few test images for a reliable interval; empty if there are none."""
    unit_of, _ = _units(labels, groups)
    unit = "images" if groups is None else "patients"
    few = []
    for index, name in enumerate(classes):
        count = len(np.unique(unit_of[labels == index]))
        if 0 < count < FEW:
            few.append(f"{name} ({count})")
    if not few:
        return ()
    shown = ", ".join(few[:5]) + (f" and {len(few) - 5} more classes" if len(few) > 5 else "")
    return (f"fewer than {FEW} test {unit} of {shown}: intervals over test images are too narrow there",)


def resampled_metrics(labels: Integers, scores: Floats, weights: Floats, *, ordered: bool = False) -> dict[str, Floats]:
    """The metrics of every resample; with all weights 1 they equal those of `evaluate_scores`.

    Args:
        labels: int64, shape (N,).
        scores: float64, shape (N, K).
        weights: from `resample_weights` for the same labels, shape (N, B).
        ordered: True to compute kappa.
    Returns:
        float64 arrays of shape (B,) by metric of RESAMPLED; NaN where a metric is undefined.
    """
    k = scores.shape[1]
    present = np.unique(labels)
    undefined = np.full(weights.shape[1], np.nan)
    found = dict.fromkeys(RESAMPLED, undefined)
    if len(present) > 1:
        curves = [weighted_areas(labels == c, scores[:, c], weights) for c in present]
        found["auroc"] = np.mean([auroc for auroc, _ in curves], axis=0)
        found["aupr"] = np.mean([aupr for _, aupr in curves], axis=0)
    if len(present):
        confusion = _confusions(labels, scores.argmax(axis=1), weights, k)
        found |= _from_confusions(confusion, present, ordered=ordered)
    return found


def weighted_areas(positive: npt.NDArray[np.bool_], scores: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Weighted AUROC and average precision of one class against the rest, for every column of weights.

    Equal to scikit-learn's `roc_auc_score` and `average_precision_score` with `sample_weight`.

    Args:
        positive: bool, shape (N,), both values occur.
        scores: shape (N,), higher means more likely positive.
        weights: shape (N, B), at least 0, with some weight on both sides.
    Returns:
        Two float64 arrays of shape (B,).
    """
    order = np.argsort(-scores, kind="stable")
    positive_in_order = positive[order]
    # One threshold lies below each run of equal scores; only runs with a positive image add to either area.
    ends = np.flatnonzero(np.diff(scores[order], append=-np.inf))
    admitted = np.cumsum(positive_in_order)[ends]
    useful = np.flatnonzero(np.diff(admitted, prepend=0))
    above = np.concatenate(([-1], ends[:-1]))[useful]
    counts = np.cumsum(weights[order], axis=0, dtype=np.float64)
    count = counts[ends[useful]]
    count_above = np.where((above >= 0)[:, None], counts[above], 0.0)
    hits = np.cumsum(weights[order[positive_in_order]], axis=0, dtype=np.float64)[admitted[useful] - 1]
    gains = np.diff(hits, axis=0, prepend=0.0)
    positives = hits[-1]
    negatives = counts[-1] - positives
    # Negatives with a lower score, those with an equal one counted half.
    beaten = negatives - 0.5 * (count + count_above - 2 * hits + gains)
    auroc = np.einsum("ib,ib->b", gains, beaten) / (positives * negatives)
    aupr = np.einsum("ib,ib->b", gains, hits / np.where(count > 0, count, 1.0)) / positives
    return auroc, aupr


def percentile_interval(replicates: Floats) -> tuple[float, float] | None:
    """The 95 % percentile interval; None without replicates, or if one is not finite."""
    if not len(replicates) or not np.isfinite(replicates).all():
        return None
    low, high = np.percentile(replicates, (2.5, 97.5))
    return float(low), float(high)


def bootstrap_p(differences: Floats) -> float | None:
    """Two-sided p-value of "no difference" from the replicates of a paired difference, by the percentile method.

    Twice the smaller share of replicates on one side of 0; one replicate is added, so that p is at least 2 / (B + 1). 1
    if all replicates are 0; None if the metric is undefined.
    """
    if not np.isfinite(differences).all() or not len(differences):
        return None
    side = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
    return min(1.0, 2 * (side + 1) / (len(differences) + 1))


def _units(labels: Integers, groups: Integers | None) -> tuple[Integers, Integers]:
    """Unit (image or patient) of each image, shape (N,), and stratum of each unit, shape (U,)."""
    if groups is None:
        _, strata = np.unique(labels, return_inverse=True)
        return np.arange(len(labels)), strata.astype(np.int64)
    _, unit_of = np.unique(groups, return_inverse=True)
    shown: list[set[int]] = [set() for _ in range(unit_of.max(initial=-1) + 1)]
    for unit, label in zip(unit_of.tolist(), labels.tolist(), strict=True):
        shown[unit].add(label)
    numbers: dict[tuple[int, ...], int] = {}
    strata = np.array([numbers.setdefault(tuple(sorted(s)), len(numbers)) for s in shown], dtype=np.int64)
    return unit_of.astype(np.int64), strata


def _confusions(labels: Integers, predicted: Integers, weights: Floats, k: int) -> Floats:
    """Confusion matrices, shape (B, K, K): label, prediction."""
    cells = labels * k + predicted
    used, column = np.unique(cells, return_inverse=True)
    counts = np.stack([weights[column == c].sum(axis=0, dtype=np.float64) for c in range(len(used))], axis=1)
    confusion = np.zeros((weights.shape[1], k * k))
    confusion[:, used] = counts
    return confusion.reshape(-1, k, k)


def _from_confusions(confusion: Floats, present: Integers, *, ordered: bool) -> dict[str, Floats]:
    hits = np.einsum("bkk->bk", confusion)
    of_label, of_prediction = confusion.sum(axis=2), confusion.sum(axis=1)
    total = of_label.sum(axis=1)
    recall = hits[:, present] / of_label[:, present]
    f1 = 2 * hits[:, present] / (of_label + of_prediction)[:, present]
    found = {
        "accuracy": hits.sum(axis=1) / total,
        "sensitivity": recall.mean(axis=1),
        "f1": f1.mean(axis=1),
    }
    later = present[present > 0]
    if len(later):
        found["paper_sensitivity"] = recall[:, present > 0].mean(axis=1)
        wrong = (of_label + of_prediction - 2 * hits)[:, later] / total[:, None]
        found["released_accuracy"] = 1 - wrong.mean(axis=1)
    if ordered:
        grades = np.arange(confusion.shape[1])
        costs = (grades[:, None] - grades[None, :]).astype(np.float64) ** 2
        observed = np.einsum("bij,ij->b", confusion, costs)
        expected = np.einsum("bi,bj,ij->b", of_label, of_prediction, costs) / total
        possible = expected > 0
        found["kappa"] = np.where(possible, 1 - observed / np.where(possible, expected, 1.0), np.nan)
    return found
