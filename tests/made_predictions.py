"""Predictions of made-up checkpoints: `skill` sets how far the true class's score stands out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from augscale.evaluation.predictions import Predictions

GRADES = ("no DR", "mild", "moderate", "severe", "proliferative")


def made_run(
    *,
    protocol: str = "linear",
    checkpoint: str = "weak",
    trained_on: str = "aptos2019",
    tested_on: str = "aptos2019",
    seed: int = 0,
    skill: float = 1.0,
    images: int = 120,
    classes: Sequence[str] = GRADES,
    seed_noise: float = 0.2,
    patients: bool = False,
    labels: Sequence[int] | None = None,
) -> Predictions:
    """Checkpoints share what makes an image hard; each adds noise of its own, and each seed some more."""
    k = len(classes)
    shared = np.random.default_rng([1, len(tested_on)])
    made = shared.choice(k, images, p=np.array([2.0] + [1.0] * (k - 1)) / (k + 1))
    made[:k] = np.arange(min(k, images))
    truth = np.asarray(made if labels is None else labels, dtype=np.int64)
    n = len(truth)
    own = np.random.default_rng([2, *map(ord, protocol + checkpoint)])
    drawn = np.random.default_rng([3, seed, *map(ord, protocol + checkpoint + trained_on)])
    logits = shared.normal(size=(n, k)) + 0.5 * own.normal(size=(n, k)) + seed_noise * drawn.normal(size=(n, k))
    logits[np.arange(n), truth] += skill
    scores = np.exp(logits - logits.max(axis=1, keepdims=True))
    return Predictions(
        protocol=protocol,
        checkpoint=checkpoint,
        trained_on=trained_on,
        tested_on=tested_on,
        seed=seed,
        classes=tuple(classes),
        image_ids=tuple(f"{tested_on}/{index:04d}.png" for index in range(n)),
        labels=truth,
        scores=scores / scores.sum(axis=1, keepdims=True),
        selection={"C": 0.1, "validation_auroc": 0.8},
        seconds=2.0,
        groups=np.arange(n) // 2 if patients else None,
    )


def made_evaluation(seeds: int = 3) -> list[Predictions]:
    """Three checkpoints, three protocols, two datasets and their external pairs; `released` turns the order round."""
    skills = {"strong": 0.6, "weak": 1.2, "best": 1.9}
    turned = dict(zip(skills, reversed(skills.values()), strict=True))
    return [
        made_run(
            protocol=protocol,
            checkpoint=checkpoint,
            trained_on=trained_on,
            tested_on=tested_on,
            seed=seed,
            skill=(turned if protocol == "released" else skills)[checkpoint] - 0.3 * (trained_on != tested_on),
            seed_noise=0.0 if protocol == "knn" else 0.2,
        )
        for tested_on in ("aptos2019", "messidor_2")
        for trained_on in ("aptos2019", "messidor_2")
        for protocol in ("linear", "knn", "released")
        for checkpoint in skills
        for seed in range(seeds)
    ]
