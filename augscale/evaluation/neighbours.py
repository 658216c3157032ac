"""Protocol `knn`: weighted nearest neighbours among the training images' embeddings, nothing trained.

DINO's evaluation (Caron et al. 2021, `eval_knn.py`): cosine similarity, each of the k nearest training images votes for
its class with weight exp(similarity / 0.07). Deterministic: the seed changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from augscale.evaluation.features import FeatureStore
from augscale.evaluation.interface import Encoder, Floats, Floats32, Integers, Labelled, check_trainable
from augscale.evaluation.protocol_config import ProtocolConfig
from augscale.evaluation.selection import macro_auroc, pick

_BLOCK_ROWS = 1024


def unit_rows(features: Floats32) -> Floats32:
    """L2-normalised rows; a row of zeros stays one."""
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    result: Floats32 = features / np.maximum(norms, np.finfo(np.float32).tiny)
    return result


def knn_scores(
    train: Floats32, labels: Integers, queries: Floats32, *, neighbours: int, temperature: float, num_classes: int
) -> Floats:
    """Share of the neighbours' weights that each class holds.

    Of training images that are equally near, the one listed first counts as nearer.

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
    """The protocol; k is chosen on validation by macro AUROC, the smallest of equals.

    With no usable validation images k is the smallest offered.
    """

    name = "knn"
    seeds_matter = False

    def __init__(self, config: ProtocolConfig, store: FeatureStore) -> None:
        self.config = config
        self.store = store

    def fit(self, network: Encoder, train_on: Labelled, *, seed: int) -> FittedKnn:
        """Chooses k; `seed` is not used."""
        check_trainable(self.name, train_on)
        size = self.config.view_size
        fitted = FittedKnn(
            network=network,
            trained_on=train_on,
            config=self.config,
            store=self.store,
            train=unit_rows(self.store.evaluation(network, train_on, "train", size).embedding),
            labels=train_on.labels[train_on.part("train")],
            num_classes=len(train_on.classes),
            neighbours=0,
        )
        offered = [k for k in self.config.knn.neighbours if k <= len(fitted.train)] or [len(fitted.train)]
        queries = unit_rows(self.store.evaluation(network, train_on, "val", size).embedding)
        val_labels = train_on.labels[train_on.part("val")]
        scores = [float(macro_auroc(val_labels, fitted.scores(queries, k))) for k in offered]
        chosen, facts = pick(offered, scores, otherwise=offered[0])
        fitted.neighbours = chosen
        fitted.selection = {"neighbours": chosen, "offered": offered, **facts}
        return fitted


@dataclass(kw_only=True, eq=False)
class FittedKnn:
    """The training images' unit embeddings and the chosen k."""

    network: Encoder
    trained_on: Labelled
    config: ProtocolConfig
    store: FeatureStore
    train: Floats32
    labels: Integers
    num_classes: int
    neighbours: int
    selection: dict[str, Any] = field(default_factory=dict)

    def scores(self, queries: Floats32, neighbours: int) -> Floats:
        return knn_scores(
            self.train,
            self.labels,
            queries,
            neighbours=neighbours,
            temperature=self.config.knn.temperature,
            num_classes=self.num_classes,
        )

    def predict(self, on: Labelled, split: str) -> Floats:
        features = self.store.evaluation(self.network, on, split, self.config.view_size, trained_on=self.trained_on)
        return self.scores(unit_rows(features.embedding), self.neighbours)
