"""Protocol `released` from pixels to probabilities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from toy_protocols import RESNET, VIEW_SIZE, ToyDataset, toy_config, toy_dataset, toy_encoder

from augscale.evaluation import released as released_module
from augscale.evaluation.features import FeatureStore
from augscale.evaluation.heads import train_heads
from augscale.evaluation.interface import Encoder
from augscale.evaluation.released import Released
from augscale.evaluation.selection import macro_auroc

RECIPE = {"epochs": 6, "lr": 0.5, "draws": 2}


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore(tmp_path, device="cpu")


def test_probabilities_are_the_softmax_of_the_best_epochs_head(store: FeatureStore) -> None:
    dataset, encoder = toy_dataset(), toy_encoder()
    protocol = Released(toy_config(released=RECIPE), store)
    for seed in (0, 1):
        fitted = protocol.fit(encoder, dataset, seed=seed)
        features = torch.from_numpy(store.evaluation(encoder, dataset, "test", VIEW_SIZE).blocks)
        weight, bias = torch.from_numpy(fitted.head.weight), torch.from_numpy(fitted.head.bias)
        expected = torch.nn.functional.linear(features, weight, bias).softmax(dim=1)
        scores = fitted.predict(dataset, "test")
        np.testing.assert_allclose(scores, expected, atol=1e-6)
        np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-12)
        on_validation = macro_auroc(dataset.labels[30:45], fitted.predict(dataset, "val"))
        assert fitted.selection["validation_auroc"] == pytest.approx(float(on_validation), abs=1e-9)


def test_seeds_are_trained_together_and_once(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[int]] = []

    def counted(*args: object, seeds: list[int], **kwargs: object) -> object:
        calls.append(seeds)
        return train_heads(*args, seeds=seeds, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(released_module, "train_heads", counted)
    dataset, encoder = toy_dataset(), toy_encoder()
    protocol = Released(toy_config(released=RECIPE, seeds=3), store)
    heads = [protocol.fit(encoder, dataset, seed=seed).head for seed in (0, 1, 2, 9)]
    assert calls == [[0, 1, 2], [9]]
    assert len({head.weight.tobytes() for head in heads}) == 4
    protocol.fit(encoder, dataset.only(range(1, 60)), seed=0)
    assert len(calls) == 3, "the heads of another dataset were taken"
    protocol.fit(toy_encoder(seed=1), dataset, seed=0)
    assert len(calls) == 4, "the heads of another network were taken"


def _features(encoder: Encoder, dataset: ToyDataset, store: FeatureStore) -> np.ndarray:
    return store.crops(encoder, dataset, "train", VIEW_SIZE, 1)


def test_a_resnet_is_probed_on_its_pooled_feature(store: FeatureStore) -> None:
    dataset, encoder = toy_dataset(), toy_encoder("resnet10t", RESNET)
    assert _features(encoder, dataset, store).shape == (1, 30, encoder.backbone.embed_dim)
    scores = Released(toy_config(released=RECIPE), store).fit(encoder, dataset, seed=0).predict(dataset, "test")
    assert scores.shape == (15, 3)


def test_it_learns_what_there_is_to_learn(store: FeatureStore) -> None:
    dataset = toy_dataset(60, 30, 30)
    protocol = Released(toy_config(released={"epochs": 30, "lr": 0.5, "draws": 4}), store)
    scores = protocol.fit(toy_encoder(), dataset, seed=0).predict(dataset, "test")
    assert float(macro_auroc(dataset.labels[90:], scores)) > 0.7
