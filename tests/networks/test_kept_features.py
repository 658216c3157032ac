"""Features on disk are found by what they depend on, and never when any of it has changed."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from augscale.config import BackboneConfig
from augscale.errors import CheckpointError
from augscale.networks import kept_features
from augscale.networks.backbones import Backbone, build_backbone
from augscale.networks.batch_norm import Statistics
from augscale.networks.kept_features import (
    FeatureFolder,
    features_folder,
    statistics_digest,
    structure_digest,
    weights_digest,
)

CPU = torch.device("cpu")
VIT = {"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}


def network(seed: int = 0, **overrides: object) -> Backbone:
    return build_backbone(BackboneConfig(name="vit_tiny_patch16_224", overrides=VIT | overrides), 32, seed=seed).eval()


def test_what_was_written_is_read_to_the_last_bit_and_under_the_same_facts_only(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    FeatureFolder(tmp_path, {"a": 1}, CPU).write(0, {"embedding": values})
    found = FeatureFolder(tmp_path, {"a": 1}, CPU, {"name": "for people only"}).read(0, 5)
    assert found is not None
    assert np.array_equal(found["embedding"], values)
    assert FeatureFolder(tmp_path, {"a": 2}, CPU).read(0, 5) is None
    assert FeatureFolder(tmp_path, {"a": 1}, CPU).read(1, 5) is None
    assert FeatureFolder(tmp_path, {"a": 1}, CPU).read(0, 6) is None, "another number of rows"


@pytest.mark.parametrize("change", ["code", "device", "torch"])
def test_another_environment_finds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    FeatureFolder(tmp_path, {}, CPU).write(0, {"embedding": np.zeros((1, 1), dtype=np.float32)})
    before = kept_features.environment(CPU)
    assert before[change]
    monkeypatch.setattr(kept_features, "environment", lambda _: before | {change: "other"})
    assert FeatureFolder(tmp_path, {}, CPU).read(0, 1) is None


def test_the_code_of_transforms_and_networks_is_part_of_the_environment() -> None:
    package = Path(kept_features.__file__).parents[1]
    for pattern in kept_features._SOURCES:
        assert list(package.glob(pattern)), f"{pattern}: no such module"


def test_a_damaged_part_is_not_read(tmp_path: Path) -> None:
    folder = FeatureFolder(tmp_path, {}, CPU)
    folder.write(0, {"embedding": np.zeros((2, 2), dtype=np.float32)})
    folder.part(0).write_bytes(folder.part(0).read_bytes()[:50])
    assert folder.read(0, 2) is None


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot be made"):
        FeatureFolder(tmp_path / "file", {}, CPU)
    assert features_folder(tmp_path / "file") is None


def test_digests_see_weights_structure_and_the_conversion_of_the_input() -> None:
    one, same, other = network(), network(), network(seed=1)
    assert (weights_digest(one.model), structure_digest(one)) == (weights_digest(same.model), structure_digest(same))
    assert weights_digest(one.model) != weights_digest(other.model)
    assert structure_digest(one) == structure_digest(other)
    # Equal shapes of all weights: only settings of modules tell these apart.
    assert structure_digest(one) != structure_digest(network(num_heads=3))
    same.model.norm.eps *= 2
    assert structure_digest(one) != structure_digest(same)
    other.expect_normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert structure_digest(one) != structure_digest(other)


def test_a_forward_pass_changes_no_digest() -> None:
    net = network()
    before = weights_digest(net.model), structure_digest(net)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        net(torch.zeros(1, 3, 32, 32))
    assert (weights_digest(net.model), structure_digest(net)) == before
    assert structure_digest(net.train()) == before[1]


def test_statistics_are_told_apart() -> None:
    def of(mean: float) -> Statistics:
        return Statistics(means={"bn": torch.full((2,), mean)}, variances={"bn": torch.ones(2)})

    assert statistics_digest(Statistics.none()) == "own"
    assert statistics_digest(of(0.5)) == statistics_digest(of(0.5)) != statistics_digest(of(0.6))


def test_the_oldest_features_are_deleted_when_there_are_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = features_folder(tmp_path)
    assert root is not None
    folders = [FeatureFolder(root, {"number": number}, CPU) for number in range(3)]
    for folder, days in zip(folders, (2, 3, 0), strict=True):
        folder.write(0, {"embedding": np.zeros((1, 1000), dtype=np.float32)})
        moment = time.time() - days * 24 * 3600
        os.utime(folder.path / "about.json", (moment, moment))
    features_folder(tmp_path)
    assert all(folder.path.is_dir() for folder in folders), "they are below the limit"
    monkeypatch.setattr(kept_features, "MOST_BYTES", 10_000)
    features_folder(tmp_path)
    assert [folder.path.is_dir() for folder in folders] == [True, False, True]
    monkeypatch.setattr(kept_features, "MOST_BYTES", 0)
    features_folder(tmp_path)
    assert [folder.path.is_dir() for folder in folders] == [False, False, True], "used today"
    FeatureFolder(root, {"number": 2}, CPU)
