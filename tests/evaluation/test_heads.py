"""The heads of `released` against the authors' loop written plainly, with autograd and torch's own optimiser."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DistributedSampler

from augscale.evaluation.heads import epoch_draws, epoch_order, initial_weight, learning_rate, train_heads
from augscale.evaluation.protocol_config import ReleasedConfig
from augscale.evaluation.selection import macro_auroc

RECIPE = ReleasedConfig(epochs=7, batch_size=4, lr=2.0, draws=3)
NUM_CLASSES = 3


def _data(num_classes: int = NUM_CLASSES) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    labels, val_labels = np.arange(18) % num_classes, np.arange(12) % num_classes
    centers = generator.normal(size=(num_classes, 10))
    crops = (centers[labels] + 2 * generator.normal(size=(3, 18, 10))).astype(np.float32)
    val = (centers[val_labels] + 2 * generator.normal(size=(12, 10))).astype(np.float32)
    return crops, labels, val, val_labels


def _plain_loop(seed: int, crops: np.ndarray, labels: np.ndarray, val: np.ndarray, val_labels: np.ndarray) -> tuple:
    """The authors' script, one seed, one step at a time."""
    head = nn.Linear(crops.shape[2], int(labels.max()) + 1)
    head.weight.data.copy_(initial_weight(seed, *head.weight.shape))
    head.bias.data.zero_()
    rate = RECIPE.lr * RECIPE.batch_size / 256
    optimizer = torch.optim.SGD(head.parameters(), rate, momentum=0.9, weight_decay=0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, RECIPE.epochs, eta_min=0)
    sampler = DistributedSampler(range(len(labels)), num_replicas=1, rank=0)
    best, best_auroc, best_epoch = None, -1.0, 0
    for epoch in range(RECIPE.epochs):
        sampler.set_epoch(epoch)
        draws = epoch_draws(seed, epoch, len(labels), len(crops))
        order = list(sampler)
        for begin in range(0, len(order), RECIPE.batch_size):
            batch = order[begin : begin + RECIPE.batch_size]
            x = torch.stack([torch.from_numpy(crops[draws[i], i]) for i in batch])
            loss = nn.CrossEntropyLoss()(head(x), torch.from_numpy(labels[batch]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        scheduler.step()
        with torch.no_grad():
            auroc = float(macro_auroc(val_labels, head(torch.from_numpy(val)).softmax(dim=1).numpy()))
        if auroc > best_auroc:
            best_auroc, best_epoch = auroc, epoch + 1
            best = head.weight.detach().clone().numpy(), head.bias.detach().clone().numpy()
    return best, best_epoch


@pytest.mark.parametrize("num_classes", [2, 3])
def test_all_seeds_at_once_equal_a_plain_loop_of_each(num_classes: int) -> None:
    data = _data(num_classes)
    trained = train_heads(*data, num_classes=num_classes, seeds=[0, 1, 4], config=RECIPE)
    for seed, head in zip([0, 1, 4], trained, strict=True):
        (weight, bias), epoch = _plain_loop(seed, *data)
        assert head.epoch == epoch
        np.testing.assert_allclose(head.weight, weight, atol=1e-5)
        np.testing.assert_allclose(head.bias, bias, atol=1e-5)
    assert np.abs(trained[0].weight - trained[1].weight).max() > 1e-3
    assert np.abs(trained[0].weight - initial_weight(0, num_classes, 10).numpy()).max() > 0.05, "it hardly trained"


def test_training_is_deterministic_and_a_seed_does_not_depend_on_its_company() -> None:
    first, again = (train_heads(*_data(), num_classes=3, seeds=[0, 1], config=RECIPE) for _ in range(2))
    (alone,) = train_heads(*_data(), num_classes=3, seeds=[1], config=RECIPE)
    assert np.array_equal(first[1].weight, again[1].weight)
    np.testing.assert_allclose(alone.weight, first[1].weight, atol=1e-6)


def test_the_best_epoch_is_the_first_of_the_best() -> None:
    for head in train_heads(*_data(), num_classes=3, seeds=range(5), config=RECIPE):
        assert len(head.validation_auroc) == RECIPE.epochs
        assert head.epoch == 1 + int(np.argmax(head.validation_auroc))


def test_where_validation_says_nothing_the_last_epoch_is_kept() -> None:
    crops, labels, val, _ = _data()
    one_class = np.zeros(len(val), dtype=np.int64)
    (head,) = train_heads(crops, labels, val, one_class, num_classes=3, seeds=[0], config=RECIPE)
    assert head.epoch == RECIPE.epochs
    assert all(math.isnan(value) for value in head.validation_auroc)
    (empty,) = train_heads(crops, labels, val[:0], one_class[:0], num_classes=3, seeds=[0], config=RECIPE)
    assert np.array_equal(head.weight, empty.weight)


def test_the_order_is_distributed_samplers_and_changes_every_epoch() -> None:
    sampler = DistributedSampler(range(50), num_replicas=1, rank=0)
    for epoch in (0, 1, 7):
        sampler.set_epoch(epoch)
        assert epoch_order(epoch, 50).tolist() == list(sampler)


def test_every_crop_of_an_image_comes_once_before_one_comes_again() -> None:
    cycle = np.stack([epoch_draws(3, epoch, 100, 5) for epoch in range(5, 10)])
    assert (np.sort(cycle, axis=0) == np.arange(5)[:, None]).all()
    assert not np.array_equal(cycle[0], epoch_draws(4, 5, 100, 5)), "seeds draw alike"
    assert not np.array_equal(cycle[0], epoch_draws(3, 0, 100, 5)), "cycles are alike"
    assert len(np.unique(cycle[0])) == 5, "all images have the same crop"


def test_the_shipped_learning_rate_is_6_25e_5_and_falls_along_a_cosine() -> None:
    config = ReleasedConfig()
    assert learning_rate(0, config) == pytest.approx(6.25e-5)
    assert learning_rate(25, config) == pytest.approx(6.25e-5 / 2)
    assert learning_rate(49, config) == pytest.approx(6.25e-5 * (1 + math.cos(math.pi * 49 / 50)) / 2)


def test_initial_weights_have_the_authors_deviation() -> None:
    weight = initial_weight(0, 5, 1536)
    assert float(weight.std()) == pytest.approx(0.01, rel=0.05)
    assert abs(float(weight.mean())) < 1e-3
