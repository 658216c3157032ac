"""Protocol `knn`: weighted nearest neighbors among the training images' embeddings, without training.

DINO's evaluation (Caron et al. 2021, `eval_knn.py`): cosine similarity; each of the k nearest training images votes for
its class with weight exp(similarity / 0.07). Deterministic: the seed has no effect.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from augscale.evaluation.features import Features, FeatureStore, FrozenClassifier
from augscale.evaluation.interface import Encoder, Labelled, check_trainable
from augscale.evaluation.protocol_config import ProtocolConfig
from augscale.evaluation.selection import macro_auroc, pick
from augscale.statistics.arrays import Floats, Floats32, Integers

_BLOCK_ROWS = 1024


def unit_rows(features: Floats32) -> Floats32:
    """L2-normalized rows; a row of zeros stays unchanged."""
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    result: Floats32 = features / np.maximum(norms, np.finfo(np.float32).tiny)
    return result


def knn_scores(
    train: Floats32, labels: Integers, queries: Floats32, *, neighbours: int, temperature: float, num_classes: int
) -> Floats:
    """Share of the neighbors' weights that each class holds.

    Of two training images at the same distance, the one listed first counts as nearer.

    Args:
        train, queries: float32, shapes (N, D) and (Q, D), unit rows.
        labels: int64, shape (N,).
        neighbours: k; above N all N vote.
        temperature: the weight is exp(cosine / temperature).
    Returns:
        float64, shape (Q, num_classes), rows sum to 1.
    """
    votes = np.eye(num_classes)[labels]
    scores = np.empty((len(queries), num_classes))
    for begin in range(0, len(queries), _BLOCK_ROWS):
        similarity = (queries[begin : begin + _BLOCK_ROWS] @ train.T).astype(np.float64)
        nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :neighbours]
        logits = np.take_along_axis(similarity, nearest, axis=1) / temperature
        weights = np.exp(logits - logits[:, :1])
        weights /= weights.sum(axis=1, keepdims=True)
        scores[begin : begin + _BLOCK_ROWS] = np.einsum("qk,qkc->qc", weights, votes[nearest])
    return scores


class Knn:
    """The protocol; k is chosen by macro AUROC on validation, and the smallest of equals is used.

    Without usable validation images, k is the smallest value offered.
    """

    name = "knn"
    seeds_matter = False

    def __init__(self, config: ProtocolConfig, store: FeatureStore) -> None:
        self.config = config
        self.store = store

    def fit(self, network: Encoder, train_on: Labelled, *, seed: int) -> FrozenClassifier:
        """Chooses k; `seed` is not used."""
        check_trainable(self.name, train_on)
        features = partial(self.store.evaluation, network, view_size=self.config.view_size, trained_on=train_on)
        score = partial(
            knn_scores,
            unit_rows(features(train_on, "train").embedding),
            train_on.labels[train_on.part("train")],
            temperature=self.config.knn.temperature,
            num_classes=len(train_on.classes),
        )
        count = len(train_on.part("train"))
        offered = [k for k in self.config.knn.neighbours if k <= count] or [count]
        queries = unit_rows(features(train_on, "val").embedding)
        val_labels = train_on.labels[train_on.part("val")]
        aurocs = [float(macro_auroc(val_labels, score(queries, neighbours=k))) for k in offered]
        chosen, facts = pick(offered, aurocs, otherwise=offered[0])

        def classify(found: Features) -> Floats:
            return score(unit_rows(found.embedding), neighbours=chosen)

        selection = {"neighbours": chosen, "offered": offered, **facts}
        return FrozenClassifier(features=features, classify=classify, selection=selection)
