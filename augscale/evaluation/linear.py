"""Protocol `linear`: a converged logistic regression on standardised frozen embeddings.

What the released script leaves to its learning rate and to the size of the features is settled here: features have
mean 0 and standard deviation 1 on the training images, the optimum is reached, and the strength of the L2 penalty is
chosen on validation. The problem is convex, so the seed changes nothing and one run is all there is; the uncertainty
is that of the images (bootstrap over test images). With `linear.bootstrap` every seed trains on its own resample of
the training patients instead, which shows how much the training images matter, at about 37 % fewer different ones.
"""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from augscale.errors import DataError
from augscale.evaluation.features import FeatureStore
from augscale.evaluation.interface import Encoder, Floats, Floats32, Integers, Labelled, check_trainable
from augscale.evaluation.protocol_config import LinearConfig, ProtocolConfig
from augscale.evaluation.selection import macro_auroc, pick
from augscale.seeding import derive_seed

_ATTEMPTS = 100
"""Resamples that may turn out to have one class only before it is given up."""


def fit_path(features: Floats, labels: Integers, weights: Floats | None, config: LinearConfig) -> list[Any]:
    """One converged LogisticRegression per penalty, each started at the last one's solution.

    With 2 classes scikit-learn fits one weight vector and a logistic loss, else one per class and a softmax; the
    intercept is not penalised.

    Args:
        features: float64, shape (N, D), standardised.
        labels: int64, shape (N,).
        weights: float64, shape (N,), how often each image counts; None: once.
    Returns:
        Fitted models, in the order of `config.inverse_penalties`; `n_iter_` below the maximum says converged.
    """
    model = LogisticRegression(tol=config.tolerance, max_iter=config.max_iterations, warm_start=True)
    path = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # said in `selection`
        for inverse_penalty in config.inverse_penalties:
            model.set_params(C=inverse_penalty)
            model.fit(features, labels, sample_weight=weights)
            path.append(copy.deepcopy(model))
    return path


def resample_counts(labels: Integers, groups: Integers, seed: int) -> Integers:
    """How often each image counts when as many patients as there are, are drawn with replacement.

    Drawn again while only one class is left.

    Raises:
        DataError: a hundred resamples had one class only.
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
    """The protocol; C is chosen on validation by macro AUROC, the smallest (strongest penalty) of equals.

    With no usable validation images C is the offered value nearest to 1 / (number of training images), where penalty
    and mean loss weigh alike.
    """

    name = "linear"

    def __init__(self, config: ProtocolConfig, store: FeatureStore) -> None:
        self.config = config
        self.store = store
        self.seeds_matter = config.linear.bootstrap

    def fit(self, network: Encoder, train_on: Labelled, *, seed: int) -> FittedLinear:
        """Trains with every penalty; `seed` is used with `linear.bootstrap` only."""
        check_trainable(self.name, train_on)
        config, size = self.config.linear, self.config.view_size
        part = train_on.part("train")
        features = self.store.evaluation(network, train_on, "train", size).embedding.astype(np.float64)
        labels = train_on.labels[part]
        weights: Floats | None = None
        if config.bootstrap:
            counts = resample_counts(labels, train_on.groups[part], seed)
            features, labels = features[counts > 0], labels[counts > 0]
            weights = counts[counts > 0].astype(np.float64)
        scaler = StandardScaler().fit(features, sample_weight=weights)
        path = fit_path(scaler.transform(features), labels, weights, config)
        queries = self.store.evaluation(network, train_on, "val", size).embedding
        val_labels = train_on.labels[train_on.part("val")]
        candidates = [
            FittedLinear(
                network=network,
                trained_on=train_on,
                config=self.config,
                store=self.store,
                scaler=scaler,
                model=model,
                num_classes=len(train_on.classes),
                selection={
                    "inverse_penalty": penalty,
                    "converged": bool((model.n_iter_ < config.max_iterations).all()),
                    "at_edge": penalty in (config.inverse_penalties[0], config.inverse_penalties[-1]),
                },
            )
            for penalty, model in zip(config.inverse_penalties, path, strict=True)
        ]
        scores = [float(macro_auroc(val_labels, candidate.scores(queries))) for candidate in candidates]
        distance = np.abs(np.log(np.array(config.inverse_penalties) * len(part)))
        chosen, facts = pick(candidates, scores, otherwise=candidates[int(distance.argmin())])
        chosen.selection.update(facts)
        return chosen


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedLinear:
    """The training images' mean and deviation, and a regression."""

    network: Encoder
    trained_on: Labelled
    config: ProtocolConfig
    store: FeatureStore
    scaler: Any
    model: Any
    num_classes: int
    selection: dict[str, Any]

    def scores(self, features: Floats32) -> Floats:
        """float64, shape (N, K); a class without training images has probability 0."""
        result = np.zeros((len(features), self.num_classes))
        if len(features):
            result[:, self.model.classes_] = self.model.predict_proba(self.scaler.transform(features.astype(float)))
        return result

    def predict(self, on: Labelled, split: str) -> Floats:
        features = self.store.evaluation(self.network, on, split, self.config.view_size, trained_on=self.trained_on)
        return self.scores(features.embedding)
