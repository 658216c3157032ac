"""Protocol `finetune`: the recipe against hand-written tables, and runs that survive interruptions."""

from __future__ import annotations

import math
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from toy_protocols import RESNET, VIEW_SIZE, VIT, toy_config, toy_dataset, toy_encoder

from augscale.errors import CheckpointError, DivergedError, Paused
from augscale.evaluation.finetune import Finetune
from augscale.evaluation.finetune_recipe import (
    AugmentedImages,
    Classifier,
    learning_rate,
    parameter_groups,
    train_transform,
)
from augscale.evaluation.protocol_config import FinetuneConfig
from augscale.evaluation.selection import macro_auroc, retfound_score

RECIPE = {"epochs": 4, "batch_size": 8, "lr": 0.05, "precision": "fp32"}


def _protocol(folder: Path, **recipe: Any) -> Finetune:
    return Finetune(toy_config(finetune=RECIPE | recipe), folder, device="cpu")


def _table(classifier: Classifier) -> dict[str, tuple[float, float]]:
    """(lr_scale, weight_decay) by parameter name."""
    names = {id(parameter): name for name, parameter in classifier.named_parameters()}
    groups = parameter_groups(classifier, FinetuneConfig(layer_decay=0.5))
    found = [(names[id(p)], (g["lr_scale"], g["weight_decay"])) for g in groups for p in g["params"]]
    assert len(found) == len(names) == len(dict(found)), "a parameter is in no group or in two"
    return dict(found)


def test_a_vits_rates_halve_from_layer_to_layer_as_in_retfound() -> None:
    table = _table(Classifier(toy_encoder(overrides=VIT | {"depth": 2}).backbone, 3, 0))
    expected = {
        "cls_token": (0.125, 0.0),
        "pos_embed": (0.125, 0.0),
        "patch_embed.proj.weight": (0.125, 0.05),
        "patch_embed.proj.bias": (0.125, 0.0),
        "blocks.0.norm1.weight": (0.25, 0.0),
        "blocks.0.attn.qkv.weight": (0.25, 0.05),
        "blocks.0.attn.qkv.bias": (0.25, 0.0),
        "blocks.0.mlp.fc2.weight": (0.25, 0.05),
        "blocks.1.attn.proj.weight": (0.5, 0.05),
        "blocks.1.norm2.bias": (0.5, 0.0),
        "norm.weight": (1.0, 0.0),
        "norm.bias": (1.0, 0.0),
    }
    for name, values in expected.items():
        assert table[f"backbone.model.{name}"] == values, name
    assert table["head.weight"] == (1.0, 0.05)
    assert table["head.bias"] == (1.0, 0.0)


def test_a_resnets_rates_rise_from_the_stem_to_the_head() -> None:
    table = _table(Classifier(toy_encoder("resnet10t", RESNET).backbone, 3, 0))
    scales = [table[f"backbone.model.{n}.weight"][0] for n in ("conv1.0", "layer1.0.conv1", "layer4.0.conv1")]
    assert scales == [0.5**5, 0.5**4, 0.5]
    assert table["head.weight"] == (1.0, 0.05)
    assert table["backbone.model.bn1.weight"] == (0.5**5, 0.0)


def test_the_learning_rate_is_retfounds() -> None:
    config = FinetuneConfig()
    peak = 5e-3 * 24 / 256
    assert learning_rate(0, config, 24) == 0
    assert learning_rate(2.5, config, 24) == pytest.approx(peak / 4)
    assert learning_rate(10, config, 24) == pytest.approx(peak)
    assert learning_rate(30, config, 24) == pytest.approx(1e-6 + (peak - 1e-6) / 2)
    assert learning_rate(49.9, config, 24) == pytest.approx(1e-6, rel=0.1)
    assert learning_rate(10, FinetuneConfig(batch_size=16), 16) == pytest.approx(3.125e-4)
    scaled = config.model_copy(update={"epochs": 5})
    assert learning_rate(1, scaled, 24) == pytest.approx(peak), "the warm-up keeps its share"


def test_the_head_starts_almost_at_zero_and_the_network_is_a_copy(tmp_path: Path) -> None:
    encoder = toy_encoder()
    head = Classifier(encoder.backbone, 50, 0).head
    assert head.weight.std().item() == pytest.approx(2e-5, rel=0.2)
    assert not head.bias.any()
    before = encoder.fingerprint
    _protocol(tmp_path, epochs=1).fit(encoder, toy_dataset(), seed=0)
    assert toy_encoder().fingerprint == before
    assert before == type(encoder)(**{f: getattr(encoder, f) for f in encoder.__dataclass_fields__}).fingerprint


def test_timms_transform_is_the_recipes() -> None:
    images = AugmentedImages(np.zeros((1, 8, 8, 3), np.uint8), np.zeros(1, int), np.zeros(1, int), 16, 0)
    names = [type(step).__name__ for step in images._transform.transforms]
    assert names == [
        "RandomResizedCropAndInterpolation",
        "RandomHorizontalFlip",
        "RandAugment",
        "MaybeToTensor",
        "Normalize",
        "RandomErasing",
    ]
    crop, flip, augment, _, _, erase = images._transform.transforms
    assert (crop.scale, crop.size, str(crop.interpolation)) == ((0.08, 1.0), (16, 16), "InterpolationMode.BICUBIC")
    assert flip.p == 0.5
    assert augment.num_layers == 2
    assert (augment.ops[0].magnitude, augment.ops[0].magnitude_std) == (9, 0.5)
    assert (erase.probability, erase.per_pixel) == (0.25, True)


def test_the_largest_magnitude_of_posterize_gives_a_black_image_instead_of_a_crash() -> None:
    augment = next(step for step in train_transform(32).transforms if hasattr(step, "ops"))
    posterize = next(op for op in augment.ops if op.name.startswith("Posterize"))
    image = Image.fromarray(np.full((8, 8, 3), 200, dtype=np.uint8))
    assert np.asarray(posterize.aug_fn(image, bits_to_keep=0)).max() == 0
    np.testing.assert_array_equal(posterize.aug_fn(image, bits_to_keep=2), ImageOps.posterize(image, 2))


def test_an_augmentation_depends_on_seed_epoch_and_image_alone() -> None:
    dataset = toy_dataset()
    images = AugmentedImages(dataset.images, dataset.rows[:4], dataset.labels[:4], 32, seed=1)
    first = [images[i][0] for i in range(4)]
    assert all(torch.equal(images[i][0], first[i]) for i in (3, 1, 0, 2))
    images.epoch = 1
    assert not torch.equal(images[0][0], first[0])
    images.epoch, images.seed = 0, 2
    assert not torch.equal(images[0][0], first[0])


def test_it_learns_and_keeps_the_epoch_that_is_best_on_validation(tmp_path: Path) -> None:
    dataset = toy_dataset(60, 30, 30)
    fitted = _protocol(tmp_path, epochs=15, lr=0.2, layer_decay=0.9).fit(toy_encoder(), dataset, seed=0)
    scores = fitted.predict(dataset, "test")
    assert scores.shape == (30, 3)
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-12)
    assert float(macro_auroc(dataset.labels[90:], scores)) > 0.7
    chosen = fitted.selection
    assert chosen["losses"][-1] < chosen["losses"][0]
    assert chosen["epoch"] == 1 + int(np.argmax(chosen["validation_scores"]))
    on_validation = retfound_score(dataset.labels[60:90], fitted.predict(dataset, "val"))
    assert chosen["validation_score"] == pytest.approx(on_validation, abs=1e-9)


def test_of_epochs_that_score_alike_the_first_is_kept(tmp_path: Path) -> None:
    dataset = toy_dataset()
    one_class = dataset.only([i for i in range(60) if dataset.split[i] != "val" or dataset.labels[i] == 1])
    chosen = _protocol(tmp_path, lr=1e-9, min_lr=0.0).fit(toy_encoder(), one_class, seed=0).selection
    assert len(set(chosen["validation_scores"])) == 1
    assert chosen["epoch"] == 1


def test_the_same_seed_repeats_bit_for_bit_and_another_differs(tmp_path: Path) -> None:
    dataset, encoder = toy_dataset(), toy_encoder()
    fitted = [_protocol(tmp_path / str(i), epochs=2).fit(encoder, dataset, seed=s) for i, s in enumerate((0, 0, 1))]
    scores = [each.predict(dataset, "test") for each in fitted]
    assert np.array_equal(scores[0], scores[1])
    assert not np.array_equal(scores[0], scores[2])


def test_workers_change_no_result(tmp_path: Path) -> None:
    dataset, encoder = toy_dataset(), toy_encoder()
    here = _protocol(tmp_path / "a", epochs=1).fit(encoder, dataset, seed=0)
    there = _protocol(tmp_path / "b", epochs=1, workers=2).fit(encoder, dataset, seed=0)
    assert np.array_equal(here.predict(dataset, "test"), there.predict(dataset, "test"))


def test_the_global_generators_are_left_alone(tmp_path: Path) -> None:
    def states() -> tuple[Any, ...]:
        numpy_state = np.random.get_state()[1].tobytes()  # noqa: NPY002 - timm draws from it
        return random.getstate(), numpy_state, torch.get_rng_state().numpy().tobytes()

    before = states()
    _protocol(tmp_path, epochs=1).fit(toy_encoder(), toy_dataset(), seed=0)
    assert states() == before


@pytest.mark.parametrize(("name", "overrides"), [("vit_tiny_patch16_224", VIT), ("resnet10t", RESNET)])
def test_a_paused_and_resumed_run_equals_the_uninterrupted_one(
    tmp_path: Path, name: str, overrides: dict[str, Any]
) -> None:
    dataset, encoder = toy_dataset(), toy_encoder(name, overrides)
    whole = _protocol(tmp_path / "whole").fit(encoder, dataset, seed=3)
    steps = iter(range(1000))
    protocol = _protocol(tmp_path / "parts")
    protocol.should_stop = lambda: next(steps) == 7  # 3 steps an epoch: in the third one
    with pytest.raises(Paused):
        protocol.fit(encoder, dataset, seed=3)
    resumed = _protocol(tmp_path / "parts")
    told: list[int] = []
    resumed.on_progress = lambda what, done, count: told.append(done)
    fitted = resumed.fit(encoder, dataset, seed=3)
    assert told == [3, 4], "finished epochs were repeated"
    assert np.array_equal(fitted.predict(dataset, "test"), whole.predict(dataset, "test"))
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, fitted.network.state_dict()[name]), name
    chosen = [{k: v for k, v in f.selection.items() if k != "training_seconds"} for f in (fitted, whole)]
    assert chosen[0] == chosen[1]


def test_a_finished_run_is_not_repeated_and_its_state_shrinks(tmp_path: Path) -> None:
    dataset, encoder = toy_dataset(), toy_encoder()
    sizes: list[int] = []
    protocol = _protocol(tmp_path)
    path = protocol.state_path(encoder, dataset, 0)
    protocol.on_progress = lambda *_: sizes.append(path.stat().st_size)
    first = protocol.fit(encoder, dataset, seed=0)
    assert sizes[-1] < 0.4 * sizes[0]
    again = protocol.fit(encoder, dataset, seed=0)
    assert len(sizes) == 4
    assert np.array_equal(first.predict(dataset, "test"), again.predict(dataset, "test"))


KILLED = """
import os, signal, sys
from pathlib import Path
from toy_protocols import toy_config, toy_dataset, toy_encoder
from augscale.evaluation.finetune import Finetune
import torch
torch.set_num_threads(1)
protocol = Finetune(toy_config(finetune={recipe!r}), Path(sys.argv[1]), device="cpu")
steps = iter(range(1000))
protocol.should_stop = lambda: next(steps) == 7 and os.kill(os.getpid(), signal.SIGKILL)
protocol.fit(toy_encoder(), toy_dataset(), seed=3)
"""


def test_a_killed_run_goes_on_after_its_last_epoch(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])}
    killed = subprocess.run(
        [sys.executable, "-c", KILLED.format(recipe=RECIPE), str(tmp_path / "killed")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    dataset, encoder = toy_dataset(), toy_encoder()
    whole = _protocol(tmp_path / "whole").fit(encoder, dataset, seed=3)
    protocol = _protocol(tmp_path / "killed")
    told: list[int] = []
    protocol.on_progress = lambda what, done, count: told.append(done)
    fitted = protocol.fit(encoder, dataset, seed=3)
    assert told == [3, 4]
    # Two processes: what numpy allocated may be aligned otherwise, and products then rounded otherwise (seen once).
    np.testing.assert_allclose(fitted.predict(dataset, "test"), whole.predict(dataset, "test"), atol=1e-5)


def test_a_full_disk_is_one_line_keeps_the_last_state_and_can_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, encoder, protocol = toy_dataset(), toy_encoder(), _protocol(tmp_path / "full")
    path = protocol.state_path(encoder, dataset, 0)
    real_fsync, calls = os.fsync, iter(range(100))

    def full(descriptor: int) -> None:
        if next(calls) == 2:
            raise OSError(28, "No space left on device")
        real_fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"seed-0\.pt: cannot be written \(No space left on device\)") as error:
        protocol.fit(encoder, dataset, seed=0)
    assert "\n" not in str(error.value)
    assert torch.load(path, weights_only=True)["epoch"] == 2
    assert [file.name for file in path.parent.iterdir()] == ["seed-0.pt"]
    monkeypatch.undo()
    resumed = _protocol(tmp_path / "full").fit(encoder, dataset, seed=0)
    whole = _protocol(tmp_path / "whole").fit(encoder, dataset, seed=0)
    assert np.array_equal(resumed.predict(dataset, "test"), whole.predict(dataset, "test"))


@pytest.mark.parametrize("content", [b"", b"not a checkpoint"])
def test_a_damaged_state_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    dataset, encoder, protocol = toy_dataset(), toy_encoder(), _protocol(tmp_path)
    path = protocol.state_path(encoder, dataset, 0)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged, or not the state of a fine-tuning; remove it") as error:
        protocol.fit(encoder, dataset, seed=0)
    assert "\n" not in str(error.value)


def test_the_state_of_another_seed_is_refused(tmp_path: Path) -> None:
    dataset, encoder, protocol = toy_dataset(), toy_encoder(), _protocol(tmp_path, epochs=1)
    protocol.fit(encoder, dataset, seed=0)
    path = protocol.state_path(encoder, dataset, 0)
    path.rename(path.with_name("seed-1.pt"))
    with pytest.raises(CheckpointError, match="was saved by a run with other settings, weights or images"):
        protocol.fit(encoder, dataset, seed=1)


def test_what_changes_the_result_changes_the_file(tmp_path: Path) -> None:
    dataset, encoder = toy_dataset(), toy_encoder()
    path = _protocol(tmp_path).state_path(encoder, dataset, 0)
    others = [
        _protocol(tmp_path).state_path(toy_encoder(seed=1), dataset, 0),
        _protocol(tmp_path).state_path(encoder, dataset.only(range(1, 60)), 0),
        _protocol(tmp_path, epochs=5).state_path(encoder, dataset, 0),
        _protocol(tmp_path, precision="bf16").state_path(encoder, dataset, 0),
    ]
    assert len({path, *others}) == 5
    assert _protocol(tmp_path, workers=1).state_path(encoder, dataset, 0) == path


def test_views_of_another_size_than_the_network_was_built_for(tmp_path: Path) -> None:
    dataset, encoder = toy_dataset(), toy_encoder(size=48)
    fitted = _protocol(tmp_path, epochs=1).fit(encoder, dataset, seed=0)
    assert fitted.network.backbone.model.pos_embed.shape == (1, 1 + (VIEW_SIZE // 8) ** 2, 24)
    assert fitted.predict(dataset, "test").shape == (15, 3)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    encoder = toy_encoder()
    with torch.no_grad():
        encoder.backbone.model.norm.weight.fill_(math.inf)
    with pytest.raises(DivergedError, match=r"loss is nan in epoch 1 of fine-tuning toy0 on toy, seed 0"):
        _protocol(tmp_path).fit(encoder, toy_dataset(), seed=0)
    assert not list(tmp_path.rglob("*.pt"))
