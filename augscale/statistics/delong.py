"""DeLong's test of AUROC for correlated curves, binary and macro one-vs-rest, averaged over seeds.

DeLong, DeLong & Clarke-Pearson (Biometrics 1988) with the mid-rank algorithm of Sun & Xu (IEEE Signal Processing
Letters 2014): O(N log N) instead of a loop over all pairs of a positive and a negative image.

AUROC of a class is a mean over images in two ways, with structural components V10 of its positives and V01 of its
negatives. Macro AUROC, the mean of K of them, is therefore also a sum of one contribution per image: with n_k images
of class k, an image i of class c contributes

    (1/K) * (V10_c(i) / n_c + sum over k != c of V01_k(i) / (N - n_k)),

and, images being independent, the variance is the sum over classes c of n_c times the variance of the contributions
within class c. This conditions on the class frequencies, as DeLong's two samples do and as the stratified bootstrap
does; for two classes it is exactly DeLong's variance. Contributions are means over seeds, since the mean of several
AUROCs is the same kind of statistic. With patients, contributions are summed per patient first (after Obuchowski,
Biometrics 1997), as images of one patient are not independent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from augscale.records.evaluation import SignificanceTest
from augscale.statistics.arrays import Floats, Integers
from augscale.statistics.intervals import CONFIDENCE, NO_VARIANCE, TEST_IMAGES


@dataclass(frozen=True, kw_only=True, eq=False)
class AurocParts:
    """Macro AUROC of one checkpoint as a sum over test images."""

    auroc: float
    contributions: Floats
    """float64, shape (N,); the variance of AUROC is that of their sums over the classes."""


def structural_components(positive: npt.NDArray[np.bool_], scores: Floats) -> tuple[Floats, Floats]:
    """V10 and V01 of DeLong et al. by mid-ranks (Sun & Xu 2014, Eqs. 5 to 7).

    Args:
        positive: bool, shape (N,), both values occur.
        scores: shape (N,).
    Returns:
        V10: the share of negatives below each positive (in order of appearance), ties counted half.
        V01: the share of positives above each negative. The mean of either is AUROC.
    """
    of_positives, of_negatives = scores[positive], scores[~positive]
    m, n = len(of_positives), len(of_negatives)
    together = stats.rankdata(np.concatenate([of_positives, of_negatives]))
    v10 = (together[:m] - stats.rankdata(of_positives)) / n
    v01 = 1 - (together[m:] - stats.rankdata(of_negatives)) / m
    return v10, v01


def auroc_parts(labels: Integers, scores_by_seed: Sequence[Floats]) -> AurocParts | None:
    """Macro one-vs-rest AUROC over the classes present, mean over seeds, with each image's contribution.

    Args:
        labels: int64, shape (N,).
        scores_by_seed: (N, K) arrays, one per seed.
    Returns:
        None if fewer than two classes are present.
    """
    present, counts = np.unique(labels, return_counts=True)
    if len(present) < 2:
        return None
    total, share = np.zeros(len(labels)), 1.0 / (len(present) * len(scores_by_seed))
    aurocs = []
    for scores in scores_by_seed:
        for label, count in zip(present.tolist(), counts.tolist(), strict=True):
            positive = labels == label
            v10, v01 = structural_components(positive, scores[:, label])
            total[positive] += share * v10 / count
            total[~positive] += share * v01 / (len(labels) - count)
            aurocs.append(v10.mean())
    return AurocParts(auroc=float(np.mean(aurocs)), contributions=total)


def delong_variance(labels: Integers, contributions: Floats, groups: Integers | None = None) -> float | None:
    """Variance of macro AUROC, or of a difference of two (the difference of their contributions).

    Args:
        labels: int64, shape (N,).
        contributions: float64, shape (N,).
        groups: patient of each image; None for independent images.
    Returns:
        None if a class has one image, or images of one patient: its share cannot be estimated.
    """
    _, class_of, counts = np.unique(labels, return_inverse=True, return_counts=True)
    _, patient = np.unique(np.arange(len(labels)) if groups is None else groups, return_inverse=True)
    patients = np.bincount(np.unique(np.stack([class_of, patient]), axis=1)[0])
    if patients.min() < 2:
        return None
    means = np.bincount(class_of, weights=contributions) / counts
    # Bessel's correction in each class, by its number of patients.
    spread = np.sqrt(patients / (patients - 1))
    sums = np.bincount(patient, weights=(contributions - means[class_of]) * spread[class_of])
    return float((sums**2).sum())


def delong_test(
    labels: Integers, first: AurocParts | None, second: AurocParts | None, groups: Integers | None = None
) -> SignificanceTest:
    """Two-sided test of equal macro AUROC of two checkpoints on the same test images; covers test images only."""
    p: float | None = None
    interval: tuple[float, float] | None = None
    reason = ""
    if first is None or second is None:
        reason = "fewer than two classes have test images"
    else:
        difference = first.auroc - second.auroc
        variance = delong_variance(labels, first.contributions - second.contributions, groups)
        if variance is None:
            reason = "a class has one test image, or images of one patient, so its variance cannot be estimated"
        elif variance > NO_VARIANCE:
            error = math.sqrt(variance)
            half = float(stats.norm.ppf((1 + CONFIDENCE) / 2)) * error
            p, interval = float(2 * stats.norm.sf(abs(difference) / error)), (difference - half, difference + half)
        elif abs(difference) < 1e-12:
            p, interval = 1.0, (0.0, 0.0)
        else:
            reason = "the difference does not vary over test images"
    return SignificanceTest(name="delong", p_value=p, interval=interval, covers=(TEST_IMAGES,), reason=reason)
