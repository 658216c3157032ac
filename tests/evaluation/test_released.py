"""Protocol `released` from pixels to probabilities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score
from torch.utils.data import DataLoader, DistributedSampler
from torchvision import transforms as T
from toy_protocols import RESNET, VIEW_SIZE, ToyDataset, toy_config, toy_dataset, toy_encoder

from augscale.augmentation.views import IMAGENET_MEAN, IMAGENET_STD
from augscale.evaluation import released as released_module
from augscale.evaluation.features import FeatureStore
from augscale.evaluation.heads import train_heads
from augscale.evaluation.interface import Encoder
from augscale.evaluation.protocol_config import ReleasedConfig
from augscale.evaluation.released import Released
from augscale.evaluation.selection import macro_auroc
from augscale.evaluation.transforms import resized_side

RECIPE = {"epochs": 6, "lr": 0.5, "draws": 2}


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore(tmp_path, device="cpu")


def test_probabilities_are_the_softmax_of_the_best_epochs_head(store: FeatureStore) -> None:
    dataset, encoder = toy_dataset(), toy_encoder()
    protocol = Released(toy_config(released=RECIPE), store)
    heads = train_heads(
        store.crops(encoder, dataset, "train", VIEW_SIZE, 2),
        dataset.labels[dataset.part("train")],
        store.evaluation(encoder, dataset, "val", VIEW_SIZE).blocks,
        dataset.labels[dataset.part("val")],
        num_classes=3,
        seeds=range(protocol.config.seeds),
        config=protocol.config.released,
    )
    for seed in (0, 1):
        fitted = protocol.fit(encoder, dataset, seed=seed)
        features = torch.from_numpy(store.evaluation(encoder, dataset, "test", VIEW_SIZE).blocks)
        weight, bias = torch.from_numpy(heads[seed].weight), torch.from_numpy(heads[seed].bias)
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
    scores = [protocol.fit(encoder, dataset, seed=seed).predict(dataset, "test") for seed in (0, 1, 2, 9)]
    assert calls == [[0, 1, 2], [9]]
    assert len({each.tobytes() for each in scores}) == 4
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


class _Photographs(torch.utils.data.Dataset):
    def __init__(self, dataset: ToyDataset, split: str, transform: T.Compose) -> None:
        self.part, self.dataset, self.transform = dataset.part(split), dataset, transform

    def __len__(self) -> int:
        return len(self.part)

    def __getitem__(self, place: int) -> tuple[torch.Tensor, int]:
        listed = self.part[place]
        pixels = Image.fromarray(self.dataset.images[self.dataset.rows[listed]])
        return self.transform(pixels), int(self.dataset.labels[listed])


def _authors_loop(encoder: Encoder, dataset: ToyDataset, recipe: ReleasedConfig, seed: int) -> np.ndarray:
    """Pixels to probabilities as in the authors' script: new crops and a pass of the network in every epoch."""
    tensor = [T.ToTensor(), T.Normalize(IMAGENET_MEAN, IMAGENET_STD)]
    crop = T.Compose([T.RandomResizedCrop(VIEW_SIZE), *tensor])
    resize = T.Resize(resized_side(VIEW_SIZE), interpolation=T.InterpolationMode.BICUBIC)
    middle = T.Compose([resize, T.CenterCrop(VIEW_SIZE), *tensor])
    train = _Photographs(dataset, "train", crop)
    sampler = DistributedSampler(train, num_replicas=1, rank=0)
    loader = DataLoader(train, batch_size=recipe.batch_size, sampler=sampler)

    def features(x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            layers = encoder.backbone.model.get_intermediate_layers(x, 4, return_prefix_tokens=True, norm=True)
        return torch.cat([prefix[:, 0] for _, prefix in layers], dim=-1)

    fixed = {}
    for split in ("val", "test"):
        images = _Photographs(dataset, split, middle)
        fixed[split] = features(torch.stack([images[place][0] for place in range(len(images))]))
    torch.manual_seed(seed)
    head = torch.nn.Linear(96, 3)
    head.weight.data.normal_(0, 0.01)
    head.bias.data.zero_()
    rate = recipe.lr * recipe.batch_size / 256
    optimizer = torch.optim.SGD(head.parameters(), rate, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.epochs, eta_min=0)
    best, scores = -1.0, np.empty(0)
    for epoch in range(recipe.epochs):
        sampler.set_epoch(epoch)
        for x, labels in loader:
            loss = torch.nn.functional.cross_entropy(head(features(x)), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        scheduler.step()
        with torch.no_grad():
            val_scores = head(fixed["val"]).softmax(dim=1).numpy()
            auroc = roc_auc_score(dataset.labels[dataset.part("val")], val_scores, multi_class="ovr")
            if auroc > best:
                best, scores = auroc, head(fixed["test"]).softmax(dim=1).numpy()
    return scores


def test_auroc_and_aupr_are_those_of_the_authors_loop_within_seed_noise(store: FeatureStore) -> None:
    dataset, encoder = toy_dataset(48, 30, 90), toy_encoder()
    config = toy_config(released={"epochs": 10, "lr": 0.02, "draws": 5}, seeds=5)
    protocol = Released(config, store)
    labels = dataset.labels[dataset.part("test")]
    measures = {
        "AUROC": lambda scores: roc_auc_score(labels, scores, multi_class="ovr"),
        "AUPR": lambda scores: average_precision_score(np.eye(3)[labels], scores),
    }
    ours = [protocol.fit(encoder, dataset, seed=seed).predict(dataset, "test") for seed in range(5)]
    theirs = [_authors_loop(encoder, dataset, config.released, seed) for seed in range(5)]
    for name, measure in measures.items():
        mine, other = (np.array([measure(scores) for scores in way]) for way in (ours, theirs))
        noise = np.sqrt(mine.var(ddof=1) / 5 + other.var(ddof=1) / 5)
        assert noise > 0, "seeds change nothing"
        assert abs(mine.mean() - other.mean()) < 2.5 * noise, (name, mine, other)
