"""A diagnosis of networks that differ in nothing but batch norm statistics: every metric is equal."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import augscale
from augscale.config import BackboneConfig
from augscale.diagnosis.result import CheckpointDiagnosis, Diagnosis
from augscale.errors import ConfigError
from augscale.networks.backbones import Backbone, build_backbone
from augscale.networks.weights import save_weights

SIZE = 32
OVERRIDES = {"channels": [8, 8, 16, 16], "stem_width": 8}
VIT = {"patch_size": 8, "embed_dim": 64, "depth": 2, "num_heads": 1}
OPTIONS = {"images": 64, "views": 2, "bootstrap": 40, "size": SIZE, "scales": ()}
NUM_IMAGES = 128


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUGSCALE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """A folder of small clouds of colour: half is examined, statistics are gathered on the other half."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for number in range(NUM_IMAGES):
        clouds = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
        clouds.resize((SIZE + 8, SIZE + 8), Image.Resampling.BICUBIC).save(folder / f"{number:02d}.png")
    return folder


def _trained_without_learning(backbone: Backbone, gain: float) -> Backbone:
    backbone = copy.deepcopy(backbone).train()
    with torch.no_grad():
        for _ in range(20):
            backbone(gain * torch.randn(8, 3, SIZE, SIZE) + gain)
    return backbone.eval()


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> dict[str, Path]:
    """Two networks of ours."""
    folder = tmp_path_factory.mktemp("weights")
    config = BackboneConfig(name="resnet10t", overrides=OVERRIDES)
    start = build_backbone(config, SIZE, seed=3)
    paths = {}
    for name, gain in (("mild", 0.5), ("noisy", 10.0)):
        backbone = _trained_without_learning(start, gain)
        paths[name] = folder / f"{name}.safetensors"
        sidecar = {"name": name, "backbone": config.model_dump(), "image_size": SIZE, "batch_norm": "train"}
        save_weights(paths[name], backbone, sidecar)
    return paths


def _metrics(checkpoint: CheckpointDiagnosis) -> dict:
    values = checkpoint.to_dict()
    return {name: values[name] for name in ("levels", "ladder", "overall", "spectrum")}


@pytest.fixture
def diagnose(images):
    def _diagnose(*paths: Path, **options) -> Diagnosis:
        return augscale.diagnose(list(paths), data=str(images), **(OPTIONS | options))

    return _diagnose


def test_every_metric_of_networks_that_learned_nothing_is_equal(weights, diagnose):
    found = diagnose(weights["mild"], weights["noisy"], untrained=False)
    assert _metrics(found["mild"]) == _metrics(found["noisy"])


def test_with_their_own_statistics_they_differ_and_a_note_says_so(weights, diagnose):
    found = diagnose(weights["mild"], weights["noisy"], untrained=False, statistics="own")
    assert _metrics(found["mild"]) != _metrics(found["noisy"])
    for checkpoint in found.checkpoints:
        check = checkpoint.batch_norm_statistics
        assert check is not None
        assert check.used == "own"
        assert check.dprime.own == pytest.approx(checkpoint.ladder["dprime"].value, abs=1e-6)
    assert found["mild"].batch_norm_statistics.dprime.data == pytest.approx(
        found["noisy"].batch_norm_statistics.dprime.data, abs=1e-6
    )
    differ = [c for c in found.checkpoints if c.batch_norm_statistics.differ]
    assert differ
    assert all(any(note.startswith(f"{c.name}: d' is") for note in found.notes) for c in differ)


def test_a_foreign_checkpoint_keeps_its_statistics_unless_asked(tmp_path, diagnose):
    backbone = _trained_without_learning(build_backbone(BackboneConfig(name="test_resnet"), SIZE), 3.0)
    path = tmp_path / "test_resnet.pth"
    torch.save(backbone.model.state_dict(), path)
    own, plain = (diagnose(path, untrained=False, statistics=choice) for choice in ("own", None))
    data = diagnose(path, untrained=False, statistics="data")
    assert _metrics(own.checkpoints[0]) == _metrics(plain.checkpoints[0])
    assert _metrics(own.checkpoints[0]) != _metrics(data.checkpoints[0])
    assert data.checkpoints[0].batch_norm_statistics.used == "data"


def test_a_vit_has_one_kind_of_statistics(tmp_path, diagnose):
    backbone = build_backbone(BackboneConfig(name="vit_tiny_patch16_224", overrides=VIT), SIZE)
    path = tmp_path / "vit.pth"
    torch.save(backbone.model.state_dict(), path)
    options = {"untrained": False, "arch": "vit_tiny_patch16_224,patch_size=8,embed_dim=64,depth=2,num_heads=1"}
    own, data = (diagnose(path, **options, statistics=choice) for choice in ("own", "data"))
    assert _metrics(own.checkpoints[0]) == _metrics(data.checkpoints[0])
    assert own.checkpoints[0].batch_norm_statistics is None
    assert not any("batch norm" in note for note in own.notes)


def test_another_word_is_refused(weights, diagnose):
    with pytest.raises(ConfigError, match="--statistics both: expected own or data"):
        diagnose(weights["mild"], statistics="both")
