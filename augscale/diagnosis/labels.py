"""Agreement of frozen embeddings with labels, without training: nearest neighbors and silhouette.

Images without a label (None) are left out. Images of the same patient are never neighbors: they would predict their own
patient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from augscale.errors import DataError
from augscale.scoring.distances import BLOCK_ROWS, distance_matrix, unit_rows
from augscale.system.matmul import matmul

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

NUM_NEIGHBORS = 20
TEMPERATURE = 0.07
"""Temperature of the vote, as in DINO's k-NN evaluation."""


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """The images that have a label."""

    rows: Integers
    """int64, shape (L,), rising: rows of the labelled images."""
    classes: tuple[str, ...]
    labels: Integers
    """int64, shape (L,): index into `classes`."""

    @classmethod
    def of(cls, labels: Sequence[Any] | npt.NDArray[np.object_]) -> Labelled:
        rows = [row for row, label in enumerate(labels) if label is not None]
        names = [str(labels[row]) for row in rows]
        classes, numbers = np.unique(names, return_inverse=True) if names else (np.empty(0, str), np.empty(0, int))
        return cls(
            rows=np.array(rows, dtype=np.int64),
            classes=tuple(str(name) for name in classes),
            labels=numbers.astype(np.int64),
        )

    @property
    def sizes(self) -> Integers:
        """Images per class."""
        return np.bincount(self.labels, minlength=len(self.classes)).astype(np.int64)


def knn_votes(
    embeddings: npt.ArrayLike,
    labels: npt.ArrayLike,
    groups: npt.ArrayLike | None = None,
    *,
    k: int = NUM_NEIGHBORS,
    temperature: float = TEMPERATURE,
) -> Floats:
    """Leave-one-out vote of the k nearest neighbors by cosine, weighted exp(cosine / 0.07).

    The k-NN classifier of Wu et al., CVPR 2018, section 3.4, which DINO's evaluation uses.

    Args:
        embeddings: finite, shape (N, D).
        labels: int64, shape (N,), in [0, C).
        groups: shape (N,): patients, whose other images do not vote; None: every image is its own.
        k: number of neighbors; fewer if there are fewer images of other patients.
    Returns:
        float64, shape (N, C), rows add up to 1: the share of the vote for each class. All classes have the same share
        in a row without any neighbor.
    """
    unit, _ = unit_rows(np.asarray(embeddings, dtype=np.float64))
    own_labels = np.asarray(labels, dtype=np.int64)
    group_ids = np.arange(len(unit)) if groups is None else np.asarray(groups)
    num_classes = int(own_labels.max()) + 1
    votes = np.full((len(unit), num_classes), 1 / num_classes)
    k = min(k, len(unit) - 1)
    for begin in range(0, len(unit), BLOCK_ROWS) if k else ():
        part = slice(begin, begin + BLOCK_ROWS)
        cosines = matmul(unit[part], np.ascontiguousarray(unit.T))
        cosines[group_ids[part, None] == group_ids[None]] = -np.inf
        nearest = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
        found = np.take_along_axis(cosines, nearest, axis=1)
        best = found[:, :1]
        some = np.isfinite(best[:, 0])
        # Relative to the nearest, which keeps exp within range and does not change the shares.
        strength = np.exp((found - np.where(np.isfinite(best), best, 0.0)) / temperature)
        cells = np.arange(len(found))[:, None] * num_classes + own_labels[nearest]
        tally = np.bincount(cells.ravel(), strength.ravel(), minlength=len(found) * num_classes)
        tally = tally.reshape(-1, num_classes)[some]
        votes[begin : begin + len(found)][some] = tally / tally.sum(axis=1, keepdims=True)
    return votes


def knn_correct(votes: Floats, labels: npt.ArrayLike) -> Floats:
    """1 for each image whose own class got the largest share of the vote, else 0; the mean is the accuracy.

    Args:
        votes, labels: see `knn_votes`.
    Returns:
        float64, shape (N,). Best mean 1; chance is the share of the largest class. A tie goes to the first class.
    """
    return np.asarray((votes.argmax(axis=1) == np.asarray(labels)).astype(np.float64))


def macro_auroc(scores: Floats, labels: npt.ArrayLike) -> float | None:
    """One-vs-rest AUROC averaged over the classes (`sklearn.metrics.roc_auc_score`, multi_class="ovr", macro).

    Args:
        scores: shape (N, C), higher for the class.
        labels: int64, shape (N,).
    Returns:
        In [0, 1]; best 1, chance 0.5. Mean over the classes that have both members and others; None if none has.
    """
    from scipy.stats import rankdata  # half a second to import: not for searches, which have no labels

    class_ids = np.asarray(labels, dtype=np.int64)
    areas = []
    for number in range(scores.shape[1]):
        members = class_ids == number
        count = int(members.sum())
        if 0 < count < len(class_ids):
            ranks = rankdata(scores[:, number])[members].sum()
            areas.append((ranks - count * (count + 1) / 2) / (count * (len(class_ids) - count)))
    return float(np.mean(areas)) if areas else None


def resampled_macro_auroc(scores: Floats, labels: npt.ArrayLike, weights: Floats) -> Floats:
    """`macro_auroc` with weighted images, for many resamples at once.

    Args:
        scores, labels: see `macro_auroc`.
        weights: at least 0, shape (B, N).
    Returns:
        float64, shape (B,); nan for a resample in which no class has both members and others.
    """
    class_ids = np.asarray(labels, dtype=np.int64)
    total, used = np.zeros(len(weights)), np.zeros(len(weights))
    for number in range(scores.shape[1]):
        order = np.argsort(scores[:, number], kind="stable")
        starts = np.flatnonzero(np.diff(scores[order, number], prepend=np.nan) != 0)
        times, members = weights[:, order], class_ids[order] == number
        inside = np.add.reduceat(times * members, starts, axis=1)
        outside = np.add.reduceat(times * ~members, starts, axis=1)
        below = np.cumsum(outside, axis=1) - outside / 2
        combinations = inside.sum(axis=1) * outside.sum(axis=1)
        known = combinations > 0
        total[known] += (inside * below).sum(axis=1)[known] / combinations[known]
        used += known
    return np.where(used > 0, total / np.maximum(used, 1), np.nan)


def class_silhouette_values(embeddings: npt.ArrayLike, labels: npt.ArrayLike) -> Floats:
    """Silhouette of each image with label classes as clusters (`sklearn.metrics.silhouette_samples`).

    Args:
        embeddings: finite, shape (N, D); L2-normalized here, distances are Euclidean.
        labels: int64, shape (N,); two classes at least.
    Returns:
        float64, shape (N,), each in [-1, 1]; best 1, 0: classes mixed. 0 for the only image of a class.
    Raises:
        DataError: fewer than two classes.
    """
    class_ids = np.unique(np.asarray(labels), return_inverse=True)[1]
    sizes = np.bincount(class_ids).astype(np.float64)
    if len(sizes) < 2:
        raise DataError(f"labels: {len(sizes)} class(es); expected at least 2")
    members = (class_ids[:, None] == np.arange(len(sizes))).astype(np.float64)
    distances = distance_matrix(unit_rows(np.asarray(embeddings, dtype=np.float64))[0])
    sums = matmul(distances, members)
    index = np.arange(len(class_ids))
    inside = sums[index, class_ids] / np.maximum(sizes[class_ids] - 1, 1)
    means = sums / sizes
    means[index, class_ids] = np.inf
    outside = means.min(axis=1)
    larger = np.maximum(inside, outside)
    values = (outside - inside) / np.where(larger > 0, larger, 1.0)
    return np.asarray(np.where(sizes[class_ids] > 1, values, 0.0))
