"""Recipes for starts from weights: the head alone first, and learning rates that fall towards the first layer."""

from __future__ import annotations

import re

import pytest
import timm
import torch
from method_studies import METHODS, method_study
from pydantic import ValidationError
from timm.optim import param_groups_layer_decay
from tiny_runs import tiny_study

from augscale.augmentation.scales import PRESETS
from augscale.config import BackboneConfig
from augscale.errors import ConfigError, Paused
from augscale.networks.backbones import Backbone, build_backbone
from augscale.networks.layer_numbers import layer_scales
from augscale.pretraining.distributed import DistributedContext
from augscale.pretraining.loop import pretrain
from augscale.pretraining.parameter_groups import groups_of
from augscale.pretraining.schedules import step_values
from augscale.pretraining.step import Trainer
from augscale.pretraining.student_teacher import build_networks

NARROW = {"name": "resnet10t", "overrides": {"channels": [8, 8, 16, 16], "stem_width": 8}}
TINY = {"patch_size": 8, "embed_dim": 16, "depth": 3, "num_heads": 2}
WARM = {"head_warmup_fraction": 0.5, "lr": 1e-2, "freeze_last_layer_fraction": 0.0}


@pytest.fixture
def start(tmp_path):
    """Fields of a backbone that begins with the weights of a file."""

    def fields(backbone=None, overrides=None):
        given = {"name": "vit_tiny_patch16_224", "overrides": TINY} | (backbone or {})
        built = build_backbone(BackboneConfig(**given), 32, seed=5)
        path = tmp_path / "start.pth"
        torch.save(built.model.state_dict(), path)
        return given | {"init": str(path)}

    return fields


@pytest.fixture
def run(images, indices):
    def begin(study, **arguments):
        arguments = {"seed": 3, "device": "cpu", "log_every": 1} | arguments
        return pretrain(images, indices, PRESETS["strong"], study=study, **arguments)

    return begin


@pytest.fixture
def trainer(images, indices):
    def build(study, **arguments):
        device, context = torch.device("cpu"), DistributedContext()
        return Trainer(images, indices, PRESETS["strong"], study, 3, device, context, **arguments)

    return build


def _tensors(network):
    return {key: value.clone() for key, value in network.state_dict().items()}


def _equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("vit_tiny_patch16_224", TINY),
        ("vit_small_patch14_reg4_dinov2", {"embed_dim": 16, "depth": 2, "num_heads": 2, "img_size": 28}),
        ("resnet10t", NARROW["overrides"]),
        ("resnet18", {}),
        ("tf_efficientnet_lite0", {}),
    ],
)
def test_factors_of_the_learning_rate_are_those_of_timms_fine_tuning(name, overrides):
    backbone = Backbone(timm.create_model(name, num_classes=0, **overrides))
    scales = layer_scales(backbone, 0.7)
    classifier = timm.create_model(name, num_classes=3, **overrides)
    names = {id(parameter): name for name, parameter in classifier.named_parameters()}
    theirs = {
        f"model.{names[id(parameter)]}": group["lr_scale"]
        for group in param_groups_layer_decay(classifier, layer_decay=0.7)
        for parameter in group["params"]
    }
    assert scales == {name: pytest.approx(theirs[name]) for name, _ in backbone.named_parameters()}
    assert {scale for name, scale in theirs.items() if name not in scales} == {1.0}, "the classifier"
    assert max(scales.values()) == pytest.approx(0.7)
    assert len(set(scales.values())) > 2


def test_a_network_without_known_layers_is_refused_in_one_line():
    backbone = Backbone(timm.create_model("resnet10t", num_classes=0))
    backbone.model = torch.nn.Sequential(backbone.model)
    with pytest.raises(ConfigError, match=r"pretrain.layer_decay: timm knows no order of the layers of Sequential"):
        layer_scales(backbone, 0.7)


def test_the_mask_token_has_the_rate_of_the_first_layer_and_heads_the_whole_one():
    study = method_study("dinov2", layer_decay=0.5)
    student = build_networks(study, 0, torch.device("cpu"))[0]
    groups = groups_of(student, study.pretrain)
    names = {id(parameter): name for name, parameter in student.named_parameters()}
    scales = {names[id(parameter)]: group.lr_scale for group in groups for parameter in group.parameters}
    assert scales["mask_token"] == scales["backbone.model.pos_embed"] == 0.5**3
    assert scales["backbone.model.blocks.1.mlp.fc1.weight"] == 0.5
    assert {scale for name, scale in scales.items() if "head" in name} == {1.0}
    assert sum(len(group.parameters) for group in groups) == len(names)


@pytest.mark.parametrize("fields", [{}, {"layer_decay": 1.0}, {"layer_decay": 0.5}, {"layer_decay": 0.5} | WARM])
@pytest.mark.parametrize("backbone", [{}, NARROW], ids=["vit", "resnet"])
def test_every_parameter_moves_as_one_with_an_optimizer_of_its_own(trainer, start, backbone, fields):
    study = tiny_study(backbone=start(backbone), **fields)
    trained = trainer(study)
    own = {name: parameter.detach().clone() for name, parameter in trained.student.named_parameters()}
    own = {name: torch.nn.Parameter(value) for name, value in own.items()}
    decay = fields.get("layer_decay", 1.0)
    scales = {f"backbone.{name}": x for name, x in layer_scales(trained.student.backbone, decay).items()}
    plain = {name: torch.optim.AdamW([parameter], lr=0.0, fused=True) for name, parameter in own.items()}
    for step in range(study.pretrain.steps):
        values = step_values(study.pretrain, step)
        trained.train_step(logged=True)
        for name, parameter in trained.student.named_parameters():
            own[name].grad = None if parameter.grad is None else parameter.grad.clone()
            (group,) = plain[name].param_groups
            rate = values.backbone_lr if name.startswith("backbone.") else values.lr
            group["lr"] = rate * scales.get(name, 1.0)
            group["weight_decay"] = 0.0 if name.endswith(".bias") or parameter.ndim == 1 else values.weight_decay
            plain[name].step()
            assert torch.equal(own[name], parameter), name


def test_without_these_settings_there_are_two_groups_as_in_saved_states_of_earlier_versions(trainer):
    groups = trainer(tiny_study()).groups
    assert [(group.decays, group.lr_scale, group.of_body) for group in groups] == [(True, 1, False), (False, 1, False)]


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("method", METHODS)
def test_the_backbone_stays_as_it_is_while_the_head_warms_up(run, start, monkeypatch, method, accumulate):
    study = method_study(method, backbone=start(overrides=TINY), norm_last_layer=False, **WARM)
    initial = build_networks(study, 3, torch.device("cpu"))[1]
    seen = {}

    def on_rung(event):
        seen[event.step] = _tensors(event.backbone), _tensors(event.head)

    def whole():
        return run(study, rung_steps=[2, 4], on_rung=on_rung, accumulate=accumulate)

    result = whole()
    assert _equal(seen[2][0], _tensors(initial.backbone))
    assert not _equal(seen[2][1], _tensors(initial.head))
    assert not _equal(seen[4][0], _tensors(initial.backbone))
    # A backward pass through the frozen backbone, whose gradients are dropped, as it is with several processes.
    monkeypatch.setattr(Trainer, "_skipped", lambda *_: [])
    kept = dict(seen)
    assert whole().loss_history == result.loss_history
    assert all(_equal(kept[step][part], seen[step][part]) for step in (2, 4) for part in (0, 1))


def test_while_the_head_warms_up_the_optimizer_keeps_nothing_of_the_backbone(trainer, start):
    trained = trainer(tiny_study(backbone=start(), **WARM))
    body = {id(parameter) for parameter in trained.student.body_parameters().values()}
    for _ in range(3):
        trained.train_step(logged=True)
    assert trained.optimizer.state
    assert not {id(parameter) for parameter in trained.optimizer.state} & body
    assert all(parameter.requires_grad for parameter in trained.student.body_parameters().values())
    trained.train_step(logged=True)
    assert {id(parameter) for parameter in trained.optimizer.state} > body


@pytest.mark.parametrize("batch_norm", ["train", "frozen"])
def test_batch_norm_goes_on_in_the_warm_up_as_the_study_says(run, start, batch_norm):
    study = tiny_study(backbone=start(NARROW), batch_norm=batch_norm, **WARM)
    initial = _tensors(build_networks(study, 3, torch.device("cpu"))[1].backbone)
    seen = []
    run(study, rung_steps=[3], on_rung=lambda event: seen.append(_tensors(event.backbone)))
    moved = {name for name, value in seen[0].items() if not torch.equal(value, initial[name])}
    statistics = {name for name in initial if "running_" in name or "num_batches" in name}
    assert moved == (statistics if batch_norm == "train" else set())


@pytest.mark.parametrize("method", METHODS)
def test_a_run_resumed_in_the_middle_of_the_warm_up_equals_the_uninterrupted_one(run, start, tmp_path, method):
    study = method_study(method, backbone=start(overrides=TINY) | {"drop_path": 0.3}, layer_decay=0.7, **WARM)
    whole = run(study)
    for pause_after in (1, 2, 3):
        asked = iter([False] * pause_after + [True])
        with pytest.raises(Paused):
            run(study, state_path=tmp_path / f"{pause_after}.pt", should_stop=lambda it=asked: next(it))
        resumed = run(study, state_path=tmp_path / f"{pause_after}.pt")
        assert resumed.loss_history == whole.loss_history
        assert _equal(_tensors(resumed.backbone), _tensors(whole.backbone))


@pytest.mark.parametrize("method", METHODS)
def test_with_learning_rate_zero_the_start_is_the_end(run, start, method):
    study = method_study(method, backbone=start(overrides=TINY), layer_decay=0.7, **WARM | {"lr": 0.0, "min_lr": 0.0})
    initial = build_networks(study, 3, torch.device("cpu"))[1].backbone
    assert _equal(_tensors(run(study).backbone), _tensors(initial))


def test_two_threads_train_what_one_trains(run, start):
    study = tiny_study(backbone=start(), norm_last_layer=True, **WARM)
    alone = run(study)
    torch.set_num_threads(2)
    try:
        together = run(study)
    finally:
        torch.set_num_threads(1)
    losses = [[loss for _, loss in result.loss_history] for result in (alone, together)]
    assert losses[1] == pytest.approx(losses[0], rel=2e-5)


def test_the_backbone_has_a_warm_up_of_its_own_behind_the_heads(start):
    fields = {"steps": 100, "warmup_fraction": 0.1, "lr_scaling": False, "lr": 1.0, "head_warmup_fraction": 0.2}
    recipe = tiny_study(backbone=start(), **fields).pretrain
    values = [step_values(recipe, step) for step in range(100)]
    assert [v.backbone_frozen for v in values] == [True] * 20 + [False] * 80
    assert {v.backbone_lr for v in values[:21]} == {0.0}
    assert values[25].backbone_lr == pytest.approx(5 / 9)
    assert all(v.backbone_lr <= v.lr for v in values)
    assert all(v.backbone_lr == v.lr for v in values[30:])
    off = tiny_study(**fields | {"head_warmup_fraction": 0.0}).pretrain
    assert all(v.backbone_lr == v.lr and not v.backbone_frozen for v in (step_values(off, s) for s in range(100)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"head_warmup_fraction": 0.5}, 'pretrain.head_warmup_fraction = 0.5 with backbone.init = "none"'),
        ({"head_warmup_fraction": 0.95}, "head_warmup_fraction = 0.95 of steps = 6 leaves no step for the backbone"),
        ({"head_warmup_fraction": 1.5}, "less than or equal to 1"),
        ({"layer_decay": 0.0}, "greater than 0"),
        ({"layer_decay": 1.1}, "less than or equal to 1"),
    ],
)
def test_wrong_values_are_refused(fields, message):
    with pytest.raises(ValidationError, match=re.escape(message)):
        tiny_study(**fields)
