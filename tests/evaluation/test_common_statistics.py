"""Frozen protocols on networks that differ in nothing but batch norm statistics: every outcome is equal."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_protocols import RESNET, VIEW_SIZE, VIT, toy_config, toy_dataset, toy_encoder

from augscale.evaluation.features import FeatureStore
from augscale.evaluation.interface import Encoder
from augscale.evaluation.protocols import make_protocols


def _encoder(common: bool) -> Encoder:
    return replace(toy_encoder("resnet10t", RESNET), common_statistics=common)


def _after_training_without_learning(encoder: Encoder) -> Encoder:
    """The same weights; batch norm's statistics gathered on other views."""
    backbone = copy.deepcopy(encoder.backbone).train()
    with torch.no_grad():
        for _ in range(3):
            backbone(2 * torch.randn(8, 3, VIEW_SIZE, VIEW_SIZE) - 1)
    return replace(encoder, backbone=backbone.eval())


@pytest.mark.parametrize("protocol", ["linear", "knn", "released"])
def test_every_outcome_is_equal_with_common_statistics_and_was_not_without(tmp_path: Path, protocol: str) -> None:
    dataset = toy_dataset()
    for common in (True, False):
        encoder = _encoder(common)
        scores = []
        for number, network in enumerate((encoder, _after_training_without_learning(encoder))):
            # A folder each, so that nothing is shared through the kept features.
            (fitter,) = make_protocols([protocol], toy_config(), tmp_path / f"{common}-{number}", device="cpu")
            scores.append(fitter.fit(network, dataset, seed=0).predict(dataset, "test"))
        assert np.array_equal(*scores) == common


def test_equal_weights_have_equal_features_and_one_place_for_them(tmp_path: Path) -> None:
    encoder = _encoder(True)
    other = _after_training_without_learning(encoder)
    store = FeatureStore(tmp_path, device="cpu")
    first = store.evaluation(encoder, toy_dataset(), "test", VIEW_SIZE).embedding
    assert encoder.fingerprint == other.fingerprint
    assert replace(encoder, common_statistics=False).fingerprint != encoder.fingerprint
    before = {name: value.clone() for name, value in other.backbone.state_dict().items()}
    again = FeatureStore(tmp_path / "other", device="cpu").evaluation(other, toy_dataset(), "test", VIEW_SIZE)
    assert np.array_equal(first, again.embedding)
    assert all(torch.equal(value, before[name]) for name, value in other.backbone.state_dict().items())


def test_another_dataset_is_seen_with_the_statistics_of_the_one_trained_on(tmp_path: Path) -> None:
    here, there = toy_dataset(), toy_dataset(train=24)
    there = replace(there, images=255 - there.images, fingerprint="there", name="there")
    store = FeatureStore(tmp_path, device="cpu")
    own = store.evaluation(_encoder(True), there, "test", VIEW_SIZE).embedding
    trained_here = store.evaluation(_encoder(True), there, "test", VIEW_SIZE, trained_on=here).embedding
    assert not np.allclose(own, trained_here, atol=1e-3)
    (knn,) = make_protocols(["knn"], toy_config(), tmp_path, device="cpu")
    asked: list[object] = []
    evaluation = knn.store.evaluation  # type: ignore[attr-defined]
    knn.store.evaluation = lambda *args, **options: (  # type: ignore[attr-defined]
        asked.append(options.get("trained_on")) or evaluation(*args, **options)
    )
    knn.fit(_encoder(True), here, seed=0).predict(there, "test")
    assert asked[-1] is here


def test_a_vit_is_evaluated_as_before(tmp_path: Path) -> None:
    encoder = toy_encoder("vit_tiny_patch16_224", VIT)
    store, other = FeatureStore(tmp_path / "a", device="cpu"), FeatureStore(tmp_path / "b", device="cpu")
    found = store.evaluation(encoder, toy_dataset(), "test", VIEW_SIZE).embedding
    common = other.evaluation(replace(encoder, common_statistics=True), toy_dataset(), "test", VIEW_SIZE).embedding
    assert np.array_equal(found, common)
