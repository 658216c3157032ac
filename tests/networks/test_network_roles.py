"""Files that hold several networks: the moving average is taken, each can be asked for, and both are named."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn
from vit_oracle import tiny_state

from augscale.config import BackboneConfig
from augscale.errors import CheckpointError
from augscale.evaluation.which_checkpoints import checkpoints_to_evaluate
from augscale.networks.backbones import build_backbone
from augscale.networks.checkpoints import choices, load_checkpoint

AVERAGE, TRAINED = tiny_state(depth=1), tiny_state(depth=1, seed=7)
HEAD = {"0.weight": torch.zeros(4, 192), "2.weight": torch.zeros(2, 4)}


def _pre(state, prefix):
    return {f"{prefix}{key}": value for key, value in state.items()}


def _sequential(resnet):
    """What `nn.Sequential(*list(resnet.children())[:-1])` calls the tensors."""
    numbers = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}
    return {".".join((numbers[key.partition(".")[0]], key.partition(".")[2])): value for key, value in resnet.items()}


def _side_by_side(average, trained, **more):
    return {"state_dict": _pre(AVERAGE, average) | _pre(TRAINED, trained) | more, "epoch": 3}


LAYOUTS = {
    "solo-learn": (
        _side_by_side("momentum_backbone.", "backbone.", **_pre(HEAD, "head."), **_pre(HEAD, "momentum_head.")),
        "momentum_backbone", "backbone",
    ),
    "MoCo v3": (_side_by_side("module.momentum_encoder.", "module.base_encoder."), "momentum_encoder", "base_encoder"),
    "MoCo v2": (
        _side_by_side("module.encoder_k.", "module.encoder_q.", **{"module.queue": torch.zeros(128, 9)}),
        "encoder_k", "encoder_q",
    ),
    "timm's EMA": ({"state_dict": TRAINED, "state_dict_ema": AVERAGE}, "state_dict_ema", "state_dict"),
    "DeiT's EMA": (
        {"model": TRAINED, "model_ema": AVERAGE, "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}}},
        "model_ema", "model",
    ),
    "mmengine's EMA": (
        {"state_dict": _pre(TRAINED, "backbone."), "ema_state_dict": _pre(AVERAGE, "module.backbone.")},
        "ema_state_dict", "state_dict",
    ),
    "params_ema": ({"params": TRAINED, "params_ema": AVERAGE}, "params_ema", "params"),
    "EMA with settings": (
        {"model_state_dict": TRAINED, "ema": {"decay": 0.999, "shadow": AVERAGE}}, "ema", "model_state_dict"
    ),
    "BYOL": (
        _side_by_side("target_encoder.net.", "online_encoder.net.", **_pre(HEAD, "online_predictor.")),
        "target_encoder", "online_encoder",
    ),
    "BYOL, its online network saved once more": (
        _side_by_side(
            "target_encoder.net.", "online_encoder.net.", **_pre(TRAINED, "net."), **_pre(HEAD, "online_predictor.")
        ),
        "target_encoder", "online_encoder",
    ),
    "mmselfsup's BYOL": (
        _side_by_side("target_net.module.0.", "online_net.0.", **_pre(HEAD, "online_net.1.mlp.")),
        "target_net", "online_net",
    ),
    "BYOL in a module": (
        {"state_dict": _pre(AVERAGE, "model.target_network.") | _pre(TRAINED, "model.online_network.")},
        "target_network", "online_network",
    ),
    "I-JEPA": (
        {"encoder": _pre(TRAINED, "module."), "predictor": _pre(HEAD, "module."),
         "target_encoder": _pre(AVERAGE, "module.")},
        "target_encoder", "encoder",
    ),
    "lightly's momentum": (
        _side_by_side("backbone_momentum.", "backbone.", **_pre(HEAD, "projection_head_momentum.layers.")),
        "backbone_momentum", "backbone",
    ),
    "lightly's ViT": (
        _side_by_side("teacher_backbone.vit.", "student_backbone.vit.", **_pre(HEAD, "teacher_head.layers.")),
        "teacher", "student",
    ),
    "unknown words beside ema": (_side_by_side("ema_trunk.", "trunk."), "ema_trunk", "trunk"),
}  # fmt: skip


def _holds(checkpoint, state):
    own = checkpoint.backbone.model.state_dict()
    return all(torch.equal(own[key], value) for key, value in state.items())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_moving_average_is_taken_and_both_can_be_asked_for(tmp_path, layout):
    content, average, trained = LAYOUTS[layout]
    torch.save(content, tmp_path / "c.pth")
    loaded = load_checkpoint(tmp_path / "c.pth")
    assert _holds(loaded, AVERAGE)
    assert (loaded.network, loaded.other_networks) == (average, (trained,))
    assert loaded.choice == f"network {average} (the moving average) is taken; the file also holds --key {trained}"
    assert _holds(load_checkpoint(tmp_path / "c.pth", key=average), AVERAGE)
    other = load_checkpoint(tmp_path / "c.pth", key=trained)
    assert _holds(other, TRAINED)
    assert other.choice == f"network {trained} is taken; the file also holds --key {average}"
    with pytest.raises(CheckpointError, match=rf"holds no network 'nonesuch'; expected one of .*{trained}"):
        load_checkpoint(tmp_path / "c.pth", key="nonesuch")


@pytest.mark.parametrize("key", ["teacher", "student"])
def test_teacher_and_student_are_understood_for_pairs_side_by_side(tmp_path, key):
    torch.save(LAYOUTS["MoCo v3"][0], tmp_path / "c.pth")
    assert _holds(load_checkpoint(tmp_path / "c.pth", key=key), AVERAGE if key == "teacher" else TRAINED)


def test_the_line_is_printed_by_what_evaluates_and_said_where_a_training_starts(tmp_path, caplog):
    torch.save(LAYOUTS["MoCo v3"][0], tmp_path / "c.pth")
    loaded, notes = checkpoints_to_evaluate(tmp_path / "c.pth")
    line = "network momentum_encoder (the moving average) is taken; the file also holds --key base_encoder"
    assert notes == choices(loaded) == [f"c: {line}"]
    config = BackboneConfig(name="vit_tiny_patch16_224", overrides={"depth": 1}, init=str(tmp_path / "c.pth"))
    backbone = build_backbone(config, 64)
    assert torch.equal(backbone.model.cls_token, AVERAGE["cls_token"])
    assert line in caplog.text


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "resnet18"])
def test_a_head_in_the_place_of_the_classifier_is_no_part_of_the_network(tmp_path, name):
    encoder = timm.create_model(name, num_classes=0).state_dict()
    place = "fc." if name == "resnet18" else "classifier."
    torch.save({"state_dict": _pre(encoder | _pre(HEAD, place), "module.encoder_k.")}, tmp_path / "c.pth")
    loaded = load_checkpoint(tmp_path / "c.pth")
    assert loaded.arch == name
    assert _holds(loaded, encoder)


def test_one_network_needs_no_line(tmp_path):
    torch.save({"model": AVERAGE, "optimizer": {"state": {}}}, tmp_path / "c.pth")
    assert load_checkpoint(tmp_path / "c.pth").choice is None


@pytest.mark.parametrize("prefix", ["", "backbone.", "student_backbone."])
def test_numbered_resnets_of_a_sequential(tmp_path, prefix):
    resnet = tiny_state("resnet18")
    torch.save({"state_dict": _pre(_sequential(resnet), prefix)}, tmp_path / "c.ckpt")
    loaded = load_checkpoint(tmp_path / "c.ckpt")
    assert loaded.arch == "resnet18"
    assert _holds(loaded, resnet)


@pytest.mark.parametrize(
    "wrapper", ["model_state_dict", "net", "network", "params", "weights", "model_state", "encoder", "anything"]
)
@pytest.mark.parametrize("prefix", ["", "module.", "net.body.", "encoder.", "visual_encoder.trunk."])
def test_wrappers_and_prefixes_of_any_name(tmp_path, wrapper, prefix):
    content = {wrapper: _pre(AVERAGE, prefix), "optimizer_state_dict": {"state": {}}, "epoch": 4}
    torch.save(content, tmp_path / "c.pth")
    assert _holds(load_checkpoint(tmp_path / "c.pth"), AVERAGE)


@pytest.mark.parametrize("flat", [True, False])
def test_networks_that_no_word_tells_apart_are_listed(tmp_path, flat):
    content = _pre(AVERAGE, "left.") | _pre(TRAINED, "right.") if flat else {"left": AVERAGE, "right": TRAINED}
    torch.save(content, tmp_path / "c.pth")
    with pytest.raises(CheckpointError, match=r"holds several networks \(left, right\); say which with --key NAME"):
        load_checkpoint(tmp_path / "c.pth")
    assert _holds(load_checkpoint(tmp_path / "c.pth", key="right"), TRAINED)


def test_a_file_without_a_network_lists_its_entries(tmp_path):
    torch.save({"epoch": 3, "optimizer": {"state": {0: {"a": torch.zeros(2)}}}, "loss": 0.3}, tmp_path / "c.pth")
    with pytest.raises(CheckpointError, match="holds no tensors under epoch, optimizer, loss"):
        load_checkpoint(tmp_path / "c.pth")


def test_a_state_dict_of_torchs_averaged_model(tmp_path):
    torch.save(_pre(AVERAGE, "module.") | {"n_averaged": torch.tensor(5)}, tmp_path / "c.pth")
    assert _holds(load_checkpoint(tmp_path / "c.pth"), AVERAGE)


def test_adapters_that_are_not_merged_are_named(tmp_path):
    split = {key.replace("attn.qkv.", "attn.qkv.base_layer."): value for key, value in AVERAGE.items()}
    torch.save(split | {"blocks.0.attn.qkv.lora_A.default.weight": torch.zeros(4, 192)}, tmp_path / "c.pth")
    with pytest.raises(CheckpointError, match=r"LoRA adapters .*merge_and_unload"):
        load_checkpoint(tmp_path / "c.pth")


def test_a_whole_module_says_how_to_save_what_can_be_loaded(tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "c.pth")
    with pytest.raises(CheckpointError, match=r"torch.nn.*save the state dict alone, where you trust the file"):
        load_checkpoint(tmp_path / "c.pth")
