"""Scores for model selection on validation images; NaN where undefined."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata
from sklearn.metrics import cohen_kappa_score, f1_score

from augscale.statistics.arrays import Floats, Integers


def macro_auroc(labels: Integers, scores: npt.NDArray[Any]) -> Floats:
    """Mean over classes of the one-vs-rest AUROC; equal scores count half.

    Best 1, chance 0.5, worst 0. Classes without images, or with all images, are left out; NaN if no class is left.

    Args:
        labels: int64, shape (N,).
        scores: float, shape (..., N, K), higher for likelier.
    Returns:
        float64, shape (...).
    """
    num_classes = scores.shape[-1]
    member = labels[:, None] == np.arange(num_classes)
    positives = member.sum(axis=0)
    usable = (positives > 0) & (positives < len(labels))
    if not usable.any():
        return np.full(scores.shape[:-2], np.nan)
    ranks = rankdata(scores[..., usable], axis=-2)
    positives, member = positives[usable], member[:, usable]
    above = (ranks * member).sum(axis=-2) - positives * (positives + 1) / 2
    result: Floats = (above / (positives * (len(labels) - positives))).mean(axis=-1)
    return result


def retfound_score(labels: Integers, scores: Floats) -> float:
    """RETFound's score for choosing the epoch: mean of macro F1, macro AUROC and Cohen's kappa.

    Best 1. Parts that are undefined (AUROC and kappa where all images are of one class) are left out; NaN without
    images.

    Args:
        labels: int64, shape (N,).
        scores: float64, shape (N, K).
    """
    if len(labels) == 0:
        return math.nan
    predicted = scores.argmax(axis=1)
    parts = [float(f1_score(labels, predicted, average="macro", zero_division=0)), float(macro_auroc(labels, scores))]
    if len(np.unique(np.concatenate([labels, predicted]))) > 1:
        parts.append(float(cohen_kappa_score(labels, predicted)))
    return float(np.nanmean(parts))


def pick(candidates: Sequence[Any], scores: Sequence[float], *, otherwise: Any) -> tuple[Any, dict[str, Any]]:
    """The candidate with the highest score, the first of equals; `otherwise` where all scores are undefined.

    Returns:
        The choice, and facts about it for the record.
    """
    known = [(score, -place) for place, score in enumerate(scores) if math.isfinite(score)]
    if not known:
        return otherwise, {"validation_auroc": None, "note": "undefined on validation; the preset value is taken"}
    best, place = max(known)
    return candidates[-place], {"validation_auroc": best}
