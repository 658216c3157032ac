"""Metrics of one test set, the paper's and the standard ones, from labels and class scores.

scikit-learn computes every metric that it has. A class without a test image is left out of macro means, with a note; a
metric that is undefined on the test set is None, with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn import config_context
from sklearn import metrics as sk

from augscale.errors import DataError
from augscale.records.evaluation import ReliabilityBin
from augscale.records.metrics import EVALUATION_METRICS
from augscale.statistics.arrays import Floats, Integers

SUM_TOLERANCE = 1e-3
"""Largest deviation of the sum of an image's scores from 1; allows for float16 features and rounded tables."""

CALIBRATION_BINS = 15


@dataclass(frozen=True, kw_only=True)
class ClassMetrics:
    """One class against the rest."""

    name: str
    support: int
    """Test images of the class."""
    auroc: float | None
    aupr: float | None
    recall: float | None


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """The metrics of one test set."""

    values: Mapping[str, float | None]
    """All keys of EVALUATION_METRICS; None where a metric is undefined."""
    reasons: Mapping[str, str]
    """Reason of each undefined metric."""
    per_class: tuple[ClassMetrics, ...]
    notes: tuple[str, ...]


def evaluate_scores(
    labels: npt.ArrayLike, scores: npt.ArrayLike, classes: Sequence[str], *, ordered: bool = False
) -> Metrics:
    """All metrics of one set of predictions.

    Matches scikit-learn: `roc_auc_score(multi_class="ovr", average="macro")` and, over the classes present,
    `average_precision_score`, `recall_score`, `f1_score` (zero_division 0), `cohen_kappa_score(weights="quadratic")`.

    Args:
        labels: whole numbers in [0, K), shape (N,); class 0 is the normal one.
        scores: shape (N, K), each in [0, 1], rows sum to 1.
        classes: K names.
        ordered: True if class numbers are grades; otherwise kappa is None.
    Raises:
        DataError: shapes do not fit, a label is outside the classes, or a score is not finite or not a probability.
    """
    labels, scores = checked(labels, scores, classes)
    # Checked above; scikit-learn would check them again some ten times per class.
    with config_context(assume_finite=True, skip_parameter_validation=True):
        return _evaluate(labels, scores, classes, ordered)


def _evaluate(labels: Integers, scores: Floats, classes: Sequence[str], ordered: bool) -> Metrics:
    per_class = _per_class(labels, scores, classes)
    if len(labels) == 0:
        reason = "there are no test images"
        reasons = dict.fromkeys(EVALUATION_METRICS, reason)
        return Metrics(values=dict.fromkeys(EVALUATION_METRICS), reasons=reasons, per_class=per_class, notes=(reason,))
    present = np.flatnonzero([c.support for c in per_class])
    predicted = scores.argmax(axis=1)
    values: dict[str, float | None] = dict.fromkeys(EVALUATION_METRICS)
    reasons = {}
    values["accuracy"] = float(sk.accuracy_score(labels, predicted))
    values["sensitivity"] = float(sk.recall_score(labels, predicted, labels=present, average="macro", zero_division=0))
    values["f1"] = float(sk.f1_score(labels, predicted, labels=present, average="macro", zero_division=0))
    values["ece"] = expected_calibration_error(reliability(labels, scores))
    if len(present) > 1:
        values["auroc"] = float(np.mean([per_class[k].auroc for k in present]))
        values["aupr"] = float(np.mean([per_class[k].aupr for k in present]))
    else:
        only = f"every test image is of class {classes[present[0]]}"
        reasons["auroc"] = f"{only}, so there are no pairs to rank"
        reasons["aupr"] = f"{only}, so average precision is 1 whatever the scores"
    without_first = present[present > 0]
    if len(without_first):
        recalls = sk.recall_score(labels, predicted, labels=without_first, average=None, zero_division=0)
        values["paper_sensitivity"] = float(np.mean(recalls))
        hits = [np.mean((labels == k) == (predicted == k)) for k in without_first]
        values["released_accuracy"] = float(np.mean(hits))
    else:
        reason = f"the paper skips class 0 ({classes[0]}) and no other class has a test image"
        reasons["paper_sensitivity"] = reasons["released_accuracy"] = reason
    values["kappa"], reason = _kappa(labels, predicted, len(classes), ordered)
    if reason:
        reasons["kappa"] = reason
    return Metrics(values=values, reasons=reasons, per_class=per_class, notes=_absent_note(classes, present))


def checked(labels: npt.ArrayLike, scores: npt.ArrayLike, classes: Sequence[str]) -> tuple[Integers, Floats]:
    """Labels and scores as int64 and float64 arrays that fit each other.

    Raises:
        DataError: see `evaluate_scores`.
    """
    label_array, score_array = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    k = len(classes)
    if label_array.ndim != 1 or score_array.shape != (len(label_array), k):
        raise DataError(
            f"scores have shape {score_array.shape} for labels of shape {label_array.shape} and {k} classes; "
            f"expected (N,) labels and (N, {k}) scores"
        )
    if k < 2 or len(set(classes)) < k:
        raise DataError(f"classes {', '.join(classes) or '(none)'}: expected at least two different names")
    if len(label_array) and not np.issubdtype(label_array.dtype, np.integer):
        raise DataError(f"labels are of type {label_array.dtype}; expected whole numbers from 0 to {k - 1}")
    label_array = label_array.astype(np.int64)
    outside = label_array[(label_array < 0) | (label_array >= k)]
    if len(outside):
        raise DataError(f"label {outside[0]} is not a class; expected 0 to {k - 1} ({', '.join(classes)})")
    broken = np.flatnonzero(~np.isfinite(score_array).all(axis=1))
    if len(broken):
        raise DataError(f"scores of {len(broken)} of {len(score_array)} images are not finite (first: row {broken[0]})")
    sums = np.abs(score_array.sum(axis=1) - 1)
    if len(sums) and (score_array.min() < 0 or sums.max() > SUM_TOLERANCE):
        row = int(np.argmax(np.maximum(sums, -score_array.min(axis=1))))
        raise DataError(
            f"scores of row {row} sum to {score_array[row].sum():.4g} with smallest {score_array[row].min():.4g}; "
            "expected probabilities: none below 0, sum 1"
        )
    return label_array, score_array


def reliability(labels: Integers, scores: Floats, bins: int = CALIBRATION_BINS) -> tuple[ReliabilityBin, ...]:
    """Confidence and accuracy in equal bins of the highest score; empty bins are kept.

    The bins of `sklearn.calibration.calibration_curve(strategy="uniform")` for "the prediction is right".
    """
    edges = np.linspace(0, 1, bins + 1)
    confidence = scores.max(axis=1, initial=0.0)
    right = scores.argmax(axis=1) == labels if len(labels) else np.zeros(0, dtype=bool)
    which = np.searchsorted(edges[1:-1], confidence)
    found = []
    for index in range(bins):
        inside = which == index
        count = int(inside.sum())
        found.append(
            ReliabilityBin(
                low=float(edges[index]),
                high=float(edges[index + 1]),
                count=count,
                confidence=float(confidence[inside].mean()) if count else None,
                accuracy=float(right[inside].mean()) if count else None,
            )
        )
    return tuple(found)


def expected_calibration_error(bins: Sequence[ReliabilityBin]) -> float | None:
    """Mean of |confidence - accuracy| over images (Guo et al., ICML 2017, Eq. 3); None without images."""
    total = sum(b.count for b in bins)
    gaps = [
        b.count * abs(b.confidence - b.accuracy) for b in bins if b.confidence is not None and b.accuracy is not None
    ]
    return sum(gaps) / total if total else None


def roc_points(labels: Integers, scores: Floats, index: int) -> tuple[Floats, Floats] | None:
    """False and true positive rates of one class against the rest, rising; None where either side is empty."""
    positive = labels == index
    if positive.all() or not positive.any():
        return None
    false_rate, true_rate, _ = sk.roc_curve(positive, scores[:, index])
    return false_rate, true_rate


def pr_points(labels: Integers, scores: Floats, index: int) -> tuple[Floats, Floats] | None:
    """Recall (rising) and precision of one class against the rest; None where either side is empty."""
    positive = labels == index
    if positive.all() or not positive.any():
        return None
    precision, recall, _ = sk.precision_recall_curve(positive, scores[:, index])
    return recall[::-1], precision[::-1]


def _per_class(labels: Integers, scores: Floats, classes: Sequence[str]) -> tuple[ClassMetrics, ...]:
    predicted = scores.argmax(axis=1) if len(labels) else labels
    found = []
    for index, name in enumerate(classes):
        positive = labels == index
        support, hits = int(positive.sum()), int((positive & (predicted == index)).sum())
        both_sides = 0 < support < len(labels)
        found.append(
            ClassMetrics(
                name=name,
                support=support,
                auroc=float(sk.roc_auc_score(positive, scores[:, index])) if both_sides else None,
                aupr=float(sk.average_precision_score(positive, scores[:, index])) if both_sides else None,
                recall=hits / support if support else None,
            )
        )
    return tuple(found)


def _absent_note(classes: Sequence[str], present: npt.NDArray[np.intp]) -> tuple[str, ...]:
    absent = [name for index, name in enumerate(classes) if index not in present]
    if not absent:
        return ()
    names = ", ".join(absent[:5]) + (f" and {len(absent) - 5} more" if len(absent) > 5 else "")
    return (f"no test image of class {names}: means over classes are over the {len(present)} present",)


def _kappa(labels: Integers, predicted: Integers, k: int, ordered: bool) -> tuple[float | None, str]:
    if not ordered:
        return None, "the classes are not grades in an order"
    if len(set(labels.tolist()) | set(predicted.tolist())) == 1:
        return None, "labels and predictions are all of one class, so there is no chance agreement to exceed"
    return float(sk.cohen_kappa_score(labels, predicted, labels=list(range(k)), weights="quadratic")), ""
