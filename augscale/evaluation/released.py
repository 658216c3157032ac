"""Protocol `released`: the script that the paper's authors published, with its small learning rate.

Called fine-tuning by the paper, it trains a linear layer alone, on class tokens of the last four blocks that are
neither standardised nor normalised: how far the head gets depends on the size of the features. Two departures. The
network sees each training image in `released.draws` random crops once, not in a new crop in every epoch of every
seed; so seeds share the crops and differ in their order (and in the initial weights). And images come from the square
cache, see `transforms`. Everything else, the order of the images that is the same for all seeds included, is theirs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from augscale.evaluation.features import FeatureStore
from augscale.evaluation.heads import TrainedHead, train_heads
from augscale.evaluation.interface import Encoder, Floats, Labelled, check_trainable, dataset_digest, softmax
from augscale.evaluation.protocol_config import ProtocolConfig


class Released:
    """The protocol. The first seed asked for trains the heads of all `config.seeds` seeds at once."""

    name = "released"
    seeds_matter = True

    def __init__(self, config: ProtocolConfig, store: FeatureStore) -> None:
        self.config = config
        self.store = store
        self._trained: tuple[tuple[str, str], dict[int, TrainedHead]] | None = None

    def fit(self, network: Encoder, train_on: Labelled, *, seed: int) -> FittedReleased:
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
        return FittedReleased(
            network=network,
            trained_on=train_on,
            config=self.config,
            store=self.store,
            head=head,
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


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedReleased:
    """One seed's head after the epoch that was best on validation."""

    network: Encoder
    trained_on: Labelled
    config: ProtocolConfig
    store: FeatureStore
    head: TrainedHead
    selection: dict[str, Any]

    def predict(self, on: Labelled, split: str) -> Floats:
        features = self.store.evaluation(
            self.network, on, split, self.config.view_size, trained_on=self.trained_on
        ).blocks
        return softmax(features @ self.head.weight.T + self.head.bias)
