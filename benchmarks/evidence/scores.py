"""Label-free scores of one layer: how far pairs of views lie apart, and how many directions the embeddings use."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from augscale.diagnosis.clusters import lidar
from augscale.scoring.distances import distance_matrix, unit_rows
from augscale.scoring.separation import dprime
from augscale.scoring.spectrum import alpha_req, effective_rank, eigenvalue_shares, feature_sd

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

PAIR_METRICS = ("dprime", "gap", "pair_auroc", "margin", "retrieval_error", "alignment", "uniformity", "silhouette")
RAW_METRICS = ("raw_dprime", "raw_gap", "raw_pair_auroc", "raw_silhouette")
"""Of embeddings that are not L2-normalised."""
SPECTRUM_METRICS = ("rankme", "alpha_req", "feature_sd", "lidar")
START_METRICS = ("cka_to_start", "cosine_to_start")
"""Likeness to the network before training; of clean photographs only."""
METRICS = (*PAIR_METRICS, *RAW_METRICS, *SPECTRUM_METRICS, *START_METRICS)
BETTER_LOW = frozenset({"retrieval_error", "alignment", "uniformity", "alpha_req", "loss"})
"""Where a lower value is the better one by the metric's authors (a flatter spectrum for alpha-ReQ; the optimum of the
paper is about 1, which short runs approach from above)."""
_UNIFORMITY_T = 2.0


def level_scores(points: npt.NDArray[np.float32], groups: Integers) -> dict[str, float]:
    """Every metric of views of the panel at one level.

    Args:
        points: float32, shape (n, 2, D): two views of each of n images.
        groups: int64, shape (n,): images of one patient are never negatives of each other.
    Returns:
        By METRICS; NaN where a metric is undefined. Definitions as in `diagnosis.separation` and `clusters`.
    """
    values = points.astype(np.float64)
    unit, _ = unit_rows(values)
    normalised, raw = pair_scores(unit, groups), pair_scores(values, groups)
    found = {name: normalised[name] for name in PAIR_METRICS}
    found |= {name: raw[name.removeprefix("raw_")] for name in RAW_METRICS}
    rank = lidar(values)
    return found | spectrum_scores(values[:, 0]) | {"lidar": math.nan if rank is None else rank}


def image_scores(points: npt.NDArray[np.float32]) -> dict[str, float]:
    """Spectrum metrics of one embedding per image, shape (n, D)."""
    return spectrum_scores(points.astype(np.float64))


def spectrum_scores(points: Floats) -> dict[str, float]:
    shares = eigenvalue_shares(points)
    slope = None if shares is None else alpha_req(shares)
    return {
        "rankme": effective_rank(points),
        "alpha_req": math.nan if slope is None else slope,
        "feature_sd": feature_sd(points),
    }


def start_scores(points: npt.NDArray[np.float32], start: npt.NDArray[np.float32]) -> dict[str, float]:
    """How like the embeddings of the network before training a network's own are, by START_METRICS.

    "cka_to_start": linear CKA (Kornblith et al., ICML 2019), in [0, 1], 1 for equal up to rotation and scale; NaN where
    either has no spread. "cosine_to_start": mean cosine similarity of the two embeddings of an image, in [-1, 1].

    Args:
        points, start: float32, shape (n, D), of the same images.
    """
    x, y = (values.astype(np.float64) for values in (points, start))
    unit = [unit_rows(values)[0] for values in (x, y)]
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    norms = np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)
    shared = float(np.linalg.norm(x.T @ y) ** 2)
    return {
        "cka_to_start": shared / float(norms) if norms > 0 else math.nan,
        "cosine_to_start": float((unit[0] * unit[1]).sum(axis=1).mean()),
    }


def pair_scores(points: Floats, groups: Integers) -> dict[str, float]:
    """Metrics of the distances of all positive and negative pairs, by PAIR_METRICS.

    Args:
        points: float64, shape (n, 2, D), normalised or not.
        groups: int64, shape (n,).
    """
    num_images = len(points)
    distances = distance_matrix(points.reshape(2 * num_images, -1))
    own = np.repeat(groups, 2)
    different = own[:, None] != own[None, :]
    positive = distances[np.arange(0, 2 * num_images, 2), np.arange(1, 2 * num_images, 2)]
    negative = distances[np.triu(different)]
    gap = float(negative.mean() - positive.mean())
    nearest = np.where(different, distances, np.inf).min(axis=1)
    partner = np.repeat(positive, 2)
    return {
        "dprime": float(dprime(gap, positive.var(), negative.var())),
        "gap": gap,
        "pair_auroc": auroc_of_distances(positive, negative),
        "margin": float(nearest.mean() - positive.mean()),
        "retrieval_error": float((nearest <= partner).mean()),
        "alignment": float(np.square(positive).mean()),
        "uniformity": _uniformity(negative),
        "silhouette": _silhouette(distances, positive),
    }


def auroc_of_distances(positive: Floats, negative: Floats) -> float:
    """Chance that a random negative pair is farther apart than a random positive one, ties half."""
    ordered = np.sort(negative)
    below = np.searchsorted(ordered, positive, side="left") + np.searchsorted(ordered, positive, side="right")
    return float(1 - below.mean() / 2 / len(ordered))


def natural_scores(points: npt.NDArray[np.float32], groups: Integers) -> dict[str, float]:
    """d' and pair AUROC of two photographs of one patient against photographs of two patients.

    Args:
        points: float32, shape (N, D), one embedding per photograph; normalised here.
        groups: int64, shape (N,): patients.
    """
    distances = distance_matrix(unit_rows(points)[0])
    upper = np.triu_indices(len(points), 1)
    same = groups[upper[0]] == groups[upper[1]]
    values = distances[upper]
    positive, negative = values[same], values[~same]
    gap = negative.mean() - positive.mean()
    return {
        "dprime": float(dprime(gap, positive.var(), negative.var())),
        "pair_auroc": auroc_of_distances(positive, negative),
    }


def _silhouette(distances: Floats, positive: Floats) -> float:
    """Mean silhouette of the views, every image a cluster of its two."""
    num_images = len(positive)
    to_image = distances.reshape(2 * num_images, num_images, 2).mean(axis=2)
    to_image[np.arange(2 * num_images), np.repeat(np.arange(num_images), 2)] = np.inf
    own, other = np.repeat(positive, 2), to_image.min(axis=1)
    larger = np.maximum(own, other)
    return float(((other - own) / np.where(larger > 0, larger, 1.0)).mean())


def _uniformity(negative: Floats) -> float:
    """Of distances of embeddings that are not normalized it is -inf: all terms vanish."""
    with np.errstate(divide="ignore"):
        return float(np.log(np.mean(np.exp(-_UNIFORMITY_T * np.square(negative)))))
