"""Protocol `linear`: a converged logistic regression on standardized frozen embeddings.

In the released script the result depends on the learning rate and on the scale of the features. Here features have
mean 0 and standard deviation 1 on the training images, the optimum is reached, and the strength of the L2 penalty is
chosen on validation. The problem is convex, so the seed has no effect and one run suffices; its interval covers the
choice of test images (bootstrap). With `linear.bootstrap` every seed trains on its own resample of the training
patients, which shows the influence of the training images; a resample lacks about 37 % of them.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from sklearn.preprocessing import StandardScaler

from augscale.errors import DataError
from augscale.evaluation.features import Features, FeatureStore, FrozenClassifier
from augscale.evaluation.interface import Encoder, Labelled, check_trainable
from augscale.evaluation.logistic import LogisticModel, logistic_path
from augscale.evaluation.protocol_config import LinearConfig, ProtocolConfig
from augscale.evaluation.selection import macro_auroc, pick
from augscale.seeding import derive_seed
from augscale.statistics.arrays import Floats, Floats32, Integers

_ATTEMPTS = 100
"""Resamples drawn before the data are refused because each had one class only."""


def fit_path(features: Floats, labels: Integers, weights: Floats | None, config: LinearConfig) -> list[LogisticModel]:
    """One converged logistic regression per penalty, in the order of `config.inverse_penalties`.

    Args:
        features: float64, shape (N, D), standardized.
        labels: int64, shape (N,).
        weights: float64, shape (N,), how often each image counts; None: once.
    """
    return logistic_path(
        features,
        labels,
        weights,
        config.inverse_penalties,
        tolerance=config.tolerance,
        max_iterations=config.max_iterations,
    )


def resample_counts(labels: Integers, groups: Integers, seed: int) -> Integers:
    """Number of times that each image counts in a bootstrap sample of the patients.

    Raises:
        DataError: each of a hundred resamples had one class only.
    """
    patients, member = np.unique(groups, return_inverse=True)
    generator = np.random.default_rng(derive_seed(seed, "linear-bootstrap"))
    for _ in range(_ATTEMPTS):
        drawn = np.bincount(generator.integers(len(patients), size=len(patients)), minlength=len(patients))
        counts: Integers = drawn[member].astype(np.int64)
        if len(np.unique(labels[counts > 0])) > 1:
            return counts
    raise DataError(
        f"linear.bootstrap: resamples of {len(patients)} training patients hold one class only; "
        "expected several patients of at least 2 classes"
    )


class Linear:
    """The protocol. C is chosen by macro AUROC on validation; of equals the smallest C (strongest penalty) is used.

    Without usable validation images, C is the offered value nearest to 1 / (number of training images), at which
    penalty and mean loss have equal weight.
    """

    name = "linear"

    def __init__(self, config: ProtocolConfig, store: FeatureStore) -> None:
        self.config = config
        self.store = store
        self.seeds_matter = config.linear.bootstrap

    def fit(self, network: Encoder, train_on: Labelled, *, seed: int) -> FrozenClassifier:
        """Trains with every penalty; `seed` is used with `linear.bootstrap` only."""
        check_trainable(self.name, train_on)
        config, part = self.config.linear, train_on.part("train")
        features = partial(self.store.evaluation, network, view_size=self.config.view_size, trained_on=train_on)
        train, labels = features(train_on, "train").embedding.astype(np.float64), train_on.labels[part]
        weights: Floats | None = None
        if config.bootstrap:
            counts = resample_counts(labels, train_on.groups[part], seed)
            train, labels = train[counts > 0], labels[counts > 0]
            weights = counts[counts > 0].astype(np.float64)
        scaler = StandardScaler().fit(train, sample_weight=weights)
        path = fit_path(scaler.transform(train), labels, weights, config)
        queries = features(train_on, "val").embedding
        val_labels = train_on.labels[train_on.part("val")]
        aurocs = [float(macro_auroc(val_labels, _scores(scaler, m, queries, len(train_on.classes)))) for m in path]
        distance = np.abs(np.log(np.array(config.inverse_penalties) * len(part)))
        place, facts = pick(range(len(path)), aurocs, otherwise=int(distance.argmin()))
        penalty, model = config.inverse_penalties[place], path[place]

        def classify(found: Features) -> Floats:
            return _scores(scaler, model, found.embedding, len(train_on.classes))

        selection = {
            "inverse_penalty": penalty,
            "converged": model.converged,
            "at_edge": penalty in (config.inverse_penalties[0], config.inverse_penalties[-1]),
            **facts,
        }
        return FrozenClassifier(features=features, classify=classify, selection=selection)


def _scores(scaler: Any, model: LogisticModel, features: Floats32, num_classes: int) -> Floats:
    """float64, shape (N, K); a class without training images has probability 0."""
    result = np.zeros((len(features), num_classes))
    if len(features):
        result[:, model.classes] = model.probabilities(scaler.transform(features.astype(float)))
    return result
