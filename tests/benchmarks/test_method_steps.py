"""A step of every method beside lightly's modules, in miniature."""

from __future__ import annotations

import re

import pytest
import torch

pytest.importorskip("lightly", reason="lightly is an optional dependency of the tests (extra `test`)")
from augscale.config import StudyConfig
from augscale.pretraining.methods import METHODS
from benchmarks import throughput
from benchmarks.lightly_methods import STEPS
from benchmarks.method_steps import compare, method_study, our_trainer, random_views

RESNET = {
    "backbone.name": "resnet10t",
    "backbone.overrides": {"channels": [8, 8, 16, 16], "stem_width": 8},
    "backbone.init": "none",
    "backbone.drop_path": 0.0,
    "crops.global_size": 32,
    "crops.local_size": 16,
    "crops.n_local": 1,
    "pretrain.batch_size": 4,
    "pretrain.out_dim": 16,
    "pretrain.head_hidden_dim": 16,
    "pretrain.head_bottleneck_dim": 8,
    "pretrain.projection_dim": 8,
    "pretrain.precision": "fp32",
}
VIT = RESNET | {
    "backbone.name": "vit_tiny_patch16_224",
    "backbone.overrides": {"patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 2},
}


def _study(method: str, settings: dict[str, object]) -> StudyConfig:
    return method_study("default", method, settings)


def test_every_method_has_a_step_of_lightly() -> None:
    assert set(STEPS) == set(METHODS)


@pytest.mark.parametrize(
    ("method", "settings"),
    [*((method, RESNET) for method in STEPS), ("dinov2", VIT), ("mocov3", VIT)],
    ids=[*STEPS, "dinov2-vit", "mocov3-vit"],
)
def test_both_train_the_same_network_and_are_timed(method: str, settings: dict[str, object]) -> None:
    config = _study(method, settings)
    theirs = STEPS[method](config, "cpu")
    views = random_views(config, "cpu")
    ours = our_trainer(config, "cpu", views)
    before = [parameter.detach().clone() for parameter in theirs.trained.parameters()]

    sizes = [sum(parameter.numel() for parameter in network.parameters()) for network in (ours.student, theirs.trained)]
    # Gains of prototypes are counted by both; batch norm at the end of lightly's projectors has a scale and a shift.
    assert sizes[0] == pytest.approx(sizes[1], rel=0.02)
    theirs.step([view for crops in (views.global_crops, views.local_crops) for view in crops.split(4)])
    moved = [not torch.equal(a, b) for a, b in zip(before, theirs.trained.parameters(), strict=True)]
    assert sum(moved) > len(moved) / 2

    rates = compare(config, "cpu", steps=1, turns=2)
    assert rates.method == method
    assert len(rates.ours) == len(rates.theirs) == 2
    assert min(*rates.ours, *rates.theirs) > 0


def test_a_network_without_patches_is_compared_without_ibot() -> None:
    assert _study("dinov2", RESNET).pretrain.ibot_weight == 0
    assert _study("dinov2", VIT).pretrain.ibot_weight == 1
    assert _study("simclr", RESNET).crops.n_local == 0


def test_the_command_prints_a_line_for_each_method(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["throughput", "--methods", "simclr", "--device", "cpu", "--steps", "1", "--repeats", "1"]
    settings = {name: value for name, value in RESNET.items() if name != "backbone.overrides"}
    command += [f"--set={name}={value}" for name, value in settings.items()]
    command += ["--batch-size", "4", "--set", "backbone.overrides={channels=[8,8,16,16],stem_width=8}"]
    monkeypatch.setattr("sys.argv", command)

    throughput.main()

    assert re.search(r"\nsimclr +\d+\.\d +\d+\.\d +\d+\.\d\d   ", capsys.readouterr().out)


def test_unknown_methods_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["throughput", "--methods", "byol"])
    with pytest.raises(SystemExit):
        throughput.main()
