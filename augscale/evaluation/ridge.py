"""Cross-validated ridge regression of classes on frozen features: an accuracy with little noise from few labels.

Every labelled image is predicted once per repeat by a regression that has not seen its patient, so all images are
judged, not only a validation split. Folds are fixed by the labels and patients alone: all networks share them.
"""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from augscale.statistics.arrays import Floats, Floats32, Integers

FOLDS = 5
REPEATS = 3
PENALTIES = tuple(float(10**exponent) for exponent in np.arange(-2.0, 5.1, 0.5))
"""Of the sum of squares of standardized features; the best by generalized cross-validation is used."""
_SMALLEST_DEVIATION = 1e-12


def patients_by_class(labels: Integers, groups: Integers) -> Integers:
    """Number of patients with an image of each class, int64, shape (K,)."""
    pairs = np.unique(np.stack([labels, groups], axis=1), axis=0)
    return np.bincount(pairs[:, 0], minlength=int(labels.max()) + 1).astype(np.int64)


def draw_folds(labels: Integers, groups: Integers, *, folds: int = FOLDS, repeats: int = REPEATS) -> Integers:
    """Folds that keep class shares as well as whole patients allow (scikit-learn's `StratifiedGroupKFold`).

    Fewer folds are drawn if the second most frequent class has fewer patients than `folds`.

    Args:
        labels: int64, shape (N,); at least two classes of two patients each.
        groups: int64, shape (N,): patients.
    Returns:
        int64, shape (repeats, N): the fold in which each image is held out.
    """
    count = min(folds, int(np.sort(patients_by_class(labels, groups))[-2]))
    found = np.empty((repeats, len(labels)), dtype=np.int64)
    for repeat in range(repeats):
        splitter = StratifiedGroupKFold(count, shuffle=True, random_state=repeat)
        with warnings.catch_warnings():
            # Some folds then lack a class with fewer images than folds, which ridge regression allows.
            warnings.filterwarnings("ignore", message="The least populated class")
            for number, (_, held_out) in enumerate(splitter.split(labels, labels, groups)):
                found[repeat, held_out] = number
    return found


def out_of_fold_scores(features: Floats32 | Floats, labels: Integers, folds: Integers) -> tuple[Floats, float]:
    """Scores of all images by regressions that have not seen their fold.

    Args:
        features: float, shape (N, D).
        labels: int64, shape (N,), class numbers from 0.
        folds: from `draw_folds`, shape (R, N).
    Returns:
        float64, shape (R, N, K), and the median of the chosen penalties.
    """
    points = features.astype(np.float64)
    targets = np.eye(int(labels.max()) + 1)[labels]
    scores = np.empty((len(folds), *targets.shape))
    penalties = []
    for repeat, numbers in enumerate(folds):
        for number in np.unique(numbers):
            held_out = numbers == number
            scores[repeat, held_out], penalty = ridge_scores(points[~held_out], targets[~held_out], points[held_out])
            penalties.append(penalty)
    return scores, float(np.median(penalties))


def ridge_scores(train: Floats, targets: Floats, queries: Floats) -> tuple[Floats, float]:
    """Ridge regression of one-hot classes on standardized features.

    The penalty is the one of PENALTIES with the smallest generalized cross-validation error on the training images
    (Golub, Heath & Wahba 1979), the same for all classes; the intercept is not penalized. With fewer images than
    features the equal dual problem is solved, which is smaller.

    Args:
        train, queries: float64, shapes (N, D) and (Q, D).
        targets: float64, shape (N, K).
    Returns:
        float64, shape (Q, K), and the penalty.
    """
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    scale = np.where(deviation > _SMALLEST_DEVIATION, deviation, 1.0)
    x, y = (train - mean) / scale, targets - targets.mean(axis=0)
    dual = len(x) < x.shape[1]
    values, vectors = np.linalg.eigh(x @ x.T if dual else x.T @ x)
    values = np.maximum(values, 0.0)[:, None]
    penalties = np.array(PENALTIES)
    freedom = 1 + (values / (values + penalties)).sum(axis=0)
    # Coefficients in the eigenbasis, shape (min(N, D), K, penalties): of the images in the dual, else of the features.
    projected = vectors.T @ (y if dual else x.T @ y)
    shrunk = projected[:, :, None] / (values[:, :, None] + penalties)
    gain = values[:, :, None] if dual else 1.0
    explained = gain * (2 * projected[:, :, None] * shrunk - values[:, :, None] * shrunk**2)
    residual = np.square(y).sum() - explained.sum(axis=(0, 1))
    best = int(np.argmin(residual / np.maximum(len(x) - freedom, 1e-9) ** 2))
    weights = vectors @ shrunk[:, :, best]
    if dual:
        weights = x.T @ weights
    scores: Floats = ((queries - mean) / scale) @ weights + targets.mean(axis=0)
    return scores, float(penalties[best])
