"""Protocol `released`: the script that the paper's authors published, with its small learning rate.

The paper calls it fine-tuning, but it trains a linear layer alone, on class tokens of the last four blocks. These are
neither standardized nor normalized, so the progress of the head depends on the scale of the features. There are two
departures from the script. First, the network sees each training image in `released.draws` random crops once, not in a
new crop in every epoch of every seed; seeds share the crops and differ in their order (and in the initial weights).
Second, images come from the square cache, see `transforms`. The order of the images is the same for all seeds, as in
the script.
"""

from __future__ import annotations

import math
from functools import partial

from augscale.evaluation.features import Features, FeatureStore, FrozenClassifier
from augscale.evaluation.heads import TrainedHead, train_heads
from augscale.evaluation.interface import Encoder, Labelled, check_trainable, dataset_digest, softmax
from augscale.evaluation.protocol_config import ProtocolConfig
from augscale.statistics.arrays import Floats


class Released:
    """The protocol. The first seed asked for trains the heads of all `config.seeds` seeds at once."""

    name = "released"
    seeds_matter = True

    def __init__(self, config: ProtocolConfig, store: FeatureStore) -> None:
        self.config = config
        self.store = store
        self._trained: tuple[tuple[str, str], dict[int, TrainedHead]] | None = None

    def fit(self, network: Encoder, train_on: Labelled, *, seed: int) -> FrozenClassifier:
        """The head of one seed."""
        check_trainable(self.name, train_on)
        key = network.fingerprint, dataset_digest(train_on)
        if self._trained is None or self._trained[0] != key:
            self._trained = key, {}
        heads = self._trained[1]
        if seed not in heads:
            seeds = range(self.config.seeds) if seed in range(self.config.seeds) else [seed]
            heads.update(zip(seeds, self._train(network, train_on, list(seeds)), strict=True))
        head = heads[seed]
        score = head.validation_auroc[head.epoch - 1]

        def classify(found: Features) -> Floats:
            return softmax(found.blocks @ head.weight.T + head.bias)

        return FrozenClassifier(
            features=partial(self.store.evaluation, network, view_size=self.config.view_size, trained_on=train_on),
            classify=classify,
            selection={
                "epoch": head.epoch,
                "epochs": self.config.released.epochs,
                "crops_per_image": self.config.released.draws,
                "validation_auroc": score if math.isfinite(score) else None,
            },
        )

    def _train(self, network: Encoder, train_on: Labelled, seeds: list[int]) -> list[TrainedHead]:
        size, recipe = self.config.view_size, self.config.released
        crops = self.store.crops(network, train_on, "train", size, min(recipe.draws, recipe.epochs))
        return train_heads(
            crops,
            train_on.labels[train_on.part("train")],
            self.store.evaluation(network, train_on, "val", size).blocks,
            train_on.labels[train_on.part("val")],
            num_classes=len(train_on.classes),
            seeds=seeds,
            config=recipe,
        )
